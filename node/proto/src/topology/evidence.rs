//! Whether strangers can dial this node, and at which address (protocol §7.7).
//!
//! Whoever accepts a link tells the dialler which address it sees. And a node whose own dials alone do not show it asks some of
//! those it has dialled to dial it back, at the address that they see its link come from: so nobody can be made to dial anybody
//! but the asker. A peer learns nothing by either: it sees the address anyway.
//!
//! Invariants: one peer's word counts once, and a newer word of the same peer replaces its older one; what nobody asked for is
//! ignored; answers, and dials for others, are bounded for each link and for the node.
//!
//! What to publish is the driver's decision: this module only knows what was seen.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};

use warren_keys::NodeId;

use super::{
    Topology, TopologyOutput,
    addresses::{Group, group, is_public},
    bucket::Bucket,
    limits::{
        BACK_BURST, BACK_DIALS, BACK_PER_LINK, BACK_TIME, CHECK_AGAIN, CHECK_PAUSE, CHECK_PEERS,
        EVIDENCE_TIME, WITNESSES,
    },
};
use crate::{
    core::api::DialTarget,
    ids::LinkId,
    random::sample,
    time::Time,
    wire::{DialResult, Frame},
};

/// Whether strangers can dial this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reachability {
    /// Nobody has tried yet, as far as is known.
    #[default]
    Unknown,
    /// Somebody has, lately.
    Reachable,
    /// Some were asked to, and all failed.
    NotReachable,
}

#[derive(Debug)]
pub(super) struct Evidence {
    /// What peers said that they see, newest last; one word each.
    observed: VecDeque<(NodeId, Option<Group>, IpAddr)>,
    /// When somebody last got through to this node.
    reached: Option<Time>,
    /// Peers that were asked, that did not get through, and when.
    failed: BTreeMap<NodeId, Time>,
    /// Own questions that are open.
    asked: BTreeMap<NodeId, Time>,
    next_check: Time,
    /// Dials for others: node, the link on which it asked, when.
    dialling: BTreeMap<NodeId, (LinkId, Time)>,
    dials: Bucket,
}

impl Evidence {
    pub(super) fn new(now: Time) -> Self {
        Self {
            observed: VecDeque::new(),
            reached: None,
            failed: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_check: now,
            dialling: BTreeMap::new(),
            dials: Bucket::new(now, BACK_BURST, 1),
        }
    }

    /// Somebody got through.
    fn proved(&mut self, now: Time) {
        self.reached = Some(now);
        self.failed.clear();
        self.next_check = self.next_check.max(now + CHECK_AGAIN);
    }

    fn is_recent(&self, now: Time) -> bool {
        self.reached.is_some_and(|at| now.since(at) < EVIDENCE_TIME)
    }

    pub(super) fn state(&self, now: Time) -> Reachability {
        if self.is_recent(now) {
            Reachability::Reachable
        } else if self.failed.len() >= CHECK_PEERS {
            Reachability::NotReachable
        } else {
            Reachability::Unknown
        }
    }

    /// For each family the address that most peers see: two at least, from different networks, unless only one has spoken.
    pub(super) fn observed(&self) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for v4 in [true, false] {
            let words: Vec<_> = self
                .observed
                .iter()
                .filter(|(.., ip)| ip.is_ipv4() == v4)
                .collect();
            let mut counts: BTreeMap<IpAddr, (usize, Vec<Group>)> = BTreeMap::new();
            for (_, from, ip) in &words {
                let (count, groups) = counts.entry(*ip).or_default();
                match from {
                    // Many witnesses of one network are one.
                    Some(group) if groups.contains(group) => {}
                    Some(group) => {
                        groups.push(*group);
                        *count += 1;
                    }
                    None => *count += 1,
                }
            }
            let best = counts.iter().max_by_key(|(_, (count, _))| *count);
            found.extend(
                best.filter(|(_, (count, _))| *count >= 2 || counts.len() == 1)
                    .map(|(ip, _)| *ip),
            );
        }
        found
    }

    /// Whether this node dials `node` only to show it that it can be dialled.
    pub(super) fn is_dialling(&self, node: &NodeId) -> bool {
        self.dialling.contains_key(node)
    }

    /// Whether `node` was asked to dial back and has not answered.
    pub(super) fn awaits(&self, node: &NodeId) -> bool {
        self.asked.contains_key(node)
    }
}

impl Topology {
    /// Whether strangers can dial this node.
    #[must_use]
    pub fn reachability(&self, now: Time) -> Reachability {
        self.evidence.state(now)
    }

    /// Under which addresses others see this node, at most one of each family.
    #[must_use]
    pub fn observed(&self) -> Vec<IpAddr> {
        self.evidence.observed()
    }

    /// Sets the port at which this node's addresses take connections, `None` if at none; what was known of it is void.
    pub fn set_port(&mut self, now: Time, port: Option<u16>) {
        if self.settings.port != port {
            self.settings.port = port;
            self.evidence.reached = None;
            self.evidence.failed.clear();
            self.evidence.asked.clear();
            self.evidence.next_check = now;
        }
    }

    /// Whether a connection to a node that is linked already only shows that one end can be dialled by the other. It has then
    /// done its duty.
    pub(super) fn proves(&mut self, now: Time, node: &NodeId, dialled: bool) -> bool {
        if self.links.to(node).is_none() {
            self.evidence.dialling.remove(node);
            return false;
        }
        if dialled && self.evidence.is_dialling(node) {
            self.dialled_back(node, DialResult::Reached);
            return true;
        }
        if !dialled && self.evidence.awaits(node) {
            self.evidence.proved(now);
            return true;
        }
        false
    }

