//! How descriptors spread: what is new is passed on to a few neighbours, and neighbours are asked for what was missed.
//!
//! Passing on reaches nearly everybody within a few rounds of [`SPREAD_INTERVAL`]. Asking makes up for the rest, and for what
//! was said before this node came. Both are limited for each link, so a flood costs only its own link.

use std::collections::{BTreeSet, VecDeque};

use core::time::Duration;

use warren_keys::{Location, NodeId};

use super::{
    Topology, TopologyOutput,
    directory::Added,
    limits::{FIRST_ASK, MAX_ASK, MAX_FRESH, SPREAD_INTERVAL, SPREAD_LINKS},
};
use crate::{
    descriptor::Descriptor,
    ids::LinkId,
    random::{below, jittered, sample},
    time::{Time, WallTime},
    wire::{Frame, MAX_DESCRIPTORS},
};

#[derive(Debug)]
pub(super) struct Gossip {
    /// What has to be passed on, and who brought it.
    fresh: VecDeque<(NodeId, Option<LinkId>)>,
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

    pub(super) fn push(&mut self, node: NodeId, from: Option<LinkId>) {
        if self.fresh.len() < MAX_FRESH && self.queued.insert(node) {
            self.fresh.push_back((node, from));
        }
    }

    /// The neighbourhood has changed: ask again soon.
    pub(super) fn hurry(&mut self, now: Time) {
        self.ask_pause = FIRST_ASK;
        self.ask_at = self.ask_at.min(now + FIRST_ASK);
    }

    pub(super) fn next_spread(&self) -> Option<Time> {
        (!self.fresh.is_empty()).then_some(self.spread_at)
    }

    fn next_batch(&mut self, now: Time) -> Vec<(NodeId, Option<LinkId>)> {
        self.spread_at = now + SPREAD_INTERVAL;
        let batch: Vec<_> = self
            .fresh
            .drain(..self.fresh.len().min(MAX_DESCRIPTORS))
            .collect();
        for (node, _) in &batch {
            self.queued.remove(node);
        }
        batch
    }
}

impl Topology {
    /// A neighbour asks for descriptors, or brings some.
    pub fn gossip(&mut self, now: Time, wall: WallTime, from: LinkId, frame: Frame) {
        match frame {
            Frame::AskDescriptors { near } => self.answer_ask(now, wall, from, near),
            Frame::Descriptors(descriptors) => self.hear(now, wall, from, descriptors),
            Frame::Observed(seen) => self.hear_observed(from, seen),
            Frame::AskDialBack { port } => self.asked_to_dial_back(now, from, port),
            Frame::DialedBack(result) => self.hear_dialed_back(now, from, result),
            // The link machine passes on nothing else as gossip.
            _ => {}
        }
    }

    fn hear(&mut self, now: Time, wall: WallTime, from: LinkId, descriptors: Vec<Descriptor>) {
        let mut news = false;
        for descriptor in descriptors.into_iter().take(MAX_DESCRIPTORS) {
            let allowed = self
                .links
                .find_mut(from)
                .is_some_and(|link| link.gossip.take(now, 1));
            if !allowed {
                break;
            }
            news |= self.learn(wall, descriptor, Some(from)) == Added::New;
        }
        if news {
            self.gossip.hurry(now);
            self.replan(now);
            self.output.push_back(TopologyOutput::Grown);
        }
    }

    fn answer_ask(&mut self, now: Time, wall: WallTime, from: LinkId, near: Location) {
        let Some(link) = self.links.find_mut(from) else {
            return;
        };
        let asker = link.node;
        if !link.asks.take(now, 1) {
            return;
        }
        let others: Vec<NodeId> = self
            .directory
            .sample(MAX_DESCRIPTORS / 2, &mut self.rng)
            .collect();
        let useful = |node: &NodeId| {
            *node != asker
                && self.is_fit(now, node)
                && self
                    .directory
                    .find(node)
                    .is_some_and(|known| known.is_current(wall))
        };
        let nearest = self.directory.nearest(near).map(|(_, node)| node).filter(useful);
        let mut chosen: BTreeSet<NodeId> = nearest.take(MAX_DESCRIPTORS / 2).collect();
        chosen.extend(others.into_iter().filter(useful));
        let answer: Vec<Descriptor> = chosen
            .iter()
            .filter_map(|node| self.directory.find(node))
            .cloned()
            .collect();
        if !answer.is_empty() {
            self.output
                .push_back(TopologyOutput::Send(from, Frame::Descriptors(answer)));
        }
    }

    pub(super) fn ask(&mut self, link: LinkId, near: Location) {
        self.output
            .push_back(TopologyOutput::Send(link, Frame::AskDescriptors { near }));
    }

    /// Passes a batch of news on. Nobody gets back what it brought itself.
    pub(super) fn spread(&mut self, now: Time) {
        let batch = self.gossip.next_batch(now);
        for to in sample(&mut self.rng, self.links.ids(), SPREAD_LINKS) {
            let news = batch.iter().filter(|(_, from)| *from != Some(to));
            let descriptors: Vec<Descriptor> = news
                .filter_map(|(node, _)| self.directory.find(node).cloned())
                .collect();
            if !descriptors.is_empty() {
                self.output
                    .push_back(TopologyOutput::Send(to, Frame::Descriptors(descriptors)));
            }
        }
    }

    /// Asks a random neighbour now and then: mostly for the own neighbourhood, sometimes for another part of the ring.
    pub(super) fn ask_around(&mut self, now: Time) {
        if now < self.gossip.ask_at {
            return;
        }
        let links = self.links.ids();
        let Some(link) = links.get(below(&mut self.rng, links.len())) else {
            return;
        };
        let near = match below(&mut self.rng, 3) {
            0 => Location::new(rand_core::Rng::next_u64(&mut self.rng)),
            _ => self.here,
        };
        self.ask(*link, near);
        self.gossip.ask_at = now + jittered(&mut self.rng, self.gossip.ask_pause);
        self.gossip.ask_pause = (self.gossip.ask_pause * 2).min(MAX_ASK);
    }
}
