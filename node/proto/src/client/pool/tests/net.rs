//! The scripted network: nodes behave as told, a store that all share, and everything that happened on record.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand_core::SeedableRng;
use warren_keys::{Block, BlockId};

use super::*;
use crate::{
    client::testing::{block, network, node, offering},
    core::api::{FetchFailure, InsertFailure},
    descriptor::Services,
    routing::WAIT_TIME,
    wire::ExitOp,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behaviour {
    Honest,
    Slow(Duration),
    Deaf,
    Liar,
    Wrong,
    Busy,
    Failing,
    Forgetful,
    /// Circuits through it are refused at once, and it is known who did it.
    Dead,
    /// Circuits through it never stand.
    Hang,
    /// As an entry, it builds circuits and drops what they carry.
    Swallow,
    /// As an entry, it builds circuits and ends them when they carry something.
    Cut,
}

#[derive(Debug)]
enum Event {
    Ready(OriginId),
    Closed(OriginId, Option<NodeId>),
    Reply(OriginId, ExitReply),
    /// The network forgets who waits.
    Expired(OriginId, u32),
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) origin: OriginId,
    pub(super) exit: NodeId,
    pub(super) op: ExitOp,
}

pub(super) struct Net {
    pub(super) pool: Pool,
    pub(super) now: Time,
    view: BTreeMap<NodeId, Descriptor>,
    pub(super) store: BTreeMap<BlockId, Block>,
    behaviours: BTreeMap<NodeId, Behaviour>,
    pub(super) default_delay: Duration,
    /// What one request takes of the network, which serves one after the other.
    pub(super) service: Duration,
    busy_until: Time,
    /// How long fetches wait.
    pub(super) wait: Duration,
    /// Requests that wait at their exits.
    pub(super) waits: BTreeMap<(OriginId, u32), BlockId>,
    lie_first: usize,
    deaf_first: usize,
    forget_first: usize,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) paths: BTreeMap<OriginId, Vec<NodeId>>,
    ready: BTreeSet<OriginId>,
    pub(super) closed: BTreeSet<OriginId>,
    pub(super) sends: Vec<Sent>,
    open: BTreeMap<OriginId, BTreeSet<u32>>,
    pub(super) most_open: usize,
    job_of_block: BTreeMap<BlockId, JobId>,
    /// Which jobs each circuit has carried.
    pub(super) carried: BTreeMap<OriginId, BTreeSet<JobId>>,
    pub(super) events: Vec<ClientEvent>,
    pub(super) ended_at: BTreeMap<OpId, Time>,
    pub(super) saved_entries: Vec<PinnedEntry>,
}

impl Net {
    /// `size` nodes, this one included; three hops.
    pub(super) fn new(size: usize, seed: u64) -> Self {
        Self::with_hops(size, seed, 3)
    }

    pub(super) fn with_hops(size: usize, seed: u64, hops: usize) -> Self {
        let settings = PoolSettings {
            hops,
            ..PoolSettings::new(node(0))
        };
        let mut net = Self {
            pool: Pool::new(settings, ChaCha20Rng::seed_from_u64(seed)),
            now: Time(0),
            view: network(size),
            store: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            default_delay: Duration::from_millis(50),
            service: Duration::ZERO,
            busy_until: Time(0),
            wait: Duration::ZERO,
            waits: BTreeMap::new(),
            lie_first: 0,
            deaf_first: 0,
            forget_first: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            paths: BTreeMap::new(),
            ready: BTreeSet::new(),
            closed: BTreeSet::new(),
            sends: Vec::new(),
            open: BTreeMap::new(),
            most_open: 0,
            job_of_block: BTreeMap::new(),
            carried: BTreeMap::new(),
            events: Vec::new(),
            ended_at: BTreeMap::new(),
            saved_entries: Vec::new(),
        };
        net.drain();
        net
    }

    pub(super) fn put(&mut self, block: Block) {
        self.store.insert(block.id(), block);
    }

    /// A block gets into the network: all who wait are told.
    pub(super) fn publish(&mut self, block: Block) {
        self.put(block.clone());
        let told = self.waits.iter().filter(|(_, of)| **of == block.id());
        for (origin, id) in told.map(|(request, _)| *request).collect::<Vec<_>>() {
            self.waits.remove(&(origin, id));
            let result = ExitResult::Found(block.clone());
            self.at(self.default_delay, Event::Reply(origin, ExitReply { id, result }));
        }
    }

    /// The exits through which the client waits now.
    pub(super) fn waiting_exits(&self) -> BTreeSet<NodeId> {
        let exits = self.waits.keys().map(|(origin, _)| self.paths[origin].last());
        exits.map(|exit| *exit.unwrap()).collect()
    }

    pub(super) fn behave(&mut self, node: NodeId, behaviour: Behaviour) {
        self.behaviours.insert(node, behaviour);
    }

    pub(super) fn behaviour(&self, node: NodeId) -> Behaviour {
        self.behaviours.get(&node).copied().unwrap_or(Behaviour::Honest)
    }

