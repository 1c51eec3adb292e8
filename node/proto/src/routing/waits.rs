//! Who waits for which block (protocol §7.13).
//!
//! A search in vain that was marked so leaves a row at each node on its way: who is to get the block when it arrives, and
//! which neighbours have been asked to tell. A block that comes by, whatever brings it, goes back along the rows, and each
//! row is forgotten by that. Rows expire; who still waits asks again before.
//!
//! # Invariants
//!
//! 1. A pushed block is taken only from a neighbour that was asked for it within [`WAIT_TIME`] (and [`LATE`]), once.
//! 2. A neighbour's rows are counted; at its bound only its own requests wait no more. Of what is asked of one neighbour, no
//!    asker has more than its share, so that who floods does not use up the next node's patience with this one.
//! 3. Every party of a row has a time at which it is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use warren_keys::BlockId;

use super::{
    fetch::Width,
    limits::{
        LATE, MAX_WAITS, MAX_WAITS_OF_EXIT, MAX_WAITS_OF_LINK, SHARE_OF_EXIT, SHARE_OF_LINK, WAIT_TIME,
    },
};
use crate::{
    ids::{LinkId, RequestId},
    time::Time,
};

/// Who gets the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Waiter {
    /// A neighbour.
    Link(LinkId),
    /// A request of this node as an exit.
    Exit(RequestId),
}

/// On whose behalf a neighbour was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    Link(LinkId),
    /// This node as an exit, or as one that looks for another way.
    Here,
}

/// How far a search went on from here, to repeat it when a way is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) width: Width,
    /// Distance from the key to the nearest node on the path, this node included.
    pub(super) best: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Party {
    Waiter(Waiter),
    Asked(LinkId),
}

#[derive(Debug)]
struct Row {
    waiters: BTreeMap<Waiter, Time>,
    asked: BTreeMap<LinkId, (Source, Time)>,
    reach: Reach,
}

#[derive(Debug, Default)]
pub(super) struct Waits {
    rows: BTreeMap<BlockId, Row>,
    /// What a request of an exit waits for.
    exits: BTreeMap<RequestId, BlockId>,
    timers: BTreeSet<(Time, BlockId, Party)>,
    waiters: usize,
    of_link: BTreeMap<LinkId, usize>,
    placed: BTreeMap<(Source, LinkId), usize>,
}

impl Waits {
    /// Remembers that `waiter` waits for `block`, or that it still does. False at a bound: then it does not.
    pub(super) fn enter(&mut self, now: Time, block: BlockId, waiter: Waiter, reach: Reach) -> bool {
        let known = self.rows.get(&block).and_then(|row| row.waiters.get(&waiter));
        match (known.copied(), waiter) {
            (Some(until), _) => {
                self.timers.remove(&(until, block, Party::Waiter(waiter)));
            }
            (None, _) if self.waiters >= MAX_WAITS => return false,
            (None, Waiter::Exit(_)) if self.exits.len() >= MAX_WAITS_OF_EXIT => return false,
            (None, Waiter::Exit(request)) => {
                self.exits.insert(request, block);
                self.waiters += 1;
            }
            (None, Waiter::Link(link)) => {
                let count = self.of_link.entry(link).or_default();
                if *count >= MAX_WAITS_OF_LINK {
                    return false;
                }
                *count += 1;
                self.waiters += 1;
            }
        }
        let until = now + WAIT_TIME;
        let row = self.row(block, reach);
        row.waiters.insert(waiter, until);
        row.reach = reach;
        self.timers.insert((until, block, Party::Waiter(waiter)));
        true
    }

    /// Remembers that `link` is asked to tell of `block`. False when `source` has its share there: then it must not be asked.
    pub(super) fn place(
        &mut self,
        now: Time,
        block: BlockId,
        link: LinkId,
        source: Source,
        reach: Reach,
    ) -> bool {
        self.unplace(block, link);
        let share = match source {
            Source::Link(_) => SHARE_OF_LINK,
            Source::Here => SHARE_OF_EXIT,
        };
        let count = self.placed.entry((source, link)).or_default();
        if *count >= share {
            return false;
        }
        *count += 1;
        let until = now + WAIT_TIME + LATE;
        self.row(block, reach).asked.insert(link, (source, until));
        self.timers.insert((until, block, Party::Asked(link)));
        true
    }

    /// `link` will not tell of `block` (any more). Whether it had been asked to.
    pub(super) fn unplace(&mut self, block: BlockId, link: LinkId) -> bool {
        let Some(row) = self.rows.get_mut(&block) else {
            return false;
        };
        let Some((source, until)) = row.asked.remove(&link) else {
            return false;
        };
        let empty = row.is_empty();
        self.timers.remove(&(until, block, Party::Asked(link)));
        self.settle_placed(source, link);
        if empty {
            self.rows.remove(&block);
        }
        true
    }

