//! Announcements: how a node finds its place in a network of which it knows one node (protocol §7.7).
//!
//! An announcement carries the announcer's descriptor towards a point of the ring, over links, each nearer to the point than the
//! one before. The node from which no link leads nearer answers with the nodes that it knows round the point; on the way back
//! each node adds those that it knows better. A node announces itself towards its own place, where its near neighbours are, and
//! into parts of the ring where it lacks a long link.
//!
//! Invariants: an announcement goes strictly nearer to its target with each hop, so it cannot run in circles; nobody keeps
//! more than one row for it; an answer is taken only from the neighbour that was asked, once; whoever gives up gives its own
//! knowledge instead, in time for its predecessor. Places follow from identities, so an announcement claims none.

use core::time::Duration;
use std::collections::BTreeMap;

use rand_core::Rng;
use warren_keys::{Location, NodeId};

use super::{
    Topology, TopologyOutput,
    bucket::Bucket,
    directory::{Added, Source},
    limits::{
        ANNOUNCE_STEP, ANNOUNCED_PER_SIDE, FIRST_ANNOUNCE, FORWARD_BURST, FORWARD_RATE, GUEST_TIME,
        LEAST_ANNOUNCE, MAX_ANNOUNCE, MAX_ANNOUNCE_HTL, MAX_FORWARDS, MAX_FORWARDS_PER_LINK, MAX_GUESTS,
        TARGETS_A_ROUND,
    },
};
use crate::{
    descriptor::Descriptor,
    ids::LinkId,
    random::{below, jittered, sample},
    time::{Time, WallTime},
    wire::{Announce, Frame},
};

#[derive(Debug)]
struct Open {
    target: Location,
    /// Who announces itself.
    subject: NodeId,
    /// Who brought it; `None` for an own one.
    from: Option<LinkId>,
    /// Who was asked.
    to: LinkId,
    until: Time,
}

#[derive(Debug)]
pub(super) struct Announcing {
    open: BTreeMap<u64, Open>,
    /// When the first of `open` has waited too long, or earlier.
    deadline: Option<Time>,
    /// Others' announcements that are sent on.
    forwards: Bucket,
    /// Nodes from answers to own announcements, until there was time to link to them.
    guests: BTreeMap<Location, Time>,
    last: Option<Time>,
    next: Time,
    pause: Duration,
}

impl Announcing {
    pub(super) fn new(now: Time) -> Self {
        Self {
            open: BTreeMap::new(),
            deadline: None,
            forwards: Bucket::new(now, FORWARD_BURST, FORWARD_RATE),
            guests: BTreeMap::new(),
            last: None,
            next: now,
            pause: FIRST_ANNOUNCE,
        }
    }

    pub(super) fn is_guest(&self, at: Location) -> bool {
        self.guests.contains_key(&at)
    }

    /// Something is missing: announce soon, and again.
    pub(super) fn hurry(&mut self, now: Time) {
        self.pause = FIRST_ANNOUNCE;
        let earliest = self.last.map_or(now, |last| last + LEAST_ANNOUNCE);
        self.next = self.next.min(earliest.max(now));
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Time {
        self.deadline
            .map_or(self.next, |deadline| deadline.min(self.next))
    }

    fn insert(&mut self, id: u64, open: Open) {
        self.deadline = Some(
            self.deadline
                .map_or(open.until, |deadline| deadline.min(open.until)),
        );
        self.open.insert(id, open);
    }

    fn take_where(&mut self, wanted: impl Fn(&Open) -> bool) -> Vec<(u64, Open)> {
        let ids = self.open.iter().filter(|(_, open)| wanted(open));
        let ids: Vec<u64> = ids.map(|(id, _)| *id).collect();
        ids.into_iter()
            .filter_map(|id| self.open.remove_entry(&id))
            .collect()
    }

    fn has_room(&self, from: LinkId) -> bool {
        self.open.len() < MAX_FORWARDS
            && self.open.values().filter(|open| open.from == Some(from)).count() < MAX_FORWARDS_PER_LINK
    }

    fn welcome(&mut self, now: Time, at: Location) {
        if self.guests.len() >= MAX_GUESTS && !self.guests.contains_key(&at) {
            let first = self.guests.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(at, _)| *at) {
                self.guests.remove(&first);
            }
        }
        self.guests.insert(at, now + GUEST_TIME);
    }
}

