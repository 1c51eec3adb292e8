//! What waits for a link that is being dialled: circuits of others that go on there, and own ones that start there.
//!
//! Bounded in number and time. When the link comes, all who wait get it in the order in which they came.

use std::collections::BTreeMap;

use core::time::Duration;

use warren_keys::NodeId;

use crate::{
    descriptor::Descriptor,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    time::Time,
    wire::Create,
};

/// How long a circuit waits for a dial. Clients give up a hop after about as long.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// Circuits that may wait, all together. Each holds a handshake or a path of descriptors, 2 KiB at most.
const MAX_WAITING: usize = 512;
/// Circuits that came over one link and may wait.
const MAX_PER_LINK: usize = 64;

#[derive(Debug)]
pub(super) enum Waiter {
    /// Somebody's circuit.
    Extension { from: CircuitAddr, create: Create },
    /// An own circuit.
    Origin { origin: OriginId, path: Vec<Descriptor> },
}

#[derive(Debug)]
struct Entry {
    node: NodeId,
    until: Time,
    waiter: Waiter,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order in which they came, and therefore in which they end.
    entries: BTreeMap<u64, Entry>,
    last: u64,
}

impl Waiting {
    /// Gives the waiter back when there is no room.
    pub(super) fn push(&mut self, now: Time, node: NodeId, waiter: Waiter) -> Option<Waiter> {
        let full = self.entries.len() >= MAX_WAITING
            || matches!(&waiter, Waiter::Extension { from, .. } if self.count_of_link(from.link) >= MAX_PER_LINK);
        if full {
            return Some(waiter);
        }
        self.last += 1;
        self.entries.insert(
            self.last,
            Entry {
                node,
                until: now + WAIT,
                waiter,
            },
        );
        None
    }

    /// All who wait for a node.
    pub(super) fn take(&mut self, node: &NodeId) -> Vec<Waiter> {
        self.take_where(|entry| entry.node == *node)
    }

    /// All who have waited too long.
    pub(super) fn expired(&mut self, now: Time) -> Vec<Waiter> {
        self.take_where(|entry| entry.until <= now)
    }

    pub(super) fn drop_circuit(&mut self, link: LinkId, circuit: CircuitId) {
        let gone = CircuitAddr { link, circuit };
        self.take_where(|entry| matches!(&entry.waiter, Waiter::Extension { from, .. } if *from == gone));
    }

    pub(super) fn drop_link(&mut self, link: LinkId) {
        self.take_where(|entry| matches!(&entry.waiter, Waiter::Extension { from, .. } if from.link == link));
    }

    pub(super) fn drop_origin(&mut self, gone: OriginId) {
        self.take_where(|entry| matches!(&entry.waiter, Waiter::Origin { origin, .. } if *origin == gone));
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.entries.values().next().map(|entry| entry.until)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn count_of_link(&self, link: LinkId) -> usize {
        let same =
            |entry: &&Entry| matches!(&entry.waiter, Waiter::Extension { from, .. } if from.link == link);
        self.entries.values().filter(same).count()
    }

    fn take_where(&mut self, wanted: impl Fn(&Entry) -> bool) -> Vec<Waiter> {
        let chosen = self
            .entries
            .iter()
            .filter(|(_, entry)| wanted(entry))
            .map(|(number, _)| *number);
        let chosen: Vec<u64> = chosen.collect();
        chosen
            .into_iter()
            .filter_map(|number| self.entries.remove(&number))
            .map(|entry| entry.waiter)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::fixtures;

    fn extension(link: u64, circuit: u32) -> Waiter {
        let from = CircuitAddr {
            link: LinkId(link),
            circuit: CircuitId(circuit),
        };
        Waiter::Extension {
            from,
            create: Create {
                layer: 1,
                ephemeral: [0; 32],
            },
        }
    }

    #[test]
    fn each_is_given_out_once_or_expires() {
        let (a, b) = (fixtures::node(1).identity, fixtures::node(2).identity);
        let mut waiting = Waiting::default();
        assert!(waiting.push(Time(0), a, extension(1, 1)).is_none());
        assert!(waiting.push(Time(1), b, extension(1, 2)).is_none());
        assert!(
            waiting
                .push(
                    Time(2),
                    a,
                    Waiter::Origin {
                        origin: OriginId(1),
                        path: Vec::new()
                    }
                )
                .is_none()
        );
        assert_eq!((waiting.take(&a).len(), waiting.take(&a).len()), (2, 0));
        assert_eq!(waiting.next_expiry(), Some(Time(1) + WAIT));
        assert_eq!(waiting.expired(Time(0) + WAIT).len(), 0);
        assert_eq!(waiting.expired(Time(1) + WAIT).len(), 1);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn one_link_cannot_take_all_the_room() {
        let node = fixtures::node(1).identity;
        let mut waiting = Waiting::default();
        let taken = (0..100)
            .filter(|n| waiting.push(Time(0), node, extension(1, *n)).is_none())
            .count();
        assert_eq!(taken, MAX_PER_LINK);
        assert!(waiting.push(Time(0), node, extension(2, 1)).is_none());
        waiting.drop_circuit(LinkId(2), CircuitId(1));
        waiting.drop_link(LinkId(1));
        waiting.drop_origin(OriginId(1));
        assert_eq!(waiting.len(), 0);
    }
}
