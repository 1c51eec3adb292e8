//! A thousand small files: where the cost is not bytes but circuits, requests and waking up.

use tokio::task::JoinSet;

use super::super::{
    count,
    meter::{Cost, Meter},
    network::{Network, PUBLISHER, READER, fetch},
    report::Report,
};

/// Files.
const FILES: u64 = 1000;
/// Bytes of each.
const SIZE: usize = 1024;
/// At a time.
const AT_ONCE: usize = 16;
/// Seeds of the files, apart from those of other benchmarks.
const SEEDS: u64 = 3 << 32;

pub(super) async fn bench(report: &mut Report, network: &Network) -> anyhow::Result<()> {
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    let meter = Meter::start();
    let uris = publisher
        .try_insert_noise(SEEDS..SEEDS + FILES, SIZE, AT_ONCE)
        .await?;
    add(report, "net.small.in", &meter.stop());
    let uris: Vec<_> = uris.into_iter().flatten().collect();
    // So many at once go beyond the circuits that a link may open in a while.
    report.add(
        "net.small.in.failed",
        count(FILES - uris.len() as u64),
        "files of 1,000",
    );

    let meter = Meter::start();
    let mut running = JoinSet::new();
    for uri in uris {
        if running.len() >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        let client = reader.client.clone();
        running.spawn(async move { fetch(&client, &uri, SIZE, |_| {}).await });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    add(report, "net.small.out", &meter.stop());
    Ok(())
}

fn add(report: &mut Report, name: &str, cost: &Cost) {
    let files = count(FILES);
    report.add(
        format!("{name}.files"),
        files / cost.wall.as_secs_f64(),
        "files/s",
    );
    report.add(
        format!("{name}.cpu"),
        cost.cpu.as_secs_f64() * 1000.0 / files,
        "CPU ms/file",
    );
    cost.add_counts(report, name, files, "file");
}
