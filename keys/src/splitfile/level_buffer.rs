//! Cuts one level's stream into segments while its length is not yet known (`keys §6.3`).
//!
//! Bytes are kept as they will be needed: each block in a buffer of its own, which later is encrypted where it lies.
//!
//! Invariant: holds back at most two segments. The last two share what is left, so neither may leave before it is
//! known that it is not one of them.

use super::{Level, MAX_STREAM_LEN, SEGMENT_DATA, Segment, StreamLength};
use crate::BLOCK_SIZE;
use bytes::BytesMut;

/// A segment and its data blocks, not yet padded.
pub(super) type Cut = (Segment, Vec<BytesMut>);

/// Data blocks of a full segment.
const FULL: usize = SEGMENT_DATA as usize;

#[derive(Debug)]
pub(super) struct LevelBuffer {
    number: u8,
    len: u64,
    given: u64,
    /// A full segment that may yet be the last but one.
    full: Option<Vec<BytesMut>>,
    /// The segment that is being filled: full blocks, and perhaps one that is not.
    open: Vec<BytesMut>,
    ended: bool,
}

impl LevelBuffer {
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            len: 0,
            given: 0,
            full: None,
            open: Vec::new(),
            ended: false,
        }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Segments given out.
    pub(super) const fn given(&self) -> u64 {
        self.given
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut impl Extend<Cut>) -> Result<(), StreamLength> {
        let len = self.len.saturating_add(bytes.len() as u64);
        if len > MAX_STREAM_LEN {
            return Err(StreamLength(len));
        }
        self.len = len;
        while !bytes.is_empty() {
            let room = self.open.last().map_or(0, |block| BLOCK_SIZE - block.len());
            if room == 0 && self.open.len() == FULL {
                // More comes after two full segments: the first is neither the last nor the last but one.
                let newest = core::mem::take(&mut self.open);
                if let Some(oldest) = self.full.replace(newest) {
                    let level = Level::new(self.number, MAX_STREAM_LEN);
                    self.give(level, oldest, out);
                }
            }
            let (block, room) = match self.open.last_mut() {
                Some(block) if room > 0 => (block, room),
                _ => {
                    self.open.push(BytesMut::with_capacity(BLOCK_SIZE));
                    (self.open.last_mut().ok_or(StreamLength(len))?, BLOCK_SIZE)
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(room));
            block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Gives out what is left: one segment, or two that share it.
    pub(super) fn end(&mut self, out: &mut impl Extend<Cut>) {
        self.ended = true;
        let level = Level::new(self.number, self.len);
        let mut last = core::mem::take(&mut self.open);
        if let Some(mut first) = self.full.take() {
            let share = level
                .segment(self.given)
                .map_or(0, |segment| segment.data().into());
            let mut moved = first.split_off(share.min(first.len()));
            self.give(level, first, out);
            moved.append(&mut last);
            last = moved;
        }
        self.give(level, last, out);
    }

    fn give(&mut self, level: Level, data: Vec<BytesMut>, out: &mut impl Extend<Cut>) {
        let segment = level.segment(self.given);
        debug_assert_eq!(
            segment.map(|segment| segment.bytes()),
            Some(data.iter().map(BytesMut::len).sum())
        );
        self.given += 1;
        out.extend(segment.map(|segment| (segment, data)));
    }
}
