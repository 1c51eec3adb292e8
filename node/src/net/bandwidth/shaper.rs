//! A token bucket that the links of a node share, in turns.
//!
//! A link that has something to move asks for its turn and waits in line. Whose turn it is may move about a quantum as soon as the
//! bucket is not empty, and has to ask again. The line is ordered by what each has moved (start-time fair queueing: Goyal, Vin,
//! Cheng 1996), so links share evenly by bytes, not by turns: frames are not cut, and a link that moved a whole block waits until
//! the others have moved as much. Who was away has saved nothing up.
//!
//! # Invariants
//!
//! - Over any time `t` at most `rate * t` bytes pass, and [`BURST`] of them and one overdraft more.
//! - A link asks only when it could move bytes at once, so the line never waits for one that cannot.
//! - Nothing is held here: bytes wait in the links' own queues, where what is urgent can still overtake, or at the sender.
//!
//! Deliberately absent: time, wakers, and what the bytes are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use warren_proto::{geometry::RECORD_LEN, ids::LinkId, time::Time};

/// The slowest limit, bytes a second. With it 128 busy links get a turn of one record each within 16 s, which is below the
/// 20 s of silence after which neighbours give a link up.
pub const MIN_RATE: u64 = 32 << 10;
/// The fastest limit, bytes a second: far beyond any line, and the arithmetic holds.
pub const MAX_RATE: u64 = 1 << 40;

/// How long an idle line saves up. Longer than the timers' grain by far, so the rate is reached; too short to be felt.
const BURST: Duration = Duration::from_millis(250);
/// Turns a second that a limit is cut into, as far as [`MIN_QUANTUM`] and [`MAX_QUANTUM`] let it: the fewer, the less work.
const TURNS: u64 = 256;
/// Least for one turn: a record, the least that a link sends.
const MIN_QUANTUM: u64 = RECORD_LEN as u64;
/// Most for one turn: what a link seals at a time without a limit.
const MAX_QUANTUM: u64 = 64 << 10;

/// Parts of a byte that the level is counted in, so that microseconds times bytes a second need no division.
const PARTS: i128 = 1_000_000;

/// What a link may do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Move about so many bytes, and say how many it were.
    Go(usize),
    /// Wait: until then when it is the link's turn, else until it is woken.
    Wait(Option<Time>),
}

/// The machine; see the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Shaper {
    rate: Option<u64>,
    /// In [`PARTS`]; below zero after an overdraft.
    level: i128,
    at: Time,
    /// Who waits: what it had moved when it came, a number to tell apart who came with as much, the link.
    line: BTreeSet<(u64, u64, LinkId)>,
    /// Where each is in the line.
    places: BTreeMap<LinkId, (u64, u64)>,
    /// What each link that was served has moved, on the common scale.
    served: BTreeMap<LinkId, u64>,
    /// Where on that scale the last turn began: who comes anew starts there.
    virtual_time: u64,
    arrivals: u64,
}

impl Shaper {
    /// A full bucket. `rate` in bytes a second; `None` limits nothing.
    pub(crate) fn new(now: Time, rate: Option<u64>) -> Self {
        let mut shaper = Self {
            rate: None,
            level: 0,
            at: now,
            line: BTreeSet::new(),
            places: BTreeMap::new(),
            served: BTreeMap::new(),
            virtual_time: 0,
            arrivals: 0,
        };
        shaper.set_rate(now, rate);
        shaper
    }

