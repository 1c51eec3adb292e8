//! What has to be done about links as time goes by: dial what is missing, ping, close the dead and the superfluous.

use std::collections::BTreeMap;

use rand_core::Rng;
use warren_keys::{Location, NodeId};

use super::{
    Topology, TopologyOutput,
    addresses::{Group, group},
    directory::Entry,
    limits::{
        CIRCUIT_TIME, DOUBT_TIME, ENOUGH_LINKS, FEW_PROBE, FILL_AFTER, LONELY_PROBE, MAX_PER_GROUP,
        PLAN_INTERVAL, PONG_TIME, SURPLUS_AGE, YIELD_AGE,
    },
    ring,
};
use crate::{
    descriptor::Descriptor,
    ids::LinkId,
    random::jittered,
    time::{Time, WallTime},
    wire::{DialResult, Frame},
};

/// Dials that one round of planning starts. The next round comes with the first result, so that a node that has just
/// learnt of the whole network does not dial all of it before it has seen who is near.
const DIALS_A_ROUND: usize = 16;

/// The network that a node says it is in.
fn group_of(known: &Descriptor, strict_private: bool) -> Option<Group> {
    group(known.addresses.first()?.ip(), strict_private)
}

fn has_room(groups: &BTreeMap<Group, usize>, group: Option<Group>) -> bool {
    group
        .and_then(|group| groups.get(&group))
        .is_none_or(|count| *count < MAX_PER_GROUP)
}

impl Topology {
    pub(super) fn upkeep(&mut self, now: Time, wall: WallTime) {
        for node in self.dialling.give_up(now, &mut self.rng) {
            self.directory.set_suspect(&node, true);
            if self.evidence.is_dialling(&node) {
                self.dialled_back(&node, DialResult::Failed);
            } else {
                self.output.push_back(TopologyOutput::DialLost(node));
            }
        }
        self.ping(now);
        self.ask_around(now);
        self.check_reach(now);
        self.probe(now);
        let short = !self.plan.missing.is_empty() || self.links.len() < self.settings.wanted_links();
        if now.since(self.expired) >= PLAN_INTERVAL {
            self.expired = now;
            let (links, entries) = (&self.links, &self.entries);
            self.directory.expire(wall, |node| {
                links.to(&node.identity).is_some() || entries.contains(&node.identity)
            });
        }
        if short || now < self.eager_until || now.since(self.planned) >= PLAN_INTERVAL {
            self.plan_links(now, wall);
        }
        self.drop_superfluous(now);
    }

    /// Without links, or with few, tries a node now and then for which it pauses.
    fn probe(&mut self, now: Time) {
        let pause = match self.links.len() {
            0 => LONELY_PROBE,
            few if few < ENOUGH_LINKS => FEW_PROBE,
            _ => return,
        };
        if self.probe_at <= now && self.dialling.try_one(now) {
            self.probe_at = now + jittered(&mut self.rng, pause);
            self.replan(now);
        }
    }

