//! What the clocks of other nodes say, and whether this machine's own is wrong.
//!
//! Handshakes of nodes whose clocks differ by more than a day come to nothing (protocol §4.5), and descriptors dated in the far past or
//! future are not used (protocol §3.2). A node whose clock is wrong would see nothing but silence. It has two kinds of witnesses: each
//! neighbour's descriptor was dated when it introduced itself or up to a renewal earlier; and whoever dials this node with a clock that
//! differs says which hour it is. All are judged by the clock as it is now, so that the verdict ends when the clock is set right.
//!
//! Invariants: nothing follows from a verdict but words to the owner, since a crowd of liars could bring one about; memory is bounded by the
//! number of links and [`MAX_REFUSED`].

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use warren_proto::{
    descriptor::{DESCRIPTOR_MAX_LEAD, DESCRIPTOR_RENEWAL},
    ids::LinkId,
    time::{Time, WallTime},
};

/// Dialers with other clocks that are remembered, one for each address. More would not make the verdict surer.
const MAX_REFUSED: usize = 32;

/// How long they are. Nodes that are looked for are dialled again at least every ten minutes.
const REFUSED_MEMORY: Duration = Duration::from_secs(1800);

/// Witnesses needed: one of two clocks is wrong when two differ, and nobody knows which.
const MIN_WITNESSES: usize = 2;

/// Difference that the protocol bears.
const BORNE: u64 = DESCRIPTOR_MAX_LEAD.as_secs();

/// A neighbour signs anew after [`DESCRIPTOR_RENEWAL`], and some minutes for its own upkeep.
const OLDEST: u64 = DESCRIPTOR_RENEWAL.as_secs() + 600;

/// What is to be said about this machine's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WrongClock {
    /// Whether it shows a later time than the others' clocks.
    ahead: bool,
    /// By how much, seconds, about.
    by: u64,
    /// Nodes that say so.
    witnesses: usize,
    /// All that were heard.
    heard: usize,
}

impl fmt::Display for WrongClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.by / 3600;
        let (number, unit) = if hours < 48 {
            (hours, "hours")
        } else {
            ((hours + 12) / 24, "days")
        };
        let direction = if self.ahead { "ahead of" } else { "behind" };
        write!(
            f,
            "this machine's clock is about {number} {unit} {direction} those of {} of the {} nodes heard from; while it is, nodes do not \
             accept new links from this one, nor it from them: set the clock",
            self.witnesses, self.heard
        )
    }
}

/// What one other node's clock showed at a moment: between two points in time.
#[derive(Clone, Copy)]
struct Reading {
    at: Time,
    earliest: u64,
    latest: u64,
}

/// See the [module documentation](self).
#[derive(Default)]
pub(crate) struct Clocks(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    links: BTreeMap<LinkId, Reading>,
    refused: VecDeque<(IpAddr, Reading)>,
}

impl Clocks {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A neighbour has introduced itself with a descriptor of this date.
    pub(crate) fn introduced(&self, now: Time, link: LinkId, published: u64) {
        let reading = Reading {
            at: now,
            earliest: published,
            latest: published.saturating_add(OLDEST),
        };
        self.lock().links.insert(link, reading);
    }

    /// A link has ended.
    pub(crate) fn gone(&self, link: LinkId) {
        self.lock().links.remove(&link);
    }

    /// A dialer that knows this node was refused because its clock differs too much: it shows this hour since the Unix epoch.
    pub(crate) fn refused(&self, now: Time, from: IpAddr, hour: u32) {
        let earliest = u64::from(hour) * 3600;
        let reading = Reading {
            at: now,
            earliest,
            latest: earliest + 3600,
        };
        let mut heard = self.lock();
        heard.refused.retain(|(other, _)| *other != from);
        if heard.refused.len() >= MAX_REFUSED {
            heard.refused.pop_front();
        }
        heard.refused.push_back((from, reading));
    }

