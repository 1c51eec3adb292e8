//! Shapes of levels and segments, all from the length of the stream (`keys §6.1`).
//!
//! Invariant: writer and reader compute the same shape, so a root need not describe it and cannot describe it wrongly.

use crate::BLOCK_SIZE;

/// Data blocks of a full segment.
pub const SEGMENT_DATA: u16 = 128;
/// Parity blocks of a full segment.
pub const MAX_PARITY: u16 = 64;
/// Most routing keys that a root lists; above it, the list becomes a level of its own.
pub const TOP_KEYS: usize = 1000;
/// Bytes of the longest stream, 2^48: keeps every computation of offsets inside 64 bits and the levels at four.
pub const MAX_STREAM_LEN: u64 = 1 << 48;

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Bytes of a routing key in a list.
pub(super) const KEY: u64 = 32;
/// Bytes of stream in a full segment.
pub(super) const SEGMENT_BYTES: usize = SEGMENT_DATA as usize * BLOCK_SIZE;

/// Parity blocks for `data` data blocks: half of them and two more, so that few blocks are not worse off than many.
pub const fn parity_for(data: u16) -> u16 {
    let parity = data.div_ceil(2) + 2;
    if parity < MAX_PARITY { parity } else { MAX_PARITY }
}

/// A stream that no splitfile can have: empty, or above [`MAX_STREAM_LEN`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a stream of {0} bytes: at least one and at most 2^48 are possible")]
pub struct StreamLength(pub u64);

/// The levels of a splitfile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    content: Level,
    /// Levels 1 and up.
    lists: Vec<Level>,
}

impl Layout {
    /// The layout of a stream of `len` bytes.
    ///
    /// # Errors
    /// Empty or too long.
    pub fn of_stream(len: u64) -> Result<Self, StreamLength> {
        if len == 0 || len > MAX_STREAM_LEN {
            return Err(StreamLength(len));
        }
        let content = Level::new(0, len);
        let mut lists = Vec::new();
        let mut top = content;
        while top.keys() > TOP_KEYS as u64 {
            top = Level::new(top.number + 1, top.keys() * KEY);
            lists.push(top);
        }
        Ok(Self { content, lists })
    }

    /// Level 0.
    pub const fn content(&self) -> Level {
        self.content
    }

    /// The level whose keys are in the root.
    pub fn top(&self) -> Level {
        self.lists.last().copied().unwrap_or(self.content)
    }

    /// A level by number, 0 being the content.
    pub fn level(&self, number: u8) -> Option<Level> {
        match number.checked_sub(1) {
            None => Some(self.content),
            Some(list) => self.lists.get(usize::from(list)).copied(),
        }
    }

    /// All levels, from the content up.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = Level> {
        core::iter::once(self.content).chain(self.lists.iter().copied())
    }

    /// Blocks of all levels, parity and all.
    pub fn total_blocks(&self) -> u64 {
        self.levels().map(Level::keys).sum()
    }
}

/// One level: a stream and how it is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    number: u8,
    len: u64,
}

impl Level {
    /// `len` is not zero.
    pub(super) const fn new(number: u8, len: u64) -> Self {
        Self { number, len }
    }

    /// 0 is the content; level n + 1 lists the keys of level n.
    pub const fn number(self) -> u8 {
        self.number
    }

    /// Bytes of its stream.
    pub const fn bytes(self) -> u64 {
        self.len
    }

    /// Data blocks.
    pub const fn data_blocks(self) -> u64 {
        self.len.div_ceil(BLOCK)
    }

    /// Segments.
    pub const fn segments(self) -> u64 {
        self.data_blocks().div_ceil(SEGMENT_DATA as u64)
    }

    /// Routing keys, which is data and parity blocks of all segments.
    pub fn keys(self) -> u64 {
        self.segment(self.segments() - 1)
            .map_or(0, |last| last.first_key + last.blocks() as u64)
    }

    /// A segment by number.
    ///
    /// All are full but the last two, which share what is left, so that no segment is left with a few blocks.
    pub fn segment(self, index: u64) -> Option<Segment> {
        let (blocks, segments) = (self.data_blocks(), self.segments());
        if index >= segments {
            return None;
        }
        let full = u64::from(SEGMENT_DATA);
        // The first segment that need not be full, and what it shares with the one after it.
        let balanced = segments.saturating_sub(2);
        let left = blocks - balanced * full;
        let (first_block, data) = match index {
            index if index < balanced => (index * full, full),
            _ if segments == 1 => (0, blocks),
            index if index == balanced => (index * full, left.div_ceil(2)),
            _ => (balanced * full + left.div_ceil(2), left / 2),
        };
        let keys_of_full = full + u64::from(MAX_PARITY);
        // At most 128, so no cast truncates.
        let data = u16::try_from(data).ok()?;
        let first_key = if index > balanced {
            let before = u16::try_from(left.div_ceil(2)).ok()?;
            balanced * keys_of_full + u64::from(before + parity_for(before))
        } else {
            index * keys_of_full
        };
        let offset = first_block * BLOCK;
        let len = (self.len - offset).min(u64::from(data) * BLOCK);
        Some(Segment {
            level: self.number,
            index,
            data,
            offset,
            len: usize::try_from(len).ok()?,
            first_key,
        })
    }

