//! Blocks on their way to nodes that lack them: what waits, what is under way, and what was pushed lately.
//!
//! At most one block is under way on a link and [`MAX_PUSHING`] altogether. A block goes to one node once in [`PUSHED_TIME`], whatever
//! that node claims to lack; only if its link breaks meanwhile, it may be tried again.

use std::collections::{BTreeMap, VecDeque};

use warren_keys::{BlockId, Location};

use super::{
    census::Wish,
    limits::{MAX_PUSHED, MAX_PUSHING, MAX_QUEUED, PUSH_WAIT, PUSHED_TIME},
};
use crate::{
    ids::{LinkId, RequestId},
    routing::Recent,
    time::Time,
};

/// A block for a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Push {
    pub(super) block: BlockId,
    pub(super) place: Location,
    pub(super) link: LinkId,
}

/// Which block went where. Two pairs look alike with probability 2^-64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mark(u64);

impl Mark {
    /// The second eight bytes of the key: the first are alike among the keys of a neighbourhood.
    fn of(push: &Push) -> Self {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *push.block.key.as_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ push.place.as_u64())
    }
}

#[derive(Debug)]
pub(super) struct Pushes {
    queue: VecDeque<Push>,
    /// Read from the datastore at this moment.
    reading: Option<Push>,
    under_way: BTreeMap<RequestId, (Push, Time)>,
    lately: Recent<Mark, ()>,
}

impl Pushes {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            reading: None,
            under_way: BTreeMap::new(),
            lately: Recent::new(MAX_PUSHED, PUSHED_TIME),
        }
    }

    /// Whether there is a point in pushing this.
    pub(super) fn wanted(&self, now: Time, wish: &Wish) -> bool {
        let push = Push::from(wish);
        let waits = || {
            self.queue
                .iter()
                .chain(&self.reading)
                .any(|known| known.block == push.block && known.place == push.place)
        };
        self.queue.len() < MAX_QUEUED && self.lately.find(now, &Mark::of(&push)).is_none() && !waits()
    }

    pub(super) fn add(&mut self, wish: &Wish) {
        self.queue.push_back(Push::from(wish));
    }

    /// The next block to read: the first whose link is free.
    pub(super) fn start_reading(&mut self) -> Option<Push> {
        if self.reading.is_some() || self.under_way.len() >= MAX_PUSHING {
            return None;
        }
        let free = |push: &Push| !self.under_way.values().any(|(other, _)| other.link == push.link);
        let at = self.queue.iter().position(free)?;
        self.reading = self.queue.remove(at);
        self.reading
    }

    /// The block has been read, or could not be. Gives the push back if it is still wanted.
    pub(super) fn read(&mut self) -> Option<Push> {
        self.reading.take()
    }

    pub(super) fn sent(&mut self, now: Time, id: RequestId, push: Push) {
        self.lately.insert(now, Mark::of(&push), ());
        self.under_way.insert(id, (push, now + PUSH_WAIT));
    }

    /// The receiver has answered.
    pub(super) fn answered(&mut self, from: LinkId, id: RequestId) -> Option<Push> {
        let known = self.under_way.get(&id).is_some_and(|(push, _)| push.link == from);
        if !known {
            return None;
        }
        self.under_way.remove(&id).map(|(push, _)| push)
    }

    /// It may be brought there again.
    pub(super) fn forget(&mut self, push: &Push) {
        self.lately.remove(&Mark::of(push));
    }

    /// Nothing more for this link: it is gone, or does not want it.
    pub(super) fn clear(&mut self, link: LinkId) {
        self.queue.retain(|push| push.link != link);
        self.reading = self.reading.take().filter(|push| push.link != link);
    }

    /// The link is gone.
    pub(super) fn lost_link(&mut self, link: LinkId) {
        self.clear(link);
        let lost: Vec<RequestId> = self
            .under_way
            .iter()
            .filter(|(_, (push, _))| push.link == link)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some((push, _)) = self.under_way.remove(&id) {
                self.forget(&push);
            }
        }
    }

    /// A push that has gone without an answer for too long.
    pub(super) fn expired(&mut self, now: Time) -> Option<Push> {
        let id = self
            .under_way
            .iter()
            .find(|(_, (_, until))| *until <= now)
            .map(|(id, _)| *id)?;
        self.under_way.remove(&id).map(|(push, _)| push)
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.under_way.values().map(|(_, until)| *until).min()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

impl From<&Wish> for Push {
    fn from(wish: &Wish) -> Self {
        Self {
            block: wish.block,
            place: wish.place,
            link: wish.link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_keys::RoutingKey;

    fn wish(key: u8, link: u64) -> Wish {
        Wish {
            block: BlockId::content(RoutingKey::from_bytes([key; 32])),
            place: Location::new(link << 60),
            link: LinkId(link),
            copies: 1,
        }
    }

    fn send(pushes: &mut Pushes, now: Time, number: u64) -> Option<Push> {
        let push = pushes.start_reading()?;
        assert_eq!(pushes.read(), Some(push));
        pushes.sent(now, RequestId(number), push);
        Some(push)
    }

    #[test]
    fn one_on_a_link_and_few_altogether() {
        let mut pushes = Pushes::new();
        for (key, link) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5)] {
            pushes.add(&wish(key, link));
        }
        let links: Vec<u64> = (0..6)
            .filter_map(|n| send(&mut pushes, Time(0), n))
            .map(|push| push.link.0)
            .collect();
        assert_eq!(links, [1, 2, 3, 4]);
        assert_eq!(pushes.answered(LinkId(2), RequestId(0)), None);
        assert!(pushes.answered(LinkId(1), RequestId(0)).is_some());
        assert!(pushes.answered(LinkId(1), RequestId(0)).is_none());
        assert_eq!(
            send(&mut pushes, Time(0), 9).map(|push| push.block),
            Some(wish(2, 1).block)
        );
        assert_eq!((pushes.queued(), pushes.under_way()), (1, MAX_PUSHING));
        assert_eq!(pushes.next_expiry(), Some(Time(0) + PUSH_WAIT));
        assert_eq!(
            (0..9).filter_map(|_| pushes.expired(Time(0) + PUSH_WAIT)).count(),
            MAX_PUSHING
        );
    }

    #[test]
    fn a_block_goes_to_a_node_once_in_a_while_unless_the_link_broke() {
        let mut pushes = Pushes::new();
        let now = Time(1);
        assert!(pushes.wanted(now, &wish(1, 1)));
        pushes.add(&wish(1, 1));
        assert!(
            !pushes.wanted(now, &wish(1, 1))
                && pushes.wanted(now, &wish(1, 2))
                && pushes.wanted(now, &wish(2, 1))
        );
        send(&mut pushes, now, 1);
        pushes.answered(LinkId(1), RequestId(1));
        let soon = now + PUSHED_TIME / 2;
        assert!(!pushes.wanted(soon, &wish(1, 1)));
        assert!(pushes.wanted(now + PUSHED_TIME, &wish(1, 1)));
        pushes.add(&wish(2, 1));
        send(&mut pushes, now, 2);
        pushes.lost_link(LinkId(1));
        assert!(pushes.wanted(soon, &wish(2, 1)));
        for key in 0..=255 {
            pushes.add(&wish(key, 3));
        }
        assert!(!pushes.wanted(now, &wish(7, 4)));
        pushes.clear(LinkId(3));
        assert!(pushes.wanted(now, &wish(7, 4)) && pushes.start_reading().is_none());
    }
}
