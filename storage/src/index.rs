//! The index in RAM: which slot may hold which block, who is writing where, and which block must go.
//!
//! Invariants:
//! - The lock is never held over IO. Who wants to write a slot takes a [`Claim`] on it, does the IO without the lock, and then
//!   says what the slot holds. One slot has at most one claim.
//! - A claimed slot is found by nobody: its old block is gone, its new one not yet there. Who asks for the block that
//!   is being written waits for the claim to end, so a put is never missed and two puts of one key meet.
//! - The index may be wrong about a slot (after a power cut, or damage); never is a block given out on its word alone.
//!
//! One mutex guards all sets: an operation holds it for tens of nanoseconds and costs an AEAD of 15 µs elsewhere
//! (measured: `storage-format §12`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use warren_keys::Location;

use crate::entry::{BlockTag, Entry, Placement, promote};
use crate::geometry::{Geometry, Region, Slot, WAYS};

/// The entries of both regions, without a lock.
pub(crate) struct Tables {
    regions: [Vec<Entry>; 2],
    /// Threads that wait for a claim to end. Waking nobody would cost a system call a put.
    waiting: usize,
}

/// Which slot a new block may take.
enum Room {
    At(usize),
    /// The set is full of blocks nearer to the node.
    Nearer,
    /// All slots of the set are being written.
    Busy,
}

impl Tables {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let regions = Region::ALL.map(|region| vec![Entry::EMPTY; geometry.slots(region) as usize]);
        Self { regions, waiting: 0 }
    }

    pub(crate) fn entries(&self, region: Region) -> &[Entry] {
        &self.regions[region.index()]
    }

    /// Writes an entry of the disk, rank included.
    pub(crate) fn load(&mut self, region: Region, at: usize, entry: Entry) {
        if let Some(slot) = self.regions[region.index()].get_mut(at) {
            *slot = entry;
        }
    }

    /// Records that a slot was written with `tag` as the newest of its set, or emptied.
    pub(crate) fn record(&mut self, region: Region, slot: Slot, tag: Option<BlockTag>) {
        let start = slot.index() / WAYS as usize * WAYS as usize;
        let Some(set) = self.regions[region.index()].get_mut(start..start + WAYS as usize) else {
            return;
        };
        let at = slot.index() - start;
        match tag {
            None => set[at] = Entry::EMPTY,
            Some(tag) => {
                set[at] = set[at].with_tag(tag);
                promote(set, at);
            }
        }
    }

    pub(crate) fn occupied(&self, region: Region) -> u64 {
        self.entries(region).iter().filter(|e| !e.is_empty()).count() as u64
    }

    fn room(&self, region: Region, slots: std::ops::Range<usize>, tag: BlockTag, node: Location) -> Room {
        let set = &self.regions[region.index()][slots.clone()];
        if let Some(free) = set.iter().position(|e| e.is_empty()) {
            return Room::At(slots.start + free);
        }
        let live = set.iter().enumerate().filter(|(_, e)| e.is_live());
        let victim = match region {
            Region::Store => live.max_by_key(|(_, e)| (e.tag().distance(node), e.rank())),
            Region::Cache => live.max_by_key(|(_, e)| e.rank()),
        };
        match victim {
            None => Room::Busy,
            Some((_, e)) if region == Region::Store && e.tag().distance(node) < tag.distance(node) => {
                Room::Nearer
            }
            Some((at, _)) => Room::At(slots.start + at),
        }
    }
}

/// Slots that may hold the block asked for. One, save when damage or two regions add another.
pub(crate) type Candidates = Vec<(Region, Slot, Entry)>;

/// What [`Index::claim_for`] found.
pub(crate) enum Claimed<'a> {
    /// A slot to write.
    Slot(Claim<'a>),
    /// The block may be here already.
    Candidate(Region, Slot, Entry),
    /// All blocks of the full set are nearer to the node.
    Nearer,
}

/// The shared index.
pub(crate) struct Index {
    geometry: Geometry,
    tables: Mutex<Tables>,
    freed: Condvar,
}

impl Index {
    pub(crate) fn new(geometry: Geometry, tables: Tables) -> Self {
        Self {
            geometry,
            tables: Mutex::new(tables),
            freed: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panicked holder leaves entries that are at worst wrong about a slot, which every reader survives.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody is writing the block, so that what follows sees it or its absence.
    fn lock_settled(&self, placement: Placement) -> MutexGuard<'_, Tables> {
        let busy = |tables: &mut Tables| {
            Region::ALL.iter().any(|&region| {
                let set = &tables.regions[region.index()][placement.slots(&self.geometry, region)];
                set.iter().any(|e| e.is_busy() && e.tag() == placement.tag)
            })
        };
        self.lock_when(busy)
    }

    /// Locks as soon as `hindered` is false.
    fn lock_when(&self, mut hindered: impl FnMut(&mut Tables) -> bool) -> MutexGuard<'_, Tables> {
        let mut tables = self.lock();
        if hindered(&mut tables) {
            tables.waiting += 1;
            tables = self
                .freed
                .wait_while(tables, hindered)
                .unwrap_or_else(PoisonError::into_inner);
            tables.waiting -= 1;
        }
        tables
    }

    fn wake(&self, tables: MutexGuard<'_, Tables>) {
        let waiting = tables.waiting > 0;
        drop(tables);
        if waiting {
            self.freed.notify_all();
        }
    }

