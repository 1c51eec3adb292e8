//! Numbers out of many measurements.

use std::collections::BTreeMap;

use core::time::Duration;

use warren_proto::time::Time;

/// Many measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    values: Vec<f64>,
    sorted: bool,
}

impl Sample {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
        self.sorted = false;
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them, in no order that means anything.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied()
    }

    /// Their mean; 0 without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }

    /// The smallest value that at least `share` of all do not exceed; 0 without any.
    pub fn quantile(&mut self, share: f64) -> f64 {
        if !self.sorted {
            self.values.sort_by(f64::total_cmp);
            self.sorted = true;
        }
        let rank = super::draw::share_of(share, self.values.len()).max(1) - 1;
        self.values.get(rank).copied().unwrap_or_default()
    }

    /// What share exceeds each multiple of `step` up to the largest value, 200 multiples at most, as points for a chart.
    #[must_use]
    pub fn tail(&self, step: f64) -> Vec<(f64, f64)> {
        let most = self.values.iter().copied().fold(0.0, f64::max);
        let points = (0..=200).map(|number| f64::from(number) * step);
        let points = points.take_while(|point| *point < most + step);
        let above = |point: f64| self.values.iter().filter(|value| **value > point).count() as f64;
        points
            .map(|point| (point, above(point) / self.values.len().max(1) as f64))
            .collect()
    }

    /// How often each whole number occurs, as points for a chart.
    #[must_use]
    pub fn histogram(&self) -> Vec<(f64, f64)> {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for value in &self.values {
            let whole = Duration::from_secs_f64(value.max(0.0)).as_secs();
            *counts.entry(whole).or_default() += 1;
        }
        let share = |count: u64| count as f64 / self.values.len() as f64;
        counts
            .into_iter()
            .map(|(value, count)| (value as f64, share(count)))
            .collect()
    }
}

/// Means of what happens, one for each stretch of time.
#[derive(Clone, Debug)]
pub struct OverTime {
    step: Duration,
    sums: BTreeMap<u64, (f64, u64)>,
}

impl OverTime {
    /// One mean for each `step`.
    #[must_use]
    pub const fn new(step: Duration) -> Self {
        Self {
            step,
            sums: BTreeMap::new(),
        }
    }

    /// Something that happened.
    pub fn add(&mut self, at: Time, value: f64) {
        let step = u64::try_from(self.step.as_micros()).unwrap_or(u64::MAX).max(1);
        let sum = self.sums.entry(at.0 / step).or_default();
        sum.0 += value;
        sum.1 += 1;
    }

    /// The means by time, in units of `unit`.
    #[must_use]
    pub fn points(&self, unit: Duration) -> Vec<(f64, f64)> {
        let scale = self.step.as_secs_f64() / unit.as_secs_f64();
        self.sums
            .iter()
            .map(|(at, (sum, count))| (*at as f64 * scale, sum / *count as f64))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_means() {
        let mut sample = Sample::default();
        assert_eq!((sample.mean(), sample.quantile(0.5)), (0.0, 0.0));
        for value in 1..=100 {
            sample.add(f64::from(value));
        }
        assert_eq!(
            (
                sample.mean(),
                sample.quantile(0.99),
                sample.quantile(1.0),
                sample.quantile(0.0)
            ),
            (50.5, 99.0, 100.0, 1.0)
        );
    }

    #[test]
    fn points_are_means_of_their_step() {
        let mut over = OverTime::new(Duration::from_secs(10));
        for (at, value) in [(1, 1.0), (9, 3.0), (25, 7.0)] {
            over.add(Time(at * 1_000_000), value);
        }
        assert_eq!(over.points(Duration::from_secs(1)), [(0.0, 2.0), (20.0, 7.0)]);
    }
}
