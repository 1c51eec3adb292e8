//! Routers and repair machines in memory, all online ones linked, as the topology links up to 33 nodes. Time jumps from one
//! event to the next; the same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BLOCK_SIZE, Block, BlockId, BlockKind, Location};

use crate::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, StoreTicket},
    repair::{FIRST_TICKET, Repair, RepairLimits, RepairMemory, RepairOutput},
    routing::{Limits, Router, RouterOutput},
    time::{Time, WallTime},
    wire::{ExitResult, Holding, Receipt, RepairMessage, Routed},
};

/// Wall time at the beginning.
const EPOCH: u64 = 1_800_000_000;
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// What a node says to its neighbours' questions of repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conduct {
    Honest,
    /// Has everything, by its own account, and keeps nothing.
    HasAll,
    /// Lacks everything, and takes it again each time.
    LacksAll,
    /// Never answers.
    Silent,
}

struct Running {
    router: Router,
    repair: Repair,
}

pub(super) struct Node {
    pub(super) place: Location,
    running: Option<Running>,
    memory: RepairMemory,
    pub(super) store: BTreeMap<BlockId, (Block, Shelf)>,
    pub(super) conduct: Conduct,
    /// Blocks pushed before the last start.
    pushed: u64,
    wake: Option<Time>,
    starts: u64,
}

enum Event {
    Message(usize, usize, Routed),
    Store(usize, u64, StoreTicket, StoreAnswer),
    Wake(usize),
}

pub(super) struct Network {
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) nodes: Vec<Node>,
    links: BTreeSet<(usize, usize)>,
    pub(super) limits: RepairLimits,
    /// Blocks pushed: when, by whom, to whom.
    pub(super) pushes: Vec<(Time, usize, usize, BlockId)>,
    pub(super) answers: BTreeMap<u64, ExitResult>,
    pub(super) rng: ChaCha20Rng,
}

