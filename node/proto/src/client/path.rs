//! Chooses the nodes of a circuit (protocol §8.2).
//!
//! Exit first, because it is the scarcest, then the hops between it and the entry; each uniformly at random among all nodes
//! that fit. Invariants: the hops are distinct, none of them is this node, and no two share a network prefix. A path is never
//! shortened because nodes are missing: no path is the answer then.
//!
//! Bandwidth does not weigh: a node could claim any and draw circuits to itself.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::NodeId;

use crate::{descriptor::Descriptor, topology::group};

/// How many exits are tried before a path is given up: in a large directory the first fits, in a small one these are all.
const EXIT_TRIES: usize = 64;

/// What the pool sees of the node directory: descriptors of the nodes that are fit for use now, whoever they are.
pub trait RelayView {
    /// All of them, in an order that depends on nothing ambient.
    fn relays(&self) -> impl Iterator<Item = &Descriptor>;

    /// One of them.
    fn relay(&self, node: &NodeId) -> Option<&Descriptor>;
}

impl RelayView for BTreeMap<NodeId, Descriptor> {
    fn relays(&self) -> impl Iterator<Item = &Descriptor> {
        self.values()
    }

    fn relay(&self, node: &NodeId) -> Option<&Descriptor> {
        self.get(node)
    }
}

/// What every path must satisfy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathRules {
    /// This node, which is never a hop of its own circuits.
    pub own: NodeId,
    /// Number of hops, exit included.
    pub hops: usize,
    /// Whether the prefix rule holds for loopback and private addresses too (for tests).
    pub strict_private: bool,
}

/// Chooses a path that starts at `entry` (or anywhere, when there is none) and ends at an exit.
///
/// `refuse` says which nodes are not wanted as a hop, `refuse_exit` which are not wanted as the exit. `None` when the
/// directory has no such path.
pub fn choose<V: RelayView + ?Sized>(
    view: &V,
    rules: &PathRules,
    entry: Option<&Descriptor>,
    refuse: impl Fn(&NodeId) -> bool,
    refuse_exit: impl Fn(&NodeId) -> bool,
    rng: &mut ChaCha20Rng,
) -> Option<Vec<Descriptor>> {
    let fixed = usize::from(entry.is_some());
    let free = rules.hops.checked_sub(fixed)?;
    let reachable = |node: &Descriptor| node.identity != rules.own && !node.addresses.is_empty();
    let fits = |node: &Descriptor, path: &[&Descriptor]| {
        reachable(node)
            && !refuse(&node.identity)
            && path
                .iter()
                .all(|hop| hop.identity != node.identity && !too_close(hop, node, rules.strict_private))
    };
    let start: Vec<&Descriptor> = entry.into_iter().collect();
    if free == 0 {
        return entry
            .filter(|node| node.services.exit && !refuse_exit(&node.identity))
            .map(|node| vec![node.clone()]);
    }
    let mut exits: Vec<&Descriptor> = view
        .relays()
        .filter(|node| node.services.exit && !refuse_exit(&node.identity) && fits(node, &start))
        .collect();
    for tried in 0..exits.len().min(EXIT_TRIES) {
        let pick = tried + below(rng, exits.len() - tried);
        exits.swap(tried, pick);
        let exit = exits[tried];
        let mut chosen = start.clone();
        chosen.push(exit);
        while chosen.len() < rules.hops {
            let next = sample(
                view.relays()
                    .filter(|node| node.services.relay && fits(node, &chosen)),
                rng,
            );
            let Some(next) = next else { break };
            let before_exit = chosen.len() - 1;
            chosen.insert(before_exit, next);
        }
        if chosen.len() == rules.hops {
            return Some(chosen.into_iter().cloned().collect());
        }
    }
    None
}

/// One item, each equally likely.
pub(crate) fn sample<T>(items: impl Iterator<Item = T>, rng: &mut ChaCha20Rng) -> Option<T> {
    let mut chosen = None;
    for (seen, item) in items.enumerate() {
        if below(rng, seen + 1) == 0 {
            chosen = Some(item);
        }
    }
    chosen
}

