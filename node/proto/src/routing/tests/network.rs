//! Many routers in memory: time jumps from one event to the next, and the same seed gives the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use core::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BLOCK_SIZE, Block, BlockId, BlockKind, Location, RoutingKey};

use crate::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    random::below,
    routing::{Limits, Router, RouterOutput, limits::MAX_HTL},
    time::Time,
    wire::{ExitResult, Refusal, Replica, Routed},
};

/// What a node does with routed messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conduct {
    Honest,
    /// Answers every search with "not found, and your branches are used up", every insert with "stored".
    Liar,
    /// Takes everything and never answers.
    Dropper,
    /// Answers every search with another block.
    Forger,
    /// Refuses everything for overload.
    Overloaded,
}

enum Event {
    Message(usize, usize, Routed),
    Store(usize, StoreTicket, StoreAnswer),
    Wake(usize),
}

pub(super) struct Network {
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) routers: Vec<Router>,
    pub(super) places: Vec<Location>,
    pub(super) conduct: Vec<Conduct>,
    pub(super) stores: Vec<BTreeMap<BlockId, (Block, Shelf)>>,
    links: BTreeSet<(usize, usize)>,
    /// Nodes whose disk fails.
    pub(super) broken_disks: BTreeSet<usize>,
    /// Nodes whose datastore takes no more, and how many questions it will still turn away.
    pub(super) busy_disks: BTreeMap<usize, u32>,
    pub(super) answers: BTreeMap<(usize, RequestId), ExitResult>,
    pub(super) answered_twice: bool,
    /// Requests that have been told to wait and have no last answer yet.
    pub(super) waiting: BTreeSet<(usize, RequestId)>,
    pub(super) answered_at: BTreeMap<(usize, RequestId), Time>,
    /// Routed messages sent, and those among them that carry a search on.
    pub(super) messages: u64,
    pub(super) searches: u64,
    /// Searches each node has taken in.
    pub(super) load: Vec<u64>,
    pub(super) offences: u64,
    wakes: Vec<Option<Time>>,
    trace: DefaultHasher,
    pub(super) rng: ChaCha20Rng,
}

