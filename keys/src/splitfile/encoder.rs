//! A stream of unknown length to segments of all levels (`keys §6.3`), sans-IO.
//!
//! Driving contract:
//! 1. [`SplitEncoder::push`] bytes in any portions; after each, take jobs with [`SplitEncoder::next_job`] until there
//!    are none. Not taking them buffers the stream.
//! 2. Run each job anywhere, in any order ([`SegmentJob::encode`]), insert its blocks, and hand the result's keys to
//!    [`SplitEncoder::accept`], after which there may be new jobs: the next level grows out of the keys of this one.
//! 3. [`SplitEncoder::end`] after the last byte; go on with 1 and 2 until [`SplitEncoder::finish`] gives the splitfile.
//!
//! Invariant: at each level at most two full segments wait for more bytes (the last two share what is left, so
//! neither may leave before it is known that it is not one of them): 8 MiB a level, two levels up to 15 GiB.

use super::level_buffer::{Cut, LevelBuffer};
use super::{Coder, CodingError, FileKey, InvalidSplitfile, Segment, Splitfile, StreamLength, TOP_KEYS};
use crate::{Block, RoutingKey};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};

/// The caller broke the driving contract, or the stream is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncoderError {
    /// Empty or above the limit.
    #[error(transparent)]
    Length(#[from] StreamLength),
    /// Bytes after the end, or keys of a segment that was not given out or was accepted before.
    #[error("the encoder was not driven by its contract")]
    Contract,
}

/// One segment to encode.
#[derive(Debug)]
pub struct SegmentJob {
    key: FileKey,
    segment: Segment,
    data: Vec<BytesMut>,
}

/// The blocks of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedSegment {
    /// Its shape.
    pub segment: Segment,
    /// Its blocks, data before parity.
    pub blocks: Vec<Block>,
}

impl SegmentJob {
    /// The shape of the segment.
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Does the work.
    ///
    /// # Errors
    /// A bug.
    pub fn encode(self, coder: &mut Coder) -> Result<EncodedSegment, CodingError> {
        let blocks = coder.encode_blocks(&self.key, &self.segment, self.data)?;
        Ok(EncodedSegment {
            segment: self.segment,
            blocks,
        })
    }
}

impl EncodedSegment {
    /// The routing keys, for [`SplitEncoder::accept`].
    pub fn keys(&self) -> Vec<RoutingKey> {
        self.blocks.iter().map(Block::key).collect()
    }
}

/// Cuts a stream into segments and builds the levels above it.
#[derive(Debug)]
pub struct SplitEncoder {
    key: FileKey,
    levels: Vec<LevelState>,
    jobs: VecDeque<SegmentJob>,
}

/// One level while it grows: its stream, and the list of its keys.
#[derive(Debug)]
struct LevelState {
    stream: LevelBuffer,
    /// Keys of encoded segments that wait for those of earlier ones.
    early: BTreeMap<u64, Vec<RoutingKey>>,
    /// Segments whose keys are listed.
    listed: u64,
    /// The list, as long as it may fit in the root; then it is the stream of the next level.
    list: Vec<RoutingKey>,
}

