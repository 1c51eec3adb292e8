//! The journal: what happened to the index since the last snapshot, 32 bytes a change (`storage-format §7`).
//!
//! A file of 32-byte units: segment headers (two units) and records (one), each sealed. A process that opens the store
//! begins a new segment under a fresh salt behind the last good record, so no nonce is ever used twice, whatever was
//! torn before. Replay ends at the first unit that does not open, which is what a crash leaves. If what is behind it shows
//! that the bad unit had been on the disk for certain (a [`Record::Synced`] mark, or a segment that is no longer
//! readable), the file is damaged, and the index must be rebuilt from the slots.

use std::io;
use std::sync::Arc;

use crate::entry::Entry;
use crate::geometry::{Region, Slot};
use crate::medium::Medium;
use crate::random;
use crate::seal::{BaseKey, SALT_LEN, Sealer, TAG_LEN};

/// Bytes of a record.
pub(crate) const UNIT: usize = 32;
const PLAIN: usize = UNIT - TAG_LEN;
const SEGMENT: usize = SALT_LEN + PLAIN + TAG_LEN;

const OP_WRITTEN: u8 = 1;
const OP_EMPTIED: u8 = 2;
const OP_SYNCED: u8 = 3;

/// One change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// The slot is being written with a block of this entry's tag.
    Written(Region, Slot, Entry),
    /// The slot is being emptied.
    Emptied(Region, Slot),
    /// The journal up to this byte, and all slots that it speaks of, are on the disk.
    Synced(u64),
}

impl Record {
    fn encode(self) -> [u8; PLAIN] {
        let mut out = [0; PLAIN];
        let (op, value) = match self {
            Self::Written(region, slot, entry) => {
                out[1] = region.as_u8();
                out[4..8].copy_from_slice(&slot.number().to_le_bytes());
                (OP_WRITTEN, entry.to_disk())
            }
            Self::Emptied(region, slot) => {
                out[1] = region.as_u8();
                out[4..8].copy_from_slice(&slot.number().to_le_bytes());
                (OP_EMPTIED, 0)
            }
            Self::Synced(end) => (OP_SYNCED, end),
        };
        out[0] = op;
        out[8..].copy_from_slice(&value.to_le_bytes());
        out
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let plain: &[u8; PLAIN] = plain.try_into().ok()?;
        let [op, region, _, _, a, b, c, d, value @ ..] = *plain;
        let value = u64::from_le_bytes(value);
        let slot = Slot::new(u32::from_le_bytes([a, b, c, d]));
        match op {
            OP_WRITTEN => Some(Self::Written(
                Region::from_u8(region)?,
                slot,
                Entry::from_disk(value),
            )),
            OP_EMPTIED => Some(Self::Emptied(Region::from_u8(region)?, slot)),
            OP_SYNCED => Some(Self::Synced(value)),
            _ => None,
        }
    }
}

/// Seals the units of one segment.
struct Segment {
    sealer: Sealer,
    counter: u64,
}

impl Segment {
    fn begin(key: &BaseKey, generation: u64, at: u64) -> io::Result<(Self, [u8; SEGMENT])> {
        let salt = random::bytes32()?;
        let sealer = Sealer::new(key, &salt);
        let mut out = [0; SEGMENT];
        out[..SALT_LEN].copy_from_slice(&salt);
        out[SALT_LEN..SALT_LEN + 8].copy_from_slice(&generation.to_le_bytes());
        out[SALT_LEN + 8..SALT_LEN + PLAIN].copy_from_slice(&at.to_le_bytes());
        let tag = sealer.seal(0, b"segment", &mut out[SALT_LEN..SALT_LEN + PLAIN]);
        out[SALT_LEN + PLAIN..].copy_from_slice(&tag);
        Ok((Self { sealer, counter: 1 }, out))
    }

    /// The segment whose header is at byte `at`, with its generation.
    fn open(key: &BaseKey, bytes: &[u8], at: usize) -> Option<(Self, u64)> {
        let (salt, rest) = bytes.get(at..)?.split_first_chunk::<SALT_LEN>()?;
        let mut sealed = *rest.first_chunk::<{ PLAIN + TAG_LEN }>()?;
        let sealer = Sealer::new(key, salt);
        let plain = sealer.open(0, b"segment", &mut sealed)?;
        let (generation, position) = plain.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*position.first_chunk()?) != at as u64 {
            return None;
        }
        Some((Self { sealer, counter: 1 }, u64::from_le_bytes(*generation)))
    }

    fn seal(&mut self, record: Record) -> [u8; UNIT] {
        let mut out = [0; UNIT];
        out[..PLAIN].copy_from_slice(&record.encode());
        let tag = self.sealer.seal(self.counter, b"record", &mut out[..PLAIN]);
        out[PLAIN..].copy_from_slice(&tag);
        self.counter += 1;
        out
    }

    /// Opens the unit that is `ahead` units after the next expected one.
    fn record(&self, unit: &[u8], ahead: u64) -> Option<Record> {
        let mut sealed: [u8; UNIT] = unit.try_into().ok()?;
        Record::decode(self.sealer.open(self.counter + ahead, b"record", &mut sealed)?)
    }
}