    /// All segments in order.
    pub fn iter(self) -> impl Iterator<Item = Segment> {
        (0..self.segments()).filter_map(move |index| self.segment(index))
    }

    /// The segment that holds the byte at `offset` of the stream.
    pub fn segment_at(self, offset: u64) -> Option<Segment> {
        if offset >= self.len {
            return None;
        }
        let guess = (offset / SEGMENT_BYTES as u64).min(self.segments() - 1);
        // The last two may begin earlier than full ones would.
        let found = self.segment(guess)?;
        match offset >= found.offset + found.len as u64 {
            true => self.segment(guess + 1),
            false => Some(found),
        }
    }
}

/// One segment: some data blocks of a level's stream and their parity blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    level: u8,
    index: u64,
    data: u16,
    offset: u64,
    len: usize,
    first_key: u64,
}

impl Segment {
    /// Level that it is part of.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Its number in the level.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Data blocks: 1 to 128. As many blocks of any kind give the segment.
    pub const fn data(&self) -> u16 {
        self.data
    }

    /// Parity blocks: 3 to 64.
    pub const fn parity(&self) -> u16 {
        parity_for(self.data)
    }

    /// Data and parity blocks.
    pub const fn blocks(&self) -> u16 {
        self.data + self.parity()
    }

    /// Where in the stream its bytes begin.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Its bytes of stream, without the padding of the last block.
    pub const fn bytes(&self) -> usize {
        self.len
    }

    /// Place of its first routing key among the keys of its level.
    pub const fn first_key(&self) -> u64 {
        self.first_key
    }

    /// Which of its data blocks holds the byte at `offset` of the stream.
    pub fn block_at(&self, offset: u64) -> Option<u16> {
        let inside = offset
            .checked_sub(self.offset)
            .filter(|inside| *inside < self.len as u64)?;
        u16::try_from(inside / BLOCK).ok()
    }

    /// Bytes of stream in data block `index`: [`BLOCK_SIZE`], or fewer in the last; none for parity.
    pub fn block_len(&self, index: u16) -> usize {
        match index < self.data {
            true => self
                .len
                .saturating_sub(usize::from(index) * BLOCK_SIZE)
                .min(BLOCK_SIZE),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parity_is_generous_for_few() {
        let values: Vec<_> = [1, 2, 3, 4, 10, 64, 123, 124, 128]
            .into_iter()
            .map(parity_for)
            .collect();
        assert_eq!(values, [3, 3, 4, 4, 7, 34, 64, 64, 64]);
    }

    #[test]
    fn ends_balance() {
        let shape = |blocks: u64| -> Vec<u16> {
            let level = Layout::of_stream(blocks * BLOCK).unwrap().content();
            level.iter().map(|segment| segment.data()).collect()
        };
        assert_eq!(shape(1), [1]);
        assert_eq!(shape(127), [127]);
        assert_eq!(shape(128), [128]);
        assert_eq!(shape(129), [65, 64]);
        assert_eq!(shape(256), [128, 128]);
        assert_eq!(shape(257), [128, 65, 64]);
        assert_eq!(shape(384), [128, 128, 128]);
    }

    #[test]
    fn levels_grow_with_length() {
        let levels = |len: u64| Layout::of_stream(len).unwrap().levels().count();
        let top_of_one = 20 << 20;
        assert_eq!((levels(1), levels(top_of_one), levels(22 << 20)), (1, 1, 2));
        assert_eq!(
            (levels(10 << 30), levels(1 << 40), levels(MAX_STREAM_LEN)),
            (2, 3, 4)
        );
        assert_eq!(Layout::of_stream(0), Err(StreamLength(0)));
        assert_eq!(
            Layout::of_stream(MAX_STREAM_LEN + 1),
            Err(StreamLength(MAX_STREAM_LEN + 1))
        );
    }

    proptest! {
        #[test]
        fn segments_tile_the_stream(len in 1u64..400 * BLOCK) {
            let layout = Layout::of_stream(len).unwrap();
            for level in layout.levels() {
                let (mut offset, mut key) = (0, 0);
                for segment in level.iter() {
                    prop_assert_eq!((segment.offset(), segment.first_key()), (offset, key));
                    prop_assert!((1..=128).contains(&segment.data()) && segment.bytes() > 0);
                    prop_assert_eq!((0..segment.blocks()).map(|index| segment.block_len(index)).sum::<usize>(), segment.bytes());
                    offset += segment.bytes() as u64;
                    key += u64::from(segment.blocks());
                }
                prop_assert_eq!((offset, key), (level.bytes(), level.keys()));
            }
            prop_assert!(layout.top().keys() <= TOP_KEYS as u64);
        }

        #[test]
        fn every_byte_is_found(len in 1u64..=MAX_STREAM_LEN, at in any::<proptest::sample::Index>()) {
            let level = Layout::of_stream(len).unwrap().content();
            let offset = at.index(usize::try_from(len).unwrap()) as u64;
            let segment = level.segment_at(offset).unwrap();
            let block = segment.block_at(offset).unwrap();
            let start = segment.offset() + u64::from(block) * BLOCK;
            prop_assert!((start..start + segment.block_len(block) as u64).contains(&offset));
            prop_assert_eq!(level.segment_at(len), None);
        }
    }
}
