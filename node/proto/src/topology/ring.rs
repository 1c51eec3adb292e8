//! Which links the ring needs: the nearest nodes on both sides, and long ones with density 1/distance (Kleinberg).
//!
//! The logarithm of the distance, from the farthest near node to half the ring, is cut into equal parts on each side. One
//! link into each part gives the harmonic density, and makes "which long link is missing" a question with an answer: a
//! part is served by any link that leads into it, whoever dialled it.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use warren_keys::{Location, NodeId};

use super::{
    directory::{Directory, Entry},
    limits::LONG_CHOICE,
};
use crate::{
    descriptor::Descriptor,
    random::{below, sample},
};

/// Half the ring.
const FARTHEST: u64 = 1 << 63;

/// What the ring needs at present.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// Linked nodes that the ring needs: near, or the one that serves a part.
    pub(super) needed: BTreeSet<NodeId>,
    /// Near nodes among `needed`.
    pub(super) near: BTreeSet<NodeId>,
    /// Nodes to link to, most important first.
    pub(super) missing: Vec<Descriptor>,
    /// A point in each part that has no link and in which nobody is known.
    pub(super) empty: Vec<Location>,
}

/// How many links of each kind there are to be on each side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) near: usize,
    pub(super) long: usize,
}

/// One side of the ring, seen from a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Up,
    Down,
}

impl Side {
    fn reach(self, here: Location, there: Location) -> u64 {
        match self {
            Self::Up => here.clockwise(there),
            Self::Down => there.clockwise(here),
        }
    }

    fn point(self, here: Location, reach: u64) -> Location {
        Location::new(match self {
            Self::Up => here.as_u64().wrapping_add(reach),
            Self::Down => here.as_u64().wrapping_sub(reach),
        })
    }
}

/// Plans the links of the node at `here`.
///
/// `linked` are its links' nodes; `usable` says which other nodes could be linked to now; with `fill` random nodes stand in for
/// parts of the ring in which nobody is known.
pub(super) fn plan(
    here: Location,
    shape: Shape,
    directory: &Directory,
    linked: &BTreeMap<NodeId, Location>,
    usable: impl Fn(&Entry) -> bool,
    fill: bool,
    rng: &mut ChaCha20Rng,
) -> Plan {
    let mut plan = Plan::default();
    let is_linked = |entry: &Entry| linked.contains_key(&entry.descriptor.identity);
    let mut starts = [(Side::Up, 1), (Side::Down, 1)];
    for (side, start) in &mut starts {
        let walk: &mut dyn Iterator<Item = &Entry> = match side {
            Side::Up => &mut directory.clockwise(here),
            Side::Down => &mut directory.anticlockwise(here),
        };
        let fits = walk.filter(|entry| is_linked(entry) || usable(entry));
        for entry in fits.take(shape.near) {
            if is_linked(entry) {
                plan.needed.insert(entry.descriptor.identity);
                plan.near.insert(entry.descriptor.identity);
            } else {
                plan.miss(&entry.descriptor);
            }
            *start = (*start).max(side.reach(here, entry.descriptor.location()));
        }
    }
    for (side, start) in starts {
        for part in 0..shape.long {
            let (from, to) = long_part(start, part, shape.long);
            let inside = |at: Location| (from.saturating_add(1)..=to).contains(&side.reach(here, at));
            if let Some(node) = linked.iter().find(|(_, at)| inside(**at)) {
                plan.needed.insert(*node.0);
                continue;
            }
            let reach = from.saturating_add(scaled(rng, to.saturating_sub(from)));
            let target = side.point(here, reach);
            // The part's own nodes from its edge on, for when a node outside is nearer to the point than any inside.
            let edge = side.point(
                here,
                if side == Side::Up {
                    from.saturating_add(1)
                } else {
                    to
                },
            );
            let within = |entry: &&Entry| inside(entry.descriptor.location());
            let nearest = directory.nearest(target).take_while(within);
            let choice: Vec<&Entry> = nearest.filter(|entry| usable(entry)).take(LONG_CHOICE).collect();
            let candidate = if choice.is_empty() {
                let mut part = directory.clockwise(edge).take_while(within);
                part.find(|entry| usable(entry))
            } else {
                choice.get(below(rng, choice.len())).copied()
            };
            match candidate {
                Some(entry) => plan.miss(&entry.descriptor),
                None if from < to => plan.empty.push(target),
                None => {}
            }
        }
    }
    // Small networks, and parts of the ring that hold nobody: more links shorten paths all the same.
    let room = (2 * (shape.near + shape.long)).saturating_sub(linked.len() + plan.missing.len());
    if fill && room > 0 {
        let spare = directory
            .iter()
            .filter(|entry| !is_linked(entry) && !plan.misses(&entry.descriptor) && usable(entry));
        let spare: Vec<Descriptor> = spare.map(|entry| entry.descriptor.clone()).collect();
        plan.missing.extend(sample(rng, spare, room));
    }
    plan
}

impl Plan {
    fn misses(&self, node: &Descriptor) -> bool {
        self.missing
            .iter()
            .any(|missing| missing.identity == node.identity)
    }

    fn miss(&mut self, node: &Descriptor) {
        if !self.misses(node) {
            self.missing.push(node.clone());
        }
    }
}

/// One of `parts` equal parts of the logarithmic distance from `start`, the farthest near node, to half the ring: it holds the
/// reaches above the first number and up to the second. One long link leads into each (protocol §7.7).
#[must_use]
pub fn long_part(start: u64, part: usize, parts: usize) -> (u64, u64) {
    // The rounded cut lies a little below `start`: the near node there must not pass for a long link.
    (cut(start, part, parts).max(start), cut(start, part + 1, parts))
}