    /// The block is here: all who wait for it, who are forgotten by that.
    pub(super) fn take(&mut self, block: BlockId) -> Vec<Waiter> {
        let Some(row) = self.rows.remove(&block) else {
            return Vec::new();
        };
        for (link, (source, until)) in row.asked {
            self.timers.remove(&(until, block, Party::Asked(link)));
            self.settle_placed(source, link);
        }
        for (waiter, until) in &row.waiters {
            self.timers.remove(&(*until, block, Party::Waiter(*waiter)));
            self.settle_waiter(*waiter);
        }
        row.waiters.into_keys().collect()
    }

    /// A request of an exit is not wanted any more.
    pub(super) fn cancel(&mut self, request: RequestId) {
        if let Some(block) = self.exits.get(&request).copied() {
            self.leave(block, Waiter::Exit(request));
        }
    }

    /// A link is gone. What others wait for and it was asked for has to be asked for elsewhere.
    pub(super) fn lost_link(&mut self, link: LinkId) -> Vec<(BlockId, Reach)> {
        let concerned =
            |row: &Row| row.asked.contains_key(&link) || row.waiters.contains_key(&Waiter::Link(link));
        let blocks: Vec<BlockId> = self
            .rows
            .iter()
            .filter(|(_, row)| concerned(row))
            .map(|(block, _)| *block)
            .collect();
        let mut lost = Vec::new();
        for block in blocks {
            self.leave(block, Waiter::Link(link));
            let asked = self.unplace(block, link);
            if let Some(row) = self
                .rows
                .get(&block)
                .filter(|row| asked && !row.waiters.is_empty())
            {
                lost.push((block, row.reach));
            }
        }
        lost
    }

    /// When [`Waits::expire`] is due.
    pub(super) fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Forgets who has waited too long; gives the requests of exits among them.
    pub(super) fn expire(&mut self, now: Time) -> Vec<RequestId> {
        let mut ended = Vec::new();
        while let Some((_, block, party)) = self.timers.first().copied().filter(|(at, ..)| *at <= now) {
            match party {
                Party::Asked(link) => {
                    self.unplace(block, link);
                }
                Party::Waiter(waiter) => {
                    self.leave(block, waiter);
                    if let Waiter::Exit(request) = waiter {
                        ended.push(request);
                    }
                }
            }
        }
        ended
    }

    /// Parties that wait for something.
    pub(super) fn len(&self) -> usize {
        self.waiters
    }

    fn row(&mut self, block: BlockId, reach: Reach) -> &mut Row {
        self.rows.entry(block).or_insert_with(|| Row {
            waiters: BTreeMap::new(),
            asked: BTreeMap::new(),
            reach,
        })
    }

    fn leave(&mut self, block: BlockId, waiter: Waiter) {
        let Some(row) = self.rows.get_mut(&block) else {
            return;
        };
        let Some(until) = row.waiters.remove(&waiter) else {
            return;
        };
        let empty = row.is_empty();
        self.timers.remove(&(until, block, Party::Waiter(waiter)));
        self.settle_waiter(waiter);
        if empty {
            self.rows.remove(&block);
        }
    }

    fn settle_waiter(&mut self, waiter: Waiter) {
        self.waiters = self.waiters.saturating_sub(1);
        match waiter {
            Waiter::Exit(request) => {
                self.exits.remove(&request);
            }
            Waiter::Link(link) => count_down(&mut self.of_link, link),
        }
    }

    fn settle_placed(&mut self, source: Source, link: LinkId) {
        count_down(&mut self.placed, (source, link));
    }
}

impl Row {
    fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.asked.is_empty()
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_keys::RoutingKey;

    use super::*;

    const REACH: Reach = Reach {
        width: Width {
            htl: 5,
            stale: 0,
            branches: 3,
            wait: true,
        },
        best: 9,
    };

