//! A file in and out over slow lines: whether what is on its way grows to what such a network holds.

use std::time::{Duration, Instant};

use super::{
    megabytes, milliseconds,
    network::{NODES, Network, PUBLISHER, READER, noise, piece},
    report::Report,
};

/// Bytes of the file.
const SIZE: usize = 64_000_000;
/// A line's delay each way, so that a round trip takes 25 ms.
const ONE_WAY: Duration = Duration::from_micros(12_500);
/// Circuits in reserve before the clock starts.
const CIRCUITS: usize = 1;

/// Measures.
///
/// # Errors
/// When the file does not come through.
pub async fn bench(report: &mut Report) -> anyhow::Result<()> {
    let network = Network::start_apart("bench-far", NODES, None, Some(ONE_WAY)).await?;
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    publisher.circuits(CIRCUITS).await?;
    let content = noise(4 << 32, SIZE);
    let begun = Instant::now();
    let uri = publisher.insert(piece(content.into())).await?;
    let speed = |begun: Instant| megabytes(SIZE as u64) / begun.elapsed().as_secs_f64();
    report.add("far.in.speed", speed(begun), "MB/s");
    reader.circuits(CIRCUITS).await?;
    let begun = Instant::now();
    let first = reader.fetch(&uri, SIZE, |_| {}).await?;
    report.add("far.out.speed", speed(begun), "MB/s");
    report.add("far.out.first", milliseconds(first), "ms");
    network.end();
    Ok(())
}
