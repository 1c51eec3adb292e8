//! Networks of real nodes in memory, on one thread, in simulated time.
//!
//! Each node is one real core machine and one real link machine for each neighbour, with the real handshake before it; the
//! datastore is a map. Lines between nodes have a latency and, if wanted, a rate, and no other limit. One event loop calls them in turn, and its
//! clock jumps from event to event.
//!
//! # Invariants
//!
//! - Everything follows from [`Spec`]: two networks of one spec that are asked the same things do the same to the last
//!   byte ([`Net::trace`]).
//! - Nothing sleeps, and nothing looks at a clock of the machine that runs it.
//! - Bytes on one line arrive in the order in which they were sent, whole, or not at all once an end is gone.
//!
//! # What is deliberately absent
//!
//! Sockets, disks, and the daemon around the machines: tests of whole processes have those.

mod client;
mod jobs;
mod node;
pub(crate) mod schedule;
mod store;

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::NodeId;
use warren_proto::{
    client::PoolSettings,
    core::{Core, CoreConfig, CoreStatus, api::DialTarget},
    crypto::Aead,
    descriptor::{Descriptor, NodeSecrets, Services, Statement},
    ids::{LinkId, OriginId},
    network::Network,
    routing::Limits,
    time::Time,
    topology::{TopologySettings, WANTED_LINKS},
};

pub use self::{
    client::{BlockOp, FileJob},
    jobs::{BlockEnd, FileEnd},
    node::{ClosedLink, Node},
    store::Store,
};
use self::{
    node::{Effect, Input},
    schedule::Schedule,
};
use crate::{adversary::Adversary, watch::Transcript};

/// What the datastore takes to answer: a read of a fast disk.
const STORE_TIME: Duration = Duration::from_micros(200);
/// When a dial of a node that does not answer is given up, as sockets do.
const DIAL_TIME: Duration = Duration::from_secs(10);
/// When the system of the other end finds a line dead that nothing comes back on (protocol §5.3).
const KEEPALIVE: Duration = Duration::from_secs(35);
/// A network that has not come up after so long has a fault.
const START_TIME: Duration = Duration::from_secs(120);
/// Events at one instant that no sound network has: something calls itself without end.
const MAX_AT_ONCE: u32 = 1_000_000;

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Everything random follows from it.
    pub seed: u64,
    /// Number of nodes. Each knows the one before it at the start; node 0 is found by the others.
    pub nodes: usize,
    /// Hops of circuits.
    pub hops: usize,
    /// Circuits that each node keeps ready.
    pub spares: usize,
    /// Links that a node has at most.
    pub max_links: usize,
    /// Time that bytes take from one node to another, drawn for each pair.
    pub latency: Range<Duration>,
    /// Bytes that each line carries in a second, each way; without one, any number at once.
    pub rate: Option<u32>,
    /// Whether to write down all that each node sees, from its start on. Only nodes of [`crate::watch::Watched`] ciphers
    /// see with their keys.
    pub watched: bool,
}

impl Spec {
    /// A network with the settings that nodes have by default, and lines as over a continent.
    #[must_use]
    pub const fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            hops: 3,
            spares: 2,
            max_links: 2 * WANTED_LINKS,
            latency: Duration::from_millis(5)..Duration::from_millis(40),
            rate: None,
            watched: false,
        }
    }
}

/// How a node goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// Its process ends, and its machine closes the connections.
    Killed,
    /// Its machine loses power: nobody is told, until their systems' keepalive finds out.
    Silent,
}

enum Event {
    Node(usize, Input),
    /// A dial reaches its target.
    Arrival {
        from: usize,
        to: usize,
        target: Box<DialTarget>,
    },
}

/// One end of a line.
struct Wire {
    peer: usize,
    other: LinkId,
    latency: Duration,
}

/// A network.
pub struct Net<A> {
    spec: Spec,
    network: Network,
    now: Time,
    at_once: u32,
    schedule: Schedule<Event>,
    nodes: Vec<Node<A>>,
    wires: BTreeMap<LinkId, Wire>,
    by_id: BTreeMap<NodeId, usize>,
    last_link: u64,
    trace: blake3::Hasher,
}