impl Topology {
    /// Somebody's announcement comes by.
    pub(super) fn hear_announce(&mut self, now: Time, wall: WallTime, from: LinkId, announce: Announce) {
        let Announce {
            id,
            target,
            htl,
            descriptor,
        } = announce;
        let subject = descriptor.identity;
        let allowed = self
            .links
            .find_mut(from)
            .is_some_and(|link| link.announces.take(now, 1));
        // Its own, or one that is still open here, can only come back by ill will.
        let strange = subject == self.me || self.announcing.open.contains_key(&id);
        if !allowed || strange || !descriptor.is_current(wall) {
            return;
        }
        let source = if self.node_of(from) == Some(subject) {
            Source::Itself(from)
        } else {
            Source::Told(from)
        };
        if self.learn(now, wall, descriptor.clone(), source) == Added::New {
            self.replan(now);
        }
        let htl = htl.min(MAX_ANNOUNCE_HTL);
        let next = self
            .nearer(target, from, &subject)
            .filter(|_| htl > 0 && self.announcing.has_room(from));
        let Some(to) = next.filter(|_| self.announcing.forwards.take(now, 1)) else {
            self.answer_announce(now, wall, from, id, target, &subject, Vec::new());
            return;
        };
        let htl = htl - 1;
        self.announcing.insert(
            id,
            Open {
                target,
                subject,
                from: Some(from),
                to,
                until: now + ANNOUNCE_STEP * (u32::from(htl) + 2),
            },
        );
        let onwards = Announce {
            id,
            target,
            htl,
            descriptor,
        };
        self.output
            .push_back(TopologyOutput::Send(to, Frame::Announce(Box::new(onwards))));
    }

    /// The link that leads nearest to a point, if it leads nearer than here.
    fn nearer(&self, target: Location, from: LinkId, subject: &NodeId) -> Option<LinkId> {
        let links = self
            .links
            .iter()
            .filter(|(id, link)| *id != from && link.node != *subject);
        let nearest = links
            .map(|(id, link)| (target.distance(link.location), id))
            .min()?;
        (nearest.0 < target.distance(self.here)).then_some(nearest.1)
    }

    /// Gives back what is known round a point, here and by `heard`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one row of the table")]
    fn answer_announce(
        &mut self,
        now: Time,
        wall: WallTime,
        back: LinkId,
        id: u64,
        target: Location,
        subject: &NodeId,
        heard: Vec<Descriptor>,
    ) {
        let useful = |node: &&Descriptor| self.is_worth_telling(now, wall, node);
        let known = |walk: &mut dyn Iterator<Item = &super::directory::Entry>| -> Vec<Descriptor> {
            let walk = walk.map(|entry| &entry.descriptor).filter(useful);
            let others = walk.filter(|node| node.identity != *subject);
            others.take(ANNOUNCED_PER_SIDE).cloned().collect()
        };
        let mut around = known(&mut self.directory.clockwise(target));
        around.extend(known(&mut self.directory.anticlockwise(target)));
        if !self.own.addresses.is_empty() {
            around.push(self.own.clone());
        }
        let current = |node: &Descriptor| {
            node.identity != *subject && node.is_current(wall) && !node.addresses.is_empty()
        };
        around.extend(heard.into_iter().filter(current));
        // The newest of each, in the order of the ring from the target upwards.
        around.sort_by_key(|node| {
            (
                target.clockwise(node.location()),
                core::cmp::Reverse(node.published),
            )
        });
        around.dedup_by_key(|node| node.identity);
        let spare = around.len().saturating_sub(2 * ANNOUNCED_PER_SIDE);
        let above = ANNOUNCED_PER_SIDE.min(around.len());
        around.drain(above..above + spare);
        self.output.push_back(TopologyOutput::Send(
            back,
            Frame::Announced {
                id,
                descriptors: around,
            },
        ));
    }

