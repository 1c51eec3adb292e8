//! Whom a node lets in, and what it learns of its own place in the world.

use core::time::Duration;

use super::network::Network;
use crate::{
    link::api::LinkEvent,
    topology::{Access, AccessRule, Reachability},
    wire::{DialResult, Frame},
};

fn links(network: &Network, node: usize) -> usize {
    network.cores[node].status(network.now).links.len()
}

#[test]
fn lists_close_links_at_once_and_are_kept_to() {
    let mut network = Network::new(6, 1, 3);
    network.run_for(Duration::from_secs(2));
    let shunned = AccessRule::Node(network.descriptors[2].identity);
    let range = AccessRule::Addresses(
        format!("{}", network.descriptors[3].addresses[0].ip())
            .parse()
            .unwrap(),
    );
    let (now, wall) = (network.now, network.wall());
    let deny = vec![shunned, range];
    network.cores[1].set_access(
        now,
        wall,
        Access {
            allow: Vec::new(),
            deny,
        },
    );
    network.flush(1);
    assert_eq!(links(&network, 1), 3);
    let dialled = network.dialled.len();
    network.run_for(Duration::from_secs(60));
    assert_eq!(
        (
            network.connections(1, 2),
            network.connections(3, 1),
            links(&network, 1)
        ),
        (0, 0, 3)
    );
    let again = network.dialled[dialled..]
        .iter()
        .filter(|(node, _)| *node == 1)
        .count();
    assert_eq!(again, 0, "it dials whom it does not let in");
    let only = vec![AccessRule::Node(network.descriptors[0].identity)];
    let (now, wall) = (network.now, network.wall());
    network.cores[1].set_access(
        now,
        wall,
        Access {
            allow: only,
            deny: Vec::new(),
        },
    );
    network.flush(1);
    network.run_for(Duration::from_secs(60));
    assert_eq!((network.connections(1, 0), links(&network, 1)), (1, 1));
    let (now, wall) = (network.now, network.wall());
    network.cores[1].set_access(now, wall, Access::default());
    network.flush(1);
    network.run_for(Duration::from_secs(20));
    assert_eq!(links(&network, 1), 5);
}

#[test]
fn fewer_links_are_had_from_one_moment_to_the_next() {
    let mut network = Network::new(40, 2, 3);
    network.run_for(Duration::from_secs(20));
    assert!(links(&network, 5) > 20);
    let (now, wall) = (network.now, network.wall());
    network.cores[5].set_max_links(now, wall, 12);
    network.flush(5);
    assert_eq!(links(&network, 5), 12);
    let near = super::forming::near(&network, 5);
    assert!(
        near.iter().all(|near| network.connections(5, *near) == 1),
        "a near link went for a far one"
    );
    network.run_for(Duration::from_secs(60));
    assert!(links(&network, 5) <= 12);
}

#[test]
fn few_of_one_network_count_for_the_ring() {
    let mut network = Network::new(1, 3, 3);
    // All test nodes are in 127.1.0.0/16, save those beyond 256.
    for number in 1..20 {
        network.add(number, 3, |_| {});
    }
    let strict = network.add(300, 3, |config| config.topology.strict_private = true);
    network.run_for(Duration::from_secs(60));
    let dialled = network.dialled.iter().filter(|(node, _)| *node == strict);
    let nodes: std::collections::BTreeSet<_> = dialled.map(|(_, target)| target.node).collect();
    assert!((1..=2).contains(&nodes.len()), "{} of one network", nodes.len());
    let needed = network.cores[strict]
        .status(network.now)
        .links
        .iter()
        .filter(|link| link.link.needed)
        .count();
    assert!(needed <= 2, "{needed} of one network count");
    assert!(links(&network, strict) > 2, "others may link to it all the same");
}

#[test]
fn a_node_behind_a_wall_learns_it_and_one_without_learns_that() {
    let mut network = Network::new(8, 4, 3);
    network.walled.extend([5]);
    for node in [5, 6] {
        let port = network.descriptors[node].addresses[0].port();
        let (now, wall) = (network.now, network.wall());
        network.cores[node].set_port(now, wall, Some(port));
    }
    network.run_for(Duration::from_secs(120));
    for (node, expected) in [(5, Reachability::NotReachable), (6, Reachability::Reachable)] {
        let status = network.cores[node].status(network.now);
        assert_eq!(status.reachability, expected, "node {node}");
        assert_eq!(status.links.len(), 7, "node {node}");
    }
    let seen = network.cores[5].status(network.now).observed;
    assert_eq!(seen, [network.descriptors[5].addresses[0].ip()]);
    // The wall falls: the next check, or the first that gets in, shows it.
    network.walled.clear();
    network.run_for(Duration::from_secs(1500));
    assert_eq!(
        network.cores[5].status(network.now).reachability,
        Reachability::Reachable
    );
    for (a, b) in (0..8).flat_map(|a| (0..a).map(move |b| (a, b))) {
        assert_eq!(network.connections(a, b), 1, "a check left a second link");
    }
}

#[test]
fn nobody_is_made_to_dial_anybody_but_the_asker() {
    let mut network = Network::new(3, 5, 3);
    network.run_for(Duration::from_secs(2));
    let before = network.dialled.len();
    // Node 1 has dialled node 0, its seed: node 0 dials it back, where the link comes from, and nowhere else.
    let link = network.link(0, 1).unwrap();
    for port in [1000, 1001, 1002] {
        network.event(0, link, LinkEvent::Gossip(Frame::AskDialBack { port }));
    }
    network.run_for(Duration::from_secs(2));
    let home = network.descriptors[1].addresses[0].ip();
    let dialled: Vec<_> = network.dialled[before..]
        .iter()
        .map(|(node, to)| (*node, to.addresses.clone()))
        .collect();
    assert_eq!(dialled, [(0, vec![(home, 1000).into()])]);
    // Port 0 is nobody's, and who was dialled has nothing to ask.
    let (asked, other) = (network.link(1, 0).unwrap(), network.link(0, 2).unwrap());
    network.event(1, asked, LinkEvent::Gossip(Frame::AskDialBack { port: 9000 }));
    network.event(0, other, LinkEvent::Gossip(Frame::AskDialBack { port: 0 }));
    network.run_for(Duration::from_secs(2));
    assert_eq!(network.dialled.len(), before + 1);
}

#[test]
fn answers_that_nobody_asked_for_prove_nothing() {
    let mut network = Network::new(4, 6, 3);
    network.walled.extend([1]);
    network.run_for(Duration::from_secs(2));
    for peer in [0, 2, 3] {
        let link = network.link(1, peer).unwrap();
        for result in [DialResult::Reached, DialResult::Failed, DialResult::NotTried] {
            network.event(1, link, LinkEvent::Gossip(Frame::DialedBack(result)));
        }
    }
    assert_eq!(
        network.cores[1].status(network.now).reachability,
        Reachability::Unknown
    );
}

#[test]
fn one_liar_does_not_move_a_node() {
    let mut network = Network::new(5, 7, 3);
    network.walled.extend([4]);
    network.run_for(Duration::from_secs(2));
    let home = network.descriptors[4].addresses[0].ip();
    let link = network.link(4, 2).unwrap();
    for last in 1..50 {
        let lie = ([203, 0, 113, last], 1).into();
        network.event(4, link, LinkEvent::Gossip(Frame::Observed(lie)));
    }
    assert_eq!(network.cores[4].status(network.now).observed, [home]);
}
