//! The topology among links that come and go, gossip of any kind, and dials that lead anywhere or nowhere.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::NodeId;
use warren_proto::{
    core::api::DialTarget,
    ids::LinkId,
    time::Time,
    topology::{Access, AccessRule, End, MAX_KNOWN, Reach, Topology, TopologyOutput, TopologySettings},
    wire::Frame,
};

use super::{START, messages, pause, wall};
use crate::{Input, Seed, fixtures};

/// Few, so that links are given up for others.
const MAX_LINKS: usize = 12;
/// Dials that may be open; those on behalf of circuits come on top of the node's own.
const MOST_DIALS: usize = 24 + 512;
/// When a dial that has not ended is given up.
const DIAL_TIME: Duration = Duration::from_secs(60);
/// This node among the fixtures.
const ME: usize = 0;

struct World {
    topology: Topology,
    now: Time,
    next_link: u64,
    links: BTreeMap<LinkId, NodeId>,
    /// With their beginning.
    dials: BTreeMap<NodeId, Time>,
    /// Nodes that have linked to this one since it began to dial them.
    crossed: BTreeSet<NodeId>,
    paused: bool,
    max_links: usize,
    pings: Vec<(LinkId, u64)>,
}

/// The first byte says whether private addresses are dialled, and how many nodes are known from an earlier run.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let start = input.u8();
    let settings = TopologySettings {
        max_links: MAX_LINKS,
        allow_private: start & 1 == 1,
        seeds: vec![target(1)],
        ..TopologySettings::default()
    };
    let known = (2..usize::from(start >> 2))
        .map(|number| fixtures::node(number).descriptor.as_ref().clone())
        .collect();
    let own = fixtures::node(ME).descriptor.as_ref().clone();
    let mut world = World {
        topology: Topology::new(START, own, settings, ChaCha20Rng::seed_from_u64(2)),
        now: START,
        next_link: 1,
        links: BTreeMap::new(),
        dials: BTreeMap::new(),
        crossed: BTreeSet::new(),
        paused: false,
        max_links: MAX_LINKS,
        pings: Vec::new(),
    };
    world.topology.remember(START, wall(START), known);
    world.drain();
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.drain();
        world.check();
    }
}

