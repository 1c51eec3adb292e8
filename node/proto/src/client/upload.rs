//! Inserting a file: segments as they are read, lists of keys as they grow, the root last (protocol §8.8).
//!
//! # Driving
//!
//! 1. While [`Upload::wants`] is not zero, hand over bytes of the stream (as [`warren_keys::stream::StreamWriter`] makes it
//!    from the plaintext) with [`Upload::stream`]; after the last ones call [`Upload::end`].
//! 2. Drain [`Upload::poll_output`] after every input and at every timeout. [`UploadOutput::Encode`] is run on any thread
//!    ([`SegmentJob::encode`]) and its result handed to [`Upload::encoded`]. [`UploadOutput::Insert`] becomes a block
//!    operation of one job of the pool; its end goes to [`Upload::inserted`].
//! 3. [`UploadOutput::Done`] or [`UploadOutput::Failed`] is the last output.
//!
//! Dropping the machine and closing its job cancels at any time; what was inserted stays in the network.
//!
//! Invariants: Done means that every block is durable on the nodes that hold it, but for at most an eighth of the parity of
//! any segment of content, which the other blocks replace; the root goes out when everything else is in, so a URI that can
//! be fetched names a file that can be read; memory stays below 64 MiB and a segment, whatever the file's length.
//!
//! Deliberately not here: the pass over the file that a reproducible key takes, and compression (both in `warren_keys`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use warren_keys::{
    BLOCK_SIZE, Block, InsertUri, Uri,
    root::{
        INLINE_MAX, InvalidRoot, KeyChoice, Mime, ROOT_COPIES, Root, RootBody, RootError, SealedRoot,
        seal_chk, seal_insert,
    },
    splitfile::{
        EncodedSegment, EncoderError, FileKey, InvalidSplitfile, Layout, SEGMENT_DATA, SegmentJob,
        SplitEncoder,
    },
    stream::StreamSummary,
};

use crate::{core::api::InsertFailure, ids::OpId, time::Time};

/// Blocks that wait to be inserted or are on their way, bytes. Encoding adds a segment of 6 MiB (its bytes become blocks where
/// they lie, parity comes with them), the encoder's own buffers 8 MiB a level.
pub const MAX_BLOCKS: usize = 18 << 20;
/// Bytes of stream asked for at a time.
const PORTION: usize = 1 << 20;
/// Segments encoded at a time: one processor encodes several times as fast as all send.
const MAX_ENCODING: usize = 1;
/// Inserts on their way: what six circuits carry.
const MAX_INSERTING: usize = 384;
/// From so many bytes of stream on, a file is worth several circuits.
const BULK_BYTES: u64 = 16 * BLOCK_SIZE as u64;
/// How often a block is tried. The pool has tried several exits each time, for up to two minutes.
const TRIES: u8 = 5;
/// Pause before a block is tried again; doubles each time. A network that is briefly away does not end an upload.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Of a segment's parity blocks, one in so many may fail for good: the segment can still lose a fifth of its blocks.
const TOLERATED_SHARE: u16 = 8;
/// Exits through which content goes, and what everything else hangs on.
const CONTENT_EXITS: u8 = 1;
const IMPORTANT_EXITS: u8 = 2;

/// Where a file is to be found.
#[derive(Debug)]
pub enum UploadTarget {
    /// Under a key that follows from it.
    Chk(KeyChoice),
    /// Under a name.
    Named(Box<InsertUri>),
}

/// What an upload wants done.
#[derive(Debug)]
pub enum UploadOutput {
    /// Many blocks are to come; several circuits will help.
    Bulk,
    /// Encode a segment on some thread.
    Encode(SegmentJob),
    /// Insert a block.
    Insert {
        /// The operation, unique in this upload.
        op: OpId,
        /// The block.
        block: Block,
        /// Through how many different exits.
        exits: u8,
        /// Fetch it again before calling it inserted.
        read_back: bool,
    },
    /// All is in.
    Done(Box<Uploaded>),
    /// Given up.
    Failed(UploadFailure),
}

