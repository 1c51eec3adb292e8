//! The repair level: routers and repair machines over weeks, while nodes come, go and vanish.
//!
//! ```text
//! lives ─ online, offline, gone ─> links by the ring rule ─> Repair + Router ─ messages ─> Repair + Router
//!                                                             │ ▲
//!                                                             ▼ │
//!                                                           names of blocks, kept while offline
//! ```
//!
//! Whoever comes online is linked at once to its nearest online nodes on both sides and to long ones by the ring rule; whoever
//! goes is missed at once, and its neighbours link to the next nearest. A node that comes back has its store and what its repair
//! machine remembered. A node that is gone for good is replaced by a new one, elsewhere on the ring, with nothing.
//!
//! Not modelled: disks that fill, bandwidth, the seconds that noticing takes, and caches: what fetches leave on the way is thrown
//! away, so that only stores and repair keep blocks alive.

pub mod month;

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use warren_keys::{BlockId, Location};
use warren_proto::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    repair::{FIRST_TICKET, Repair, RepairLimits, RepairMemory, RepairOutput},
    routing::{Limits, Router, RouterOutput},
    time::{Time, WallTime},
    topology::long_part,
    wire::{ExitResult, RepairMessage, Routed},
};

use super::{
    draw::Draw,
    line::{Lines, request_number},
    scenario::NetworkSpec,
    shelves::{Shelves, Zeros},
};
use crate::net::schedule::Schedule;

/// When the simulation begins.
const EPOCH: u64 = 1_800_000_000;
/// What a datastore takes to answer.
const STORE_TIME: Duration = Duration::from_micros(300);

enum Event {
    Message {
        link: LinkId,
        from: usize,
        to: usize,
        message: Routed,
    },
    Store {
        node: usize,
        run: u32,
        ticket: StoreTicket,
        answer: StoreAnswer,
    },
    Wake(usize),
}

/// The machines of a node that is online.
struct Machines {
    router: Router,
    repair: Repair,
    links: BTreeMap<LinkId, usize>,
    wake: Option<Time>,
}

struct Node {
    place: Location,
    /// None while offline.
    machines: Option<Machines>,
    /// How often it has come online: answers to an earlier run are lost.
    run: u32,
    memory: Option<RepairMemory>,
    store: Shelves,
    gone: bool,
}

/// Blocks and bytes that repair has moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Blocks handed over.
    pub blocks: u64,
    /// Names of blocks in questions.
    pub names: u64,
}

/// Nodes that come and go.
pub struct ChurnNet {
    now: Time,
    schedule: Schedule<Event>,
    nodes: Vec<Node>,
    online: BTreeMap<Location, usize>,
    /// Who is linked to whom.
    linked: BTreeMap<(usize, usize), LinkId>,
    last_link: u64,
    spec: NetworkSpec,
    lines: Lines,
    zeros: Zeros,
    /// How requests that were asked here ended: found or stored, or not.
    ended: BTreeMap<(usize, RequestId), bool>,
    moved: Moved,
    trace: blake3::Hasher,
    draw: Draw,
}

impl ChurnNet {
    /// A network without nodes.
    #[must_use]
    pub fn new(spec: &NetworkSpec, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        Self {
            now: Time(0),
            schedule: Schedule::new(),
            nodes: Vec::new(),
            online: BTreeMap::new(),
            linked: BTreeMap::new(),
            last_link: 0,
            spec: spec.clone(),
            lines: Lines::new(spec, 0, draw.number()),
            zeros: Zeros::default(),
            ended: BTreeMap::new(),
            moved: Moved::default(),
            trace: blake3::Hasher::new(),
            draw,
        }
    }

    /// Adds a node, offline and with nothing.
    pub fn add(&mut self) -> usize {
        self.lines.grow();
        self.nodes.push(Node {
            place: Location::new(self.draw.number()),
            machines: None,
            run: 0,
            memory: None,
            store: Shelves::default(),
            gone: false,
        });
        self.nodes.len() - 1
    }

