//! A range of a splitfile's stream, in order: a window of segments, and the lists that hold their keys.
//!
//! Invariant: what the window holds or awaits stays below [`WINDOW`] and one segment, whatever the file's size.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::Duration,
};

use bytes::Bytes;
use warren_keys::{
    BLOCK_SIZE, Block, BlockId,
    splitfile::{Coder, CodingError, DecodeError, KeyTree, Keys, Segment, Splitfile, Wanted},
};

use super::{
    DownloadFailure,
    segment::SegmentFetch,
    work::{DecodeOrder, Piece},
};
use crate::{core::api::FetchFailure, ids::OpId, time::Time};

/// Bytes of blocks that are here or on their way. With decoding (6 MiB each), a consumer that is behind and the lists of a
/// file of terabytes (24 MiB at most) the whole stays below 64 MiB.
pub(super) const WINDOW: usize = 24 << 20;
/// Segments decoded at a time.
const MAX_DECODING: usize = 2;
/// Blocks asked for at a time, at least and at most. In between: what comes in two seconds, so that what is asked for
/// late (parity for a loss at the front) does not wait long behind what was asked for early.
const MIN_ASKED: usize = 64;
const MAX_ASKED: usize = WINDOW / BLOCK_SIZE;
/// The least time before a block counts as late.
const MIN_PATIENCE: Duration = Duration::from_millis(700);
/// A block is late after so many times the usual.
const LATE: u32 = 3;
/// Segments at the front in which late blocks are replaced: those that the reader waits for, or soon will.
const HURRIED: usize = 2;
/// Stretch over which the rate of incoming blocks is measured.
const RATE_TIME: Duration = Duration::from_secs(1);

/// Where a block that was asked for belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    level: u8,
    segment: u64,
    index: u16,
}

#[derive(Debug)]
pub(super) struct StreamFetch {
    tree: KeyTree,
    range: Range<u64>,
    /// Next byte to give out.
    at: u64,
    /// Next segment to enter the window.
    next: Option<Segment>,
    /// Nothing is fetched ahead: the segment at the front alone.
    frugal: bool,
    window: VecDeque<SegmentFetch>,
    lists: BTreeMap<(u8, u64), SegmentFetch>,
    asked: BTreeMap<OpId, Place>,
    decoding: usize,
    /// Usual time from asking to having.
    usual: Option<Duration>,
    /// Blocks that came since the mark, and in the stretch before.
    came: usize,
    rate: usize,
    rate_mark: Time,
}

/// Counts for the progress report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) fetched: u64,
    pub(super) failed: u64,
}

impl StreamFetch {
    pub(super) fn new(file: Splitfile, range: Range<u64>) -> Self {
        let mut stream = Self {
            tree: KeyTree::new(file),
            range: 0..0,
            at: 0,
            next: None,
            frugal: false,
            window: VecDeque::new(),
            lists: BTreeMap::new(),
            asked: BTreeMap::new(),
            decoding: 0,
            usual: None,
            came: 0,
            rate: 0,
            rate_mark: Time(0),
        };
        stream.seek(range);
        stream
    }

    pub(super) fn file(&self) -> &Splitfile {
        self.tree.file()
    }

    /// Goes on with another range; what was under way is forgotten.
    pub(super) fn seek(&mut self, range: Range<u64>) {
        self.window.clear();
        self.asked.retain(|_, place| place.level > 0);
        self.at = range.start;
        self.next = self
            .tree
            .file()
            .layout()
            .content()
            .segment_at(range.start)
            .filter(|_| !range.is_empty());
        self.range = range;
    }

    /// Whether the whole range has been given out.
    pub(super) fn exhausted(&self) -> bool {
        self.at >= self.range.end
    }

    /// Whether to fetch nothing ahead.
    pub(super) fn set_frugal(&mut self, frugal: bool) {
        self.frugal = frugal;
    }

    /// Bytes held or awaited, lists aside.
    pub(super) fn bytes(&self) -> usize {
        self.window
            .iter()
            .chain(self.lists.values())
            .map(SegmentFetch::bytes)
            .sum()
    }