    fn matches(&self, tables: &Tables, placement: Placement) -> impl Iterator<Item = (Region, Slot, Entry)> {
        Region::ALL.into_iter().flat_map(move |region| {
            let slots = placement.slots(&self.geometry, region);
            let found = slots.map(move |at| (at, tables.regions[region.index()][at]));
            found
                .filter(move |(_, e)| e.is_live() && e.tag() == placement.tag)
                .filter_map(move |(at, e)| {
                    let slot = u32::try_from(at).ok()?;
                    Some((region, Slot::new(slot), e))
                })
        })
    }

    /// The slots to read for a block, the store region's first. Counts as use of those in the cache, unless the store has the block too: then
    /// the cached copy is to age out.
    pub(crate) fn find(&self, placement: Placement) -> Candidates {
        let mut tables = self.lock_settled(placement);
        let found: Candidates = self.matches(&tables, placement).collect();
        let kept = found.iter().any(|(region, ..)| *region == Region::Store);
        let cached = found
            .iter()
            .filter(|(region, ..)| *region == Region::Cache && !kept);
        for &(region, slot, _) in cached {
            tables.record(region, slot, Some(placement.tag));
        }
        found
    }

    /// Whether a block seems to be here.
    pub(crate) fn contains(&self, placement: Placement) -> bool {
        self.matches(&self.lock(), placement).next().is_some()
    }

    /// Whether a block seems to be in a region.
    pub(crate) fn holds(&self, placement: Placement, region: Region) -> bool {
        self.matches(&self.lock(), placement)
            .any(|(found_in, ..)| found_in == region)
    }

    /// Finds a place in `region` for a block, unless a slot that is not in `ruled_out` may hold it already.
    pub(crate) fn claim_for(
        &self,
        placement: Placement,
        region: Region,
        node: Location,
        ruled_out: &[(Region, Slot)],
    ) -> Claimed<'_> {
        let mut tables = self.lock_settled(placement);
        loop {
            let candidate = self
                .matches(&tables, placement)
                .find(|(r, s, _)| !ruled_out.contains(&(*r, *s)));
            if let Some((region, slot, entry)) = candidate {
                return Claimed::Candidate(region, slot, entry);
            }
            match tables.room(
                region,
                placement.slots(&self.geometry, region),
                placement.tag,
                node,
            ) {
                Room::Nearer => return Claimed::Nearer,
                Room::At(at) => {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a region has fewer than 2^30 slots"
                    )]
                    let slot = Slot::new(at as u32);
                    return Claimed::Slot(self.claim_locked(&mut tables, region, slot, placement.tag));
                }
                Room::Busy => {
                    drop(tables);
                    tables = self.wait_for_room(placement, region);
                }
            }
        }
    }

    fn wait_for_room(&self, placement: Placement, region: Region) -> MutexGuard<'_, Tables> {
        let full = |tables: &mut Tables| {
            tables.regions[region.index()][placement.slots(&self.geometry, region)]
                .iter()
                .all(|e| e.is_busy())
        };
        drop(self.lock_when(full));
        self.lock_settled(placement)
    }

    /// Claims a slot if its content is still `expected` (its rank apart).
    pub(crate) fn claim_if(&self, region: Region, slot: Slot, expected: Entry) -> Option<Claim<'_>> {
        let mut tables = self.lock();
        let now = *tables.regions[region.index()].get(slot.index())?;
        let same = now.is_empty() && expected.is_empty() || now.is_live() && now.tag() == expected.tag();
        same.then(|| self.claim_locked(&mut tables, region, slot, now.tag()))
    }

    fn claim_locked(&self, tables: &mut Tables, region: Region, slot: Slot, tag: BlockTag) -> Claim<'_> {
        let entry = &mut tables.regions[region.index()][slot.index()];
        let before = *entry;
        *entry = before.busy(tag);
        Claim {
            index: self,
            region,
            slot,
            before,
            done: false,
        }
    }
}

/// The sole right to write a slot. Dropped without a verdict, it leaves the slot as it was before.
pub(crate) struct Claim<'a> {
    index: &'a Index,
    pub(crate) region: Region,
    pub(crate) slot: Slot,
    /// What the slot held.
    pub(crate) before: Entry,
    done: bool,
}

impl Claim<'_> {
    /// The slot holds a new block.
    pub(crate) fn written(self, tag: BlockTag) {
        self.end(|tables, region, slot| tables.record(region, slot, Some(tag)));
    }

    /// The slot holds nothing.
    pub(crate) fn emptied(self) {
        self.end(|tables, region, slot| tables.record(region, slot, None));
    }

    /// The slot was found to hold `tag`, which nobody is writing there now: claims it as that, so that all who ask for the
    /// block wait. Not if another slot of the set has that tag.
    pub(crate) fn claim_as(&self, tag: BlockTag) -> bool {
        let mut tables = self.index.lock();
        let start = self.slot.index() / WAYS as usize * WAYS as usize;
        let set = &mut tables.regions[self.region.index()][start..start + WAYS as usize];
        let at = self.slot.index() - start;
        if set
            .iter()
            .enumerate()
            .any(|(i, e)| i != at && !e.is_empty() && e.tag() == tag)
        {
            return false;
        }
        set[at] = set[at].busy(tag);
        true
    }

    fn end(mut self, verdict: impl FnOnce(&mut Tables, Region, Slot)) {
        self.done = true;
        let mut tables = self.index.lock();
        verdict(&mut tables, self.region, self.slot);
        self.index.wake(tables);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut tables = self.index.lock();
            let entry = &mut tables.regions[self.region.index()][self.slot.index()];
            *entry = if self.before.is_empty() {
                Entry::EMPTY
            } else {
                entry.with_tag(self.before.tag())
            };
            self.index.wake(tables);
        }
    }
}
