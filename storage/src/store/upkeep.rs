//! Keeping the datastore durable and sound: sync, snapshots, close, verify, and what it tells about itself.

use std::sync::atomic::Ordering;

use super::report::{Inspection, RegionInspection, Stats, Verified};
use super::{Finding, Store, open};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::geometry::{FORMAT_VERSION, Geometry, Region, SLOT_LEN, Slot};
use crate::journal::{Journal, Record, UNIT};
use crate::medium::Medium;
use crate::snapshot::{self, SnapshotHead};

/// Least records between two snapshots: 2 MiB of journal, so that a small store does not write snapshots all the time.
const LEAST_RECORDS: u64 = 1 << 16;
/// Slots for one journal record at most: half a byte of journal for each byte of snapshot (32 bytes for 8 entries
/// of 8), so that the snapshots written cost no more than twice the journal, and replaying a full journal half of
/// what decrypting the snapshot costs per byte.
const SLOTS_PER_RECORD: u64 = 8;
/// A put writes the snapshot itself when the journal is this many times over its bound, because nobody called sync.
const HARD_FACTOR: u64 = 4;

/// When the journal gives way to a snapshot, in records.
pub(super) struct JournalBound {
    /// Sync does it.
    pub(super) soft: u64,
    /// A put does it.
    pub(super) hard: u64,
}

impl JournalBound {
    pub(super) fn of(geometry: &Geometry) -> Self {
        let slots: u64 = Region::ALL.iter().map(|&r| u64::from(geometry.slots(r))).sum();
        let soft = (slots / SLOTS_PER_RECORD).max(LEAST_RECORDS);
        Self {
            soft,
            hard: soft * HARD_FACTOR,
        }
    }

    /// No journal grows beyond this, segment headers and sync marks included: a longer file is not ours.
    pub(super) fn most_bytes(&self) -> u64 {
        self.hard * UNIT as u64 * 2
    }
}

impl Store {
    pub(super) fn journal_bound(&self) -> JournalBound {
        JournalBound::of(&self.geometry)
    }

