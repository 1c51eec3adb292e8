//! Block operations over a pool of client circuits (protocol §8).
//!
//! The core calls this machine; it says which circuits to open and close and what to send through them. It hears of
//! nothing but its own circuits: the local client never looks into the own datastore.
//!
//! Invariants:
//! 1. A circuit serves one job, ever. What no job has used yet is a spare; what a job has used is closed with it.
//! 2. Every operation ends: with a result, in bounded time from its first attempt, or silently with its job.
//! 3. A block that is handed to the client has the identifier that was asked for.
//! 4. Queues are bounded; what would overflow them fails at once.
//!
//! With zero hops this node is its own exit: requests come out as [`PoolOutput::LocalExit`], and each neighbour that gets
//! one knows, by its fixed HTL, that this node's user asks. That setting is for measuring only.

mod staff;
mod tick;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::NodeId;

use crate::{
    client::{
        circuit::{Circuit, Kind},
        entry::{Entries, PinnedEntry},
        fetch_op::FetchOp,
        insert_op::InsertOp,
        job::{Job, MAX_OPS},
        op::{Ending, Next, Outcome, What},
        path::{PathRules, RelayView},
        shared::SharedWindow,
        window::Pace,
    },
    core::api::{ClientCommand, ClientEvent},
    descriptor::Descriptor,
    geometry::MAX_HOPS,
    ids::{JobId, OpId, OriginId},
    time::{Time, WallTime},
    wire::{ExitReply, ExitRequest, ExitResult},
};

/// The most jobs at a time: more than a browser opens, and each costs some hundred bytes.
pub const MAX_JOBS: usize = 512;
/// The most client circuits at a time, spares included; each costs the nodes on it a few hundred bytes and a handshake.
pub const MAX_CIRCUITS: usize = 256;
/// Circuits of a job beyond those that carry its load: for retries through other exits.
pub(crate) const EXTRA_CIRCUITS: usize = 3;

/// The longest that a fetch may wait for a block that is not there yet. Who wants to wait longer asks again.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How the user wants circuits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSettings {
    /// This node.
    pub own: NodeId,
    /// Hops of a circuit, 0 to [`MAX_HOPS`]; more counts as that. 3 unless the user says otherwise. With 1 the exit knows
    /// the client, with 0 every neighbour does.
    pub hops: usize,
    /// Circuits kept ready for the next jobs.
    pub spares: usize,
    /// Circuits over which a bulk job spreads.
    pub bulk_circuits: usize,
    /// Whether no two hops may share a network prefix even among loopback and private addresses (for tests).
    pub strict_private: bool,
    /// Whether what is late is asked for a second time, through another exit; off only to measure what that is worth.
    pub hedging: bool,
}

impl PoolSettings {
    /// The defaults for a node: three hops, three spares (one URI and its first retries), six circuits for a large file.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        Self {
            own,
            hops: 3,
            spares: 3,
            bulk_circuits: 6,
            strict_private: false,
            hedging: true,
        }
    }
}

/// What the pool wants done.
#[derive(Debug)]
pub enum PoolOutput {
    /// Build a circuit; ends in [`Pool::origin_ready`] or [`Pool::origin_closed`].
    Open {
        /// Its name.
        origin: OriginId,
        /// Its hops, entry first, exit last; 1 to [`MAX_HOPS`].
        path: Vec<Descriptor>,
    },
    /// Send a request through a circuit that stands.
    Send {
        /// The circuit.
        origin: OriginId,
        /// The request.
        request: ExitRequest,
    },
    /// Close a circuit; nothing more is heard of it.
    Close(OriginId),
    /// Zero hops: route this as an exit does, and answer by [`Pool::origin_reply`]. `origin` stands for the job, and is
    /// closed like a circuit.
    LocalExit {
        /// Where the answer goes.
        origin: OriginId,
        /// The request.
        request: ExitRequest,
    },
    /// The pinned entries have changed; to be kept over restarts.
    Entries(Vec<PinnedEntry>),
    /// Tell the local client.
    Client(ClientEvent),
}