impl Network {
    /// `count` routers at random places, not linked.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        Self::with_limits(count, seed, Limits::default())
    }

    pub(super) fn with_limits(count: usize, seed: u64, limits: Limits) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut places: Vec<Location> = (0..count).map(|_| Location::new(rng.next_u64())).collect();
        places.sort_unstable();
        let routers = places
            .iter()
            .map(|place| Router::new(*place, true, limits, ChaCha20Rng::seed_from_u64(rng.next_u64())))
            .collect();
        Self {
            now: Time(0),
            queue: BTreeMap::new(),
            sequence: 0,
            routers,
            places,
            conduct: vec![Conduct::Honest; count],
            stores: vec![BTreeMap::new(); count],
            links: BTreeSet::new(),
            broken_disks: BTreeSet::new(),
            busy_disks: BTreeMap::new(),
            answers: BTreeMap::new(),
            answered_twice: false,
            waiting: BTreeSet::new(),
            answered_at: BTreeMap::new(),
            messages: 0,
            searches: 0,
            load: vec![0; count],
            offences: 0,

            wakes: vec![None; count],
            trace: DefaultHasher::new(),
            rng,
        }
    }

    /// A ring with 4 near links a side and long ones with density 1/distance until each node has dialled 12 of them, which
    /// with those dialled by others makes about 32 links a node.
    pub(super) fn ring(count: usize, seed: u64) -> Self {
        let mut network = Self::new(count, seed);
        for node in 0..count {
            for step in 1..=4.min((count - 1) / 2) {
                network.link(node, (node + step) % count);
            }
            for _ in 0..12.min(count / 4) {
                // Evenly drawn logarithm of the rank distance, which is the ring distance up to a factor.
                let bits = below(&mut network.rng, usize::try_from((count / 2).ilog2()).unwrap()) + 1;
                let rank = (1 << (bits - 1)) + below(&mut network.rng, 1 << (bits - 1));
                let up = below(&mut network.rng, 2) == 0;
                let other = if up { node + rank } else { node + count - rank } % count;
                if other != node {
                    network.link(node, other);
                }
            }
        }
        network
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            if self.links.insert((a, b)) {
                self.routers[a].neighbour_up(link_to(b), self.places[b], true);
            }
        }
    }

    pub(super) fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a, b))
    }

    pub(super) fn unlink(&mut self, a: usize, b: usize) {
        for (a, b) in [(a, b), (b, a)] {
            if self.links.remove(&(a, b)) {
                self.routers[a].neighbour_down(self.now, link_to(b));
                self.drain(a);
            }
        }
    }

    /// Ends a node: its links go down.
    pub(super) fn kill(&mut self, node: usize) {
        for other in 0..self.routers.len() {
            self.unlink(node, other);
        }
    }

    pub(super) fn fetch(&mut self, node: usize, block: BlockId, branches: u8) -> Option<RequestId> {
        let request = self.routers[node].fetch(self.now, block, branches, false, false);
        self.drain(node);
        request
    }

    /// Fetches, and waits for the block if it is not there.
    pub(super) fn await_block(&mut self, node: usize, block: BlockId, branches: u8) -> RequestId {
        let request = self.routers[node].fetch(self.now, block, branches, true, false);
        self.drain(node);
        request.unwrap()
    }

    pub(super) fn insert(&mut self, node: usize, block: Block) -> Option<RequestId> {
        let request = self.routers[node].insert(self.now, block, false);
        self.drain(node);
        request
    }

    pub(super) fn cancel(&mut self, node: usize, request: RequestId) {
        self.routers[node].cancel(request);
        self.drain(node);
    }

    /// Fetches and waits for the answer.
    pub(super) fn fetch_now(&mut self, node: usize, block: BlockId, branches: u8) -> ExitResult {
        let request = self.fetch(node, block, branches).unwrap();
        self.settle();
        self.answers.remove(&(node, request)).unwrap()
    }

    /// Runs on and gives the answer to a fetch that was started before.
    pub(super) fn fetch_result(&mut self, node: usize, request: RequestId) -> ExitResult {
        self.settle();
        self.answers.remove(&(node, request)).unwrap()
    }

    /// Makes all routers anew, at the places that `places` says.
    pub(super) fn rebuild(&mut self) {
        for (router, place) in self.routers.iter_mut().zip(&self.places) {
            *router = Router::new(
                *place,
                true,
                Limits::default(),
                ChaCha20Rng::seed_from_u64(place.as_u64()),
            );
        }
    }

    /// Inserts and waits for the answer.
    pub(super) fn insert_now(&mut self, node: usize, block: Block) -> ExitResult {
        let request = self.insert(node, block).unwrap();
        self.settle();
        self.answers.remove(&(node, request)).unwrap()
    }

    /// Hands a message to a node as if `from` had sent it.
    pub(super) fn inject(&mut self, from: usize, to: usize, message: Routed) {
        self.routers[to].routed(self.now, link_to(from), message);
        self.drain(to);
    }

    /// Runs until nothing is left to do.
    pub(super) fn settle(&mut self) {
        while self.step() {}
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

    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        match event {
            Event::Message(from, to, message) => {
                if self.linked(from, to) {
                    (at.0, from, to, format!("{message:?}")).hash(&mut self.trace);
                    self.deliver(from, to, message);
                }
            }
            Event::Store(node, ticket, answer) => {
                self.routers[node].store(self.now, ticket, answer);
                self.drain(node);
            }
            Event::Wake(node) => {
                if self.wakes[node] == Some(at) {
                    self.wakes[node] = None;
                    self.routers[node].handle_timeout(self.now);
                    self.drain(node);
                }
            }
        }
        true
    }

    /// A number that stands for all that has happened.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn nearest(&self, key: RoutingKey, count: usize) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.places.len()).collect();
        nodes.sort_by_key(|node| self.places[*node].distance(key.location()));
        nodes.truncate(count);
        nodes
    }

    pub(super) fn holders(&self, block: BlockId, wanted: Shelf) -> Vec<usize> {
        let holds = |store: &BTreeMap<BlockId, (Block, Shelf)>| {
            store.get(&block).is_some_and(|(_, shelf)| *shelf == wanted)
        };
        (0..self.stores.len())
            .filter(|node| holds(&self.stores[*node]))
            .collect()
    }

    /// Asserts that nothing is open anywhere.
    pub(super) fn assert_idle(&self) {
        for (node, router) in self.routers.iter().enumerate() {
            let open = router.open();
            let total = open.searches + open.joined + open.inserts + open.store_questions + open.waits;
            assert_eq!(total, 0, "node {node} {open:?}");
            assert_eq!(router.poll_timeout(), None);
            for other in 0..self.routers.len() {
                if let Some((open, _)) = router.window(link_to(other)) {
                    assert_eq!(open, 0, "node {node} counts requests open at {other}");
                }
                let inbound = router.neighbours.find(link_to(other)).map_or(0, |n| n.inbound);
                assert_eq!(inbound, 0, "node {node} counts requests of {other} open");
            }
        }
        assert!(!self.answered_twice);
    }

    fn deliver(&mut self, from: usize, to: usize, message: Routed) {
        let honest = self.conduct[to] == Conduct::Honest;
        if let Routed::Request { .. } = message {
            self.load[to] += 1;
        }
        let asks = matches!(
            message,
            Routed::Request { .. } | Routed::Insert { .. } | Routed::Replicate { .. }
        );
        if honest || !asks {
            self.routers[to].routed(self.now, link_to(from), message);
            self.drain(to);
            return;
        }
        let answer = match (self.conduct[to], message) {
            (Conduct::Liar, Routed::Request { id, .. }) => Routed::NotFound { id, branches: 0 },
            (Conduct::Liar | Conduct::Forger, Routed::Insert { id, .. }) => Routed::Stored { id, copies: 5 },
            (Conduct::Liar | Conduct::Forger, Routed::Replicate { id, .. }) => Routed::Replicated {
                id,
                replica: Replica::Stored,
            },
            (Conduct::Forger, Routed::Request { id, .. }) => Routed::Found {
                id,
                block: block(u64::MAX),
                copy: true,
            },
            (Conduct::Overloaded, Routed::Request { id, .. } | Routed::Insert { id, .. }) => {
                Routed::Refused {
                    id,
                    why: Refusal::Busy,
                }
            }
            (Conduct::Overloaded, Routed::Replicate { id, .. }) => Routed::Replicated {
                id,
                replica: Replica::Busy,
            },
            _ => return,
        };
        self.send(to, from, answer);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.routers[node].poll_output() {
            match output {
                RouterOutput::Send(LinkId(peer), message) => {
                    self.send(node, usize::try_from(peer).unwrap(), message);
                }
                RouterOutput::Store(ticket, question) => {
                    let answer = self.ask_store(node, question);
                    self.schedule(Duration::from_micros(300), Event::Store(node, ticket, answer));
                }
                RouterOutput::Answer(request, ExitResult::Waiting) => {
                    self.waiting.insert((node, request));
                }
                RouterOutput::Answer(request, result) => {
                    self.waiting.remove(&(node, request));
                    self.answered_at.insert((node, request), self.now);
                    self.answered_twice |= self.answers.insert((node, request), result).is_some();
                }
                RouterOutput::Offence(..) => self.offences += 1,
            }
        }
        let wake = self.routers[node].poll_timeout();
        if wake.is_some() && wake != self.wakes[node] {
            self.wakes[node] = wake;
            let at = wake.unwrap_or(self.now).max(self.now);
            self.wakes[node] = Some(at);
            self.sequence += 1;
            self.queue.insert((at, self.sequence), Event::Wake(node));
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Routed) {
        self.messages += 1;
        if let Routed::Request { htl, .. } = &message {
            assert!(*htl < MAX_HTL);
            self.searches += 1;
        }
        // Fixed for a pair, so that messages of one link stay in order.
        let latency = 5 + (from * 31 + to * 17) % 40 + (to * 31 + from * 17) % 40;
        self.schedule(
            Duration::from_millis(latency as u64),
            Event::Message(from, to, message),
        );
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn ask_store(&mut self, node: usize, question: StoreQuestion) -> StoreAnswer {
        if self.broken_disks.contains(&node) {
            return StoreAnswer::Failed;
        }
        if let Some(left) = self.busy_disks.get_mut(&node).filter(|left| **left > 0) {
            *left -= 1;
            return StoreAnswer::Busy;
        }
        let store = &mut self.stores[node];
        match question {
            StoreQuestion::Find(id) => match store.get(&id) {
                Some((block, shelf)) => StoreAnswer::Found(block.clone(), *shelf),
                None => StoreAnswer::Missing,
            },
            StoreQuestion::Keep(block, shelf) => match store.get_mut(&block.id()) {
                Some((known, _)) if *known != block => StoreAnswer::Collision(known.clone()),
                Some((_, Shelf::Store)) => StoreAnswer::Kept,
                _ => {
                    store.insert(block.id(), (block, shelf));
                    StoreAnswer::Kept
                }
            },
            // No router asks these.
            StoreQuestion::Survey { .. } | StoreQuestion::Holds(_) | StoreQuestion::Demote(_) => {
                StoreAnswer::Failed
            }
        }
    }
}

/// The name that every node has for its link to node `peer`.
pub(super) fn link_to(peer: usize) -> LinkId {
    LinkId(peer as u64)
}

/// A content block with that number in it.
pub(super) fn block(number: u64) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap()
}

/// The name of a block that nobody has.
pub(super) fn missing(number: u64) -> BlockId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    BlockId::content(RoutingKey::from_bytes(key))
}
