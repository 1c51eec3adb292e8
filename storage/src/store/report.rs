//! What the datastore tells about itself: numbers only, never a key.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::geometry::{Geometry, Region};
use crate::medium::Allocation;

/// How the index came to be when the datastore was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexSource {
    /// The datastore was made just now.
    Created,
    /// Read from the snapshot, and this many journal records replayed.
    Loaded {
        /// Records since the snapshot: none after a clean close.
        replayed: u64,
    },
    /// The snapshot or the journal was missing or damaged; all slots were read.
    Rebuilt(Rebuilt),
}

/// What reading all slots found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Blocks found.
    pub blocks: u64,
    /// Slots that were written once and hold no block (damaged, erased or torn; these look alike).
    pub unusable: u64,
}

/// What happened when the datastore was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the index is from.
    pub index: IndexSource,
    /// The region whose header or file was lost and restored from the other's.
    pub restored: Option<Region>,
}

#[derive(Default)]
pub(super) struct RegionCounters {
    pub(super) puts: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) evictions: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) regions: [RegionCounters; 2],
    pub(super) misses: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) collisions: AtomicU64,
    pub(super) nearer: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) snapshots: AtomicU64,
}

/// Counts of one region; all but the first two since the datastore was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionStats {
    /// Slots in all.
    pub slots: u64,
    /// Slots in use.
    pub used: u64,
    /// Blocks written.
    pub puts: u64,
    /// Blocks given out.
    pub hits: u64,
    /// Blocks that made room for others.
    pub evictions: u64,
}

/// Counts, all but `slots` and `used` since the datastore was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The store region.
    pub store: RegionStats,
    /// The cache region.
    pub cache: RegionStats,
    /// Gets that found nothing.
    pub misses: u64,
    /// Slots found damaged.
    pub damaged: u64,
    /// Index entries found to be wrong about an undamaged slot.
    pub stale: u64,
    /// Signed blocks refused because other bytes were there first.
    pub collisions: u64,
    /// Blocks refused because the set was full of nearer ones.
    pub nearer: u64,
    /// Grouped syncs.
    pub syncs: u64,
    /// Index snapshots written.
    pub snapshots: u64,
}

impl Counters {
    pub(super) fn stats(&self, slots: [u64; 2], used: [u64; 2]) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let region = |region: Region| {
            let counters = &self.regions[region.index()];
            RegionStats {
                slots: slots[region.index()],
                used: used[region.index()],
                puts: load(&counters.puts),
                hits: load(&counters.hits),
                evictions: load(&counters.evictions),
            }
        };
        Stats {
            store: region(Region::Store),
            cache: region(Region::Cache),
            misses: load(&self.misses),
            damaged: load(&self.damaged),
            stale: load(&self.stale),
            collisions: load(&self.collisions),
            nearer: load(&self.nearer),
            syncs: load(&self.syncs),
            snapshots: load(&self.snapshots),
        }
    }
}

/// What reading every slot found ([`crate::Store::verify`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks that are what the index says.
    pub sound: u64,
    /// Blocks that did not authenticate; dropped from the index.
    pub damaged: u64,
    /// Slots with a sound block that the index did not know there; it does now, unless the same block is elsewhere.
    pub stale: u64,
    /// Slots that the system could not read.
    pub unreadable: u64,
    /// Slots without a block.
    pub free: u64,
    /// Slots that were being written meanwhile, and not looked at.
    pub in_flight: u64,
}

/// One region, as [`crate::Store::inspect`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInspection {
    /// Which.
    pub region: Region,
    /// Sets of [`crate::WAYS`] slots.
    pub sets: u32,
    /// Slots in all.
    pub slots: u32,
    /// Slots in use.
    pub used: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// How the space was obtained when the datastore was opened or made.
    pub allocation: Allocation,
}

/// The outer facts of a datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The format version.
    pub version: u16,
    /// Sizes of both regions.
    pub geometry: Geometry,
    /// Store and cache.
    pub regions: [RegionInspection; 2],
    /// Bytes of index in RAM.
    pub index_bytes: u64,
    /// Which snapshot of the index is the newest.
    pub generation: u64,
    /// Journal records since that snapshot.
    pub journal_records: u64,
    /// Journal records at which [`crate::Store::sync`] writes the next snapshot.
    pub journal_bound: u64,
    /// Blocks written since the datastore was made; a little more after a crash.
    pub puts: u64,
}