impl Network {
    /// `count` nodes at random places, all online and linked.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut network = Self {
            now: Time(0),
            queue: BTreeMap::new(),
            sequence: 0,
            nodes: Vec::new(),
            links: BTreeSet::new(),
            limits: RepairLimits::default(),
            pushes: Vec::new(),
            answers: BTreeMap::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
        };
        for _ in 0..count {
            let place = Location::new(network.rng.next_u64());
            network.join(place);
        }
        network
    }

    /// A new node; online.
    pub(super) fn join(&mut self, place: Location) -> usize {
        self.nodes.push(Node {
            place,
            running: None,
            memory: RepairMemory::default(),
            store: BTreeMap::new(),
            conduct: Conduct::Honest,
            pushed: 0,
            wake: None,
            starts: 0,
        });
        let node = self.nodes.len() - 1;
        self.start(node);
        node
    }

    pub(super) fn wall(&self) -> WallTime {
        WallTime(EPOCH + self.now.0 / 1_000_000)
    }

    pub(super) fn online(&self, node: usize) -> bool {
        self.nodes[node].running.is_some()
    }

    /// Starts a node with what it remembers.
    pub(super) fn start(&mut self, node: usize) {
        let (now, wall) = (self.now, self.wall());
        let (a, b) = (self.rng.next_u64(), self.rng.next_u64());
        let it = &mut self.nodes[node];
        let mut repair = Repair::new(
            now,
            wall,
            it.place,
            true,
            self.limits,
            ChaCha20Rng::seed_from_u64(a),
        );
        if it.starts > 0 {
            let memory = RepairMemory::from_bytes(&it.memory.to_bytes()).unwrap();
            repair.restore(now, wall, &memory);
        }
        it.starts += 1;
        let router = Router::new(it.place, true, Limits::default(), ChaCha20Rng::seed_from_u64(b));
        it.running = Some(Running { router, repair });
        for other in 0..self.nodes.len() {
            if other != node && self.online(other) {
                self.link(node, other);
            }
        }
        self.drain(node);
    }

    /// Stops a node; its disk and memory stay.
    pub(super) fn stop(&mut self, node: usize) {
        let (now, wall) = (self.now, self.wall());
        let it = &mut self.nodes[node];
        let Some(running) = it.running.take() else {
            return;
        };
        it.memory = running.repair.memory(now, wall);
        it.pushed += running.repair.stats().pushed;
        it.wake = None;
        let lost: Vec<usize> = (0..self.nodes.len())
            .filter(|other| self.links.remove(&(node, *other)) && self.links.remove(&(*other, node)))
            .collect();
        for other in lost {
            self.link_down(other, node);
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        let (now, wall) = (self.now, self.wall());
        for (a, b) in [(a, b), (b, a)] {
            if self.links.insert((a, b)) {
                let place = self.nodes[b].place;
                let Some(running) = &mut self.nodes[a].running else {
                    continue;
                };
                running.router.neighbour_up(link_to(b), place, true);
                running.repair.neighbour_up(now, wall, link_to(b), place, true);
                self.drain(a);
            }
        }
    }

    fn link_down(&mut self, node: usize, other: usize) {
        let (now, wall) = (self.now, self.wall());
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        running.router.neighbour_down(now, link_to(other));
        running.repair.neighbour_down(now, wall, link_to(other));
        self.drain(node);
    }

    /// Inserts a block at an online node, and waits until it is stored.
    pub(super) fn insert(&mut self, node: usize, block: Block) -> ExitResult {
        let now = self.now;
        let running = self.nodes[node].running.as_mut().unwrap();
        let id = running.router.insert(now, block, false).unwrap();
        self.drain(node);
        self.answer_to(id.0)
    }

    /// Fetches a block from an online node.
    pub(super) fn fetch(&mut self, node: usize, block: BlockId) -> ExitResult {
        let now = self.now;
        let running = self.nodes[node].running.as_mut().unwrap();
        let id = running.router.fetch(now, block, 8, false, false).unwrap();
        self.drain(node);
        self.answer_to(id.0)
    }

    fn answer_to(&mut self, id: u64) -> ExitResult {
        while !self.answers.contains_key(&id) {
            assert!(self.step(), "an answer comes");
        }
        self.answers.remove(&id).unwrap()
    }

    /// Puts a block into the stores of the nearest nodes, as if it had been inserted long ago.
    pub(super) fn place(&mut self, block: &Block, copies: usize) {
        for node in self.nearest(block.key().location(), copies) {
            self.nodes[node]
                .store
                .insert(block.id(), (block.clone(), Shelf::Store));
        }
    }

    /// The nodes nearest to a place, online or not.
    pub(super) fn nearest(&self, place: Location, count: usize) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        nodes.sort_by_key(|node| self.nodes[*node].place.distance(place));
        nodes.truncate(count);
        nodes
    }

    pub(super) fn holders(&self, block: BlockId) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.holds(*node, block))
            .collect()
    }

    pub(super) fn holds(&self, node: usize, block: BlockId) -> bool {
        self.nodes[node]
            .store
            .get(&block)
            .is_some_and(|(_, shelf)| *shelf == Shelf::Store)
    }

    /// Blocks that nodes have pushed.
    pub(super) fn pushed(&self) -> u64 {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        let now: u64 = running.map(|running| running.repair.stats().pushed).sum();
        now + self.nodes.iter().map(|node| node.pushed).sum::<u64>()
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

    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        let (now, wall) = (self.now, self.wall());
        match event {
            Event::Message(from, to, message) => {
                if !self.links.contains(&(from, to)) || self.lies(from, to, &message) {
                    return true;
                }
                let Some(running) = &mut self.nodes[to].running else {
                    return true;
                };
                match message {
                    Routed::Repair(message) => running.repair.message(now, wall, link_to(from), message),
                    message => running.router.routed(now, link_to(from), message),
                }
                self.drain(to);
            }
            Event::Store(node, starts, ticket, answer) => {
                // An answer for an earlier run is lost.
                let it = &mut self.nodes[node];
                let Some(running) = it.running.as_mut().filter(|_| it.starts == starts) else {
                    return true;
                };
                if ticket >= FIRST_TICKET {
                    running.repair.store(now, wall, ticket, answer);
                } else {
                    running.router.store(now, ticket, answer);
                }
                self.drain(node);
            }
            Event::Wake(node) => {
                let it = &mut self.nodes[node];
                if it.wake == Some(at) {
                    it.wake = None;
                    if let Some(running) = &mut it.running {
                        running.router.handle_timeout(now);
                        running.repair.handle_timeout(now, wall);
                    }
                    self.drain(node);
                }
            }
        }
        true
    }

    /// Whether the receiver answers this in its own way.
    fn lies(&mut self, from: usize, to: usize, message: &Routed) -> bool {
        let Routed::Repair(message) = message else {
            return false;
        };
        if let RepairMessage::HandOver { block, .. } = message {
            self.pushes.push((self.now, from, to, block.id()));
        }
        let said = match self.nodes[to].conduct {
            Conduct::Honest => return false,
            Conduct::Silent => return true,
            Conduct::HasAll => Holding::Held,
            Conduct::LacksAll => Holding::Lacking,
        };
        let answer = match message {
            RepairMessage::Census { id, blocks } => {
                let holdings = vec![said; blocks.len()];
                RepairMessage::Holdings { id: *id, holdings }
            }
            RepairMessage::HandOver { id, .. } => {
                let receipt = Receipt::Kept;
                RepairMessage::HandedOver { id: *id, receipt }
            }
            _ => return true,
        };
        self.send(to, from, Routed::Repair(answer));
        true
    }

    fn drain(&mut self, node: usize) {
        while let Some(running) = &mut self.nodes[node].running {
            if let Some(output) = running.router.poll_output() {
                match output {
                    RouterOutput::Send(LinkId(peer), message) => {
                        self.send(node, usize::try_from(peer).unwrap(), message)
                    }
                    RouterOutput::Store(ticket, question) => self.ask_store(node, ticket, question),
                    RouterOutput::Answer(request, result) => {
                        self.answers.insert(request.0, result);
                    }
                    RouterOutput::Offence(..) => panic!("nobody offends here"),
                }
            } else if let Some(output) = running.repair.poll_output() {
                match output {
                    RepairOutput::Send(LinkId(peer), message) => {
                        self.send(node, usize::try_from(peer).unwrap(), Routed::Repair(message));
                    }
                    RepairOutput::Store(ticket, question) => self.ask_store(node, ticket, question),
                    RepairOutput::Arrived(block) => running.router.arrived(self.now, &block),
                    RepairOutput::Offence(_) => panic!("nobody offends here"),
                }
            } else {
                break;
            }
        }
        let it = &mut self.nodes[node];
        let Some(running) = &it.running else { return };
        let wake = running
            .router
            .poll_timeout()
            .into_iter()
            .chain(running.repair.poll_timeout())
            .min();
        let wake = wake.map(|at| at.max(self.now));
        if wake != it.wake {
            it.wake = wake;
            if let Some(at) = wake {
                self.sequence += 1;
                self.queue.insert((at, self.sequence), Event::Wake(node));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Routed) {
        self.schedule(Duration::from_millis(50), Event::Message(from, to, message));
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn ask_store(&mut self, node: usize, ticket: StoreTicket, question: StoreQuestion) {
        let it = &mut self.nodes[node];
        let held = |store: &BTreeMap<BlockId, (Block, Shelf)>, id: &BlockId| {
            store.get(id).is_some_and(|(_, shelf)| *shelf == Shelf::Store)
        };
        let answer = match question {
            StoreQuestion::Find(id) => match it.store.get(&id) {
                Some((block, shelf)) => StoreAnswer::Found(block.clone(), *shelf),
                None => StoreAnswer::Missing,
            },
            StoreQuestion::Keep(block, shelf) => {
                if !held(&it.store, &block.id()) {
                    it.store.insert(block.id(), (block, shelf));
                }
                StoreAnswer::Kept
            }
            StoreQuestion::Survey { from, most } => {
                let stored = it.store.iter().filter(|(_, (_, shelf))| *shelf == Shelf::Store);
                let all: Vec<BlockId> = stored.map(|(id, _)| *id).collect();
                let from = usize::try_from(from).unwrap().min(all.len());
                let to = (from + most).min(all.len());
                StoreAnswer::Surveyed {
                    blocks: all[from..to].to_vec(),
                    next: (to < all.len()).then_some(to as u64),
                    held: all.len() as u64,
                }
            }
            StoreQuestion::Holds(ids) => {
                StoreAnswer::Holdings(ids.iter().map(|id| held(&it.store, id)).collect())
            }
            StoreQuestion::Demote(id) => match it.store.get_mut(&id) {
                Some((_, shelf)) if *shelf == Shelf::Store => {
                    *shelf = Shelf::Cache;
                    StoreAnswer::Kept
                }
                _ => StoreAnswer::Missing,
            },
        };
        let starts = it.starts;
        self.schedule(
            Duration::from_millis(2),
            Event::Store(node, starts, ticket, answer),
        );
    }
}

/// The name that every node has for its link to node `peer`.
fn link_to(peer: usize) -> LinkId {
    LinkId(peer as u64)
}

/// A content block with that number in it.
pub(super) fn block(number: u64) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap()
}