/// A file that is in the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uploaded {
    /// What fetches it.
    pub uri: Uri,
    /// Its root.
    pub root: Root,
    /// Blocks that no node took, and that others replace.
    pub blocks_given_up: u64,
}

/// Why a file could not be inserted.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum UploadFailure {
    /// Another document has this name already.
    #[error("another document is already stored under this key")]
    Collision(Block),
    /// The network could not take enough of the blocks.
    #[error("the network could not take the file")]
    Unreachable,
    /// The stream is not the one that was measured: the source changed while it was read.
    #[error("the source changed while it was being read")]
    Changed,
    /// The driver broke the contract, or the stream is too long.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The keys do not make a splitfile: a bug.
    #[error(transparent)]
    Splitfile(#[from] InvalidSplitfile),
    /// The parts do not make a root: the summary is not that of the stream.
    #[error(transparent)]
    Root(#[from] RootError),
}

impl From<InvalidRoot> for UploadFailure {
    fn from(why: InvalidRoot) -> Self {
        Self::Root(why.into())
    }
}

/// How far an upload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UploadProgress {
    /// Bytes of stream taken in.
    pub bytes: u64,
    /// Blocks inserted.
    pub blocks: u64,
    /// Blocks to insert: of the whole file when its length is known, else of what was taken in.
    pub total_blocks: u64,
    /// Inserts that failed; most are tried again.
    pub failed_blocks: u64,
}

/// The machine.
pub struct Upload {
    now: Time,
    next_op: u64,
    target: UploadTarget,
    mime: Option<Mime>,
    /// The stream as long as it may fit in the root, then the encoder.
    start: BytesMut,
    encoder: SplitEncoder,
    split: bool,
    bulk: bool,
    taken: u64,
    expected: Option<StreamSummary>,
    summary: Option<StreamSummary>,
    encoding: usize,
    waiting: VecDeque<Pending>,
    /// Blocks that failed and are tried again at a time.
    paused: BTreeMap<(Time, u64), Pending>,
    inserting: BTreeMap<OpId, Pending>,
    /// Blocks given up, by segment.
    given_up: BTreeMap<(u8, u64), u16>,
    sealed: Option<(SealedRoot, Root)>,
    progress: UploadProgress,
    out: VecDeque<UploadOutput>,
    ended: bool,
}

#[derive(Debug)]
struct Pending {
    block: Block,
    part: Part,
    tries: u8,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Content {
        segment: u64,
        tolerated: u16,
    },
    List,
    /// One of the root's positions.
    Root(usize),
}

