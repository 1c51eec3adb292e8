//! The client's pool of circuits against circuits that fail, exits that lie or stay silent, and a directory of any size.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{BlockId, NodeId};
use warren_proto::{
    circuit::WINDOW,
    client::{Pool, PoolOutput, PoolSettings, pool::MAX_CIRCUITS},
    core::api::{ClientCommand, ClientEvent},
    descriptor::Descriptor,
    ids::{JobId, OpId, OriginId},
    time::Time,
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult},
};

use super::{START, messages, pause, wall};
use crate::{Input, Seed, fixtures};

/// Longer than the pool tries anything.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A circuit as the network sees it.
struct Circuit {
    path: usize,
    ready: bool,
    open: BTreeMap<u32, ExitRequest>,
}

struct World {
    pool: Pool,
    hops: usize,
    now: Time,
    directory: BTreeMap<NodeId, Descriptor>,
    circuits: BTreeMap<OriginId, Circuit>,
    jobs: BTreeSet<JobId>,
    next_op: u64,
    /// Operations without an end, and the block that they fetch.
    ops: BTreeMap<(JobId, OpId), Option<BlockId>>,
}

/// The first bytes are the hops and the size of the directory.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (hops, known) = (usize::from(input.u8() % 6), usize::from(input.u8()));
    let own = fixtures::node(0).secrets.id();
    let settings = PoolSettings {
        hops,
        spares: usize::from(input.u8() % 4),
        ..PoolSettings::new(own)
    };
    let mut world = World {
        pool: Pool::new(settings, ChaCha20Rng::seed_from_u64(3)),
        hops,
        now: START,
        directory: BTreeMap::new(),
        circuits: BTreeMap::new(),
        jobs: BTreeSet::new(),
        next_op: 0,
        ops: BTreeMap::new(),
    };
    world.learn(known);
    world.drain();
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.drain();
    }
    world.end();
}

