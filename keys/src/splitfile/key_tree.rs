//! From the root down to the keys of any segment (`keys §6.4`), sans-IO.
//!
//! Driving contract: ask for the keys of a segment with [`KeyTree::keys`]; while the answer is [`Keys::Needs`], fetch
//! that segment of a list (or only the blocks it names, which is quicker for one jump into a large file), hand it
//! over with [`KeyTree::insert_segment`] or [`KeyTree::insert_block`], and ask again.
//!
//! Invariant: at most [`HELD_SEGMENTS`] segments of lists are held (4 MiB each, the keys of 2.7 GiB), the least
//! recently used is dropped first.

use super::layout::KEY;
use super::{Segment, Splitfile};
use crate::{BLOCK_SIZE, RoutingKey};
use bytes::Bytes;
use core::ops::Range;
use std::collections::BTreeMap;

/// Segments of lists held at a time: enough for a few readers' positions on two levels, 24 MiB at most.
pub const HELD_SEGMENTS: usize = 6;

/// The keys of a splitfile, as far as its lists have been fetched.
#[derive(Debug)]
pub struct KeyTree {
    file: Splitfile,
    held: BTreeMap<(u8, u64), Held>,
    clock: u64,
}

#[derive(Debug)]
struct Held {
    used: u64,
    blocks: BTreeMap<u16, Bytes>,
}

/// What is known of a segment's keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// The routing keys of all its blocks, data before parity.
    Known(Vec<RoutingKey>),
    /// Part of a list has to be fetched first.
    Needs(Wanted),
}

/// Part of a list that has to be fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The segment of the list.
    pub segment: Segment,
    /// The routing keys of all blocks of that segment, data before parity.
    pub keys: Vec<RoutingKey>,
    /// Which of its data blocks would do.
    pub blocks: Range<u16>,
}

impl KeyTree {
    /// Knows what the root tells.
    pub const fn new(file: Splitfile) -> Self {
        Self {
            file,
            held: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The splitfile.
    pub const fn file(&self) -> &Splitfile {
        &self.file
    }

    /// The keys of `segment`, or what has to be fetched to know them. `None` for a segment of another file.
    pub fn keys(&mut self, segment: &Segment) -> Option<Keys> {
        let layout = self.file.layout();
        if layout.level(segment.level())?.segment(segment.index())? != *segment {
            return None;
        }
        if layout.top().number() == segment.level() {
            let start = usize::try_from(segment.first_key()).ok()?;
            let keys = self
                .file
                .top()
                .get(start..start + usize::from(segment.blocks()))?;
            return Some(Keys::Known(keys.to_vec()));
        }
        let list = layout.level(segment.level() + 1)?;
        let mut at = segment.first_key() * KEY;
        let end = at + u64::from(segment.blocks()) * KEY;
        let mut bytes = Vec::with_capacity(usize::from(segment.blocks()) * 32);
        // A key never lies across two blocks, as 32 divides their size.
        while at < end {
            let holder = list.segment_at(at)?;
            let index = holder.block_at(at)?;
            let start = holder.offset() + u64::from(index) * BLOCK_SIZE as u64;
            let Some(block) = self.block(&holder, index) else {
                return self.wanted(holder, index, end);
            };
            let from = usize::try_from(at - start).ok()?;
            let to = usize::try_from(end - start).ok()?.min(block.len());
            bytes.extend_from_slice(block.get(from..to)?);
            at = start + to as u64;
        }
        let keys = bytes
            .chunks_exact(32)
            .filter_map(|key| key.try_into().ok())
            .map(RoutingKey::from_bytes);
        Some(Keys::Known(keys.collect()))
    }

    /// Takes the bytes of a decoded segment of a list. Those of another shape are ignored.
    pub fn insert_segment(&mut self, segment: &Segment, data: &Bytes) {
        if data.len() != segment.bytes() {
            return;
        }
        for index in 0..segment.data() {
            let start = usize::from(index) * BLOCK_SIZE;
            self.insert_block(
                segment,
                index,
                data.slice(start..start + segment.block_len(index)),
            );
        }
    }

    /// Takes the bytes of one data block of a list, without padding. Those of another length are ignored.
    pub fn insert_block(&mut self, segment: &Segment, index: u16, data: Bytes) {
        if data.is_empty() || data.len() != segment.block_len(index) {
            return;
        }
        self.clock += 1;
        let place = (segment.level(), segment.index());
        let held = self.held.entry(place).or_insert_with(|| Held {
            used: 0,
            blocks: BTreeMap::new(),
        });
        held.used = self.clock;
        held.blocks.insert(index, data);
        if self.held.len() > HELD_SEGMENTS {
            let oldest = self
                .held
                .iter()
                .min_by_key(|(_, held)| held.used)
                .map(|(place, _)| *place);
            if let Some(oldest) = oldest {
                self.held.remove(&oldest);
            }
        }
    }

    /// Segments of lists that are held: at most [`HELD_SEGMENTS`].
    pub fn held_segments(&self) -> usize {
        self.held.len()
    }

    fn block(&mut self, segment: &Segment, index: u16) -> Option<Bytes> {
        self.clock += 1;
        let held = self.held.get_mut(&(segment.level(), segment.index()))?;
        held.used = self.clock;
        held.blocks.get(&index).cloned()
    }

    /// What to fetch for the bytes of a list from block `index` of `segment` to `end`.
    fn wanted(&mut self, segment: Segment, index: u16, end: u64) -> Option<Keys> {
        match self.keys(&segment)? {
            Keys::Known(keys) => {
                let last = (end - 1).min(segment.offset() + segment.bytes() as u64 - 1);
                let blocks = index..segment.block_at(last)? + 1;
                Some(Keys::Needs(Wanted {
                    segment,
                    keys,
                    blocks,
                }))
            }
            needs => Some(needs),
        }
    }
}
