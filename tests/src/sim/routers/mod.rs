//! The routing level: real routers, and everything else as simple as it can be.
//!
//! ```text
//! ask ─> Router ─ Send ──> line ──> Router or hostile conduct ─ Send ──> …
//!          │ ▲                         │ ▲
//!          ▼ │ 0.3 ms                  ▼ │
//!        a set of block names        a set of block names
//! ```
//!
//! Messages are handed over as values after the line's latency, blocks share one buffer of zeros, datastores are sets of
//! names. Links are made by the ring rule ([`super::ring`]) or by the experiment. Circuits, gossip, pings and dials do not
//! exist here, so a death that is *noticed* takes its links away at once.
//!
//! Invariant: what happens depends on the seed alone; [`RouterNet::trace`] is a hash over every message that arrived.

mod conduct;
pub mod faulty;
pub mod file;
pub mod hot;
pub mod lookup;
pub mod sybil;

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use warren_keys::{BlockId, Location};
use warren_proto::{
    core::api::{StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    routing::{Limits, Router, RouterOutput},
    time::Time,
    wire::{ExitResult, Replica, Routed},
};

pub use self::conduct::Conduct;
use self::conduct::Reaction;
use super::{
    draw::Draw,
    line::{Lines, request_number, wire_bytes},
    ring::Ring,
    scenario::{NetworkSpec, Swallow},
    shelves::{Shelves, Zeros},
};
use crate::net::schedule::Schedule;

/// What a datastore takes to answer.
const STORE_TIME: Duration = Duration::from_micros(300);

enum Event {
    Message {
        from: usize,
        to: usize,
        message: Routed,
    },
    Store {
        node: usize,
        ticket: StoreTicket,
        answer: StoreAnswer,
    },
    Wake(usize),
}

struct Node {
    router: Router,
    place: Location,
    conduct: Conduct,
    alive: bool,
    links: BTreeSet<usize>,
    store: Shelves,
    /// The earliest wake that is on its way.
    wake: Option<Time>,
    /// Requests, inserts and pushes that have come in.
    load: u64,
    /// Requests and inserts that it began as an exit.
    begun: u64,
}

/// A request that some node made as an exit, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When.
    pub at: Time,
    /// Messages sent on its behalf, both ways.
    pub messages: u32,
    /// Requests and inserts among them.
    pub requests: u32,
    /// Times that the block was passed back: the length of the path.
    pub hops: u32,
    /// Who sent the request to whom, in order, where this is recorded.
    pub seen_by: Vec<(usize, usize)>,
    /// When it ended, and how.
    pub end: Option<(Time, Outcome)>,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The block came.
    Found,
    /// It is nowhere, as far as was searched.
    NotFound,
    /// On so many nodes, as far as is claimed.
    Stored(u8),
    /// Overload, silence, or nobody to ask.
    Failed,
}

impl Asked {
    /// Whether the block came.
    #[must_use]
    pub fn found(&self) -> bool {
        matches!(self.end, Some((_, Outcome::Found)))
    }
}

/// Routers in memory.
pub struct RouterNet {
    now: Time,
    schedule: Schedule<Event>,
    nodes: Vec<Node>,
    lines: Lines,
    swallow: Swallow,
    zeros: Zeros,
    asked: BTreeMap<RequestId, Asked>,
    watch: bool,
    offences: u64,
    trace: blake3::Hasher,
    draw: Draw,
}

impl RouterNet {
    /// Nodes at the places of a ring, without links.
    #[must_use]
    pub fn new(ring: &Ring, spec: &NetworkSpec, mut draw: Draw) -> Self {
        let lines = Lines::new(spec, ring.len(), draw.number());
        let mut net = Self {
            now: Time(0),
            schedule: Schedule::new(),
            nodes: Vec::new(),
            lines,
            swallow: Swallow::Never,
            zeros: Zeros::default(),
            asked: BTreeMap::new(),
            watch: false,
            offences: 0,
            trace: blake3::Hasher::new(),
            draw,
        };
        for place in ring.places() {
            net.push(*place);
        }
        net
    }