    /// A node comes online, with its store and what it remembers.
    pub fn come(&mut self, node: usize) {
        let (now, wall) = (self.now, self.wall());
        let (router_rng, repair_rng) = (self.draw.fork(), self.draw.fork());
        let own = &mut self.nodes[node];
        let mut repair = Repair::new(now, wall, own.place, true, RepairLimits::default(), repair_rng);
        if let Some(memory) = &own.memory {
            repair.restore(now, wall, memory);
        }
        own.run += 1;
        own.machines = Some(Machines {
            router: Router::new(own.place, true, Limits::default(), router_rng),
            repair,
            links: BTreeMap::new(),
            wake: None,
        });
        self.online.insert(own.place, node);
        for other in self.near(node) {
            self.link(node, other);
        }
        for other in self.long(node) {
            self.link(node, other);
        }
        self.drain(node);
    }

    /// A node goes offline; its neighbours link to who is nearest now.
    pub fn go(&mut self, node: usize) {
        let (now, wall) = (self.now, self.wall());
        let Some(machines) = self.nodes[node].machines.take() else {
            return;
        };
        self.nodes[node].memory = Some(machines.repair.memory(now, wall));
        self.online.remove(&self.nodes[node].place);
        let lost: BTreeSet<usize> = machines.links.values().copied().collect();
        for peer in &lost {
            self.linked.remove(&pair(node, *peer));
            self.unlink(*peer, node);
        }
        for peer in lost {
            for other in self.near(peer) {
                self.link(peer, other);
            }
        }
    }

    /// A node never comes back, and its store is lost.
    pub fn vanish(&mut self, node: usize) {
        self.go(node);
        self.nodes[node].gone = true;
        self.nodes[node].memory = None;
        self.nodes[node].store = Shelves::default();
    }

    fn link(&mut self, a: usize, b: usize) {
        if a == b || self.linked.contains_key(&pair(a, b)) {
            return;
        }
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.linked.insert(pair(a, b), link);
        let (now, wall) = (self.now, self.wall());
        for (a, b) in [(a, b), (b, a)] {
            let place = self.nodes[b].place;
            if let Some(machines) = &mut self.nodes[a].machines {
                machines.links.insert(link, b);
                machines.router.neighbour_up(link, place, true);
                machines.repair.neighbour_up(now, wall, link, place, true);
            }
            self.drain(a);
        }
    }

    /// Has a node forget its link to another.
    fn unlink(&mut self, node: usize, peer: usize) {
        let (now, wall) = (self.now, self.wall());
        if let Some(machines) = &mut self.nodes[node].machines {
            let link = machines.links.iter().find(|(_, other)| **other == peer);
            if let Some(link) = link.map(|(link, _)| *link) {
                machines.links.remove(&link);
                machines.router.neighbour_down(now, link);
                machines.repair.neighbour_down(now, wall, link);
            }
        }
        self.drain(node);
    }

    /// The nearest online nodes on both sides.
    fn near(&self, node: usize) -> Vec<usize> {
        let (place, count) = (self.nodes[node].place, self.spec.near_per_side);
        let mut near: Vec<usize> = self.upwards(place).take(count).collect();
        near.extend(self.downwards(place).take(count));
        near.retain(|other| *other != node);
        near
    }

    /// Online nodes from a place on, and round the ring.
    fn upwards(&self, place: Location) -> impl Iterator<Item = usize> {
        let after = self.online.range(place..).chain(self.online.range(..place));
        after
            .map(|(_, node)| *node)
            .filter(move |node| self.nodes[*node].place != place)
    }

    fn downwards(&self, place: Location) -> impl Iterator<Item = usize> {
        let before = self
            .online
            .range(..place)
            .rev()
            .chain(self.online.range(place..).rev());
        before
            .map(|(_, node)| *node)
            .filter(move |node| self.nodes[*node].place != place)
    }

