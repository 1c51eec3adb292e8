//! Sizes and numbers of the datastore, from which every offset follows (`storage-format §3`).

use warren_keys::BLOCK_SIZE;

use crate::error::{Error, Result};
use crate::seal::{SALT_LEN, TAG_LEN};

/// The version of the format of region files, index and journal.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes before the first slot of a region file: the sealed header, one page.
pub const HEADER_LEN: usize = 4096;

/// Bytes of a slot: salt, sealed head, block, tag. A multiple of 512, so that no two slots share a sector: a power cut
/// in the middle of one write cannot make the neighbour unreadable. The 496 bytes beside the block are 1.6 %; whole
/// 4 KiB pages would waste 12.5 % of the disk.
pub const SLOT_LEN: usize = 33_280;

/// Bytes of a slot's sealed head.
pub(crate) const HEAD_LEN: usize = SLOT_LEN - SALT_LEN - BLOCK_SIZE - TAG_LEN;
/// Where the block begins in a slot.
pub(crate) const BLOCK_AT: usize = SALT_LEN + HEAD_LEN;

/// Slots of a set: a block can be in any slot of the one set that its key hashes to, in each region. With 64 a store
/// filled to 80 % of its slots has lost 0.25 % of its blocks to full sets, with 16 it would be 3.1 % (Poisson
/// overflow), and comparing 64 entries of 8 bytes costs some 30 ns beside an AEAD of 15 µs.
pub const WAYS: u32 = 64;

/// Most sets of a region: with 2^24 sets a region holds 2^30 slots, 33 TiB, and a slot number fits 32 bits with ease.
pub const MAX_SETS: u32 = 1 << 24;

const SET_LEN: u64 = WAYS as u64 * SLOT_LEN as u64;

/// The part of the datastore a block is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Blocks that this node is among the nearest to. Full sets keep the blocks nearest to the node.
    Store = 0,
    /// Blocks left by traffic. Full sets lose the block that was not asked for the longest.
    Cache = 1,
}

impl Region {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Store, Self::Cache];

    /// The number that stands for the region on disk.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    pub(crate) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Store),
            1 => Some(Self::Cache),
            _ => None,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Cache => "cache",
        }
    }
}

/// The number of a slot in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Where the slot begins in the region's file.
    pub(crate) const fn offset(self) -> u64 {
        HEADER_LEN as u64 + self.0 as u64 * SLOT_LEN as u64
    }
}

/// How large the two regions are, in sets. Fixed when a datastore is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    sets: [u32; 2],
}

impl Geometry {
    /// The largest geometry whose files take no more than these bytes (one set, 2 MiB, at least).
    ///
    /// # Errors
    /// [`Error::Config`] if a region is smaller than one set or larger than [`MAX_SETS`] sets.
    pub fn for_quota(store_bytes: u64, cache_bytes: u64) -> Result<Self> {
        let sets = |region: Region, bytes: u64| {
            let sets = bytes.saturating_sub(HEADER_LEN as u64) / SET_LEN;
            u32::try_from(sets)
                .ok()
                .filter(|&s| (1..=MAX_SETS).contains(&s))
                .ok_or_else(|| {
                    let least = SET_LEN + HEADER_LEN as u64;
                    let most = SET_LEN * u64::from(MAX_SETS);
                    let name = region.file_name();
                    Error::Config(format!(
                        "the {name} region can have {least} to {most} bytes, not {bytes}"
                    ))
                })
        };
        Ok(Self {
            sets: [
                sets(Region::Store, store_bytes)?,
                sets(Region::Cache, cache_bytes)?,
            ],
        })
    }

    pub(crate) fn from_sets(store: u32, cache: u32) -> Option<Self> {
        let fits = |sets| (1..=MAX_SETS).contains(&sets);
        (fits(store) && fits(cache)).then_some(Self { sets: [store, cache] })
    }

    /// Sets of a region.
    #[must_use]
    pub const fn sets(&self, region: Region) -> u32 {
        self.sets[region.index()]
    }

    /// Slots of a region.
    #[must_use]
    pub const fn slots(&self, region: Region) -> u32 {
        self.sets(region) * WAYS
    }

    /// Bytes of a region's file.
    #[must_use]
    pub const fn file_len(&self, region: Region) -> u64 {
        Slot(self.slots(region)).offset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_whole_sectors_and_hold_a_block() {
        assert_eq!(SLOT_LEN % 512, 0);
        assert_eq!(HEAD_LEN, 464);
        assert_eq!(BLOCK_AT + BLOCK_SIZE + TAG_LEN, SLOT_LEN);
    }

    #[test]
    fn quota_is_used_and_never_exceeded() {
        for bytes in [SET_LEN + 4096, 10 << 20, 1 << 30, 100 << 30] {
            let geometry = Geometry::for_quota(bytes, bytes).unwrap();
            let len = geometry.file_len(Region::Store);
            assert!(len <= bytes && len + SET_LEN > bytes);
        }
        assert!(Geometry::for_quota(SET_LEN + 4095, 1 << 30).is_err());
        assert!(Geometry::for_quota(u64::MAX, 1 << 30).is_err());
        assert!(Geometry::from_sets(0, 1).is_none());
    }
}
