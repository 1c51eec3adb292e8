//! What RAM knows of a slot: eight bytes (`storage-format §6.1`).
//!
//! Enough to find a block by one read (31 bits of salted hash and 24 bits of the routing key's location: two blocks of one set
//! look alike with probability 2^-55), to order a set by use (an exact 6-bit rank, so no clock that wraps), and
//! to compare distances to any node location (so the location is no part of the format).

use warren_keys::{BlockId, Location};

use crate::geometry::{Geometry, Region, WAYS};
use crate::master::MasterKey;
use crate::seal::BaseKey;

const STATE: u64 = 0b11;
const LIVE: u64 = 1;
const BUSY: u64 = 2;
const RANK_SHIFT: u32 = 3;
const RANK: u64 = 0b11_1111 << RANK_SHIFT;
const KIND_SHIFT: u32 = 2;
const PLACE_SHIFT: u32 = 9;
const PLACE_BITS: u32 = 24;
const PRINT_SHIFT: u32 = PLACE_SHIFT + PLACE_BITS;
const TAG: u64 = !(STATE | RANK);

/// What tells a block from others of its set: kind, place on the ring, fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockTag(u64);

impl BlockTag {
    /// Where the block belongs, to 24 bits.
    fn place(self) -> Location {
        let prefix = (self.0 >> PLACE_SHIFT) & ((1 << PLACE_BITS) - 1);
        Location::new(prefix << (64 - PLACE_BITS))
    }

    /// Ring distance to a node, in units of 2^40.
    pub(crate) fn distance(self, node: Location) -> u64 {
        let shift = 64 - PLACE_BITS;
        let node = Location::new(node.as_u64() >> shift << shift);
        self.place().distance(node) >> shift
    }
}

/// The state of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) const fn live(tag: BlockTag) -> Self {
        Self(tag.0 | LIVE)
    }

    /// From the disk: state and rank are whatever they are; a slot is live or it is empty.
    pub(crate) const fn from_disk(bits: u64) -> Self {
        if bits & STATE == LIVE {
            Self(bits)
        } else {
            Self::EMPTY
        }
    }

    /// For the disk: a slot being written counts as written. If it never is, it will not open, and is found out then.
    pub(crate) const fn to_disk(self) -> u64 {
        if self.is_empty() {
            0
        } else {
            self.0 & !STATE | LIVE
        }
    }

    /// The same slot, taken by a writer for `tag`.
    pub(crate) const fn busy(self, tag: BlockTag) -> Self {
        Self(tag.0 | self.0 & RANK | BUSY)
    }

    /// The same rank with another content.
    pub(crate) const fn with_tag(self, tag: BlockTag) -> Self {
        Self(tag.0 | self.0 & RANK | LIVE)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 & STATE == 0
    }

    pub(crate) const fn is_live(self) -> bool {
        self.0 & STATE == LIVE
    }

    pub(crate) const fn is_busy(self) -> bool {
        self.0 & STATE == BUSY
    }

    pub(crate) const fn tag(self) -> BlockTag {
        BlockTag(self.0 & TAG)
    }

    /// 0 for the newest of the set.
    pub(crate) const fn rank(self) -> u32 {
        ((self.0 & RANK) >> RANK_SHIFT) as u32
    }

    pub(crate) const fn with_rank(self, rank: u32) -> Self {
        Self(self.0 & !RANK | ((rank as u64) << RANK_SHIFT) & RANK)
    }
}

/// Moves the entry at `at` to rank 0, and those before it, up to the first unused rank, one back. Keeps the ranks of a
/// set distinct.
pub(crate) fn promote(set: &mut [Entry], at: usize) {
    let mut used = 0_u64;
    for (i, entry) in set.iter().enumerate() {
        if i != at && !entry.is_empty() {
            used |= 1 << entry.rank();
        }
    }
    let gap = used.trailing_ones();
    for (i, entry) in set.iter_mut().enumerate() {
        if i == at {
            *entry = entry.with_rank(0);
        } else if !entry.is_empty() && entry.rank() < gap {
            *entry = entry.with_rank(entry.rank() + 1);
        }
    }
}

/// Turns block ids into sets and tags, differently in every datastore.
pub(crate) struct Placer(BaseKey);

