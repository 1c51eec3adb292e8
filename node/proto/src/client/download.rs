//! Fetching a file: root, lists of keys, content; pipelined, in order, in bounded memory (protocol §8.7).
//!
//! # Driving
//!
//! 1. [`Download::new`], then drain [`Download::poll_output`] after every input and at every timeout.
//! 2. [`DownloadOutput::Opened`] says that the root is known; [`Download::read`] (at any time, once) says which bytes are
//!    wanted. A reader that wants only the root simply stops.
//! 3. [`DownloadOutput::Fetch`] and [`DownloadOutput::Heal`] become block operations of one job of the pool; their ends go to
//!    [`Download::fetched`] and [`Download::healed`]. [`DownloadOutput::Work`] is run on any thread and its result handed to
//!    [`Download::worked`].
//! 4. [`DownloadOutput::Data`] comes in order without gaps; [`Download::consumed`] tells how much of it has gone on, and
//!    holds the download back when it is not called.
//! 5. After [`DownloadOutput::Done`] all bytes have been handed over; healing may go on until [`Download::idle`].
//!
//! Dropping the machine and closing its job cancels at any time.
//!
//! Invariants: every byte handed over has been verified against the URI; a file that is read from its first byte to its last
//! has the hash that its root says, before its last bytes are handed over; memory stays below 64 MiB and a segment.
//!
//! Deliberately not here: looking for newer editions of a USK (the edition named is the one fetched), and which of several
//! files of a site to show.

mod reading;
mod root;
mod segment;
mod stream;
mod unpack;
mod work;

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    time::Duration,
};

use bytes::Bytes;
use warren_keys::{
    BLOCK_SIZE, Block, BlockId, Uri,
    root::{Root, RootError},
    splitfile::DecodeError,
    stream::{FrameError, StreamError},
};

use crate::{
    core::api::{FetchFailure, InsertFailure},
    ids::OpId,
    time::Time,
};
use reading::{Purpose, Reading, Source};
use root::RootFetch;
use stream::Tally;
use unpack::{Unpacked, Unpacker};
use work::{Done, Order};
pub use work::{Work, Worked};

/// Plaintext handed over but not yet consumed, above which no more is unpacked: some milliseconds of a fast disk or network.
const MAX_UNCONSUMED: u64 = 4 << 20;
/// From so many blocks on, a file is worth several circuits.
const BULK_BLOCKS: u64 = 16;
/// Coarse, since the shortest thing that is waited for takes most of a second.
const TICK: Duration = Duration::from_millis(100);
/// Healing: blocks inserted again at a time. It runs beside the reader and must not slow it down.
const HEAL_AT_A_TIME: usize = 8;
/// Blocks that wait for it; a reader is no archivist, so the rest is left to others.
const HEAL_WAITING: usize = 128;
/// Blocks that may be healed whatever was fetched, and then one for so many fetched: a reader's upstream is not the
/// publisher's.
const HEAL_FREE: u64 = 64;
const HEAL_SHARE: u64 = 4;

/// What a download wants done.
#[derive(Debug)]
pub enum DownloadOutput {
    /// The root is known: [`Download::root`].
    Opened,
    /// Many blocks are to come; several circuits will help.
    Bulk,
    /// Fetch a block.
    Fetch {
        /// The operation, unique in this download.
        op: OpId,
        /// The block.
        block: BlockId,
        /// Whether siblings can replace it.
        expendable: bool,
        /// How long to wait for a block that the network does not have yet; zero for not at all.
        wait: Duration,
    },
    /// Run this on some thread.
    Work(Work),
    /// Bytes of the file, in order, each once.
    Data {
        /// Where in the file they belong.
        offset: u64,
        /// At least one.
        bytes: Bytes,
    },
    /// Insert a block that the network has lost, through one exit and without reading back.
    Heal {
        /// The operation, unique in this download.
        op: OpId,
        /// The block.
        block: Block,
    },
    /// All that was asked for has been handed over.
    Done,
    /// Nothing more will come.
    Failed(DownloadFailure),
}