    /// Changes the rate. Without one nobody waits: the caller wakes all who did.
    pub(crate) fn set_rate(&mut self, now: Time, rate: Option<u64>) {
        self.refill(now);
        let fresh = self.rate.is_none();
        self.rate = rate.map(|rate| rate.clamp(MIN_RATE, MAX_RATE));
        if fresh {
            self.level = self.depth();
        }
        self.level = self.level.min(self.depth());
        if rate.is_none() {
            self.line.clear();
            self.places.clear();
            self.served.clear();
        }
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    /// A link could move bytes now.
    pub(crate) fn ask(&mut self, now: Time, link: LinkId) -> Turn {
        if self.rate.is_none() {
            return Turn::Go(usize::MAX);
        }
        self.refill(now);
        if !self.places.contains_key(&link) {
            let start = self
                .virtual_time
                .max(self.served.get(&link).copied().unwrap_or(0));
            self.arrivals += 1;
            self.places.insert(link, (start, self.arrivals));
            self.line.insert((start, self.arrivals, link));
        }
        if self.front() != Some(link) {
            return Turn::Wait(None);
        }
        if self.level > 0 {
            // At most MAX_QUANTUM.
            Turn::Go(usize::try_from(self.quantum()).unwrap_or(usize::MAX))
        } else {
            Turn::Wait(Some(self.due()))
        }
    }

    /// A link had its turn and moved so many bytes, perhaps none.
    pub(crate) fn moved(&mut self, link: LinkId, bytes: usize) {
        if self.rate.is_none() {
            return;
        }
        let bytes = bytes as u64;
        self.level -= i128::from(bytes) * PARTS;
        if let Some((start, _)) = self.places.get(&link) {
            self.virtual_time = self.virtual_time.max(*start);
            self.served.insert(link, start.saturating_add(bytes));
        }
        self.leave(link);
    }

    /// A link has nothing to move any more.
    pub(crate) fn leave(&mut self, link: LinkId) {
        if let Some((start, arrival)) = self.places.remove(&link) {
            self.line.remove(&(start, arrival, link));
        }
    }

    /// A link has ended.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.leave(link);
        self.served.remove(&link);
    }

    /// Whose turn it is.
    pub(crate) fn front(&self) -> Option<LinkId> {
        self.line.first().map(|(_, _, link)| *link)
    }

    fn refill(&mut self, now: Time) {
        if let Some(rate) = self.rate {
            let micros = i128::try_from(now.since(self.at).as_micros()).unwrap_or(i128::MAX >> 64);
            self.level = (self.level + micros * i128::from(rate)).min(self.depth());
        }
        self.at = self.at.max(now);
    }

