//! Dials in progress and their failures: whom not to dial again yet.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use warren_keys::NodeId;

use super::limits::{DIAL_TIME, FAILURE_TIME, FIRST_BACKOFF, MAX_BACKOFF, MAX_DIALS, MAX_FAILURES};
use crate::{random::jittered, time::Time};

#[derive(Clone, Copy, Debug)]
struct Failure {
    times: u32,
    until: Time,
}

#[derive(Debug, Default)]
pub(super) struct Dialling {
    open: BTreeMap<NodeId, Time>,
    failures: BTreeMap<NodeId, Failure>,
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

    /// A link to the node lasted.
    pub(super) fn forgive(&mut self, node: &NodeId) {
        self.failures.remove(node);
    }

    pub(super) fn failed(&mut self, now: Time, node: NodeId, rng: &mut ChaCha20Rng) {
        self.open.remove(&node);
        if self.failures.len() >= MAX_FAILURES && !self.failures.contains_key(&node) {
            let first = self.failures.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(node) = first.map(|(node, _)| *node) {
                self.failures.remove(&node);
            }
        }
        let failure = self
            .failures
            .entry(node)
            .or_insert(Failure { times: 0, until: now });
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
        dialling.forgive(&node);
        assert!(dialling.may_start(now, &node) && !dialling.failing(now, &node));
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