    pub(super) fn all_exits_but_one(&mut self, behaviour: Behaviour) {
        let count = self.view.len() as u64;
        for index in 1..count - 1 {
            self.behave(node(index), behaviour);
        }
        // The honest one must not become the entry, which is never an exit.
        let services = Services {
            relay: false,
            ..Services::ALL
        };
        self.view
            .insert(node(count - 1), offering(count - 1, &["127.0.0.1:9"], services));
    }

    pub(super) fn lie_first(&mut self, count: usize) {
        self.lie_first = count;
    }

    pub(super) fn deaf_first(&mut self, count: usize) {
        self.deaf_first = count;
    }

    pub(super) fn forget_first(&mut self, count: usize) {
        self.forget_first = count;
    }

    pub(super) fn command(&mut self, command: ClientCommand) {
        self.pool.command(self.now, command);
        self.drain();
    }

    pub(super) fn fetch(&mut self, job: JobId, op: u64, block: BlockId, expendable: bool) {
        self.pool
            .command(self.now, ClientCommand::OpenJob { job, bulk: false });
        self.job_of_block.insert(block, job);
        self.command(ClientCommand::Fetch {
            job,
            op: OpId(op),
            block,
            expendable,
            wait: self.wait,
        });
    }

    pub(super) fn insert(&mut self, job: JobId, op: u64, block: Block, exits: u8, read_back: bool) {
        self.pool
            .command(self.now, ClientCommand::OpenJob { job, bulk: false });
        self.job_of_block.insert(block.id(), job);
        self.command(ClientCommand::Insert {
            job,
            op: OpId(op),
            block,
            exits,
            read_back,
        });
    }

    pub(super) fn fetched(&self, wanted: u64) -> Result<Block, FetchFailure> {
        let result = self.events.iter().find_map(|event| match event {
            ClientEvent::Fetched { op, result, .. } if op.0 == wanted => Some(result.clone()),
            _ => None,
        });
        result.unwrap_or_else(|| panic!("fetch {wanted} has not ended"))
    }

    pub(super) fn inserted(&self, wanted: u64) -> Result<u8, InsertFailure> {
        let result = self.events.iter().find_map(|event| match event {
            ClientEvent::Inserted { op, result, .. } if op.0 == wanted => Some(result.clone()),
            _ => None,
        });
        result.unwrap_or_else(|| panic!("insert {wanted} has not ended"))
    }

    /// Second attempts made while the first was still open, so far.
    pub(super) fn hedged(&self) -> u64 {
        self.pool.hedged()
    }

    pub(super) fn in_flight(&self, origin: OriginId) -> usize {
        self.open.get(&origin).map_or(0, BTreeSet::len)
    }

    pub(super) fn standing(&self) -> Vec<OriginId> {
        self.ready.iter().copied().collect()
    }

    pub(super) fn kill_circuit(&mut self, origin: OriginId, blame: Option<NodeId>) {
        self.forget(origin);
        self.pool.origin_closed(self.now, origin, blame);
        self.drain();
    }

    pub(super) fn kill_node(&mut self, dead: NodeId) {
        self.behave(dead, Behaviour::Dead);
        let broken: Vec<_> = self
            .ready
            .iter()
            .copied()
            .filter(|origin| self.paths[origin].contains(&dead))
            .collect();
        for origin in broken {
            let blame = (self.paths[&origin][0] == dead).then_some(dead);
            self.kill_circuit(origin, blame);
        }
    }

