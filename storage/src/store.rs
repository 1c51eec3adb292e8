//! The datastore: blocks in slots (`storage-format §1`).
//!
//! The way of a put: claim a slot in the index, append to the journal, write the slot, tell the index. The way of
//! a get: ask the index, read one slot, decrypt. Invariants:
//!
//! - A put that has returned is found again after `kill -9`, until it is evicted: the slot and the journal record were
//!   handed to the system before. What a power cut takes is bounded by [`Store::sync`].
//! - A block is given out only if its slot authenticated and names the key asked for. The index alone is never believed.
//! - A failed write loses nothing that the slot held before, unless the disk has already destroyed it.
//! - No lock is held over the IO of a slot. The journal's lock is held over its own small appends, and over the writing
//!   of a snapshot.
//!
//! Deliberately not here: when to sync (the caller's timer), who should store what, block verification (a [`Block`]
//! is verified by construction before it comes in).

mod open;
mod report;
mod survey;
#[cfg(test)]
mod tests;
mod upkeep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use warren_keys::{BLOCK_SIZE, Block, BlockId, Location};

use crate::entry::{BlockTag, Entry, Placer};
use crate::error::{Error, Result};
use crate::geometry::{Geometry, Region, SLOT_LEN, Slot};
use crate::index::{Claim, Claimed, Index};
use crate::journal::{Journal, Record};
use crate::medium::{Allocation, Backend, Medium};
use crate::random;
use crate::seal::{BaseKey, SALT_LEN};
use crate::slot::{SlotCipher, SlotHead, block_range};

pub use open::{Options, Space};
use report::Counters;
pub use report::{IndexSource, Inspection, Opened, Rebuilt, RegionInspection, RegionStats, Stats, Verified};
pub use survey::Names;

/// Slot buffers kept for the next put. More threads than this write at once only in bursts.
const SPARE_BUFFERS: usize = 8;

/// What became of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored, and found after a kill from now on.
    Stored,
    /// The same bytes were there already (in the region asked for, or in the store region).
    AlreadyStored,
    /// A signed block with other bytes under the same key was there first, and stays.
    Collision(Block),
    /// Not stored: the store region's set is full of blocks nearer to this node.
    Nearer,
}

/// A place in the walk through a region ([`Store::next_block`], [`Store::names`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(usize);

impl Cursor {
    /// As a number, to be remembered. A walk may be taken up again in a later run.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0 as u64
    }

    /// From that number; one beyond the region's end is its end.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self(usize::try_from(number).unwrap_or(usize::MAX))
    }
}

/// A datastore, open. Shared between threads by reference; every method blocks on the disk.
pub struct Store {
    backend: Arc<dyn Backend>,
    geometry: Geometry,
    location: Location,
    cipher: SlotCipher,
    placer: Placer,
    index_key: BaseKey,
    journal_key: BaseKey,
    regions: [Arc<dyn Medium>; 2],
    allocation: [Allocation; 2],
    index: Index,
    journal: Mutex<Journal>,
    /// Whether a region has writes that no sync has covered.
    dirty: [AtomicBool; 2],
    /// Whether a rename waits for the folder to be synced.
    names_dirty: AtomicBool,
    stamp: AtomicU64,
    buffers: Mutex<Vec<Box<[u8; SLOT_LEN]>>>,
    counters: Counters,
    opened: Opened,
}

/// What a slot turned out to hold.
enum Fetched {
    /// A block with the tag of the entry.
    Block(Block),
    /// Nothing, or no longer that.
    Gone,
}

/// What looking again at a slot, with nobody else writing it, gave.
enum Finding {
    Sound(Block),
    Damaged,
    Stale,
    Changed,
}

impl Store {
    /// Stores a block. Of one that is wanted in the store region and lies in the cache, the cached copy stays until it has aged out: a
    /// power cut must not take a block that a sync had made durable because it is stored once more.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::is_disk_full`] among them. The block is then not stored, and what was there before stays.
    pub fn put(&self, block: &Block, region: Region) -> Result<Put> {
        self.put_beside(block, region, Vec::new())
    }