    /// Lets segments into the window as far as their keys are known and there is room.
    fn advance(&mut self) -> Result<(), DownloadFailure> {
        while let Some(segment) = self.next {
            let ahead = !self.frugal && self.bytes() + usize::from(segment.data()) * BLOCK_SIZE <= WINDOW;
            if !ahead && !self.window.is_empty() {
                return Ok(());
            }
            match self.tree.keys(&segment) {
                None => return Err(DecodeError::from(CodingError::OtherBlock(0)).into()),
                Some(Keys::Needs(wanted)) => {
                    self.want_list(wanted);
                    return Ok(());
                }
                Some(Keys::Known(keys)) => {
                    let want = self.wanted_of(&segment);
                    self.window.push_back(SegmentFetch::new(segment, keys, want));
                    let end = segment.offset() + segment.bytes() as u64;
                    let content = self.tree.file().layout().content();
                    self.next = content
                        .segment(segment.index() + 1)
                        .filter(|_| end < self.range.end);
                }
            }
        }
        Ok(())
    }

    fn wanted_of(&self, segment: &Segment) -> Range<u16> {
        let end = (segment.offset() + segment.bytes() as u64).min(self.range.end);
        let first = segment
            .block_at(self.range.start.max(segment.offset()))
            .unwrap_or(0);
        let last = segment
            .block_at(end.saturating_sub(1))
            .unwrap_or(segment.data() - 1);
        first..last + 1
    }

    fn want_list(&mut self, wanted: Wanted) {
        let Wanted {
            segment,
            keys,
            blocks,
        } = wanted;
        match self.lists.get_mut(&(segment.level(), segment.index())) {
            Some(list) => list.widen(&blocks),
            None => {
                let list = SegmentFetch::new(segment, keys, blocks);
                self.lists.insert((segment.level(), segment.index()), list);
            }
        }
    }

    /// The next block to ask for: lists before content, the front before the rest.
    pub(super) fn ask(&mut self, now: Time, op: OpId) -> Result<Option<(BlockId, bool)>, DownloadFailure> {
        self.advance()?;
        let most = if self.frugal { MIN_ASKED } else { MAX_ASKED };
        if self.asked.len() >= (self.rate * 2).clamp(MIN_ASKED, most) {
            return Ok(None);
        }
        let patience = self
            .usual
            .map_or(MIN_PATIENCE * LATE, |usual| usual * LATE)
            .max(MIN_PATIENCE);
        let lists = self.lists.values_mut().map(|list| (list, Some(patience)));
        let hurried = (0..).zip(self.window.iter_mut());
        let content = hurried.map(|(index, segment)| (segment, (index < HURRIED).then_some(patience)));
        for (fetch, patience) in lists.chain(content) {
            if let Some(wish) = fetch.wish(now, patience)
                && let Some(block) = fetch.asked(wish, op, now)
            {
                let segment = fetch.segment();
                let place = Place {
                    level: segment.level(),
                    segment: segment.index(),
                    index: wish.index,
                };
                self.asked.insert(op, place);
                return Ok(Some((block, wish.expendable)));
            }
        }
        Ok(None)
    }

    fn segment_mut(&mut self, level: u8, index: u64) -> Option<&mut SegmentFetch> {
        match level {
            0 => self
                .window
                .iter_mut()
                .find(|each| each.segment().index() == index),
            level => self.lists.get_mut(&(level, index)),
        }
    }