    /// Compares the clock with what was heard. Something is said only when most of the others agree.
    pub(crate) fn judge(&self, now: Time, wall: WallTime) -> Option<WrongClock> {
        let mut heard = self.lock();
        heard
            .refused
            .retain(|(_, reading)| now.since(reading.at) < REFUSED_MEMORY);
        let readings = heard.links.values();
        let readings: Vec<Reading> = readings
            .chain(heard.refused.iter().map(|(_, reading)| reading))
            .copied()
            .collect();
        drop(heard);
        let [mut ahead, mut behind] = [Vec::new(), Vec::new()];
        for reading in &readings {
            let passed = now.since(reading.at).as_secs();
            let (earliest, latest) = (
                reading.earliest.saturating_add(passed),
                reading.latest.saturating_add(passed),
            );
            if wall.0 > latest.saturating_add(BORNE) {
                // In the middle of what it may be.
                ahead.push(wall.0 - earliest / 2 - latest / 2);
            } else if wall.0.saturating_add(BORNE) < earliest {
                behind.push(earliest / 2 + latest / 2 - wall.0);
            }
        }
        let heard = readings.len();
        [(true, ahead), (false, behind)]
            .into_iter()
            .find_map(|(ahead, mut by)| {
                let witnesses = by.len();
                by.sort_unstable();
                (witnesses >= MIN_WITNESSES && 2 * witnesses > heard).then(|| WrongClock {
                    ahead,
                    by: by[witnesses / 2],
                    witnesses,
                    heard,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const WALL: u64 = 20_000 * DAY;

    /// What is said after `passed` when the clock shows `wall`.
    fn said(clocks: &Clocks, passed: u64, wall: u64) -> Option<String> {
        let now = Time(0) + Duration::from_secs(passed);
        clocks.judge(now, WallTime(wall)).map(|wrong| wrong.to_string())
    }

    /// Three neighbours that came at time 0, with descriptors of different age.
    fn linked() -> Clocks {
        let clocks = Clocks::default();
        for (link, age) in [(1, 0), (2, 5 * 3600), (3, DAY - 60)] {
            clocks.introduced(Time(0), LinkId(link), WALL - age);
        }
        clocks
    }

    #[test]
    fn a_clock_that_agrees_within_a_day_is_right_however_old_the_links_are() {
        let clocks = linked();
        for passed in [0, DAY, 400 * DAY] {
            for offset in [0, DAY, DAY + 3600] {
                assert_eq!(said(&clocks, passed, WALL + passed + offset), None);
                assert_eq!(said(&clocks, passed, WALL + passed - offset), None);
            }
        }
    }

    #[test]
    fn a_jump_is_said_with_its_size_and_ends_with_it() {
        let clocks = linked();
        let ahead = said(&clocks, 60, WALL + 60 + 40 * DAY).unwrap();
        assert!(
            ahead.contains("about 40 days ahead of those of 3 of the 3"),
            "{ahead}"
        );
        let behind = said(&clocks, 60, WALL + 60 - 40 * DAY).unwrap();
        assert!(behind.contains("about 40 days behind"), "{behind}");
        assert!(said(&clocks, 60, 0).is_some(), "an unset clock");
        assert_eq!(said(&clocks, 60, WALL + 60), None);
    }

    #[test]
    fn one_witness_or_a_minority_says_nothing() {
        let clocks = linked();
        for number in 1..=3 {
            clocks.refused(Time(0), [192, 0, 2, number].into(), u32::MAX);
        }
        // The same one again is the same one.
        clocks.refused(Time(0), [192, 0, 2, 1].into(), u32::MAX);
        assert_eq!(said(&clocks, 0, WALL), None, "three against three");
        clocks.gone(LinkId(1));
        assert!(said(&clocks, 0, WALL).unwrap().contains("3 of the 5"));
        let late = REFUSED_MEMORY.as_secs();
        assert_eq!(said(&clocks, late, WALL + late), None, "forgotten");
        let alone = Clocks::default();
        alone.introduced(Time(0), LinkId(1), 0);
        assert_eq!(said(&alone, 0, WALL), None);
    }

    #[test]
    fn who_dials_in_vain_tells_the_hour() {
        let clocks = Clocks::default();
        let hour = u32::try_from(WALL / 3600).unwrap();
        for number in 0..=255 {
            clocks.refused(Time(0), [192, 0, 2, number].into(), hour);
        }
        let text = said(&clocks, 0, WALL - 30 * 3600).unwrap();
        assert!(text.contains("30 hours behind those of 32 of the 32"), "{text}");
        assert_eq!(said(&clocks, 0, WALL), None);
    }
}
