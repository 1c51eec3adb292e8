//! How long one person waits for a small page: the first byte of a 1 KiB file over circuits that stand already, the network being idle.

use std::time::{Duration, Instant};

use anyhow::ensure;
use warren_node::client::Network as _;

use super::{
    network::{NODES, Network, PUBLISHER, READER, next, noise, piece, soon},
    report::Report,
};

/// Files, each fetched once: nothing is in a cache.
const FILES: u64 = 64;
/// Bytes of a file.
const SIZE: usize = 1024;
/// Inserts at a time; only the fetches are measured.
const AT_ONCE: usize = 8;
/// Circuits in reserve before each fetch.
const CIRCUITS: usize = 1;

/// Measures.
///
/// # Errors
/// When a file does not come through.
pub async fn bench(report: &mut Report) -> anyhow::Result<()> {
    let network = Network::start("bench-latency", NODES, None).await?;
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    let mut uris = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..FILES {
        if running.len() >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            uris.push(done??);
        }
        let client = publisher.client.clone();
        running.spawn(async move {
            let source = piece(noise(number, SIZE).into());
            let inserted = client.insert(
                source,
                Default::default(),
                warren_node::client::Reporter::ignored(),
            );
            anyhow::Ok((number, inserted.await?.uri))
        });
    }
    while let Some(done) = running.join_next().await {
        uris.push(done??);
    }

    let mut waits = Vec::new();
    for (number, uri) in uris {
        reader.circuits(CIRCUITS).await?;
        let start = Instant::now();
        let content = soon("a root", reader.client.open(&uri)).await??;
        let mut stream = content.stream(0..u64::MAX);
        let first = soon("the first byte", next(&mut stream)).await?;
        waits.push(start.elapsed());
        let whole = first.transpose()?.unwrap_or_default();
        ensure!(whole == noise(number, SIZE), "what came out is not what went in");
    }
    waits.sort_unstable();
    let at = |part: usize| milliseconds(waits[(waits.len() - 1) * part / 100]);
    report.add("latency.first_byte", at(50), "ms");
    report.add("latency.first_byte.fastest", at(0), "ms");
    report.add("latency.first_byte.p90", at(90), "ms");
    network.end();
    Ok(())
}

/// A time in milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
