//! The pinned entries of this node's circuits (protocol §8.3).
//!
//! The entry is the one hop that knows the client's address. If each circuit took a fresh one, an adversary with a tenth of
//! the network would be entry of some circuit almost at once (99.5 % after 100 circuits); one entry that stays for weeks
//! caps that at a tenth. So there is an ordered list: the first that works carries everything, and a further one is pinned
//! only when all before it fail.
//!
//! Invariants: a node is pinned by its first working circuit, never by a mere attempt, so a machine that is offline pins
//! nobody; at most [`MAX_ENTRIES`] are pinned at a time, which bounds how far an adversary who makes entries fail can walk
//! the client towards his own; an entry leaves the list only by age or after failing on [`GONE_DAYS`] different days; its age is
//! time for which this node ran, so that no clock which jumps makes it old; one
//! whose circuits stand but carry nothing has failed, and works again only when an answer comes through it.
//!
//! What an adversary does who is pinned is not this module's subject (threat model).

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use warren_keys::NodeId;

use crate::{
    client::path::{self, RelayView},
    descriptor::Descriptor,
    time::{Time, WallTime},
};

/// The most entries pinned at a time. One is in use; the others are for when it is off. Five survive bad days in a network
/// of home machines, and five chances are still few for an adversary.
pub const MAX_ENTRIES: usize = 5;
/// Shortest time that an entry stays pinned; the actual time is drawn between this and twice this, so that entries are not
/// replaced at a foreseeable moment. Only time for which this node runs counts.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60 * DAY);
/// Age is counted in such steps; a restart loses what is less. Each step makes a list that has to be saved.
const AGE_STEP: Duration = Duration::from_secs(1800);
/// On so many different days an entry must have failed, without once working between them, to be given up.
pub const GONE_DAYS: u8 = 7;
/// Failed circuits in a row, with nobody known to be at fault, after which the entry is suspected.
const DOUBTS: u8 = 3;
/// Circuits in a row that stood and never brought an answer, after which the entry is suspected: it may build circuits only
/// to swallow what they carry. Each may as well be another hop's doing: with a fifth of all circuits dead for other reasons, an
/// honest entry is suspected once in 600 times.
const SILENCES: u8 = 4;
/// Shortest pause of an entry that failed by silence: whoever tries it again waits for a time-out if it has not changed.
const MUTE_PAUSE: Duration = Duration::from_secs(60);
/// First pause after a failure of an entry; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: an entry that restarts is found again within minutes.
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// While one circuit tries a failed entry again, the others use the next one for so long.
const TRIAL: Duration = Duration::from_secs(10);

const DAY: u64 = 86_400;

/// A pinned entry as it is kept over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinnedEntry {
    /// The node.
    pub node: NodeId,
    /// Seconds for which this node will run until its time is over.
    pub left: u64,
    /// On how many days it failed since it last worked.
    pub failed_days: u8,
    /// The last of these days (days since the Unix epoch).
    pub last_failed_day: u64,
}

impl PinnedEntry {
    /// Counts a day of failure; each day once, and none that a clock which jumps comes back to. Whether that changed anything.
    fn fail_on(&mut self, wall: WallTime) -> bool {
        let today = wall.0 / DAY;
        let counts = self.failed_days == 0 || today > self.last_failed_day;
        if counts {
            self.failed_days = self.failed_days.saturating_add(1);
            self.last_failed_day = today;
        }
        counts
    }
}

#[derive(Debug)]
struct Entry {
    pinned: PinnedEntry,
    /// Has carried a circuit, in this run or before it.
    confirmed: bool,
    failures: u32,
    doubts: u8,
    /// Circuits in a row without an answer.
    silences: u8,
    /// Failed by silence, and no answer has come since.
    mute: bool,
    down_until: Time,
}

/// The list, in order of preference.
#[derive(Debug, Default)]
pub struct Entries {
    list: Vec<Entry>,
    changed: bool,
    /// Up to when the entries have been made older in this run.
    aged: Option<Time>,
}

impl Entries {
    /// Takes up what an earlier run saved.
    pub fn restore(&mut self, saved: Vec<PinnedEntry>) {
        let most = 2 * MIN_LIFETIME.as_secs();
        let fresh = |pinned: PinnedEntry| Entry {
            pinned: PinnedEntry {
                left: pinned.left.min(most),
                ..pinned
            },
            confirmed: true,
            failures: 0,
            doubts: 0,
            silences: 0,
            mute: false,
            down_until: Time(0),
        };
        self.list = saved.into_iter().take(MAX_ENTRIES).map(fresh).collect();
    }

    /// The pinned entries, the preferred one first.
    #[must_use]
    pub fn pinned(&self) -> Vec<PinnedEntry> {
        self.list
            .iter()
            .filter(|entry| entry.confirmed)
            .map(|entry| entry.pinned)
            .collect()
    }

