//! The core level: whole decisions of whole nodes, without their bytes.
//!
//! ```text
//! Core ─ Send(frame) ──> line ──> Core
//!   │ ─ Dial ──> two round trips ──> Up at both ends, or failure
//!   │ ─ question ──> names of blocks ─ answer ──> Core
//! ```
//!
//! What the link machines do here is a few lines: frames are handed over as values, pings are answered, an introduction follows
//! a dial. Nodes know nothing but their seeds at first. Circuits have no hops (the client's own node is the exit), so key
//! routing is measured and no onion is needed.
//!
//! Not modelled: bytes and their limits (queues never fill), handshakes that fail, addresses that lie.

pub mod join;

use std::{collections::BTreeMap, net::SocketAddr};

use core::time::Duration;

use warren_keys::{BlockId, IdentityKey, Location, NodeId, Seed};
use warren_proto::{
    client::PoolSettings,
    core::{
        Core, CoreConfig, CoreStatus,
        api::{ClientCommand, ClientEvent, CoreInput, CoreOutput, DialTarget},
    },
    descriptor::{Descriptor, Services, Statement},
    ids::{JobId, LinkId, OpId, RequestId},
    link::api::{LinkCommand, LinkEvent},
    network::Network,
    routing::Limits,
    time::{Time, WallTime},
    topology::TopologySettings,
    wire::{Frame, Routed},
};

use super::{
    draw::Draw,
    line::Lines,
    scenario::NetworkSpec,
    shelves::{Shelves, Zeros},
};
use crate::net::schedule::Schedule;

/// When the simulation begins.
const EPOCH: u64 = 1_800_000_000;
/// What a datastore takes to answer.
const STORE_TIME: Duration = Duration::from_micros(300);
/// A dial that nobody answers fails after this time.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// One-way trips until a dialler is greeted: one round trip for TCP, one for the handshake and the introduction.
const DIAL_TRIPS: u32 = 4;
/// Descriptors that a node keeps: a quarter of the daemon's number, for the sake of memory. It bounds how many nodes a long link
/// is chosen from, not whom a node finds.
const MAX_KNOWN: usize = 1024;

enum Event {
    Input(usize, Box<CoreInput>),
    /// For the end of a link that is named.
    Frame(LinkId, Box<Frame>),
    Connect(usize, Box<DialTarget>),
    Wake(usize),
    Start(usize),
}

struct Node {
    /// None before it starts.
    core: Option<Core>,
    key: IdentityKey,
    descriptor: Descriptor,
    seeds: Vec<DialTarget>,
    store: Shelves,
    wake: Option<Time>,
    traffic: Traffic,
}

/// What a node has sent and got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Frames, both ways.
    pub frames: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// Dials that reached it.
    pub accepted: u64,
}

/// An operation of a client, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// When it began.
    pub at: Time,
    /// Times that the block was passed back.
    pub hops: u32,
    /// When it ended, and whether with the block found or stored.
    pub end: Option<(Time, bool)>,
}

/// Cores in memory.
pub struct CoreNet {
    now: Time,
    schedule: Schedule<Event>,
    nodes: Vec<Node>,
    index: BTreeMap<NodeId, usize>,
    lines: Lines,
    /// For each link number the node at this end and the number of the other end, while it is up.
    wires: Vec<Option<(usize, LinkId)>>,
    zeros: Zeros,
    ops: BTreeMap<JobId, Op>,
    /// Which operation each routed request belongs to.
    requests: BTreeMap<RequestId, JobId>,
    /// The operation that is being begun.
    beginning: Option<JobId>,
    trace: blake3::Hasher,
    draw: Draw,
}

