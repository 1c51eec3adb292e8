//! Fetching the blocks of one segment: which to ask for, and when there are enough.
//!
//! Two ways. When all of a segment is wanted, data blocks are asked for first and as expendable: for each that fails or
//! is late, one parity block takes its place, and any `data` blocks do. When only a few blocks are wanted (a range, or one
//! block of a list of keys), just those are asked for, searched for thoroughly, and the rest only if one of them is lost.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockId, RoutingKey, splitfile::Segment};

use super::work::Piece;
use crate::{core::api::FetchFailure, ids::OpId, time::Time};

/// How often a block is asked for that nobody could answer about. The pool has tried several exits each time.
const TRIES: u8 = 3;

#[derive(Debug)]
enum Slot {
    Idle,
    Asked {
        op: OpId,
        since: Time,
        thorough: bool,
        tries: u8,
    },
    Here(Block),
    Missed {
        why: FetchFailure,
        thorough: bool,
        tries: u8,
    },
}

/// A block to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    pub(super) index: u16,
    pub(super) expendable: bool,
}

#[derive(Debug)]
pub(super) struct SegmentFetch {
    segment: Segment,
    keys: Vec<RoutingKey>,
    /// Data blocks whose bytes are needed.
    want: Range<u16>,
    slots: Vec<Slot>,
    /// Any `data` blocks do.
    whole: bool,
    /// The publisher's parity does not fit: only the wanted blocks themselves help.
    useless_parity: bool,
    decoding: bool,
    decoded: Option<Bytes>,
    /// Nothing is to be asked for until something happens.
    satisfied: bool,
}

