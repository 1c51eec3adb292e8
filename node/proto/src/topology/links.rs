//! The links that are up, by number and by node; and which of two links between the same nodes stays.

use std::collections::BTreeMap;

use core::{net::SocketAddr, time::Duration};

use warren_keys::{Location, NodeId};

use super::{
    addresses::Group,
    bucket::Bucket,
    limits::{
        ANNOUNCE_BURST, ANNOUNCE_RATE, ASK_BURST, ASK_RATE, EXTEND_BURST, EXTEND_RATE, GOSSIP_BURST,
        GOSSIP_RATE, TOLD_BURST, TOLD_RATE,
    },
};
use crate::{ids::LinkId, time::Time};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) location: Location,
    /// Whether this node dialled.
    pub(super) dialled: bool,
    /// Where its other end is, if the driver knows.
    pub(super) remote: Option<SocketAddr>,
    /// The network that its other end is in, as far as that counts.
    pub(super) group: Option<Group>,
    pub(super) since: Time,
    /// When the peer last said anything that the core hears of.
    pub(super) heard: Time,
    /// Silence after which it is pinged.
    pub(super) patience: Duration,
    /// Since when an answer to something that was sent over it is awaited, unless it has said anything after that.
    pub(super) waits: Option<Time>,
    /// Number and time of the ping whose answer is awaited.
    pub(super) pinged: Option<(u64, Time)>,
    pub(super) round_trip: Option<Duration>,
    /// When a circuit was last opened over it.
    pub(super) circuit: Option<Time>,
    pub(super) gossip: Bucket,
    pub(super) asks: Bucket,
    pub(super) announces: Bucket,
    /// Dials of nodes that it told of.
    pub(super) told: Bucket,
    /// When this node asked it for descriptors, until the answer came.
    pub(super) asked: Option<Time>,
    /// When the peer last asked to be dialled back.
    pub(super) asked_back: Option<Time>,
    pub(super) extends: Bucket,
}

impl Link {
    pub(super) fn new(now: Time, node: NodeId, dialled: bool, patience: Duration) -> Self {
        Self {
            node,
            location: node.location(),
            dialled,
            remote: None,
            group: None,
            since: now,
            heard: now,
            patience,
            waits: None,
            pinged: None,
            round_trip: None,
            circuit: None,
            gossip: Bucket::new(now, GOSSIP_BURST, GOSSIP_RATE),
            announces: Bucket::new(now, ANNOUNCE_BURST, ANNOUNCE_RATE),
            told: Bucket::new(now, TOLD_BURST, TOLD_RATE),
            asked: None,
            asked_back: None,
            asks: Bucket::new(now, ASK_BURST, ASK_RATE),
            extends: Bucket::new(now, EXTEND_BURST, EXTEND_RATE),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Links {
    by_id: BTreeMap<LinkId, Link>,
    by_node: BTreeMap<NodeId, LinkId>,
}

impl Links {
    /// Puts a link in the place of whatever there was to the same node.
    pub(super) fn insert(&mut self, id: LinkId, link: Link) {
        self.by_node.insert(link.node, id);
        self.by_id.insert(id, link);
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.by_id.remove(&id)?;
        if self.by_node.get(&link.node) == Some(&id) {
            self.by_node.remove(&link.node);
        }
        Some(link)
    }

    pub(super) fn find(&self, id: LinkId) -> Option<&Link> {
        self.by_id.get(&id)
    }

    pub(super) fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn to(&self, node: &NodeId) -> Option<LinkId> {
        self.by_node.get(node).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.by_id.iter().map(|(id, link)| (*id, link))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkId, &mut Link)> {
        self.by_id.iter_mut().map(|(id, link)| (*id, link))
    }

    pub(super) fn ids(&self) -> Vec<LinkId> {
        self.by_id.keys().copied().collect()
    }
}

/// Of two links between `me` and `peer`, whether the later one replaces the earlier one.
///
/// Both ends must come to the same answer. When both dialled, the link dialled by the smaller identity stays. When one end
/// dialled twice, it has given up the earlier link, so the later one stays.
pub(super) fn replaces(me: &NodeId, peer: &NodeId, earlier_dialled: bool, later_dialled: bool) -> bool {
    earlier_dialled == later_dialled || later_dialled == (me < peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::fixtures;

    #[test]
    fn both_ends_keep_the_same_of_two_links() {
        let (a, b) = (fixtures::node(1).identity, fixtures::node(2).identity);
        // Link X was dialled by a, link Y by b; the ends may see them come up in either order.
        let keeps_x_at_a = [!replaces(&a, &b, true, false), replaces(&a, &b, false, true)];
        let keeps_x_at_b = [!replaces(&b, &a, false, true), replaces(&b, &a, true, false)];
        assert!(
            keeps_x_at_a
                .iter()
                .chain(&keeps_x_at_b)
                .all(|kept| *kept == (a < b))
        );
        assert!(replaces(&a, &b, true, true) && replaces(&a, &b, false, false));
    }

    #[test]
    fn removing_the_replaced_link_keeps_the_new_one() {
        let node = fixtures::node(1).identity;
        let mut links = Links::default();
        links.insert(LinkId(1), Link::new(Time(0), node, true, Duration::ZERO));
        links.insert(LinkId(2), Link::new(Time(0), node, false, Duration::ZERO));
        assert!(links.remove(LinkId(1)).is_some());
        assert_eq!(links.to(&node), Some(LinkId(2)));
        assert!(links.remove(LinkId(2)).is_some());
        assert_eq!((links.to(&node), links.len()), (None, 0));
    }
}
