//! Several files at once through one reader: whether they share evenly, and how long somebody waits who wants a small page beside them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::sleep};
use warren_keys::Uri;
use warren_node::client::Progress;

use super::{
    super::{
        count,
        floor::Way,
        median,
        meter::{Cost, Meter},
        milliseconds,
        network::{Member, Network, PUBLISHER, READER, open, read},
        report::Report,
    },
    add, floor_beside, hops,
};

/// Files at once, the most.
const FILES: usize = 16;
/// Bytes of each.
const SIZE: usize = 12_500_000;
/// Seeds of the files and of the small ones, apart from those of other benchmarks.
const SEEDS: u64 = 1 << 32;
const SMALL_SEEDS: u64 = 2 << 32;
/// Bytes of a small file, how many wait to be fetched, and how many of them while nothing else is.
const SMALL: usize = 1024;
const SMALLS: u64 = 160;
const IDLE: usize = 40;
/// Between two small fetches: nobody reads faster.
const PAUSE: Duration = Duration::from_millis(20);
/// Inserts at a time.
const AT_ONCE: usize = 4;

pub(super) async fn bench(report: &mut Report, network: &Network) -> anyhow::Result<()> {
    let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
    let files = SEEDS..SEEDS + FILES as u64;
    let files = publisher.insert_noise(files, SIZE, AT_ONCE).await?;
    let smalls = SMALL_SEEDS..SMALL_SEEDS + SMALLS;
    let mut smalls = publisher.insert_noise(smalls, SMALL, AT_ONCE).await?;
    let mut waits = Vec::new();
    for uri in smalls.split_off(smalls.len() - IDLE) {
        sleep(PAUSE).await;
        waits.push(milliseconds(reader.fetch(&uri, SMALL, |_| {}).await?));
    }
    let idle = median(waits);

    for (name, number) in [("net.four", 4), ("net.sixteen", FILES)] {
        let before = network.routed().await?;
        let (cost, share) = together(reader, &files[..number]).await?;
        let after = network.routed().await?;
        let bytes = (number * SIZE) as u64;
        // The floor of one file of all their bytes; its parts are printed for the one file already.
        let required = floor_beside(&mut Report::default(), Way::Out, bytes, hops(&before, &after)).await?;
        add(report, name, bytes, &cost, required);
        report.add(format!("{name}.share"), share, "least/most");
    }

    // Once more, with the interactive reader beside them.
    let busy = beside(reader, &files, &smalls).await?;
    report.add("net.sixteen.idle", idle, "ms");
    report.add("net.sixteen.beside", busy, "ms");
    report.add("net.sixteen.interactive", busy / idle, "x idle");
    Ok(())
}

/// Fetches all at once. Gives the cost, and what the slowest had when the first was through, as a part of what the fastest had.
async fn together(reader: &Member, files: &[Uri]) -> anyhow::Result<(Cost, f64)> {
    let meter = Meter::start();
    let (mut running, race) = start(reader, files);
    while let Some(done) = running.join_next().await {
        done??;
    }
    let cost = meter.stop();
    Ok((cost, race.share()))
}

/// How far each file is, and how many blocks each had when the first was through. What has been given out would be too coarse: that comes
/// by segments.
struct Race {
    progress: Vec<OnceLock<watch::Receiver<Progress>>>,
    at_first_end: OnceLock<Vec<u64>>,
}

impl Race {
    fn standing(&self) -> Vec<u64> {
        let blocks = |progress: &OnceLock<watch::Receiver<Progress>>| {
            progress.get().map_or(0, |progress| progress.borrow().blocks)
        };
        self.progress.iter().map(blocks).collect()
    }

    fn share(&self) -> f64 {
        let standing = self.at_first_end.get().cloned().unwrap_or_default();
        let least = standing.iter().min().copied().unwrap_or(0);
        let most = standing.iter().max().copied().unwrap_or(1);
        count(least) / count(most)
    }
}

fn start(reader: &Member, files: &[Uri]) -> (JoinSet<anyhow::Result<()>>, Arc<Race>) {
    let race = Arc::new(Race {
        progress: files.iter().map(|_| OnceLock::new()).collect(),
        at_first_end: OnceLock::new(),
    });
    let mut running = JoinSet::new();
    for (number, uri) in files.iter().cloned().enumerate() {
        let (client, race) = (reader.client.clone(), Arc::clone(&race));
        running.spawn(async move {
            let content = open(&client, &uri).await?;
            race.progress[number].get_or_init(|| content.progress());
            read(content, SIZE, |_| {}).await?;
            race.at_first_end.get_or_init(|| race.standing());
            Ok(())
        });
    }
    (running, race)
}

/// Median time to the first byte of small files while all others are fetched.
async fn beside(reader: &Member, files: &[Uri], smalls: &[Uri]) -> anyhow::Result<f64> {
    let (mut running, _) = start(reader, files);
    let mut waits = Vec::new();
    for uri in smalls {
        sleep(PAUSE).await;
        while let Some(done) = running.try_join_next() {
            done??;
        }
        if running.is_empty() {
            break;
        }
        waits.push(milliseconds(reader.fetch(uri, SMALL, |_| {}).await?));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(median(waits))
}
