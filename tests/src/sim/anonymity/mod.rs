//! Who can tie a client to a key, when a share *f* of all nodes works for one adversary.
//!
//! ```text
//! client's Pool ─ path ─> entry … exit ─> Router ─> node ─> node …
//!      (real)              knows    knows   each knows the key
//!                          client   key
//! ```
//!
//! The circuits are those that the client's real machine asks for ([`warren_proto::client::Pool`]: pinned entries, distinct
//! hops, one address range each), the nodes that see the key those that real routers ask. Which node holds which knowledge is
//! not assumed here but tested on whole nodes (`tests/it/privacy`): the entry alone sees the client, the exit and the nodes
//! that route see the key, the hops between them neither.
//!
//! Two events are counted:
//!
//! - **both ends**: the adversary has the entry *and* the exit of one circuit. Timing and volume link the two ends of a circuit
//!   almost surely, so the client and the key are linked. Closed form *f*² for a circuit.
//! - **entry and any**: he has the entry, and the exit *or any node that the request was routed to*. Those see the key at about
//!   the time at which the entry sees a packet. With little traffic that is a link too, with much it is a suspicion: an upper
//!   bound. Closed form *f*·(1 − (1 − *f*)^(1 + *h*)) for a circuit, *h* the nodes that a search comes to.
//!
//! With one hop the exit knows the client: *f*. With none each neighbour that is asked knows by the hop count that the client
//! itself asks: *f* for a search that asks one neighbour, and after many searches every neighbour has been asked.
//!
//! Not counted: an adversary who watches lines, who makes honest entries fail until the client takes his, or who knows what the
//! client is likely to read.

mod forms;

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use rand_core::SeedableRng;
use warren_keys::BlockId;
use warren_proto::{
    client::{Pool, PoolOutput, PoolSettings},
    core::api::ClientCommand,
    ids::{JobId, OpId},
    routing::FETCH_BRANCHES,
    time::Time,
    wire::{ExitReply, ExitResult},
};

use self::forms::{Form, Measure};
use super::{
    chart::{Chart, Line},
    draw::{Draw, share_of},
    known::{Known, WALL},
    report::Findings,
    scenario::{Anonymity, NetworkSpec},
};

/// How many circuits a client has used at the points of the charts.
const POINTS: [usize; 7] = [1, 2, 5, 10, 20, 50, 100];

/// How a client chooses entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Entry {
    /// One for all circuits: the client keeps what it has pinned.
    Pinned,
    /// A new one each time: a client that forgets what it has pinned.
    Fresh,
}

/// Who took part in one circuit and its search.
struct Circuit {
    /// None without hops.
    entry: Option<usize>,
    /// The client itself without hops.
    exit: usize,
    /// Nodes that the search came to.
    routed: Vec<usize>,
    /// Those of them that the exit asked itself.
    asked: Vec<usize>,
}

/// All circuits of one client.
type History = Vec<Circuit>;

/// Lets clients use circuits and counts what adversaries of several sizes learn.
#[must_use]
pub fn anonymity(spec: &Anonymity, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut world = World::new(network, nodes, seed);
    let mut findings = Findings::default();
    let mut worst: f64 = 0.0;
    let (mut over_circuits, mut over_hops) = (Vec::new(), BTreeMap::new());
    for hops in &spec.hops {
        // Without a hop, or with the exit alone, there is no entry to pin.
        let kinds: &[Entry] = if *hops < 2 {
            &[Entry::Fresh]
        } else {
            &[Entry::Pinned, Entry::Fresh]
        };
        for entry in kinds {
            let histories: Vec<History> = (0..spec.clients)
                .map(|_| world.client(*hops, *entry, spec.circuits))
                .collect();
            for fraction in &spec.fractions {
                let form = Form::new(&histories, *fraction, *hops, *entry);
                let measure = Measure::new(&histories, *fraction, *hops, spec.draws, &mut world);
                for circuits in [1, spec.circuits] {
                    let (is, should) = (measure.after(circuits), form.after(circuits));
                    let kind = match (hops, entry) {
                        (0 | 1, _) => String::new(),
                        (_, Entry::Pinned) => ", pinned entry".to_owned(),
                        (_, Entry::Fresh) => ", fresh entries".to_owned(),
                    };
                    let name = format!("f {fraction:.2}, {hops} hops{kind}, {circuits} circuits");
                    let mut put = |what: &str, is: f64, should: f64| {
                        worst = worst.max((is - should).abs());
                        findings.figure(format!("{name}, {what}"), is);
                        findings.figure(format!("{name}, {what}, closed form"), should);
                    };
                    put("both ends", is.both_ends, should.both_ends);
                    if *hops >= 2 {
                        put("entry and any", is.entry_and_any, should.entry_and_any);
                    }
                    if circuits == spec.circuits {
                        let line = format!("f {fraction:.2}{kind}");
                        let points: &mut Vec<(f64, f64)> = over_hops.entry(line).or_default();
                        points.push((*hops as f64, is.both_ends));
                    }
                }
                if *hops == 3 && (*fraction - 0.1).abs() < 1e-9 {
                    over_circuits.extend(lines(&measure, &form, *entry, spec.circuits));
                }
            }
        }
    }
    findings.figure("largest difference from a closed form", worst);
    findings.figure("nodes that a search comes to, mean", world.searched());
    findings.note(format!(
        "{} clients of {} circuits each, {} adversaries drawn for each client and share",
        spec.clients, spec.circuits, spec.draws
    ));
    findings.charts.push(Chart {
        name: "circuits".into(),
        title: "Client and key linked, 3 hops, adversary with 10 % of the nodes".into(),
        across: "circuits used".into(),
        up: "probability".into(),
        lines: over_circuits,
    });
    findings.charts.push(Chart {
        name: "hops".into(),
        title: format!(
            "Client and key linked by both ends after {} circuits",
            spec.circuits
        ),
        across: "hops".into(),
        up: "probability".into(),
        lines: over_hops
            .into_iter()
            .map(|(name, points)| Line::measured(name, points))
            .collect(),
    });
    findings.trace = world.trace();
    findings
}