/// What replaying a journal gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// All that can have been on the disk was read; `end` is the byte behind it.
    Whole { end: u64, records: u64 },
    /// Units are missing that had been on the disk, or the file is not this generation's.
    Damaged,
}

/// Reads a journal, giving every record to `apply` in order. Any bytes whatever give a verdict.
pub(crate) fn replay(
    key: &BaseKey,
    generation: u64,
    bytes: &[u8],
    mut apply: impl FnMut(Record),
) -> Replayed {
    let Some((mut segment, found)) = Segment::open(key, bytes, 0) else {
        return Replayed::Damaged;
    };
    if found != generation {
        return Replayed::Damaged;
    }
    let (mut at, mut records) = (SEGMENT, 0);
    while at < bytes.len() {
        if let Some(record) = bytes.get(at..at + UNIT).and_then(|unit| segment.record(unit, 0)) {
            apply(record);
            segment.counter += 1;
            records += 1;
            at += UNIT;
        } else if let Some((next, _)) = Segment::open(key, bytes, at).filter(|(_, g)| *g == generation) {
            segment = next;
            at += SEGMENT;
        } else if was_durable(&segment, bytes, at) {
            return Replayed::Damaged;
        } else {
            break;
        }
    }
    Replayed::Whole {
        end: at as u64,
        records,
    }
}

/// Whether anything behind the bad unit at `bad` proves that the unit had been whole on the disk: a mark that says so,
/// or bytes of a segment whose header is no longer readable. (A header is on the disk before the first record behind
/// it is written, so what is not a record of this segment belongs to a later, damaged one. Zeros are a file that was
/// extended and not written.)
fn was_durable(segment: &Segment, bytes: &[u8], bad: usize) -> bool {
    let units = (bad + UNIT..bytes.len()).step_by(UNIT);
    units.zip(1..).any(|(at, ahead)| {
        let unit = &bytes[at..bytes.len().min(at + UNIT)];
        match segment.record(unit, ahead) {
            Some(Record::Synced(end)) => end > bad as u64,
            Some(_) => false,
            None => at >= bad + SEGMENT && unit.iter().any(|&b| b != 0),
        }
    })
}

/// The journal being written.
pub(crate) struct Journal {
    medium: Arc<dyn Medium>,
    key: BaseKey,
    generation: u64,
    /// `None` after a failed write: the next record needs a new segment.
    segment: Option<Segment>,
    end: u64,
    records: u64,
    marked: u64,
}

impl Journal {
    /// Goes on at byte `end` of a journal that was replayed, or begins one (`end` 0).
    pub(crate) fn resume(
        medium: Arc<dyn Medium>,
        key: BaseKey,
        generation: u64,
        end: u64,
        records: u64,
    ) -> Self {
        Self {
            medium,
            key,
            generation,
            segment: None,
            end,
            records,
            marked: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn medium(&self) -> Arc<dyn Medium> {
        Arc::clone(&self.medium)
    }

    /// Writes what must be there before the first record: cuts what a crash left, begins a segment.
    ///
    /// The order on the disk is: what was before, the header, the records. [`replay`] draws conclusions from it.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if self.segment.is_some() {
            return Ok(());
        }
        let (segment, bytes) = Segment::begin(&self.key, self.generation, self.end)?;
        self.medium.set_size(self.end)?;
        self.medium.sync()?;
        self.medium.write_at(&bytes, self.end)?;
        self.medium.sync()?;
        self.end += SEGMENT as u64;
        self.segment = Some(segment);
        Ok(())
    }

    /// Appends a record. After an error it is not in the journal, and the next one begins a new segment over what the
    /// failed write left, so that its nonce is not used again.
    pub(crate) fn append(&mut self, record: Record) -> io::Result<()> {
        self.begin()?;
        let Some(mut segment) = self.segment.take() else {
            return Ok(());
        };
        let unit = segment.seal(record);
        self.medium.write_at(&unit, self.end)?;
        self.segment = Some(segment);
        self.end += UNIT as u64;
        self.records += 1;
        Ok(())
    }

    /// Notes that all up to byte `end` is on the disk; nothing if that is known already.
    pub(crate) fn mark(&mut self, end: u64) -> io::Result<()> {
        if end <= self.marked {
            return Ok(());
        }
        let before = self.end;
        self.append(Record::Synced(end))?;
        // Behind a mark that nothing came before, there is nothing to mark but the mark.
        self.marked = if before == end { self.end } else { end };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
