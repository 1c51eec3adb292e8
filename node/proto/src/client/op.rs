//! One operation of a job: a block to fetch or to insert, and its attempts (protocol §8.5, §8.6).
//!
//! An operation decides from outcomes alone; which circuit carries an attempt is the pool's decision. It has an overall
//! time from its first attempt on, so every operation ends.

use std::time::Duration;

use warren_keys::{Block, NodeId};

use crate::{
    client::{
        fetch_op::{FetchOp, RENEW_AFTER},
        insert_op::InsertOp,
    },
    core::api::{ClientEvent, FetchFailure, InsertFailure},
    ids::{JobId, OpId, OriginId},
    time::Time,
    wire::{ExitOp, ExitResult},
};

/// Failed branches that the first search may have (DESIGN §7: up to 3, then retry through another exit with up to 8).
pub(crate) const FIRST_BRANCHES: u8 = 3;
/// Failed branches of every further search.
pub(crate) const FURTHER_BRANCHES: u8 = 8;
/// Exits that fail (not: that search in vain) before an operation is given up. Several, since exits fail independently;
/// few, since someone waits.
pub(crate) const MAX_FAILURES: u8 = 8;

/// What came of one attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The exit answered.
    Answer(ExitResult),
    /// The circuit went, and the attempt with it.
    Lost,
    /// No answer in time.
    TimedOut,
}

/// How an operation goes on after an outcome.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// It is not done; [`Op::desired`] says how many attempts it wants in flight.
    Continue,
    /// It ended.
    Done(T),
    /// The exit sent what no honest exit sends.
    Lie,
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) origin: OriginId,
    pub(crate) request: u32,
    pub(crate) exit: NodeId,
    pub(crate) sent: Time,
    /// The exit searched in vain and waits for the block.
    pub(crate) standing: Standing,
}

/// Whether an attempt waits for a block that is not there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is searched for.
    No,
    /// Since then.
    Since(Time),
    /// For so long that another attempt takes its place; it is still good until the network forgets it.
    Stale,
}

#[derive(Debug)]
pub(crate) enum What {
    Fetch(FetchOp),
    Insert(InsertOp),
}

/// The end of an operation.
#[derive(Debug)]
pub(crate) enum Ending {
    Fetched(Result<Block, FetchFailure>),
    Inserted(Result<u8, InsertFailure>),
}

impl Ending {
    pub(crate) fn event(self, job: JobId, op: OpId) -> ClientEvent {
        match self {
            Self::Fetched(result) => ClientEvent::Fetched { job, op, result },
            Self::Inserted(result) => ClientEvent::Inserted { job, op, result },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) in_flight: Vec<InFlight>,
    /// Attempts that wait for a circuit.
    pub(crate) queued: usize,
    /// Circuits that served this operation badly; others are preferred.
    pub(crate) spoiled: Vec<OriginId>,
    /// When it ends whatever happens; set by the first attempt.
    pub(crate) deadline: Option<Time>,
}

impl Op {
    pub(crate) fn new(what: What) -> Self {
        Self {
            what,
            in_flight: Vec::new(),
            queued: 0,
            spoiled: Vec::new(),
            deadline: None,
        }
    }

    /// What the next attempt asks.
    pub(crate) fn request(&self) -> ExitOp {
        match &self.what {
            What::Fetch(fetch) => fetch.request(),
            What::Insert(insert) => insert.request(),
        }
    }

    /// Attempts belong to a stage; answers to those of an earlier one mean nothing any more.
    pub(crate) fn stage(&self) -> u8 {
        match &self.what {
            What::Fetch(_) => 0,
            What::Insert(insert) => insert.stage(),
        }
    }

    /// How many attempts it wants in flight or waiting.
    pub(crate) fn desired(&self) -> usize {
        match &self.what {
            What::Fetch(fetch) if fetch.waits() => {
                let standing = self.in_flight.iter().filter(|each| each.standing != Standing::No);
                let fresh = standing.clone().filter(|each| each.standing != Standing::Stale);
                standing.count() + usize::from(fetch.wants_waiter(fresh.count()))
            }
            What::Fetch(_) => 1,
            What::Insert(insert) => insert.desired(),
        }
    }

    /// Whether it waits for a block that is not there yet.
    pub(crate) fn waits(&self) -> bool {
        matches!(&self.what, What::Fetch(fetch) if fetch.waits())
    }

    /// Whether nothing is to be done but to wait.
    pub(crate) fn rests(&self) -> bool {
        self.queued == 0 && self.in_flight.iter().all(|each| each.standing != Standing::No)
    }

    /// Time has passed: waits become stale. The end, if it has come by that.
    pub(crate) fn age(&mut self, now: Time) -> Option<Ending> {
        let What::Fetch(fetch) = &mut self.what else {
            return None;
        };
        for attempt in &mut self.in_flight {
            if matches!(attempt.standing, Standing::Since(since) if now.since(since) >= RENEW_AFTER) {
                attempt.standing = Standing::Stale;
            }
        }
        fetch.age(now).map(|why| Ending::Fetched(Err(why)))
    }

    /// Whether it waits for the network to have the block, and so outlasts a time without circuits.
    pub(crate) fn patient(&self, now: Time) -> bool {
        matches!(&self.what, What::Fetch(fetch) if fetch.patient(now))
    }

    /// Whether another attempt through `exit` would tell nothing new.
    pub(crate) fn refuses(&self, exit: &NodeId) -> bool {
        let asked = |attempt: &InFlight| attempt.exit == *exit && attempt.standing != Standing::Stale;
        self.in_flight.iter().any(asked)
            || match &self.what {
                What::Fetch(fetch) => fetch.refuses(exit),
                What::Insert(insert) => insert.refuses(exit),
            }
    }

    /// Whether a second attempt beside a slow one is worth its cost: only for a reader who waits for this very block.
    pub(crate) fn hedges(&self) -> bool {
        matches!(&self.what, What::Fetch(fetch) if !fetch.expendable())
    }

    /// Total time from the first attempt on.
    pub(crate) fn time_allowed(&self, now: Time) -> Duration {
        match &self.what {
            What::Fetch(fetch) => fetch.time_allowed(now),
            What::Insert(insert) => insert.time_allowed(),
        }
    }

    pub(crate) fn outcome(&mut self, exit: NodeId, outcome: Outcome) -> Next<Ending> {
        match &mut self.what {
            What::Fetch(fetch) => fetch.outcome(exit, outcome).map(Ending::Fetched),
            What::Insert(insert) => insert.outcome(exit, outcome).map(Ending::Inserted),
        }
    }

    /// No exit is left that it does not refuse.
    pub(crate) fn no_other_exit(&mut self) -> Next<Ending> {
        match &mut self.what {
            What::Fetch(fetch) => fetch.no_other_exit().map(Ending::Fetched),
            What::Insert(insert) => insert.no_other_exit().map(Ending::Inserted),
        }
    }
}

impl What {
    /// The end when time is up or there are no circuits.
    pub(crate) fn give_up(&self) -> Ending {
        match self {
            Self::Fetch(fetch) => Ending::Fetched(Err(fetch.conclusion())),
            Self::Insert(_) => Ending::Inserted(Err(InsertFailure::Unreachable)),
        }
    }
}

impl<T> Next<T> {
    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Self::Continue => Next::Continue,
            Self::Done(value) => Next::Done(with(value)),
            Self::Lie => Next::Lie,
        }
    }
}