impl CoreNet {
    /// `count` nodes that have not started. Each but the first knows some of the first `seeds` nodes: itself left out.
    #[must_use]
    pub fn new(count: usize, seeds: usize, spec: &NetworkSpec, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let name: Network = "simulation".parse().expect("a network's name");
        let mut nodes: Vec<Node> = (0..count)
            .map(|number| {
                let key = IdentityKey::from_seed(&Seed::from_bytes(draw.bytes()));
                let descriptor = Descriptor::sign(&key, statement(&key, number), &name);
                Node {
                    core: None,
                    key,
                    descriptor,
                    seeds: Vec::new(),
                    store: Shelves::default(),
                    wake: None,
                    traffic: Traffic::default(),
                }
            })
            .collect();
        let targets: Vec<DialTarget> = nodes
            .iter()
            .take(seeds)
            .map(|node| target(&node.descriptor))
            .collect();
        for (number, node) in nodes.iter_mut().enumerate() {
            let others = targets.iter().enumerate().filter(|(seed, _)| *seed != number);
            node.seeds = others.map(|(_, target)| target.clone()).collect();
        }
        Self {
            now: Time(0),
            schedule: Schedule::new(),
            index: nodes.iter().map(|node| node.key.id()).zip(0..).collect(),
            lines: Lines::new(spec, count, draw.number()),
            nodes,
            wires: Vec::new(),
            zeros: Zeros::default(),
            ops: BTreeMap::new(),
            requests: BTreeMap::new(),
            beginning: None,
            trace: blake3::Hasher::new(),
            draw,
        }
    }

    /// Has a node start at a time.
    pub fn start_at(&mut self, node: usize, time: Time) {
        self.schedule.at(time, Event::Start(node));
    }

    fn start(&mut self, node: usize, spec: &TopologySettings) {
        let (now, wall) = (self.now, self.wall());
        let place = &mut self.nodes[node];
        let config = CoreConfig {
            descriptor: place.descriptor.clone(),
            topology: TopologySettings {
                seeds: place.seeds.clone(),
                ..spec.clone()
            },
            limits: Limits::default(),
            pool: PoolSettings {
                hops: 0,
                spares: 0,
                ..PoolSettings::new(place.key.id())
            },
            known: Vec::new(),
            entries: Vec::new(),
        };
        place.core = Some(Core::new(now, wall, config, self.draw.bytes()));
        self.drain(node);
    }

    /// Has a node's client fetch a block.
    pub fn fetch(&mut self, node: usize, block: BlockId) -> JobId {
        let job = self.open(node);
        let fetch = ClientCommand::Fetch {
            job,
            op: OpId(0),
            block,
            expendable: false,
            wait: Duration::ZERO,
        };
        self.command(node, job, fetch)
    }

    /// Has a node's client insert a block.
    pub fn insert(&mut self, node: usize, block: BlockId) -> JobId {
        let job = self.open(node);
        let insert = ClientCommand::Insert {
            job,
            op: OpId(0),
            block: self.zeros.block(block),
            exits: 1,
            read_back: false,
        };
        self.command(node, job, insert)
    }

    fn open(&mut self, node: usize) -> JobId {
        let job = JobId(self.ops.len() as u64);
        let op = Op {
            at: self.now,
            hops: 0,
            end: None,
        };
        self.ops.insert(job, op);
        let open = ClientCommand::OpenJob { job, bulk: false };
        self.input(node, CoreInput::Client(open));
        job
    }

    fn command(&mut self, node: usize, job: JobId, command: ClientCommand) -> JobId {
        self.beginning = Some(job);
        self.input(node, CoreInput::Client(command));
        self.beginning = None;
        job
    }

    /// What became of an operation.
    #[must_use]
    pub fn op(&self, job: JobId) -> Op {
        self.ops[&job]
    }

    /// Lets time pass.
    pub fn run_until(&mut self, time: Time) {
        while self.schedule.next().is_some_and(|next| next <= time) {
            self.step();
        }
        self.now = self.now.max(time);
    }

    fn step(&mut self) {
        let Some((at, event)) = self.schedule.pop() else {
            return;
        };
        self.now = self.now.max(at);
        match event {
            Event::Start(node) => self.start(node, &settings()),
            Event::Input(node, input) => self.input(node, *input),
            Event::Frame(link, frame) => self.arrive(link, *frame),
            Event::Connect(node, target) => self.connect(node, &target),
            Event::Wake(node) => {
                if self.nodes[node].wake == Some(at) {
                    self.nodes[node].wake = None;
                    let (now, wall) = (self.now, self.wall());
                    if let Some(core) = &mut self.nodes[node].core {
                        core.handle_timeout(now, wall);
                    }
                    self.drain(node);
                }
            }
        }
    }

    fn input(&mut self, node: usize, input: CoreInput) {
        let (now, wall) = (self.now, self.wall());
        if let Some(core) = &mut self.nodes[node].core {
            core.input(now, wall, input);
            self.drain(node);
        }
    }

