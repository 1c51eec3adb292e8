//! What has to be done about links as time goes by: dial what is missing, ping, close the dead and the superfluous.

use rand_core::Rng;
use warren_keys::NodeId;

use super::{
    Topology, TopologyOutput,
    limits::{CIRCUIT_TIME, ENOUGH_LINKS, PING_INTERVAL, PLAN_INTERVAL, PONG_TIME, YIELD_AGE},
    ring,
};
use crate::{
    ids::LinkId,
    random::jittered,
    time::{Time, WallTime},
    wire::Frame,
};

/// Dials that one round of planning starts. The next round comes with the first result, so that a node that has just
/// learnt of the whole network does not dial all of it before it has seen who is near.
const DIALS_A_ROUND: usize = 16;

impl Topology {
    pub(super) fn upkeep(&mut self, now: Time, wall: WallTime) {
        for node in self.dialling.give_up(now, &mut self.rng) {
            self.output.push_back(TopologyOutput::DialLost(node));
        }
        self.ping(now);
        self.ask_around(now);
        let short = !self.plan.missing.is_empty() || self.links.len() < self.settings.wanted_links();
        if now.since(self.expired) >= PLAN_INTERVAL {
            self.expired = now;
            let (links, entries) = (&self.links, &self.entries);
            self.directory
                .expire(wall, |node| links.to(node).is_some() || entries.contains(node));
        }
        if short || now.since(self.planned) >= PLAN_INTERVAL {
            self.plan_links(now, wall);
        }
        self.drop_superfluous(now);
    }

    /// Dials what the ring misses.
    pub(super) fn plan_links(&mut self, now: Time, wall: WallTime) {
        self.planned = now;
        let places = self.places();
        let (directory, dialling, bans) = (&self.directory, &self.dialling, &self.bans);
        let allow_private = self.settings.allow_private;
        let shape = ring::Shape {
            near: self.settings.near_per_side,
            long: self.settings.long_per_side,
        };
        let usable = |node: &NodeId| {
            !bans.is_banned(now, node)
                && (dialling.is_open(node) || dialling.may_start(now, node))
                && directory.find(node).is_some_and(|known| {
                    known.is_current(wall)
                        && super::addresses::diallable(&known.addresses, allow_private)
                            .next()
                            .is_some()
                })
        };
        self.plan = ring::plan(self.here, shape, directory, &places, usable, &mut self.rng);
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
        for node in missing.into_iter().take(room.min(DIALS_A_ROUND)) {
            if !self.dialling.may_start(now, &node) {
                continue;
            }
            let known = self.directory.find(&node).cloned();
            if known.is_some() && !self.ring_dials.take(now, 1) {
                break;
            }
            if let Some(descriptor) = known {
                self.dial(now, descriptor);
            }
        }
        if self.links.len() < ENOUGH_LINKS {
            self.dial_seeds(now);
        }
    }

    fn dial_seeds(&mut self, now: Time) {
        for seed in self.settings.seeds.clone() {
            let wanted = seed.node != self.me && self.links.to(&seed.node).is_none();
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
                None if link.next_ping <= now => {
                    let number = self.rng.next_u64();
                    link.pinged = Some((number, now));
                    self.output
                        .push_back(TopologyOutput::Send(id, Frame::Ping(number)));
                }
                None => {}
            }
        }
        for (id, node) in dead {
            self.dialling.failed(now, node, &mut self.rng);
            self.close(now, id);
        }
    }

    /// The answer to a ping. One that was not asked for means nothing.
    pub fn pong(&mut self, now: Time, id: LinkId, number: u64) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        if let Some((_, at)) = link.pinged.take_if(|(awaited, _)| *awaited == number) {
            link.round_trip = Some(now.since(at));
            link.next_ping = now + jittered(&mut self.rng, PING_INTERVAL);
        }
    }

    /// Closes links beyond the wanted number that this node dialled for circuits which are over. The peer's dials are the
    /// peer's business, and stay as long as there is room.
    fn drop_superfluous(&mut self, now: Time) {
        if self.links.len() <= self.settings.wanted_links() {
            return;
        }
        let over = |since: Time| now.since(since) >= CIRCUIT_TIME;
        let idle = self.links.iter().find(|(_, link)| {
            link.dialled && link.circuit.is_some_and(over) && over(link.since) && !self.is_needed(&link.node)
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
