//! How many requests one circuit may have open (protocol §8.4).
//!
//! Grows until queues do: by one for each answer at first, by one for each window of answers later, and not at all while
//! answers take much longer than the fastest ones. Halves when the exit says Busy or a request times out. Round trips of
//! fetches and of inserts differ by the datastore's write and the copies, so each has its own estimate.

use std::{collections::VecDeque, time::Duration};

use crate::time::Time;

/// Open requests of a fresh circuit. Ten blocks are in flight within one round trip even over slow links.
pub const INITIAL_WINDOW: f32 = 10.0;
/// The most: what an exit accepts from one circuit.
pub const MAX_WINDOW: f32 = 64.0;
/// The fewest: enough to notice that things have improved.
pub const MIN_WINDOW: f32 = 2.0;
/// Answers may take so many times the fastest one's time before the window stops growing. Paths of key routing differ in
/// length by about this factor, so less would mistake a far block for a queue.
const INFLATION: u32 = 3;
/// And so much longer in any case: below it queues cost nobody anything.
const SLACK: Duration = Duration::from_millis(40);
/// Beyond so many times the limit above, the window shrinks by one for each window of answers.
const SHRINK: u32 = 3;
/// The fastest round trip is forgotten after one to two times this, since paths change.
const MIN_RTT_AGE: Duration = Duration::from_secs(20);

/// Times remembered of a [`Pace`].
const PACE_SAMPLES: usize = 64;
/// Fewer of them say nothing.
const PACE_LEAST: usize = 4;

/// What something usually takes, by the last times that it took: the median, which a few silent nodes do not move.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    times: VecDeque<Duration>,
}

impl Pace {
    pub(crate) fn sample(&mut self, took: Duration) {
        if self.times.len() >= PACE_SAMPLES {
            self.times.pop_front();
        }
        self.times.push_back(took);
    }

    /// The usual time, once it is known.
    pub(crate) fn median(&self) -> Option<Duration> {
        if self.times.len() < PACE_LEAST {
            return None;
        }
        let mut times: Vec<Duration> = self.times.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

/// Estimate of round trips of one kind of request through one circuit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    deviation: Duration,
    fastest: [Option<Duration>; 2],
    rotated: Time,
}

impl Rtt {
    pub(crate) fn sample(&mut self, now: Time, rtt: Duration) {
        // RFC 6298 §2.3.
        match self.smoothed {
            None => (self.smoothed, self.deviation) = (Some(rtt), rtt / 2),
            Some(smoothed) => {
                self.deviation = (self.deviation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
        if now.since(self.rotated) > MIN_RTT_AGE {
            self.fastest = [None, self.fastest[0]];
            self.rotated = now;
        }
        self.fastest[0] = Some(self.fastest[0].map_or(rtt, |fastest| fastest.min(rtt)));
    }

    /// The mean, recent answers weighing more.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Nearly all answers are here by then.
    pub(crate) fn late(&self) -> Option<Duration> {
        self.smoothed
            .map(|smoothed| (smoothed + self.deviation * 4).max(smoothed * 2))
    }

    fn queue_limit(&self) -> Option<Duration> {
        self.fastest
            .iter()
            .flatten()
            .min()
            .map(|fastest| *fastest * INFLATION + SLACK)
    }
}

/// The window of one circuit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: f32,
    /// Growing by one for each answer, until something first says stop.
    opening: bool,
    halved: Option<Time>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: INITIAL_WINDOW,
            opening: true,
            halved: None,
        }
    }
}

impl Window {
    /// Requests that may be open.
    pub(crate) fn size(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 2 and 64"
        )]
        let size = self.size as usize;
        size
    }

    /// A request was answered; `rtt` has the sample already.
    pub(crate) fn answered(&mut self, rtt: &Rtt) {
        let (Some(smoothed), Some(limit)) = (rtt.smoothed(), rtt.queue_limit()) else {
            return;
        };
        if smoothed > limit * SHRINK {
            self.opening = false;
            self.size -= 1.0 / self.size;
        } else if smoothed > limit {
            self.opening = false;
        } else {
            self.size += if self.opening { 1.0 } else { 1.0 / self.size };
        }
        self.size = self.size.clamp(MIN_WINDOW, MAX_WINDOW);
    }

    /// The exit is overloaded or a request got lost. All that was sent before the last halving counts once.
    pub(crate) fn congested(&mut self, now: Time, sent: Time) {
        if self.halved.is_none_or(|halved| sent > halved) {
            self.halved = Some(now);
            self.opening = false;
            self.size = (self.size / 2.0).max(MIN_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fed(window: &mut Window, rtt: &mut Rtt, now: Time, round_trip: Duration, answers: usize) {
        for _ in 0..answers {
            rtt.sample(now, round_trip);
            window.answered(rtt);
        }
    }

    #[test]
    fn a_pace_is_known_after_a_few_and_unmoved_by_stragglers() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace.sample(ms(100));
        }
        assert_eq!(pace.median(), None);
        for number in 0..100 {
            pace.sample(if number % 4 == 0 { ms(20_000) } else { ms(100) });
        }
        assert_eq!(pace.median(), Some(ms(100)));
        for _ in 0..PACE_SAMPLES {
            pace.sample(ms(700));
        }
        assert_eq!(pace.median(), Some(ms(700)), "it follows");
    }

    #[test]
    fn opens_fast_while_nothing_queues() {
        let (mut window, mut rtt) = (Window::default(), Rtt::default());
        assert_eq!(window.size(), 10);
        fed(&mut window, &mut rtt, Time(0), ms(100), 54);
        assert_eq!(window.size(), 64);
        fed(&mut window, &mut rtt, Time(0), ms(100), 500);
        assert_eq!(window.size(), 64, "the exit's cap");
    }

    #[test]
    fn stops_when_answers_slow_down_and_shrinks_when_they_crawl() {
        let (mut window, mut rtt) = (Window::default(), Rtt::default());
        fed(&mut window, &mut rtt, Time(0), ms(20), 10);
        fed(&mut window, &mut rtt, Time(0), ms(200), 60);
        let held = window.size();
        fed(&mut window, &mut rtt, Time(0), ms(200), 500);
        assert_eq!(window.size(), held);
        fed(&mut window, &mut rtt, Time(0), ms(2000), 500);
        assert!(window.size() < held / 2);
    }

    #[test]
    fn one_burst_of_losses_halves_once() {
        let mut window = Window::default();
        for _ in 0..10 {
            window.congested(Time(2000), Time(1000));
        }
        assert_eq!(window.size(), 5);
        window.congested(Time(4000), Time(3000));
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn a_path_that_became_slower_is_accepted_in_time() {
        let (mut window, mut rtt) = (Window::default(), Rtt::default());
        fed(&mut window, &mut rtt, Time(0), ms(1), 5);
        fed(&mut window, &mut rtt, Time(1), ms(300), 50);
        let held = window.size();
        for step in 1..=3 {
            fed(
                &mut window,
                &mut rtt,
                Time(0) + MIN_RTT_AGE * step + ms(u64::from(step)),
                ms(300),
                50,
            );
        }
        assert!(window.size() > held);
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds(steps in proptest::collection::vec((0_u8..3, 0_u64..10_000), 0..300)) {
            let (mut window, mut rtt, mut now) = (Window::default(), Rtt::default(), Time(0));
            for (what, amount) in steps {
                now = now + ms(amount);
                match what {
                    0 => window.congested(now, Time(now.0.saturating_sub(amount))),
                    _ => fed(&mut window, &mut rtt, now, ms(amount), 1),
                }
                prop_assert!((2..=64).contains(&window.size()));
            }
        }
    }
}
