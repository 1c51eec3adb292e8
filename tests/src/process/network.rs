//! Several nodes, linked.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    free_address,
    node::{Home, Node, Settings},
    relay::Relay,
    scratch, wait_for,
};

/// Nodes of a usual network: as many as `warren demo` has.
pub const NODES: usize = 8;

/// The nodes know each other within this.
const FORMING: Duration = Duration::from_secs(60);

/// One network at a time: several at once would starve each other on a small machine.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the turn to run processes that load the machine.
pub fn turn() -> MutexGuard<'static, ()> {
    // A test that failed has given its turn back all the same.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running network; everything of it is gone when it goes out of scope.
pub struct Network {
    nodes: Vec<Node>,
    // Dropped after the nodes.
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Network {
    /// Starts `count` nodes and waits until each is linked to all others. `adapt` changes the settings of the node with the given number.
    ///
    /// # Panics
    /// When they do not start or do not find each other.
    pub fn start(name: &str, count: usize, mut adapt: impl FnMut(usize, &mut Settings)) -> Self {
        let turn = turn();
        let folder = scratch();
        let mut nodes: Vec<Node> = Vec::with_capacity(count);
        for number in 0..count {
            let mut settings = Settings::new(name);
            settings
                .seeds
                .extend(nodes.first().map(|node| node.reference.clone()));
            adapt(number, &mut settings);
            let home = Home::make(folder.path().join(format!("node-{number}")), &settings);
            nodes.push(home.start());
        }
        let network = Self {
            nodes,
            folder,
            _turn: turn,
        };
        network.wait_until_linked(count - 1);
        network
    }

    /// Starts a node behind each relay: others reach it only through there.
    ///
    /// # Panics
    /// As [`Network::start`].
    pub fn start_behind(name: &str, relays: &[Relay]) -> Self {
        // A relay must know where its node listens before the node that has it as a seed starts, so the addresses are chosen first.
        let listening: Vec<_> = relays.iter().map(|_| free_address()).collect();
        for (relay, address) in relays.iter().zip(&listening) {
            relay.lead_to(*address);
        }
        Self::start(name, relays.len(), |number, settings| {
            settings.listen = listening[number];
            settings.advertise = vec![relays[number].address];
        })
    }

    /// Waits until each node has `links` links.
    ///
    /// # Panics
    /// When they do not get them.
    pub fn wait_until_linked(&self, links: usize) {
        for node in &self.nodes {
            wait_for("links to all others", FORMING, || {
                (node.status()["links"].as_u64() >= Some(links as u64)).then_some(())
            });
        }
    }

    /// The folder that holds all data directories and logs.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Takes a node out, to end it.
    pub fn remove(&mut self, index: usize) -> Node {
        self.nodes.remove(index)
    }

    /// Stops all nodes with SIGTERM and returns what is left on the disk.
    ///
    /// # Panics
    /// When one does not end with exit code 0.
    pub fn terminate(self) -> TempDir {
        for node in self.nodes {
            let (code, home) = node.terminate();
            assert_eq!(code, Some(0), "{}", home.log());
        }
        self.folder
    }
}

impl Deref for Network {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

impl DerefMut for Network {
    fn deref_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }
}