    /// A node for each part of the logarithmic distance, where it holds one.
    fn long(&mut self, node: usize) -> Vec<usize> {
        let (place, spec) = (self.nodes[node].place, self.spec.clone());
        let reach = |up: bool, other: Location| {
            if up {
                place.clockwise(other)
            } else {
                other.clockwise(place)
            }
        };
        let mut chosen = Vec::new();
        for up in [true, false] {
            let last = if up {
                self.upwards(place).take(spec.near_per_side).last()
            } else {
                self.downwards(place).take(spec.near_per_side).last()
            };
            let Some(last) = last else { continue };
            let start = reach(up, self.nodes[last].place);
            for part in 0..spec.long_per_side {
                let (above, most) = long_part(start, part, spec.long_per_side);
                if most <= above {
                    continue;
                }
                let drawn = above + 1 + self.draw.up_to(most - above - 1);
                let point = Location::new(if up {
                    place.as_u64().wrapping_add(drawn)
                } else {
                    place.as_u64().wrapping_sub(drawn)
                });
                let beside = [self.upwards(point).next(), self.downwards(point).next()];
                let inside = beside.into_iter().flatten().filter(|other| {
                    let reach = reach(up, self.nodes[*other].place);
                    *other != node && reach > above && reach <= most
                });
                chosen.extend(inside.min_by_key(|other| self.nodes[*other].place.distance(point)));
            }
        }
        chosen
    }

    /// Has an online node search for a block as an exit does.
    pub fn fetch(&mut self, node: usize, block: BlockId, branches: u8) -> Option<RequestId> {
        let now = self.now;
        let machines = self.nodes[node].machines.as_mut()?;
        let request = machines.router.fetch(now, block, branches, false, false);
        self.drain(node);
        request
    }

    /// Has an online node insert a block as an exit does.
    pub fn insert(&mut self, node: usize, block: BlockId) -> Option<RequestId> {
        let (now, block) = (self.now, self.zeros.block(block));
        let machines = self.nodes[node].machines.as_mut()?;
        let request = machines.router.insert(now, block, false);
        self.drain(node);
        request
    }

    /// Whether a request has ended well; none if it has not ended.
    pub fn take_end(&mut self, node: usize, request: RequestId) -> Option<bool> {
        self.ended.remove(&(node, request))
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
        let (now, wall) = (self.now, self.wall());
        match event {
            Event::Message {
                link,
                from,
                to,
                message,
            } => {
                let Some(machines) = &mut self.nodes[to].machines else {
                    return;
                };
                if !machines.links.contains_key(&link) {
                    return;
                }
                for number in [now.0, from as u64, to as u64, request_number(&message)] {
                    self.trace.update(&number.to_be_bytes());
                }
                match message {
                    Routed::Repair(message) => machines.repair.message(now, wall, link, message),
                    message => machines.router.routed(now, link, message),
                }
                self.drain(to);
            }
            Event::Store {
                node,
                run,
                ticket,
                answer,
            } => {
                let own = &mut self.nodes[node];
                let Some(machines) = own.machines.as_mut().filter(|_| own.run == run) else {
                    return;
                };
                if ticket >= FIRST_TICKET {
                    machines.repair.store(now, wall, ticket, answer);
                } else {
                    machines.router.store(now, ticket, answer);
                }
                self.drain(node);
            }
            Event::Wake(node) => {
                let Some(machines) = self.nodes[node].machines.as_mut() else {
                    return;
                };
                if machines.wake == Some(at) {
                    machines.wake = None;
                    machines.router.handle_timeout(now);
                    machines.repair.handle_timeout(now, wall);
                    self.drain(node);
                }
            }
        }
    }