    /// Brings every put that returned before this call to the disk: slots first, then the journal. Writes an index
    /// snapshot if the journal has grown over its bound. Puts and gets go on meanwhile, save during a snapshot, when
    /// puts wait.
    ///
    /// # Errors
    /// [`Error::Io`]. After a failed sync the system may have dropped the unsynced writes; what is really there
    /// [`Store::verify`] tells.
    pub fn sync(&self) -> Result<()> {
        self.sync_names()?;
        for region in Region::ALL {
            let dirty = &self.dirty[region.index()];
            if dirty.swap(false, Ordering::AcqRel) {
                self.medium(region).sync().map_err(|e| {
                    dirty.store(true, Ordering::Release);
                    self.fault("sync", region)(e)
                })?;
            }
        }
        let (medium, generation, end) = {
            let journal = self.lock_journal();
            (journal.medium(), journal.generation(), journal.end())
        };
        let path = self.backend.path(open::journal_name(generation));
        medium.sync().map_err(Error::io("sync", &path))?;
        let mut journal = self.lock_journal();
        if journal.generation() == generation {
            journal.mark(end).map_err(Error::io("write", &path))?;
        }
        if journal.records() >= self.journal_bound().soft {
            self.rotate(&mut journal)?;
        }
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs, and leaves a fresh snapshot and an empty journal for the next open.
    ///
    /// # Errors
    /// [`Error::Io`]. Nothing acknowledged is lost by an error here, nor by not closing at all.
    pub fn close(self) -> Result<()> {
        self.sync()?;
        let mut journal = self.lock_journal();
        if journal.records() > 0 {
            self.rotate(&mut journal)
        } else {
            Ok(())
        }
    }

    /// Writes a snapshot and begins a new journal (`storage-format §7.3`). The rename of the snapshot decides: before
    /// it the old pair is valid, after it the new one.
    pub(super) fn rotate(&self, journal: &mut Journal) -> Result<()> {
        self.sync_names()?;
        let next = journal.generation() + 1;
        let name = open::journal_name(next);
        let begin = || {
            let medium = self.backend.create(name)?;
            let mut begun = Journal::resume(medium, self.journal_key.clone(), next, 0, 0);
            begun.begin()?;
            self.backend.sync()?;
            Ok(begun)
        };
        let begun = begin().map_err(Error::io("begin", self.backend.path(name)))?;
        let head = SnapshotHead {
            generation: next,
            stamp: self.stamp.load(Ordering::Relaxed),
        };
        let write = || {
            let medium = self.backend.create(open::SNAPSHOT_TMP)?;
            snapshot::write(
                &*medium,
                &self.index_key,
                &self.geometry,
                head,
                |region, range, out: &mut Vec<Entry>| {
                    out.extend_from_slice(&self.index.lock().entries(region)[range]);
                },
            )?;
            medium.sync()?;
            self.backend.rename(open::SNAPSHOT_TMP, open::SNAPSHOT)
        };
        write().map_err(|e| {
            // The space is needed more elsewhere, if that was the fault.
            drop(self.backend.remove(open::SNAPSHOT_TMP));
            Error::io("write", self.backend.path(open::SNAPSHOT_TMP))(e)
        })?;
        *journal = begun;
        self.names_dirty.store(true, Ordering::Release);
        self.counters.snapshots.fetch_add(1, Ordering::Relaxed);
        self.sync_names()
    }

    fn sync_names(&self) -> Result<()> {
        if self.names_dirty.swap(false, Ordering::AcqRel) {
            self.backend.sync().map_err(|e| {
                self.names_dirty.store(true, Ordering::Release);
                Error::io("sync", self.backend.path(""))(e)
            })?;
        }
        Ok(())
    }

    /// Reads every slot and compares it with the index, which it puts right. Gets and puts go on meanwhile.
    #[must_use]
    pub fn verify(&self) -> Verified {
        let mut out = Verified::default();
        for region in Region::ALL {
            let mut holes = Holes::new(self.medium(region));
            for number in 0..self.geometry.slots(region) {
                self.verify_slot(region, Slot::new(number), &mut holes, &mut out);
            }
        }
        out
    }

    fn verify_slot(&self, region: Region, slot: Slot, holes: &mut Holes<'_>, out: &mut Verified) {
        let entry = self
            .index
            .lock()
            .entries(region)
            .get(slot.index())
            .copied()
            .unwrap_or(Entry::EMPTY);
        if entry.is_busy() {
            out.in_flight += 1;
            return;
        }
        if entry.is_empty() && holes.covers(slot) {
            out.free += 1;
            return;
        }
        let found = self.read_slot(region, slot);
        let tag = match &found {
            Ok(found) => found.as_ref().map(|(head, _)| self.placer.place(&head.id).tag),
            Err(_) => {
                out.unreadable += 1;
                return;
            }
        };
        match tag {
            Some(tag) if entry.is_live() && tag == entry.tag() => out.sound += 1,
            None if entry.is_empty() => out.free += 1,
            _ => match self.recheck(region, slot, entry) {
                Ok(Finding::Sound(_)) => out.sound += 1,
                Ok(Finding::Damaged) => out.damaged += 1,
                Ok(Finding::Stale) => out.stale += 1,
                Ok(Finding::Changed) => out.in_flight += 1,
                Err(_) => out.unreadable += 1,
            },
        }
    }

    /// Sizes, occupancy and versions; no keys.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        let used = self.used();
        let regions = Region::ALL.map(|region| RegionInspection {
            region,
            sets: self.geometry.sets(region),
            slots: self.geometry.slots(region),
            used: used[region.index()],
            file_len: self.geometry.file_len(region),
            allocation: self.allocation[region.index()],
        });
        let journal = self.lock_journal();
        Inspection {
            version: FORMAT_VERSION,
            geometry: self.geometry,
            regions,
            index_bytes: regions.iter().map(|r| u64::from(r.slots)).sum::<u64>() * size_of::<Entry>() as u64,
            generation: journal.generation(),
            journal_records: journal.records(),
            journal_bound: self.journal_bound().soft,
            puts: self.stamp.load(Ordering::Relaxed),
        }
    }

    /// Counts since the datastore was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let slots = Region::ALL.map(|region| u64::from(self.geometry.slots(region)));
        self.counters.stats(slots, self.used())
    }

    fn used(&self) -> [u64; 2] {
        let tables = self.index.lock();
        Region::ALL.map(|region| tables.occupied(region))
    }
}

/// Tells slots that were never written without reading them.
pub(super) struct Holes<'a> {
    medium: &'a dyn Medium,
    /// Nothing was written from the last question up to this byte.
    data: u64,
}

impl<'a> Holes<'a> {
    pub(super) fn new(medium: &'a dyn Medium) -> Self {
        Self { medium, data: 0 }
    }

    /// Whether the slot is a hole. To be asked in rising order.
    pub(super) fn covers(&mut self, slot: Slot) -> bool {
        if slot.offset() >= self.data {
            let next = self.medium.next_data(slot.offset());
            self.data = next.map_or(slot.offset(), |data| data.unwrap_or(u64::MAX));
        }
        slot.offset() + SLOT_LEN as u64 <= self.data
    }
}

/// What a record does to the index, for replay.
pub(super) fn replay_into(tables: &mut crate::index::Tables, record: Record) {
    match record {
        Record::Written(region, slot, entry) if entry.is_live() => {
            tables.record(region, slot, Some(entry.tag()))
        }
        Record::Written(region, slot, _) | Record::Emptied(region, slot) => tables.record(region, slot, None),
        Record::Synced(_) => {}
    }
}