impl SplitEncoder {
    /// Nothing pushed yet.
    pub fn new(key: FileKey) -> Self {
        Self {
            key,
            levels: vec![LevelState::new(0)],
            jobs: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// After [`SplitEncoder::end`], or when the stream gets too long.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), EncoderError> {
        if self.level(0)?.stream.ended() {
            return Err(EncoderError::Contract);
        }
        self.push_to(0, bytes)
    }

    /// No more bytes will come.
    ///
    /// # Errors
    /// The stream is empty, or has ended before.
    pub fn end(&mut self) -> Result<(), EncoderError> {
        let content = &self.level(0)?.stream;
        match (content.ended(), content.len()) {
            (true, _) => Err(EncoderError::Contract),
            (false, 0) => Err(StreamLength(0).into()),
            (false, _) => self.end_level(0),
        }
    }

    /// Next segment to encode.
    pub fn next_job(&mut self) -> Option<SegmentJob> {
        self.jobs.pop_front()
    }

    /// Takes the keys of an encoded segment.
    ///
    /// # Errors
    /// The segment was not given out, was accepted before, or has another number of blocks.
    pub fn accept(&mut self, segment: &Segment, keys: Vec<RoutingKey>) -> Result<(), EncoderError> {
        let number = usize::from(segment.level());
        let level = self.level(number)?;
        let awaited = (level.listed..level.stream.given()).contains(&segment.index());
        if !awaited
            || keys.len() != usize::from(segment.blocks())
            || level.early.insert(segment.index(), keys).is_some()
        {
            return Err(EncoderError::Contract);
        }
        while let Some(keys) = self.level(number)?.next_listed() {
            self.list(number, keys)?;
        }
        // The list has ended and is longer than the root takes: so has the stream that it is.
        if self.level(number)?.is_listed() && number + 1 < self.levels.len() {
            self.end_level(number + 1)?;
        }
        Ok(())
    }

    /// The splitfile, when every segment of every level has been accepted; `None` before.
    ///
    /// # Errors
    /// A bug.
    pub fn finish(&mut self) -> Result<Option<Splitfile>, InvalidSplitfile> {
        let len = self.levels.first().map_or(0, |content| content.stream.len());
        match self.levels.last() {
            Some(top) if top.is_listed() => Splitfile::new(self.key.clone(), len, top.list.clone()).map(Some),
            _ => Ok(None),
        }
    }

    fn level(&mut self, number: usize) -> Result<&mut LevelState, EncoderError> {
        self.levels.get_mut(number).ok_or(EncoderError::Contract)
    }

    fn push_to(&mut self, number: usize, bytes: &[u8]) -> Result<(), EncoderError> {
        let mut cuts = Vec::new();
        self.level(number)?.stream.push(bytes, &mut cuts)?;
        self.give(cuts);
        Ok(())
    }

    fn end_level(&mut self, number: usize) -> Result<(), EncoderError> {
        let mut cuts = Vec::new();
        self.level(number)?.stream.end(&mut cuts);
        self.give(cuts);
        Ok(())
    }

    fn give(&mut self, cuts: Vec<Cut>) {
        let key = &self.key;
        self.jobs
            .extend(cuts.into_iter().map(|(segment, data)| SegmentJob {
                key: key.clone(),
                segment,
                data,
            }));
    }

    /// Appends keys to the list of a level, or to the stream of the next one.
    fn list(&mut self, number: usize, keys: Vec<RoutingKey>) -> Result<(), EncoderError> {
        let level = self.level(number)?;
        level.list.extend(keys);
        let above = number + 1;
        if above == self.levels.len() {
            if self.level(number)?.list.len() <= TOP_KEYS {
                return Ok(());
            }
            self.levels.push(LevelState::new(
                u8::try_from(above).map_err(|_| EncoderError::Contract)?,
            ));
        }
        let keys = core::mem::take(&mut self.level(number)?.list);
        let bytes: Vec<u8> = keys.iter().flat_map(|key| *key.as_bytes()).collect();
        self.push_to(above, &bytes)
    }
}

impl LevelState {
    fn new(number: u8) -> Self {
        Self {
            stream: LevelBuffer::new(number),
            early: BTreeMap::new(),
            listed: 0,
            list: Vec::new(),
        }
    }

    /// The keys of the next segment in order, if they are there.
    fn next_listed(&mut self) -> Option<Vec<RoutingKey>> {
        let keys = self.early.remove(&self.listed)?;
        self.listed += 1;
        Some(keys)
    }

    /// Whether the keys of all segments are listed.
    const fn is_listed(&self) -> bool {
        self.stream.ended() && self.listed == self.stream.given()
    }
}
