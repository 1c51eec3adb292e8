//! The nodes that this node knows of: signed descriptors, the newest of each node, ordered by place on the ring.
//!
//! Bounded: when full, a newcomer displaces a random entry that is neither near this node nor in use. A random sample of the
//! network is what remains, which is what clients and long links need; all near nodes stay, which is what the ring needs.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::{Location, NodeId};

use super::limits::{DISPLACE_TRIES, SHELTERED_PER_SIDE};
use crate::{descriptor::Descriptor, time::WallTime};

/// What became of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// The node was not known.
    New,
    /// It replaces an older one of the same node.
    Newer,
    /// Known already, out of date, or no room.
    Ignored,
}

/// The table.
#[derive(Debug)]
pub(super) struct Directory {
    me: NodeId,
    here: Location,
    /// The most that it holds.
    room: usize,
    entries: BTreeMap<NodeId, Descriptor>,
    /// Two nodes at one point are a wonder or an attack: the first stays.
    ring: BTreeMap<Location, NodeId>,
}

impl Directory {
    pub(super) fn new(me: NodeId, room: usize) -> Self {
        Self {
            me,
            room,
            here: me.location(),
            entries: BTreeMap::new(),
            ring: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, node: &NodeId) -> Option<&Descriptor> {
        self.entries.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.entries.values()
    }

    /// Takes a descriptor in. `in_use` names nodes that must not be displaced.
    pub(super) fn add(
        &mut self,
        wall: WallTime,
        descriptor: Descriptor,
        in_use: impl Fn(&NodeId) -> bool,
        rng: &mut ChaCha20Rng,
    ) -> Added {
        let node = descriptor.identity;
        if node == self.me || !descriptor.is_current(wall) {
            return Added::Ignored;
        }
        if let Some(known) = self.entries.get_mut(&node) {
            if known.published >= descriptor.published {
                return Added::Ignored;
            }
            *known = descriptor;
            return Added::Newer;
        }
        let location = node.location();
        if self.ring.contains_key(&location) {
            return Added::Ignored;
        }
        if self.entries.len() >= self.room && !self.displace(in_use, rng) {
            return Added::Ignored;
        }
        self.ring.insert(location, node);
        self.entries.insert(node, descriptor);
        Added::New
    }

    /// Forgets what is out of date.
    pub(super) fn expire(&mut self, wall: WallTime, in_use: impl Fn(&NodeId) -> bool) {
        let ring = &mut self.ring;
        self.entries.retain(|node, descriptor| {
            let stays = descriptor.is_current(wall) || in_use(node);
            if !stays {
                ring.remove(&node.location());
            }
            stays
        });
    }

    /// The nodes from `from` upwards round the ring, each once.
    pub(super) fn clockwise(&self, from: Location) -> impl Iterator<Item = (Location, NodeId)> {
        self.ring
            .range(from..)
            .chain(self.ring.range(..from))
            .map(|(at, node)| (*at, *node))
    }

    /// The nodes from `from` downwards round the ring, each once.
    pub(super) fn anticlockwise(&self, from: Location) -> impl Iterator<Item = (Location, NodeId)> {
        self.ring
            .range(..from)
            .rev()
            .chain(self.ring.range(from..).rev())
            .map(|(at, node)| (*at, *node))
    }

    /// The nodes nearest to a point, nearest first.
    pub(super) fn nearest(&self, point: Location) -> impl Iterator<Item = (Location, NodeId)> {
        let mut up = self.clockwise(point).peekable();
        let mut down = self.anticlockwise(point).peekable();
        let mut left = self.ring.len();
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let upper = up.peek().map(|(at, _)| point.distance(*at));
            let lower = down.peek().map(|(at, _)| point.distance(*at));
            // Both walks cover the whole ring, so neither ends before `left` does.
            if upper <= lower { up.next() } else { down.next() }
        })
    }

    /// Up to `count` nodes at random: those that follow random points. Draws may repeat themselves.
    pub(super) fn sample(&self, count: usize, rng: &mut ChaCha20Rng) -> impl Iterator<Item = NodeId> {
        (0..count)
            .filter_map(|_| self.clockwise(Location::new(rng.next_u64())).next())
            .map(|(_, node)| node)
    }

    fn displace(&mut self, in_use: impl Fn(&NodeId) -> bool, rng: &mut ChaCha20Rng) -> bool {
        let sheltered: BTreeSet<NodeId> = self
            .clockwise(self.here)
            .take(SHELTERED_PER_SIDE)
            .chain(self.anticlockwise(self.here).take(SHELTERED_PER_SIDE))
            .map(|(_, node)| node)
            .collect();
        for _ in 0..DISPLACE_TRIES {
            // Random by place, not by rank: costs no walk. Nodes after a gap go more often, which evens out crowded places.
            let point = Location::new(rng.next_u64());
            let Some((at, node)) = self.clockwise(point).next() else {
                return false;
            };
            if !sheltered.contains(&node) && !in_use(&node) {
                self.ring.remove(&at);
                self.entries.remove(&node);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{super::limits::MAX_KNOWN, *};
    use crate::descriptor::fixtures;
    use rand_core::SeedableRng;

    #[test]
    fn a_full_directory_keeps_its_near_nodes_and_those_in_use() {
        let all: Vec<Descriptor> = (0..4500).map(fixtures::node).collect();
        let (me, wall) = (all[0].identity, WallTime(all[0].published));
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut directory = Directory::new(me, MAX_KNOWN);
        let in_use = |node: &NodeId| *node == all[7].identity;
        for descriptor in &all {
            directory.add(wall, descriptor.clone(), in_use, &mut rng);
        }
        assert_eq!(directory.len(), MAX_KNOWN);
        assert!(directory.find(&me).is_none() && directory.find(&all[7].identity).is_some());
        let mut others: Vec<&Descriptor> = all[1..].iter().collect();
        others.sort_by_key(|other| me.location().clockwise(other.location()));
        let near = others
            .iter()
            .take(SHELTERED_PER_SIDE)
            .chain(others.iter().rev().take(SHELTERED_PER_SIDE));
        assert!(
            near.map(|other| other.identity)
                .all(|node| directory.find(&node).is_some())
        );
        let point = Location::new(1 << 60);
        let nearest: Vec<u64> = directory
            .nearest(point)
            .map(|(at, _)| point.distance(at))
            .collect();
        assert!(nearest.len() == MAX_KNOWN && nearest.is_sorted());
        directory.expire(WallTime(wall.0 + 30 * 24 * 3600), in_use);
        assert_eq!((directory.len(), directory.ring.len()), (1, 1));
    }
}