    /// Stores a block as if these slots did not hold it.
    fn put_beside(&self, block: &Block, region: Region, mut ruled_out: Vec<(Region, Slot)>) -> Result<Put> {
        let id = block.id();
        let bytes: &[u8; BLOCK_SIZE] = block
            .bytes()
            .as_ref()
            .try_into()
            .map_err(|_| Error::Config("a block of another size".into()))?;
        let placement = self.placer.place(&id);
        let claim = loop {
            match self.index.claim_for(placement, region, self.location, &ruled_out) {
                Claimed::Slot(claim) => break claim,
                Claimed::Nearer => {
                    self.counters.nearer.fetch_add(1, Ordering::Relaxed);
                    return Ok(Put::Nearer);
                }
                Claimed::Candidate(found_in, slot, entry) => match self.fetch(found_in, slot, entry)? {
                    Fetched::Block(existing) if existing.id() == id => {
                        if existing.bytes() != block.bytes() {
                            self.counters.collisions.fetch_add(1, Ordering::Relaxed);
                            return Ok(Put::Collision(existing));
                        }
                        if found_in == Region::Store || found_in == region {
                            return Ok(Put::AlreadyStored);
                        }
                        // In the cache and wanted in the store: the cached copy ages out.
                        ruled_out.push((found_in, slot));
                    }
                    Fetched::Block(_alike) => ruled_out.push((found_in, slot)),
                    // The index knows by now; it is asked again.
                    Fetched::Gone => {}
                },
            }
        };
        self.write(claim, id, placement.tag, bytes)?;
        Ok(Put::Stored)
    }

    fn write(&self, claim: Claim<'_>, id: BlockId, tag: BlockTag, block: &[u8; BLOCK_SIZE]) -> Result<()> {
        let (region, slot) = (claim.region, claim.slot);
        let head = SlotHead {
            id,
            stamp: self.stamp.fetch_add(1, Ordering::Relaxed),
        };
        let mut buf = self.take_buffer();
        self.cipher
            .seal(region, slot, head, block, &mut buf)
            .map_err(self.fault("seal for", region))?;
        // First the journal: if it refuses, the slot is as it was. Dropping the claim says so.
        self.log(Record::Written(region, slot, Entry::live(tag)))?;
        let written = self.medium(region).write_at(buf.as_slice(), slot.offset());
        self.dirty[region.index()].store(true, Ordering::Release);
        self.give_buffer(buf);
        if let Err(e) = written {
            self.settle(claim);
            return Err(self.fault("write", region)(e));
        }
        let evicted = !claim.before.is_empty();
        claim.written(tag);
        let counters = &self.counters.regions[region.index()];
        counters.puts.fetch_add(1, Ordering::Relaxed);
        counters
            .evictions
            .fetch_add(u64::from(evicted), Ordering::Relaxed);
        Ok(())
    }

    /// Finds a block, in the store region first.
    ///
    /// # Errors
    /// [`Error::Io`]. A damaged slot is no error but a block that is not there; it is counted.
    pub fn get(&self, id: &BlockId) -> Result<Option<(Block, Region)>> {
        let placement = self.placer.place(id);
        for (region, slot, entry) in self.index.find(placement) {
            match self.fetch(region, slot, entry)? {
                Fetched::Block(block) if block.id() == *id => {
                    self.counters.regions[region.index()]
                        .hits
                        .fetch_add(1, Ordering::Relaxed);
                    return Ok(Some((block, region)));
                }
                _ => {}
            }
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    /// Whether the index knows the block. Reads no disk: a block whose slot is damaged still counts, and one in 2^49
    /// unknown blocks does.
    #[must_use]
    pub fn contains(&self, id: &BlockId) -> bool {
        self.index.contains(self.placer.place(id))
    }

    /// Removes a block from both regions, beyond recovery: the salt of its slot is overwritten, and with it goes the
    /// slot's key. Whether it was there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, id: &BlockId) -> Result<bool> {
        let placement = self.placer.place(id);
        let mut removed = false;
        'again: loop {
            for (region, slot, entry) in self.index.find(placement) {
                // Somebody writes there: what is there then may be the block again.
                let Some(claim) = self.index.claim_if(region, slot, entry) else {
                    continue 'again;
                };
                if self
                    .read_slot(region, slot)?
                    .is_none_or(|(head, _)| head.id != *id)
                {
                    continue;
                }
                self.erase(claim)?;
                removed = true;
            }
            return Ok(removed);
        }
    }

    /// Empties a slot beyond recovery.
    fn erase(&self, claim: Claim<'_>) -> Result<()> {
        let (region, slot) = (claim.region, claim.slot);
        let noise = random::bytes32().map_err(self.fault("erase in", region))?;
        // Before the journal hears of it: one that says "empty" of a slot that could not be erased would lose the block at the
        // next start, though it is given out and acknowledged until then.
        let erased = self.medium(region).write_at(&noise[..SALT_LEN], slot.offset());
        self.dirty[region.index()].store(true, Ordering::Release);
        if let Err(e) = erased {
            self.settle(claim);
            return Err(self.fault("erase in", region)(e));
        }
        claim.emptied();
        self.log(Record::Emptied(region, slot))
    }