fn lines(measure: &Measure, form: &Form, entry: Entry, most: usize) -> Vec<Line> {
    let kind = if entry == Entry::Pinned { "pinned" } else { "fresh" };
    let points = |of: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        let used = POINTS.into_iter().filter(|circuits| *circuits <= most);
        used.map(|circuits| (circuits as f64, of(circuits))).collect()
    };
    vec![
        Line::measured(
            format!("{kind}, both ends"),
            points(&|n| measure.after(n).both_ends),
        ),
        Line::computed(format!("{kind}, form"), points(&|n| form.after(n).both_ends)),
        Line::measured(
            format!("{kind}, entry + any"),
            points(&|n| measure.after(n).entry_and_any),
        ),
        Line::computed(format!("{kind}, form"), points(&|n| form.after(n).entry_and_any)),
    ]
}

/// Nodes that clients know.
struct World {
    known: Known,
    draw: Draw,
    trace: blake3::Hasher,
    searches: (usize, usize),
}

impl World {
    fn new(spec: &NetworkSpec, nodes: usize, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut known = Known::new(spec, nodes, &mut draw);
        known.net.watch();
        Self {
            known,
            draw,
            trace: blake3::Hasher::new(),
            searches: (0, 0),
        }
    }

    /// One client's life: so many circuits, each for a key of its own.
    fn client(&mut self, hops: usize, entry: Entry, circuits: usize) -> History {
        let me = self.draw.below(self.known.ids.len());
        let mut pool = self.pool(me, hops);
        (0..circuits)
            .map(|number| {
                if entry == Entry::Fresh {
                    pool = self.pool(me, hops);
                }
                let block = self.draw.block_id();
                let publisher = self.known.net.someone(true);
                self.known.net.insert_now(publisher, block);
                let path = self.path(&mut pool, number as u64, block);
                self.search(me, &path, block)
            })
            .collect()
    }

    fn pool(&mut self, me: usize, hops: usize) -> Pool {
        let settings = PoolSettings {
            hops,
            spares: 0,
            ..PoolSettings::new(self.known.ids[me])
        };
        Pool::new(settings, rand_chacha::ChaCha20Rng::from_seed(self.draw.bytes()))
    }

    /// Has a client fetch a block as a job of its own; the hops of the circuit that it sends the request through.
    fn path(&mut self, pool: &mut Pool, number: u64, block: BlockId) -> Vec<usize> {
        let (job, now) = (JobId(number), Time(number * 1_000_000));
        pool.command(now, ClientCommand::OpenJob { job, bulk: false });
        let fetch = ClientCommand::Fetch {
            job,
            op: OpId(0),
            block,
            expendable: true,
            wait: Duration::ZERO,
        };
        pool.command(now, fetch);
        let mut paths = BTreeMap::new();
        let mut used = Vec::new();
        while let Some(output) = pool.poll(now, WALL, &self.known.view) {
            match output {
                PoolOutput::Open { origin, path } => {
                    let hops: Vec<usize> = path.iter().map(|hop| self.known.index[&hop.identity]).collect();
                    paths.insert(origin, hops);
                    pool.origin_ready(now, origin);
                }
                PoolOutput::Send { origin, request } | PoolOutput::LocalExit { origin, request } => {
                    used = paths.get(&origin).cloned().unwrap_or_default();
                    let result = ExitResult::NotFound;
                    pool.origin_reply(
                        now,
                        origin,
                        ExitReply {
                            id: request.id,
                            result,
                        },
                    );
                }
                PoolOutput::Client(_) => pool.command(now, ClientCommand::CloseJob(job)),
                PoolOutput::Close(_) | PoolOutput::Entries(_) => {}
            }
        }
        for hop in &used {
            self.trace.update(&hop.to_be_bytes());
        }
        used
    }

    fn search(&mut self, me: usize, path: &[usize], block: BlockId) -> Circuit {
        let exit = path.last().copied().unwrap_or(me);
        let request = if path.is_empty() {
            self.known.net.fetch_own(exit, block, FETCH_BRANCHES)
        } else {
            self.known.net.fetch(exit, block, FETCH_BRANCHES)
        };
        let seen = request.map_or_else(Vec::new, |request| self.known.net.finish(request).seen_by);
        self.known.net.settle();
        let routed: BTreeSet<usize> = seen.iter().map(|(_, to)| *to).collect();
        self.searches.0 += routed.len();
        self.searches.1 += 1;
        let asked = seen.iter().filter(|(from, _)| *from == exit);
        Circuit {
            entry: path.first().copied(),
            exit,
            asked: asked.map(|(_, to)| *to).collect(),
            routed: routed.into_iter().collect(),
        }
    }

    /// Nodes that work for the adversary.
    fn hostile(&mut self, fraction: f64) -> Vec<bool> {
        let count = self.known.ids.len();
        let mut hostile = vec![false; count];
        for node in self.draw.distinct(share_of(fraction, count), count) {
            hostile[node] = true;
        }
        hostile
    }

    fn searched(&self) -> f64 {
        self.searches.0 as f64 / self.searches.1.max(1) as f64
    }

    fn trace(&mut self) -> [u8; 32] {
        self.trace.update(&self.known.net.trace());
        *self.trace.finalize().as_bytes()
    }
}
