//! How long a reader waits: the client's real machine, over circuits of nodes some of which never answer.
//!
//! ```text
//! client's Pool ─ request ─> trip of the circuit ─> exit's Router ─> … ─> answer ─> trip back ─> Pool
//! ```
//!
//! The same network, clients and blocks are run three times: with no hostile node, with some that never answer, and with
//! those but without hedging (`protocol §8.5`). A node that never answers lets no circuit stand in which it is entry or
//! relay; as an exit it takes part in the circuit and answers no request; as a router it answers no search. It kept what was
//! inserted before, and gives nothing of it out.
//!
//! Not modelled: bytes and their limits, so that all that takes time is distance and silence; other traffic.

use std::collections::BTreeMap;

use core::time::Duration;

use rand_core::SeedableRng;
use warren_keys::BlockId;
use warren_proto::{
    client::{Pool, PoolOutput, PoolSettings},
    core::api::{ClientCommand, ClientEvent},
    ids::{JobId, OpId, OriginId, RequestId},
    time::Time,
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult},
};

use super::{
    chart::{Chart, Line},
    draw::{Draw, share_of},
    known::{Known, WALL},
    report::Findings,
    routers::{Conduct, Outcome, RouterNet, lookup::insert_all},
    scenario::{Latency, NetworkSpec, Swallow},
    shelves::Zeros,
    stats::Sample,
};
use crate::net::schedule::Schedule;

/// Time that a client has before its first page, to build the circuits that it keeps ready.
const WARM: Duration = Duration::from_secs(20);
/// Pause between two pages.
const PAUSE: Duration = Duration::from_secs(2);
/// Steps of the chart.
const CHART_STEP_MS: f64 = 100.0;

/// Lets clients read pages of some blocks each, and measures how long each block took.
#[must_use]
pub fn latency(spec: &Latency, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut findings = Findings::default();
    let mut trace = blake3::Hasher::new();
    let cases = [
        ("nobody hostile", 0.0, true),
        ("with hedging", spec.droppers, true),
        ("without hedging", spec.droppers, false),
    ];
    let mut lines = Vec::new();
    for (name, droppers, hedging) in cases {
        let mut case = Case::new(spec, network, nodes, droppers, seed);
        for _ in 0..spec.clients {
            case.client(spec, hedging);
        }
        lines.push(Line::measured(name, case.took.tail(CHART_STEP_MS)));
        case.report(name, &mut findings);
        trace.update(&case.known.net.trace());
    }
    findings.note(format!(
        "{} clients read {} pages of {} blocks each, three hops; {} of the nodes never answer, as routers, relays and exits",
        spec.clients, spec.pages, spec.blocks, spec.droppers
    ));
    findings.charts.push(Chart {
        name: "waits".into(),
        title: "Blocks that take longer".into(),
        across: "milliseconds".into(),
        up: "share of blocks".into(),
        lines,
    });
    findings.trace = *trace.finalize().as_bytes();
    findings
}

/// One network and what its clients measured, in milliseconds.
struct Case {
    known: Known,
    draw: Draw,
    stored: Vec<BlockId>,
    took: Sample,
    pages: Sample,
    failed: usize,
    hedged: u64,
}

impl Case {
    fn new(spec: &Latency, network: &NetworkSpec, nodes: usize, droppers: f64, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut known = Known::new(network, nodes, &mut draw);
        let stored = insert_all(&mut known.net, spec.clients * spec.pages * spec.blocks);
        for node in draw.distinct(share_of(droppers, nodes), nodes) {
            known.net.corrupt(node, Conduct::Dropper, Swallow::Never);
        }
        Self {
            known,
            draw: Draw::new(seed),
            stored,
            took: Sample::default(),
            pages: Sample::default(),
            failed: 0,
            hedged: 0,
        }
    }

