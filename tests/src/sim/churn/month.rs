//! A month of churn: how many copies there are, and how often a block can be had.

use std::collections::BTreeMap;

use core::time::Duration;

use warren_keys::{BLOCK_SIZE, BlockId};
use warren_proto::{
    routing::{FETCH_BRANCHES, MAX_BRANCHES},
    time::Time,
};

use super::ChurnNet;
use crate::{
    net::schedule::Schedule,
    sim::{
        chart::{Chart, Line},
        report::Findings,
        scenario::{Churn, NetworkSpec},
        stats::Sample,
    },
};

const HOUR: Duration = Duration::from_secs(3600);
/// Hours in which a block counts as available "within a day".
const DAY: usize = 24;
/// Before anything is inserted: the nodes come to know each other.
const WARM_UP_HOURS: u64 = 72;
/// A fetch that has not ended after this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Copies that there shall be of a block.
const WANTED_COPIES: f64 = 5.0;
/// Exits that search for one block.
const EXITS: usize = 3;

enum Turn {
    /// A node comes online or goes offline, whichever it is not.
    Switch(usize),
    /// A node is gone for good.
    Vanish(usize),
}

/// Nodes and their fates.
struct Lives {
    turns: Schedule<Turn>,
    online: f64,
    offline: f64,
    life: f64,
}

impl Lives {
    fn new(spec: &Churn) -> Self {
        let hour = HOUR.as_secs_f64();
        Self {
            turns: Schedule::new(),
            online: spec.online_h * hour,
            offline: spec.offline_h * hour,
            // So that the share that is gone after a week is as said.
            life: -7.0 * 24.0 * hour / (1.0 - spec.gone_per_week).ln(),
        }
    }

    fn later(&mut self, net: &mut ChurnNet, mean: f64, turn: Turn) {
        let wait = Duration::from_secs_f64(net.draw().exponential(mean));
        self.turns.at(net.now() + wait, turn);
    }

    /// A new node, which is online at first with the share of time that nodes are.
    fn be_born(&mut self, net: &mut ChurnNet, online: bool) {
        let node = net.add();
        if online {
            net.come(node);
        }
        let mean = if online { self.online } else { self.offline };
        self.later(net, mean, Turn::Switch(node));
        if self.life.is_finite() {
            self.later(net, self.life, Turn::Vanish(node));
        }
    }

    fn run_until(&mut self, net: &mut ChurnNet, time: Time) {
        while self.turns.next().is_some_and(|next| next <= time) {
            let Some((at, turn)) = self.turns.pop() else { break };
            net.run_until(at);
            match turn {
                Turn::Switch(node) if net.is_gone(node) => {}
                Turn::Switch(node) => {
                    let goes = net.is_online(node);
                    if goes {
                        net.go(node);
                    } else {
                        net.come(node);
                    }
                    let mean = if goes { self.offline } else { self.online };
                    self.later(net, mean, Turn::Switch(node));
                }
                Turn::Vanish(node) => {
                    net.vanish(node);
                    // Whoever takes its place begins online: it has just been installed.
                    self.be_born(net, true);
                }
            }
        }
        net.run_until(time);
    }
}

/// What was seen hour by hour.
#[derive(Default)]
struct Diary {
    /// For each block, for each hour, whether some online node held it.
    there: BTreeMap<BlockId, Vec<bool>>,
    copies: Vec<(f64, f64)>,
    available: Vec<(f64, f64)>,
    found: Vec<(f64, f64)>,
    traffic: Vec<(f64, f64)>,
    at_once: Sample,
    by_three: Sample,
}

/// Lets nodes come and go for days and looks at the blocks.
#[must_use]
pub fn churn(spec: &Churn, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut net = ChurnNet::new(network, seed);
    let mut lives = Lives::new(spec);
    let share = lives.online / (lives.online + lives.offline);
    for _ in 0..nodes {
        let online = net.draw().chance(share);
        lives.be_born(&mut net, online);
    }
    let begin = Time(0) + HOUR * u32::try_from(WARM_UP_HOURS).unwrap_or(u32::MAX);
    lives.run_until(&mut net, begin);
    let blocks: Vec<BlockId> = (0..spec.blocks).map(|_| net.draw().block_id()).collect();
    for block in &blocks {
        let node = net.someone();
        net.insert(node, *block);
        let next = net.now() + Duration::from_millis(20);
        lives.run_until(&mut net, next);
    }
    let mut diary = Diary::default();
    let mut moved = net.moved();
    for hour in 0..spec.days * 24 {
        let next = begin + HOUR * (hour + 1);
        lives.run_until(&mut net, next);
        diary.look(&mut net, &blocks, hour);
        diary.fetch(&mut net, &blocks, spec.fetches_per_hour, hour);
        if hour % 24 == 23 {
            let handed = net.moved().blocks - moved.blocks;
            let stored: u64 = net.copies().values().map(|(all, _)| u64::from(*all)).sum();
            diary
                .traffic
                .push((days(hour), handed as f64 / stored.max(1) as f64));
            moved = net.moved();
        }
    }
    let mut findings = diary.report(&blocks);
    let block = BLOCK_SIZE as f64;
    findings.figure("blocks a node", spec.blocks as f64 * 5.0 / nodes as f64);
    findings.figure(
        "repair, MiB in all",
        net.moved().blocks as f64 * block / f64::from(1 << 20),
    );
    findings.figure(
        "questions: names of blocks asked, in all",
        net.moved().names as f64,
    );
    findings.trace = net.trace();
    findings
}