impl World {
    fn learn(&mut self, count: usize) {
        let nodes =
            (0..count.min(fixtures::NODES)).map(|number| fixtures::node(number).descriptor.as_ref().clone());
        self.directory = nodes.map(|node| (node.identity, node)).collect();
        self.pool.directory_changed();
    }

    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let job = JobId(u64::from(input.u8() % 4));
        match op % 12 {
            0 => {
                self.jobs.insert(job);
                self.pool.command(
                    self.now,
                    ClientCommand::OpenJob {
                        job,
                        bulk: input.flag(),
                    },
                );
            }
            1..=3 => {
                self.next_op += 1;
                let op = OpId(self.next_op);
                let command = if input.u8() < 160 {
                    let block = messages::block_id(input);
                    self.ops.insert((job, op), Some(block));
                    ClientCommand::Fetch {
                        job,
                        op,
                        block,
                        expendable: input.flag(),
                        wait: Duration::from_secs(u64::from(input.u8() / 64) * 100),
                    }
                } else {
                    let block = messages::block(input);
                    self.ops.insert((job, op), None);
                    ClientCommand::Insert {
                        job,
                        op,
                        block,
                        exits: input.u8() % 4,
                        read_back: input.flag(),
                    }
                };
                self.pool.command(self.now, command);
            }
            4 => {
                if input.u8() > 200 {
                    self.drain();
                    self.jobs.remove(&job);
                    self.ops.retain(|(owner, _), _| *owner != job);
                    self.pool.command(self.now, ClientCommand::CloseJob(job));
                } else {
                    self.pool.command(self.now, ClientCommand::SetBulk(job));
                }
            }
            5 | 6 => {
                // All that is being built stands, or one circuit does.
                let building: Vec<OriginId> = self
                    .circuits
                    .iter()
                    .filter(|(_, c)| !c.ready)
                    .map(|(id, _)| *id)
                    .collect();
                let chosen = if input.flag() {
                    building
                } else {
                    input.pick(&building).into_iter().collect()
                };
                for origin in chosen {
                    if let Some(circuit) = self.circuits.get_mut(&origin) {
                        circuit.ready = true;
                        self.pool.origin_ready(self.now, origin);
                    }
                }
            }
            7 => {
                let all: Vec<OriginId> = self.circuits.keys().copied().collect();
                if let Some(origin) = input.pick(&all) {
                    self.circuits.remove(&origin);
                    let blame = if input.flag() {
                        Some(messages::descriptor(input).identity)
                    } else {
                        None
                    };
                    self.pool.origin_closed(self.now, origin, blame);
                }
            }
            8 | 9 => self.answer(input),
            10 => self.wait(pause(input)),
            _ => {
                if input.u8() > 128 {
                    self.learn(input.u8().into());
                }
            }
        }
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let asked: Vec<(OriginId, u32)> = self
            .circuits
            .iter()
            .flat_map(|(origin, c)| c.open.keys().map(|id| (*origin, *id)))
            .collect();
        let Some((origin, id)) = input.pick(&asked) else {
            return;
        };
        let Some(request) = self
            .circuits
            .get_mut(&origin)
            .and_then(|circuit| circuit.open.remove(&id))
        else {
            return;
        };
        let result = match (input.u8() % 8, request.op) {
            (5, ExitOp::Fetch { wait: true, .. }) => ExitResult::Waiting,
            (0, _) => ExitResult::Busy,
            (1, _) => ExitResult::Failed,
            (2, _) => messages::exit_result(input),
            (3 | 4, ExitOp::Fetch { .. }) => ExitResult::NotFound,
            (_, ExitOp::Fetch { block, .. }) => {
                let blocks = (0..=255).map(|byte| messages::block(&mut Input::new(&[byte])));
                blocks
                    .into_iter()
                    .find(|found| found.id() == block)
                    .map_or(ExitResult::NotFound, ExitResult::Found)
            }
            (3, ExitOp::Insert(block)) => ExitResult::Collision(block),
            (_, ExitOp::Insert(_)) => ExitResult::Stored(input.u8() % 7),
        };
        self.pool.origin_reply(self.now, origin, ExitReply { id, result });
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut calls = 0;
        while self.pool.poll_timeout().is_some_and(|due| due <= self.now) {
            self.pool.handle_timeout(self.now);
            self.drain();
            calls += 1;
            assert!(calls < 1000, "a timeout that never passes");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.pool.poll(self.now, wall(self.now), &self.directory) {
            match output {
                PoolOutput::Open { origin, path } => {
                    let nodes: BTreeSet<NodeId> = path.iter().map(|hop| hop.identity).collect();
                    assert!(
                        path.len() == self.hops && nodes.len() == path.len(),
                        "a shorter path, or a loop"
                    );
                    assert!(!nodes.contains(&fixtures::node(0).secrets.id()), "through itself");
                    let circuit = Circuit {
                        path: path.len(),
                        ready: false,
                        open: BTreeMap::new(),
                    };
                    assert!(self.circuits.insert(origin, circuit).is_none(), "a name twice");
                }
                PoolOutput::Send { origin, request } => {
                    let circuit = self
                        .circuits
                        .get_mut(&origin)
                        .expect("through a circuit that is gone");
                    assert!(circuit.ready && circuit.path == self.hops);
                    assert!(
                        circuit.open.insert(request.id, request).is_none(),
                        "a number twice"
                    );
                    assert!(circuit.open.len() <= WINDOW, "over the window");
                }
                PoolOutput::LocalExit { origin, request } => {
                    assert_eq!(self.hops, 0);
                    let circuit = Circuit {
                        path: 0,
                        ready: true,
                        open: BTreeMap::new(),
                    };
                    self.circuits
                        .entry(origin)
                        .or_insert(circuit)
                        .open
                        .insert(request.id, request);
                }
                PoolOutput::Close(origin) => {
                    assert!(
                        self.circuits.remove(&origin).is_some() || self.hops == 0,
                        "closed twice"
                    );
                }
                PoolOutput::Entries(entries) => {
                    assert!(entries.len() <= warren_proto::client::entry::MAX_ENTRIES)
                }
                PoolOutput::Client(event) => self.ended(event),
            }
        }
        let (ready, building) = self.pool.circuit_count();
        assert!(ready + building <= MAX_CIRCUITS);
        if self.hops > 0 {
            assert_eq!(
                ready + building,
                self.circuits.len(),
                "another view of the circuits"
            );
        }
    }

