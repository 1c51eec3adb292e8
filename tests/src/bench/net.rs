//! A file through eight nodes: how fast, at what cost, and how that compares with the work that the protocol requires.

use std::io::Write;

use anyhow::{bail, ensure};
use warren_node::client::{Network as _, Source};
use warren_proto::routing::RouterStats;

use super::{
    floor::{self, Hops, Way},
    megabytes,
    meter::{Cost, Meter, peak_resident},
    network::{Member, Network, PUBLISHER, READER, next, noise, soon},
    report::Report,
};

/// Circuits that the nodes have ready before the clock starts: what a node keeps anyway.
const CIRCUITS: usize = 1;
/// Data of a block, for figures by the block.
const BLOCK: f64 = 32768.0;

/// Sends a file of `bytes` through a network of its own.
///
/// # Errors
/// When the network does not form, the file does not come through, or comes out another.
pub async fn bench(report: &mut Report, bytes: u64) -> anyhow::Result<()> {
    let content = noise(1, usize::try_from(bytes)?);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&content)?;
    let network = Network::start("bench-net", super::network::NODES, None).await?;
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    publisher.circuits(CIRCUITS).await?;

    let before = network.routed().await?;
    let meter = Meter::start();
    let uri = publisher.insert(Source::Path(file.path().to_owned())).await?;
    let inward = meter.stop();
    let between = network.routed().await?;
    // The hops of a fetch are not known yet, and not needed.
    let required = floor_beside(report, Way::In, bytes, hops(&before, &between)).await?;
    add(report, Way::In, bytes, inward, required);

    reader.circuits(CIRCUITS).await?;
    let between = network.routed().await?;
    let meter = Meter::start();
    fetch(reader, &uri, &content).await?;
    let outward = meter.stop();
    let after = network.routed().await?;
    let required = floor_beside(report, Way::Out, bytes, hops(&between, &after)).await?;
    add(report, Way::Out, bytes, outward, required);

    let (inserted, fetched) = (hops(&before, &between), hops(&between, &after));
    report.add("net.in.hops", inserted.insert, "routing hops");
    report.add("net.out.hops", fetched.fetch, "routing hops");
    report.add("net.out.cached", fetched.cached, "copies");
    let busy = after.refused_busy + after.timeouts - before.refused_busy - before.timeouts;
    report.add("net.refused", count(busy), "requests");
    report.add("net.resident", megabytes(peak_resident()), "MB");
    network.end();
    Ok(())
}

/// Measures the floor while nothing else runs here.
async fn floor_beside(
    report: &mut Report,
    way: Way,
    bytes: u64,
    hops: Hops,
) -> anyhow::Result<std::time::Duration> {
    let (mut own, required) = tokio::task::spawn_blocking(move || {
        let mut own = Report::default();
        let required = floor::run(&mut own, way, bytes, hops);
        (own, required)
    })
    .await?;
    report.figures.append(&mut own.figures);
    required
}

async fn fetch(reader: &Member, uri: &warren_keys::Uri, content: &[u8]) -> anyhow::Result<()> {
    let found = soon("the file's root", reader.client.open(uri)).await??;
    let mut stream = found.stream(0..u64::MAX);
    let mut rest = content;
    while let Some(piece) = soon("the file's bytes", next(&mut stream)).await? {
        match rest.strip_prefix(&piece?[..]) {
            Some(more) => rest = more,
            None => bail!("what came out is not what went in"),
        }
    }
    ensure!(rest.is_empty(), "{} bytes did not come out", rest.len());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn count(number: u64) -> f64 {
    number as f64
}

fn hops(before: &RouterStats, after: &RouterStats) -> Hops {
    let per = |part: u64, whole: u64| count(part) / count(whole.max(1));
    let fetches = after.exit_fetches - before.exit_fetches;
    Hops {
        insert: per(
            after.inserts_forwarded - before.inserts_forwarded,
            after.exit_inserts - before.exit_inserts,
        ),
        fetch: per(after.forwarded - before.forwarded, fetches),
        cached: per(after.cached - before.cached, fetches),
    }
}

fn add(report: &mut Report, way: Way, bytes: u64, cost: Cost, required: std::time::Duration) {
    let (name, size) = (way.name(), megabytes(bytes));
    let cpu = cost.cpu.as_secs_f64();
    let mut figure =
        |what: &str, value: f64, unit: &str| report.add(format!("net.{name}.{what}"), value, unit);
    figure("speed", size / cost.wall.as_secs_f64(), "MB/s");
    figure("cpu", cpu * 1000.0 / size, "CPU ms/MB");
    figure("ratio", cpu / required.as_secs_f64(), "x floor");
    figure("busy", cpu / cost.wall.as_secs_f64(), "processors");
    let blocks = size * 1e6 / BLOCK;
    figure("faults", count(cost.faults) / blocks, "page faults/block");
    figure("switches", count(cost.switches) / blocks, "waits/block");
}