fn days(hour: u32) -> f64 {
    f64::from(hour + 1) / 24.0
}

impl Diary {
    fn look(&mut self, net: &mut ChurnNet, blocks: &[BlockId], hour: u32) {
        let copies = net.copies();
        let (mut all, mut there) = (0_u64, 0_u64);
        for block in blocks {
            let (held, online) = copies.get(block).copied().unwrap_or_default();
            all += u64::from(held);
            there += u64::from(online > 0);
            self.there.entry(*block).or_default().push(online > 0);
        }
        let share = |count: u64| count as f64 / blocks.len() as f64;
        self.copies.push((days(hour), share(all)));
        self.available.push((days(hour), share(there)));
    }

    /// Real searches, by one exit and by up to three.
    fn fetch(&mut self, net: &mut ChurnNet, blocks: &[BlockId], count: usize, hour: u32) {
        let mut found = 0;
        for _ in 0..count {
            let block = blocks[net.draw().below(blocks.len())];
            let (mut first, mut third) = (false, false);
            for exit in 0..EXITS {
                let branches = if exit == 0 { FETCH_BRANCHES } else { MAX_BRANCHES };
                let came = search(net, block, branches);
                first |= came && exit == 0;
                third |= came;
                if came {
                    break;
                }
            }
            found += u32::from(first);
            self.at_once.add(f64::from(u8::from(first)));
            self.by_three.add(f64::from(u8::from(third)));
        }
        if count > 0 {
            self.found.push((days(hour), f64::from(found) / count as f64));
        }
    }

    fn report(self, blocks: &[BlockId]) -> Findings {
        let mut findings = Findings::default();
        let (mut hours, mut there, mut within) = (0_u64, 0_u64, 0_u64);
        for seen in self.there.values() {
            // The last hours have no whole day after them.
            for hour in 0..seen.len().saturating_sub(DAY) {
                hours += 1;
                there += u64::from(seen[hour]);
                within += u64::from(seen[hour..=hour + DAY].contains(&true));
            }
        }
        let share = |count: u64| count as f64 / hours.max(1) as f64;
        let mean = |points: &[(f64, f64)]| {
            points.iter().map(|(_, value)| value).sum::<f64>() / points.len().max(1) as f64
        };
        let last = self.available.len().saturating_sub(DAY);
        let lost = blocks
            .iter()
            .filter(|block| !self.there[block][last..].contains(&true))
            .count();
        findings.figure("online at a holder", share(there));
        findings.figure("online at a holder within 24 h", share(within));
        findings.figure("found at once, one exit", self.at_once.mean());
        findings.figure("found at once, up to three exits", self.by_three.mean());
        findings.figure("copies of a block, mean", mean(&self.copies));
        let most = self.copies.iter().map(|point| point.1).fold(0.0, f64::max);
        findings.figure("copies of a block, mean, in the hour when most", most);
        let above = self.copies.iter().rposition(|point| point.1 > WANTED_COPIES);
        findings.figure(
            "days until never again above 5 copies, mean of all blocks",
            above.map_or(0.0, |hour| (hour + 1) as f64 / DAY as f64),
        );
        findings.figure(
            "copies of a block, at the end",
            self.copies.last().map_or(0.0, |point| point.1),
        );
        findings.figure("repair a day, share of the stored bytes", mean(&self.traffic));
        let busiest = self.traffic.iter().map(|point| point.1).fold(0.0, f64::max);
        findings.figure("repair on the busiest day, share of the stored bytes", busiest);
        findings.figure(
            "not seen on the last day, share",
            lost as f64 / blocks.len() as f64,
        );
        findings.note(
            "\"online at a holder\": some node that is online has it in its store; copies that stores have given up still answer searches",
        );
        findings.charts.push(chart(
            "copies",
            "Copies of a block",
            "copies",
            vec![Line::measured("copies", self.copies)],
        ));
        findings.charts.push(chart(
            "success",
            "Blocks that can be had",
            "share",
            vec![
                Line::measured("online at a holder", self.available),
                Line::measured("found, one exit", self.found),
            ],
        ));
        findings.charts.push(chart(
            "load",
            "Repair",
            "share of the stored bytes a day",
            vec![Line::measured("handed over", self.traffic)],
        ));
        findings
    }
}

fn chart(name: &str, title: &str, up: &str, lines: Vec<Line>) -> Chart {
    Chart {
        name: name.to_owned(),
        title: title.to_owned(),
        across: "days".to_owned(),
        up: up.to_owned(),
        lines,
    }
}

fn search(net: &mut ChurnNet, block: BlockId, branches: u8) -> bool {
    let node = net.someone();
    let Some(request) = net.fetch(node, block, branches) else {
        return false;
    };
    let end = net.now() + PATIENCE;
    while net.now() < end {
        if let Some(well) = net.take_end(node, request) {
            return well;
        }
        let next = net.now() + Duration::from_millis(200);
        net.run_until(next);
    }
    false
}