impl Upload {
    /// Begins an upload. `expected` are the measures of the stream where they are known, as they are when `key` derives from
    /// them: the stream must then be that one, since two streams under one key would betray each other.
    #[must_use]
    pub fn new(
        now: Time,
        key: FileKey,
        target: UploadTarget,
        mime: Option<Mime>,
        expected: Option<StreamSummary>,
    ) -> Self {
        Self {
            now,
            next_op: 0,
            target,
            mime,
            start: BytesMut::new(),
            encoder: SplitEncoder::new(key),
            split: false,
            bulk: false,
            taken: 0,
            expected,
            summary: None,
            encoding: 0,
            waiting: VecDeque::new(),
            paused: BTreeMap::new(),
            inserting: BTreeMap::new(),
            given_up: BTreeMap::new(),
            sealed: None,
            progress: UploadProgress::default(),
            out: VecDeque::new(),
            ended: false,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> UploadProgress {
        let stream_len = self.expected_len().max(self.taken);
        let split = stream_len > INLINE_MAX as u64;
        let blocks = Layout::of_stream(stream_len)
            .ok()
            .filter(|_| split)
            .map_or(0, |layout| layout.total_blocks());
        let total_blocks = (blocks + ROOT_COPIES as u64).max(self.progress.blocks);
        UploadProgress {
            bytes: self.taken,
            total_blocks,
            ..self.progress
        }
    }

    /// Bytes that the machine holds, the encoder's buffers (8 MiB a level) aside.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.blocks_held() * BLOCK_SIZE + self.encoding * SEGMENT_DATA as usize * BLOCK_SIZE * 3 / 2
    }

    fn expected_len(&self) -> u64 {
        self.expected.map_or(0, |expected| expected.stream_len)
    }

    fn blocks_held(&self) -> usize {
        self.waiting.len() + self.paused.len() + self.inserting.len()
    }

    /// Bytes of stream that may be handed over now.
    #[must_use]
    pub fn wants(&self) -> usize {
        let full = self.ended || self.summary.is_some() || !self.room();
        if full { 0 } else { PORTION }
    }

    fn room(&self) -> bool {
        self.encoding < MAX_ENCODING && self.blocks_held() * BLOCK_SIZE < MAX_BLOCKS
    }

    /// The next bytes of the stream, any number, though more than [`Upload::wants`] is held in memory.
    pub fn stream(&mut self, now: Time, bytes: &[u8]) {
        self.now = now;
        if self.ended {
            return;
        }
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if !self.bulk && self.taken.max(self.expected_len()) >= BULK_BYTES {
            self.bulk = true;
            self.out.push_back(UploadOutput::Bulk);
        }
        let result = if self.split || self.start.len() + bytes.len() > INLINE_MAX {
            self.split = true;
            let start = std::mem::take(&mut self.start);
            self.encoder.push(&start).and_then(|()| self.encoder.push(bytes))
        } else {
            self.start.extend_from_slice(bytes);
            Ok(())
        };
        if let Err(why) = result {
            self.fail(why.into());
        }
    }

    /// No more bytes will come; `summary` measures what came.
    pub fn end(&mut self, now: Time, summary: &StreamSummary) {
        self.now = now;
        if self.ended || self.summary.is_some() {
            return;
        }
        self.summary = Some(*summary);
        let expected = self.expected.is_none_or(|expected| expected == *summary);
        if summary.stream_len != self.taken || !expected {
            return self.fail(UploadFailure::Changed);
        }
        if self.split {
            if let Err(why) = self.encoder.end() {
                self.fail(why.into());
            }
        } else {
            let stream = std::mem::take(&mut self.start).freeze();
            self.seal(RootBody::Inline(stream));
        }
    }

    /// The result of an [`UploadOutput::Encode`].
    pub fn encoded(&mut self, now: Time, encoded: EncodedSegment) {
        self.now = now;
        self.encoding = self.encoding.saturating_sub(1);
        if self.ended {
            return;
        }
        let segment = encoded.segment;
        if let Err(why) = self.encoder.accept(&segment, encoded.keys()) {
            return self.fail(why.into());
        }
        let part = match segment.level() {
            0 => Part::Content {
                segment: segment.index(),
                tolerated: segment.parity() / TOLERATED_SHARE,
            },
            _ => Part::List,
        };
        self.waiting
            .extend(encoded.blocks.into_iter().map(|block| Pending {
                block,
                part,
                tries: 0,
            }));
    }

    /// The end of an [`UploadOutput::Insert`].
    pub fn inserted(&mut self, now: Time, op: OpId, result: Result<u8, InsertFailure>) {
        self.now = now;
        let Some(mut pending) = self.inserting.remove(&op) else {
            return;
        };
        if self.ended {
            return;
        }
        match (result, pending.part) {
            (Ok(_), _) => self.progress.blocks += 1,
            (Err(InsertFailure::Collision(other)), Part::Root(0)) => {
                self.fail(UploadFailure::Collision(other))
            }
            // Whoever knows the URI can have written something to a copy's place. Two positions are left.
            (Err(InsertFailure::Collision(_)), Part::Root(_)) => self.give_up(pending.part),
            (Err(_), _) => {
                self.progress.failed_blocks += 1;
                pending.tries += 1;
                if pending.tries >= TRIES {
                    self.give_up(pending.part);
                } else {
                    let pause = FIRST_PAUSE * (1 << (pending.tries - 1));
                    self.paused.insert((now + pause, op.0), pending);
                }
            }
        }
    }

    /// A block failed for good: is the file still safe without it?
    fn give_up(&mut self, part: Part) {
        let (place, tolerated) = match part {
            Part::Content { segment, tolerated } => ((0, segment), tolerated),
            Part::List => ((1, 0), 0),
            Part::Root(0) => ((u8::MAX, 0), 0),
            // One copy beside the first position is the least.
            Part::Root(_) => ((u8::MAX, 0), 1),
        };
        let count = self.given_up.entry(place).or_default();
        *count += 1;
        if *count > tolerated {
            self.fail(UploadFailure::Unreachable);
        }
    }

    fn fail(&mut self, why: UploadFailure) {
        self.ended = true;
        self.out.clear();
        self.waiting.clear();
        self.paused.clear();
        self.out.push_back(UploadOutput::Failed(why));
    }

    fn seal(&mut self, body: RootBody) {
        let Some(summary) = self.summary else { return };
        let sealed = Root::new(&summary, self.mime.take(), body)
            .map_err(RootError::from)
            .and_then(|root| {
                let sealed = match &self.target {
                    UploadTarget::Chk(choice) => seal_chk(&root, choice),
                    UploadTarget::Named(insert) => seal_insert(&root, insert),
                };
                sealed.map(|sealed| (sealed, root))
            });
        match sealed {
            Ok((sealed, root)) => {
                let blocks = sealed.blocks.iter().cloned().enumerate();
                let pending = blocks.map(|(place, block)| Pending {
                    block,
                    part: Part::Root(place),
                    tries: 0,
                });
                self.waiting.extend(pending);
                self.sealed = Some((sealed, root));
            }
            Err(why) => self.fail(why.into()),
        }
    }

    /// Next thing to do. Drained after every input.
    pub fn poll_output(&mut self) -> Option<UploadOutput> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            if self.ended {
                return None;
            }
            if self.inserting.len() < MAX_INSERTING
                && let Some(pending) = self.next_block()
            {
                return Some(self.insert(pending));
            }
            if self.room()
                && let Some(job) = self.encoder.next_job()
            {
                self.encoding += 1;
                return Some(UploadOutput::Encode(job));
            }
            if !self.all_in() {
                return None;
            }
            self.conclude();
            if self.out.is_empty() && self.waiting.is_empty() {
                return None;
            }
        }
    }

    fn next_block(&mut self) -> Option<Pending> {
        match self.paused.first_key_value() {
            Some(((due, _), _)) if *due <= self.now => self.paused.pop_first().map(|(_, pending)| pending),
            _ => self.waiting.pop_front(),
        }
    }

    fn insert(&mut self, pending: Pending) -> UploadOutput {
        self.next_op += 1;
        let op = OpId(self.next_op);
        let block = pending.block.clone();
        let important = !matches!(pending.part, Part::Content { .. });
        self.inserting.insert(op, pending);
        let exits = if important { IMPORTANT_EXITS } else { CONTENT_EXITS };
        UploadOutput::Insert {
            op,
            block,
            exits,
            read_back: important,
        }
    }

    /// Whether all that is known so far is in, and no more will come of itself.
    fn all_in(&self) -> bool {
        self.summary.is_some() && self.encoding == 0 && self.blocks_held() == 0
    }

    /// Everything but the root is in, or everything is.
    fn conclude(&mut self) {
        if let Some((sealed, root)) = self.sealed.take() {
            self.ended = true;
            let blocks_given_up = self.given_up.values().copied().map(u64::from).sum();
            self.out.push_back(UploadOutput::Done(Box::new(Uploaded {
                uri: sealed.uri,
                root,
                blocks_given_up,
            })));
            return;
        }
        match self.encoder.finish() {
            Ok(Some(file)) => self.seal(RootBody::Split(file)),
            // Jobs are still to come out of the encoder, but none did: only a driver that lost one gets here.
            Ok(None) => {}
            Err(why) => self.fail(why.into()),
        }
    }

    /// When [`Upload::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.paused.keys().next().map(|(due, _)| *due)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
    }
}

#[cfg(test)]
mod tests;
