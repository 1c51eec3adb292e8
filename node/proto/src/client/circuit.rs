//! What the pool knows of one client circuit: its path, whose it is, and the requests open on it.
//!
//! Invariant: a circuit gets an owner once and never another (protocol §8.1).

use std::{collections::BTreeMap, time::Duration};

use warren_keys::NodeId;

use crate::{
    client::{
        shared::Place,
        window::{Rtt, Window},
    },
    ids::{JobId, OpId},
    routing::WAIT_TIME,
    time::Time,
};

/// Time to build a circuit: five hops, one of which must be dialled over a slow link.
pub(crate) const BUILD_TIME: Duration = Duration::from_secs(10);
/// A circuit that takes longer than this to build is no longer counted on; another is begun beside it. The most, and what
/// counts while the usual time is not known; see `Pool::build_patience`.
pub(crate) const SLOW_BUILD: Duration = Duration::from_secs(3);
/// Time limit of a first search: about thirty messages one after the other over the world.
const SEARCH_TIME: Duration = Duration::from_secs(10);
/// Time limit of a wider search, and of an insert, which waits for five disks.
const LONG_TIME: Duration = Duration::from_secs(20);
/// Over slow circuits the limits grow with the usual round trip, by this factor…
const RTT_FACTOR: u32 = 8;
/// …up to this.
const LONGEST_TIME: Duration = Duration::from_secs(40);
/// Requests that may time out in a row before the circuit counts as dead.
const MAX_LOSSES: u8 = 3;
/// First pause after a Busy; doubles with each further one in a row, five times at most.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A request that awaits its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Whom the answer is for; `None` when it is not wanted any more but the exit still works on it.
    pub(crate) op: Option<OpId>,
    pub(crate) stage: u8,
    pub(crate) kind: Kind,
    /// Its place in the window that bulk jobs share, if it has one.
    pub(crate) place: Option<Place>,
    pub(crate) sent: Time,
    pub(crate) deadline: Time,
    /// The exit has answered that it waits.
    pub(crate) waits: bool,
}

/// Requests whose round trips are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Fetch,
    WideFetch,
    Insert,
}

#[derive(Debug)]
pub(crate) struct Circuit {
    /// Entry first, exit last; empty when this node is its own exit.
    pub(crate) path: Vec<NodeId>,
    pub(crate) exit: NodeId,
    pub(crate) ready: bool,
    pub(crate) begun: Time,
    pub(crate) owner: Option<JobId>,
    /// Takes no new requests; closed when the open ones have ended.
    pub(crate) retiring: bool,
    pub(crate) window: Window,
    fetches: Rtt,
    inserts: Rtt,
    pub(crate) open: BTreeMap<u32, Attempt>,
    next: u32,
    blocked_until: Time,
    busy_streak: u32,
    losses: u8,
    /// Whether an answer of any kind has come through it.
    proved: bool,
    /// Whether its silence has been held against the entry.
    complained: bool,
}

impl Circuit {
    pub(crate) fn new(path: Vec<NodeId>, exit: NodeId, now: Time) -> Self {
        Self {
            path,
            exit,
            ready: false,
            begun: now,
            owner: None,
            retiring: false,
            window: Window::default(),
            fetches: Rtt::default(),
            inserts: Rtt::default(),
            open: BTreeMap::new(),
            next: 0,
            blocked_until: Time(0),
            busy_streak: 0,
            losses: 0,
            proved: false,
            complained: false,
        }
    }

    /// Whether it is in use, or will be soon.
    pub(crate) fn counts(&self, now: Time, patience: Duration) -> bool {
        !self.retiring && (self.ready || now.since(self.begun) < patience)
    }

    pub(crate) fn has_room(&self, now: Time) -> bool {
        self.ready && !self.retiring && self.blocked_until <= now && self.active() < self.window.size()
    }

    /// Requests that the exit works on.
    fn active(&self) -> usize {
        self.open.values().filter(|attempt| !attempt.waits).count()
    }

    /// The exit waits for the block of a request: it has answered, and the request is still open.
    pub(crate) fn placed(&mut self, now: Time, request: u32) -> Option<Attempt> {
        let attempt = self.open.get_mut(&request).filter(|attempt| !attempt.waits)?;
        attempt.waits = true;
        attempt.deadline = now + WAIT_TIME + LONG_TIME;
        let (attempt, _) = (*attempt, attempt.place.take());
        self.answered(now, &attempt, false);
        Some(attempt)
    }

    pub(crate) fn rtt(&self, kind: Kind) -> &Rtt {
        if kind == Kind::Insert {
            &self.inserts
        } else {
            &self.fetches
        }
    }

    /// Expected time, µs, until one more request were answered: what the choice among circuits goes by. A circuit without
    /// a record counts as fast, so that it gets one.
    pub(crate) fn expected(&self, kind: Kind) -> u64 {
        let rtt = self.rtt(kind).smoothed().unwrap_or(Duration::from_millis(1));
        let queue = self.active() as u64 + 1;
        u64::try_from(rtt.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(queue)
            / self.window.size() as u64
    }

    /// Enters a request and gives its number, unique among the open ones.
    pub(crate) fn begin(&mut self, op: OpId, stage: u8, kind: Kind, place: Option<Place>, now: Time) -> u32 {
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let request = self.next;
        self.next = self.next.wrapping_add(1);
        let floor = if kind == Kind::Fetch {
            SEARCH_TIME
        } else {
            LONG_TIME
        };
        let adaptive = self.rtt(kind).smoothed().map_or(floor, |rtt| rtt * RTT_FACTOR);
        let deadline = now + adaptive.clamp(floor, LONGEST_TIME);
        self.open.insert(
            request,
            Attempt {
                op: Some(op),
                stage,
                kind,
                place,
                sent: now,
                deadline,
                waits: false,
            },
        );
        request
    }

    /// Good news: the answer took `rtt`, and whether its time says anything of the circuit.
    pub(crate) fn answered(&mut self, now: Time, attempt: &Attempt, telling: bool) {
        (self.losses, self.busy_streak) = (0, 0);
        let rtt = if attempt.kind == Kind::Insert {
            &mut self.inserts
        } else {
            &mut self.fetches
        };
        if telling {
            rtt.sample(now, now.since(attempt.sent));
        }
        self.window.answered(rtt);
    }

    /// An answer came, whatever it says.
    pub(crate) fn prove(&mut self) {
        self.proved = true;
    }

    /// A request was lost on it. Whether this is the first, and no answer has ever come.
    pub(crate) fn complain(&mut self) -> bool {
        !self.proved && !std::mem::replace(&mut self.complained, true)
    }

    /// The exit will not take more now. `jitter` is below 256.
    pub(crate) fn busy(&mut self, now: Time, attempt: &Attempt, jitter: u32) {
        self.losses = 0;
        self.window.congested(now, attempt.sent);
        let pause = BUSY_PAUSE * (1 << self.busy_streak.min(5));
        self.busy_streak += 1;
        self.blocked_until = now + pause + pause * jitter / 256;
    }

    /// A request was not answered in time; `true` when the circuit must be taken for dead.
    pub(crate) fn lost(&mut self, now: Time, attempt: &Attempt) -> bool {
        self.window.congested(now, attempt.sent);
        self.losses += 1;
        self.losses >= MAX_LOSSES
    }
}
