//! The index snapshot: all entries of RAM in one sealed file, replaced as a whole (`storage-format §6`).
//!
//! `salt ‖ sealed head ‖ sealed chunks`, nonces counted over the one file. Its generation says which journal follows it.

use std::io;

use crate::entry::Entry;
use crate::geometry::{FORMAT_VERSION, Geometry, Region};
use crate::index::Tables;
use crate::medium::Medium;
use crate::random;
use crate::seal::{BaseKey, SALT_LEN, Sealer, TAG_LEN};

/// Entries of a chunk: 64 KiB, near the cipher's best speed and small enough that the index lock is free again after
/// some 10 µs of copying. A multiple of the ways of a set, so that a set is copied as a whole.
const CHUNK: usize = 8192;
const ENTRY: usize = 8;
const HEAD: usize = 32;

/// What a snapshot says beside the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHead {
    /// Counts the snapshots of a datastore; the journal that follows carries the same number.
    pub(crate) generation: u64,
    /// The number of the next put.
    pub(crate) stamp: u64,
}

fn chunks(geometry: &Geometry) -> impl Iterator<Item = (Region, usize, usize)> {
    let geometry = *geometry;
    Region::ALL.into_iter().flat_map(move |region| {
        let slots = geometry.slots(region) as usize;
        (0..slots)
            .step_by(CHUNK)
            .map(move |start| (region, start, CHUNK.min(slots - start)))
    })
}

/// Bytes of a snapshot.
pub(crate) fn file_len(geometry: &Geometry) -> u64 {
    let chunks: usize = chunks(geometry).map(|(_, _, len)| len * ENTRY + TAG_LEN).sum();
    (SALT_LEN + HEAD + TAG_LEN + chunks) as u64
}

/// Writes a snapshot. `copy` gives the entries of a range, as short a lock as it likes.
pub(crate) fn write(
    medium: &dyn Medium,
    key: &BaseKey,
    geometry: &Geometry,
    head: SnapshotHead,
    mut copy: impl FnMut(Region, std::ops::Range<usize>, &mut Vec<Entry>),
) -> io::Result<()> {
    let salt = random::bytes32()?;
    let sealer = Sealer::new(key, &salt);
    let mut buf = Vec::with_capacity(CHUNK * ENTRY + TAG_LEN);
    buf.extend_from_slice(&salt);
    buf.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    buf.extend_from_slice(&[0; 6]);
    for region in Region::ALL {
        buf.extend_from_slice(&geometry.sets(region).to_le_bytes());
    }
    buf.extend_from_slice(&head.generation.to_le_bytes());
    buf.extend_from_slice(&head.stamp.to_le_bytes());
    let tag = sealer.seal(0, b"head", &mut buf[SALT_LEN..]);
    buf.extend_from_slice(&tag);
    let put = |buf: &[u8], at: &mut u64| {
        medium.write_at(buf, *at)?;
        *at += buf.len() as u64;
        io::Result::Ok(())
    };
    let mut at = 0;
    put(&buf, &mut at)?;
    let mut entries = Vec::with_capacity(CHUNK);
    for ((region, start, len), counter) in chunks(geometry).zip(1..) {
        entries.clear();
        copy(region, start..start + len, &mut entries);
        buf.clear();
        buf.extend(entries.iter().flat_map(|e| e.to_disk().to_le_bytes()));
        let tag = sealer.seal(counter, b"chunk", &mut buf);
        buf.extend_from_slice(&tag);
        put(&buf, &mut at)?;
    }
    Ok(())
}

/// Reads a snapshot. `None` if anything in it does not authenticate or does not fit the geometry.
pub(crate) fn read(
    medium: &dyn Medium,
    key: &BaseKey,
    geometry: &Geometry,
) -> io::Result<Option<(Tables, SnapshotHead)>> {
    if medium.size()? != file_len(geometry) {
        return Ok(None);
    }
    let mut first = [0; SALT_LEN + HEAD + TAG_LEN];
    medium.read_at(&mut first, 0)?;
    let (salt, sealed) = first.split_at_mut(SALT_LEN);
    let Some(salt) = salt.first_chunk::<SALT_LEN>() else {
        return Ok(None);
    };
    let sealer = Sealer::new(key, salt);
    let Some(head) = sealer
        .open(0, b"head", sealed)
        .and_then(|plain| parse_head(plain, geometry))
    else {
        return Ok(None);
    };
    let mut tables = Tables::new(geometry);
    let mut at = first.len() as u64;
    let mut buf = vec![0; CHUNK * ENTRY + TAG_LEN];
    for ((region, start, len), counter) in chunks(geometry).zip(1..) {
        let sealed = &mut buf[..len * ENTRY + TAG_LEN];
        medium.read_at(sealed, at)?;
        at += sealed.len() as u64;
        let Some(plain) = sealer.open(counter, b"chunk", sealed) else {
            return Ok(None);
        };
        for (i, bytes) in plain.as_chunks::<ENTRY>().0.iter().enumerate() {
            let entry = Entry::from_disk(u64::from_le_bytes(*bytes));
            tables.load(region, start + i, entry);
        }
    }
    Ok(Some((tables, head)))
}

fn parse_head(plain: &[u8], geometry: &Geometry) -> Option<SnapshotHead> {
    let plain: &[u8; HEAD] = plain.try_into().ok()?;
    let word = |at: usize| Some(u32::from_le_bytes(*plain[at..].first_chunk()?));
    let long = |at: usize| Some(u64::from_le_bytes(*plain[at..].first_chunk()?));
    let version = u16::from_le_bytes([plain[0], plain[1]]);
    let sets = [geometry.sets(Region::Store), geometry.sets(Region::Cache)];
    let fits = version == FORMAT_VERSION && [word(8)?, word(12)?] == sets;
    fits.then_some(SnapshotHead {
        generation: long(16)?,
        stamp: long(24)?,
    })
}