fn target(number: usize) -> DialTarget {
    let descriptor = &fixtures::node(number).descriptor;
    DialTarget {
        node: descriptor.identity,
        link_key: descriptor.link_key,
        addresses: descriptor.addresses.clone(),
    }
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let dials: Vec<NodeId> = self.dials.keys().copied().collect();
        match op % 14 {
            0 => self.up(input.u8().into(), false),
            1 | 2 => {
                // A dial succeeds.
                let number = input
                    .pick(&dials)
                    .and_then(|node| (0..fixtures::NODES).find(|n| fixtures::node(*n).secrets.id() == node));
                if let Some(number) = number {
                    self.up(number, true);
                }
            }
            3 => {
                if let Some(link) = input.pick(&links) {
                    self.links.remove(&link);
                    self.topology.down(self.now, link, input.u8() > 200);
                }
            }
            4 => {
                if let Some(node) = input.pick(&dials) {
                    self.dials.remove(&node);
                    self.crossed.remove(&node);
                    self.topology.dial_failed(self.now, node);
                }
            }
            5 | 6 => {
                let frame = messages::gossip(input);
                if let Some(link) = input.pick(&links) {
                    self.topology.gossip(self.now, wall(self.now), link, frame);
                }
            }
            7 => {
                if let Some((link, number)) = self.pings.pop() {
                    self.topology
                        .pong(self.now, link, number ^ u64::from(input.u8() > 200));
                }
            }
            8 => {
                if let Some(link) = input.pick(&links) {
                    self.topology.offence(self.now, link);
                }
            }
            9 => {
                let target = messages::descriptor(input);
                let behalf = if input.flag() { input.pick(&links) } else { None };
                match self.topology.reach(self.now, wall(self.now), &target, behalf) {
                    Reach::Linked(link) => assert_eq!(self.links.get(&link), Some(&target.identity)),
                    Reach::Dialling | Reach::No => {}
                }
            }
            10 => {
                if let Some(link) = input.pick(&links) {
                    self.topology.circuit_opened(self.now, link);
                }
            }
            11 => {
                let entries = (0..input.below(4)).map(|_| messages::descriptor(input).identity);
                self.topology.set_entries(entries.collect::<Vec<_>>());
                if input.flag() {
                    self.topology.add_seed(self.now, target(input.u8().into()));
                }
            }
            12 => self.wait(pause(input)),
            _ => self.set(input),
        }
    }

    /// Settings change.
    fn set(&mut self, input: &mut Input<'_>) {
        match input.u8() % 3 {
            0 => {
                self.paused = input.flag();
                self.topology.set_paused(self.now, self.paused);
            }
            1 => {
                self.max_links = 1 + input.below(MAX_LINKS);
                self.topology.set_max_links(self.now, self.max_links);
            }
            _ => {
                let denied =
                    (0..input.below(4)).map(|_| AccessRule::Node(messages::descriptor(input).identity));
                let deny = denied.collect();
                let allow = Vec::new();
                self.topology.set_access(self.now, Access { allow, deny });
            }
        }
    }

    fn up(&mut self, number: usize, dialled: bool) {
        let peer = fixtures::node(number).descriptor.as_ref().clone();
        let (link, node) = (LinkId(self.next_link), peer.identity);
        self.next_link += 1;
        if dialled {
            self.dials.remove(&node);
            self.crossed.remove(&node);
        } else if self.dials.contains_key(&node) {
            self.crossed.insert(node);
        }
        self.links.insert(link, node);
        let wanted = {
            let remote = peer.addresses.first().copied();
            let end = End {
                peer,
                dialled,
                remote,
            };
            self.topology.up(self.now, wall(self.now), link, end)
        };
        self.drain();
        assert_eq!(
            self.links.contains_key(&link),
            wanted,
            "wanted and closed, or the reverse"
        );
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut calls = 0;
        while self.topology.poll_timeout().is_some_and(|due| due <= self.now) {
            self.topology.handle_timeout(self.now, wall(self.now));
            self.drain();
            calls += 1;
            assert!(calls < 1000, "a timeout that never passes");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.topology.poll_output() {
            match output {
                TopologyOutput::Send(link, frame) => {
                    assert!(self.links.contains_key(&link), "to a link that is gone");
                    match frame {
                        Frame::Ping(number) => self.pings.push((link, number)),
                        Frame::Descriptors(list) => {
                            assert!(list.len() <= warren_proto::wire::MAX_DESCRIPTORS)
                        }
                        Frame::Announced { descriptors, .. } => {
                            assert!(descriptors.len() <= warren_proto::wire::MAX_ANNOUNCED)
                        }
                        Frame::AskDescriptors { .. }
                        | Frame::Announce(_)
                        | Frame::Observed(_)
                        | Frame::AskDialBack { .. }
                        | Frame::DialedBack(_) => {}
                        other => panic!("{other:?} is not the topology's"),
                    }
                }
                TopologyOutput::Close(link) => {
                    assert!(
                        self.links.remove(&link).is_some(),
                        "a link is closed that is not there"
                    );
                }
                TopologyOutput::Dial(target) => {
                    assert!(target.node != fixtures::node(ME).secrets.id(), "it dials itself");
                    assert!(!target.addresses.is_empty());
                    assert!(!self.paused, "a dial by who wants no links");
                    // A peer that came by itself while it was dialled may ask to be dialled back: then there are two. And a dial that
                    // shows somebody that it can be dialled is given up without a word.
                    let (now, node) = (self.now, target.node);
                    let earlier = self.dials.insert(node, now);
                    let over = earlier.is_none_or(|at| now.since(at) >= DIAL_TIME);
                    assert!(over || self.crossed.remove(&node), "two dials of one node");
                    // Only who asked to be dialled back is dialled while it is linked, and that is over with the link.
                    if self.links.values().any(|linked| *linked == node) {
                        self.crossed.insert(node);
                    }
                }
                TopologyOutput::DialLost(node) => {
                    self.dials.remove(&node);
                    self.crossed.remove(&node);
                }
                TopologyOutput::Grown => {}
            }
        }
    }

    fn check(&self) {
        let reported: BTreeMap<LinkId, NodeId> =
            self.topology.links().map(|link| (link.link, link.node)).collect();
        assert_eq!(reported, self.links, "another view of the links");
        let nodes: BTreeSet<&NodeId> = self.links.values().collect();
        assert_eq!(nodes.len(), self.links.len(), "two links to one node");
        assert!(self.links.len() <= self.max_links && self.topology.known() <= MAX_KNOWN);
        assert!(self.dials.len() <= MOST_DIALS);
        for (link, node) in &self.links {
            assert_eq!(
                (self.topology.link_to(node), self.topology.node_of(*link)),
                (Some(*link), Some(*node))
            );
        }
    }
}

