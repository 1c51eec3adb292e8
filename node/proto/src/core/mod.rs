//! The core machine: the decisions of one node.
//!
//! [`Core`] composes four machines that do not know each other: the [`Router`] (key routing), [`Repair`] (census and repair
//! of what is stored), the [`Topology`] (whom to link to) and the client's [`Pool`] (own circuits). What they share passes through here: links come and go for all of
//! them; exits turn requests of circuits into routed ones; circuits that need a new link wait for it here.
//!
//! # Invariants
//!
//! 1. After each input all machines are drained into one queue of outputs, so the order of outputs follows from the order
//!    of inputs alone.
//! 2. A link that the topology does not want, or has given up, does not exist for anybody: its events are ignored.
//! 3. Every wish for an extension or an own circuit ends, at the latest after `waiting::WAIT`.
//!
//! # What is deliberately absent
//!
//! Byte work (see [`crate::link`]), the datastore, and whole files (see [`crate::client`]).

pub mod api;
mod duties;
mod exits;
mod status;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use self::{
    api::{CoreInput, CoreOutput, DialTarget, Pressure},
    exits::Exits,
    waiting::Waiting,
};
pub use self::{
    exits::MAX_PER_CIRCUIT,
    status::{CoreStatus, LinkStatus},
};
use crate::{
    client::{PinnedEntry, Pool, PoolSettings, RelayView},
    descriptor::Descriptor,
    ids::{LinkId, OriginId},
    link::api::{LinkCommand, LinkEvent},
    repair::{FIRST_TICKET, Repair, RepairLimits, RepairMemory},
    routing::{Limits, Router},
    time::{Time, WallTime},
    topology::{Access, End, Topology, TopologySettings},
    wire::Routed,
};
use warren_keys::NodeId;

/// What a core is made of.
#[derive(Debug)]
pub struct CoreConfig {
    /// This node's descriptor; its services are what this node does.
    pub descriptor: Descriptor,
    /// Links, seeds, and what may be dialled.
    pub topology: TopologySettings,
    /// Bounds of the router.
    pub limits: Limits,
    /// How own circuits are built.
    pub pool: PoolSettings,
    /// Descriptors from an earlier run.
    pub known: Vec<Descriptor>,
    /// Pinned entries from an earlier run.
    pub entries: Vec<PinnedEntry>,
}

/// The core machine.
#[derive(Debug)]
pub struct Core {
    router: Router,
    repair: Repair,
    topology: Topology,
    pool: Pool,
    exits: Exits,
    pressure: Pressure,
    waiting: Waiting,
    /// Own circuits that were handed to a link.
    origins: BTreeMap<OriginId, LinkId>,
    entries: Vec<PinnedEntry>,
    /// Whether links that come up may have been made while other services were offered.
    services_changed: bool,
    output: VecDeque<CoreOutput>,
}

/// The directory as the client's pool sees it.
struct Fit<'a> {
    topology: &'a Topology,
    now: Time,
}

impl RelayView for Fit<'_> {
    fn relays(&self) -> impl Iterator<Item = &Descriptor> {
        self.topology.fit(self.now)
    }

    fn relay(&self, node: &NodeId) -> Option<&Descriptor> {
        self.topology.fit_one(self.now, node)
    }
}

