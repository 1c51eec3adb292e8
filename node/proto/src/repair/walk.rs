//! The pace of the walks through the store: the daily census, and hand-overs to newcomers.
//!
//! A census sees each block once a day by the wall clock. Where it stands is remembered over restarts; behind its time, it goes
//! faster, up to a bound, so that a node that is on for a third of the day still looks at everything.

use core::time::Duration;

use warren_keys::Location;

use super::{
    Moment,
    limits::{CATCH_UP, DAY, HAND_OVER_TIME, LEAST_GAP, LEAST_SLICE, MAX_NEWCOMERS, RETRY, SLICES},
};
use crate::{
    time::{Time, WallTime},
    wire::MAX_CENSUS,
};

/// Where the census stands; remembered over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CensusMark {
    /// Where the next slice begins.
    pub cursor: u64,
    /// Blocks seen in this round.
    pub done: u64,
    /// When this round began.
    pub started: WallTime,
}

/// The daily census.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) mark: CensusMark,
    pub(super) next: Time,
}

/// Blocks of one slice.
pub(super) fn slice_len(held: u64) -> usize {
    usize::try_from(held / SLICES)
        .unwrap_or(MAX_CENSUS)
        .clamp(LEAST_SLICE, MAX_CENSUS)
}

/// `time` × `part` / `whole`, `time` at most.
fn portion(time: Duration, part: u64, whole: u64) -> Duration {
    let micros = time.as_micros() * u128::from(part) / u128::from(whole.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(time)
}

impl Census {
    /// The first census of a node, after `delay`.
    pub(super) fn first(now: Time, wall: WallTime, delay: Duration) -> Self {
        let started = WallTime(wall.0.saturating_add(delay.as_secs()));
        Self {
            mark: CensusMark {
                started,
                ..CensusMark::default()
            },
            next: now + delay,
        }
    }

    /// Goes on where an earlier run stopped, after `delay` at the earliest.
    pub(super) fn resume(now: Time, wall: WallTime, mut mark: CensusMark, delay: Duration) -> Self {
        // The clock was ahead when this was written.
        mark.started = mark
            .started
            .min(WallTime(wall.0.saturating_add(2 * DAY.as_secs())));
        let early = Duration::from_secs(mark.started.0.saturating_sub(wall.0));
        Self {
            mark,
            next: now + early.max(delay),
        }
    }

    /// A slice of `count` blocks has been read.
    pub(super) fn advance(&mut self, moment: Moment, count: usize, cursor: Option<u64>, held: u64) {
        let count = count as u64;
        let wall = moment.wall.0;
        let due = if let Some(cursor) = cursor {
            self.mark.cursor = cursor;
            self.mark.done = self.mark.done.saturating_add(count);
            self.mark
                .started
                .0
                .saturating_add(portion(DAY, self.mark.done, held).as_secs())
        } else {
            let started = self.mark.started.0.saturating_add(DAY.as_secs()).max(wall);
            self.mark = CensusMark {
                started: WallTime(started),
                ..CensusMark::default()
            };
            started
        };
        let early = Duration::from_secs(due.saturating_sub(wall));
        let least = portion(DAY / CATCH_UP, count, held).max(LEAST_GAP);
        self.next = moment.now + early.max(least);
    }

    /// The datastore could not answer.
    pub(super) fn put_off(&mut self, now: Time) {
        self.next = now + RETRY;
    }
}

/// Hand-overs: who waits for one, and the one that is going on.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    waiting: Vec<(Time, Location)>,
    active: Option<HandOver>,
}

#[derive(Debug)]
struct HandOver {
    newcomers: Vec<Location>,
    cursor: u64,
    next: Time,
}

impl HandOvers {
    /// A newcomer that should have some of the blocks here, if it stays until `due`.
    pub(super) fn add(&mut self, due: Time, place: Location) {
        self.waiting.retain(|(_, known)| *known != place);
        if self.waiting.len() < MAX_NEWCOMERS {
            self.waiting.push((due, place));
        }
    }

    /// It went away, or does not store any more.
    pub(super) fn remove(&mut self, place: Location) {
        self.waiting.retain(|(_, known)| *known != place);
        if let Some(active) = &mut self.active {
            active.newcomers.retain(|known| *known != place);
            if active.newcomers.is_empty() {
                self.active = None;
            }
        }
    }

    pub(super) fn next(&self) -> Option<Time> {
        let begins = self.waiting.iter().map(|(due, _)| *due).min();
        let goes_on = self.active.as_ref().map(|active| active.next);
        begins.into_iter().chain(goes_on).min()
    }

