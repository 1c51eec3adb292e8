//! Dials in progress and their failures: whom not to dial again yet, and when that was rash.
//!
//! A failure says nothing of whose fault it was. When it turns out that a whole part of the network was out of reach, because this
//! machine or a line on the way was cut off, pauses are cut short ([`Dialling::relent`]): each node's only now and then, so that
//! those who are really gone cost little.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use warren_keys::NodeId;

use super::limits::{
    DIAL_TIME, FAILURE_TIME, FIRST_BACKOFF, MAX_BACKOFF, MAX_DIALS, MAX_FAILURES, MAX_PROVEN,
    RELENT_BACKOFFS, RELENT_PAUSE, RELENT_TIME,
};
use crate::{random::jittered, time::Time};

#[derive(Clone, Copy, Debug)]
struct Failure {
    times: u32,
    until: Time,
    /// When the first of them was.
    since: Time,
    /// It is there, and the link did not last: no outage, and not to be cut short.
    refused: bool,
    /// When the pause was last cut short.
    relented: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct Dialling {
    open: BTreeMap<NodeId, Time>,
    failures: BTreeMap<NodeId, Failure>,
    /// Nodes that there was a link to which lasted, with its end: most likely to be there again.
    proven: BTreeMap<NodeId, Time>,
}

impl Dialling {
    /// Whether a dial of this node may start: none is open, it has not failed lately, and there is room.
    pub(super) fn may_start(&self, now: Time, node: &NodeId) -> bool {
        self.open.len() < MAX_DIALS
            && !self.open.contains_key(node)
            && self.failures.get(node).is_none_or(|failure| failure.until <= now)
    }

    pub(super) fn start(&mut self, now: Time, node: NodeId) {
        self.open.insert(node, now);
    }

    pub(super) fn is_open(&self, node: &NodeId) -> bool {
        self.open.contains_key(node)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.open.keys()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether the last attempt to reach the node failed not long ago.
    pub(super) fn failing(&self, now: Time, node: &NodeId) -> bool {
        let failure = self.failures.get(node);
        failure.is_some_and(|failure| now < failure.until + FAILURE_TIME)
    }

    /// Whether it is too early to try the node again.
    pub(super) fn is_pausing(&self, now: Time, node: &NodeId) -> bool {
        let failure = self.failures.get(node);
        failure.is_some_and(|failure| now < failure.until)
    }

    /// The dial led to a link. Earlier failures count until the link has shown that it lasts.
    pub(super) fn connected(&mut self, node: &NodeId) {
        self.open.remove(node);
    }

    /// A link to the node has ended that lasted.
    pub(super) fn forgive(&mut self, now: Time, node: NodeId) {
        self.failures.remove(&node);
        self.proven.insert(node, now);
        if self.proven.len() > MAX_PROVEN {
            let oldest = self.proven.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.proven.remove(&oldest);
            }
        }
    }

    /// Since when the node could not be reached, if it was tried repeatedly.
    pub(super) fn out_of_reach_since(&self, node: &NodeId) -> Option<Time> {
        let failure = self.failures.get(node)?;
        (failure.times >= RELENT_BACKOFFS && !failure.refused).then_some(failure.since)
    }

    /// What kept nodes out of reach since `from` seems to be over: their pauses end soon, not all at the same moment. Whether that
    /// concerns any.
    pub(super) fn relent(&mut self, now: Time, from: Time, rng: &mut ChaCha20Rng) -> bool {
        let mut any = false;
        for failure in self.failures.values_mut() {
            let lately = |at: Time| now.since(at) < RELENT_PAUSE;
            let soon = failure.until <= now + RELENT_TIME;
            let kept_away = failure.since >= from && !failure.refused;
            if kept_away && !soon && !failure.relented.is_some_and(lately) {
                failure.relented = Some(now);
                failure.until = now + jittered(rng, RELENT_TIME / 2);
                any = true;
            }
        }
        any
    }

    /// As [`Dialling::relent`], for all nodes, and later pauses begin anew: the fault was here, and is mended for sure.
    pub(super) fn start_afresh(&mut self, now: Time, rng: &mut ChaCha20Rng) {
        for failure in self.failures.values_mut() {
            failure.times = failure.times.min(RELENT_BACKOFFS);
            failure.until = failure.until.min(now + jittered(rng, RELENT_TIME / 2));
        }
    }

    /// Ends one pause: of who has waited longest, rather a node that was linked before. `false` without any.
    pub(super) fn try_one(&mut self, now: Time) -> bool {
        let proven = &self.proven;
        let pausing = self
            .failures
            .iter_mut()
            .filter(|(_, failure)| failure.until > now && !failure.refused);
        let next = pausing.min_by_key(|(node, failure)| (!proven.contains_key(node), failure.until));
        next.map(|(_, failure)| failure.until = now).is_some()
    }

    pub(super) fn failed(&mut self, now: Time, node: NodeId, rng: &mut ChaCha20Rng) {
        let refused = self.open.remove(&node).is_none();
        if self.failures.len() >= MAX_FAILURES && !self.failures.contains_key(&node) {
            let first = self.failures.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(node) = first.map(|(node, _)| *node) {
                self.failures.remove(&node);
            }
        }
        let failure = self.failures.entry(node).or_insert(Failure {
            times: 0,
            until: now,
            since: now,
            refused,
            relented: None,
        });
        failure.refused = refused;
        let pause = FIRST_BACKOFF
            .saturating_mul(1 << failure.times.min(16))
            .min(MAX_BACKOFF);
        failure.times = failure.times.saturating_add(1);
        failure.until = now + jittered(rng, pause);
    }

