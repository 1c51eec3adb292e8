//! Networks that form themselves: nodes know a seed and nothing else.

use core::time::Duration;

use warren_keys::BlockId;
use warren_proto::{
    ids::JobId,
    time::Time,
    topology::{NEAR_PER_SIDE, WANTED_LINKS},
};

use super::CoreNet;
use crate::sim::{
    chart::{Chart, Line},
    report::Findings,
    ring::Ring,
    scenario::{Crowd, Joined, NetworkSpec},
    stats::Sample,
};

/// Links that a full member has at least.
const FLOOR: usize = 20;
/// How often members are counted.
const LOOK: Duration = Duration::from_secs(5);
/// The longest that the last operations may take; those that are still open then have failed.
const LAST_OPS: Duration = Duration::from_secs(60);
/// How often it is looked whether all have ended.
const OPS_LOOK: Duration = Duration::from_secs(1);

/// Nodes join one after another; then blocks are inserted and fetched over the links that formed.
#[must_use]
pub fn joined(spec: &Joined, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut net = CoreNet::new(nodes, spec.seeds, network, seed);
    let mut findings = Findings::default();
    let last = start_all(&mut net, spec.rate);
    let watch = follow(&mut net, last, Duration::from_secs(spec.settle_s));
    watch.report(&net, &mut findings);
    describe(&net, &mut findings);
    let blocks: Vec<BlockId> = (0..spec.blocks).map(|_| net.draw().block_id()).collect();
    let inserts = run_ops(&mut net, &blocks, CoreNet::insert);
    let stored = inserts
        .iter()
        .filter(|job| net.op(**job).end.is_some_and(|(_, well)| well));
    findings.figure("inserted", stored.count() as f64 / spec.blocks as f64);
    let fetches = run_ops(&mut net, &blocks, CoreNet::fetch);
    let (mut hops, mut found) = (Sample::default(), 0);
    for job in fetches {
        let op = net.op(job);
        if op.end.is_some_and(|(_, well)| well) {
            found += 1;
            hops.add(f64::from(op.hops));
        }
    }
    findings.figure("success", f64::from(found) / spec.blocks as f64);
    findings.figure("hops, mean", hops.mean());
    findings.figure("hops, p99", hops.quantile(0.99));
    findings.figure("hops, most", hops.quantile(1.0));
    findings.charts.push(Chart {
        name: "hops".into(),
        title: "Hops to a stored block, over links that formed by themselves".into(),
        across: "hops".into(),
        up: "share of fetches".into(),
        lines: vec![Line::measured("fetches", hops.histogram())],
    });
    findings.trace = net.trace();
    findings
}

/// Many nodes join within a short time through one seed.
#[must_use]
pub fn crowd(spec: &Crowd, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut net = CoreNet::new(nodes, 1, network, seed);
    let mut findings = Findings::default();
    let last = start_all(&mut net, nodes as f64 / spec.within_s);
    let watch = follow(&mut net, last, Duration::from_secs(spec.settle_s));
    watch.report(&net, &mut findings);
    describe(&net, &mut findings);
    let span = net.now().since(Time(0)).as_secs_f64();
    let at_seed = net.traffic(0);
    let others = (1..nodes).map(|node| net.traffic(node).bytes).sum::<u64>() as f64 / (nodes - 1) as f64;
    findings.figure("seed: connections accepted", at_seed.accepted as f64);
    findings.figure("seed: frames a second, mean", at_seed.frames as f64 / span);
    findings.figure("seed: KiB a second, mean", at_seed.bytes as f64 / 1024.0 / span);
    findings.figure("seed: KiB a second, busiest 5 s", watch.seed_peak / 1024.0);
    findings.figure(
        "seed: bytes, as a multiple of another node's",
        at_seed.bytes as f64 / others.max(1.0),
    );
    findings.figure("seed: links, most", watch.seed_links as f64);
    findings.trace = net.trace();
    findings
}

/// Starts all nodes, so many a second; when the last one does.
fn start_all(net: &mut CoreNet, rate: f64) -> Time {
    let mut at = Time(0);
    for node in 0..net.len() {
        net.start_at(node, at);
        at = at + Duration::from_secs_f64(1.0 / rate);
    }
    at
}

/// Begins one operation a block, from anywhere, and waits for all.
fn run_ops(
    net: &mut CoreNet,
    blocks: &[BlockId],
    begin: impl Fn(&mut CoreNet, usize, BlockId) -> JobId,
) -> Vec<JobId> {
    let jobs = blocks.iter().map(|block| {
        let count = net.len();
        let node = net.draw().below(count);
        let job = begin(net, node, *block);
        let next = net.now() + Duration::from_millis(5);
        net.run_until(next);
        job
    });
    let jobs: Vec<JobId> = jobs.collect();
    let end = net.now() + LAST_OPS;
    let mut open = jobs.clone();
    while net.now() < end && !open.is_empty() {
        let next = net.now() + OPS_LOOK;
        net.run_until(next);
        open.retain(|job| net.op(*job).end.is_none());
    }
    jobs
}

