//! The nodes that this node knows of: signed descriptors, the newest of each node, ordered by place on the ring.
//!
//! In a small network it holds everybody. In a large one it holds a sample that is uniform over all identities ever heard of,
//! however often and from whom: each identity has a *rank*, a hash of it under a secret of this node, and those below a limit
//! stay (a bottom-k sketch). Beside the sample it holds the neighbourhood, for the ring, and what is in use. Nobody can make
//! identities of low rank without knowing the secret; whoever makes a tenth of all identities gets a tenth of the sample.
//!
//! Invariants: never more entries than its room; one identity has one entry, replaced only by a newer descriptor and only so
//! often; a node without addresses, whom nobody could dial, has one only while it is in use.

use core::hash::{Hash, Hasher};
use std::{
    collections::{BTreeMap, btree_map},
    hash::DefaultHasher,
};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::{Location, NodeId};

use super::limits::{RENEWAL_BURST, RENEWAL_PAUSE, SHELTER_WALK, SHELTERED_PER_SIDE};
use crate::{
    descriptor::Descriptor,
    ids::LinkId,
    random::below,
    time::{Time, WallTime},
};

/// What became of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// The node was not known.
    New,
    /// It replaces an older one of the same node.
    Newer,
    /// Known already, out of date, or not for this node to keep.
    Ignored,
}

/// Where a descriptor comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The node itself, over a link.
    Itself(LinkId),
    /// A neighbour, unasked.
    Told(LinkId),
    /// A neighbour, as an answer.
    Answer(LinkId),
    /// An earlier run.
    Memory,
}

impl Source {
    pub(super) const fn link(self) -> Option<LinkId> {
        match self {
            Self::Itself(link) | Self::Told(link) | Self::Answer(link) => Some(link),
            Self::Memory => None,
        }
    }
}

/// A known node.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) descriptor: Descriptor,
    /// Who told of it: the lower half of the link's number, 0 if none.
    source: u32,
    rank: u32,
    /// Its place in [`Directory::order`].
    place: u32,
    /// When renewals were last paid for, seconds.
    renewed: u32,
    /// Renewals that may come at once.
    renewals: u8,
    /// It could not be reached when last tried: not sheltered, so that invented nodes cannot push out real ones.
    suspect: bool,
}

impl Entry {
    /// Whether `link` told of it.
    pub(super) const fn is_from(&self, link: LinkId) -> bool {
        self.source == short(link)
    }

    fn may_renew(&mut self, now: Time) -> bool {
        let now = seconds(now);
        let gained = now.saturating_sub(self.renewed) / RENEWAL_PAUSE;
        if gained > 0 {
            self.renewals = self
                .renewals
                .saturating_add(u8::try_from(gained).unwrap_or(u8::MAX))
                .min(RENEWAL_BURST);
            self.renewed = now;
        }
        let may = self.renewals > 0;
        self.renewals = self.renewals.saturating_sub(1);
        may
    }
}

fn seconds(now: Time) -> u32 {
    u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is enough to tell a node's links apart"
)]
const fn short(link: LinkId) -> u32 {
    link.0 as u32
}

/// A limit above all ranks: everybody fits.
const UNLIMITED: u64 = 1 << 32;

/// The table.
#[derive(Debug)]
pub(super) struct Directory {
    me: NodeId,
    here: Location,
    /// The most that it holds.
    room: usize,
    secret: [u64; 2],
    /// Ranks below it are in the sample.
    limit: u64,
    /// Two nodes at one point are a wonder or an attack: the first stays.
    entries: BTreeMap<Location, Entry>,
    /// All of them in no order, to draw from.
    order: Vec<Location>,
    /// How far the neighbourhood reaches upwards and downwards, when that is known.
    shelter: Option<(u64, u64)>,
}

