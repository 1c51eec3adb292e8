//! What has to be done about links as time goes by: dial what is missing, ping, close the dead and the superfluous.

use rand_core::Rng;
use warren_keys::NodeId;

use super::{
    Topology, TopologyOutput,
    limits::{CIRCUIT_TIME, ENOUGH_LINKS, NEAR_PER_SIDE, PING_INTERVAL, PONG_TIME, WANTED_LINKS},
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
        let (links, entries) = (&self.links, &self.entries);
        self.directory
            .expire(wall, |node| links.to(node).is_some() || entries.contains(node));
        self.ask_around(now);
        self.plan_links(now, wall);
        self.drop_superfluous(now);
    }

    /// Dials what the ring misses.
    pub(super) fn plan_links(&mut self, now: Time, wall: WallTime) {
        let places = self.places();
        let (directory, dialling, bans) = (&self.directory, &self.dialling, &self.bans);
        let allow_private = self.settings.allow_private;
        let usable = |node: &NodeId| {
            !bans.is_banned(now, node)
                && (dialling.is_open(node) || dialling.may_start(now, node))
                && directory.find(node).is_some_and(|known| {
                    known.is_current(wall)
                        && !super::addresses::diallable(&known.addresses, allow_private).is_empty()
                })
        };
        self.plan = ring::plan(self.here, directory, &places, usable, &mut self.rng);
        let room = self
            .settings
            .max_links
            .saturating_sub(self.links.len() + self.dialling.open());
        let missing = self.plan.missing.clone();
        for node in missing.into_iter().take(room.min(DIALS_A_ROUND)) {
            if !self.dialling.may_start(now, &node) {
                continue;
            }
            if let Some(descriptor) = self.directory.find(&node).cloned() {
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
                Some((_, at)) if now.since(at) >= PONG_TIME => dead.push((id, link.node)),
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
        if self.links.len() <= WANTED_LINKS {
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

    /// Closes a link to make room for `newcomer`, which must be near. Without one to spare, `false`.
    pub(super) fn make_room(&mut self, now: Time, newcomer: LinkId) -> bool {
        if !self
            .links
            .find(newcomer)
            .is_some_and(|link| self.is_near(&link.node))
        {
            return false;
        }
        let busy = |at: Option<Time>| at.is_some_and(|at| now.since(at) < CIRCUIT_TIME);
        let spare = self
            .links
            .iter()
            .filter(|(id, link)| *id != newcomer && !self.is_needed(&link.node))
            // Without circuits first, then the youngest: old links have proved themselves.
            .min_by_key(|(_, link)| (busy(link.circuit), core::cmp::Reverse(link.since)))
            .map(|(id, _)| id);
        if let Some(id) = spare {
            self.close(now, id);
        }
        spare.is_some()
    }

    fn is_needed(&self, node: &NodeId) -> bool {
        self.plan.needed.contains(node) || self.entries.contains(node)
    }

    /// Whether a node is among the nearest linked ones of either side.
    fn is_near(&self, node: &NodeId) -> bool {
        let (here, there) = (self.here, node.location());
        let above = self
            .links
            .iter()
            .filter(|(_, link)| here.clockwise(link.location) < here.clockwise(there));
        let below = self
            .links
            .iter()
            .filter(|(_, link)| link.location.clockwise(here) < there.clockwise(here));
        above.count() < NEAR_PER_SIDE || below.count() < NEAR_PER_SIDE
    }
}