/// The machine.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    rules: PathRules,
    rng: ChaCha20Rng,
    entries: Entries,
    jobs: BTreeMap<JobId, Job>,
    circuits: BTreeMap<OriginId, Circuit>,
    next_origin: u64,
    /// Nodes that failed or lied lately, and until when they are avoided.
    avoid: BTreeMap<NodeId, Time>,
    out: VecDeque<PoolOutput>,
    /// Jobs whose circuits or queues have changed.
    dirty: BTreeSet<JobId>,
    /// What bulk jobs may have open, together: searches, and inserts.
    fetches: SharedWindow,
    inserts: SharedWindow,
    /// Bulk jobs that have something to send, in the order of their turns.
    turns: VecDeque<JobId>,
    spares_dirty: bool,
    spare_failures: u32,
    spares_after: Time,
    /// What a circuit takes to stand, and a first search that finds.
    build_pace: Pace,
    fetch_pace: Pace,
    /// Second attempts that may be made now.
    hedges: f32,
    /// Second attempts made so far.
    hedged: u64,
    next_tick: Time,
    /// The last wall-clock time that the core told.
    wall: WallTime,
}

impl Pool {
    /// A pool without circuits. `rng` must be seeded with secret randomness: it decides whom this client uses.
    #[must_use]
    pub fn new(settings: PoolSettings, rng: ChaCha20Rng) -> Self {
        let hops = settings.hops.min(MAX_HOPS);
        Self {
            settings,
            rules: PathRules {
                own: settings.own,
                hops,
                strict_private: settings.strict_private,
            },
            rng,
            entries: Entries::default(),
            jobs: BTreeMap::new(),
            circuits: BTreeMap::new(),
            next_origin: 0,
            avoid: BTreeMap::new(),
            out: VecDeque::new(),
            dirty: BTreeSet::new(),
            fetches: SharedWindow::of_fetches(),
            inserts: SharedWindow::of_inserts(),
            turns: VecDeque::new(),
            spares_dirty: true,
            spare_failures: 0,
            spares_after: Time(0),
            build_pace: Pace::default(),
            fetch_pace: Pace::default(),
            hedges: tick::MAX_HEDGES,
            hedged: 0,
            next_tick: Time(0),
            wall: WallTime(0),
        }
    }

    /// Takes up the entries that an earlier run saved ([`PoolOutput::Entries`]).
    pub fn restore_entries(&mut self, saved: Vec<PinnedEntry>) {
        self.entries.restore(saved);
    }

    /// The pinned entries, the preferred one first: worth a standing link.
    #[must_use]
    pub fn entries(&self) -> Vec<NodeId> {
        self.entries.pinned().iter().map(|entry| entry.node).collect()
    }

    /// Client circuits that stand, and those being built.
    #[must_use]
    pub fn circuit_count(&self) -> (usize, usize) {
        let ready = self.circuits.values().filter(|circuit| circuit.ready).count();
        (ready, self.circuits.len() - ready)
    }

    /// Second attempts made so far beside a first that was late.
    #[must_use]
    pub fn hedged(&self) -> u64 {
        self.hedged
    }

    /// The hops of a circuit, entry first (for the user's own eyes).
    #[must_use]
    pub fn path_of(&self, origin: OriginId) -> Option<&[NodeId]> {
        self.circuits.get(&origin).map(|circuit| &circuit.path[..])
    }

    /// The directory has grown: circuits that could not be built for want of nodes are tried again.
    pub fn directory_changed(&mut self) {
        self.spares_after = Time(0);
        self.spares_dirty = true;
        self.dirty.extend(
            self.jobs
                .iter()
                .filter(|(_, job)| job.waiting())
                .map(|(id, _)| *id),
        );
    }

