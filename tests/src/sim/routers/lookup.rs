//! Blocks that are there, and keys that nobody has, in an honest network.

use core::time::Duration;

use warren_keys::BlockId;
use warren_proto::{
    routing::{FETCH_BRANCHES, REPLICAS},
    time::Time,
};

use super::{Asked, RouterNet};
use crate::sim::{
    chart::{Chart, Line},
    draw::share_of,
    report::Findings,
    ring::Ring,
    scenario::{Lookup, Missing, NetworkSpec},
    stats::{OverTime, Sample},
};

/// Nodes that a block belongs on.
const HOLDERS: usize = REPLICAS + 1;

/// Inserts blocks, lets nodes die, fetches each block once from somewhere else.
#[must_use]
pub fn lookup(spec: &Lookup, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let (mut net, ring) = RouterNet::linked_ring(nodes, network, seed);
    let mut findings = Findings::default();
    describe_links(&net, &mut findings);
    let blocks = insert_all(&mut net, spec.blocks);
    describe_placing(&net, &ring, &blocks, &mut findings);
    let copies = net.holders().values().sum::<usize>() as f64 / spec.blocks as f64;
    findings.figure("copies of a block, mean", copies);
    for node in net.draw().distinct(share_of(spec.dead, nodes), nodes) {
        net.kill(node);
    }
    let holders = net.holders();
    let lost = blocks.iter().filter(|block| !holders.contains_key(block)).count();
    findings.figure("blocks without a holder", lost as f64 / spec.blocks as f64);
    net.settle();
    net.forget_loads();
    let begun = net.now();
    let asks: Vec<(usize, BlockId)> = blocks.iter().map(|block| (net.someone(true), *block)).collect();
    let asked = ask_all(&mut net, &asks, spec.rate, FETCH_BRANCHES);
    let results = Fetches::of(begun, &asked, spec.blocks);
    results.report(&mut findings);
    describe_loads(&net, &mut findings);
    findings.trace = net.trace();
    findings
}

/// Searches for keys that nobody has.
#[must_use]
pub fn missing(spec: &Missing, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let (mut net, _) = RouterNet::linked_ring(nodes, network, seed);
    let mut findings = Findings::default();
    describe_links(&net, &mut findings);
    let (mut messages, mut requests, mut took) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..spec.searches {
        let (node, block) = (net.someone(true), net.draw().block_id());
        if let Some(asked) = net.fetch_now(node, block, FETCH_BRANCHES) {
            messages.add(f64::from(asked.messages));
            requests.add(f64::from(asked.requests));
            took.add(asked.end.map_or(0.0, |(at, _)| at.since(asked.at).as_secs_f64()));
        }
        net.settle();
    }
    findings.figure("messages both ways, mean", messages.mean());
    findings.figure("messages both ways, p99", messages.quantile(0.99));
    findings.figure("messages both ways, most", messages.quantile(1.0));
    findings.figure("requests, mean", requests.mean());
    findings.figure("seconds, mean", took.mean());
    findings.charts.push(Chart {
        name: "messages".into(),
        title: format!("Messages for a key that nobody has, {nodes} nodes"),
        across: "messages, both ways".into(),
        up: "share of searches".into(),
        lines: vec![Line::measured("searches", messages.histogram())],
    });
    findings.trace = net.trace();
    findings
}

/// What came of fetches that were begun at known times.
pub(super) struct Fetches {
    hops: Sample,
    messages: Sample,
    seconds: Sample,
    found: usize,
    total: usize,
    hops_over_time: OverTime,
    success_over_time: OverTime,
}

/// One point of a chart for each of these.
const CHART_STEP: Duration = Duration::from_secs(5);

impl Fetches {
    pub(super) fn of(begun: Time, asked: &[Asked], total: usize) -> Self {
        let mut all = Self {
            hops: Sample::default(),
            messages: Sample::default(),
            seconds: Sample::default(),
            found: 0,
            total,
            hops_over_time: OverTime::new(CHART_STEP),
            success_over_time: OverTime::new(CHART_STEP),
        };
        for asked in asked {
            let at = Time(asked.at.0 - begun.0);
            all.success_over_time.add(at, f64::from(u8::from(asked.found())));
            if let Some((end, _)) = asked.end.filter(|_| asked.found()) {
                all.found += 1;
                all.hops.add(f64::from(asked.hops));
                all.hops_over_time.add(at, f64::from(asked.hops));
                all.messages.add(f64::from(asked.messages));
                all.seconds.add(end.since(asked.at).as_secs_f64());
            }
        }
        all
    }