/// Why a file could not be fetched.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum DownloadFailure {
    /// Searched for; the network does not have enough of it.
    #[error("the network was searched and does not have it")]
    NotFound,
    /// The network could not answer.
    #[error("the network could not answer")]
    Unreachable,
    /// What the key names is not a root.
    #[error("the root is not readable: {0}")]
    Root(#[from] RootError),
    /// The publisher's blocks do not fit together.
    #[error("a segment is not readable: {0}")]
    Segment(#[from] DecodeError),
    /// The publisher's stream does not fit the root.
    #[error("the content does not fit its root: {0}")]
    Stream(#[from] StreamError),
}

impl DownloadFailure {
    /// Whether the publisher made the file so: trying again is useless.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Root(_) | Self::Segment(_) | Self::Stream(_))
    }
}

impl From<FetchFailure> for DownloadFailure {
    fn from(why: FetchFailure) -> Self {
        match why {
            FetchFailure::NotFound => Self::NotFound,
            FetchFailure::Unreachable => Self::Unreachable,
        }
    }
}

impl From<FrameError> for DownloadFailure {
    fn from(why: FrameError) -> Self {
        Self::Stream(why.into())
    }
}

/// How far a download is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DownloadProgress {
    /// Bytes handed over.
    pub bytes: u64,
    /// Bytes of the range that is read, once the root is known and the range given.
    pub total_bytes: Option<u64>,
    /// Blocks fetched, root and lists included.
    pub blocks: u64,
    /// Blocks needed, as far as known.
    pub total_blocks: u64,
    /// Blocks that failed; others may have replaced them.
    pub failed_blocks: u64,
    /// Blocks inserted again.
    pub healed_blocks: u64,
}

/// The machine.
pub struct Download {
    now: Time,
    next_op: u64,
    out: VecDeque<DownloadOutput>,
    state: State,
    root: Option<Root>,
    /// What to read, as asked.
    wanted: Option<Range<u64>>,
    /// What of the file is read, and the next byte to hand over.
    range: Range<u64>,
    offset: u64,
    consumed: u64,
    tally: Tally,
    heal: VecDeque<Block>,
    healing: BTreeSet<OpId>,
    heal_begun: u64,
    healed: u64,
    next_tick: Time,
}

enum State {
    Root(Box<RootFetch>),
    /// The root is known, what to read is not.
    Opened,
    Reading(Box<Reading>),
    Done,
    Failed,
}

impl Download {
    /// Begins with the root of `uri`.
    ///
    /// # Errors
    /// The URI's keys give no valid address.
    pub fn new(now: Time, uri: &Uri) -> Result<Self, RootError> {
        Ok(Self::with_state(
            now,
            State::Root(Box::new(RootFetch::new(uri, now)?)),
            None,
        ))
    }

    /// The same, but waits until then for a root that the network does not have yet.
    #[must_use]
    pub fn waiting(mut self, until: Time) -> Self {
        if let State::Root(root) = &mut self.state {
            root.wait(until);
        }
        self
    }

    /// Begins with a root that is known, say from an earlier download.
    #[must_use]
    pub fn from_root(now: Time, root: Root) -> Self {
        Self::with_state(now, State::Opened, Some(root))
    }

    fn with_state(now: Time, state: State, root: Option<Root>) -> Self {
        Self {
            now,
            next_op: 0,
            out: VecDeque::new(),
            state,
            root,
            wanted: None,
            range: 0..0,
            offset: 0,
            consumed: 0,
            tally: Tally::default(),
            heal: VecDeque::new(),
            healing: BTreeSet::new(),
            heal_begun: 0,
            healed: 0,
            next_tick: now + TICK,
        }
    }

