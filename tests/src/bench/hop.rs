//! One relay: how many bytes of files it forwards in a second of a processor's time.
//!
//! Processes of the real program: a client, a relay that neither keeps blocks nor asks for others, and exits that keep all of them. Circuits have
//! two hops, so that all goes client, relay, exit; to the relay it is the same as being the second of three. What is fetched lies at the exit,
//! so no routed request passes the relay either.

use std::io::Write;

use super::{
    count, median, megabytes,
    meter::{Meter, resident},
    network::noise,
    program::{self, Running},
    report::Report,
};

/// Bytes of the file.
const SIZE: u64 = 100_000_000;
/// Fetches of which the median counts.
const FETCHES: usize = 5;
/// Blocks are counted for figures by the block.
const BLOCK: f64 = 32768.0;
/// Keeps no blocks, and asks for nobody.
const RELAY: &str =
    "[services]\nexit = false\nstore = false\n[store]\nsize = \"16 MiB\"\ncache = \"16 MiB\"\n";
/// Offers nothing.
const CLIENT: &str = "[services]\nrelay = false\nexit = false\nstore = false\n[circuits]\nhops = 2\n[store]\nsize = \"16 MiB\"\ncache = \"16 MiB\"\n";
/// Keeps and asks, and is no relay.
const EXIT: &str = "[services]\nrelay = false\n[store]\nsize = \"512 MiB\"\ncache = \"16 MiB\"\n";
/// Keys of the root go in through two exits.
const EXITS: usize = 2;

/// Measures.
///
/// # Errors
/// When the program is not there or does not work.
pub fn bench(report: &mut Report) -> anyhow::Result<()> {
    let program = program::find()?;
    let folder = tempfile::tempdir()?;
    let start = |name: &str, seeds: &[&_], services: &str| {
        let settings = program::settings("bench-hop", seeds) + services;
        Running::start(&program, &folder.path().join(name), &settings)
    };
    let relay = start("relay", &[], RELAY)?;
    let exits = (0..EXITS)
        .map(|number| start(&format!("exit-{number}"), &[&relay.reference], EXIT))
        .collect::<Result<Vec<_>, _>>()?;
    let client = start("client", &[&relay.reference], CLIENT)?;
    for node in exits.iter().chain([&relay, &client]) {
        node.wait_for("known_nodes", EXITS as u64 + 1)?;
    }
    client.wait_for("circuits_ready", 1)?;

    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&noise(5, usize::try_from(SIZE)?))?;
    let key = client.insert(&program, file.path())?;
    let mut costs = Vec::new();
    for _ in 0..FETCHES {
        let meter = Meter::of(relay.process());
        client.fetch(&key, SIZE)?;
        costs.push(meter.stop());
    }
    costs.sort_by_key(|cost| cost.cpu);
    let cost = costs[FETCHES / 2];
    cost.add_to(report, "hop", SIZE, count(SIZE) / BLOCK, "block");
    let forwarded = costs
        .iter()
        .map(|cost| megabytes(SIZE) / 1000.0 / cost.cpu.as_secs_f64());
    report.add("hop.forwarded", median(forwarded), "GB/CPU s");
    let memory = resident(relay.process()).unwrap_or(0);
    report.add("hop.resident", megabytes(memory), "MB");
    Ok(())
}
