//! An allowance that grows with time: so much a day, saved up to a bound.

use core::time::Duration;

use super::limits::{DAY, LEAST_SAVED, RepairLimits, SAVED_PART};
use crate::time::Time;

/// How an allowance grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate {
    pub(super) per_day: u64,
    /// The most that is saved.
    pub(super) most: u64,
}

impl Rate {
    /// What a node may push when it keeps `stored` bytes.
    pub(super) fn of_store(limits: &RepairLimits, stored: u64) -> Self {
        let share = u128::from(stored) * u128::from(limits.daily_permille) / 1000;
        let per_day = u64::try_from(share).unwrap_or(u64::MAX).max(limits.least_daily);
        Self {
            per_day,
            most: (per_day / SAVED_PART).max(LEAST_SAVED),
        }
    }

    /// What it may push to one neighbour: half, so that no neighbour's claims take all.
    pub(super) fn of_neighbour(self) -> Self {
        Self {
            per_day: self.per_day / 2,
            most: self.most / 2,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    level: u64,
    at: Time,
}

impl Allowance {
    /// One with `level` to begin with.
    pub(super) const fn new(now: Time, level: u64) -> Self {
        Self { level, at: now }
    }

    fn refill(&mut self, now: Time, rate: Rate) {
        let per_day = u128::from(rate.per_day.max(1));
        let gained = now.since(self.at).as_micros() * per_day / DAY.as_micros();
        // The time for the part of a byte that is left over is not lost.
        let used = gained * DAY.as_micros() / per_day;
        self.at = self.at + Duration::from_micros(u64::try_from(used).unwrap_or(u64::MAX));
        self.level = self
            .level
            .saturating_add(u64::try_from(gained).unwrap_or(u64::MAX))
            .min(rate.most);
    }

    /// Whether `amount` can be taken with `rest` left over.
    pub(super) fn has(&mut self, now: Time, rate: Rate, amount: u64, rest: u64) -> bool {
        self.refill(now, rate);
        self.level >= amount.saturating_add(rest)
    }

    /// Takes `amount`, if that leaves `rest`.
    pub(super) fn take(&mut self, now: Time, rate: Rate, amount: u64, rest: u64) -> bool {
        let enough = self.has(now, rate, amount, rest);
        if enough {
            self.level -= amount;
        }
        enough
    }

    /// How long until `amount` can be taken with `rest` left over; a day at most.
    pub(super) fn wait(&mut self, now: Time, rate: Rate, amount: u64, rest: u64) -> Duration {
        self.refill(now, rate);
        let lacking = amount.saturating_add(rest).saturating_sub(self.level);
        let micros = u128::from(lacking) * DAY.as_micros() / u128::from(rate.per_day.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_the_store_and_never_below_the_least() {
        let limits = RepairLimits::default();
        let small = Rate::of_store(&limits, 1 << 20);
        assert_eq!(small.per_day, limits.least_daily);
        let large = Rate::of_store(&limits, 100 << 30);
        assert_eq!(large.per_day, 10 << 30);
        assert_eq!(large.of_neighbour().per_day, 5 << 30);
        assert_eq!(Rate::of_store(&limits, u64::MAX).per_day, u64::MAX / 10);
    }

    #[test]
    fn a_day_brings_a_days_worth_and_what_is_saved_is_bounded() {
        let rate = Rate {
            per_day: 1000,
            most: 300,
        };
        let mut allowance = Allowance::new(Time(0), 0);
        let hour = |n: u64| Time(0) + Duration::from_secs(n * 3600);
        assert!(!allowance.take(hour(0), rate, 1, 0));
        let mut taken = 0;
        for quarter in 0..96 {
            let now = Time(0) + Duration::from_secs(quarter * 900);
            while allowance.take(now, rate, 1, 0) {
                taken += 1;
            }
        }
        assert!((970..=1000).contains(&taken), "{taken}");
        assert!(!allowance.has(hour(1000), rate, 301, 0) && allowance.has(hour(1000), rate, 200, 100));
        assert!(!allowance.take(hour(1000), rate, 201, 100));
        assert_eq!(allowance.wait(hour(1000), rate, 300, 0), Duration::ZERO);
        assert!(allowance.take(hour(1000), rate, 300, 0));
        let wait = allowance.wait(hour(1000), rate, 100, 0);
        assert!(allowance.take(hour(1000) + wait, rate, 100, 0));
    }
}