impl Directory {
    pub(super) fn new(me: NodeId, room: usize, rng: &mut ChaCha20Rng) -> Self {
        Self {
            me,
            here: me.location(),
            room,
            secret: [rng.next_u64(), rng.next_u64()],
            limit: UNLIMITED,
            entries: BTreeMap::new(),
            order: Vec::new(),
            shelter: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the network is larger than the table.
    pub(super) const fn is_selective(&self) -> bool {
        self.limit < UNLIMITED
    }

    pub(super) fn find(&self, node: &NodeId) -> Option<&Entry> {
        self.entries
            .get(&node.location())
            .filter(|entry| entry.descriptor.identity == *node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The uniform sample of the network.
    pub(super) fn sampled(&self) -> impl Iterator<Item = &Descriptor> {
        self.entries
            .values()
            .filter(|entry| u64::from(entry.rank) < self.limit)
            .map(|entry| &entry.descriptor)
    }

    /// Whether a node would be in the sample.
    pub(super) fn would_sample(&self, at: Location) -> bool {
        u64::from(self.rank(at)) < self.limit
    }

    /// Takes a descriptor in. `in_use` names nodes that are kept whatever their rank.
    pub(super) fn add(
        &mut self,
        now: Time,
        wall: WallTime,
        descriptor: Descriptor,
        source: Source,
        in_use: impl Fn(&Descriptor) -> bool,
    ) -> Added {
        let remembered = source == Source::Memory && in_use(&descriptor);
        if descriptor.identity == self.me || !(descriptor.is_current(wall) || remembered) {
            return Added::Ignored;
        }
        let at = descriptor.location();
        if let Some(known) = self.entries.get_mut(&at) {
            let older = known.descriptor.published >= descriptor.published;
            if older || known.descriptor.identity != descriptor.identity {
                return Added::Ignored;
            }
            if !matches!(source, Source::Itself(_)) && !known.may_renew(now) {
                return Added::Ignored;
            }
            known.suspect &= known.descriptor.addresses == descriptor.addresses;
            known.descriptor = descriptor;
            return Added::Newer;
        }
        let useful = !descriptor.addresses.is_empty() || in_use(&descriptor);
        let rank = self.rank(at);
        let kept = u64::from(rank) < self.limit || self.is_sheltered(at) || in_use(&descriptor);
        if !useful || !kept {
            return Added::Ignored;
        }
        if self.entries.len() >= self.room {
            self.shrink(&in_use);
            let kept = u64::from(rank) < self.limit || self.is_sheltered(at) || in_use(&descriptor);
            if !kept || self.entries.len() >= self.room {
                return Added::Ignored;
            }
        }
        self.disturb(at);
        let place = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        self.order.push(at);
        self.entries.insert(
            at,
            Entry {
                descriptor,
                source: source.link().map_or(0, short),
                rank,
                place,
                renewed: seconds(now),
                renewals: RENEWAL_BURST,
                suspect: false,
            },
        );
        Added::New
    }

    /// Notes whether a node could be reached when it was last tried.
    pub(super) fn set_suspect(&mut self, node: &NodeId, suspect: bool) {
        let at = node.location();
        if let Some(entry) = self.entries.get_mut(&at)
            && entry.descriptor.identity == *node
            && entry.suspect != suspect
        {
            entry.suspect = suspect;
            self.disturb(at);
        }
    }

    /// Forgets what is out of date or cannot be dialled any more. A network that has become smaller leaves room for more.
    pub(super) fn expire(&mut self, wall: WallTime, in_use: impl Fn(&Descriptor) -> bool) {
        let stale = |entry: &Entry| {
            let useless = !entry.descriptor.is_current(wall) || entry.descriptor.addresses.is_empty();
            useless && !in_use(&entry.descriptor)
        };
        let gone: Vec<Location> = self
            .entries
            .iter()
            .filter(|(_, entry)| stale(entry))
            .map(|(at, _)| *at)
            .collect();
        for at in gone {
            self.remove(at);
        }
        if self.is_selective() && self.sampled().count() < self.room / 4 * 3 {
            self.limit = (self.limit + self.limit / 8 + 1).min(UNLIMITED);
        }
    }

    /// The nodes from `from` upwards round the ring, each once.
    pub(super) fn clockwise(&self, from: Location) -> impl Iterator<Item = &Entry> {
        self.entries
            .range(from..)
            .chain(self.entries.range(..from))
            .map(|(_, entry)| entry)
    }

    /// The nodes from `from` downwards round the ring, each once.
    pub(super) fn anticlockwise(&self, from: Location) -> impl Iterator<Item = &Entry> {
        self.entries
            .range(..from)
            .rev()
            .chain(self.entries.range(from..).rev())
            .map(|(_, entry)| entry)
    }

    /// The nodes nearest to a point, nearest first.
    pub(super) fn nearest(&self, point: Location) -> impl Iterator<Item = &Entry> {
        let mut up = self.clockwise(point).peekable();
        let mut down = self.anticlockwise(point).peekable();
        let mut left = self.entries.len();
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let distance = |entry: &&Entry| point.distance(entry.descriptor.location());
            let (upper, lower) = (up.peek().map(distance), down.peek().map(distance));
            // Both walks cover the whole ring, so neither ends before `left` does.
            if upper <= lower { up.next() } else { down.next() }
        })
    }

    /// `count` nodes at random, each equally likely. Draws may repeat themselves.
    pub(super) fn draw(&self, count: usize, rng: &mut ChaCha20Rng) -> Vec<&Descriptor> {
        (0..count)
            .filter_map(|_| self.order.get(below(rng, self.order.len())))
            .filter_map(|at| self.entries.get(at))
            .map(|entry| &entry.descriptor)
            .collect()
    }

    fn rank(&self, at: Location) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.secret, at.as_u64()).hash(&mut hasher);
        u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)
    }

    /// Whether a place is in this node's neighbourhood: not beyond its so many nearest on that side.
    fn is_sheltered(&mut self, at: Location) -> bool {
        let shelter = self.shelter.unwrap_or_else(|| {
            let up = Self::edge(self.clockwise(self.here)).map(|edge| self.here.clockwise(edge));
            let down = Self::edge(self.anticlockwise(self.here)).map(|edge| edge.clockwise(self.here));
            (up.unwrap_or(u64::MAX), down.unwrap_or(u64::MAX))
        });
        self.shelter = Some(shelter);
        self.is_within(at, shelter)
    }

    fn is_within(&self, at: Location, (up, down): (u64, u64)) -> bool {
        self.here.clockwise(at) <= up || at.clockwise(self.here) <= down
    }

    /// The last place of the neighbourhood on one side. Suspects do not count, up to a bound.
    fn edge<'a>(walk: impl Iterator<Item = &'a Entry>) -> Option<Location> {
        let mut sound = 0;
        for (step, entry) in walk.enumerate() {
            sound += usize::from(!entry.suspect);
            if sound >= SHELTERED_PER_SIDE || step >= SHELTER_WALK {
                return Some(entry.descriptor.location());
            }
        }
        None
    }

    /// Something has changed at a place: the neighbourhood may reach less far, or farther.
    fn disturb(&mut self, at: Location) {
        if self.shelter.is_some_and(|shelter| self.is_within(at, shelter)) {
            self.shelter = None;
        }
    }

    fn remove(&mut self, at: Location) {
        let btree_map::Entry::Occupied(entry) = self.entries.entry(at) else {
            return;
        };
        let place = entry.remove().place as usize;
        self.disturb(at);
        if place < self.order.len() {
            self.order.swap_remove(place);
        }
        if let Some(moved) = self.order.get(place)
            && let Some(entry) = self.entries.get_mut(moved)
        {
            entry.place = u32::try_from(place).unwrap_or(u32::MAX);
        }
    }

    /// Lowers the limit so far that a sixteenth of the room is free.
    fn shrink(&mut self, in_use: &impl Fn(&Descriptor) -> bool) {
        let all: Vec<Location> = self.order.clone();
        let mut loose: Vec<(u32, Location)> = Vec::new();
        for at in all {
            let sheltered = self.is_sheltered(at);
            if let Some(entry) = self.entries.get(&at)
                && !(sheltered && !entry.suspect || in_use(&entry.descriptor))
            {
                loose.push((entry.rank, at));
            }
        }
        loose.sort_unstable();
        let kept = self.entries.len() - loose.len();
        let room = (self.room - (self.room / 16).max(1).min(self.room)).saturating_sub(kept);
        if let Some((rank, _)) = loose.get(room) {
            self.limit = self.limit.min(u64::from(*rank));
        }
        for (_, at) in loose.into_iter().skip(room) {
            self.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::{Descriptor, Statement, fixtures};
    use rand_core::SeedableRng;

    const NOW: Time = Time(0);

    fn wall(all: &[Descriptor]) -> WallTime {
        WallTime(all[0].published)
    }

    fn directory(me: &Descriptor, room: usize, seed: u64) -> Directory {
        Directory::new(me.identity, room, &mut ChaCha20Rng::seed_from_u64(seed))
    }

    fn newer(number: u16, by: u64, change: impl FnOnce(&mut Statement)) -> Descriptor {
        let (key, mut statement) = fixtures::node_statement(number);
        statement.published += by;
        change(&mut statement);
        Descriptor::sign(&key, statement, &fixtures::network())
    }

    #[test]
    fn a_full_directory_keeps_its_near_nodes_and_those_in_use() {
        let all: Vec<Descriptor> = (0..1500).map(fixtures::node).collect();
        let me = &all[0];
        let mut directory = directory(me, 500, 1);
        let in_use = |node: &Descriptor| node.identity == all[7].identity;
        for descriptor in &all {
            directory.add(NOW, wall(&all), descriptor.clone(), Source::Memory, in_use);
        }
        assert!((460..=500).contains(&directory.len()) && directory.is_selective());
        assert!(directory.find(&me.identity).is_none() && directory.find(&all[7].identity).is_some());
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
            .map(|entry| point.distance(entry.descriptor.location()))
            .collect();
        assert!(nearest.len() == directory.len() && nearest.is_sorted());
        let places: Vec<Location> = directory.order.clone();
        assert!(
            places
                .iter()
                .enumerate()
                .all(|(place, at)| directory.entries[at].place as usize == place)
        );
        directory.expire(WallTime(wall(&all).0 + 30 * 24 * 3600), in_use);
        assert_eq!((directory.len(), directory.order.len()), (1, 1));
    }

    /// Some identities shout a hundred times as often as others, early and late; the sample has them as often as the others.
    #[test]
    fn the_sample_does_not_prefer_who_shouts_most() {
        let all: Vec<Descriptor> = (0..1200).map(fixtures::node).collect();
        let (mut loud, mut total) = (0, 0);
        for seed in 0..20 {
            let mut directory = directory(&all[0], 200, seed);
            let mut say = |descriptor: &Descriptor| {
                directory.add(
                    NOW,
                    wall(&all),
                    descriptor.clone(),
                    Source::Told(LinkId(1)),
                    |_| false,
                );
            };
            for _ in 0..5 {
                all[1..101].iter().for_each(&mut say);
            }
            all[101..].iter().for_each(&mut say);
            for _ in 0..5 {
                all[1..101].iter().for_each(&mut say);
            }
            total += directory.sampled().count();
            let shouters =
                |node: &&Descriptor| all[1..101].iter().any(|other| other.identity == node.identity);
            loud += directory.sampled().filter(shouters).count();
        }
        // A twelfth of all nodes; the standard deviation of the share is half a hundredth.
        let share = loud as f64 / total as f64;
        assert!((0.06..0.107).contains(&share), "{share}");
    }

    #[test]
    fn renewals_are_rationed_unless_the_node_itself_brings_them() {
        let all: Vec<Descriptor> = (0..3).map(fixtures::node).collect();
        let mut directory = directory(&all[0], 100, 1);
        let mut add =
            |now, by, source| directory.add(now, wall(&all), newer(1, by, |_| {}), source, |_| false);
        let told = Source::Told(LinkId(1));
        assert_eq!(add(NOW, 0, told), Added::New);
        let taken = (1..100).filter(|by| add(NOW, *by, told) == Added::Newer).count();
        assert_eq!(taken, usize::from(RENEWAL_BURST));
        assert_eq!(add(NOW, 200, Source::Itself(LinkId(2))), Added::Newer);
        assert_eq!(add(NOW, 199, Source::Itself(LinkId(2))), Added::Ignored);
        let later = Time(u64::from(RENEWAL_PAUSE) * 1_000_000);
        assert_eq!(add(later, 201, told), Added::Newer);
        assert_eq!(add(later, 202, told), Added::Ignored);
    }

    #[test]
    fn who_cannot_be_dialled_is_known_only_while_in_use() {
        let all: Vec<Descriptor> = (0..3).map(fixtures::node).collect();
        let mut directory = directory(&all[0], 100, 1);
        let told = Source::Told(LinkId(1));
        let hidden = newer(1, 5, |statement| statement.addresses.clear());
        assert_eq!(
            directory.add(NOW, wall(&all), hidden.clone(), told, |_| false),
            Added::Ignored
        );
        assert_eq!(directory.add(NOW, wall(&all), hidden, told, |_| true), Added::New);
        // Others learn from the newer descriptor that dialling is in vain.
        directory.add(NOW, wall(&all), all[2].clone(), told, |_| false);
        let hidden = newer(2, 5, |statement| statement.addresses.clear());
        assert_eq!(
            directory.add(NOW, wall(&all), hidden, told, |_| false),
            Added::Newer
        );
    }

    #[test]
    fn invented_neighbours_do_not_push_out_real_ones() {
        let mut all: Vec<Descriptor> = (0..900).map(fixtures::node).collect();
        let me = all.remove(0);
        all.sort_by_key(|node| me.location().distance(node.location()));
        // The 300 nearest do not exist, and turn out not to; the real ones come after that.
        let mut directory = directory(&me, 200, 1);
        for invented in &all[..300] {
            directory.add(
                NOW,
                WallTime(me.published),
                invented.clone(),
                Source::Told(LinkId(1)),
                |_| false,
            );
            directory.set_suspect(&invented.identity, true);
        }
        for real in &all[300..] {
            directory.add(
                NOW,
                WallTime(me.published),
                real.clone(),
                Source::Told(LinkId(2)),
                |_| false,
            );
        }
        let kept = all[300..320]
            .iter()
            .filter(|real| directory.find(&real.identity).is_some());
        assert_eq!(kept.count(), 20);
        assert!(directory.len() <= 200);
    }
}