    fn arrive(&mut self, link: LinkId, frame: Frame) {
        let Some((node, other)) = self.wire(link) else {
            return;
        };
        for number in [self.now.0, link.0, frame_bytes(&frame)] {
            self.trace.update(&number.to_be_bytes());
        }
        self.count(node, &frame);
        let event = match frame {
            Frame::Ping(number) => {
                self.send(node, other, Frame::Pong(number));
                LinkEvent::Alive
            }
            Frame::Pong(number) => LinkEvent::Pong(number),
            Frame::Routed(message) => LinkEvent::Routed(message),
            gossip => LinkEvent::Gossip(gossip),
        };
        self.input(node, CoreInput::Link(link, event));
    }

    fn connect(&mut self, node: usize, target: &DialTarget) {
        let listens = |peer: &usize| {
            let peer = &self.nodes[*peer];
            peer.core.is_some()
                && target
                    .addresses
                    .iter()
                    .any(|at| peer.descriptor.addresses.contains(at))
        };
        let Some(peer) = self.index.get(&target.node).copied().filter(listens) else {
            let failed = Event::Input(node, Box::new(CoreInput::DialFailed(target.node)));
            return self.schedule.at(self.now + DIAL_TIME, failed);
        };
        let near = LinkId(self.wires.len() as u64);
        let far = LinkId(near.0 + 1);
        self.wires.push(Some((node, far)));
        self.wires.push(Some((peer, near)));
        self.nodes[peer].traffic.accepted += 1;
        let latency = self.lines.latency(node, peer);
        for (owner, link, other, after) in [(node, near, peer, Duration::ZERO), (peer, far, node, latency)] {
            let up = LinkEvent::Up {
                peer: Box::new(self.nodes[other].descriptor.clone()),
                dialled: owner == node,
                remote: None,
            };
            let event = Event::Input(owner, Box::new(CoreInput::Link(link, up)));
            self.schedule.at(self.now + after, event);
        }
    }

    fn drain(&mut self, node: usize) {
        loop {
            let Some(core) = &mut self.nodes[node].core else {
                return;
            };
            let Some(output) = core.poll_output() else { break };
            match output {
                CoreOutput::Link(link, command) => self.obey(node, link, command),
                CoreOutput::Dial(target) => {
                    let peer = self.index.get(&target.node).copied().unwrap_or(node);
                    let at = self.now + self.lines.latency(node, peer) * DIAL_TRIPS;
                    self.schedule.at(at, Event::Connect(node, target));
                }
                CoreOutput::Store(ticket, question) => {
                    let answer = self.nodes[node].store.ask(question, &self.zeros);
                    let input = CoreInput::Store(ticket, answer);
                    let event = Event::Input(node, Box::new(input));
                    self.schedule.at(self.now + STORE_TIME, event);
                }
                CoreOutput::Client(event) => self.ended(node, event),
            }
        }
        let wake = self.nodes[node].core.as_ref().and_then(Core::poll_timeout);
        if let Some(wake) = wake.filter(|wake| self.nodes[node].wake.is_none_or(|known| *wake < known)) {
            let at = wake.max(self.now);
            self.nodes[node].wake = Some(at);
            self.schedule.at(at, Event::Wake(node));
        }
    }

    fn obey(&mut self, node: usize, link: LinkId, command: LinkCommand) {
        let Some((_, other)) = self.wire(link) else {
            return;
        };
        match command {
            LinkCommand::Send(frame) => self.send(node, other, frame),
            LinkCommand::Close => self.disconnect(link, other),
            // Circuits have no hops here.
            _ => {}
        }
    }

    fn send(&mut self, node: usize, to: LinkId, frame: Frame) {
        let Some((peer, _)) = self.wire(to) else {
            return;
        };
        self.count(node, &frame);
        match &frame {
            Frame::Routed(Routed::Request { id, .. } | Routed::Insert { id, .. }) => {
                if let Some(job) = self.beginning {
                    self.requests.insert(*id, job);
                }
            }
            Frame::Routed(Routed::Found { id, .. }) => {
                let job = self.requests.get(id);
                if let Some(op) = job.and_then(|job| self.ops.get_mut(job)) {
                    op.hops += 1;
                }
            }
            _ => {}
        }
        let bytes = frame_bytes(&frame);
        let at = self.lines.arrival(self.now, node, peer, bytes, &mut self.draw);
        self.schedule.at(at, Event::Frame(to, Box::new(frame)));
    }