    /// The next block of a region in slot order, and where to go on: a walk that sees every block that stays in place
    /// meanwhile, one slot read each. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn next_block(&self, region: Region, cursor: Cursor) -> Result<Option<(Block, Cursor)>> {
        let mut at = cursor.0;
        loop {
            let found = {
                let tables = self.index.lock();
                let rest = tables.entries(region).get(at..).unwrap_or_default();
                rest.iter()
                    .position(|e| e.is_live())
                    .map(|skip| (at + skip, rest[skip]))
            };
            let Some((number, entry)) = found else {
                return Ok(None);
            };
            let Ok(slot) = u32::try_from(number) else {
                return Ok(None);
            };
            at = number + 1;
            if let Fetched::Block(block) = self.fetch(region, Slot::new(slot), entry)? {
                return Ok(Some((block, Cursor(at))));
            }
        }
    }

    /// Reads the block that the index says is in a slot.
    fn fetch(&self, region: Region, slot: Slot, entry: Entry) -> Result<Fetched> {
        if let Some((head, block)) = self.read_slot(region, slot)?
            && self.placer.place(&head.id).tag == entry.tag()
        {
            return Ok(Fetched::Block(block));
        }
        // Damaged, stale, or just being overwritten. Only the sole owner of the slot can tell.
        match self.recheck(region, slot, entry)? {
            Finding::Sound(block) => Ok(Fetched::Block(block)),
            Finding::Damaged | Finding::Stale | Finding::Changed => Ok(Fetched::Gone),
        }
    }

    /// Looks again at a slot that is not what its entry says, and puts the entry right.
    fn recheck(&self, region: Region, slot: Slot, entry: Entry) -> Result<Finding> {
        let Some(claim) = self.index.claim_if(region, slot, entry) else {
            return Ok(Finding::Changed);
        };
        match self.read_slot(region, slot)? {
            Some((head, block)) => {
                let tag = self.placer.place(&head.id).tag;
                if entry.is_live() && tag == entry.tag() {
                    return Ok(Finding::Sound(block));
                }
                // In the journal before anybody can see it: a put that finds the block here is acknowledged.
                if claim.claim_as(tag) && self.log(Record::Written(region, slot, Entry::live(tag))).is_ok() {
                    claim.written(tag);
                } else {
                    claim.emptied();
                }
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                Ok(Finding::Stale)
            }
            None if entry.is_live() => {
                claim.emptied();
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                Ok(Finding::Damaged)
            }
            None => Ok(Finding::Changed),
        }
    }

    /// After a failed write: keeps the old block if it survived.
    fn settle(&self, claim: Claim<'_>) {
        let survived = claim.before.is_live()
            && matches!(self.read_slot(claim.region, claim.slot),
                Ok(Some((head, _))) if self.placer.place(&head.id).tag == claim.before.tag());
        // If this record fails too, a reader of the slot finds out what it holds.
        if survived {
            drop(self.log(Record::Written(claim.region, claim.slot, claim.before)));
        } else {
            drop(self.log(Record::Emptied(claim.region, claim.slot)));
            claim.emptied();
        }
    }

    /// Reads and opens a slot. `None` if it holds no block.
    fn read_slot(&self, region: Region, slot: Slot) -> Result<Option<(SlotHead, Block)>> {
        let mut buf = BytesMut::zeroed(SLOT_LEN);
        match self.medium(region).read_at(&mut buf, slot.offset()) {
            Ok(()) => {}
            // Somebody cut the file: that is a damaged slot, not a failing disk.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(self.fault("read", region)(e)),
        }
        let Some(head) = self.cipher.open(region, slot, &mut buf) else {
            return Ok(None);
        };
        // The slot authenticated under a key that only this node has, and only verified blocks are put.
        let block = Block::from_store(head.id, buf.freeze().slice(block_range()));
        Ok(block.ok().map(|block| (head, block)))
    }

    fn log(&self, record: Record) -> Result<()> {
        let mut journal = self.lock_journal();
        if journal.records() >= self.journal_bound().hard {
            self.rotate(&mut journal)?;
        }
        journal.append(record).map_err(|e| {
            let path = self.backend.path(open::journal_name(journal.generation()));
            Error::io("write", path)(e)
        })
    }

    fn lock_journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn medium(&self, region: Region) -> &dyn Medium {
        &*self.regions[region.index()]
    }

    fn path(&self, region: Region) -> PathBuf {
        self.backend.path(region.file_name())
    }

    fn fault(&self, action: &'static str, region: Region) -> impl FnOnce(std::io::Error) -> Error {
        // The path is made only for an error: this is called for every slot.
        move |e| Error::io(action, self.path(region))(e)
    }

    fn take_buffer(&self) -> Box<[u8; SLOT_LEN]> {
        let spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Box::new([0; SLOT_LEN]))
    }

    fn give_buffer(&self, buf: Box<[u8; SLOT_LEN]>) {
        let mut spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS {
            spare.push(buf);
        }
    }
}