    /// Where to read next, if that is due. Those who have waited long enough join the walk that is going on; what it has passed
    /// before is the census's business.
    pub(super) fn due(&mut self, now: Time) -> Option<u64> {
        let (ready, waiting): (Vec<_>, Vec<_>) = self.waiting.iter().partition(|(due, _)| *due <= now);
        self.waiting = waiting;
        if !ready.is_empty() {
            let active = self.active.get_or_insert(HandOver {
                newcomers: Vec::new(),
                cursor: 0,
                next: now,
            });
            active.newcomers.extend(ready.iter().map(|(_, place)| *place));
            active.newcomers.truncate(MAX_NEWCOMERS);
        }
        self.active
            .as_ref()
            .filter(|active| active.next <= now)
            .map(|active| active.cursor)
    }

    pub(super) fn newcomers(&self) -> &[Location] {
        self.active.as_ref().map_or(&[], |active| &active.newcomers)
    }

    /// A slice has been read. `wait`: until the budget allows for the next.
    pub(super) fn advance(
        &mut self,
        now: Time,
        count: usize,
        cursor: Option<u64>,
        held: u64,
        wait: Duration,
    ) {
        let (Some(active), Some(cursor)) = (&mut self.active, cursor) else {
            self.active = None;
            return;
        };
        active.cursor = cursor;
        let gap = portion(HAND_OVER_TIME, count as u64, held).max(LEAST_GAP);
        active.next = now + gap.max(wait);
    }

    /// The datastore could not answer.
    pub(super) fn put_off(&mut self, now: Time) {
        if let Some(active) = &mut self.active {
            active.next = now + RETRY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const EPOCH: u64 = 1_800_000_000;

    fn moment(secs: u64) -> Moment {
        Moment {
            now: Time(secs * 1_000_000),
            wall: WallTime(EPOCH + secs),
            uptime: secs,
        }
    }

    /// Walks `held` blocks from second `from` on until `until`; returns the seconds at which rounds ended.
    fn rounds(census: &mut Census, held: u64, until: u64) -> Vec<u64> {
        let mut ends = Vec::new();
        let len = slice_len(held) as u64;
        while census.next < moment(until).now {
            let now = moment(census.next.0 / 1_000_000);
            let count = len.min(held - census.mark.cursor);
            let end = census.mark.cursor + count;
            let cursor = (end < held).then_some(end);
            if cursor.is_none() {
                ends.push(now.now.0 / 1_000_000);
            }
            census.advance(now, usize::try_from(count).unwrap(), cursor, held);
        }
        ends
    }

    #[test]
    fn a_round_takes_a_day_whatever_the_size() {
        for held in [0, 5, 100, 10_000, 300_000] {
            let mut census = Census::first(Time(0), WallTime(EPOCH), DAY);
            let ends = rounds(&mut census, held, 6 * 24 * HOUR);
            assert_eq!(ends.len(), 5, "{held}: {ends:?}");
        }
    }

    #[test]
    fn who_is_on_a_third_of_the_time_keeps_up_and_a_long_absence_is_no_stampede() {
        let mut census = Census::first(Time(0), WallTime(EPOCH), DAY);
        let mut ends = Vec::new();
        for day in 0..7 {
            let on = day * 24 * HOUR;
            census = Census::resume(moment(on).now, moment(on).wall, census.mark, Duration::ZERO);
            ends.extend(rounds(&mut census, 10_000, on + 8 * HOUR));
        }
        assert!(ends.len() >= 5, "{ends:?}");
        // A month later: one round, a quarter of a day long, and then a day each.
        let back = 40 * 24 * HOUR;
        let mut census = Census::resume(moment(back).now, moment(back).wall, census.mark, Duration::ZERO);
        let ends = rounds(&mut census, 10_000, back + 48 * HOUR);
        assert!((2..=3).contains(&ends.len()), "{ends:?}");
        assert!(ends[1] - ends[0] > 20 * HOUR);
    }

    #[test]
    fn newcomers_wait_then_are_walked_to_together() {
        let mut hand_overs = HandOvers::default();
        let place = Location::new;
        let begin = Time(600_000_000);
        hand_overs.add(begin, place(1));
        assert_eq!(hand_overs.due(Time(0)), None);
        assert_eq!((hand_overs.next(), hand_overs.due(begin)), (Some(begin), Some(0)));
        hand_overs.advance(begin, 64, Some(64), 640, Duration::ZERO);
        assert_eq!(hand_overs.due(begin), None);
        hand_overs.add(Time(0), place(2));
        let later = begin + HAND_OVER_TIME / 10;
        assert_eq!(hand_overs.due(later), Some(64));
        assert_eq!(hand_overs.newcomers(), [place(1), place(2)]);
        hand_overs.remove(place(1));
        hand_overs.advance(later, 64, None, 640, Duration::ZERO);
        assert_eq!(hand_overs.next(), None);
        for n in 0..100 {
            hand_overs.add(Time(0), place(n));
        }
        hand_overs.due(later);
        assert_eq!(hand_overs.newcomers().len(), MAX_NEWCOMERS);
    }
}