    /// Dials what the ring misses.
    pub(super) fn plan_links(&mut self, now: Time, wall: WallTime) {
        self.planned = now;
        if self.paused {
            return;
        }
        let places = self.places();
        let mut groups = self.groups();
        let (directory, dialling, bans, links) = (&self.directory, &self.dialling, &self.bans, &self.links);
        let strict = self.settings.strict_private;
        let fill = !self.directory.is_selective()
            && (self.directory.len() < self.settings.wanted_links() || now.since(self.started) >= FILL_AFTER);
        let (allow_private, access) = (self.settings.allow_private, &self.settings.access);
        let shape = ring::Shape {
            near: self.settings.near_per_side,
            long: self.settings.long_per_side,
        };
        let exhausted: Vec<LinkId> = links
            .iter()
            .filter(|(_, link)| !link.told.has_one(now))
            .map(|(id, _)| id)
            .collect();
        let usable = |entry: &Entry| {
            let known = &entry.descriptor;
            let node = &known.identity;
            !bans.is_banned(now, node)
                && (dialling.is_open(node) || dialling.may_start(now, node))
                && !exhausted.iter().any(|link| entry.is_from(*link))
                && known.is_current(wall)
                && links.to(node).is_none()
                && has_room(&groups, group_of(known, strict))
                && super::addresses::diallable(&known.addresses, allow_private)
                    .any(|address| access.admits(node, Some(address.ip())))
        };
        self.plan = ring::plan(self.here, shape, directory, &places, usable, fill, &mut self.rng);
        let room = self
            .settings
            .max_links
            .saturating_sub(self.links.len() + self.dialling.open());
        if room == 0 && !self.plan.missing.is_empty() {
            // The next plan, which follows, uses the place.
            if let Some(id) = self.spare(now, None) {
                self.close(now, id);
            }
        }
        let missing = self.plan.missing.clone();
        for known in missing.into_iter().take(room.min(DIALS_A_ROUND)) {
            let group = group_of(&known, strict);
            if !self.dialling.may_start(now, &known.identity) || !has_room(&groups, group) {
                continue;
            }
            let teller = self.directory.find(&known.identity);
            let teller =
                teller.and_then(|entry| self.links.iter().map(|(id, _)| id).find(|id| entry.is_from(*id)));
            let told = teller
                .and_then(|id| self.links.find_mut(id))
                .map(|link| &mut link.told);
            if told.is_some_and(|told| !told.take(now, 1)) {
                continue;
            }
            if !self.ring_dials.take(now, 1) {
                break;
            }
            if self.dial(now, known)
                && let Some(group) = group
            {
                *groups.entry(group).or_default() += 1;
            }
        }
        self.dial_entries(now);
        if self.links.len() < ENOUGH_LINKS {
            self.dial_seeds(now);
        }
    }

    /// The linked nodes that count for the ring: of one network only those with the oldest links.
    fn places(&self) -> BTreeMap<NodeId, Location> {
        let mut links: Vec<_> = self.links.iter().collect();
        links.sort_by_key(|(id, link)| (link.since, *id));
        let mut groups: BTreeMap<Group, usize> = BTreeMap::new();
        links.retain(|(_, link)| {
            let fits = has_room(&groups, link.group);
            if let Some(group) = link.group {
                *groups.entry(group).or_default() += 1;
            }
            fits
        });
        links
            .into_iter()
            .map(|(_, link)| (link.node, link.location))
            .collect()
    }

    /// How many nodes of each network are linked or being dialled.
    fn groups(&self) -> BTreeMap<Group, usize> {
        let dialled = self.dialling.nodes().filter_map(|node| {
            group_of(
                &self.directory.find(node)?.descriptor,
                self.settings.strict_private,
            )
        });
        let mut groups = BTreeMap::new();
        for group in self
            .links
            .iter()
            .filter_map(|(_, link)| link.group)
            .chain(dialled)
        {
            *groups.entry(group).or_default() += 1;
        }
        groups
    }

    /// Keeps the pinned entries linked, so that they carry circuits again as soon as they are back.
    fn dial_entries(&mut self, now: Time) {
        for node in self.entries.clone() {
            let room = self.links.len() + self.dialling.open() < self.settings.max_links;
            let free = self.links.to(&node).is_none() && !self.bans.is_banned(now, &node);
            if !room || !free || !self.dialling.may_start(now, &node) {
                continue;
            }
            let known = self.directory.find(&node);
            if let Some(known) = known.map(|entry| entry.descriptor.clone()) {
                self.dial(now, known);
            }
        }
    }

    fn dial_seeds(&mut self, now: Time) {
        for seed in self.settings.seeds.clone() {
            let mut seed = seed;
            let access = &self.settings.access;
            seed.addresses
                .retain(|address| access.admits(&seed.node, Some(address.ip())));
            let wanted =
                seed.node != self.me && !seed.addresses.is_empty() && self.links.to(&seed.node).is_none();
            if wanted && self.dialling.may_start(now, &seed.node) {
                self.dial_at(now, seed);
            }
        }
    }