    fn forget(&mut self, origin: OriginId) {
        self.ready.remove(&origin);
        self.open.remove(&origin);
        self.waits.retain(|(of, _), _| *of != origin);
        self.queue.retain(|_, event| match event {
            Event::Ready(other)
            | Event::Closed(other, _)
            | Event::Reply(other, _)
            | Event::Expired(other, _) => *other != origin,
        });
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until every operation has ended and nothing is being built.
    pub(super) fn run_until_idle(&mut self) {
        let end = self.now + Duration::from_secs(3600);
        while self.pool.jobs.values().any(|job| !job.ops.is_empty()) {
            assert!(self.step(end), "operations do not end");
        }
    }

    fn step(&mut self, end: Time) -> bool {
        let event = self.queue.first_key_value().map(|((time, _), _)| *time);
        let timeout = self.pool.poll_timeout().map(|time| time.max(self.now));
        let Some(next) = event.into_iter().chain(timeout).min().filter(|time| *time <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        if event == Some(next) {
            match self.queue.pop_first().map(|(_, event)| event) {
                Some(Event::Ready(origin)) => {
                    self.ready.insert(origin);
                    self.pool.origin_ready(self.now, origin);
                }
                Some(Event::Closed(origin, blame)) => {
                    self.forget(origin);
                    self.pool.origin_closed(self.now, origin, blame);
                }
                Some(Event::Reply(origin, reply)) => {
                    if !matches!(reply.result, ExitResult::Waiting) {
                        self.open.entry(origin).or_default().remove(&reply.id);
                    }
                    self.pool.origin_reply(self.now, origin, reply);
                }
                Some(Event::Expired(origin, id)) if self.waits.remove(&(origin, id)).is_some() => {
                    self.open.entry(origin).or_default().remove(&id);
                    let result = ExitResult::NotFound;
                    self.pool.origin_reply(self.now, origin, ExitReply { id, result });
                }
                Some(Event::Expired(..)) | None => {}
            }
        } else {
            self.pool.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    pub(super) fn drain(&mut self) {
        let wall = WallTime(1_800_000_000 + self.now.0 / 1_000_000);
        while let Some(output) = self.pool.poll(self.now, wall, &self.view) {
            match output {
                PoolOutput::Open { origin, path } => self.build(origin, &path),
                PoolOutput::Send { origin, request } => {
                    assert!(
                        self.ready.contains(&origin),
                        "sent through a circuit that does not stand"
                    );
                    let exit = *self.paths[&origin].last().unwrap();
                    self.serve(origin, exit, request);
                }
                PoolOutput::LocalExit { origin, request } => self.serve(origin, node(0), request),
                PoolOutput::Close(origin) => {
                    assert!(self.closed.insert(origin), "closed twice");
                    self.forget(origin);
                }
                PoolOutput::Entries(entries) => self.saved_entries = entries,
                PoolOutput::Client(event) => {
                    let (ClientEvent::Fetched { op, .. } | ClientEvent::Inserted { op, .. }) = &event;
                    self.ended_at.insert(*op, self.now);
                    self.events.push(event);
                }
            }
        }
    }

    fn build(&mut self, origin: OriginId, path: &[Descriptor]) {
        let hops: Vec<NodeId> = path.iter().map(|hop| hop.identity).collect();
        let dead = hops
            .iter()
            .find(|hop| self.behaviour(**hop) == Behaviour::Dead)
            .copied();
        let hangs = hops.iter().any(|hop| self.behaviour(*hop) == Behaviour::Hang);
        assert!(self.paths.insert(origin, hops).is_none(), "a name used twice");
        let delay = self.default_delay * 3;
        match dead {
            _ if hangs => {}
            Some(dead) => self.at(delay, Event::Closed(origin, Some(dead))),
            None => self.at(delay, Event::Ready(origin)),
        }
    }

    fn serve(&mut self, origin: OriginId, exit: NodeId, request: ExitRequest) {
        assert!(!self.closed.contains(&origin));
        let id = match &request.op {
            ExitOp::Fetch { block, .. } => *block,
            ExitOp::Insert(block) => block.id(),
        };
        if let Some(job) = self.job_of_block.get(&id) {
            self.carried.entry(origin).or_default().insert(*job);
        }
        let open = self.open.entry(origin).or_default();
        assert!(open.insert(request.id), "a request number used twice");
        self.most_open = self.most_open.max(open.len());
        let mut behaviour = self.behaviour(exit);
        let fetch = matches!(request.op, ExitOp::Fetch { .. });
        for (count, special, of_fetch) in [
            (&mut self.lie_first, Behaviour::Liar, true),
            (&mut self.deaf_first, Behaviour::Deaf, true),
            (&mut self.forget_first, Behaviour::Forgetful, false),
        ] {
            if *count > 0 && fetch == of_fetch {
                *count -= 1;
                behaviour = special;
            }
        }
        self.sends.push(Sent {
            origin,
            exit,
            op: request.op.clone(),
        });
        match self.paths.get(&origin).map(|path| self.behaviour(path[0])) {
            Some(Behaviour::Swallow) => return,
            Some(Behaviour::Cut) => return self.at(self.default_delay, Event::Closed(origin, None)),
            _ => {}
        }
        let delay = if let Behaviour::Slow(delay) = behaviour {
            delay
        } else {
            self.default_delay
        };
        let result = match (behaviour, request.op) {
            (Behaviour::Deaf | Behaviour::Dead | Behaviour::Hang, _) => return,
            (Behaviour::Busy, _) => ExitResult::Busy,
            (Behaviour::Failing, _) => ExitResult::Failed,
            (Behaviour::Liar, ExitOp::Fetch { .. }) => ExitResult::NotFound,
            (Behaviour::Wrong, ExitOp::Fetch { .. }) => ExitResult::Found(block(u64::MAX)),
            (Behaviour::Forgetful, ExitOp::Insert(_)) => ExitResult::Stored(5),
            (
                _,
                ExitOp::Fetch {
                    block, wait: true, ..
                },
            ) if !self.store.contains_key(&block) => {
                self.waits.insert((origin, request.id), block);
                self.at(delay + WAIT_TIME, Event::Expired(origin, request.id));
                ExitResult::Waiting
            }
            (_, ExitOp::Fetch { block, .. }) => self
                .store
                .get(&block)
                .cloned()
                .map_or(ExitResult::NotFound, ExitResult::Found),
            (_, ExitOp::Insert(block)) => match self.store.get(&block.id()) {
                Some(other) if *other != block => ExitResult::Collision(other.clone()),
                _ => {
                    self.store.insert(block.id(), block);
                    ExitResult::Stored(5)
                }
            },
        };
        self.busy_until = self.busy_until.max(self.now) + self.service;
        self.at(
            self.busy_until.since(self.now) + delay,
            Event::Reply(
                origin,
                ExitReply {
                    id: request.id,
                    result,
                },
            ),
        );
    }
}