    fn drain(&mut self, node: usize) {
        let now = self.now;
        loop {
            let Some(machines) = &mut self.nodes[node].machines else {
                return;
            };
            if let Some(output) = machines.router.poll_output() {
                match output {
                    RouterOutput::Send(link, message) => self.send(node, link, message),
                    RouterOutput::Store(ticket, question) => self.ask_store(node, ticket, question),
                    RouterOutput::Answer(request, result) => {
                        let well = matches!(result, ExitResult::Found(_) | ExitResult::Stored(_));
                        self.ended.insert((node, request), well);
                    }
                    _ => {}
                }
                continue;
            }
            let Some(output) = machines.repair.poll_output() else {
                break;
            };
            match output {
                RepairOutput::Send(link, message) => {
                    match &message {
                        RepairMessage::HandOver { .. } => self.moved.blocks += 1,
                        RepairMessage::Census { blocks, .. } => self.moved.names += blocks.len() as u64,
                        _ => {}
                    }
                    self.send(node, link, Routed::Repair(message));
                }
                RepairOutput::Store(ticket, question) => self.ask_store(node, ticket, question),
                RepairOutput::Arrived(block) => machines.router.arrived(now, &block),
                RepairOutput::Offence(_) => {}
            }
        }
        let Some(machines) = &mut self.nodes[node].machines else {
            return;
        };
        let wakes = [machines.router.poll_timeout(), machines.repair.poll_timeout()];
        if let Some(wake) = wakes.into_iter().flatten().min()
            && machines.wake.is_none_or(|known| wake < known)
        {
            let at = wake.max(now);
            machines.wake = Some(at);
            self.schedule.at(at, Event::Wake(node));
        }
    }

    fn send(&mut self, from: usize, link: LinkId, message: Routed) {
        let machines = self.nodes[from].machines.as_ref();
        let Some(to) = machines.and_then(|machines| machines.links.get(&link)).copied() else {
            return;
        };
        let at = self.now + self.lines.latency(from, to);
        self.schedule.at(
            at,
            Event::Message {
                link,
                from,
                to,
                message,
            },
        );
    }

    fn ask_store(&mut self, node: usize, ticket: StoreTicket, question: StoreQuestion) {
        let own = &mut self.nodes[node];
        let answer = match question {
            // Caches are switched off here.
            StoreQuestion::Keep(_, Shelf::Cache) => StoreAnswer::Kept,
            question => own.store.ask(question, &self.zeros),
        };
        let event = Event::Store {
            node,
            run: own.run,
            ticket,
            answer,
        };
        self.schedule.at(self.now + STORE_TIME, event);
    }

    /// Copies of each block in stores: on all nodes, and on those online.
    #[must_use]
    pub fn copies(&self) -> BTreeMap<BlockId, (u32, u32)> {
        let mut copies: BTreeMap<BlockId, (u32, u32)> = BTreeMap::new();
        for node in &self.nodes {
            for block in node.store.blocks().filter(|block| node.store.stores(block)) {
                let counted = copies.entry(*block).or_default();
                counted.0 += 1;
                counted.1 += u32::from(node.machines.is_some());
            }
        }
        copies
    }

    /// A node that is online.
    ///
    /// # Panics
    /// When there is none.
    pub fn someone(&mut self) -> usize {
        let place = Location::new(self.draw.number());
        self.upwards(place).next().expect("a node that is online")
    }

    /// Whether a node is online.
    #[must_use]
    pub fn is_online(&self, node: usize) -> bool {
        self.nodes[node].machines.is_some()
    }

    /// Whether a node is gone for good.
    #[must_use]
    pub fn is_gone(&self, node: usize) -> bool {
        self.nodes[node].gone
    }

    /// What repair has moved so far.
    #[must_use]
    pub const fn moved(&self) -> Moved {
        self.moved
    }

    /// Simulated time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The draws of the experiment.
    pub fn draw(&mut self) -> &mut Draw {
        &mut self.draw
    }

    /// A hash over all messages that arrived.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    fn wall(&self) -> WallTime {
        WallTime(EPOCH + self.now.0 / 1_000_000)
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