    /// One client's life.
    fn client(&mut self, spec: &Latency, hedging: bool) {
        let me = self.known.net.someone(true);
        let settings = PoolSettings {
            hedging,
            ..PoolSettings::new(self.known.ids[me])
        };
        let rng = rand_chacha::ChaCha20Rng::from_seed(self.draw.bytes());
        let mut client = Client::new(&self.known, me, Pool::new(settings, rng));
        client.run_for(&mut self.known, WARM);
        for page in 0..spec.pages {
            let blocks = self.stored.split_off(self.stored.len() - spec.blocks);
            let begun = client.now;
            let ends = client.read(&mut self.known, JobId(page as u64), &blocks);
            let millis = |end: Time| end.since(begun).as_secs_f64() * 1000.0;
            for end in ends {
                match end {
                    Some(end) => self.took.add(millis(end)),
                    None => self.failed += 1,
                }
            }
            self.pages.add(millis(client.now));
            client.run_for(&mut self.known, PAUSE);
        }
        self.hedged += client.pool.hedged();
        self.known.net.settle();
        self.known.net.take_asked();
    }

    fn report(&mut self, name: &str, findings: &mut Findings) {
        let all = (self.took.len() + self.failed) as f64;
        for (what, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0)] {
            findings.figure(
                format!("ms for a block, {name}, {what}"),
                self.took.quantile(share),
            );
        }
        findings.figure(format!("ms for a block, {name}, mean"), self.took.mean());
        findings.figure(format!("ms for a page, {name}, p50"), self.pages.quantile(0.5));
        findings.figure(format!("ms for a page, {name}, p99"), self.pages.quantile(0.99));
        findings.figure(
            format!("blocks that did not come, {name}"),
            self.failed as f64 / all,
        );
        findings.figure(
            format!("second attempts a block, {name}"),
            self.hedged as f64 / all,
        );
    }
}

enum Event {
    Ready(OriginId),
    Ask(OriginId, ExitRequest),
    Reply(OriginId, ExitReply),
}

struct Client {
    pool: Pool,
    me: usize,
    now: Time,
    schedule: Schedule<Event>,
    paths: BTreeMap<OriginId, Vec<usize>>,
    /// What exits are searching for.
    searches: BTreeMap<RequestId, (OriginId, u32, BlockId)>,
    ended: BTreeMap<OpId, (Time, bool)>,
    zeros: Zeros,
}

impl Client {
    fn new(known: &Known, me: usize, pool: Pool) -> Self {
        Self {
            pool,
            me,
            now: known.net.now(),
            schedule: Schedule::new(),
            paths: BTreeMap::new(),
            searches: BTreeMap::new(),
            ended: BTreeMap::new(),
            zeros: Zeros::default(),
        }
    }

    /// Fetches blocks at once, as one job; when each came.
    fn read(&mut self, known: &mut Known, job: JobId, blocks: &[BlockId]) -> Vec<Option<Time>> {
        self.ended.clear();
        self.pool
            .command(self.now, ClientCommand::OpenJob { job, bulk: false });
        for (block, number) in blocks.iter().zip(0..) {
            let fetch = ClientCommand::Fetch {
                job,
                op: OpId(number),
                block: *block,
                expendable: false,
                wait: Duration::ZERO,
            };
            self.pool.command(self.now, fetch);
        }
        self.drain(known);
        while self.ended.len() < blocks.len() && self.step(known, None) {}
        self.pool.command(self.now, ClientCommand::CloseJob(job));
        self.drain(known);
        let ends = self.ended.values();
        ends.map(|(at, well)| well.then_some(*at)).collect()
    }

    fn run_for(&mut self, known: &mut Known, time: Duration) {
        self.drain(known);
        let end = self.now + time;
        while self.step(known, Some(end)) {}
        known.net.run_until(end);
        self.now = end;
    }

    /// What happens next, unless that is after `end`.
    fn step(&mut self, known: &mut Known, end: Option<Time>) -> bool {
        let timeout = self.pool.poll_timeout().map(|time| time.max(self.now));
        let event = self.schedule.next();
        let own = event.into_iter().chain(timeout).min();
        let network = known.net.next();
        let Some(next) = own.into_iter().chain(network).min() else {
            return false;
        };
        if end.is_some_and(|end| next > end) {
            return false;
        }
        known.net.run_until(next);
        self.now = self.now.max(next);
        if network == Some(next) {
            self.collect(known);
        } else if event == Some(next) {
            match self.schedule.pop().map(|(_, event)| event) {
                Some(Event::Ready(origin)) => self.pool.origin_ready(self.now, origin),
                Some(Event::Ask(origin, request)) => self.ask(known, origin, &request),
                Some(Event::Reply(origin, reply)) => self.pool.origin_reply(self.now, origin, reply),
                None => {}
            }
        } else {
            self.pool.handle_timeout(self.now);
        }
        self.drain(known);
        true
    }