    /// When the bucket will hold something.
    fn due(&self) -> Time {
        let rate = i128::from(self.rate.unwrap_or(MAX_RATE));
        let micros = (PARTS - self.level).max(0) / rate + 1;
        self.at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn depth(&self) -> i128 {
        i128::from(self.rate.unwrap_or(0)) * i128::try_from(BURST.as_micros()).unwrap_or(0)
    }

    fn quantum(&self) -> u64 {
        (self.rate.unwrap_or(MAX_RATE) / TURNS).clamp(MIN_QUANTUM, MAX_QUANTUM)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);
    const C: LinkId = LinkId(3);

    /// Lets links move bytes whenever it is their turn, each in pieces of its own size, until `end`; returns what each moved.
    fn run<const N: usize>(shaper: &mut Shaper, links: [(LinkId, usize); N], end: Time) -> [u64; N] {
        let mut moved = [0; N];
        let mut now = shaper.at;
        while now < end {
            let mut next = None;
            for (index, (link, piece)) in links.iter().enumerate() {
                match shaper.ask(now, *link) {
                    Turn::Go(grant) => {
                        // Frames are whole: the last may go beyond the grant.
                        let bytes = grant.div_ceil(*piece) * piece;
                        shaper.moved(*link, bytes);
                        moved[index] += bytes as u64;
                        next = Some(now);
                    }
                    Turn::Wait(until) => next = next.or(until),
                }
            }
            now = next.unwrap_or(now + Duration::from_millis(1));
        }
        moved
    }

    #[test]
    fn a_rate_is_kept_and_reached() {
        for rate in [MIN_RATE, 1 << 20, 100 << 20] {
            let mut shaper = Shaper::new(Time(5), Some(rate));
            let [moved] = run(&mut shaper, [(A, 4096)], Time(10_000_005));
            let (least, most) = (rate * 10, rate * 10 + rate / 4 + MAX_QUANTUM + 4096);
            assert!((least..=most).contains(&moved), "{rate}: {moved}");
        }
    }

    #[test]
    fn links_share_by_bytes_whatever_they_send() {
        let mut shaper = Shaper::new(Time(0), Some(1 << 20));
        let moved = run(&mut shaper, [(A, 4096), (B, 36_864), (C, 500)], Time(60_000_000));
        let total: u64 = moved.iter().sum();
        for link in moved {
            let share = link as f64 / total as f64;
            assert!((0.32..0.35).contains(&share), "{moved:?}");
        }
    }

    #[test]
    fn who_comes_late_gets_its_turn_next() {
        let mut shaper = Shaper::new(Time(0), Some(MIN_RATE));
        let mut now = Time(0);
        // One link takes the burst and more.
        while let Turn::Go(grant) = shaper.ask(now, A) {
            shaper.moved(A, grant);
        }
        let Turn::Wait(Some(until)) = shaper.ask(now, B) else {
            panic!("B is first in line");
        };
        assert_eq!(shaper.ask(now, A), Turn::Wait(None));
        now = until;
        assert!(matches!(shaper.ask(now, B), Turn::Go(_)));
        shaper.moved(B, 4096);
        // Having been away saves nothing up: from here on they take turns.
        assert!(matches!(shaper.ask(now, B), Turn::Wait(None)));
        assert!(matches!(shaper.ask(now, A), Turn::Wait(Some(_))));
    }

    #[test]
    fn a_link_that_ends_or_falls_silent_holds_nobody_up() {
        let mut shaper = Shaper::new(Time(0), Some(1 << 20));
        assert!(matches!(shaper.ask(Time(0), A), Turn::Go(_)));
        assert_eq!(shaper.ask(Time(0), B), Turn::Wait(None));
        shaper.leave(A);
        assert!(matches!(shaper.ask(Time(0), B), Turn::Go(_)));
        shaper.moved(B, 500_000);
        assert!(matches!(shaper.ask(Time(0), B), Turn::Wait(Some(_))));
        shaper.forget(B);
        assert_eq!(shaper.front(), None);
        assert!(shaper.places.is_empty() && !shaper.served.contains_key(&B));
    }

    #[test]
    fn a_changed_rate_holds_from_then_on() {
        let mut shaper = Shaper::new(Time(0), None);
        assert_eq!(shaper.ask(Time(0), A), Turn::Go(usize::MAX));
        shaper.set_rate(Time(0), Some(1 << 20));
        run(&mut shaper, [(A, 4096)], Time(1_000_000));
        shaper.set_rate(Time(1_000_000), Some(2 << 20));
        let [moved] = run(&mut shaper, [(A, 4096)], Time(11_000_000));
        assert!((20 << 20..=21 << 20).contains(&moved), "{moved}");
        shaper.set_rate(Time(11_000_000), None);
        assert_eq!(shaper.ask(Time(11_000_000), B), Turn::Go(usize::MAX));
        // Whatever is asked for, the machine stays within what it can compute, and what links can live with.
        shaper.set_rate(Time(11_000_000), Some(1));
        assert_eq!(shaper.rate, Some(MIN_RATE));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_never_stuck(
            rate in MIN_RATE..1 << 30,
            steps in proptest::collection::vec((0u64..4, 0usize..70_000, 0u64..20_000), 1..300),
        ) {
            let mut shaper = Shaper::new(Time(0), Some(rate));
            let (mut now, mut total, mut largest) = (Time(0), 0u64, 0u64);
            for (link, bytes, pause) in steps {
                now = now + Duration::from_micros(pause);
                let link = LinkId(link);
                match shaper.ask(now, link) {
                    Turn::Go(_) => {
                        shaper.moved(link, bytes);
                        total += bytes as u64;
                        largest = largest.max(bytes as u64);
                    }
                    Turn::Wait(Some(until)) => prop_assert!(until > now),
                    Turn::Wait(None) => prop_assert!(shaper.front().is_some_and(|front| front != link)),
                }
            }
            let bound = u128::from(rate) * u128::from(now.0 + 250_000) / 1_000_000 + u128::from(largest);
            prop_assert!(u128::from(total) <= bound, "{total} of {bound}");
        }
    }
}
