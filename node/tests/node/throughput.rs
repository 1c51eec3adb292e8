//! How fast blocks go in and out: `cargo test --release -p warren-node --test node -- --ignored --nocapture throughput`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};
use warren_node::node::Job;
use warren_proto::core::api::ClientEvent;

use crate::helpers::{Network, soon};

/// 100 MB.
const BLOCKS: u32 = 3052;
/// Operations open at once.
const WINDOW: usize = 256;

fn numbered(number: u32) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap()
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn rss_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 256
}

struct Measured {
    name: &'static str,
    start: Instant,
    cpu: Duration,
}

impl Measured {
    fn start(name: &'static str) -> Self {
        Self {
            name,
            start: Instant::now(),
            cpu: cpu(),
        }
    }

    fn end(self, failed: usize) {
        let megabytes = f64::from(BLOCKS) * BLOCK_SIZE as f64 / 1e6;
        let (wall, busy) = (
            self.start.elapsed().as_secs_f64(),
            (cpu() - self.cpu).as_secs_f64(),
        );
        println!(
            "{}: {:.1} MB/s, {:.2} CPU ms/MB, {failed} of {BLOCKS} failed, {} MiB resident",
            self.name,
            megabytes / wall,
            busy * 1000.0 / megabytes,
            rss_mib()
        );
    }
}

/// Runs all blocks through `start`, a window of them at a time, and counts failures.
async fn drive(job: &mut Job, mut start: impl AsyncFnMut(&mut Job, u32)) -> usize {
    let (mut started, mut done, mut failed) = (0, 0, 0);
    let mut events = Vec::new();
    while done < BLOCKS {
        while started < BLOCKS && (started - done) < WINDOW as u32 {
            start(job, started).await;
            started += 1;
        }
        soon("progress", job.events(&mut events)).await.unwrap();
        for event in events.drain(..) {
            done += 1;
            let ok = match event {
                ClientEvent::Fetched { result, .. } => result.is_ok(),
                ClientEvent::Inserted { result, .. } => result.is_ok(),
            };
            failed += usize::from(!ok);
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_blocks() {
    let network = Network::linked_with(8, |config| config.store_size = 1 << 30).await;
    println!("8 nodes, {} MiB resident", rss_mib());
    let blocks: Vec<_> = (0..BLOCKS).map(numbered).collect();

    let mut job = network.nodes[1].jobs().open(true).await.unwrap();
    let measured = Measured::start("insert");
    let failed = drive(&mut job, async |job, number| {
        let op = job.next_op();
        job.insert(op, blocks[number as usize].clone(), 1, false)
            .await
            .unwrap();
    })
    .await;
    measured.end(failed);

    for name in ["fetch", "fetch again"] {
        let mut job = network.nodes[6].jobs().open(true).await.unwrap();
        let measured = Measured::start(name);
        let failed = drive(&mut job, async |job, number| {
            let op = job.next_op();
            job.fetch(op, blocks[number as usize].id(), false).await.unwrap();
        })
        .await;
        measured.end(failed);
    }
    network.shutdown().await;
}
