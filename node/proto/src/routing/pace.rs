//! How long to wait for a neighbour.
//!
//! The unit is what one more typical answer takes: mean plus four deviations of the measured times, as in TCP (RFC 6298).
//! A node that still has `h` hops below it allows `h + 2` units. Its parent allows one unit more, so a node whose
//! neighbour stays silent gives up while its parent still waits, with a typical answer's time left to ask elsewhere.

use core::time::Duration;

use super::limits::{FIRST_PACE, MAX_PACE, MIN_PACE};

#[derive(Debug)]
pub(super) struct Pace {
    measured: Option<(Duration, Duration)>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { measured: None }
    }

    pub(super) fn sample(&mut self, took: Duration) {
        let took = took.min(MAX_PACE * 4);
        self.measured = Some(match self.measured {
            None => (took, took / 2),
            Some((mean, deviation)) => (
                mean * 7 / 8 + took / 8,
                deviation * 3 / 4 + mean.abs_diff(took) / 4,
            ),
        });
    }

    /// An answer came after this node had given up: the unit is too short.
    pub(super) fn late(&mut self) {
        let unit = self.unit();
        self.sample(unit * 2);
    }

    /// The most that a request with `htl` hops left may take.
    pub(super) fn allowance(&self, htl: u8) -> Duration {
        self.unit() * (u32::from(htl) + 2)
    }

    fn unit(&self) -> Duration {
        self.measured.map_or(FIRST_PACE, |(mean, deviation)| {
            (mean + deviation * 4).clamp(MIN_PACE, MAX_PACE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_is_measured_within_bounds() {
        let mut pace = Pace::new();
        assert_eq!(pace.allowance(0), FIRST_PACE * 2);
        for _ in 0..100 {
            pace.sample(Duration::from_millis(1));
        }
        assert_eq!(pace.allowance(3), MIN_PACE * 5);
        for _ in 0..100 {
            pace.sample(Duration::from_millis(600));
        }
        assert!((600..700).contains(&pace.unit().as_millis()));
        for _ in 0..100 {
            pace.late();
        }
        assert_eq!(pace.unit(), MAX_PACE);
    }

    #[test]
    fn a_child_gives_up_a_unit_before_its_parent() {
        let pace = Pace::new();
        for htl in 1..=18 {
            assert_eq!(pace.allowance(htl) - pace.allowance(htl - 1), pace.unit());
        }
    }
}