impl SegmentFetch {
    pub(super) fn new(segment: Segment, keys: Vec<RoutingKey>, want: Range<u16>) -> Self {
        let slots = (0..segment.blocks()).map(|_| Slot::Idle).collect();
        let whole = want == (0..segment.data());
        Self {
            segment,
            keys,
            want,
            slots,
            whole,
            useless_parity: false,
            decoding: false,
            decoded: None,
            satisfied: false,
        }
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn keys(&self) -> &[RoutingKey] {
        &self.keys
    }

    /// Data blocks whose bytes are needed.
    pub(super) fn wanted(&self) -> Range<u16> {
        self.want.clone()
    }

    /// Wants more blocks of the segment.
    pub(super) fn widen(&mut self, want: &Range<u16>) {
        let (start, end) = (self.want.start.min(want.start), self.want.end.max(want.end));
        self.satisfied &= self.want == (start..end);
        self.want = start..end;
        self.whole |= self.want == (0..self.segment.data());
    }

    /// Blocks that are here or on their way.
    pub(super) fn held(&self) -> usize {
        self.count(|slot| matches!(slot, Slot::Here(_) | Slot::Asked { .. }))
    }

    /// Bytes that the segment holds or will.
    pub(super) fn bytes(&self) -> usize {
        match &self.decoded {
            Some(data) => data.len(),
            None => self.held().max(self.want.len()) * BLOCK_SIZE,
        }
    }

    fn count(&self, of: impl Fn(&Slot) -> bool) -> usize {
        self.slots.iter().filter(|slot| of(slot)).count()
    }

    fn wanted_slots(&self) -> &[Slot] {
        self.slots
            .get(usize::from(self.want.start)..usize::from(self.want.end))
            .unwrap_or_default()
    }

    /// Whether the bytes of all wanted blocks are here in some form.
    pub(super) fn complete(&self) -> bool {
        self.decoded.is_some()
            || self
                .wanted_slots()
                .iter()
                .all(|slot| matches!(slot, Slot::Here(_)))
    }

    /// Something has changed, or time has passed.
    pub(super) fn stir(&mut self) {
        self.satisfied = false;
    }

    /// The next block to ask for. `patience` is how long an asked block may take before another is asked in its place.
    pub(super) fn wish(&mut self, now: Time, patience: Option<Duration>) -> Option<Wish> {
        if self.satisfied || self.decoding || self.complete() {
            return None;
        }
        let wish = if self.whole && !self.useless_parity {
            self.wish_any(now, patience)
        } else {
            self.wish_wanted()
        };
        self.satisfied = wish.is_none();
        wish
    }

    fn wish_wanted(&mut self) -> Option<Wish> {
        let found = self.want.clone().find(|index| self.askable(*index, true));
        let found = found.map(|index| Wish {
            index,
            expendable: false,
        });
        let lost = |slot: &Slot| matches!(slot, Slot::Missed { .. });
        if found.is_none() && !self.useless_parity && self.wanted_slots().iter().any(lost) {
            self.whole = true;
            return self.wish_any(Time(0), None);
        }
        found
    }

    fn wish_any(&mut self, now: Time, patience: Option<Duration>) -> Option<Wish> {
        let needed = usize::from(self.segment.data());
        let late = |since: &Time| patience.is_some_and(|patience| now.since(*since) > patience);
        let here = self.count(|slot| matches!(slot, Slot::Here(_)));
        let asked = self.count(|slot| matches!(slot, Slot::Asked { .. }));
        let hoped = here + self.count(|slot| matches!(slot, Slot::Asked { since, .. } if !late(since)));
        if hoped >= needed {
            return None;
        }
        let idle = self.count(|slot| matches!(slot, Slot::Idle));
        if let Some(index) = self.slots.iter().position(|slot| matches!(slot, Slot::Idle)) {
            let spare = here + asked + idle > needed;
            return Some(Wish {
                index: u16::try_from(index).ok()?,
                expendable: spare,
            });
        }
        if here + asked >= needed {
            // Some are late, but nothing else is left to hope for.
            return None;
        }
        let again = (0..self.segment.blocks()).find(|index| self.askable(*index, false));
        again.map(|index| Wish {
            index,
            expendable: false,
        })
    }

    /// Whether asking for a block (again) may help.
    fn askable(&self, index: u16, or_first: bool) -> bool {
        match self.slots.get(usize::from(index)) {
            Some(Slot::Idle) => or_first,
            Some(Slot::Missed { thorough: false, .. }) => true,
            Some(Slot::Missed {
                why: FetchFailure::Unreachable,
                tries,
                ..
            }) => *tries < TRIES,
            _ => false,
        }
    }

    /// A wish was granted; gives the block to ask for.
    pub(super) fn asked(&mut self, wish: Wish, op: OpId, now: Time) -> Option<BlockId> {
        let (index, thorough) = (usize::from(wish.index), !wish.expendable);
        let slot = self.slots.get_mut(index)?;
        let tries = if let Slot::Missed { tries, .. } = slot {
            *tries
        } else {
            0
        };
        *slot = Slot::Asked {
            op,
            since: now,
            thorough,
            tries,
        };
        self.keys.get(index).map(|key| BlockId::content(*key))
    }

    /// An answer. Gives how long it took, if it was the one awaited.
    pub(super) fn fetched(
        &mut self,
        op: OpId,
        index: u16,
        result: Result<Block, FetchFailure>,
        now: Time,
    ) -> Option<Duration> {
        let slot = self.slots.get_mut(usize::from(index))?;
        let &mut Slot::Asked {
            op: awaited,
            since,
            thorough,
            tries,
        } = slot
        else {
            return None;
        };
        if awaited != op {
            return None;
        }
        *slot = match result {
            Ok(block) => Slot::Here(block),
            Err(why) => Slot::Missed {
                why,
                thorough,
                tries: tries + 1,
            },
        };
        self.satisfied = false;
        Some(now.since(since))
    }

    /// Why the segment cannot be had any more.
    pub(super) fn hopeless(&self) -> Option<FetchFailure> {
        if self.complete() || self.decoding {
            return None;
        }
        let range = if self.useless_parity {
            self.want.clone()
        } else {
            0..self.segment.blocks()
        };
        let needed = if self.useless_parity {
            range.len()
        } else {
            usize::from(self.segment.data())
        };
        let of_range = || {
            range
                .clone()
                .filter_map(|index| Some((index, self.slots.get(usize::from(index))?)))
        };
        let possible = of_range()
            .filter(|(index, slot)| match slot {
                Slot::Idle | Slot::Asked { .. } | Slot::Here(_) => true,
                Slot::Missed { .. } => self.askable(*index, true),
            })
            .count();
        if possible >= needed {
            return None;
        }
        let silent = |slot: &Slot| {
            matches!(
                slot,
                Slot::Missed {
                    why: FetchFailure::Unreachable,
                    ..
                }
            )
        };
        let unreachable = of_range().any(|(_, slot)| silent(slot));
        Some(if unreachable {
            FetchFailure::Unreachable
        } else {
            FetchFailure::NotFound
        })
    }

    /// The blocks for the erasure code, when it is needed and has enough.
    pub(super) fn begin_decoding(&mut self) -> Option<Vec<Option<Block>>> {
        let enough = self.count(|slot| matches!(slot, Slot::Here(_))) >= usize::from(self.segment.data());
        if !self.whole || self.useless_parity || self.decoding || self.complete() || !enough {
            return None;
        }
        self.decoding = true;
        let block = |slot: &Slot| {
            if let Slot::Here(block) = slot {
                Some(block.clone())
            } else {
                None
            }
        };
        Some(self.slots.iter().map(block).collect())
    }

    /// Places of blocks that the network was searched for and does not have.
    pub(super) fn missing(&self) -> Vec<u16> {
        let missing = |slot: &Slot| {
            matches!(
                slot,
                Slot::Missed {
                    why: FetchFailure::NotFound,
                    ..
                }
            )
        };
        (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| missing(slot))
            .map(|(index, _)| index)
            .collect()
    }

    /// The erasure code has done its work.
    pub(super) fn decoded(&mut self, data: Bytes) {
        self.decoding = false;
        self.decoded = Some(data);
        self.slots.clear();
    }

    /// The parity does not fit the data: only the data blocks themselves are left to try.
    pub(super) fn parity_is_useless(&mut self) {
        self.decoding = false;
        self.useless_parity = true;
        self.satisfied = false;
    }

    /// What is there of the stream from `from` on, without a gap, up to `to` and to `most` blocks.
    pub(super) fn pieces(&self, from: u64, to: u64, most: usize) -> Vec<Piece> {
        let end = to.min(self.segment.offset() + self.segment.bytes() as u64);
        let inside =
            |at: u64| usize::try_from(at.saturating_sub(self.segment.offset())).unwrap_or(usize::MAX);
        if from >= end {
            return Vec::new();
        }
        if let Some(data) = &self.decoded {
            let stop = inside(end).min(inside(from) + most * BLOCK_SIZE);
            return vec![Piece::Bytes(data.slice(inside(from)..stop))];
        }
        let mut pieces = Vec::new();
        let (mut at, end) = (inside(from), inside(end));
        while at < end && pieces.len() < most {
            let place = at / BLOCK_SIZE;
            let (Some(Slot::Here(block)), Some(key), Ok(index)) =
                (self.slots.get(place), self.keys.get(place), u16::try_from(place))
            else {
                break;
            };
            let stop = end.min((place + 1) * BLOCK_SIZE);
            let trim = at % BLOCK_SIZE..at % BLOCK_SIZE + (stop - at);
            pieces.push(Piece::Block {
                segment: self.segment,
                index,
                key: *key,
                block: block.clone(),
                trim,
            });
            at = stop;
        }
        pieces
    }

    /// A block that is here.
    pub(super) fn block(&self, index: u16) -> Option<&Block> {
        match self.slots.get(usize::from(index)) {
            Some(Slot::Here(block)) => Some(block),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_keys::splitfile::Layout;

    use super::*;
    use crate::client::testing::block;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(1));

    /// A segment of 10 data and 7 parity blocks.
    fn segment() -> (Segment, Vec<RoutingKey>) {
        let layout = Layout::of_stream(10 * BLOCK_SIZE as u64).unwrap();
        let segment = layout.content().segment(0).unwrap();
        let keys = (0..u64::from(segment.blocks()))
            .map(|index| block(index).key())
            .collect();
        (segment, keys)
    }

    fn whole() -> SegmentFetch {
        let (segment, keys) = segment();
        SegmentFetch::new(segment, keys, 0..10)
    }

    fn ask_all(fetch: &mut SegmentFetch, now: Time) -> Vec<Wish> {
        let mut wishes = Vec::new();
        while let Some(wish) = fetch.wish(now, PATIENCE) {
            fetch.asked(wish, OpId(u64::from(wish.index)), now);
            wishes.push(wish);
        }
        wishes
    }

    fn answer(fetch: &mut SegmentFetch, index: u16, why: Option<FetchFailure>) {
        let result = why.map_or_else(|| Ok(block(u64::from(index))), Err);
        assert!(
            fetch
                .fetched(OpId(u64::from(index)), index, result, Time(1))
                .is_some()
        );
    }

    fn indices(wishes: &[Wish]) -> Vec<u16> {
        wishes.iter().map(|wish| wish.index).collect()
    }

    #[test]
    fn data_first_then_one_parity_for_each_loss() {
        let mut fetch = whole();
        let first = ask_all(&mut fetch, Time(0));
        assert_eq!(indices(&first), (0..10).collect::<Vec<_>>());
        assert!(first.iter().all(|wish| wish.expendable));
        answer(&mut fetch, 3, Some(FetchFailure::NotFound));
        answer(&mut fetch, 4, Some(FetchFailure::Unreachable));
        assert_eq!(indices(&ask_all(&mut fetch, Time(0))), [10, 11]);
        for index in [0, 1, 2, 5, 6, 7, 8, 9, 10] {
            answer(&mut fetch, index, None);
            assert!(fetch.begin_decoding().is_none());
        }
        answer(&mut fetch, 11, None);
        let blocks = fetch.begin_decoding().unwrap();
        assert_eq!(blocks.iter().flatten().count(), 10);
        assert_eq!(
            fetch.missing(),
            [3],
            "what nobody could answer about is not missing"
        );
        assert!(fetch.begin_decoding().is_none());
    }

    #[test]
    fn late_blocks_are_replaced_too() {
        let mut fetch = whole();
        ask_all(&mut fetch, Time(0));
        for index in 0..8 {
            answer(&mut fetch, index, None);
        }
        fetch.stir();
        assert!(ask_all(&mut fetch, Time(900_000)).is_empty());
        fetch.stir();
        assert_eq!(indices(&ask_all(&mut fetch, Time(1_100_000))), [10, 11]);
    }

    #[test]
    fn the_last_hopes_are_searched_for_thoroughly() {
        let mut fetch = whole();
        ask_all(&mut fetch, Time(0));
        for index in 0..7 {
            answer(&mut fetch, index, Some(FetchFailure::NotFound));
        }
        let parity = ask_all(&mut fetch, Time(0));
        assert_eq!(indices(&parity), (10..17).collect::<Vec<_>>());
        assert!(!parity.last().unwrap().expendable, "no sibling is left for it");
        answer(&mut fetch, 10, Some(FetchFailure::NotFound));
        assert_eq!(fetch.hopeless(), None);
        assert_eq!(
            ask_all(&mut fetch, Time(0)),
            [Wish {
                index: 0,
                expendable: false
            }]
        );
        for index in 0..7 {
            answer(&mut fetch, index, Some(FetchFailure::NotFound));
            ask_all(&mut fetch, Time(0));
        }
        assert_eq!(fetch.hopeless(), Some(FetchFailure::NotFound));
    }

    #[test]
    fn silence_is_not_absence() {
        let mut fetch = whole();
        for _ in 0..100 {
            for wish in ask_all(&mut fetch, Time(0)) {
                answer(&mut fetch, wish.index, Some(FetchFailure::Unreachable));
            }
        }
        assert_eq!(fetch.hopeless(), Some(FetchFailure::Unreachable));
    }

    #[test]
    fn a_few_wanted_blocks_are_fetched_alone_unless_one_is_lost() {
        let (segment, keys) = segment();
        let mut fetch = SegmentFetch::new(segment, keys, 4..6);
        let wishes = ask_all(&mut fetch, Time(0));
        assert_eq!(
            wishes,
            [
                Wish {
                    index: 4,
                    expendable: false
                },
                Wish {
                    index: 5,
                    expendable: false
                }
            ]
        );
        answer(&mut fetch, 4, None);
        assert!(!fetch.complete());
        answer(&mut fetch, 5, Some(FetchFailure::NotFound));
        let others = ask_all(&mut fetch, Time(0));
        assert_eq!(others.len(), 9);
        for wish in others {
            answer(&mut fetch, wish.index, None);
        }
        assert!(fetch.begin_decoding().is_some());
    }

    #[test]
    fn useless_parity_leaves_the_data_blocks() {
        let mut fetch = whole();
        ask_all(&mut fetch, Time(0));
        answer(&mut fetch, 0, Some(FetchFailure::NotFound));
        ask_all(&mut fetch, Time(0));
        for index in 1..11 {
            answer(&mut fetch, index, None);
        }
        assert!(fetch.begin_decoding().is_some());
        fetch.parity_is_useless();
        assert_eq!(
            ask_all(&mut fetch, Time(0)),
            [Wish {
                index: 0,
                expendable: false
            }]
        );
        answer(&mut fetch, 0, Some(FetchFailure::NotFound));
        assert_eq!(fetch.hopeless(), Some(FetchFailure::NotFound));
    }

    #[test]
    fn pieces_stop_at_the_first_gap_and_are_cut_to_the_range() {
        let mut fetch = whole();
        ask_all(&mut fetch, Time(0));
        for index in [0, 1, 3] {
            answer(&mut fetch, index, None);
        }
        let trims: Vec<_> = fetch
            .pieces(100, 10 * BLOCK_SIZE as u64, 32)
            .iter()
            .map(|piece| match piece {
                Piece::Block { index, trim, .. } => (*index, trim.clone()),
                Piece::Bytes(_) => (99, 0..0),
            })
            .collect();
        assert_eq!(trims, [(0, 100..BLOCK_SIZE), (1, 0..BLOCK_SIZE)]);
        assert_eq!(fetch.pieces(100, 200, 32).len(), 1);
        assert_eq!(fetch.pieces(0, 10 * BLOCK_SIZE as u64, 1).len(), 1);
        assert!(
            fetch
                .pieces(2 * BLOCK_SIZE as u64, 10 * BLOCK_SIZE as u64, 9)
                .is_empty()
        );
    }
}
