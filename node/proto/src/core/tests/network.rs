//! Many cores in memory. Links carry messages and circuits without bytes: what the link machines do is done here in a few
//! lines. Time jumps from one event to the next; the same seed gives the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash},
    net::SocketAddr,
};

use core::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BLOCK_SIZE, Block, BlockId, BlockKind, IdentityKey, NodeId};

use crate::{
    client::PoolSettings,
    core::{
        Core, CoreConfig,
        api::{
            ClientCommand, ClientEvent, CoreInput, CoreOutput, DialTarget, Shelf, StoreAnswer, StoreQuestion,
        },
    },
    descriptor::{Descriptor, MAX_DESCRIPTOR_LEN, Services, Statement, fixtures},
    ids::{CircuitAddr, CircuitId, JobId, LinkId, OpId, OriginId},
    link::api::{LinkCommand, LinkEvent},
    routing::Limits,
    time::{Time, WallTime},
    topology::TopologySettings,
    wire::Frame,
};

const LATENCY: Duration = Duration::from_millis(8);
/// Descriptors that a record has room for, at the least.
const MOST_IN_RECORD: usize = 4078 / MAX_DESCRIPTOR_LEN;
/// When a dial whose packets are lost is given up.
const CONNECT_TIME: Duration = Duration::from_secs(4);
const EPOCH: u64 = 1_800_000_000;

enum Event {
    Input(usize, Box<CoreInput>),
    /// To the other end of a connection.
    Frame(LinkId, Frame),
    Connect(usize, DialTarget),
    Wake(usize),
}

/// A client circuit, as the link machines of its path would hold it.
struct Circuit {
    owner: usize,
    origin: OriginId,
    path: Vec<Descriptor>,
    /// Where it arrives at each hop.
    hops: Vec<(usize, CircuitAddr)>,
}

pub(super) struct Network {
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) cores: Vec<Core>,
    pub(super) descriptors: Vec<Descriptor>,
    keys: Vec<IdentityKey>,
    index: BTreeMap<NodeId, usize>,
    /// Both ends of each connection: link to (its node, the link at the other end).
    wires: BTreeMap<LinkId, (usize, LinkId)>,
    last_link: u64,
    circuits: Vec<Circuit>,
    last_circuit: u32,
    pub(super) dead: BTreeSet<usize>,
    /// Take everything in and say nothing, without their connections ending.
    pub(super) frozen: BTreeSet<usize>,
    /// Behind a wall that lets nobody in.
    pub(super) walled: BTreeSet<usize>,
    /// Nodes that hear nothing of the others, nor the others of them: what they send to each other is lost on the way.
    pub(super) apart: BTreeSet<usize>,
    /// Where each node really is.
    homes: Vec<SocketAddr>,
    stores: Vec<BTreeMap<BlockId, (Block, Shelf)>>,
    pub(super) events: Vec<(usize, ClientEvent)>,
    /// Addresses dialled, by node.
    pub(super) dialled: Vec<(usize, DialTarget)>,
    /// What cores said to links of circuits that no emulated circuit has.
    pub(super) commands: Vec<(usize, LinkId, LinkCommand)>,
    pub(super) descriptors_sent: u64,
    /// Records that were sent, each frame in as many of its own as it takes.
    pub(super) records: u64,
    /// Frames about the network that each node was sent, and took.
    pub(super) heard: Vec<u64>,
    wakes: Vec<Option<Time>>,
    /// What has happened so far, where a test asks for it: costs as much as all the rest.
    pub(super) trace: Option<DefaultHasher>,
    pub(super) rng: ChaCha20Rng,
}

impl Network {
    /// `count` nodes; each but the first knows the first as its seed. Circuits have `hops` hops.
    pub(super) fn new(count: u16, seed: u64, hops: usize) -> Self {
        let mut network = Self {
            now: Time(0),
            queue: BTreeMap::new(),
            sequence: 0,
            cores: Vec::new(),
            descriptors: Vec::new(),
            keys: Vec::new(),
            index: BTreeMap::new(),
            wires: BTreeMap::new(),
            last_link: 0,
            circuits: Vec::new(),
            last_circuit: 0,
            dead: BTreeSet::new(),
            frozen: BTreeSet::new(),
            walled: BTreeSet::new(),
            apart: BTreeSet::new(),
            homes: Vec::new(),
            stores: Vec::new(),
            events: Vec::new(),
            dialled: Vec::new(),
            commands: Vec::new(),
            descriptors_sent: 0,
            records: 0,
            heard: Vec::new(),
            wakes: Vec::new(),
            trace: None,
            rng: ChaCha20Rng::seed_from_u64(seed),
        };
        for number in 0..count {
            network.add(number, hops, |_| {});
        }
        network
    }