/// A number in `0..bound` (`bound` is at least 1). The bias of the multiplication is below 2^-32 for any directory.
pub(crate) fn below(rng: &mut ChaCha20Rng, bound: usize) -> usize {
    let wide = u128::from(rng.next_u64()) * bound as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

/// Whether two nodes share a /16 (IPv4) or /32 (IPv6), and so perhaps an operator.
fn too_close(a: &Descriptor, b: &Descriptor, strict_private: bool) -> bool {
    a.addresses.iter().any(|one| {
        let one = group(one.ip(), strict_private);
        one.is_some()
            && b.addresses
                .iter()
                .any(|other| group(other.ip(), strict_private) == one)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_core::SeedableRng;

    use super::*;
    use crate::{
        client::testing::{descriptor, network, node, offering},
        descriptor::Services,
    };

    fn rules(hops: usize) -> PathRules {
        PathRules {
            own: node(0),
            hops,
            strict_private: false,
        }
    }

    fn check(path: &[Descriptor], rules: &PathRules) -> Result<(), TestCaseError> {
        prop_assert_eq!(path.len(), rules.hops);
        for (index, hop) in path.iter().enumerate() {
            prop_assert_ne!(hop.identity, rules.own);
            for other in &path[index + 1..] {
                prop_assert_ne!(hop.identity, other.identity);
                prop_assert!(!too_close(hop, other, rules.strict_private));
            }
        }
        prop_assert!(path.last().unwrap().services.exit);
        Ok(())
    }

    #[test]
    fn a_path_needs_as_many_nodes_as_hops() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for hops in 1..=5 {
            let enough = network(hops + 1);
            let few = network(hops);
            assert!(choose(&enough, &rules(hops), None, |_| false, |_| false, &mut rng).is_some());
            assert!(
                choose(&few, &rules(hops), None, |_| false, |_| false, &mut rng).is_none(),
                "{hops} hops"
            );
        }
    }

    #[test]
    fn a_lone_exit_is_found_among_relays() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut view = network(30);
        for index in (0..30).filter(|index| *index != 7) {
            let services = Services {
                exit: false,
                ..Services::ALL
            };
            view.insert(node(index), offering(index, &["127.0.0.1:9"], services));
        }
        let entry = view[&node(3)].clone();
        let path = choose(&view, &rules(3), Some(&entry), |_| false, |_| false, &mut rng).unwrap();
        assert_eq!((path[0].identity, path[2].identity), (node(3), node(7)));
        assert!(
            choose(
                &view,
                &rules(3),
                Some(&entry),
                |_| false,
                |id| *id == node(7),
                &mut rng
            )
            .is_none()
        );
    }

    #[test]
    fn every_exit_and_relay_is_equally_likely() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let view = network(11);
        let mut counts = BTreeMap::new();
        for _ in 0..3000 {
            for hop in choose(&view, &rules(3), None, |_| false, |_| false, &mut rng).unwrap() {
                *counts.entry(hop.identity).or_insert(0_u32) += 1;
            }
        }
        assert_eq!(counts.len(), 10);
        // Mean 900, standard deviation 25.
        assert!(
            counts.values().all(|count| (775..1025).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn addresses_of_one_prefix_never_share_a_path() {
        let close = |a: &str, b: &str, strict| too_close(&descriptor(1, &[a]), &descriptor(2, &[b]), strict);
        assert!(close("203.0.113.1:1", "203.0.9.9:2", false));
        assert!(!close("203.0.113.1:1", "203.1.113.1:1", false));
        assert!(close("[2001:db8::1]:1", "[2001:db8:ffff::2]:1", false));
        assert!(!close("[2001:db8::1]:1", "[2001:db9::1]:1", false));
        assert!(!close("127.0.0.1:1", "127.0.0.1:2", false));
        assert!(close("127.0.0.1:1", "127.0.0.1:2", true));
        assert!(!close("127.1.0.1:1", "127.2.0.1:2", true));
        assert!(!close("10.0.0.1:1", "10.0.0.2:1", false));
        assert!(!close("[fd00::1]:1", "[fd00::2]:1", false));
    }

    proptest! {
        #[test]
        fn paths_keep_the_rules(
            hops in 1_usize..=5,
            nets in proptest::collection::vec(0_u8..12, 1..40),
            with_entry: bool,
            seed: u64,
        ) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let view: BTreeMap<_, _> = (0_u64..).zip(&nets).map(|(index, net)| {
                let descriptor = descriptor(index, &[&format!("203.{net}.0.{}:9", index + 1)]);
                (descriptor.identity, descriptor)
            }).collect();
            let rules = rules(hops);
            let entry = view.values().find(|candidate| candidate.identity != rules.own).filter(|_| with_entry);
            match choose(&view, &rules, entry, |_| false, |_| false, &mut rng) {
                Some(path) => {
                    check(&path, &rules)?;
                    prop_assert!(entry.is_none_or(|entry| entry.identity == path[0].identity));
                }
                None => {
                    let distinct: std::collections::BTreeSet<_> =
                        view.values().filter(|each| each.identity != rules.own).map(|each| group(each.addresses[0].ip(), true)).collect();
                    prop_assert!(distinct.len() < hops, "a path of distinct networks was missed");
                }
            }
        }
    }
}