/// How membership grew.
struct Watch {
    /// Seconds, and the share of the started nodes that were full members then.
    members: Vec<(f64, f64)>,
    /// The same for the whole network's average of links.
    links: Vec<(f64, f64)>,
    /// Seconds after the last start at which all were full members.
    complete: Option<f64>,
    seed_peak: f64,
    seed_links: usize,
    last: Time,
}

fn follow(net: &mut CoreNet, last: Time, settle: Duration) -> Watch {
    let mut watch = Watch {
        members: Vec::new(),
        links: Vec::new(),
        complete: None,
        seed_peak: 0.0,
        seed_links: 0,
        last,
    };
    let mut before = 0;
    while net.now() < last + settle {
        let next = net.now() + LOOK;
        net.run_until(next);
        let bytes = net.traffic(0).bytes;
        watch.seed_peak = watch.seed_peak.max((bytes - before) as f64 / LOOK.as_secs_f64());
        before = bytes;
        watch.seed_links = watch.seed_links.max(net.peers(0).len());
        let view = Members::count(net);
        let at = net.now().since(Time(0)).as_secs_f64();
        watch
            .members
            .push((at, view.full as f64 / view.started.max(1) as f64));
        watch
            .links
            .push((at, view.links as f64 / view.started.max(1) as f64));
        if view.full < net.len() {
            watch.complete = None;
        } else if watch.complete.is_none() && net.now() >= last {
            watch.complete = Some(net.now().since(last).as_secs_f64());
        }
    }
    watch
}

impl Watch {
    fn report(&self, net: &CoreNet, findings: &mut Findings) {
        let view = Members::count(net);
        findings.figure(
            "near links right, share",
            view.near_right as f64 / view.near_wanted.max(1) as f64,
        );
        findings.figure("full members, share", view.full as f64 / net.len() as f64);
        let never = net.now().since(self.last).as_secs_f64() + LOOK.as_secs_f64();
        findings.figure(
            "seconds until all are full members, after the last start",
            self.complete.unwrap_or(never),
        );
        if self.complete.is_none() {
            findings.note("not all nodes were full members at the end");
        }
        findings.charts.push(Chart {
            name: "members".into(),
            title: "Full members".into(),
            across: "seconds".into(),
            up: "share of the nodes that have started".into(),
            lines: vec![Line::measured("members", self.members.clone())],
        });
        findings.charts.push(Chart {
            name: "links".into(),
            title: "Links".into(),
            across: "seconds".into(),
            up: "links a node".into(),
            lines: vec![Line::measured("links", self.links.clone())],
        });
    }
}

/// Who is a full member: linked to its nearest nodes on both sides, and to as many as the floor says.
struct Members {
    started: usize,
    full: usize,
    links: usize,
    near_right: usize,
    near_wanted: usize,
}

impl Members {
    fn count(net: &CoreNet) -> Self {
        let started: Vec<usize> = (0..net.len())
            .filter(|node| net.status(*node).is_some())
            .collect();
        let (ring, names) = Ring::of(started.iter().map(|node| net.place(*node)).collect());
        let mut members = Self {
            started: started.len(),
            full: 0,
            links: 0,
            near_right: 0,
            near_wanted: 0,
        };
        let count = ring.len();
        let near = NEAR_PER_SIDE.min(count.saturating_sub(1) / 2);
        for rank in 0..count {
            let peers = net.peers(started[names[rank]]);
            let wanted = (1..=near).flat_map(|step| [(rank + step) % count, (rank + count - step) % count]);
            let right = wanted
                .filter(|other| peers.contains(&started[names[*other]]))
                .count();
            members.links += peers.len();
            members.near_right += right;
            members.near_wanted += 2 * near;
            let enough = peers.len() >= FLOOR.min(count - 1);
            members.full += usize::from(right == 2 * near && enough);
        }
        members
    }
}

fn describe(net: &CoreNet, findings: &mut Findings) {
    let (mut links, mut known) = (Sample::default(), Sample::default());
    for status in (0..net.len()).filter_map(|node| net.status(node)) {
        links.add(status.links.len() as f64);
        known.add(status.known_nodes as f64);
    }
    findings.figure("links a node, mean", links.mean());
    findings.figure("links a node, fewest", links.quantile(0.0));
    findings.figure("links a node, most", links.quantile(1.0));
    findings.figure("descriptors known, mean", known.mean());
    let frames: u64 = (0..net.len()).map(|node| net.traffic(node).frames).sum();
    let bytes: u64 = (0..net.len()).map(|node| net.traffic(node).bytes).sum();
    let per = |count: u64| count as f64 / net.len() as f64 / net.now().since(Time(0)).as_secs_f64();
    findings.figure("frames a node and second", per(frames));
    findings.figure("KiB a node and second", per(bytes) / 1024.0);
    findings.note(format!(
        "a full member is linked to its {NEAR_PER_SIDE} nearest nodes on each side and to at least {FLOOR} of the {WANTED_LINKS} that it wants"
    ));
}
