//! How long one person waits for a small page: the first byte of a 1 KiB file over circuits that stand already, the network being idle. First
//! over bare loopback, then over lines that take their time.

use std::time::Duration;

use warren_proto::routing::RouterStats;

use super::{
    count, median, milliseconds,
    network::{NODES, Network, PUBLISHER, READER},
    percentile,
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
/// Hops of a circuit.
const CIRCUIT_HOPS: f64 = 3.0;
/// A line's delay each way, so that a round trip takes 25 ms.
const ONE_WAY: Duration = Duration::from_micros(12_500);
/// What is allowed for each hop of the way, in round trips.
const ALLOWED: f64 = 1.15;

/// One fetch: its time, ms, and the routing hops behind its exit.
struct Fetch {
    time: f64,
    hops: f64,
}

/// Measures.
///
/// # Errors
/// When a file does not come through.
pub async fn bench(report: &mut Report) -> anyhow::Result<()> {
    let fetches = fetches(None).await?;
    let times = || fetches.iter().map(|fetch| fetch.time);
    report.add("latency.first_byte", median(times()), "ms");
    report.add("latency.first_byte.fastest", percentile(times(), 0), "ms");
    report.add("latency.first_byte.p90", percentile(times(), 90), "ms");
    // The exit had the block itself: circuit and datastore alone.
    let circuit = fetches.iter().filter(|fetch| fetch.hops < 0.5);
    report.add(
        "latency.first_byte.circuit",
        median(circuit.map(|fetch| fetch.time)),
        "ms, no routing hop",
    );

    let fetches = self::fetches(Some(ONE_WAY)).await?;
    let round_trip = 2.0 * milliseconds(ONE_WAY);
    let way = |fetch: &Fetch| (CIRCUIT_HOPS + fetch.hops) * round_trip;
    report.add(
        "latency.emulated.first_byte",
        median(fetches.iter().map(|fetch| fetch.time)),
        "ms",
    );
    report.add(
        "latency.emulated.hops",
        median(fetches.iter().map(|fetch| CIRCUIT_HOPS + fetch.hops)),
        "hops, circuit and routing",
    );
    report.add(
        "latency.emulated.ratio",
        median(fetches.iter().map(|fetch| fetch.time / way(fetch))),
        "x hops x round trip",
    );
    report.add(
        "latency.emulated.beyond",
        median(fetches.iter().map(|fetch| fetch.time - ALLOWED * way(fetch))),
        "ms beyond 1.15 x hops x round trip",
    );
    Ok(())
}

async fn fetches(delay: Option<Duration>) -> anyhow::Result<Vec<Fetch>> {
    let network = Network::start_apart("bench-latency", NODES, None, delay).await?;
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    let uris = publisher.insert_noise(0..FILES, SIZE, AT_ONCE).await?;
    let mut fetches = Vec::new();
    for uri in uris {
        reader.circuits(CIRCUITS).await?;
        let before = network.routed().await?;
        let time = milliseconds(reader.fetch(&uri, SIZE, |_| {}).await?);
        let hops = hops(&before, &network.routed().await?);
        fetches.push(Fetch { time, hops });
    }
    network.end();
    Ok(fetches)
}

/// Routing hops of the searches that a fetch began.
fn hops(before: &RouterStats, after: &RouterStats) -> f64 {
    let searches = after.exit_fetches - before.exit_fetches;
    count(after.forwarded - before.forwarded) / count(searches.max(1))
}
