//! Start-up of a large datastore: how long until it serves, and what its index takes.

use std::time::Instant;

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockId, Location, RoutingKey};
use warren_storage::{Geometry, MasterKey, Options, Region, Space, Store};
use zeroize::Zeroizing;

use super::{count, median, megabytes, meter::resident_own, network::noise, report::Report};

/// Bytes of each region; both are sparse, so the disk need not have them.
const REGION: u64 = 50 << 30;
/// Blocks in it: enough for a journal worth replaying.
const BLOCKS: u64 = 2000;
/// Starts of which the median counts.
const STARTS: usize = 5;

/// Measures.
///
/// # Errors
/// When the datastore does not open or has lost a block.
pub fn bench(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let master = MasterKey::from_bytes(Zeroizing::new([7; 32]));
    let options = Options {
        geometry: Geometry::for_quota(REGION, REGION)?,
        location: Location::new(0),
        space: Space::Sparse,
    };
    let open = || Store::open(folder.path().join("datastore"), &master, &options);
    let id = |number: u64| {
        BlockId::signed(RoutingKey::from_bytes(
            *blake3::hash(&number.to_le_bytes()).as_bytes(),
        ))
    };
    let bytes = Bytes::from(noise(8, BLOCK_SIZE));
    let begun = Instant::now();
    let store = open()?;
    report.add("open.made", begun.elapsed().as_secs_f64(), "s, a new one");
    for number in 0..BLOCKS {
        let block = Block::from_store(id(number), bytes.clone()).map_err(|error| anyhow!("{error}"))?;
        store.put(&block, Region::Cache)?;
    }
    // As a kill leaves it: the blocks are in the journal, not in the snapshot of the index.
    drop(store);
    let begun = Instant::now();
    let store = open()?;
    report.add("open.killed", begun.elapsed().as_secs_f64(), "s, after a kill");
    for number in 0..BLOCKS {
        ensure!(store.get(&id(number))?.is_some(), "a block is lost");
    }
    store.close()?;

    let (mut times, mut grown) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let memory = || resident_own(std::process::id()).unwrap_or(0);
        let before = memory();
        let begun = Instant::now();
        let store = open()?;
        times.push(begun.elapsed().as_secs_f64());
        grown = grown.max(memory().saturating_sub(before));
        ensure!(store.get(&id(0))?.is_some(), "a block is lost");
        store.close()?;
    }
    let slots: u64 = Region::ALL
        .iter()
        .map(|region| u64::from(options.geometry.slots(*region)))
        .sum();
    report.add("open.time", median(times), "s");
    report.add("open.ram", megabytes(grown), "MB");
    report.add("open.slot", count(grown) / count(slots), "B/slot");
    Ok(())
}
