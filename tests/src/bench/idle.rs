//! The real program: how fast it starts, and what it holds while nothing happens.

use std::time::Duration;

use anyhow::Context;

use super::{
    count, median, megabytes,
    meter::{Meter, resident, resident_own},
    milliseconds,
    network::Network,
    percentile,
    program::{self, Running},
    report::Report,
};

/// Starts of which the median counts.
const STARTS: usize = 9;
/// Links of the node when it is looked at.
const LINKS: usize = 32;
/// How long the node is left alone before it is looked at: it has built its circuits by then.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures.
///
/// # Errors
/// When the program is not there or does not run.
pub async fn bench(report: &mut Report) -> anyhow::Result<()> {
    let program = program::find()?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("node");
    // All else is the default, the size of the datastore too: its index is most of what an idle node holds.
    let settings = program::settings("bench-idle", &[]);
    let start = || Running::start(&program, &data, &settings);
    // Makes identity and datastore.
    drop(start()?);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(milliseconds(start()?.started));
    }
    report.add("idle.start", median(starts.iter().copied()), "ms");
    report.add("idle.start.fastest", percentile(starts, 0), "ms");

    let node = start()?;
    let process = node.process();
    let alone = resident(process).context("the node has ended")?;
    let neighbours = Network::start("bench-idle", LINKS, Some(node.reference.clone())).await?;
    node.wait_for("links", LINKS as u64)?;
    let meter = Meter::of(process);
    tokio::time::sleep(SETTLE).await;
    let rest = meter.stop();
    let linked = resident(process).context("the node has ended")?;
    report.add("idle.links", count(node.status("links")?), "links");
    report.add("idle.resident", megabytes(linked), "MB");
    report.add("idle.resident.alone", megabytes(alone), "MB");
    report.add(
        "idle.resident.own",
        megabytes(resident_own(process).unwrap_or(0)),
        "MB",
    );
    let cpu = milliseconds(rest.cpu) / rest.wall.as_secs_f64();
    report.add("idle.cpu", cpu, "CPU ms/s");
    drop(node);
    neighbours.end();
    Ok(())
}