    pub(super) fn report(mut self, findings: &mut Findings) {
        findings.figure("success", self.found as f64 / self.total as f64);
        findings.figure("hops, mean", self.hops.mean());
        findings.figure("hops, p99", self.hops.quantile(0.99));
        findings.figure("hops, most", self.hops.quantile(1.0));
        findings.figure("messages for a found block, mean", self.messages.mean());
        findings.figure("seconds, mean", self.seconds.mean());
        findings.figure("seconds, p99", self.seconds.quantile(0.99));
        findings.charts.push(Chart {
            name: "hops".into(),
            title: "Hops to a stored block".into(),
            across: "hops".into(),
            up: "share of fetches".into(),
            lines: vec![Line::measured("fetches", self.hops.histogram())],
        });
        let second = Duration::from_secs(1);
        findings.charts.push(Chart {
            name: "hops-over-time".into(),
            title: "Hops over time".into(),
            across: "seconds".into(),
            up: "mean hops".into(),
            lines: vec![Line::measured("hops", self.hops_over_time.points(second))],
        });
        findings.charts.push(Chart {
            name: "success-over-time".into(),
            title: "Success over time".into(),
            across: "seconds".into(),
            up: "share found".into(),
            lines: vec![Line::measured("found", self.success_over_time.points(second))],
        });
    }
}

/// Inserts so many blocks from anywhere and waits for all.
pub(in crate::sim) fn insert_all(net: &mut RouterNet, count: usize) -> Vec<BlockId> {
    let blocks: Vec<BlockId> = (0..count).map(|_| net.draw().block_id()).collect();
    for block in &blocks {
        // Not more at a time than an honest exit would take.
        let node = net.someone(true);
        net.insert(node, *block);
        let next = net.now() + Duration::from_millis(2);
        net.run_until(next);
    }
    net.settle();
    net.take_asked();
    blocks
}

/// Asks for blocks, `rate` of them a second; what became of each that was accepted.
pub(super) fn ask_all(net: &mut RouterNet, asks: &[(usize, BlockId)], rate: f64, branches: u8) -> Vec<Asked> {
    let pause = Duration::from_secs_f64(1.0 / rate);
    for (node, block) in asks {
        net.fetch(*node, *block, branches);
        let next = net.now() + pause;
        net.run_until(next);
    }
    net.settle();
    let mut asked: Vec<Asked> = net.take_asked().into_values().collect();
    asked.sort_by_key(|asked| asked.at);
    asked
}

/// Whether blocks are where they belong: on the five nodes nearest to their keys.
fn describe_placing(net: &RouterNet, ring: &Ring, blocks: &[BlockId], findings: &mut Findings) {
    let (mut held, mut first) = (0, 0);
    for block in blocks {
        let nearest = ring.nearest(block.key.location(), HOLDERS, |_| true);
        held += nearest.iter().filter(|node| net.stores(**node, block)).count();
        first += usize::from(net.stores(nearest[0], block));
    }
    let count = blocks.len() as f64;
    findings.figure(
        "of the five nearest nodes, share that hold",
        held as f64 / count / HOLDERS as f64,
    );
    findings.figure("nearest node holds, share", first as f64 / count);
}

pub(super) fn describe_links(net: &RouterNet, findings: &mut Findings) {
    let degrees = net.degrees();
    let mean = degrees.iter().sum::<usize>() as f64 / degrees.len() as f64;
    findings.figure("links a node, mean", mean);
    findings.figure(
        "links a node, most",
        degrees.iter().max().map_or(0.0, |most| *most as f64),
    );
}

/// How unevenly the work is shared out; a chart of it by rank.
///
/// A node's load is the requests that it handles, which is those of neighbours and those that it begins as an exit.
pub(super) fn describe_loads(net: &RouterNet, findings: &mut Findings) {
    let loads = net.loads();
    let mut handled: Vec<u64> = loads.iter().map(|(taken, begun)| taken + begun).collect();
    handled.sort_unstable_by(|a, b| b.cmp(a));
    let (busiest, total) = (handled[0], handled.iter().sum::<u64>().max(1) as f64);
    findings.figure("load of the busiest node, share", busiest as f64 / total);
    let taken: u64 = loads.iter().map(|(taken, _)| taken).sum();
    let most = loads.iter().map(|(taken, _)| *taken).max().unwrap_or_default();
    findings.figure(
        "share of the requests between neighbours at one node, most",
        most as f64 / taken.max(1) as f64,
    );
    findings.figure("requests from neighbours at one node, most", most as f64);
    let shown = handled.iter().take(500).enumerate();
    findings.charts.push(Chart {
        name: "load".into(),
        title: "Load of the busiest nodes".into(),
        across: "rank of the node".into(),
        up: "share of all requests handled".into(),
        lines: vec![Line::measured(
            "load",
            shown
                .map(|(rank, load)| (rank as f64 + 1.0, *load as f64 / total))
                .collect(),
        )],
    });
}
