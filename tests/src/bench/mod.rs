//! Benchmarks of whole networks, for the `bench` program; `docs/bench.md` says what each measures and how.
//!
//! Each is a function that adds figures to a [`Report`](report::Report). Figures are processor time where they can be, so that
//! they mean something on a machine that is busy with other things too; and what the protocol requires is measured in the same run.

pub mod circuit_client;
pub mod far;
pub mod floor;
pub mod handshakes;
pub mod hop;
pub mod idle;
pub mod latency;
mod line;
pub mod meter;
pub mod net;
pub mod network;
pub mod open;
mod program;
mod relay;
pub mod report;
pub mod scale;
mod space;
pub mod store;
mod syscalls;
mod targets;

use std::time::Duration;

/// Bytes in MB.
#[must_use]
pub fn megabytes(bytes: u64) -> f64 {
    count(bytes) / 1e6
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "sizes and counts far below 2^52")]
#[must_use]
pub fn count(number: u64) -> f64 {
    number as f64
}

/// A time in milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The middle one, the larger of two middle ones; NaN of none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

/// The value that so many percent do not exceed; NaN of none.
#[must_use]
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = values.len() * percent / 100;
    values
        .get(at.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((percentile((0..10).map(f64::from), 90) - 9.0).abs() < 1e-9);
        assert!((percentile([5.0], 100) - 5.0).abs() < 1e-9);
        assert!(median([]).is_nan());
    }
}
