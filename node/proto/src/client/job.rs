//! One job of the local user: its operations, its circuits, and the order in which operations get them.
//!
//! Circuits are never shared between jobs, so that no exit can tell that two URIs are one reader's.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    client::op::{Ending, Next, Op, Outcome, Standing, What},
    ids::{OpId, OriginId},
    time::Time,
    wire::ExitResult,
};

/// The most operations that a job may have open: twice what the job's own memory bound allows in blocks.
pub const MAX_OPS: usize = 4096;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) bulk: bool,
    pub(crate) circuits: Vec<OriginId>,
    pub(crate) ops: BTreeMap<OpId, Op>,
    /// Attempts that cannot go just anywhere: retries, hedges, second exits. Served first.
    pub(crate) urgent: VecDeque<OpId>,
    /// First attempts.
    pub(crate) fresh: VecDeque<OpId>,
    /// Since when nothing could be sent because no circuit stands.
    pub(crate) stalled: Option<Time>,
    /// Circuits that failed to stand, in a row.
    pub(crate) build_failures: u32,
    /// Not before then is another circuit built.
    pub(crate) build_after: Time,
    /// It is among those that take turns.
    pub(crate) in_turn: bool,
    /// When the circuits' speeds were last compared.
    pub(crate) reviewed: Time,
}

impl Job {
    pub(crate) fn new(bulk: bool, now: Time) -> Self {
        Self {
            bulk,
            circuits: Vec::new(),
            ops: BTreeMap::new(),
            urgent: VecDeque::new(),
            fresh: VecDeque::new(),
            stalled: None,
            build_failures: 0,
            build_after: Time(0),
            in_turn: false,
            reviewed: now,
        }
    }

    /// Whether attempts wait for a circuit.
    pub(crate) fn waiting(&self) -> bool {
        !self.urgent.is_empty() || !self.fresh.is_empty()
    }

    /// Takes in an operation and queues its first attempts.
    pub(crate) fn begin(&mut self, id: OpId, what: What) {
        let mut op = Op::new(what);
        if op.desired() == 1 {
            op.queued = 1;
            self.fresh.push_back(id);
        }
        self.ops.insert(id, op);
        self.requeue(id);
    }

    /// Queues as many attempts as the operation wants beyond those in flight.
    pub(crate) fn requeue(&mut self, id: OpId) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        while op.in_flight.len() + op.queued < op.desired() {
            op.queued += 1;
            self.urgent.push_back(id);
        }
    }

    /// Queues a second attempt beside a slow one.
    pub(crate) fn hedge(&mut self, id: OpId) -> bool {
        let Some(op) = self.ops.get_mut(&id) else {
            return false;
        };
        op.queued += 1;
        self.urgent.push_back(id);
        true
    }

    /// The exit of an attempt waits for the block.
    pub(crate) fn placed(&mut self, now: Time, id: OpId, attempt: (OriginId, u32)) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let found = op
            .in_flight
            .iter_mut()
            .find(|each| (each.origin, each.request) == attempt);
        let (Some(attempt), What::Fetch(fetch)) = (found, &mut op.what) else {
            return;
        };
        attempt.standing = Standing::Since(now);
        fetch.placed(attempt.exit);
        self.requeue(id);
    }

    /// Time has passed for those that wait. Gives those that end by it; whether anything was queued.
    pub(crate) fn age(&mut self, now: Time) -> (Vec<(OpId, Ending)>, bool) {
        let waiting = self.ops.iter_mut().filter(|(_, op)| op.waits());
        let aged: Vec<(OpId, Option<Ending>)> = waiting.map(|(id, op)| (*id, op.age(now))).collect();
        let (mut ended, before) = (Vec::new(), self.urgent.len());
        for (id, ending) in aged {
            match ending {
                Some(ending) => ended.push((id, ending)),
                None => self.requeue(id),
            }
        }
        (ended, self.urgent.len() > before)
    }

    /// An attempt of the operation came to something. `stage` is that of the attempt.
    pub(crate) fn outcome(
        &mut self,
        id: OpId,
        attempt: (OriginId, u32),
        stage: u8,
        outcome: Outcome,
    ) -> Next<Ending> {
        let Some(op) = self.ops.get_mut(&id) else {
            return Next::Continue;
        };
        let Some(index) = op
            .in_flight
            .iter()
            .position(|each| (each.origin, each.request) == attempt)
        else {
            return Next::Continue;
        };
        let exit = op.in_flight.swap_remove(index).exit;
        let badly = !matches!(&outcome, Outcome::Answer(answer) if !is_trouble(answer));
        if badly && !op.spoiled.contains(&attempt.0) {
            op.spoiled.push(attempt.0);
        }
        let next = if stage == op.stage() {
            op.outcome(exit, outcome)
        } else {
            Next::Continue
        };
        if matches!(next, Next::Continue) {
            self.requeue(id);
        }
        next
    }

    /// Takes an ended operation out. Its entries in the queues are skipped when they come up.
    pub(crate) fn end(&mut self, id: OpId) -> Option<Op> {
        self.ops.remove(&id)
    }

    /// An attempt leaves a queue; whether it is still wanted.
    pub(crate) fn dequeued(&mut self, id: OpId) -> bool {
        let Some(op) = self.ops.get_mut(&id) else {
            return false;
        };
        op.queued = op.queued.saturating_sub(1);
        // A hedge is one more than desired, so only what has no room for any attempt is dropped.
        let hedge = op.in_flight.iter().all(|each| each.standing == Standing::No);
        op.desired() > 0 && op.in_flight.len() < op.desired() + usize::from(hedge)
    }
}

/// Answers after which another circuit is preferred.
fn is_trouble(answer: &ExitResult) -> bool {
    matches!(answer, ExitResult::Busy | ExitResult::Failed)
}