    /// The answer to an announcement comes back.
    pub(super) fn hear_announced(
        &mut self,
        now: Time,
        wall: WallTime,
        from: LinkId,
        id: u64,
        descriptors: Vec<Descriptor>,
    ) {
        let asked = self.announcing.open.get(&id).is_some_and(|open| open.to == from);
        let Some(open) = asked.then(|| self.announcing.open.remove(&id)).flatten() else {
            return;
        };
        match open.from {
            Some(back) => {
                self.answer_announce(now, wall, back, id, open.target, &open.subject, descriptors);
            }
            None => self.introduced(now, wall, from, descriptors),
        }
    }

    /// An own announcement was answered.
    fn introduced(&mut self, now: Time, wall: WallTime, from: LinkId, descriptors: Vec<Descriptor>) {
        let (mut news, mut near) = (false, false);
        for descriptor in descriptors {
            let (node, at) = (descriptor.identity, descriptor.location());
            self.announcing.welcome(now, at);
            if self.learn(now, wall, descriptor, Source::Answer(from)) == Added::New {
                news = true;
                near |= self.is_near(&node);
            }
        }
        if near {
            self.announcing.hurry(now);
        }
        if news {
            self.replan(now);
            self.output.push_back(TopologyOutput::Grown);
        }
    }

    /// Gives up what waited too long.
    pub(super) fn announcements_due(&mut self, now: Time, wall: WallTime) {
        if self.announcing.deadline.is_some_and(|deadline| deadline <= now) {
            let late = self.announcing.take_where(|open| open.until <= now);
            self.announcing.deadline = self.announcing.open.values().map(|open| open.until).min();
            self.give_own_answers(now, wall, late);
        }
        if self.announcing.next <= now {
            self.announcing.guests.retain(|_, until| *until > now);
            self.announce(now);
        }
    }

    /// A link is gone: whose announcements went over it hear what is known here.
    pub(super) fn announcements_lost(&mut self, now: Time, link: LinkId) {
        drop(self.announcing.take_where(|open| open.from == Some(link)));
        let stranded = self.announcing.open.values_mut();
        for open in stranded.filter(|open| open.to == link) {
            open.until = now;
            self.announcing.deadline = Some(now);
        }
    }

    fn give_own_answers(&mut self, now: Time, wall: WallTime, late: Vec<(u64, Open)>) {
        for (id, open) in late {
            if let Some(back) = open.from {
                self.answer_announce(now, wall, back, id, open.target, &open.subject, Vec::new());
            }
        }
    }

    /// Announces this node: to its own neighbourhood, and where long links are missing. Over random links, so that no neighbour
    /// decides what this node gets to know.
    fn announce(&mut self, now: Time) {
        let links = self.links.ids();
        self.announcing.next = now + jittered(&mut self.rng, self.announcing.pause);
        if links.is_empty() {
            return;
        }
        self.announcing.last = Some(now);
        self.announcing.pause = (self.announcing.pause * 2).min(MAX_ANNOUNCE);
        // Over a near neighbour the way to the own place would be too short to find anything out.
        let far = |id: &LinkId| {
            self.node_of(*id)
                .is_none_or(|node| !self.plan.near.contains(&node))
        };
        let mut outer: Vec<LinkId> = links.iter().copied().filter(far).collect();
        if outer.is_empty() {
            outer.clone_from(&links);
        }
        // A seed is spared: once there are others, they carry the rest.
        let few = if links.len() < self.settings.near_per_side {
            1
        } else {
            TARGETS_A_ROUND
        };
        let mut targets = sample(&mut self.rng, self.plan.empty.clone(), few);
        targets.push(self.here);
        for target in targets {
            let over = if target == self.here { &outer } else { &links };
            let Some(to) = over.get(below(&mut self.rng, over.len())).copied() else {
                continue;
            };
            let id = self.rng.next_u64();
            self.announcing.insert(
                id,
                Open {
                    target,
                    subject: self.me,
                    from: None,
                    to,
                    until: now + ANNOUNCE_STEP * (u32::from(MAX_ANNOUNCE_HTL) + 2),
                },
            );
            self.asked(now, to);
            let announce = Announce {
                id,
                target,
                htl: MAX_ANNOUNCE_HTL,
                descriptor: self.own.clone(),
            };
            self.output
                .push_back(TopologyOutput::Send(to, Frame::Announce(Box::new(announce))));
        }
    }
}