impl Core {
    /// A core without links. `seed` must be secret randomness: it decides whom this node's circuits use.
    #[must_use]
    pub fn new(now: Time, wall: WallTime, config: CoreConfig, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut next = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            ChaCha20Rng::from_seed(seed)
        };
        let (here, stores) = (config.descriptor.location(), config.descriptor.services.store);
        let mut pool = Pool::new(config.pool, next());
        pool.restore_entries(config.entries.clone());
        let mut core = Self {
            router: Router::new(here, stores, config.limits, next()),
            topology: Topology::new(now, config.descriptor, config.topology, next()),
            repair: Repair::new(now, wall, here, stores, RepairLimits::default(), next()),
            pool,
            exits: Exits::default(),
            pressure: Pressure::None,
            waiting: Waiting::default(),
            origins: BTreeMap::new(),
            entries: config.entries,
            services_changed: false,
            output: VecDeque::new(),
        };
        core.keep_entries();
        core.topology.remember(now, wall, config.known);
        core
    }

    /// Takes an input in.
    pub fn input(&mut self, now: Time, wall: WallTime, input: CoreInput) {
        match input {
            CoreInput::Link(link, event) => self.link_event(now, wall, link, event),
            CoreInput::LinkDown { link, misbehaved } => {
                self.topology.down(now, link, misbehaved);
                self.lost_link(now, wall, link);
            }
            CoreInput::DialFailed(node) => {
                self.topology.dial_failed(now, node);
                self.unreachable(now, &node);
            }
            CoreInput::Store(ticket, answer) if ticket >= FIRST_TICKET => {
                self.repair.store(now, wall, ticket, answer);
            }
            CoreInput::Store(ticket, answer) => self.router.store(now, ticket, answer),
            CoreInput::Client(command) => self.pool.command(now, command),
        }
        self.drain(now, wall);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<CoreOutput> {
        self.output.pop_front()
    }

    /// When [`Core::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        [
            self.router.poll_timeout(),
            self.repair.poll_timeout(),
            self.topology.poll_timeout(),
            self.pool.poll_timeout(),
            self.waiting.next_expiry(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Looks after everything that is due.
    pub fn handle_timeout(&mut self, now: Time, wall: WallTime) {
        self.router.handle_timeout(now);
        self.repair.handle_timeout(now, wall);
        self.topology.handle_timeout(now, wall);
        self.pool.handle_timeout(now);
        for waiter in self.waiting.expired(now) {
            self.give_up(now, waiter);
        }
        self.drain(now, wall);
    }

    /// Replaces this node's descriptor (signed anew each `DESCRIPTOR_RENEWAL`, or because something in it changed).
    pub fn set_descriptor(&mut self, now: Time, wall: WallTime, descriptor: Descriptor) {
        let services = descriptor.services;
        if services != self.topology.own().services {
            self.services_changed = true;
            self.router.set_stores(services.store);
            self.repair.set_stores(services.store);
            for link in self
                .topology
                .links()
                .map(|report| report.link)
                .collect::<Vec<_>>()
            {
                self.send(link, LinkCommand::Services(services));
            }
        }
        self.topology.set_own(descriptor);
        self.drain(now, wall);
    }

    /// Whether this node does nothing for its neighbours any more: it refuses their requests as an overloaded node does. Its services
    /// are another matter, see [`Core::set_descriptor`].
    pub fn set_resting(&mut self, resting: bool) {
        self.router.set_resting(resting);
    }

    /// No links are wanted from now on, or wanted again. Those that stand end by the driver.
    pub fn set_paused(&mut self, now: Time, wall: WallTime, paused: bool) {
        self.topology.set_paused(now, paused);
        self.drain(now, wall);
    }

    /// Adds a node to find the network by.
    pub fn add_seed(&mut self, now: Time, wall: WallTime, seed: DialTarget) {
        self.topology.add_seed(now, seed);
        self.drain(now, wall);
    }

    /// Replaces the operator's allow and deny lists; links to nodes that are not let in any more are closed.
    pub fn set_access(&mut self, now: Time, wall: WallTime, access: Access) {
        self.topology.set_access(now, access);
        self.drain(now, wall);
    }

    /// Changes how many links there may be; those beyond are closed, the least needed first.
    pub fn set_max_links(&mut self, now: Time, wall: WallTime, most: usize) {
        self.topology.set_max_links(now, most);
        self.drain(now, wall);
    }

    /// Sets the port at which this node's addresses take connections, by which peers can check that; `None` if it takes none.
    pub fn set_port(&mut self, now: Time, wall: WallTime, port: Option<u16>) {
        self.topology.set_port(now, port);
        self.drain(now, wall);
    }

    /// The descriptors that are known, to be saved.
    pub fn known(&self) -> impl Iterator<Item = &Descriptor> {
        self.topology.descriptors()
    }

    /// The pinned entries, to be saved.
    #[must_use]
    pub fn entries(&self) -> &[PinnedEntry] {
        &self.entries
    }

    /// Hands repair what it remembers from an earlier run. To be called before the first input.
    pub fn restore_repair(&mut self, now: Time, wall: WallTime, memory: &RepairMemory) {
        self.repair.restore(now, wall, memory);
    }

    /// What repair must not forget over a restart, to be saved.
    #[must_use]
    pub fn repair_memory(&self, now: Time, wall: WallTime) -> RepairMemory {
        self.repair.memory(now, wall)
    }

    /// The hops of an own circuit, for its owner's eyes.
    #[must_use]
    pub fn path_of(&self, origin: OriginId) -> Option<&[NodeId]> {
        self.pool.path_of(origin)
    }

    /// How much memory the node has left, by its own account.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
        self.router.set_pressure(pressure);
    }

    /// Bytes of blocks that the core holds for others.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.router.memory()
    }

    /// A snapshot.
    #[must_use]
    pub fn status(&self, now: Time) -> CoreStatus {
        let (circuits_ready, circuits_building) = self.pool.circuit_count();
        CoreStatus {
            links: self
                .topology
                .links()
                .map(|link| {
                    let (requests, window) = self.router.window(link.link).unwrap_or_default();
                    LinkStatus {
                        link,
                        requests,
                        window,
                    }
                })
                .collect(),
            known_nodes: self.topology.known(),
            missing_links: self.topology.missing(),
            seeds: self.topology.seeds(),
            banned_nodes: self.topology.banned(now),
            reachability: self.topology.reachability(now),
            observed: self.topology.observed(),
            router: self.router.stats(),
            open: self.router.open(),
            repair: self.repair.stats(),
            open_repairs: self.repair.open(),
            exit_requests: self.exits.open(),
            waiting_circuits: self.waiting.len(),
            circuits_ready,
            circuits_building,
        }
    }

    fn link_event(&mut self, now: Time, wall: WallTime, link: LinkId, event: LinkEvent) {
        if let LinkEvent::Up {
            peer,
            dialled,
            remote,
        } = event
        {
            let end = End {
                peer: *peer,
                dialled,
                remote,
            };
            self.link_up(now, wall, link, end);
            return;
        }
        // A link that was given up may still have said something.
        if !self.topology.heard(now, link) {
            return;
        }
        match event {
            LinkEvent::Up { .. } | LinkEvent::Alive => {}
            LinkEvent::Gossip(frame) => {
                self.topology.gossip(now, wall, link, frame);
                if let Some(stores) = self.topology.stores(link) {
                    self.router.set_neighbour_stores(link, stores);
                    if let Some(node) = self.topology.node_of(link) {
                        self.repair
                            .set_neighbour_stores(now, wall, link, node.location(), stores);
                    }
                }
            }
            LinkEvent::Pong(number) => self.topology.pong(now, link, number),
            LinkEvent::Routed(Routed::Repair(message)) => self.repair.message(now, wall, link, message),
            LinkEvent::Routed(message) => self.router.routed(now, link, message),
            LinkEvent::ExtendWanted {
                circuit,
                target,
                create,
            } => {
                self.extend(now, wall, link, circuit, &target, create);
            }
            LinkEvent::ExitRequest { circuit, request } => self.exit_request(now, link, circuit, request),
            LinkEvent::CircuitGone(circuit) => self.circuit_gone(link, circuit),
            LinkEvent::Carries(true) => self.topology.circuit_opened(now, link),
            LinkEvent::Carries(false) => self.topology.circuits_over(link),
            LinkEvent::OriginReady(origin) => self.pool.origin_ready(now, origin),
            LinkEvent::OriginReply { origin, reply } => self.pool.origin_reply(now, origin, reply),
            LinkEvent::OriginClosed { origin, blame } => {
                self.origins.remove(&origin);
                self.pool.origin_closed(now, origin, blame);
            }
        }
    }

    fn link_up(&mut self, now: Time, wall: WallTime, link: LinkId, end: End) {
        let (node, location, stores) = (end.peer.identity, end.peer.location(), end.peer.services.store);
        if !self.topology.up(now, wall, link, end) {
            if self.topology.link_to(&node).is_none() {
                self.unreachable(now, &node);
            }
            return;
        }
        // An earlier link to the same node may have been closed for this one.
        self.drain_topology(now, wall);
        self.router.neighbour_up(link, location, stores);
        self.repair.neighbour_up(now, wall, link, location, stores);
        if self.services_changed {
            let services = self.topology.own().services;
            self.send(link, LinkCommand::Services(services));
        }
        for waiter in self.waiting.take(&node) {
            self.topology.circuit_opened(now, link);
            self.go_on(link, waiter);
        }
        self.pool.directory_changed();
    }

    /// Drains all machines until nothing moves.
    fn drain(&mut self, now: Time, wall: WallTime) {
        loop {
            let moved = self.drain_topology(now, wall)
                | self.drain_router(now)
                | self.drain_repair(now)
                | self.drain_pool(now, wall);
            if !moved {
                return;
            }
        }
    }

    fn send(&mut self, link: LinkId, command: LinkCommand) {
        // One machine may have had something to say to a link that another has just given up.
        let exists = self.topology.node_of(link).is_some() || matches!(command, LinkCommand::Close);
        if exists {
            self.output.push_back(CoreOutput::Link(link, command));
        }
    }

    fn keep_entries(&mut self) {
        self.topology
            .set_entries(self.entries.iter().map(|entry| entry.node));
    }
}