/// Links of both directions, gossip, offences, time.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let knowing = |name: &str, count: u8| Seed::new(name).u8(count << 2);
    vec![
        knowing("dials", 30)
            .u8(12)
            .u8(100)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(1)
            .u8(1)
            .u8(1)
            .u8(2)
            .u8(12)
            .u8(200)
            .u8(2)
            .u8(4)
            .u8(0),
        knowing("gossip", 0)
            .u8(0)
            .u8(1)
            .u8(5)
            .u8(7)
            .u8(3)
            .u8(4)
            .u8(5)
            .u8(6)
            .u8(0)
            .u8(5)
            .u8(1)
            .u64(99)
            .u8(0)
            .u8(12)
            .u8(200)
            .u8(0),
        // One link's announcement goes on over another, whose answer comes back; then an answer to nothing.
        (1..8)
            .fold(knowing("announcements", 0), |seed, node| seed.u8(0).u8(node))
            .bytes(&[5, 2, 7])
            .u64(1 << 62)
            .bytes(&[18, 9, 0])
            .bytes(&[5, 3, 7, 2, 10, 11, 1])
            .bytes(&[5, 3, 7, 2, 10, 11, 2])
            .bytes(&[12, 200, 2]),
        // What the other end sees, and dials back.
        knowing("reachable", 0)
            .u8(0)
            .u8(1)
            .bytes(&[5, 4, 9, 80, 0, 5, 5, 90, 0, 5, 6, 1, 0])
            .bytes(&[12, 30, 2, 2, 0]),
        knowing("both-dial", 8)
            .u8(12)
            .u8(100)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(1)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(0)
            .u8(2),
        (1..20)
            .fold(knowing("crowded", 0), |seed, node| seed.u8(0).u8(node))
            .u8(12)
            .u8(99)
            .u8(2),
        knowing("offences", 0).bytes(&[0, 3, 8, 0, 0, 3, 8, 0, 0, 3, 8, 0, 0, 3, 12, 99, 3, 0, 3]),
        knowing("pings", 0)
            .u8(0)
            .u8(1)
            .u8(12)
            .u8(150)
            .u8(2)
            .u8(7)
            .u8(0)
            .u8(12)
            .u8(150)
            .u8(2)
            .u8(12)
            .u8(150)
            .u8(2)
            .u8(12)
            .u8(3)
            .u8(3),
        knowing("extends", 0)
            .u8(0)
            .u8(1)
            .u8(9)
            .u8(5)
            .u8(1)
            .u8(0)
            .u8(9)
            .u8(1)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(9)
            .u8(5)
            .u8(0),
        knowing("settings", 30)
            .bytes(&[
                0, 1, 0, 2, 0, 3, 13, 0, 1, 3, 0, 0, 3, 0, 0, 12, 200, 2, 13, 0, 0, 12, 100, 0,
            ])
            .bytes(&[
                13, 1, 2, 13, 2, 2, 4, 5, 12, 200, 2, 13, 1, 9, 13, 2, 0, 12, 200, 2,
            ]),
        knowing("entries", 20)
            .u8(11)
            .u8(2)
            .u8(3)
            .u8(4)
            .u8(1)
            .u8(5)
            .u8(12)
            .u8(99)
            .u8(2),
    ]
}