    /// Nodes at random places, linked by the ring rule.
    #[must_use]
    pub fn linked_ring(count: usize, spec: &NetworkSpec, seed: u64) -> (Self, Ring) {
        let mut draw = Draw::new(seed);
        let ring = Ring::random(count, &mut draw);
        let links = ring.links(spec, |_| true, &mut draw);
        let mut net = Self::new(&ring, spec, draw);
        for (a, b) in links {
            net.link(a, b);
        }
        (net, ring)
    }

    fn push(&mut self, place: Location) -> usize {
        let rng = self.draw.fork();
        self.nodes.push(Node {
            router: Router::new(place, true, Limits::default(), rng),
            place,
            conduct: Conduct::Honest,
            alive: true,
            links: BTreeSet::new(),
            store: Shelves::default(),
            wake: None,
            load: 0,
            begun: 0,
        });
        self.nodes.len() - 1
    }

    /// Adds a node without links.
    pub fn add(&mut self, place: Location) -> usize {
        self.lines.grow();
        self.push(place)
    }

    /// Links two nodes.
    pub fn link(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            if self.nodes[a].links.insert(b) {
                let place = self.nodes[b].place;
                self.nodes[a].router.neighbour_up(link_to(b), place, true);
            }
        }
    }

    /// Ends a link, which both ends notice.
    pub fn unlink(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            if self.nodes[a].links.remove(&b) {
                self.nodes[a].router.neighbour_down(self.now, link_to(b));
                self.drain(a);
            }
        }
    }

    /// Ends a node, which its neighbours notice at once.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        for other in self.nodes[node].links.clone() {
            self.unlink(node, other);
        }
    }

    /// Makes nodes hostile, and says what hostile nodes do to inserts.
    pub fn corrupt(&mut self, node: usize, conduct: Conduct, swallow: Swallow) {
        self.nodes[node].conduct = conduct;
        self.swallow = swallow;
    }

    /// Records from now on who sees each request.
    pub fn watch(&mut self) {
        self.watch = true;
    }

    /// Has a node search for a block as an exit does.
    pub fn fetch(&mut self, node: usize, block: BlockId, branches: u8) -> Option<RequestId> {
        let request = self.nodes[node]
            .router
            .fetch(self.now, block, branches, false, false);
        self.begin(node, request)
    }

    /// Has a node search for a block on behalf of its own user, without circuits.
    pub fn fetch_own(&mut self, node: usize, block: BlockId, branches: u8) -> Option<RequestId> {
        let request = self.nodes[node]
            .router
            .fetch(self.now, block, branches, false, true);
        self.begin(node, request)
    }

    /// Has a node insert a block as an exit does.
    pub fn insert(&mut self, node: usize, block: BlockId) -> Option<RequestId> {
        let block = self.zeros.block(block);
        let request = self.nodes[node].router.insert(self.now, block, false);
        self.begin(node, request)
    }

    fn begin(&mut self, node: usize, request: Option<RequestId>) -> Option<RequestId> {
        let id = request?;
        self.nodes[node].begun += 1;
        let asked = Asked {
            at: self.now,
            messages: 0,
            requests: 0,
            hops: 0,
            seen_by: Vec::new(),
            end: None,
        };
        self.asked.insert(id, asked);
        self.drain(node);
        Some(id)
    }

    /// Runs until a request has ended, and gives what became of it.
    pub fn finish(&mut self, request: RequestId) -> Asked {
        while self.asked[&request].end.is_none() && self.step() {}
        self.asked.remove(&request).expect("an asked request")
    }

    /// Inserts and waits; whether a copy was claimed at all.
    pub fn insert_now(&mut self, node: usize, block: BlockId) -> bool {
        let Some(request) = self.insert(node, block) else {
            return false;
        };
        matches!(self.finish(request).end, Some((_, Outcome::Stored(_))))
    }

    /// Fetches and waits.
    pub fn fetch_now(&mut self, node: usize, block: BlockId, branches: u8) -> Option<Asked> {
        let request = self.fetch(node, block, branches)?;
        Some(self.finish(request))
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.schedule.next()
    }

    /// What became of a request, if it has ended; it is forgotten by that.
    pub fn ended(&mut self, request: RequestId) -> Option<Asked> {
        self.asked.get(&request).filter(|asked| asked.end.is_some())?;
        self.asked.remove(&request)
    }

    /// What a message takes between two nodes, jitter and loss aside.
    #[must_use]
    pub fn latency(&self, a: usize, b: usize) -> Duration {
        self.lines.latency(a, b)
    }

    /// Takes the records of all requests so far; what is still open is forgotten.
    pub fn take_asked(&mut self) -> BTreeMap<RequestId, Asked> {
        std::mem::take(&mut self.asked)
    }

    /// Lets time pass.
    pub fn run_until(&mut self, time: Time) {
        while self.schedule.next().is_some_and(|next| next <= time) {
            self.step();
        }
        self.now = self.now.max(time);
    }

    /// Runs until nothing is left to do.
    pub fn settle(&mut self) {
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let Some((at, event)) = self.schedule.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        match event {
            Event::Message { from, to, message } => self.arrive(from, to, message),
            Event::Store { node, ticket, answer } => {
                self.nodes[node].router.store(self.now, ticket, answer);
                self.drain(node);
            }
            Event::Wake(node) => {
                if self.nodes[node].wake == Some(at) {
                    self.nodes[node].wake = None;
                    self.nodes[node].router.handle_timeout(self.now);
                    self.drain(node);
                }
            }
        }
        true
    }

    fn arrive(&mut self, from: usize, to: usize, message: Routed) {
        if !self.nodes[to].links.contains(&from) {
            return;
        }
        for number in [self.now.0, from as u64, to as u64, request_number(&message)] {
            self.trace.update(&number.to_be_bytes());
        }
        self.trace.update(&[message.kind().as_u8()]);
        let asks = matches!(
            message,
            Routed::Request { .. } | Routed::Insert { .. } | Routed::Replicate { .. }
        );
        if asks {
            self.nodes[to].load += 1;
            if self.watch
                && let Some(asked) = message.id().and_then(|id| self.asked.get_mut(&id))
            {
                asked.seen_by.push((from, to));
            }
        }
        let reaction = if asks {
            self.nodes[to].conduct.react(self.swallow, &message, &self.zeros)
        } else {
            Reaction::Honest
        };
        match reaction {
            Reaction::Honest => {
                self.nodes[to].router.routed(self.now, link_to(from), message);
                self.drain(to);
            }
            Reaction::Silence => {}
            Reaction::Answer(answer) => self.send(to, from, answer),
        }
    }

    fn drain(&mut self, node: usize) {
        let keeps = self.nodes[node].conduct.keeps(self.swallow);
        while let Some(output) = self.nodes[node].router.poll_output() {
            match output {
                RouterOutput::Send(link, Routed::Replicate { id, .. }) if !keeps => {
                    let (from, to) = (node_of(link), node);
                    let replica = Replica::Stored;
                    let message = Routed::Replicated { id, replica };
                    self.schedule.at(self.now, Event::Message { from, to, message });
                }
                RouterOutput::Store(ticket, StoreQuestion::Keep(..)) if !keeps => {
                    let answer = StoreAnswer::Kept;
                    let event = Event::Store { node, ticket, answer };
                    self.schedule.at(self.now + STORE_TIME, event);
                }
                RouterOutput::Send(link, message) => self.send(node, node_of(link), message),
                RouterOutput::Store(ticket, question) => {
                    let answer = self.nodes[node].store.ask(question, &self.zeros);
                    let event = Event::Store { node, ticket, answer };
                    self.schedule.at(self.now + STORE_TIME, event);
                }
                RouterOutput::Answer(request, result) => {
                    let outcome = match result {
                        ExitResult::Found(_) => Outcome::Found,
                        ExitResult::NotFound => Outcome::NotFound,
                        ExitResult::Stored(copies) => Outcome::Stored(copies),
                        _ => Outcome::Failed,
                    };
                    if let Some(asked) = self.asked.get_mut(&request) {
                        asked.end = Some((self.now, outcome));
                    }
                }
                RouterOutput::Offence(link, _) => {
                    self.offences += 1;
                    // As the core does: the link is closed (its bans come to the same here, where nobody dials).
                    self.unlink(node, node_of(link));
                }
            }
        }
        let Some(wake) = self.nodes[node].router.poll_timeout() else {
            return;
        };
        if self.nodes[node].wake.is_none_or(|known| wake < known) {
            let at = wake.max(self.now);
            self.nodes[node].wake = Some(at);
            self.schedule.at(at, Event::Wake(node));
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Routed) {
        if let Some(asked) = message.id().and_then(|id| self.asked.get_mut(&id)) {
            asked.messages += 1;
            asked.requests += u32::from(matches!(message, Routed::Request { .. } | Routed::Insert { .. }));
            asked.hops += u32::from(matches!(message, Routed::Found { .. }));
        }
        let bytes = wire_bytes(&message);
        let at = self.lines.arrival(self.now, from, to, bytes, &mut self.draw);
        self.schedule.at(at, Event::Message { from, to, message });
    }

    /// Simulated time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
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

    /// A hash over all messages that arrived.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// The draws of the experiment.
    pub fn draw(&mut self) -> &mut Draw {
        &mut self.draw
    }

    /// Whether a node lives and keeps to the protocol.
    #[must_use]
    pub fn is_honest(&self, node: usize) -> bool {
        self.nodes[node].alive && self.nodes[node].conduct == Conduct::Honest
    }

    /// Where a node is.
    #[must_use]
    pub fn place(&self, node: usize) -> Location {
        self.nodes[node].place
    }

    /// Whether a node lives.
    #[must_use]
    pub fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].alive
    }

    /// A node that lives; an honest one, if so wished.
    ///
    /// # Panics
    /// When there is none.
    pub fn someone(&mut self, honest: bool) -> usize {
        for _ in 0..100_000 {
            let node = self.draw.below(self.nodes.len());
            if self.is_alive(node) && (!honest || self.is_honest(node)) {
                return node;
            }
        }
        panic!("nobody is left");
    }

    /// Requests, inserts and pushes that each node has taken in from neighbours, and those that it began as an exit.
    #[must_use]
    pub fn loads(&self) -> Vec<(u64, u64)> {
        self.nodes.iter().map(|node| (node.load, node.begun)).collect()
    }

    /// Sets the loads to zero.
    pub fn forget_loads(&mut self) {
        for node in &mut self.nodes {
            (node.load, node.begun) = (0, 0);
        }
    }

    /// Honest living nodes that hold each block, in the store or in the cache.
    #[must_use]
    pub fn holders(&self) -> BTreeMap<BlockId, usize> {
        let mut holders = BTreeMap::new();
        for node in (0..self.len()).filter(|node| self.is_honest(*node)) {
            for block in self.nodes[node].store.blocks() {
                *holders.entry(*block).or_default() += 1;
            }
        }
        holders
    }

    /// Whether a node has a block in its store.
    #[must_use]
    pub fn stores(&self, node: usize, block: &BlockId) -> bool {
        self.nodes[node].store.stores(block)
    }

    /// Number of links of each living node.
    #[must_use]
    pub fn degrees(&self) -> Vec<usize> {
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.map(|node| node.links.len()).collect()
    }

    /// Answers that no honest node sends, as far as routers noticed.
    #[must_use]
    pub const fn offences(&self) -> u64 {
        self.offences
    }
}

fn link_to(node: usize) -> LinkId {
    LinkId(node as u64)
}

fn node_of(link: LinkId) -> usize {
    usize::try_from(link.0).expect("a link is named after its peer")
}
