//! Who misbehaved, and until when nobody wants to hear of it.
//!
//! By identity only: an attacker can make a new one, so this keeps out broken nodes and makes attackers pay for places on the
//! ring. Addresses are the driver's business.

use std::collections::BTreeMap;

use warren_keys::NodeId;

use super::limits::{FIRST_BAN, MAX_BAN, MAX_OFFENDERS, OFFENCE_TIME, OFFENCES};
use crate::time::Time;

#[derive(Clone, Copy, Debug)]
struct Record {
    offences: u32,
    last: Time,
    until: Time,
}

#[derive(Debug, Default)]
pub(super) struct Bans {
    records: BTreeMap<NodeId, Record>,
}

impl Bans {
    /// Takes note of an offence; whether the node is banned now.
    pub(super) fn offence(&mut self, now: Time, node: NodeId) -> bool {
        if self.records.len() >= MAX_OFFENDERS && !self.records.contains_key(&node) {
            self.forget_one(now);
        }
        let record = self.records.entry(node).or_insert(Record {
            offences: 0,
            last: now,
            until: now,
        });
        if now.since(record.last.max(record.until)) > OFFENCE_TIME {
            record.offences = 0;
        }
        record.offences = record.offences.saturating_add(1);
        record.last = now;
        if let Some(beyond) = record.offences.checked_sub(OFFENCES) {
            let ban = FIRST_BAN.saturating_mul(1 << beyond.min(16)).min(MAX_BAN);
            record.until = now + ban;
            return true;
        }
        false
    }

    pub(super) fn is_banned(&self, now: Time, node: &NodeId) -> bool {
        self.records.get(node).is_some_and(|record| now < record.until)
    }

    pub(super) fn banned(&self, now: Time) -> usize {
        self.records.values().filter(|record| now < record.until).count()
    }

    /// The record that ends first goes.
    fn forget_one(&mut self, now: Time) {
        self.records
            .retain(|_, record| now.since(record.last.max(record.until)) <= OFFENCE_TIME);
        if self.records.len() >= MAX_OFFENDERS {
            let first = self
                .records
                .iter()
                .min_by_key(|(_, record)| (record.until, record.last));
            if let Some(node) = first.map(|(node, _)| *node) {
                self.records.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_keys::{IdentityKey, Seed};

    fn node(number: u16) -> NodeId {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        IdentityKey::from_seed(&Seed::from_bytes(seed)).id()
    }

    #[test]
    fn repeated_offence_bans_for_a_while_and_longer_each_time() {
        let mut bans = Bans::default();
        let start = Time(1);
        assert!(!bans.offence(start, node(1)) && !bans.offence(start, node(1)));
        assert!(!bans.is_banned(start, &node(1)));
        assert!(bans.offence(start, node(1)));
        assert!(bans.is_banned(start, &node(1)) && !bans.is_banned(start, &node(2)));
        let later = start + FIRST_BAN;
        assert!(!bans.is_banned(later, &node(1)));
        assert!(bans.offence(later, node(1)));
        assert!(bans.is_banned(later + FIRST_BAN, &node(1)));
        let long_after = later + FIRST_BAN * 2 + OFFENCE_TIME * 2;
        assert!(!bans.offence(long_after, node(1)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_banned() {
        let mut bans = Bans::default();
        for _ in 0..OFFENCES {
            bans.offence(Time(0), node(0));
        }
        for number in 1..1100 {
            bans.offence(Time(u64::from(number)), node(number));
        }
        assert_eq!(bans.records.len(), MAX_OFFENDERS);
        assert!(bans.is_banned(Time(2000), &node(0)));
        assert_eq!(bans.banned(Time(2000)), 1);
    }
}
