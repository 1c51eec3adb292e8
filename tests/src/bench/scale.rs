//! What grows with the number of nodes, and with the number of open circuits: memory and processor time, of each and of a request.

use warren_keys::{BlockId, RoutingKey};

use super::{
    circuit_client::CircuitClient,
    count, median, megabytes,
    meter::{Meter, resident},
    milliseconds,
    network::{Network, PUBLISHER, READER},
    relay::Site,
    report::Report,
};

/// Nodes of the networks.
const NODES: [usize; 2] = [8, 80];
/// Small files that are fetched in each, and their bytes.
const FILES: u64 = 200;
const SIZE: usize = 1024;
/// Inserts at a time; only the fetches are measured.
const AT_ONCE: usize = 8;
/// Seeds of the files, apart from those of other benchmarks.
const SEEDS: u64 = 5 << 32;
/// Seconds for which a network is left alone to see what it does by itself.
const REST: u64 = 5;

/// Open circuits. They come from as many clients as one link may open circuits at once, a quarter of them from each.
const CIRCUITS: [u64; 3] = [10, 100, 1000];
const CLIENTS: usize = 4;
/// Requests through the relay while so many circuits are open.
const REQUESTS: u64 = 2000;

/// Networks of more and more nodes, all in this process.
///
/// # Errors
/// When one does not form.
pub async fn nodes(report: &mut Report) -> anyhow::Result<()> {
    for number in NODES {
        let name = format!("scale.nodes.{number}");
        let own = || resident(std::process::id()).unwrap_or(0);
        let empty = own();
        let network = Network::start("bench-scale", number, None).await?;
        let per_node = |bytes: u64| megabytes(bytes) / count(number as u64);
        report.add(
            format!("{name}.resident"),
            per_node(own().saturating_sub(empty)),
            "MB/node",
        );
        let meter = Meter::start();
        tokio::time::sleep(std::time::Duration::from_secs(REST)).await;
        let rest = meter.stop().cpu.as_secs_f64() * 1e3 / count(REST) / count(number as u64);
        report.add(format!("{name}.rest"), rest, "CPU ms/s a node");

        let (publisher, reader) = (&network.0[PUBLISHER], &network.0[READER]);
        let uris = publisher
            .insert_noise(SEEDS..SEEDS + FILES, SIZE, AT_ONCE)
            .await?;
        let before = network.routed().await?;
        let meter = Meter::start();
        let mut waits = Vec::new();
        for uri in uris {
            waits.push(milliseconds(reader.fetch(&uri, SIZE, |_| {}).await?));
        }
        let cost = meter.stop();
        let after = network.routed().await?;
        let fetches = count(FILES);
        report.add(
            format!("{name}.request"),
            cost.cpu.as_secs_f64() * 1e3 / fetches,
            "CPU ms/file",
        );
        cost.add_counts(report, &name, fetches, "file");
        report.add(format!("{name}.first_byte"), median(waits), "ms");
        let forwarded = count(after.forwarded - before.forwarded);
        let asked = count((after.exit_fetches - before.exit_fetches).max(1));
        report.add(format!("{name}.hops"), forwarded / asked, "routing hops");
        network.end();
    }
    Ok(())
}

/// More and more circuits through one relay process.
///
/// # Errors
/// When the program is not there, or refuses a circuit.
pub fn circuits(report: &mut Report) -> anyhow::Result<()> {
    let mut site = Site::start(CLIENTS)?;
    let process = site.relay.process();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(site.client()?);
    }
    // Nobody has it: after the first search the exits know, and answer at once.
    let nothing = BlockId::signed(RoutingKey::from_bytes([0x42; 32]));
    open(&site, &mut clients, CLIENTS as u64)?;
    ask(&mut clients, nothing, CLIENTS as u64)?;
    let empty = resident(process).unwrap_or(0);
    let mut standing = 0;
    for target in CIRCUITS {
        let name = format!("scale.circuits.{target}");
        let meter = Meter::of(process);
        open(&site, &mut clients, target - standing)?;
        let built = meter.stop();
        if target == CIRCUITS[CIRCUITS.len() - 1] {
            let each = built.cpu.as_secs_f64() / count(target - standing);
            report.add("handshakes.relay", 1.0 / each, "circuits/CPU s");
        }
        standing = target;
        let grown = resident(process).unwrap_or(0).saturating_sub(empty);
        report.add(format!("{name}.resident"), megabytes(grown), "MB");

        let meter = Meter::of(process);
        let mut asked = 0;
        while asked < REQUESTS {
            asked += ask(&mut clients, nothing, standing.min(200))?;
        }
        let each = meter.stop().cpu.as_secs_f64() * 1e6 / count(asked);
        report.add(format!("{name}.request"), each, "CPU us at the relay");
    }
    Ok(())
}

/// Opens so many circuits, spread over the clients; each client has an exit of its own.
fn open(site: &Site, clients: &mut [CircuitClient], number: u64) -> anyhow::Result<()> {
    for (at, client) in clients.iter_mut().enumerate() {
        let path = [&site.relay_name, &site.exit_names[at]];
        client.open(&path, share(number, at))?;
    }
    Ok(())
}

/// Asks through so many circuits; gives how many that were.
fn ask(clients: &mut [CircuitClient], block: BlockId, number: u64) -> anyhow::Result<u64> {
    for (at, client) in clients.iter_mut().enumerate() {
        client.ask(block, share(number, at))?;
    }
    Ok(number)
}

/// One client's part of a number.
fn share(number: u64, at: usize) -> u64 {
    let clients = CLIENTS as u64;
    number / clients + u64::from((at as u64) < number % clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for number in [0, 3, 10, 90, 900] {
            assert_eq!((0..CLIENTS).map(|at| share(number, at)).sum::<u64>(), number);
        }
    }
}