    fn count(&mut self, node: usize, frame: &Frame) {
        let traffic = &mut self.nodes[node].traffic;
        traffic.frames += 1;
        traffic.bytes += frame_bytes(frame);
    }

    fn disconnect(&mut self, link: LinkId, other: LinkId) {
        let ends = [link, other].map(|end| (end, self.wire(end)));
        let [Some((near, _)), Some((far, _))] = ends.map(|(_, wire)| wire) else {
            return;
        };
        let latency = self.lines.latency(near, far);
        for ((end, wire), after) in ends.into_iter().zip([Duration::ZERO, latency]) {
            self.wires[place(end)] = None;
            if let Some((owner, _)) = wire {
                let down = CoreInput::LinkDown {
                    link: end,
                    misbehaved: false,
                };
                let event = Event::Input(owner, Box::new(down));
                self.schedule.at(self.now + after, event);
            }
        }
    }

    fn ended(&mut self, node: usize, event: ClientEvent) {
        let (job, well) = match event {
            ClientEvent::Fetched { job, result, .. } => (job, result.is_ok()),
            ClientEvent::Inserted { job, result, .. } => (job, result.is_ok()),
        };
        if let Some(op) = self.ops.get_mut(&job) {
            op.end = Some((self.now, well));
        }
        let close = CoreInput::Client(ClientCommand::CloseJob(job));
        self.schedule.at(self.now, Event::Input(node, Box::new(close)));
    }

    fn wire(&self, link: LinkId) -> Option<(usize, LinkId)> {
        self.wires.get(place(link)).copied().flatten()
    }

    fn wall(&self) -> WallTime {
        WallTime(EPOCH + self.now.0 / 1_000_000)
    }

    /// Simulated time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Number of nodes, those included that have not started.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where a node is.
    #[must_use]
    pub fn place(&self, node: usize) -> Location {
        self.nodes[node].descriptor.location()
    }

    /// What a node's core says of itself; none before it starts.
    #[must_use]
    pub fn status(&self, node: usize) -> Option<CoreStatus> {
        self.nodes[node].core.as_ref().map(|core| core.status(self.now))
    }

    /// The nodes that a node is linked to, as its core sees it.
    #[must_use]
    pub fn peers(&self, node: usize) -> Vec<usize> {
        let status = self.status(node);
        let links = status.iter().flat_map(|status| &status.links);
        links.map(|link| self.index[&link.link.node]).collect()
    }

    /// What a node has sent and got.
    #[must_use]
    pub fn traffic(&self, node: usize) -> Traffic {
        self.nodes[node].traffic
    }

    /// A hash over all frames that arrived.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// The draws of the experiment.
    pub fn draw(&mut self) -> &mut Draw {
        &mut self.draw
    }
}

/// The daemon's topology, except that it knows fewer nodes and that its network has private addresses.
fn settings() -> TopologySettings {
    TopologySettings {
        max_known: MAX_KNOWN,
        allow_private: true,
        ..TopologySettings::default()
    }
}

/// A node that does everything, at an address of its own.
fn statement(key: &IdentityKey, number: usize) -> Statement {
    let [.., b, c, d] = number.to_be_bytes();
    Statement {
        identity: key.id(),
        link_key: [1; 32],
        onion_key: [2; 32],
        addresses: vec![SocketAddr::from(([10, b, c, d], 4000))],
        services: Services::ALL,
        published: EPOCH,
    }
}

fn target(descriptor: &Descriptor) -> DialTarget {
    DialTarget {
        node: descriptor.identity,
        link_key: descriptor.link_key,
        addresses: descriptor.addresses.clone(),
    }
}

fn place(link: LinkId) -> usize {
    usize::try_from(link.0).unwrap_or(usize::MAX)
}

/// Bytes of a frame, about: what decides is how many descriptors or blocks it carries.
fn frame_bytes(frame: &Frame) -> u64 {
    const DESCRIPTOR: u64 = 190;
    const BLOCK: u64 = 32_800;
    match frame {
        Frame::Descriptors(all) | Frame::Announced { descriptors: all, .. } => {
            8 + DESCRIPTOR * all.len() as u64
        }
        Frame::Announce(_) => 32 + DESCRIPTOR,
        Frame::Routed(
            Routed::Found { .. }
            | Routed::Insert { .. }
            | Routed::Collision { .. }
            | Routed::Replicate { .. },
        ) => BLOCK,
        Frame::Routed(_) => 64,
        _ => 16,
    }
}