/// End of the `part`-th of `parts` parts: `start` times (half the ring / `start`) to the power of part/parts, the logarithm taken
/// piecewise linear between powers of two so that all platforms agree.
fn cut(start: u64, part: usize, parts: usize) -> u64 {
    let low = log2(start);
    let high = log2(FARTHEST);
    let span = high.saturating_sub(low);
    exp2(low + span * part as u64 / parts.max(1) as u64).min(FARTHEST)
}

/// 2^16 times the logarithm.
fn log2(value: u64) -> u64 {
    let value = value.max(1);
    let whole = u64::from(value.ilog2());
    let fraction = if whole >= 16 {
        value >> (whole - 16)
    } else {
        value << (16 - whole)
    };
    (whole << 16) | (fraction & 0xffff)
}

fn exp2(logarithm: u64) -> u64 {
    let whole = logarithm >> 16;
    let fraction = u128::from((logarithm & 0xffff) | 0x1_0000);
    u64::try_from(if whole >= 16 {
        fraction << (whole - 16)
    } else {
        fraction >> (16 - whole)
    })
    .unwrap_or(u64::MAX)
}

/// A number from 0 to `most`. Within one part the density hardly varies, so it is drawn evenly.
fn scaled(rng: &mut ChaCha20Rng, most: u64) -> u64 {
    below(rng, usize::try_from(most).unwrap_or(usize::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            directory::Source,
            limits::{LONG_PER_SIDE, NEAR_PER_SIDE, WANTED_LINKS},
        },
        *,
    };
    use crate::{
        descriptor::fixtures,
        time::{Time, WallTime},
    };
    use rand_core::SeedableRng;

    const SHAPE: Shape = Shape {
        near: NEAR_PER_SIDE,
        long: LONG_PER_SIDE,
    };

    fn directory(nodes: u16) -> (Directory, Vec<Descriptor>) {
        let all: Vec<Descriptor> = (0..nodes).map(fixtures::node).collect();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut directory = Directory::new(all[0].identity, 4096, &mut rng);
        for descriptor in &all {
            let wall = WallTime(descriptor.published);
            directory.add(Time(0), wall, descriptor.clone(), Source::Memory, |_| false);
        }
        (directory, all)
    }

    #[test]
    fn cuts_are_harmonic_and_end_at_half_the_ring() {
        for start in [1, 1000, 1 << 40, (1 << 62) + 12_345] {
            let parts: Vec<(u64, u64)> = (0..LONG_PER_SIDE)
                .map(|part| long_part(start, part, LONG_PER_SIDE))
                .collect();
            assert_eq!((parts[0].0, parts[LONG_PER_SIDE - 1].1), (start, FARTHEST));
            assert!(
                parts
                    .windows(2)
                    .all(|pair| pair[0].1 == pair[1].0 && pair[0].0 <= pair[0].1)
            );
        }
        assert!(long_part(1 << 51, 6, LONG_PER_SIDE).0.ilog2() == 57);
    }

    #[test]
    fn near_nodes_come_first_and_all_parts_are_served() {
        let (directory, all) = directory(300);
        let here = all[0].location();
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut linked = BTreeMap::new();
        let first = plan(here, SHAPE, &directory, &linked, |_| true, true, &mut rng);
        let mut by_distance: Vec<&Descriptor> = all[1..].iter().collect();
        by_distance.sort_by_key(|d| here.clockwise(d.location()));
        for near in by_distance.iter().take(4).chain(by_distance.iter().rev().take(4)) {
            assert!(first.missing[..8].contains(near));
        }
        assert!(first.missing.len() >= WANTED_LINKS && first.missing.len() <= WANTED_LINKS + 8);
        linked.extend(first.missing.iter().map(|node| (node.identity, node.location())));
        let second = plan(here, SHAPE, &directory, &linked, |_| true, true, &mut rng);
        assert_eq!((second.missing.len(), second.near.len()), (0, 8));
        let gone = *second.needed.iter().next().unwrap();
        linked.remove(&gone);
        let usable = |entry: &Entry| entry.descriptor.identity != gone;
        let third = plan(here, SHAPE, &directory, &linked, usable, true, &mut rng);
        assert!(third.missing.iter().all(|node| node.identity != gone));
    }

    #[test]
    fn no_node_is_chosen_much_more_often_than_others() {
        let (directory, all) = directory(300);
        let here = all[0].location();
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut chosen: BTreeMap<NodeId, usize> = BTreeMap::new();
        for _ in 0..1000 {
            let plan = plan(
                here,
                SHAPE,
                &directory,
                &BTreeMap::new(),
                |_| true,
                false,
                &mut rng,
            );
            for node in plan.missing {
                *chosen.entry(node.identity).or_default() += 1;
            }
        }
        // The widest part of one side, which has the most nodes and so the widest gaps.
        let (from, _) = long_part(FARTHEST / 256, LONG_PER_SIDE - 1, LONG_PER_SIDE);
        let wide = all.iter().filter(|node| {
            here.clockwise(node.location()) > from && here.clockwise(node.location()) < FARTHEST
        });
        let counts: Vec<usize> = wide
            .map(|node| chosen.get(&node.identity).copied().unwrap_or(0))
            .collect();
        let mean = counts.iter().sum::<usize>() / counts.len();
        let most = counts.iter().max().copied().unwrap_or(0);
        assert!(
            counts.len() > 30 && most < mean * 5 / 2,
            "{most} of {mean}: {counts:?}"
        );
    }

    #[test]
    fn links_to_everybody_in_a_small_network() {
        let (directory, all) = directory(9);
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let plan = plan(
            all[0].location(),
            SHAPE,
            &directory,
            &BTreeMap::new(),
            |_| true,
            true,
            &mut rng,
        );
        assert_eq!(plan.missing.len(), 8);
    }
}
