//! The one account of the memory that waiting data takes, and the order in which it is taken back (`docs/architecture.md`,
//! "Memory").
//!
//! Three kinds of owners report what they hold: each link (what waits for its socket), the core (blocks of inserts and for
//! the datastore), each transfer of the local user. The sum decides:
//!
//! 1. from [`BUSY`] on, who has several requests open is refused more ([`Pressure::Busy`]);
//! 2. from [`LEAN`] on, no copies are left by traffic, and transfers fetch nothing ahead ([`Pressure::Lean`]);
//! 3. above the limit, the circuit whose data has waited longest dies, one after the other;
//! 4. if no circuit has any, the link with the most queued bytes closes.
//!
//! # Invariants
//!
//! - Every report replaces the one before of the same owner, and an owner that goes takes its report along.
//! - A step is taken only if those before it are in force: their bounds are lower.
//!
//! Steps 3 and 4 are carried out by the links' registry, which knows whose data is the oldest.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use warren_proto::core::api::Pressure;

/// Hundredths of the limit from which on bulk is refused. Low enough that requests under way still fit.
const BUSY: usize = 70;
/// Hundredths of the limit from which on nothing is kept or fetched ahead.
const LEAN: usize = 85;
/// Hundredths of the limit that the user's own transfers may take before they fetch nothing ahead: they must not be what
/// kills the circuits of others.
const OWN: usize = 50;

/// How often each step was taken since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// Who had several requests open began to be refused more.
    pub busy: u64,
    /// Copies and fetching ahead were given up.
    pub lean: u64,
    /// Circuits that were told to end.
    pub circuits: u64,
    /// Links that were closed.
    pub links: u64,
}

#[derive(Default)]
struct Steps {
    busy: AtomicU64,
    lean: AtomicU64,
    circuits: AtomicU64,
    links: AtomicU64,
    /// The pressure that was last found: 0, 1 or 2.
    level: AtomicUsize,
}

/// The account.
pub(crate) struct Memory {
    limit: usize,
    steps: Steps,
    links: AtomicUsize,
    core: AtomicUsize,
    transfers: AtomicUsize,
}

impl Memory {
    /// Nothing is held; `limit` bytes may be.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            steps: Steps::default(),
            links: AtomicUsize::new(0),
            core: AtomicUsize::new(0),
            transfers: AtomicUsize::new(0),
        })
    }

    /// What all hold together.
    pub(crate) fn used(&self) -> usize {
        self.links() + self.core.load(Ordering::Relaxed) + self.transfers.load(Ordering::Relaxed)
    }

    /// What waits on the links.
    pub(crate) fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    /// Steps 1 and 2.
    pub(crate) fn pressure(&self) -> Pressure {
        let used = self.used();
        let (pressure, level) = if used >= self.share(LEAN) {
            (Pressure::Lean, 2)
        } else if used >= self.share(BUSY) {
            (Pressure::Busy, 1)
        } else {
            (Pressure::None, 0)
        };
        let before = self.steps.level.swap(level, Ordering::Relaxed);
        for (step, count) in [(1, &self.steps.busy), (2, &self.steps.lean)] {
            if before < step && step <= level {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        pressure
    }

    /// Step 3 was taken.
    pub(crate) fn ended_circuit(&self) {
        self.steps.circuits.fetch_add(1, Ordering::Relaxed);
    }

    /// Step 4 was taken.
    pub(crate) fn closed_link(&self) {
        self.steps.links.fetch_add(1, Ordering::Relaxed);
    }

    /// How often each step was taken.
    pub(crate) fn reclaimed(&self) -> Reclaimed {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reclaimed {
            busy: read(&self.steps.busy),
            lean: read(&self.steps.lean),
            circuits: read(&self.steps.circuits),
            links: read(&self.steps.links),
        }
    }

    /// Whether steps 3 and 4 are due, and can help: something waits on the links.
    pub(crate) fn must_reclaim(&self) -> bool {
        self.links() > 0 && self.used() > self.limit
    }

    /// One link holds `now` bytes instead of `before`.
    pub(crate) fn link(&self, before: usize, now: usize) {
        replace(&self.links, before, now);
    }

    /// The core holds so much.
    pub(crate) fn core(&self, bytes: usize) {
        self.core.store(bytes, Ordering::Relaxed);
    }

    /// A place in the account for one transfer.
    pub(crate) fn transfer(self: &Arc<Self>) -> Share {
        Share {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }

    fn share(&self, hundredths: usize) -> usize {
        self.limit / 100 * hundredths
    }
}

fn replace(sum: &AtomicUsize, before: usize, now: usize) {
    if now >= before {
        sum.fetch_add(now - before, Ordering::Relaxed);
    } else {
        sum.fetch_sub(before - now, Ordering::Relaxed);
    }
}

/// What one transfer holds; given back when it goes.
pub(crate) struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Share {
    /// The transfer holds so much now. Whether it must fetch nothing ahead.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        replace(&self.memory.transfers, self.bytes, bytes);
        self.bytes = bytes;
        let own = self.memory.transfers.load(Ordering::Relaxed) >= self.memory.share(OWN);
        own || self.memory.pressure() >= Pressure::Lean
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_come_in_their_order() {
        let memory = Memory::new(1000);
        let mut transfer = memory.transfer();
        assert_eq!(memory.pressure(), Pressure::None);
        memory.link(0, 500);
        memory.core(199);
        assert_eq!(memory.pressure(), Pressure::None);
        memory.core(200);
        assert_eq!(
            (memory.pressure(), memory.must_reclaim()),
            (Pressure::Busy, false)
        );
        assert!(!transfer.set(100), "it may still fetch ahead");
        assert!(transfer.set(150));
        assert_eq!(
            (memory.pressure(), memory.must_reclaim()),
            (Pressure::Lean, false)
        );
        memory.link(500, 700);
        assert!(memory.must_reclaim());
        let reclaimed = memory.reclaimed();
        assert_eq!((reclaimed.busy, reclaimed.lean), (1, 1), "once for each rise");
        memory.link(700, 0);
        memory.core(2000);
        assert!(!memory.must_reclaim(), "no circuit's death would help");
        memory.core(0);
        drop(transfer);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn own_transfers_are_held_back_before_they_hurt_others() {
        let memory = Memory::new(1000);
        let (mut a, mut b) = (memory.transfer(), memory.transfer());
        assert!(!a.set(300));
        assert!(b.set(250));
        assert_eq!(memory.pressure(), Pressure::None);
        drop(b);
        assert!(!a.set(300));
    }
}