impl<A: Aead> Net<A> {
    /// Nodes that have just been started.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let network: Network = "in-memory".parse().expect("a valid name");
        let mut rng = ChaCha20Rng::seed_from_u64(spec.seed);
        let mut net = Self {
            network,
            now: Time(1_000_000),
            at_once: 0,
            schedule: Schedule::new(),
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            by_id: BTreeMap::new(),
            last_link: 0,
            trace: blake3::Hasher::new(),
            spec,
        };
        for index in 0..net.spec.nodes {
            let node = net.make_node(index, &mut rng);
            net.by_id.insert(node.descriptor.identity, index);
            net.nodes.push(node);
            net.nodes[index].transcript = net.spec.watched.then(|| Transcript::new(network));
        }
        for index in 0..net.nodes.len() {
            let effects = net.nodes[index].start(net.now);
            net.carry_out(index, effects);
        }
        net
    }

    /// Nodes that have found each other and have circuits ready.
    ///
    /// # Panics
    /// When they do not get there in two minutes of simulated time.
    #[must_use]
    pub fn started(spec: Spec) -> Self {
        let mut net = Self::new(spec);
        let limit = net.now + START_TIME;
        while !net.is_up() {
            assert!(net.now < limit, "the network does not come up: {:?}", net.spec);
            net.run_for(Duration::from_millis(100));
        }
        net
    }

    fn is_up(&self) -> bool {
        // A link that the ring needs is missing as long as a node knows fewer nodes than there are.
        let links = (self.nodes.len() - 1).min(self.spec.max_links / 2);
        let up = |node: &Node<A>| {
            let status = node.core.status(self.now);
            let ready = self.spec.hops == 0 || status.circuits_ready >= self.spec.spares;
            ready && status.known_nodes >= self.nodes.len() - 1 && status.links.len() >= links
        };
        self.nodes.iter().filter(|node| node.alive).all(up)
    }

    fn make_node(&self, index: usize, rng: &mut ChaCha20Rng) -> Node<A> {
        let secrets = NodeSecrets::generate(rng);
        let [.., high, low] = u32::try_from(index).expect("a number of a node").to_be_bytes();
        let statement = Statement {
            addresses: vec![([10, 0, high, low], 4000).into()],
            services: Services::ALL,
            published: node::wall(self.now).0,
            ..secrets.statement()
        };
        let descriptor = secrets.sign(statement, &self.network);
        let target = |node: &Node<A>| DialTarget {
            node: node.descriptor.identity,
            link_key: node.descriptor.link_key,
            addresses: node.descriptor.addresses.clone(),
        };
        let mut pool = PoolSettings::new(descriptor.identity);
        pool.hops = self.spec.hops;
        pool.spares = self.spec.spares;
        let config = CoreConfig {
            descriptor: descriptor.clone(),
            topology: TopologySettings {
                max_links: self.spec.max_links,
                allow_private: true,
                seeds: self
                    .nodes
                    .first()
                    .into_iter()
                    .chain(self.nodes.last())
                    .map(target)
                    .collect(),
                ..TopologySettings::default()
            },
            limits: Limits::default(),
            pool,
            known: Vec::new(),
            entries: Vec::new(),
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let core = Core::new(self.now, node::wall(self.now), config, seed);
        let own = ChaCha20Rng::from_rng(rng);
        let mut node = Node::new(core, Arc::new(secrets), Arc::new(descriptor), self.network, own);
        node.rate = self.spec.rate;
        node
    }

    /// Simulated time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// A hash of all that has crossed any line, with the time of each crossing.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// Number of nodes, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node<A> {
        &self.nodes[index]
    }

    /// The number of the node with this identity.
    #[must_use]
    pub fn index_of(&self, node: &NodeId) -> usize {
        self.by_id[node]
    }

    /// What a node says of itself.
    #[must_use]
    pub fn descriptor(&self, index: usize) -> &Descriptor {
        &self.nodes[index].descriptor
    }

    /// The network that the nodes belong to.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// What a node's core says of itself.
    #[must_use]
    pub fn status(&self, index: usize) -> CoreStatus {
        self.nodes[index].core.status(self.now)
    }

    /// A node's datastore.
    #[must_use]
    pub fn store(&self, index: usize) -> &Store {
        &self.nodes[index].store
    }

    /// The same, to change it.
    pub fn store_mut(&mut self, index: usize) -> &mut Store {
        &mut self.nodes[index].store
    }

    /// Links of a node that are over, oldest first.
    #[must_use]
    pub fn closed(&self, index: usize) -> &[ClosedLink] {
        &self.nodes[index].closed
    }

    /// The link of `a` that leads to `b`.
    #[must_use]
    pub fn link_between(&self, a: usize, b: usize) -> Option<LinkId> {
        let other = self.descriptor(b).identity;
        self.nodes[a]
            .links()
            .find(|(_, peer)| *peer == other)
            .map(|(link, _)| link)
    }

    /// The hops of a circuit that a node has built for itself, entry first.
    #[must_use]
    pub fn path(&self, node: usize, origin: OriginId) -> Vec<usize> {
        let path = self.nodes[node].paths.get(&origin).map_or(&[][..], |path| path);
        path.iter().map(|hop| self.index_of(hop)).collect()
    }

    /// The links of `a` that lead or led to `b`.
    #[must_use]
    pub fn links_to(&self, a: usize, b: usize) -> Vec<LinkId> {
        let other = self.descriptor(b).identity;
        self.nodes[a].links_to(&other)
    }

    /// The own circuits through which a node has sent requests, in the order of the requests.
    #[must_use]
    pub fn asked(&self, node: usize) -> &[OriginId] {
        &self.nodes[node].asked
    }

    /// What a watched node has seen.
    ///
    /// # Panics
    /// When it was not watched.
    #[must_use]
    pub fn transcript(&self, index: usize) -> &Transcript {
        self.nodes[index].transcript.as_ref().expect("a watched node")
    }

    /// Makes a node hostile.
    pub fn corrupt(&mut self, index: usize, adversary: impl Adversary + 'static) {
        self.nodes[index].adversary = Some(Box::new(adversary));
    }

    /// Makes a node honest again.
    pub fn reform(&mut self, index: usize) {
        self.nodes[index].adversary = None;
    }

    /// Ends a node for good.
    pub fn kill(&mut self, index: usize, death: Death) {
        self.nodes[index].alive = false;
        let ends: Vec<LinkId> = self
            .wires
            .iter()
            .filter(|(_, wire)| self.wires.get(&wire.other).is_some_and(|back| back.peer == index))
            .map(|(end, _)| *end)
            .collect();
        for end in ends {
            let Some(wire) = self.wires.remove(&end) else {
                continue;
            };
            let heard = match death {
                Death::Killed => wire.latency,
                Death::Silent => KEEPALIVE,
            };
            let hangup = Event::Node(wire.peer, Input::Hangup { link: wire.other });
            self.schedule.at(self.now + heard, hangup);
        }
    }

    /// Whether a node lives.
    #[must_use]
    pub fn is_alive(&self, index: usize) -> bool {
        self.nodes[index].alive
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.schedule.next().is_some_and(|next| next <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Runs until `done`, asked after each event, or until so much time has passed; whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + limit;
        while !done(self) {
            if self.schedule.next().is_none_or(|next| next > until) {
                self.now = self.now.max(until);
                return false;
            }
            self.step();
        }
        true
    }

    fn step(&mut self) {
        let Some((time, event)) = self.schedule.pop() else {
            return;
        };
        self.at_once = if time > self.now { 0 } else { self.at_once + 1 };
        assert!(self.at_once < MAX_AT_ONCE, "time stands still");
        self.now = self.now.max(time);
        match event {
            Event::Node(index, input) => {
                if let Input::Wake(machine) = &input
                    && !self.nodes[index].awaits(*machine, time)
                {
                    return;
                }
                self.input(index, input);
            }
            Event::Arrival { from, to, target } => self.arrive(from, to, target),
        }
    }

    fn input(&mut self, index: usize, input: Input) {
        if self.nodes[index].alive {
            let effects = self.nodes[index].input(self.now, input);
            self.carry_out(index, effects);
        }
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Bytes { link, bytes, takes } => self.transmit(link, bytes, takes),
                Effect::Hangup { link } => self.hang_up(link),
                Effect::Dial(target) => self.dial(index, target),
                Effect::Store(ticket, answer) => {
                    let event = Event::Node(index, Input::Store(ticket, answer));
                    self.schedule.at(self.now + STORE_TIME, event);
                }
                Effect::Wake(machine, time) => {
                    self.schedule.at(time, Event::Node(index, Input::Wake(machine)));
                }
            }
        }
    }

    fn transmit(&mut self, link: LinkId, bytes: BytesMut, takes: Duration) {
        let Some(wire) = self.wires.get(&link) else {
            return;
        };
        self.trace.update(&self.now.0.to_be_bytes());
        self.trace.update(&link.0.to_be_bytes());
        self.trace.update(&bytes);
        let input = Input::Bytes {
            link: wire.other,
            bytes,
        };
        self.schedule
            .at(self.now + takes + wire.latency, Event::Node(wire.peer, input));
    }

    fn hang_up(&mut self, link: LinkId) {
        if let Some(wire) = self.wires.remove(&link) {
            let event = Event::Node(wire.peer, Input::Hangup { link: wire.other });
            self.schedule.at(self.now + wire.latency, event);
        }
    }

    fn dial(&mut self, from: usize, target: Box<DialTarget>) {
        let to = target.addresses.iter().find_map(|address| self.node_at(address));
        match to {
            Some(to) => {
                let latency = self.latency(from, to);
                self.schedule
                    .at(self.now + latency, Event::Arrival { from, to, target });
            }
            None => self.fail_dial(from, target.node, Duration::ZERO),
        }
    }

    fn fail_dial(&mut self, from: usize, node: NodeId, after: Duration) {
        let event = Event::Node(from, Input::DialFailed(node));
        self.schedule.at(self.now + after, event);
    }

    fn arrive(&mut self, from: usize, to: usize, target: Box<DialTarget>) {
        if !self.nodes[to].alive {
            return self.fail_dial(from, target.node, DIAL_TIME);
        }
        let latency = self.latency(from, to);
        let (near, far) = (LinkId(self.last_link + 1), LinkId(self.last_link + 2));
        self.last_link += 2;
        for (end, other, peer) in [(near, far, to), (far, near, from)] {
            let wire = Wire { peer, other, latency };
            self.wires.insert(end, wire);
        }
        self.input(to, Input::Accepted { link: far });
        let event = Event::Node(from, Input::Connected { link: near, target });
        self.schedule.at(self.now + latency, event);
    }

    fn node_at(&self, address: &std::net::SocketAddr) -> Option<usize> {
        match address.ip() {
            std::net::IpAddr::V4(ip) => {
                let [_, _, high, low] = ip.octets();
                Some(usize::from(u16::from_be_bytes([high, low]))).filter(|index| *index < self.nodes.len())
            }
            std::net::IpAddr::V6(_) => None,
        }
    }

    /// The same for a pair of nodes whenever it is asked.
    fn latency(&self, a: usize, b: usize) -> Duration {
        let Range { start, end } = self.spec.latency;
        let span = end.saturating_sub(start).as_micros().max(1);
        let mut hasher = blake3::Hasher::new();
        for number in [self.spec.seed, a.min(b) as u64, a.max(b) as u64] {
            hasher.update(&number.to_be_bytes());
        }
        let drawn = hasher.finalize().as_bytes().first_chunk().copied();
        let drawn = u128::from(drawn.map_or(0, u64::from_be_bytes)) % span;
        start + Duration::from_micros(u64::try_from(drawn).unwrap_or_default())
    }
}