    fn ping(&mut self, now: Time) {
        let mut dead = Vec::new();
        for (id, link) in self.links.iter_mut() {
            match link.pinged {
                Some((_, at)) if now.since(at.max(link.heard)) >= PONG_TIME => dead.push((id, link.node)),
                Some(_) => {}
                None if now.since(link.heard) >= link.patience
                    || link.waits.is_some_and(|since| now.since(since) >= DOUBT_TIME) =>
                {
                    let number = self.rng.next_u64();
                    link.pinged = Some((number, now));
                    self.output
                        .push_back(TopologyOutput::Send(id, Frame::Ping(number)));
                }
                None => {}
            }
        }
        for (id, node) in dead {
            self.close(now, id);
            self.dialling.failed(now, node, &mut self.rng);
            self.directory.set_suspect(&node, true);
        }
    }

    /// The answer to a ping. One that was not asked for means nothing.
    pub fn pong(&mut self, now: Time, id: LinkId, number: u64) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        if let Some((_, at)) = link.pinged.take_if(|(awaited, _)| *awaited == number) {
            link.round_trip = Some(now.since(at));
            link.patience = jittered(&mut self.rng, self.settings.ping_interval);
        }
    }

    /// Closes links beyond the wanted number that this node dialled for circuits which are over, or for a part of the ring that
    /// another link serves by now. The peer's dials are the
    /// peer's business, and stay as long as there is room.
    fn drop_superfluous(&mut self, now: Time) {
        if self.links.len() <= self.settings.wanted_links() {
            return;
        }
        let over = |since: Time| now.since(since) >= CIRCUIT_TIME;
        let idle = self.links.iter().find(|(_, link)| {
            let old = now.since(link.since) >= SURPLUS_AGE;
            link.dialled && old && link.circuit.is_none_or(over) && !self.is_needed(&link.node)
        });
        if let Some((id, _)) = idle {
            self.close(now, id);
        }
    }

    /// Closes a link to make room for `newcomer`. `false` without one to spare.
    pub(super) fn make_room(&mut self, now: Time, newcomer: LinkId) -> bool {
        let spare = self
            .spare(now, Some(newcomer))
            .or_else(|| self.less_near(newcomer));
        if let Some(id) = spare {
            self.close(now, id);
        }
        spare.is_some()
    }

    /// Closes one link whatever it carries: rather one that the ring does not need, rather a young one. `false` without any.
    pub(super) fn close_least_needed(&mut self, now: Time) -> bool {
        let least = self.links.iter().max_by_key(|(_, link)| {
            let keep = u8::from(self.is_needed(&link.node)) + u8::from(self.is_near(&link.node));
            (u8::MAX - keep, link.since)
        });
        let least = least.map(|(id, _)| id);
        if let Some(id) = least {
            self.close(now, id);
        }
        least.is_some()
    }

    /// The oldest link that the ring does not need, that carries no circuits and that is not quite new.
    fn spare(&self, now: Time, newcomer: Option<LinkId>) -> Option<LinkId> {
        let busy = |at: Time| now.since(at) < CIRCUIT_TIME;
        self.links
            .iter()
            .filter(|(id, link)| {
                Some(*id) != newcomer
                    && now.since(link.since) >= YIELD_AGE
                    && !link.circuit.is_some_and(busy)
                    && !self.is_needed(&link.node)
            })
            .min_by_key(|(_, link)| link.since)
            .map(|(id, _)| id)
    }

    /// For a newcomer that is near: the youngest link to a node that is not.
    fn less_near(&self, newcomer: LinkId) -> Option<LinkId> {
        let near = self
            .links
            .find(newcomer)
            .is_some_and(|link| self.is_near(&link.node));
        let others = self.links.iter().filter(|(id, link)| {
            near && *id != newcomer && !self.is_near(&link.node) && !self.entries.contains(&link.node)
        });
        others.max_by_key(|(_, link)| link.since).map(|(id, _)| id)
    }

    fn is_needed(&self, node: &NodeId) -> bool {
        self.plan.needed.contains(node) || self.entries.contains(node)
    }

    /// Whether a node is among the nearest linked ones of either side.
    pub(super) fn is_near(&self, node: &NodeId) -> bool {
        let (here, there) = (self.here, node.location());
        let above = self
            .links
            .iter()
            .filter(|(_, link)| here.clockwise(link.location) < here.clockwise(there));
        let below = self
            .links
            .iter()
            .filter(|(_, link)| link.location.clockwise(here) < there.clockwise(here));
        let near = self.settings.near_per_side;
        above.count() < near || below.count() < near
    }
}
