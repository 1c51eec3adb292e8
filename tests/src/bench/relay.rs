//! Processes of the real program for benchmarks of circuits: a relay, and exits behind it.

use anyhow::Context;
use tempfile::TempDir;
use warren_proto::{descriptor::Descriptor, network::Network};

use super::{
    circuit_client::CircuitClient,
    program::{self, Running},
};

const NAME: &str = "bench-circuits";
/// Small datastores: they are not used.
const SETTINGS: &str = "[store]\nsize = \"16 MiB\"\ncache = \"16 MiB\"\n";

/// A relay and exits, all linked, and who they are.
pub(super) struct Site {
    pub(super) relay: Running,
    pub(super) relay_name: Descriptor,
    exits: Vec<Running>,
    pub(super) exit_names: Vec<Descriptor>,
    seed: u64,
    // Removed last.
    _folder: TempDir,
}

impl Site {
    pub(super) fn start(exits: usize) -> anyhow::Result<Self> {
        let program = program::find()?;
        let folder = tempfile::tempdir()?;
        let start = |name: &str, seeds: &[&_]| {
            let settings = program::settings(NAME, seeds) + SETTINGS;
            Running::start(&program, &folder.path().join(name), &settings)
        };
        let relay = start("relay", &[])?;
        let exits = (0..exits)
            .map(|number| start(&format!("exit-{number}"), &[&relay.reference]))
            .collect::<Result<Vec<_>, _>>()?;
        for node in exits.iter().chain([&relay]) {
            node.wait_for("links", exits.len() as u64)?;
        }
        // Each says who it is when somebody links to it.
        let network: Network = NAME.parse()?;
        let mut names = Vec::new();
        for (seed, node) in exits.iter().chain([&relay]).enumerate() {
            let client = CircuitClient::dial(network, &node.reference, seed as u64)?;
            names.push(client.peer()?.clone());
        }
        Ok(Self {
            seed: names.len() as u64,
            relay_name: names.pop().context("no relay")?,
            exit_names: names,
            relay,
            exits,
            _folder: folder,
        })
    }

    /// A client with an identity of its own, linked to the relay.
    pub(super) fn client(&mut self) -> anyhow::Result<CircuitClient> {
        self.seed += 1;
        CircuitClient::dial(NAME.parse()?, &self.relay.reference, self.seed)
    }

    /// A client with an identity of its own, linked to one of the exits.
    pub(super) fn client_of_exit(&mut self, number: usize) -> anyhow::Result<CircuitClient> {
        self.seed += 1;
        let exit = self.exits.get(number).context("no such exit")?;
        CircuitClient::dial(NAME.parse()?, &exit.reference, self.seed)
    }
}