    /// Counts dials that the driver never ended as failed.
    pub(super) fn give_up(&mut self, now: Time, rng: &mut ChaCha20Rng) -> Vec<NodeId> {
        let stuck = |at: &Time| now.since(*at) >= DIAL_TIME;
        let nodes: Vec<NodeId> = self
            .open
            .iter()
            .filter(|(_, at)| stuck(at))
            .map(|(node, _)| *node)
            .collect();
        for node in &nodes {
            self.failed(now, *node, rng);
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use rand_core::SeedableRng;
    use warren_keys::{IdentityKey, Seed};

    #[test]
    fn backs_off_longer_each_time_and_forgives_what_lasts() {
        let node = IdentityKey::from_seed(&Seed::from_bytes([1; 32])).id();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut dialling = Dialling::default();
        let mut now = Time(0);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            assert!(dialling.may_start(now, &node));
            dialling.start(now, node);
            assert!(!dialling.may_start(now, &node));
            dialling.failed(now, node, &mut rng);
            let failed = now;
            while !dialling.may_start(now, &node) {
                now = now + Duration::from_millis(100);
            }
            pauses.push(now.since(failed));
        }
        assert!(pauses[0] < FIRST_BACKOFF * 2 && pauses[5] > FIRST_BACKOFF * 10);
        assert!(pauses.iter().all(|pause| *pause < MAX_BACKOFF * 2));
        dialling.start(now, node);
        dialling.connected(&node);
        dialling.forgive(now, node);
        assert!(dialling.may_start(now, &node) && !dialling.failing(now, &node));
    }

    fn node(number: u16) -> NodeId {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        IdentityKey::from_seed(&Seed::from_bytes(seed)).id()
    }

    /// Fails dials until the pause is long.
    fn fail(dialling: &mut Dialling, from: Time, node: NodeId, rng: &mut ChaCha20Rng) {
        for second in 0..10 {
            let now = from + Duration::from_secs(second);
            dialling.start(now, node);
            dialling.failed(now, node, rng);
        }
    }

    #[test]
    fn pauses_since_an_outage_are_cut_short_but_not_again_and_again() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut dialling = Dialling::default();
        let (before, outage) = (Time(0), Time(0) + Duration::from_secs(3600));
        fail(&mut dialling, before, node(1), &mut rng);
        fail(&mut dialling, outage, node(2), &mut rng);
        dialling.start(outage, node(3));
        dialling.failed(outage, node(3), &mut rng);
        assert_eq!(dialling.out_of_reach_since(&node(2)), Some(outage));
        assert_eq!(dialling.out_of_reach_since(&node(3)), None);
        let mut now = outage + Duration::from_secs(20);
        fail(&mut dialling, now, node(1), &mut rng);
        assert!(dialling.relent(now, outage, &mut rng));
        now = now + RELENT_TIME;
        assert!(dialling.may_start(now, &node(2)) && !dialling.may_start(now, &node(1)));
        // It is still not recommended to others, and pauses as long as before if it does not answer.
        assert!(dialling.failing(now, &node(2)));
        dialling.start(now, node(2));
        dialling.failed(now, node(2), &mut rng);
        assert!(!dialling.relent(now, outage, &mut rng));
        assert!(!dialling.may_start(now + RELENT_TIME, &node(2)));
        assert!(dialling.relent(now + RELENT_PAUSE, outage, &mut rng));
        dialling.start_afresh(now, &mut rng);
        assert!((1..4).all(|number| dialling.may_start(now + RELENT_TIME, &node(number))));
    }

    #[test]
    fn who_was_linked_is_tried_first() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut dialling = Dialling::default();
        for number in 1..20 {
            fail(&mut dialling, Time(0), node(number), &mut rng);
        }
        dialling.forgive(Time(0), node(9));
        let now = Time(0) + Duration::from_secs(30);
        fail(&mut dialling, now, node(9), &mut rng);
        assert!(dialling.try_one(now));
        let free: Vec<u16> = (1..20)
            .filter(|number| dialling.may_start(now, &node(*number)))
            .collect();
        assert_eq!(free, [9]);
        for number in 0..2000 {
            dialling.forgive(now + Duration::from_secs(number.into()), node(number));
        }
        assert_eq!(dialling.proven.len(), MAX_PROVEN);
    }

    #[test]
    fn whose_links_do_not_last_is_not_hurried() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut dialling = Dialling::default();
        let mut now = Time(0);
        for _ in 0..10 {
            dialling.start(now, node(1));
            dialling.connected(&node(1));
            dialling.failed(now, node(1), &mut rng);
            now = now + Duration::from_secs(1);
        }
        assert!(!dialling.relent(now, Time(0), &mut rng) && !dialling.try_one(now));
        assert_eq!(dialling.out_of_reach_since(&node(1)), None);
        assert!(!dialling.may_start(now + RELENT_TIME, &node(1)));
    }

    #[test]
    fn a_dial_without_end_fails() {
        let node = IdentityKey::from_seed(&Seed::from_bytes([1; 32])).id();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut dialling = Dialling::default();
        dialling.start(Time(0), node);
        assert_eq!(dialling.give_up(Time(1), &mut rng), []);
        assert_eq!(dialling.give_up(Time(0) + DIAL_TIME, &mut rng), [node]);
        let failed = Time(0) + DIAL_TIME;
        assert!(dialling.failing(failed, &node) && dialling.is_pausing(failed, &node));
        assert_eq!(dialling.open(), 0);
        // Nobody is given up for ever for one failure.
        let later = failed + FIRST_BACKOFF * 2;
        assert!(dialling.failing(later, &node) && !dialling.is_pausing(later, &node));
        assert!(!dialling.failing(later + FAILURE_TIME, &node));
    }
}
