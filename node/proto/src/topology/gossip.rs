//! How descriptors spread: what is new is passed on to a few neighbours, and neighbours are asked for what was missed.
//!
//! Only what this node itself keeps is passed on. In a network that fits into directories this reaches nearly everybody within a
//! few rounds of [`SPREAD_INTERVAL`]. In a larger one each node keeps a bounded sample, so what it hears, keeps and passes on is
//! bounded too, whatever the size of the network; nodes of the own neighbourhood are passed on to near neighbours, who need
//! them. Asking makes up for the rest, and for what was said before this node came. All is limited for each link, so a flood
//! costs only its own link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use rand_core::Rng;
use warren_keys::{Location, NodeId};

use super::{
    Topology, TopologyOutput,
    directory::{Added, Source},
    limits::{
        ANSWER_TIME, FEW_KNOWN, FIRST_ASK, LEARN_ASK, MAX_ASK, MAX_FRESH, SPREAD_INTERVAL, SPREAD_LINKS,
    },
};
use crate::{
    descriptor::Descriptor,
    ids::LinkId,
    random::{below, jittered, sample},
    time::{Time, WallTime},
    wire::{Frame, MAX_DESCRIPTORS},
};

/// What has to be passed on.
#[derive(Debug)]
struct Fresh {
    node: NodeId,
    /// Who brought it.
    from: Option<LinkId>,
    /// Not in the sample: only near neighbours care.
    near: bool,
}

#[derive(Debug)]
pub(super) struct Gossip {
    fresh: VecDeque<Fresh>,
    queued: BTreeSet<NodeId>,
    spread_at: Time,
    ask_at: Time,
    ask_pause: Duration,
}

impl Gossip {
    pub(super) fn new(now: Time) -> Self {
        Self {
            fresh: VecDeque::new(),
            queued: BTreeSet::new(),
            spread_at: now,
            ask_at: now,
            ask_pause: FIRST_ASK,
        }
    }

    pub(super) fn push(&mut self, node: NodeId, from: Option<LinkId>, near: bool) {
        if self.fresh.len() < MAX_FRESH && self.queued.insert(node) {
            self.fresh.push_back(Fresh { node, from, near });
        }
    }

    /// The neighbourhood has changed: ask again soon.
    pub(super) fn hurry(&mut self, now: Time) {
        self.ask_pause = FIRST_ASK;
        self.ask_at = self.ask_at.min(now + FIRST_ASK);
    }

    /// An answer came; as long as a good part of it is new, the next question follows soon.
    fn learnt(&mut self, now: Time, new: usize, of: usize, known: usize) {
        if new > 0 && new * 4 >= of {
            self.ask_pause = if known < FEW_KNOWN { FIRST_ASK } else { LEARN_ASK };
            self.ask_at = self.ask_at.min(now + self.ask_pause);
        }
    }

    pub(super) fn next_spread(&self) -> Option<Time> {
        (!self.fresh.is_empty()).then_some(self.spread_at)
    }

    fn next_batch(&mut self, now: Time) -> Vec<Fresh> {
        self.spread_at = now + SPREAD_INTERVAL;
        let batch: Vec<_> = self
            .fresh
            .drain(..self.fresh.len().min(MAX_DESCRIPTORS))
            .collect();
        for fresh in &batch {
            self.queued.remove(&fresh.node);
        }
        batch
    }
}

impl Topology {
    /// A neighbour asks about the network, or tells of it.
    pub fn gossip(&mut self, now: Time, wall: WallTime, from: LinkId, frame: Frame) {
        match frame {
            Frame::AskDescriptors { near } => self.answer_ask(now, wall, from, near),
            Frame::Descriptors(descriptors) => self.hear(now, wall, from, descriptors),
            Frame::Announce(announce) => self.hear_announce(now, wall, from, *announce),
            Frame::Announced { id, descriptors } => self.hear_announced(now, wall, from, id, descriptors),
            Frame::Observed(seen) => self.hear_observed(from, seen),
            Frame::AskDialBack { port } => self.asked_to_dial_back(now, from, port),
            Frame::DialedBack(result) => self.hear_dialed_back(now, from, result),
            // The link machine passes on nothing else as the topology's.
            _ => {}
        }
    }

    /// Takes a descriptor into the directory, and passes it on if that changed anything.
    pub(super) fn learn(
        &mut self,
        now: Time,
        wall: WallTime,
        descriptor: Descriptor,
        source: Source,
    ) -> Added {
        let (node, at) = (descriptor.identity, descriptor.location());
        let (links, entries, announcing) = (&self.links, &self.entries, &self.announcing);
        let in_use = |node: &Descriptor| {
            links.to(&node.identity).is_some()
                || entries.contains(&node.identity)
                || announcing.is_guest(node.location())
        };
        let added = self.directory.add(now, wall, descriptor, source, in_use);
        // What a large network answers is old news there.
        let old = matches!(source, Source::Answer(_)) && self.directory.is_selective();
        if added != Added::Ignored && !old {
            let near = !self.directory.would_sample(at);
            self.gossip.push(node, source.link(), near);
        }
        added
    }