    /// An answer; `false` when the stream did not ask.
    pub(super) fn fetched(
        &mut self,
        now: Time,
        op: OpId,
        result: Result<Block, FetchFailure>,
        tally: &mut Tally,
    ) -> Result<bool, DownloadFailure> {
        let Some(place) = self.asked.remove(&op) else {
            return Ok(false);
        };
        match &result {
            Ok(_) => tally.fetched += 1,
            Err(_) => tally.failed += 1,
        }
        let came = result.is_ok();
        let Some(fetch) = self.segment_mut(place.level, place.segment) else {
            return Ok(true);
        };
        let took = fetch.fetched(op, place.index, result, now);
        if let Some(why) = fetch.hopeless() {
            return Err(why.into());
        }
        if let (true, Some(took)) = (came, took) {
            self.came += 1;
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        if place.level > 0 {
            self.read_list(place.level, place.segment)?;
        }
        Ok(true)
    }

    /// Takes keys out of a list whose wanted blocks are here.
    fn read_list(&mut self, level: u8, index: u64) -> Result<(), DownloadFailure> {
        let place = (level, index);
        let Some(list) = self.lists.get(&place).filter(|list| list.complete()) else {
            return Ok(());
        };
        let mut opened: Vec<(u16, Bytes)> = Vec::new();
        for block_index in list.wanted() {
            let (Some(block), Some(key)) =
                (list.block(block_index), list.keys().get(usize::from(block_index)))
            else {
                continue;
            };
            let plain = Coder::open_block(self.tree.file().key(), list.segment(), block_index, *key, block);
            opened.push((block_index, plain.map_err(DecodeError::from)?));
        }
        let segment = *list.segment();
        self.lists.remove(&place);
        for (block_index, plain) in opened {
            self.tree.insert_block(&segment, block_index, plain);
        }
        Ok(())
    }

    /// A segment for the erasure code. `heal` says whether lost blocks are to be made again.
    pub(super) fn decode(&mut self, heal: bool) -> Option<DecodeOrder> {
        if self.decoding >= MAX_DECODING {
            return None;
        }
        let key = self.tree.file().key().clone();
        for fetch in self.lists.values_mut().chain(&mut self.window) {
            if let Some(blocks) = fetch.begin_decoding() {
                self.decoding += 1;
                let missing = if heal { fetch.missing() } else { Vec::new() };
                return Some(DecodeOrder {
                    key,
                    segment: *fetch.segment(),
                    keys: fetch.keys().to_vec(),
                    blocks,
                    missing,
                });
            }
        }
        None
    }

    pub(super) fn decoded(
        &mut self,
        segment: &Segment,
        result: Result<Bytes, DecodeError>,
    ) -> Result<(), DownloadFailure> {
        self.decoding = self.decoding.saturating_sub(1);
        let Some(fetch) = self.segment_mut(segment.level(), segment.index()) else {
            return Ok(());
        };
        match result {
            Ok(data) if segment.level() > 0 => {
                self.lists.remove(&(segment.level(), segment.index()));
                self.tree.insert_segment(segment, &data);
            }
            Ok(data) => fetch.decoded(data),
            Err(why @ DecodeError::Inconsistent(_)) => {
                fetch.parity_is_useless();
                if fetch.hopeless().is_some() {
                    return Err(why.into());
                }
            }
            Err(why) => return Err(why.into()),
        }
        Ok(())
    }

    /// The next bytes in order, as far as they are here; segments that were given out leave the window.
    pub(super) fn pieces(&mut self, most: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(front) = self.window.front() {
            let more = front.pieces(self.at, self.range.end, most.saturating_sub(pieces.len()));
            self.at += more.iter().map(Piece::len).sum::<usize>() as u64;
            pieces.extend(more);
            let end = front.segment().offset() + front.segment().bytes() as u64;
            if self.at < end.min(self.range.end) {
                break;
            }
            let gone = self.window.pop_front();
            let index = gone.map(|gone| gone.segment().index());
            // Late answers are of no use any more.
            self.asked
                .retain(|_, place| place.level > 0 || Some(place.segment) != index);
        }
        pieces
    }

    /// Time has passed: late blocks may be replaced, and the rate is measured.
    pub(super) fn tick(&mut self, now: Time) {
        for fetch in self
            .lists
            .values_mut()
            .chain(self.window.iter_mut().take(HURRIED))
        {
            fetch.stir();
        }
        if now.since(self.rate_mark) >= RATE_TIME {
            let stretch = u64::try_from(now.since(self.rate_mark).as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            self.rate = usize::try_from(self.came as u64 * 1000 / stretch).unwrap_or(MAX_ASKED);
            (self.came, self.rate_mark) = (0, now);
        }
    }

    /// Blocks that the rest of the range needs at least, as far as known.
    pub(super) fn blocks_of_range(&self) -> u64 {
        let blocks = (self.range.end - self.range.start).div_ceil(BLOCK_SIZE as u64);
        // Lists: 32 bytes of key for each of 192 blocks for every 128 of content.
        blocks + blocks * 3 / 2 / 1024
    }
}
