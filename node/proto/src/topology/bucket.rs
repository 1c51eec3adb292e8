//! A rate limit: so many at once, and so many each second after that.

use crate::time::Time;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Millionths, so that a rate per second and microseconds multiply without rounding.
    level: u64,
    burst: u32,
    rate: u32,
    at: Time,
}

const UNIT: u64 = 1_000_000;

impl Bucket {
    pub(crate) fn new(now: Time, burst: u32, rate: u32) -> Self {
        Self {
            level: u64::from(burst) * UNIT,
            burst,
            rate,
            at: now,
        }
    }

    /// Whether one could be taken out.
    pub(crate) fn has_one(&self, now: Time) -> bool {
        Self { ..*self }.take(now, 1)
    }

    /// Takes `count` out, if there are so many.
    pub(crate) fn take(&mut self, now: Time, count: u32) -> bool {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(u64::from(self.rate));
        self.level = self
            .level
            .saturating_add(gained)
            .min(u64::from(self.burst) * UNIT);
        self.at = self.at.max(now);
        let wanted = u64::from(count) * UNIT;
        let enough = self.level >= wanted;
        if enough {
            self.level -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = Bucket::new(Time(0), 3, 2);
        assert!(bucket.take(Time(0), 3) && !bucket.take(Time(0), 1));
        assert!(!bucket.take(Time(499_999), 1));
        assert!(bucket.take(Time(500_000), 1));
        assert!(bucket.take(Time(60_000_000), 3) && !bucket.take(Time(60_000_000), 1));
    }
}
