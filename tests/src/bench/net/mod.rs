//! Files through eight nodes: how fast, at what cost, and how that compares with the work that the protocol requires.

mod large;
mod parallel;
mod small;

pub use large::bench as large;

use std::{io::Write, path::Path, time::Duration};

use anyhow::ensure;
use warren_keys::{BLOCK_SIZE, Uri};
use warren_node::client::Source;
use warren_proto::routing::RouterStats;

use super::{
    count,
    floor::{self, Hops, Way},
    megabytes,
    meter::{Cost, Meter, peak_resident, touch_memory},
    network::{Member, NODES, Network, PUBLISHER, READER, fetch, insert, noise},
    report::Report,
};

/// Circuits that the nodes have ready before the clock starts: what a node keeps anyway.
const CIRCUITS: usize = 1;

/// The file whose system calls are counted is so many times smaller.
const COUNTED: u64 = 4;
/// Memory that a network takes for a file, as a multiple of it: half as much again as parity, five to six copies, and some of it on its way.
const MEMORY: u64 = 10;

/// One file of `bytes`, then (unless `alone`) several at once, then small ones, through one network.
///
/// # Errors
/// When the network does not form, or a file does not come through whole.
pub async fn bench(report: &mut Report, bytes: u64, alone: bool) -> anyhow::Result<()> {
    let network = Network::start("bench-net", NODES, None).await?;
    one(report, &network, bytes).await?;
    if !alone {
        parallel::bench(report, &network).await?;
        small::bench(report, &network).await?;
    }
    let memory = peak_resident(std::process::id()).unwrap_or(0);
    report.add("net.resident", megabytes(memory), "MB");
    network.end();
    Ok(())
}

/// One file in and out.
async fn one(report: &mut Report, network: &Network, bytes: u64) -> anyhow::Result<()> {
    let content = noise(1, usize::try_from(bytes)?);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&content)?;
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    publisher.circuits(CIRCUITS).await?;

    touch(bytes).await?;
    let before = network.routed().await?;
    let meter = Meter::uncounted();
    let uri = put(publisher, file.path()).await?;
    let inward = meter.stop();
    let between = network.routed().await?;
    let required = floor_beside(report, Way::In, bytes, hops(&before, &between)).await?;
    add(report, "net.in", bytes, &inward, required);

    reader.circuits(CIRCUITS).await?;
    touch(bytes).await?;
    let meter = Meter::uncounted();
    get(reader, &uri, content.len()).await?;
    let outward = meter.stop();
    let after = network.routed().await?;
    let required = floor_beside(report, Way::Out, bytes, hops(&between, &after)).await?;
    add(report, "net.out", bytes, &outward, required);

    let (inserted, fetched) = (hops(&before, &between), hops(&between, &after));
    report.add("net.in.hops", inserted.insert, "routing hops");
    report.add("net.in.near", inserted.near, "copies");
    report.add("net.out.hops", fetched.fetch, "routing hops");
    report.add("net.out.cached", fetched.cached, "copies");
    let busy = after.refused_busy + after.timeouts - before.refused_busy - before.timeouts;
    report.add("net.refused", count(busy), "requests");
    counted(report, network, bytes / COUNTED).await
}

/// A smaller file in and out: its system calls are counted, and what comes out is held against what went in.
async fn counted(report: &mut Report, network: &Network, bytes: u64) -> anyhow::Result<()> {
    let content = noise(2, usize::try_from(bytes)?);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&content)?;
    let blocks = count(bytes) / BLOCK_SIZE as f64;
    let meter = Meter::start();
    let uri = put(&network.0[PUBLISHER], file.path()).await?;
    add_syscalls(report, "net.in", &meter.stop(), blocks);
    let meter = Meter::start();
    compare(&network.0[READER], &uri, &content).await?;
    add_syscalls(report, "net.out", &meter.stop(), blocks);
    Ok(())
}

fn add_syscalls(report: &mut Report, name: &str, cost: &Cost, blocks: f64) {
    if let Some(calls) = cost.syscalls {
        report.add(
            format!("{name}.syscalls"),
            count(calls) / blocks,
            "system calls/block",
        );
    }
}

/// Inserts a file in a task of the runtime, as the program does it, and not on the thread that waits for it.
async fn put(publisher: &Member, path: &Path) -> anyhow::Result<Uri> {
    let (client, source) = (publisher.client.clone(), Source::Path(path.to_owned()));
    tokio::spawn(insert(client, source)).await?
}

/// Fetches a file of `size` bytes in a task of the runtime. The client holds it against its hash.
async fn get(reader: &Member, uri: &Uri, size: usize) -> anyhow::Result<Duration> {
    let (client, uri) = (reader.client.clone(), uri.clone());
    tokio::spawn(async move { fetch(&client, &uri, size, |_| {}).await }).await?
}

/// Fetches and holds against what went in.
async fn compare(reader: &Member, uri: &Uri, content: &[u8]) -> anyhow::Result<()> {
    let (mut rest, mut same) = (content, true);
    let whole = reader.fetch(uri, content.len(), |piece| match rest.strip_prefix(piece) {
        Some(more) => rest = more,
        None => same = false,
    });
    whole.await?;
    ensure!(same, "what came out is not what went in");
    Ok(())
}

/// Memory for a file's blocks in the datastores and on their way.
async fn touch(bytes: u64) -> anyhow::Result<()> {
    Ok(tokio::task::spawn_blocking(move || touch_memory(bytes * MEMORY)).await??)
}

/// Measures the floor while nothing else runs here.
async fn floor_beside(report: &mut Report, way: Way, bytes: u64, hops: Hops) -> anyhow::Result<Duration> {
    touch(bytes).await?;
    let (mut own, required) = tokio::task::spawn_blocking(move || {
        let mut own = Report::default();
        let required = floor::run(&mut own, way, bytes, hops);
        (own, required)
    })
    .await?;
    report.figures.append(&mut own.figures);
    required
}

fn hops(before: &RouterStats, after: &RouterStats) -> Hops {
    let per = |part: u64, whole: u64| count(part) / count(whole.max(1));
    let fetches = after.exit_fetches - before.exit_fetches;
    Hops {
        insert: per(
            after.inserts_forwarded - before.inserts_forwarded,
            after.exit_inserts - before.exit_inserts,
        ),
        near: per(after.near - before.near, after.exit_inserts - before.exit_inserts),
        fetch: per(after.forwarded - before.forwarded, fetches),
        cached: per(after.cached - before.cached, fetches),
    }
}

fn add(report: &mut Report, name: &str, bytes: u64, cost: &Cost, required: Duration) {
    cost.add_to(report, name, bytes, count(bytes) / BLOCK_SIZE as f64, "block");
    let ratio = cost.cpu.as_secs_f64() / required.as_secs_f64();
    report.add(format!("{name}.ratio"), ratio, "x floor");
}
