//! A file larger than a client may hold in memory: the real program puts it into a network of seven others and gets it back.

use std::{
    fs,
    io::{BufWriter, Write},
};

use anyhow::Context;

use super::super::{
    count, megabytes,
    meter::{Cost, Meter, peak_resident},
    network::{NODES, Network, noise},
    program::{self, Running},
    report::Report,
    space,
};

/// The client is nothing else: what it holds, it holds for its user.
const CLIENT: &str = "[services]\nrelay = false\nexit = false\nstore = false\n[store]\nsize = \"16 MiB\"\ncache = \"16 MiB\"\n";
/// Bytes that are made at a time.
const PIECE: usize = 1 << 20;
/// Copies of a block, with parity half as much again: what the nodes write.
const WRITTEN: u64 = 5 * 3 / 2 + 1;

/// Sends a file of `bytes` there and back.
///
/// # Errors
/// When the program is not there, or the file does not come through.
pub async fn bench(report: &mut Report, bytes: u64) -> anyhow::Result<()> {
    if !space::suffices(report, "net.large", bytes * WRITTEN)? {
        return Ok(());
    }
    let program = program::find()?;
    let folder = tempfile::tempdir()?;
    let settings = program::settings("bench-large", &[]) + CLIENT;
    let client = Running::start(&program, &folder.path().join("node"), &settings)?;
    let network = Network::start("bench-large", NODES - 1, Some(client.reference.clone())).await?;
    client.wait_for("links", NODES as u64 - 1)?;

    let path = folder.path().join("file");
    let mut file = BufWriter::new(fs::File::create(&path)?);
    for number in 0..bytes.div_ceil(PIECE as u64) {
        let left = bytes - number * PIECE as u64;
        let piece = noise(4 << 32 | number, PIECE.min(usize::try_from(left)?));
        file.write_all(&piece)?;
    }
    file.into_inner()?;

    let meter = Meter::of(client.process());
    let key = client.insert(&program, &path)?;
    let inward = End::of(meter, &client)?;
    let meter = Meter::of(client.process());
    client.fetch(&key, bytes)?;
    let outward = End::of(meter, &client)?;
    for (name, end) in [("net.large.in", &inward), ("net.large.out", &outward)] {
        end.cost
            .add_to(report, name, bytes, count(bytes) / 32768.0, "block");
        report.add(format!("{name}.resident"), megabytes(end.peak), "MB");
    }
    report.add("net.large.client", megabytes(inward.peak.max(outward.peak)), "MB");
    network.end();
    Ok(())
}

/// What one way cost the client's process.
struct End {
    cost: Cost,
    peak: u64,
}

impl End {
    fn of(meter: Meter, client: &Running) -> anyhow::Result<Self> {
        let cost = meter.stop();
        let peak = peak_resident(client.process()).context("the client has ended")?;
        // proc(5): the peak begins anew.
        fs::write(format!("/proc/{}/clear_refs", client.process()), "5")?;
        Ok(Self { cost, peak })
    }
}