    fn key(number: u64) -> BlockId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        BlockId::content(RoutingKey::from_bytes(bytes))
    }

    fn link(number: u64) -> Waiter {
        Waiter::Link(LinkId(number))
    }

    #[test]
    fn all_who_wait_get_it_once() {
        let mut waits = Waits::default();
        let exit = Waiter::Exit(RequestId(7));
        assert!(waits.enter(Time(0), key(1), link(1), REACH));
        assert!(waits.enter(Time(1), key(1), link(1), REACH));
        assert!(waits.enter(Time(1), key(1), exit, REACH));
        assert!(waits.place(Time(1), key(1), LinkId(2), Source::Here, REACH));
        assert_eq!((waits.len(), waits.take(key(2))), (2, Vec::new()));
        assert_eq!(waits.take(key(1)), [link(1), exit]);
        assert_eq!((waits.take(key(1)), waits.len()), (Vec::new(), 0));
        assert!(!waits.unplace(key(1), LinkId(2)));
        assert_eq!(waits.next_wake(), None);
    }

    #[test]
    fn rows_expire_and_are_renewed() {
        let mut waits = Waits::default();
        waits.enter(Time(0), key(1), Waiter::Exit(RequestId(7)), REACH);
        waits.enter(Time(0), key(1), link(1), REACH);
        waits.place(Time(0), key(1), LinkId(2), Source::Link(LinkId(1)), REACH);
        let first = Time(0) + WAIT_TIME;
        assert_eq!(waits.next_wake(), Some(first));
        waits.enter(Time(5), key(1), link(1), REACH);
        assert_eq!(waits.expire(first), [RequestId(7)]);
        assert_eq!((waits.len(), waits.next_wake()), (1, Some(Time(5) + WAIT_TIME)));
        assert!(waits.expire(first + LATE).is_empty());
        assert!(!waits.unplace(key(1), LinkId(2)), "forgotten");
        assert_eq!((waits.next_wake(), waits.rows.len()), (None, 0));
    }

    #[test]
    fn a_lost_link_frees_its_rows_and_names_what_is_asked_for_no_more() {
        let mut waits = Waits::default();
        waits.enter(Time(0), key(1), link(1), REACH);
        waits.place(Time(0), key(1), LinkId(2), Source::Link(LinkId(1)), REACH);
        waits.enter(Time(0), key(2), link(2), REACH);
        waits.place(Time(0), key(3), LinkId(2), Source::Here, REACH);
        let lost: Vec<BlockId> = waits
            .lost_link(LinkId(2))
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(lost, [key(1)], "for the others nobody waits");
        assert_eq!((waits.len(), waits.rows.len()), (1, 1));
        assert!(waits.lost_link(LinkId(1)).is_empty());
        assert!(waits.rows.is_empty() && waits.timers.is_empty());
    }

    #[test]
    fn who_floods_uses_up_only_what_is_his() {
        let mut waits = Waits::default();
        let flood = (0..2 * MAX_WAITS_OF_LINK as u64)
            .filter(|number| waits.enter(Time(0), key(*number), link(1), REACH))
            .count();
        assert_eq!(flood, MAX_WAITS_OF_LINK);
        assert!(waits.enter(Time(0), key(9), link(1), REACH), "it may renew");
        assert!(waits.enter(Time(0), key(u64::MAX), link(2), REACH));
        assert!(waits.enter(Time(0), key(u64::MAX), Waiter::Exit(RequestId(1)), REACH));
        let placed = |waits: &mut Waits, from: u64, source| {
            (from..from + 2 * SHARE_OF_LINK as u64)
                .filter(|number| waits.place(Time(0), key(*number), LinkId(9), source, REACH))
                .count()
        };
        assert_eq!(placed(&mut waits, 0, Source::Link(LinkId(1))), SHARE_OF_LINK);
        assert_eq!(placed(&mut waits, 10_000, Source::Link(LinkId(2))), SHARE_OF_LINK);
    }

    #[test]
    fn all_together_are_bounded() {
        let mut waits = Waits::default();
        let mut entered = 0;
        for number in 0..2 * MAX_WAITS as u64 {
            let waiter = link(number / 512);
            entered += usize::from(waits.enter(Time(0), key(number), waiter, REACH));
        }
        assert_eq!((entered, waits.len()), (MAX_WAITS, MAX_WAITS));
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_the_rows(steps in proptest::collection::vec((0_u8..7, 0_u64..4, 0_u64..4, 0_u64..40), 0..200)) {
            let (mut waits, mut now) = (Waits::default(), Time(0));
            for (what, block, party, later) in steps {
                now = now + core::time::Duration::from_secs(later);
                match what {
                    0 => _ = waits.enter(now, key(block), link(party), REACH),
                    1 => _ = waits.enter(now, key(block), Waiter::Exit(RequestId(block * 4 + party)), REACH),
                    2 => _ = waits.place(now, key(block), LinkId(party), Source::Link(LinkId(later % 4)), REACH),
                    3 => _ = waits.take(key(block)),
                    4 => waits.cancel(RequestId(block * 4 + party)),
                    5 => _ = waits.lost_link(LinkId(party)),
                    _ => _ = waits.expire(now),
                }
                let waiters: usize = waits.rows.values().map(|row| row.waiters.len()).sum();
                let asked: usize = waits.rows.values().map(|row| row.asked.len()).sum();
                prop_assert_eq!(waits.len(), waiters);
                prop_assert_eq!(waits.of_link.values().sum::<usize>() + waits.exits.len(), waiters);
                prop_assert_eq!(waits.placed.values().sum::<usize>(), asked);
                prop_assert_eq!(waits.timers.len(), waiters + asked);
                prop_assert!(waits.rows.values().all(|row| !row.is_empty()));
            }
        }
    }
}