    /// Takes what exits have found.
    fn collect(&mut self, known: &mut Known) {
        let open: Vec<RequestId> = self.searches.keys().copied().collect();
        for request in open {
            let Some((_, outcome)) = known.net.ended(request).and_then(|asked| asked.end) else {
                continue;
            };
            let Some((origin, id, block)) = self.searches.remove(&request) else {
                continue;
            };
            let result = match outcome {
                Outcome::Found => ExitResult::Found(self.zeros.block(block)),
                Outcome::NotFound => ExitResult::NotFound,
                Outcome::Stored(_) | Outcome::Failed => ExitResult::Failed,
            };
            let trip = self.trip(&known.net, origin);
            let reply = Event::Reply(origin, ExitReply { id, result });
            self.schedule.at(self.now + trip, reply);
        }
    }

    /// A request arrives at the exit.
    fn ask(&mut self, known: &mut Known, origin: OriginId, request: &ExitRequest) {
        let exit = self.paths.get(&origin).and_then(|path| path.last());
        if let Some(exit) = exit.filter(|exit| known.net.is_honest(**exit))
            && let ExitOp::Fetch { block, branches, .. } = request.op
            && let Some(search) = known.net.fetch(*exit, block, branches)
        {
            self.searches.insert(search, (origin, request.id, block));
        }
    }

    fn drain(&mut self, known: &Known) {
        while let Some(output) = self.pool.poll(self.now, WALL, &known.view) {
            match output {
                PoolOutput::Open { origin, path } => {
                    let path: Vec<usize> = path.iter().map(|hop| known.index[&hop.identity]).collect();
                    let before_exit = &path[..path.len() - 1];
                    let stands = before_exit.iter().all(|hop| known.net.is_honest(*hop));
                    self.paths.insert(origin, path);
                    if stands {
                        // The circuit stands when its exit's answer to the one message that builds it is back.
                        let trip = self.trip(&known.net, origin);
                        self.schedule.at(self.now + trip * 2, Event::Ready(origin));
                    }
                }
                PoolOutput::Send { origin, request } => {
                    let trip = self.trip(&known.net, origin);
                    self.schedule.at(self.now + trip, Event::Ask(origin, request));
                }
                PoolOutput::Client(ClientEvent::Fetched { op, result, .. }) => {
                    self.ended.insert(op, (self.now, result.is_ok()));
                }
                PoolOutput::Close(_)
                | PoolOutput::Entries(_)
                | PoolOutput::LocalExit { .. }
                | PoolOutput::Client(_) => {}
            }
        }
    }

    /// One way through a circuit.
    fn trip(&self, net: &RouterNet, origin: OriginId) -> Duration {
        let hops = self.paths.get(&origin).into_iter().flatten();
        let (trip, _) = hops.fold((Duration::ZERO, self.me), |(trip, from), to| {
            (trip + net.latency(from, *to), *to)
        });
        trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_costs_time_and_a_second_attempt_saves_some_of_it() {
        let spec = Latency {
            droppers: 0.1,
            clients: 6,
            pages: 4,
            blocks: 3,
        };
        let network = NetworkSpec::default();
        let first = latency(&spec, &network, 150, 1);
        let mean = |name: &str| first.figures[&format!("ms for a block, {name}, mean")];
        assert!(mean("nobody hostile") < 1000.0, "{:?}", first.figures);
        assert!(mean("nobody hostile") < mean("with hedging"));
        assert!(mean("with hedging") < mean("without hedging"));
        assert!(first.figures["blocks that did not come, nobody hostile"].abs() < 1e-9);
    }
}