    /// Makes all entries older by the time that has passed.
    fn age(&mut self, now: Time) {
        let passed = now.since(*self.aged.get_or_insert(now));
        if passed < AGE_STEP {
            return;
        }
        self.aged = Some(now);
        for entry in &mut self.list {
            entry.pinned.left = entry.pinned.left.saturating_sub(passed.as_secs());
        }
        self.changed |= !self.list.is_empty();
    }

    /// The list to be saved, if it has changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<PinnedEntry>> {
        std::mem::take(&mut self.changed).then(|| self.pinned())
    }

    /// The entry for the next circuit; a new one when none of the list can be used now.
    ///
    /// `fits` says whether a node may be an entry at all. `None` when nobody can be one now.
    pub fn pick<V: RelayView + ?Sized>(
        &mut self,
        now: Time,
        wall: WallTime,
        view: &V,
        fits: impl Fn(&Descriptor) -> bool,
        rng: &mut ChaCha20Rng,
    ) -> Option<Descriptor> {
        self.age(now);
        let before = self.list.len();
        self.list
            .retain(|entry| entry.pinned.left > 0 && entry.pinned.failed_days < GONE_DAYS);
        self.changed |= self.list.len() != before;
        for entry in self.list.iter_mut().filter(|entry| entry.down_until <= now) {
            let Some(node) = view.relay(&entry.pinned.node).filter(|node| fits(node)) else {
                // Who cannot be used all day long has failed on that day, or it would hold its place for months.
                self.changed |= entry.pinned.fail_on(wall);
                continue;
            };
            if entry.failures > 0 {
                entry.down_until = now + TRIAL;
            }
            return Some(node.clone());
        }
        if self.list.len() >= MAX_ENTRIES {
            return None;
        }
        let known = |id: &NodeId| self.list.iter().any(|entry| entry.pinned.node == *id);
        let fresh = path::sample(
            view.relays().filter(|node| fits(node) && !known(&node.identity)),
            rng,
        )?
        .clone();
        let extra = path::below(rng, usize::try_from(MIN_LIFETIME.as_secs()).unwrap_or(usize::MAX));
        self.list.push(Entry {
            pinned: PinnedEntry {
                node: fresh.identity,
                left: MIN_LIFETIME.as_secs().saturating_add(extra as u64),
                failed_days: 0,
                last_failed_day: 0,
            },
            confirmed: false,
            failures: 0,
            doubts: 0,
            silences: 0,
            mute: false,
            down_until: Time(0),
        });
        Some(fresh)
    }

    /// A circuit through this entry stands.
    pub fn worked(&mut self, node: &NodeId) {
        let entry = self.list.iter_mut().find(|entry| entry.pinned.node == *node);
        if let Some(entry) = entry.filter(|entry| !entry.mute) {
            self.changed |= !entry.confirmed || entry.pinned.failed_days > 0;
            entry.confirmed = true;
            entry.pinned.failed_days = 0;
            (entry.failures, entry.doubts, entry.down_until) = (0, 0, Time(0));
        }
    }

    /// An answer came through this entry.
    pub fn answered(&mut self, node: &NodeId) {
        let Some(entry) = self.list.iter_mut().find(|entry| entry.pinned.node == *node) else {
            return;
        };
        entry.silences = 0;
        if std::mem::take(&mut entry.mute) {
            self.worked(node);
        }
    }

    /// A circuit through this entry stood, was used, and never brought an answer; whether the entry has failed by it.
    pub fn silent(&mut self, node: &NodeId, now: Time, wall: WallTime) -> bool {
        let Some(entry) = self.list.iter_mut().find(|entry| entry.pinned.node == *node) else {
            return false;
        };
        entry.silences = entry.silences.saturating_add(1);
        entry.mute |= entry.silences >= SILENCES;
        if !entry.mute {
            return false;
        }
        self.failed(node, now, wall);
        if let Some(entry) = self.list.iter_mut().find(|entry| entry.pinned.node == *node) {
            entry.down_until = entry.down_until.max(now + MUTE_PAUSE);
        }
        true
    }

    /// A circuit through this entry failed by the entry's fault.
    pub fn failed(&mut self, node: &NodeId, now: Time, wall: WallTime) {
        let Some(index) = self.list.iter().position(|entry| entry.pinned.node == *node) else {
            return;
        };
        let entry = &mut self.list[index];
        if !entry.confirmed {
            self.list.remove(index);
            return;
        }
        self.changed |= entry.pinned.fail_on(wall);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << entry.failures.min(16))
            .min(LAST_PAUSE);
        entry.failures = entry.failures.saturating_add(1);
        entry.doubts = 0;
        entry.down_until = now + pause;
    }

    /// A circuit through this entry could not be built, and nobody knows why.
    pub fn doubted(&mut self, node: &NodeId, now: Time, wall: WallTime) {
        if let Some(entry) = self.list.iter_mut().find(|entry| entry.pinned.node == *node) {
            entry.doubts += 1;
            if entry.doubts >= DOUBTS || entry.failures > 0 {
                self.failed(node, now, wall);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_core::SeedableRng;

    use super::*;
    use crate::client::testing::network;

    const WALL: WallTime = WallTime(1_800_000_000);

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn one_entry_carries_everything_and_survives_a_restart() {
        let (view, mut rng) = (network(50), ChaCha20Rng::seed_from_u64(1));
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        assert_eq!(entries.take_changed(), None, "an attempt pins nobody");
        entries.worked(&first);
        let saved = entries.take_changed().unwrap();
        for second in 1..500 {
            assert_eq!(
                entries
                    .pick(at(second), WALL, &view, |_| true, &mut rng)
                    .unwrap()
                    .identity,
                first
            );
            entries.worked(&first);
        }
        let mut restarted = Entries::default();
        restarted.restore(saved);
        assert_eq!(
            restarted
                .pick(at(0), WALL, &view, |_| true, &mut rng)
                .unwrap()
                .identity,
            first
        );
    }

    #[test]
    fn the_next_takes_over_and_the_first_comes_back() {
        let (view, mut rng) = (network(50), ChaCha20Rng::seed_from_u64(2));
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        entries.worked(&first);
        entries.failed(&first, at(1), WALL);
        let second = entries
            .pick(at(1), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        assert_ne!(first, second);
        entries.worked(&second);
        // After its pause the first is tried by one circuit only.
        assert_eq!(
            entries
                .pick(at(3), WALL, &view, |_| true, &mut rng)
                .unwrap()
                .identity,
            first
        );
        assert_eq!(
            entries
                .pick(at(3), WALL, &view, |_| true, &mut rng)
                .unwrap()
                .identity,
            second
        );
        entries.worked(&first);
        assert_eq!(
            entries
                .pick(at(4), WALL, &view, |_| true, &mut rng)
                .unwrap()
                .identity,
            first
        );
    }

    #[test]
    fn an_adversary_who_makes_entries_fail_walks_a_bounded_way() {
        let (view, mut rng) = (network(500), ChaCha20Rng::seed_from_u64(3));
        let mut entries = Entries::default();
        let mut carried = BTreeSet::new();
        for second in 0..20_000 {
            if let Some(entry) = entries.pick(at(second), WALL, &view, |_| true, &mut rng) {
                if carried.insert(entry.identity) {
                    entries.worked(&entry.identity);
                }
                entries.failed(&entry.identity, at(second), WALL);
            }
        }
        assert_eq!(carried.len(), MAX_ENTRIES);
    }

    #[test]
    fn an_offline_machine_pins_nobody() {
        let (view, mut rng) = (network(500), ChaCha20Rng::seed_from_u64(4));
        let mut entries = Entries::default();
        for second in 0..1000 {
            let entry = entries.pick(at(second), WALL, &view, |_| true, &mut rng).unwrap();
            entries.failed(&entry.identity, at(second), WALL);
        }
        assert!(entries.pinned().is_empty());
    }

    #[test]
    fn an_entry_leaves_by_age_or_after_days_of_failure() {
        let (view, mut rng) = (network(9), ChaCha20Rng::seed_from_u64(5));
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        entries.worked(&first);
        for hour in 0..24 * 5 {
            entries.failed(&first, at(hour * 3600), WallTime(WALL.0 + hour * 3600));
            entries.pick(
                at(hour * 3600),
                WallTime(WALL.0 + hour * 3600),
                &view,
                |_| true,
                &mut rng,
            );
        }
        assert_eq!(
            entries.pinned()[0].node,
            first,
            "six calendar days are not enough"
        );
        entries.worked(&first);
        assert_eq!(entries.pinned()[0].failed_days, 0);
        for day in 10..10 + u64::from(GONE_DAYS) {
            entries.failed(&first, at(day * DAY), WallTime(WALL.0 + day * DAY));
        }
        entries.pick(
            at(20 * DAY),
            WallTime(WALL.0 + 20 * DAY),
            &view,
            |_| true,
            &mut rng,
        );
        assert!(entries.pinned().iter().all(|entry| entry.node != first));

        let mut aged = Entries::default();
        let second = aged
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        aged.worked(&second);
        aged.pick(at(2 * MIN_LIFETIME.as_secs()), WALL, &view, |_| true, &mut rng);
        assert!(aged.pinned().is_empty());
    }

    #[test]
    fn age_is_time_that_the_node_ran_and_no_jump_of_a_clock() {
        let (view, mut rng) = (network(9), ChaCha20Rng::seed_from_u64(8));
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        entries.worked(&first);
        // Ahead by a year and back, again and again; nothing has failed meanwhile.
        for jump in 0..20 {
            let wall = WallTime(WALL.0 + (jump % 2) * 365 * DAY);
            let picked = entries.pick(at(jump), wall, &view, |_| true, &mut rng).unwrap();
            assert_eq!(picked.identity, first);
        }
        // A year during which the node did not run is none either; runs add up.
        let mut saved = entries.pinned();
        let mut runs = 0;
        while !saved.is_empty() {
            let mut run = Entries::default();
            run.restore(saved);
            let wall = WallTime(WALL.0 + runs * 365 * DAY);
            for hour in 0..=24 {
                run.pick(at(hour * 3600), wall, &view, |_| true, &mut rng);
            }
            saved = run.take_changed().unwrap();
            saved.retain(|entry| entry.node == first);
            runs += 1;
        }
        assert!((60..=121).contains(&runs), "{runs} days");
    }

    #[test]
    fn an_entry_that_nobody_knows_any_more_is_gone_after_days_and_not_before() {
        let (view, mut rng) = (network(9), ChaCha20Rng::seed_from_u64(8));
        let nobody = network(0);
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        entries.worked(&first);
        let day = |number: u64| WallTime(WALL.0 + number * DAY);
        // A clock that jumps between two days makes them no more than two.
        for jump in 0..100 {
            entries.pick(at(jump), day(jump % 2), &nobody, |_| true, &mut rng);
        }
        assert_eq!(entries.pinned()[0].failed_days, 2);
        for number in 0..u64::from(GONE_DAYS) - 1 {
            entries.pick(at(200), day(number), &nobody, |_| true, &mut rng);
            assert_eq!(entries.pinned().len(), 1, "on day {number}");
        }
        let last = u64::from(GONE_DAYS) - 1;
        entries.pick(at(200), day(last), &nobody, |_| true, &mut rng);
        entries.pick(at(200), day(last), &nobody, |_| true, &mut rng);
        assert!(entries.pinned().is_empty());
    }

    #[test]
    fn failures_of_nobody_known_are_suspicion_only_when_repeated() {
        let (view, mut rng) = (network(9), ChaCha20Rng::seed_from_u64(6));
        let mut entries = Entries::default();
        let first = entries
            .pick(at(0), WALL, &view, |_| true, &mut rng)
            .unwrap()
            .identity;
        entries.worked(&first);
        for _ in 0..2 {
            entries.doubted(&first, at(1), WALL);
            assert_eq!(
                entries
                    .pick(at(1), WALL, &view, |_| true, &mut rng)
                    .unwrap()
                    .identity,
                first
            );
        }
        entries.doubted(&first, at(1), WALL);
        assert_ne!(
            entries
                .pick(at(1), WALL, &view, |_| true, &mut rng)
                .unwrap()
                .identity,
            first
        );
    }

    #[test]
    fn an_entry_that_builds_circuits_and_swallows_what_they_carry_has_failed_until_it_brings_an_answer() {
        let (view, mut rng) = (network(50), ChaCha20Rng::seed_from_u64(7));
        let mut entries = Entries::default();
        let mut pick = |entries: &mut Entries, second| {
            let picked = entries.pick(at(second), WALL, &view, |_| true, &mut rng);
            picked.unwrap().identity
        };
        let first = pick(&mut entries, 0);
        entries.worked(&first);
        // Other hops fail too, but not always.
        for second in 1..100 {
            assert!((1..SILENCES).all(|_| !entries.silent(&first, at(second), WALL)));
            entries.answered(&first);
        }
        for silence in 1..=SILENCES {
            assert_eq!(pick(&mut entries, 100), first);
            entries.worked(&first);
            assert_eq!(entries.silent(&first, at(100), WALL), silence == SILENCES);
        }
        let second = pick(&mut entries, 100);
        assert_ne!(second, first);
        entries.worked(&second);
        // It is tried again by one circuit. That the circuit stands means nothing now.
        assert_eq!(pick(&mut entries, 159), second);
        assert_eq!(pick(&mut entries, 160), first);
        entries.worked(&first);
        assert_eq!(pick(&mut entries, 160), second);
        assert!(entries.silent(&first, at(170), WALL));
        assert_eq!(pick(&mut entries, 229), second);
        assert_eq!(pick(&mut entries, 230), first);
        entries.answered(&first);
        assert_eq!(pick(&mut entries, 230), first);
        assert_eq!(pick(&mut entries, 230), first);
    }
}