    fn hear(&mut self, now: Time, wall: WallTime, from: LinkId, descriptors: Vec<Descriptor>) {
        let Some(link) = self.links.find_mut(from) else {
            return;
        };
        let node = link.node;
        let asked = link
            .asked
            .take_if(|at| now.since(*at) < ANSWER_TIME && descriptors.len() > 1)
            .is_some();
        let (mut new, mut heard) = (0, 0);
        for descriptor in descriptors.into_iter().take(MAX_DESCRIPTORS) {
            let allowed = self
                .links
                .find_mut(from)
                .is_some_and(|link| link.gossip.take(now, 1));
            if !allowed {
                break;
            }
            let source = match (descriptor.identity == node, asked) {
                (true, _) => Source::Itself(from),
                (false, true) => Source::Answer(from),
                (false, false) => Source::Told(from),
            };
            heard += 1;
            new += usize::from(self.learn(now, wall, descriptor, source) == Added::New);
        }
        if asked {
            self.gossip.learnt(now, new, heard, self.directory.len());
        } else if new > 0 && !self.directory.is_selective() && self.directory.len() < FEW_KNOWN {
            self.gossip.hurry(now);
        }
        if new > 0 {
            self.replan(now);
            self.output.push_back(TopologyOutput::Grown);
        }
    }

    /// Whether a node is worth telling others of, save itself.
    pub(super) fn is_worth_telling(&self, now: Time, wall: WallTime, node: &Descriptor) -> bool {
        !node.addresses.is_empty() && node.is_current(wall) && self.is_fit(now, &node.identity)
    }

    fn answer_ask(&mut self, now: Time, wall: WallTime, from: LinkId, near: Location) {
        let Some(link) = self.links.find_mut(from) else {
            return;
        };
        let asker = link.node;
        if !link.asks.take(now, 1) {
            return;
        }
        let drawn = self.directory.draw(MAX_DESCRIPTORS / 2, &mut self.rng);
        let useful = |node: &&Descriptor| node.identity != asker && self.is_worth_telling(now, wall, node);
        let nearest = self.directory.nearest(near).map(|entry| &entry.descriptor);
        let mut chosen: BTreeMap<NodeId, Descriptor> = BTreeMap::new();
        for descriptor in nearest
            .filter(useful)
            .take(MAX_DESCRIPTORS / 2)
            .chain(drawn.into_iter().filter(useful))
        {
            chosen.insert(descriptor.identity, descriptor.clone());
        }
        if !chosen.is_empty() {
            let answer = Frame::Descriptors(chosen.into_values().collect());
            self.output.push_back(TopologyOutput::Send(from, answer));
        }
    }

    pub(super) fn ask(&mut self, now: Time, id: LinkId, near: Location) {
        if let Some(link) = self.links.find_mut(id) {
            link.asked = Some(now);
            link.waits.get_or_insert(now);
            self.output
                .push_back(TopologyOutput::Send(id, Frame::AskDescriptors { near }));
        }
    }

    /// Passes a batch of news on. Nobody gets back what it brought itself.
    pub(super) fn spread(&mut self, now: Time) {
        let batch = self.gossip.next_batch(now);
        let near: Vec<LinkId> = self.near_links();
        let all = sample(&mut self.rng, self.links.ids(), SPREAD_LINKS);
        let near = sample(&mut self.rng, near, SPREAD_LINKS);
        let mut news: BTreeMap<LinkId, Vec<Descriptor>> = BTreeMap::new();
        for fresh in &batch {
            let Some(entry) = self.directory.find(&fresh.node) else {
                continue;
            };
            let receivers = if fresh.near { &near } else { &all };
            for to in receivers.iter().filter(|to| fresh.from != Some(**to)) {
                news.entry(*to).or_default().push(entry.descriptor.clone());
            }
        }
        for (to, descriptors) in news {
            self.output
                .push_back(TopologyOutput::Send(to, Frame::Descriptors(descriptors)));
        }
    }

    fn near_links(&self) -> Vec<LinkId> {
        let near = self.plan.near.iter();
        near.filter_map(|node| self.links.to(node)).collect()
    }

    /// Asks a neighbour now and then: mostly a near one for the own neighbourhood, sometimes any for another part of the ring.
    pub(super) fn ask_around(&mut self, now: Time) {
        if now < self.gossip.ask_at {
            return;
        }
        let (mut links, mut point) = (self.near_links(), self.here);
        if links.is_empty() || below(&mut self.rng, 3) == 0 {
            (links, point) = (self.links.ids(), Location::new(self.rng.next_u64()));
        }
        let Some(link) = links.get(below(&mut self.rng, links.len())) else {
            return;
        };
        self.ask(now, *link, point);
        self.gossip.ask_at = now + jittered(&mut self.rng, self.gossip.ask_pause);
        self.gossip.ask_pause = (self.gossip.ask_pause * 2).min(MAX_ASK);
    }
}