    /// The root, once it is known.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> DownloadProgress {
        let more = match &self.state {
            State::Root(_) => 1,
            State::Reading(reading) => match &reading.source {
                Source::Split(stream) => 1 + stream.blocks_of_range(),
                Source::Inline { .. } => 1,
            },
            _ => 0,
        };
        let begun = self.wanted.is_some() && self.root.is_some();
        DownloadProgress {
            bytes: self.offset - self.range.start,
            total_bytes: begun.then_some(self.range.end - self.range.start),
            blocks: self.tally.fetched,
            total_blocks: more.max(self.tally.fetched),
            failed_blocks: self.tally.failed,
            healed_blocks: self.healed,
        }
    }

    /// Bytes that the machine holds or has asked for: at most 64 MiB and a segment.
    #[must_use]
    pub fn memory(&self) -> usize {
        let stream = match &self.state {
            State::Reading(reading) => match &reading.source {
                Source::Split(stream) => stream.bytes(),
                Source::Inline { .. } => 0,
            },
            _ => 0,
        };
        let unconsumed = usize::try_from(self.unconsumed()).unwrap_or(usize::MAX);
        stream + unconsumed + (self.heal.len() + self.healing.len()) * BLOCK_SIZE
    }

    /// Memory is short: fetch nothing ahead of the segment that is read, until it is not.
    pub fn set_frugal(&mut self, frugal: bool) {
        if let State::Reading(reading) = &mut self.state
            && let Source::Split(stream) = &mut reading.source
        {
            stream.set_frugal(frugal);
        }
    }

    /// Whether nothing is left to do, healing included.
    #[must_use]
    pub fn idle(&self) -> bool {
        let ended = matches!(self.state, State::Done | State::Failed);
        ended && self.out.is_empty() && self.heal.is_empty() && self.healing.is_empty()
    }

    /// Says which bytes of the file are wanted; cut to its size. Only the first call counts.
    pub fn read(&mut self, now: Time, range: Range<u64>) {
        self.now = now;
        if self.wanted.is_none() {
            self.wanted = Some(range);
            self.begin_reading();
        }
    }

    /// The reader has passed on this many bytes more.
    pub fn consumed(&mut self, now: Time, bytes: u64) {
        self.now = now;
        self.consumed = self.consumed.saturating_add(bytes);
    }

    fn unconsumed(&self) -> u64 {
        (self.offset - self.range.start).saturating_sub(self.consumed)
    }

    /// The end of a [`DownloadOutput::Fetch`].
    pub fn fetched(&mut self, now: Time, op: OpId, result: Result<Block, FetchFailure>) {
        self.now = now;
        match &mut self.state {
            State::Root(root) => {
                let came = result.is_ok();
                let found = root.fetched(op, result);
                match came {
                    true => self.tally.fetched += 1,
                    false => self.tally.failed += 1,
                }
                match found {
                    None => {}
                    Some(Err(why)) => self.fail(why),
                    Some(Ok(found)) => {
                        self.queue_healing(found.heal);
                        self.root = Some(found.opened.root);
                        self.state = State::Opened;
                        self.out.push_back(DownloadOutput::Opened);
                        self.begin_reading();
                    }
                }
            }
            State::Reading(reading) => {
                if let Source::Split(stream) = &mut reading.source
                    && let Err(why) = stream.fetched(now, op, result, &mut self.tally)
                {
                    self.fail(why);
                }
            }
            State::Opened | State::Done | State::Failed => {}
        }
    }

    /// The end of a [`DownloadOutput::Heal`]. Failures are nobody's concern.
    pub fn healed(&mut self, now: Time, op: OpId, result: &Result<u8, InsertFailure>) {
        self.now = now;
        if self.healing.remove(&op) && result.is_ok() {
            self.healed += 1;
        }
    }

    /// The result of a [`DownloadOutput::Work`].
    pub fn worked(&mut self, now: Time, done: Worked) {
        self.now = now;
        let State::Reading(reading) = &mut self.state else {
            return;
        };
        match (done.0, &mut reading.source) {
            (Done::Decoded { segment, result }, Source::Split(stream)) => {
                let (data, heal) = match result {
                    Ok((data, heal)) => (Ok(data), heal),
                    Err(why) => (Err(why), Vec::new()),
                };
                match stream.decoded(&segment, data) {
                    Ok(()) => self.queue_healing(heal),
                    Err(why) => self.fail(why),
                }
            }
            (Done::Unpacked(Ok(unpacked)), _) => {
                if let Err(why) = self.unpacked(unpacked) {
                    self.fail(why);
                }
            }
            (Done::Unpacked(Err(why)), _) => self.fail(why),
            (Done::Decoded { .. }, Source::Inline { .. }) => {}
        }
    }

    fn unpacked(&mut self, unpacked: Unpacked) -> Result<(), DownloadFailure> {
        let State::Reading(reading) = &mut self.state else {
            return Ok(());
        };
        let ended = unpacked.unpacker.is_none();
        reading.unpacker = unpacked.unpacker;
        if let Purpose::Table {
            frames,
            wanted,
            entries,
        } = &mut reading.purpose
        {
            unpacked
                .plain
                .iter()
                .for_each(|plain| entries.extend_from_slice(plain));
            if !ended {
                return Ok(());
            }
            let places = frames.places(wanted.clone(), entries)?;
            let (Some(first), Some(last)) = (places.first(), places.last()) else {
                return Err(FrameError::Table.into());
            };
            let stream_range = first.start..last.end;
            let frames = *frames;
            let base = wanted.start * warren_keys::stream::FRAME_SIZE as u64;
            let lengths = wanted.clone().map(|frame| frames.plain_len(frame));
            let range = self.range.start - base..self.range.end - base;
            reading.unpacker = Some(Unpacker::frames(places.into_iter().zip(lengths), range)?);
            reading.purpose = Purpose::Content;
            reading.source.seek(stream_range);
            return Ok(());
        }
        for bytes in unpacked.plain {
            let offset = self.offset;
            self.offset += bytes.len() as u64;
            self.out.push_back(DownloadOutput::Data { offset, bytes });
        }
        if ended {
            if self.offset != self.range.end {
                return Err(StreamError::Length.into());
            }
            self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.out.push_back(DownloadOutput::Done);
    }

    fn fail(&mut self, why: DownloadFailure) {
        self.state = State::Failed;
        self.heal.clear();
        self.out
            .retain(|output| matches!(output, DownloadOutput::Data { .. } | DownloadOutput::Opened));
        self.out.push_back(DownloadOutput::Failed(why));
    }

    /// Begins, when both root and range are known.
    fn begin_reading(&mut self) {
        let (State::Opened, Some(root), Some(wanted)) = (&self.state, &self.root, &self.wanted) else {
            return;
        };
        let end = wanted.end.min(root.size());
        self.range = wanted.start.min(end)..end;
        self.offset = self.range.start;
        match Reading::new(root, self.range.clone()) {
            Ok(None) => self.finish(),
            Ok(Some(reading)) => {
                if let Source::Split(stream) = &reading.source
                    && stream.blocks_of_range() >= BULK_BLOCKS
                {
                    self.out.push_back(DownloadOutput::Bulk);
                }
                self.state = State::Reading(Box::new(reading));
            }
            Err(why) => self.fail(why),
        }
    }

    fn queue_healing(&mut self, blocks: Vec<Block>) {
        let room = HEAL_WAITING.saturating_sub(self.heal.len());
        self.heal.extend(blocks.into_iter().take(room));
    }

    fn may_heal(&self) -> bool {
        let allowance = HEAL_FREE + self.tally.fetched / HEAL_SHARE;
        self.healing.len() < HEAL_AT_A_TIME && self.heal_begun < allowance
    }

    /// Next thing to do. Drained after every input.
    pub fn poll_output(&mut self) -> Option<DownloadOutput> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        match self.next_step() {
            Ok(Some(output)) => return Some(output),
            Ok(None) => {}
            Err(why) => {
                self.fail(why);
                return self.out.pop_front();
            }
        }
        if !self.may_heal() {
            // What exceeds the allowance when all is done stays as it is.
            if matches!(self.state, State::Done) && self.healing.is_empty() {
                self.heal.clear();
            }
            return None;
        }
        let block = self.heal.pop_front()?;
        let op = self.operation();
        self.heal_begun += 1;
        self.healing.insert(op);
        Some(DownloadOutput::Heal { op, block })
    }

    fn operation(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn next_step(&mut self) -> Result<Option<DownloadOutput>, DownloadFailure> {
        let room = self.unconsumed() < MAX_UNCONSUMED;
        let op = OpId(self.next_op + 1);
        let heal = self.heal.len() < HEAL_WAITING;
        match &mut self.state {
            State::Root(root) => {
                let Some(block) = root.ask(op) else {
                    return Ok(None);
                };
                let wait = root.patience(self.now);
                self.operation();
                Ok(Some(DownloadOutput::Fetch {
                    op,
                    block,
                    expendable: false,
                    wait,
                }))
            }
            State::Reading(reading) => {
                if room && let Some(order) = reading.unpack() {
                    return Ok(Some(DownloadOutput::Work(Work(Order::Unpack(order)))));
                }
                let Source::Split(stream) = &mut reading.source else {
                    return Ok(None);
                };
                if let Some(order) = stream.decode(heal) {
                    return Ok(Some(DownloadOutput::Work(Work(Order::Decode(order)))));
                }
                let Some((block, expendable)) = stream.ask(self.now, op)? else {
                    return Ok(None);
                };
                self.operation();
                Ok(Some(DownloadOutput::Fetch {
                    op,
                    block,
                    expendable,
                    wait: Duration::ZERO,
                }))
            }
            State::Opened | State::Done | State::Failed => Ok(None),
        }
    }

    /// When [`Download::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Root(root) => root.timeout(),
            State::Reading(_) => Some(self.next_tick),
            State::Opened | State::Done | State::Failed => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        match &mut self.state {
            State::Root(root) => root.handle_timeout(now),
            State::Reading(reading) if now >= self.next_tick => {
                if let Source::Split(stream) = &mut reading.source {
                    stream.tick(now);
                }
                self.next_tick = now + TICK;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