    /// Adds a node that knows node 0 as its seed.
    pub(super) fn add(&mut self, number: u16, hops: usize, change: impl FnOnce(&mut CoreConfig)) -> usize {
        let (key, statement) = fixtures::node_statement(number);
        self.homes.push(statement.addresses[0]);
        let descriptor = Descriptor::sign(&key, statement, &fixtures::network());
        let seeds = self.descriptors.first().map(target).into_iter().collect();
        let mut config = CoreConfig {
            topology: TopologySettings {
                max_links: 128,
                allow_private: true,
                seeds,
                ..TopologySettings::default()
            },
            limits: Limits::default(),
            pool: PoolSettings {
                hops,
                spares: 0,
                ..PoolSettings::new(descriptor.identity)
            },
            known: Vec::new(),
            entries: Vec::new(),
            descriptor,
        };
        change(&mut config);
        let node = self.cores.len();
        self.index.insert(config.descriptor.identity, node);
        self.descriptors.push(config.descriptor.clone());
        self.keys.push(key);
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.cores.push(Core::new(self.now, self.wall(), config, seed));
        self.stores.push(BTreeMap::new());
        self.heard.push(0);
        self.wakes.push(None);
        self.drain(node);
        node
    }

    pub(super) fn wall(&self) -> WallTime {
        WallTime(EPOCH + self.now.0 / 1_000_000)
    }