    /// A command of the local client. Never blocks: what exceeds a bound fails with an event.
    pub fn command(&mut self, now: Time, command: ClientCommand) {
        let local = self.rules.hops == 0;
        match command {
            ClientCommand::OpenJob { job, bulk } => {
                if self.jobs.len() < MAX_JOBS {
                    self.jobs.entry(job).or_insert_with(|| Job::new(bulk, now));
                }
            }
            ClientCommand::SetBulk(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.bulk = true;
                    self.dirty.insert(id);
                }
            }
            ClientCommand::CloseJob(id) => self.close_job(now, id),
            ClientCommand::Fetch {
                job,
                op,
                block,
                expendable,
                wait,
            } => {
                let fetch = FetchOp::new(block, expendable, local);
                let fetch = fetch.waiting(now, now + wait.min(MAX_WAIT));
                self.begin(job, op, What::Fetch(fetch));
            }
            ClientCommand::Insert {
                job,
                op,
                block,
                exits,
                read_back,
            } => {
                self.begin(
                    job,
                    op,
                    What::Insert(InsertOp::new(block, exits, read_back, local)),
                );
            }
        }
        self.arm(now);
    }

    fn begin(&mut self, id: JobId, op: OpId, what: What) {
        match self.jobs.get_mut(&id) {
            Some(job) if job.ops.len() < MAX_OPS => {
                job.begin(op, what);
                self.dirty.insert(id);
            }
            _ => self
                .out
                .push_back(PoolOutput::Client(what.give_up().event(id, op))),
        }
    }

    fn close_job(&mut self, now: Time, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.dirty.remove(&id);
        self.turns.retain(|each| *each != id);
        for origin in job.circuits {
            let circuit = self.circuits.remove(&origin);
            for attempt in circuit.iter().flat_map(|circuit| circuit.open.values()) {
                self.vacate(now, attempt, false);
            }
            self.out.push_back(PoolOutput::Close(origin));
        }
        self.spares_dirty = true;
    }

    /// A circuit stands.
    pub fn origin_ready(&mut self, now: Time, origin: OriginId) {
        let Some(circuit) = self.circuits.get_mut(&origin) else {
            return;
        };
        circuit.ready = true;
        self.build_pace.sample(now.since(circuit.begun));
        if let Some(entry) = circuit.path.first() {
            self.entries.worked(entry);
        }
        match circuit.owner {
            Some(owner) => {
                if let Some(job) = self.jobs.get_mut(&owner) {
                    job.build_failures = 0;
                }
                self.dirty.insert(owner);
            }
            None => self.spare_failures = 0,
        }
        self.arm(now);
    }

    /// A circuit is gone, or could not be built; `blame` is the hop at fault, where known.
    pub fn origin_closed(&mut self, now: Time, origin: OriginId, blame: Option<NodeId>) {
        self.drop_circuit(now, origin, blame);
        self.arm(now);
    }

    /// An answer came through a circuit.
    pub fn origin_reply(&mut self, now: Time, origin: OriginId, reply: ExitReply) {
        let Some(circuit) = self.circuits.get_mut(&origin) else {
            return;
        };
        let answered = match reply.result {
            ExitResult::Waiting => circuit.placed(now, reply.id),
            _ => circuit.open.remove(&reply.id),
        };
        let Some(attempt) = answered else {
            return;
        };
        circuit.prove();
        if let Some(entry) = circuit.path.first() {
            self.entries.answered(entry);
        }
        match &reply.result {
            ExitResult::Busy => {
                let jitter = self.rng.next_u32() & 255;
                circuit.busy(now, &attempt, jitter);
            }
            // A block that was waited for says nothing of the circuit's time.
            ExitResult::Failed | ExitResult::Waiting => {}
            _ if attempt.waits => {}
            // A search in vain is as slow as the network is wide and tells nothing of the circuit.
            ExitResult::NotFound => circuit.answered(now, &attempt, false),
            ExitResult::Found(_) | ExitResult::Stored(_) | ExitResult::Collision(_) => {
                circuit.answered(now, &attempt, attempt.kind != Kind::WideFetch);
                if attempt.kind == Kind::Fetch {
                    self.fetch_pace.sample(now.since(attempt.sent));
                }
            }
        }
        let (exit, owner) = (circuit.exit, circuit.owner);
        let telling = matches!(reply.result, ExitResult::Found(_) | ExitResult::Stored(_))
            && attempt.kind != Kind::WideFetch;
        self.vacate(now, &attempt, telling);
        let Some(owner) = owner else { return };
        self.dirty.insert(owner);
        let Some(op) = attempt.op else { return };
        if matches!(reply.result, ExitResult::Waiting) {
            if let Some(job) = self.jobs.get_mut(&owner) {
                job.placed(now, op, (origin, reply.id));
            }
            self.arm(now);
            return;
        }
        let outcome = Outcome::Answer(reply.result);
        self.outcome(now, owner, op, (origin, reply.id), attempt.stage, exit, outcome);
        self.arm(now);
    }

    /// Hands an outcome to its operation, and does what follows from it.
    #[expect(clippy::too_many_arguments, reason = "names one attempt and what came of it")]
    fn outcome(
        &mut self,
        now: Time,
        owner: JobId,
        id: OpId,
        attempt: (OriginId, u32),
        stage: u8,
        exit: NodeId,
        outcome: Outcome,
    ) {
        let Some(job) = self.jobs.get_mut(&owner) else {
            return;
        };
        match job.outcome(id, attempt, stage, outcome) {
            Next::Continue => {}
            Next::Done(ending) => self.end(owner, id, ending),
            Next::Lie => {
                job.requeue(id);
                self.out.push_back(PoolOutput::Close(attempt.0));
                self.drop_circuit(now, attempt.0, None);
                self.avoid.insert(exit, now + tick::AVOID_LIAR);
            }
        }
        self.dirty.insert(owner);
    }

    /// Ends an operation with an event; what is in flight for it is orphaned.
    fn end(&mut self, owner: JobId, id: OpId, ending: Ending) {
        let Some(op) = self.jobs.get_mut(&owner).and_then(|job| job.end(id)) else {
            return;
        };
        self.hedges = (self.hedges + tick::HEDGE_SHARE).min(tick::MAX_HEDGES);
        for attempt in op.in_flight {
            let open = self
                .circuits
                .get_mut(&attempt.origin)
                .and_then(|each| each.open.get_mut(&attempt.request));
            if let Some(open) = open {
                open.op = None;
            }
        }
        self.out.push_back(PoolOutput::Client(ending.event(owner, id)));
        self.dirty.insert(owner);
    }

    /// Forgets a circuit that is gone; its requests are retried elsewhere, uncharged.
    fn drop_circuit(&mut self, now: Time, origin: OriginId, blame: Option<NodeId>) {
        let Some(mut circuit) = self.circuits.remove(&origin) else {
            return;
        };
        for attempt in circuit.open.values() {
            self.vacate(now, attempt, false);
        }
        self.blame(now, &mut circuit, blame);
        let Some(owner) = circuit.owner else {
            if !circuit.ready {
                self.spare_failures = self.spare_failures.saturating_add(1);
                self.spares_after = now + tick::spare_pause(self.spare_failures);
            }
            self.spares_dirty = true;
            return;
        };
        let Some(job) = self.jobs.get_mut(&owner) else {
            return;
        };
        job.circuits.retain(|each| *each != origin);
        if !circuit.ready {
            job.build_failures = job.build_failures.saturating_add(1);
            job.build_after = now + tick::build_pause(job.build_failures);
        }
        self.dirty.insert(owner);
        for (request, attempt) in circuit.open {
            let Some(op) = attempt.op else { continue };
            let attempt_name = (origin, request);
            self.outcome(
                now,
                owner,
                op,
                attempt_name,
                attempt.stage,
                circuit.exit,
                Outcome::Lost,
            );
        }
    }

    fn blame(&mut self, now: Time, circuit: &mut Circuit, blame: Option<NodeId>) {
        let Some(entry) = circuit.path.first().copied() else {
            return;
        };
        match blame {
            Some(node) => {
                if node == entry {
                    self.entries.failed(&entry, now, self.wall);
                }
                self.avoid.insert(node, now + tick::AVOID);
            }
            None if !circuit.ready => self.entries.doubted(&entry, now, self.wall),
            None if !circuit.open.is_empty() && circuit.complain() => self.silent(now, &circuit.path),
            None => {}
        }
    }

    /// A circuit over `path` has lost what it was to carry and never brought an answer: any of its hops may be the reason.
    fn silent(&mut self, now: Time, path: &[NodeId]) {
        let Some((entry, beyond)) = path.split_first() else {
            return;
        };
        self.avoid
            .extend(beyond.iter().map(|node| (*node, now + tick::AVOID)));
        if !self.entries.silent(entry, now, self.wall) {
            return;
        }
        self.avoid.insert(*entry, now + tick::AVOID);
        // Spares through it would make the next jobs wait.
        let of_entry = |circuit: &Circuit| circuit.owner.is_none() && circuit.path.first() == Some(entry);
        let spares = self.circuits.iter().filter(|(_, circuit)| of_entry(circuit));
        for origin in spares.map(|(origin, _)| *origin).collect::<Vec<_>>() {
            self.circuits.remove(&origin);
            self.out.push_back(PoolOutput::Close(origin));
        }
        self.spares_dirty = true;
    }

    /// The next thing to do, if any. `view` is the directory without nodes that are known to be dead or banned; `wall`
    /// dates the pinned entries.
    pub fn poll<V: RelayView + ?Sized>(&mut self, now: Time, wall: WallTime, view: &V) -> Option<PoolOutput> {
        self.wall = wall;
        if self.out.is_empty() {
            while let Some(id) = self.dirty.pop_first() {
                self.serve(now, view, id);
            }
            self.take_turns(now);
            if std::mem::take(&mut self.spares_dirty) {
                self.keep_spares(now, view);
            }
            self.out
                .extend(self.entries.take_changed().map(PoolOutput::Entries));
        }
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests;
