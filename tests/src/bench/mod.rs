//! Benchmarks of whole networks, for the `bench` program; `docs/bench.md` says what each measures and how.
//!
//! Each is a function that adds figures to a [`Report`](report::Report). Figures are processor time where they can be, so that
//! they mean something on a machine that is busy with other things too; and what the protocol requires is measured in the same run.

pub mod floor;
pub mod handshakes;
pub mod idle;
pub mod latency;
pub mod meter;
pub mod net;
pub mod network;
pub mod report;

/// Bytes in MB.
#[expect(clippy::cast_precision_loss, reason = "sizes of files and of memory")]
#[must_use]
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