    fn ended(&mut self, event: ClientEvent) {
        let (name, found) = match event {
            ClientEvent::Fetched { job, op, result } => ((job, op), result.ok()),
            ClientEvent::Inserted { job, op, .. } => ((job, op), None),
        };
        let wanted = self.ops.remove(&name).expect("an end of nothing");
        if let Some(found) = found {
            assert_eq!(Some(found.id()), wanted, "another block");
        }
    }

    /// The network is gone: whatever is tried fails.
    fn end(mut self) {
        let until = self.now + PATIENCE;
        while self.now < until && !self.ops.is_empty() {
            let gone: Vec<OriginId> = self.circuits.keys().copied().collect();
            for origin in gone {
                // The end of one may be the end of the other that it raced.
                if self.circuits.remove(&origin).is_some() {
                    self.pool.origin_closed(self.now, origin, None);
                    self.drain();
                }
            }
            self.drain();
            let due = self.pool.poll_timeout().map_or(until, |due| due.min(until));
            self.wait(due.since(self.now).max(Duration::from_millis(1)));
        }
        let left: Vec<_> = self.ops.keys().collect();
        assert!(left.is_empty(), "operations that never end: {left:?}");
    }
}

/// Fetches and inserts with each end, circuits that fail, jobs that are closed.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let with = |name: &str, hops| {
        Seed::new(name)
            .u8(hops)
            .u8(20)
            .u8(2)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(5)
            .u8(0)
            .u8(1)
    };
    let fetch = |seed: Seed| seed.u8(1).u8(1).u8(0).u8(2).u8(0).u8(5).u8(0).u8(1);
    let insert = |seed: Seed| seed.u8(1).u8(1).u8(200).u8(3).u8(2).u8(1).u8(5).u8(0).u8(1);
    let answer = |seed: Seed, how| seed.u8(8).u8(0).u8(0).u8(how);
    vec![
        answer(fetch(with("found", 3)), 5),
        answer(answer(answer(fetch(with("not-found", 3)), 3), 3), 3),
        answer(answer(fetch(with("busy", 3)), 0), 5)
            .u8(10)
            .u8(0)
            .u8(200)
            .u8(2),
        answer(answer(answer(insert(with("insert", 3)), 5).u8(3), 5).u8(3), 6),
        answer(insert(with("collision", 3)), 3),
        fetch(with("circuit-lost", 3))
            .u8(7)
            .u8(0)
            .u8(0)
            .u8(1)
            .u8(4)
            .u8(10)
            .u8(0)
            .u8(50)
            .u8(2),
        fetch(with("silence", 3))
            .u8(10)
            .u8(0)
            .u8(200)
            .u8(2)
            .u8(10)
            .u8(0)
            .u8(200)
            .u8(2),
        answer(fetch(with("no-hops", 0)), 5),
        fetch(with("job-closed", 1)).u8(4).u8(1).u8(255),
        fetch(Seed::new("nobody-known").u8(3).u8(0).u8(2).u8(0).u8(1).u8(0))
            .u8(11)
            .u8(0)
            .u8(200)
            .u8(40)
            .u8(5)
            .u8(0)
            .u8(1),
        (0..20)
            .fold(with("bulk", 2).u8(4).u8(1).u8(0), |seed, block| {
                seed.u8(2).u8(1).u8(0).u8(block).u8(0)
            })
            .u8(5)
            .u8(0)
            .u8(1),
    ]
}