/// Where a block would be.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    hash: u32,
    pub(crate) tag: BlockTag,
}

impl Placer {
    pub(crate) fn new(master: &MasterKey, volume: &[u8; 32]) -> Self {
        Self(master.volume_key(warren_keys::labels::STORAGE_PLACE, volume))
    }

    pub(crate) fn place(&self, id: &BlockId) -> Placement {
        let mut input = [0; 33];
        input[0] = id.kind.as_u8();
        input[1..].copy_from_slice(id.key.as_bytes());
        let hash = blake3::keyed_hash(self.0.bytes(), &input);
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        let print = u64::from(u32::from_le_bytes([e, f, g, h]) >> 1);
        let place = id.key.location().as_u64() >> (64 - PLACE_BITS);
        let tag = u64::from(id.kind.as_u8()) << KIND_SHIFT | place << PLACE_SHIFT | print << PRINT_SHIFT;
        Placement {
            hash: u32::from_le_bytes([a, b, c, d]),
            tag: BlockTag(tag & TAG),
        }
    }
}

impl Placement {
    /// The slots of the block's set.
    pub(crate) fn slots(self, geometry: &Geometry, region: Region) -> std::ops::Range<usize> {
        let set = (u64::from(self.hash) * u64::from(geometry.sets(region))) >> 32;
        let start = set as usize * WAYS as usize;
        start..start + WAYS as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use warren_keys::RoutingKey;
    use zeroize::Zeroizing;

    fn placer(volume: u8) -> Placer {
        Placer::new(&MasterKey::from_bytes(Zeroizing::new([1; 32])), &[volume; 32])
    }

    #[test]
    fn entries_are_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn kind_key_and_volume_all_matter() {
        let key = RoutingKey::from_bytes([7; 32]);
        let a = placer(1).place(&BlockId::content(key));
        assert!(a.tag == placer(1).place(&BlockId::content(key)).tag);
        assert!(a.tag != placer(1).place(&BlockId::signed(key)).tag);
        assert!(a.tag != placer(2).place(&BlockId::content(key)).tag);
    }

    #[test]
    fn distance_is_that_of_the_ring() {
        let mut bytes = [0; 32];
        bytes[0] = 0xff;
        let tag = placer(1)
            .place(&BlockId::content(RoutingKey::from_bytes(bytes)))
            .tag;
        assert_eq!(tag.distance(Location::new(0)), 1 << 16);
        assert_eq!(tag.distance(Location::new(0xff << 56)), 0);
    }

    #[test]
    fn sets_fill_evenly() {
        let geometry = Geometry::from_sets(8, 8).unwrap();
        let mut counts = [0_u32; 8];
        for i in 0..8000_u32 {
            let key = RoutingKey::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes());
            counts[placer(1)
                .place(&BlockId::content(key))
                .slots(&geometry, Region::Store)
                .start
                / 64] += 1;
        }
        assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
    }

    proptest! {
        /// Against a plain list ordered by last use, with removals in between.
        #[test]
        fn ranks_are_an_exact_order_of_use(ops in prop::collection::vec((0..64_usize, any::<bool>()), 0..300)) {
            let tag = placer(1).place(&BlockId::content(RoutingKey::from_bytes([7; 32]))).tag;
            let mut set = [Entry::EMPTY; 64];
            let mut model: Vec<usize> = Vec::new();
            for (at, used) in ops {
                model.retain(|&i| i != at);
                if used {
                    if set[at].is_empty() { set[at] = Entry::live(tag); }
                    promote(&mut set, at);
                    model.insert(0, at);
                } else {
                    set[at] = Entry::EMPTY;
                }
            }
            let mut order: Vec<usize> = (0..64).filter(|&i| !set[i].is_empty()).collect();
            order.sort_by_key(|&i| set[i].rank());
            prop_assert_eq!(order, model);
        }

        #[test]
        fn any_bits_from_disk_are_an_entry(bits: u64) {
            let entry = Entry::from_disk(bits);
            prop_assert!(entry.is_live() || entry == Entry::EMPTY);
            prop_assert!(Entry::from_disk(entry.to_disk()) == entry);
            let busy = entry.busy(entry.tag());
            prop_assert!(busy.is_busy() && Entry::from_disk(busy.to_disk()).is_live());
        }
    }
}