    /// A link is up: somebody got through, or may be told what is seen of it.
    pub(super) fn note_arrival(&mut self, now: Time, id: LinkId, remote: Option<SocketAddr>, dialled: bool) {
        if dialled {
            return;
        }
        if remote.is_none_or(|remote| self.settings.allow_private || is_public(remote.ip())) {
            self.evidence.proved(now);
        }
        if let Some(remote) = remote {
            let seen = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            self.output
                .push_back(TopologyOutput::Send(id, Frame::Observed(seen)));
        }
    }

    /// A peer says which address it sees. Only those that this node dialled can know better than it does.
    pub(super) fn hear_observed(&mut self, from: LinkId, seen: SocketAddr) {
        let Some(link) = self.links.find(from).filter(|link| link.dialled) else {
            return;
        };
        let ip = seen.ip().to_canonical();
        let group = link
            .remote
            .and_then(|remote| group(remote.ip(), self.settings.strict_private));
        let node = link.node;
        self.evidence.observed.retain(|(witness, ..)| *witness != node);
        if self.evidence.observed.len() >= WITNESSES {
            self.evidence.observed.pop_front();
        }
        self.evidence.observed.push_back((node, group, ip));
    }

    /// Asks some of those that this node has dialled to dial it back, if nobody got through lately.
    pub(super) fn check_reach(&mut self, now: Time) {
        let late: Vec<NodeId> = self
            .evidence
            .asked
            .iter()
            .filter(|(_, at)| now.since(**at) >= BACK_TIME)
            .map(|(node, _)| *node)
            .collect();
        for node in late {
            // Says nothing about this node.
            self.evidence.asked.remove(&node);
        }
        let stuck = |at: &Time| now.since(*at) >= BACK_TIME;
        self.evidence.dialling.retain(|_, (_, at)| !stuck(at));
        let Some(port) = self.settings.port else {
            return;
        };
        if now < self.evidence.next_check || self.evidence.is_recent(now) {
            return;
        }
        let fresh = |at: &Time| now.since(*at) < CHECK_AGAIN;
        self.evidence
            .failed
            .retain(|_, at| now.since(*at) < EVIDENCE_TIME);
        let asked: Vec<(LinkId, NodeId)> = self
            .links
            .iter()
            .filter(|(_, link)| link.dialled && !self.evidence.failed.get(&link.node).is_some_and(fresh))
            .map(|(id, link)| (id, link.node))
            .collect();
        let chosen = sample(&mut self.rng, asked, CHECK_PEERS);
        if chosen.is_empty() {
            return;
        }
        let enough = self.evidence.failed.values().filter(|at| fresh(at)).count() >= CHECK_PEERS;
        self.evidence.next_check = now + if enough { CHECK_AGAIN } else { CHECK_PAUSE };
        if enough {
            return;
        }
        for (id, node) in chosen {
            self.evidence.asked.insert(node, now);
            self.output
                .push_back(TopologyOutput::Send(id, Frame::AskDialBack { port }));
        }
    }

    /// A peer asks to be dialled back.
    pub(super) fn asked_to_dial_back(&mut self, now: Time, from: LinkId, port: u16) {
        let allow_private = self.settings.allow_private;
        let Some(link) = self.links.find_mut(from) else {
            return;
        };
        if link.asked_back.is_some_and(|at| now.since(at) < BACK_PER_LINK) {
            return;
        }
        link.asked_back = Some(now);
        let node = link.node;
        // Who was dialled knows already that it can be.
        let target = (!link.dialled)
            .then_some(link.remote)
            .flatten()
            .map(|remote| SocketAddr::new(remote.ip(), port))
            .filter(|address| port != 0 && (allow_private || is_public(address.ip())));
        let link_key = self.directory.find(&node).map(|known| known.descriptor.link_key);
        let room = self.evidence.dialling.len() < BACK_DIALS && !self.dialling.is_open(&node) && !self.paused;
        let (Some(address), Some(link_key), true) =
            (target, link_key, room && self.evidence.dials.take(now, 1))
        else {
            self.output.push_back(TopologyOutput::Send(
                from,
                Frame::DialedBack(DialResult::NotTried),
            ));
            return;
        };
        self.evidence.dialling.insert(node, (from, now));
        self.dial_at(
            now,
            DialTarget {
                node,
                link_key,
                addresses: vec![address],
            },
        );
    }

    /// A dial for somebody else has ended.
    pub(super) fn dialled_back(&mut self, node: &NodeId, result: DialResult) {
        if let Some((link, _)) = self.evidence.dialling.remove(node)
            && self.links.find(link).is_some()
        {
            self.output
                .push_back(TopologyOutput::Send(link, Frame::DialedBack(result)));
        }
    }

    /// A peer has tried to dial this node, or not.
    pub(super) fn hear_dialed_back(&mut self, now: Time, from: LinkId, result: DialResult) {
        let Some(node) = self.node_of(from) else {
            return;
        };
        if self.evidence.asked.remove(&node).is_none() {
            return;
        }
        match result {
            DialResult::Reached => self.evidence.proved(now),
            DialResult::Failed => {
                self.evidence.failed.insert(node, now);
            }
            DialResult::NotTried => {}
        }
    }
}