    /// A descriptor of an existing node with something changed.
    pub(super) fn resigned(&self, node: usize, change: impl FnOnce(&mut Statement)) -> Descriptor {
        let mut statement = (*self.descriptors[node]).clone();
        change(&mut statement);
        Descriptor::sign(&self.keys[node], statement, &fixtures::network())
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `done`, at most for a minute.
    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.now < end && self.step(), "not done within a minute");
        }
    }

    /// Ends a node: its connections end too.
    pub(super) fn kill(&mut self, node: usize) {
        self.dead.insert(node);
        let links: Vec<LinkId> = self
            .wires
            .iter()
            .filter(|(_, (owner, _))| *owner == node)
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            self.disconnect(link, false);
        }
    }

    /// Brings a dead node back, with all that it knew.
    pub(super) fn revive(&mut self, node: usize) {
        self.dead.remove(&node);
        self.wakes[node] = None;
        let links: Vec<LinkId> = self.cores[node]
            .status(self.now)
            .links
            .iter()
            .map(|l| l.link.link)
            .collect();
        for link in links {
            self.input(
                node,
                CoreInput::LinkDown {
                    link,
                    misbehaved: false,
                },
            );
        }
        self.drain(node);
    }

    /// Ends a connection; `misbehaved` is what the other end is told of this one.
    pub(super) fn disconnect(&mut self, link: LinkId, misbehaved: bool) {
        let Some((owner, other)) = self.wires.remove(&link) else {
            return;
        };
        let heard = self
            .wires
            .get(&other)
            .is_some_and(|(peer, _)| !self.are_apart(owner, *peer));
        if !heard {
            // The other end finds out by itself.
            let (link, misbehaved) = (link, false);
            self.input_later(Duration::ZERO, owner, CoreInput::LinkDown { link, misbehaved });
            return;
        }
        let Some((peer, _)) = self.wires.remove(&other) else {
            return;
        };
        self.input_later(
            Duration::ZERO,
            owner,
            CoreInput::LinkDown {
                link,
                misbehaved: false,
            },
        );
        self.input_later(
            LATENCY,
            peer,
            CoreInput::LinkDown {
                link: other,
                misbehaved,
            },
        );
        let over = |at: &CircuitAddr| at.link == link || at.link == other;
        let (broken, whole) = core::mem::take(&mut self.circuits)
            .into_iter()
            .partition(|circuit: &Circuit| circuit.hops.iter().any(|(_, at)| over(at)));
        self.circuits = whole;
        for circuit in broken {
            self.end_circuit(&circuit, None);
        }
    }

    /// Carries out what a core has decided outside of an input.
    pub(super) fn flush(&mut self, node: usize) {
        self.drain(node);
        self.run_for(LATENCY);
    }

    pub(super) fn command(&mut self, node: usize, command: ClientCommand) {
        self.input(node, CoreInput::Client(command));
    }

    /// Has a node's client fetch a block in a job of its own and gives the result.
    pub(super) fn fetch(&mut self, node: usize, block: BlockId) -> Option<Block> {
        let job = self.open_job(node);
        self.command(
            node,
            ClientCommand::Fetch {
                job,
                op: OpId(0),
                block,
                expendable: false,
                wait: Duration::ZERO,
            },
        );
        self.run_until(|network| !network.events.is_empty());
        self.command(node, ClientCommand::CloseJob(job));
        match self.events.pop() {
            Some((_, ClientEvent::Fetched { result, .. })) => result.ok(),
            other => panic!("not a fetch: {other:?}"),
        }
    }

    /// Has a node's client insert a block and gives the number of copies.
    pub(super) fn insert(&mut self, node: usize, block: Block) -> u8 {
        let job = self.open_job(node);
        let (exits, read_back) = (1, false);
        self.command(
            node,
            ClientCommand::Insert {
                job,
                op: OpId(0),
                block,
                exits,
                read_back,
            },
        );
        self.run_until(|network| !network.events.is_empty());
        self.command(node, ClientCommand::CloseJob(job));
        match self.events.pop() {
            Some((_, ClientEvent::Inserted { result, .. })) => result.unwrap(),
            other => panic!("not an insert: {other:?}"),
        }
    }

    pub(super) fn open_job(&mut self, node: usize) -> JobId {
        let job = JobId(self.rng.next_u64());
        self.command(node, ClientCommand::OpenJob { job, bulk: false });
        job
    }

    /// Hands an event of a link to a core.
    pub(super) fn event(&mut self, node: usize, link: LinkId, event: LinkEvent) {
        self.input(node, CoreInput::Link(link, event));
    }

    /// The link that `node` has to `peer`, as the network sees it.
    pub(super) fn link(&self, node: usize, peer: usize) -> Option<LinkId> {
        let mut links = self.wires.iter().filter(|(_, (owner, other))| {
            *owner == node && self.wires.get(other).is_some_and(|(owner, _)| *owner == peer)
        });
        links.next().map(|(link, _)| *link)
    }

    /// How many connections there are between each two nodes.
    pub(super) fn pairs(&self) -> BTreeMap<(usize, usize), usize> {
        let mut pairs = BTreeMap::new();
        for (owner, other) in self.wires.values() {
            if let Some((peer, _)) = self.wires.get(other) {
                *pairs.entry((*owner, *peer)).or_default() += 1;
            }
        }
        pairs
    }

    /// Connections between two nodes.
    pub(super) fn connections(&self, node: usize, peer: usize) -> usize {
        self.pairs().get(&(node, peer)).copied().unwrap_or_default()
    }

    pub(super) fn holders(&self, block: BlockId, wanted: Shelf) -> Vec<usize> {
        let holds = |node: &usize| {
            self.stores[*node]
                .get(&block)
                .is_some_and(|(_, shelf)| *shelf == wanted)
        };
        (0..self.stores.len()).filter(holds).collect()
    }

    pub(super) fn nearest(&self, block: BlockId, count: usize) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.cores.len())
            .filter(|node| !self.dead.contains(node))
            .collect();
        nodes.sort_by_key(|node| self.descriptors[*node].location().distance(block.key.location()));
        nodes.truncate(count);
        nodes.sort_unstable();
        nodes
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        match event {
            Event::Input(node, input) => self.input(node, *input),
            Event::Frame(link, frame) => self.arrive(link, frame),
            Event::Connect(node, target) => self.connect(node, &target),
            Event::Wake(node) => {
                if self.wakes[node] == Some(at) && !self.is_gone(node) {
                    self.wakes[node] = None;
                    let wall = self.wall();
                    self.cores[node].handle_timeout(self.now, wall);
                    self.drain(node);
                }
            }
        }
        true
    }

    /// Whether a node is dead or frozen.
    pub(super) fn is_gone(&self, node: usize) -> bool {
        self.dead.contains(&node) || self.frozen.contains(&node)
    }

    fn input(&mut self, node: usize, input: CoreInput) {
        if !self.is_gone(node) {
            if let Some(trace) = &mut self.trace {
                (self.now.0, node, format!("{input:?}")).hash(trace);
            }
            let wall = self.wall();
            self.cores[node].input(self.now, wall, input);
            self.drain(node);
        }
    }

    fn arrive(&mut self, link: LinkId, frame: Frame) {
        let Some((node, other)) = self.wires.get(&link).copied() else {
            return;
        };
        self.records += match &frame {
            Frame::Descriptors(list)
            | Frame::Announced {
                descriptors: list, ..
            } => list.len().div_ceil(MOST_IN_RECORD).max(1) as u64,
            _ => 1,
        };
        let sender = self.wires.get(&other).map_or(node, |(sender, _)| *sender);
        if self.is_gone(node) || self.are_apart(node, sender) {
            return;
        }
        let event = match frame {
            Frame::Ping(number) => {
                self.schedule(LATENCY, Event::Frame(other, Frame::Pong(number)));
                LinkEvent::Alive
            }
            Frame::Pong(number) => LinkEvent::Pong(number),
            Frame::Routed(message) => LinkEvent::Routed(message),
            gossip => {
                self.heard[node] += 1;
                LinkEvent::Gossip(gossip)
            }
        };
        self.event(node, link, event);
    }

    fn are_apart(&self, node: usize, other: usize) -> bool {
        self.apart.contains(&node) != self.apart.contains(&other)
    }

    fn connect(&mut self, node: usize, target: &DialTarget) {
        let listens = |peer: &usize| {
            let own = &self.homes[*peer];
            !self.is_gone(*peer) && !self.walled.contains(peer) && target.addresses.contains(own)
        };
        let lost = |peer: &usize| self.are_apart(node, *peer);
        if self.index.get(&target.node).is_some_and(lost) {
            self.input_later(CONNECT_TIME, node, CoreInput::DialFailed(target.node));
            return;
        }
        let peer = self.index.get(&target.node).copied().filter(listens);
        let Some(peer) = peer else {
            self.input(node, CoreInput::DialFailed(target.node));
            return;
        };
        let (near, far) = (LinkId(self.last_link + 1), LinkId(self.last_link + 2));
        self.last_link += 2;
        self.wires.insert(near, (node, far));
        self.wires.insert(far, (peer, near));
        for (owner, link, other, dialled) in [(node, near, peer, true), (peer, far, node, false)] {
            let up = LinkEvent::Up {
                peer: Box::new(self.descriptors[other].clone()),
                dialled,
                remote: Some(if dialled {
                    self.homes[other]
                } else {
                    (self.homes[other].ip(), 50_000).into()
                }),
            };
            self.input_later(LATENCY, owner, CoreInput::Link(link, up));
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.cores[node].poll_output() {
            match output {
                CoreOutput::Link(link, command) => self.obey(node, link, command),
                CoreOutput::Dial(target) => {
                    self.schedule(LATENCY, Event::Connect(node, DialTarget::clone(&target)));
                    self.dialled.push((node, *target));
                }
                CoreOutput::Store(ticket, question) => {
                    let answer = self.ask_store(node, question);
                    self.input_later(Duration::from_micros(200), node, CoreInput::Store(ticket, answer));
                }
                CoreOutput::Client(event) => self.events.push((node, event)),
            }
        }
        let wake = self.cores[node].poll_timeout();
        if wake.is_some() && wake != self.wakes[node] {
            let at = wake.unwrap_or(self.now).max(self.now);
            self.wakes[node] = Some(at);
            self.sequence += 1;
            self.queue.insert((at, self.sequence), Event::Wake(node));
        }
    }

    fn obey(&mut self, node: usize, link: LinkId, command: LinkCommand) {
        let Some((_, other)) = self.wires.get(&link).copied() else {
            return;
        };
        match command {
            LinkCommand::Send(frame) => {
                if let Frame::Descriptors(list) = &frame {
                    self.descriptors_sent += list.len() as u64;
                }
                self.schedule(LATENCY, Event::Frame(other, frame));
            }
            LinkCommand::Close => self.disconnect(link, false),
            LinkCommand::OpenOrigin { origin, path } => {
                let circuit = Circuit {
                    owner: node,
                    origin,
                    path,
                    hops: Vec::new(),
                };
                self.grow_circuit(circuit, other);
            }
            LinkCommand::OpenThrough { from, create } => match self.take_circuit(node, from) {
                Some(circuit) => self.grow_circuit(circuit, other),
                None => self
                    .commands
                    .push((node, link, LinkCommand::OpenThrough { from, create })),
            },
            LinkCommand::ExtendFailed(circuit) => {
                match self.take_circuit(node, CircuitAddr { link, circuit }) {
                    Some(circuit) => {
                        let blame = circuit.path.get(circuit.hops.len()).map(|hop| hop.identity);
                        self.end_circuit(&circuit, blame);
                    }
                    None => self
                        .commands
                        .push((node, link, LinkCommand::ExtendFailed(circuit))),
                }
            }
            LinkCommand::OriginSend { origin, request } => {
                let found = self
                    .circuits
                    .iter()
                    .find(|c| c.owner == node && c.origin == origin);
                if let Some((exit, at)) = found.and_then(|circuit| circuit.hops.last().copied()) {
                    let event = LinkEvent::ExitRequest {
                        circuit: at.circuit,
                        request,
                    };
                    self.input_later(LATENCY * 3, exit, CoreInput::Link(at.link, event));
                }
            }
            LinkCommand::ExitReply { circuit, reply } => {
                let at = CircuitAddr { link, circuit };
                let found = self.circuits.iter().find(|c| c.hops.last() == Some(&(node, at)));
                match found.map(|circuit| (circuit.owner, circuit.origin, circuit.hops[0].1.link)) {
                    Some((owner, origin, entry)) => {
                        let back = self.wires[&entry].1;
                        let event = LinkEvent::OriginReply { origin, reply };
                        self.input_later(LATENCY * 3, owner, CoreInput::Link(back, event));
                    }
                    None => self
                        .commands
                        .push((node, link, LinkCommand::ExitReply { circuit, reply })),
                }
            }
            LinkCommand::CloseOrigin(origin) => {
                let place = self
                    .circuits
                    .iter()
                    .position(|c| c.owner == node && c.origin == origin);
                if let Some(circuit) = place.map(|place| self.circuits.remove(place)) {
                    self.tell_hops(&circuit);
                }
            }
            command => self.commands.push((node, link, command)),
        }
    }

    fn take_circuit(&mut self, node: usize, at: CircuitAddr) -> Option<Circuit> {
        let place = self
            .circuits
            .iter()
            .position(|circuit| circuit.hops.last() == Some(&(node, at)))?;
        Some(self.circuits.remove(place))
    }

    /// A circuit has reached another hop, over `link` at that hop.
    fn grow_circuit(&mut self, mut circuit: Circuit, link: LinkId) {
        self.last_circuit += 1;
        let at = CircuitAddr {
            link,
            circuit: CircuitId(self.last_circuit),
        };
        let hop = self.wires[&link].0;
        assert_eq!(
            self.descriptors[hop].identity,
            circuit.path[circuit.hops.len()].identity
        );
        circuit.hops.push((hop, at));
        let after = LATENCY * 2 * u32::try_from(circuit.hops.len()).unwrap();
        match circuit.path.get(circuit.hops.len()) {
            Some(next) => {
                let event = LinkEvent::ExtendWanted {
                    circuit: at.circuit,
                    target: Box::new(next.clone()),
                    create: crate::wire::Create {
                        layer: 1,
                        ephemeral: [0; 32],
                    },
                };
                self.input_later(after, hop, CoreInput::Link(link, event));
            }
            None => {
                let back = self.wires[&circuit.hops[0].1.link].1;
                let event = LinkEvent::OriginReady(circuit.origin);
                self.input_later(after, circuit.owner, CoreInput::Link(back, event));
            }
        }
        self.circuits.push(circuit);
    }

    fn end_circuit(&mut self, circuit: &Circuit, blame: Option<NodeId>) {
        if let Some((_, back)) = self.wires.get(&circuit.hops[0].1.link).copied() {
            let event = LinkEvent::OriginClosed {
                origin: circuit.origin,
                blame,
            };
            self.input_later(LATENCY, circuit.owner, CoreInput::Link(back, event));
        }
        self.tell_hops(circuit);
    }

    fn tell_hops(&mut self, circuit: &Circuit) {
        for (hop, at) in &circuit.hops {
            let event = LinkEvent::CircuitGone(at.circuit);
            self.input_later(LATENCY, *hop, CoreInput::Link(at.link, event));
        }
    }

    fn input_later(&mut self, after: Duration, node: usize, input: CoreInput) {
        self.schedule(after, Event::Input(node, Box::new(input)));
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn ask_store(&mut self, node: usize, question: StoreQuestion) -> StoreAnswer {
        let store = &mut self.stores[node];
        match question {
            StoreQuestion::Find(id) => store.get(&id).map_or(StoreAnswer::Missing, |(block, shelf)| {
                StoreAnswer::Found(block.clone(), *shelf)
            }),
            StoreQuestion::Keep(block, shelf) => {
                store.entry(block.id()).or_insert((block, shelf));
                StoreAnswer::Kept
            }
            // Repair has tests of its own; here its disk is out of order.
            StoreQuestion::Survey { .. } | StoreQuestion::Holds(_) | StoreQuestion::Demote(_) => {
                StoreAnswer::Failed
            }
        }
    }
}

/// How to dial a node.
pub(super) fn target(descriptor: &Descriptor) -> DialTarget {
    DialTarget {
        node: descriptor.identity,
        link_key: descriptor.link_key,
        addresses: descriptor.addresses.clone(),
    }
}

/// What a node that only uses the network offers.
pub(super) const NO_SERVICES: Services = Services {
    relay: false,
    exit: false,
    store: false,
};

/// A content block with that number in it.
pub(super) fn block(number: u64) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap()
}
