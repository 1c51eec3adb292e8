//! How nodes that know one seed become a ring, and what they do about the dead and the hostile.

use std::hash::{DefaultHasher, Hasher};

use core::time::Duration;

use rand_core::Rng;

use super::network::{Network, target};
use crate::{
    descriptor::Descriptor,
    link::api::{LinkCommand, LinkEvent},
    topology::{MAX_KNOWN, NEAR_PER_SIDE, WANTED_LINKS},
    wire::Frame,
};

/// The living nodes that are among the `NEAR_PER_SIDE` nearest of `node` on either side.
pub(super) fn near(network: &Network, node: usize) -> Vec<usize> {
    let here = network.descriptors[node].location();
    let alive = |other: &usize| *other != node && !network.is_gone(*other);
    let mut others: Vec<usize> = (0..network.cores.len()).filter(alive).collect();
    others.sort_by_key(|other| here.clockwise(network.descriptors[*other].location()));
    let after = others.iter().take(NEAR_PER_SIDE);
    after
        .chain(others.iter().rev().take(NEAR_PER_SIDE))
        .copied()
        .collect()
}

pub(super) fn assert_near_links(network: &Network) {
    let pairs = network.pairs();
    for node in (0..network.cores.len()).filter(|node| !network.is_gone(*node)) {
        for other in near(network, node) {
            assert_eq!(pairs.get(&(node, other)), Some(&1), "{node} to its near {other}");
        }
    }
}

#[test]
fn eight_nodes_that_know_one_seed_know_each_other_within_a_second() {
    let mut network = Network::new(8, 1, 3);
    network.run_for(Duration::from_secs(1));
    for node in 0..8 {
        let status = network.cores[node].status(network.now);
        assert_eq!((status.known_nodes, status.links.len()), (7, 7), "node {node}");
        for other in (0..8).filter(|other| *other != node) {
            assert_eq!(network.connections(node, other), 1);
        }
    }
    // Nothing more to say, then: gossip has died out, and asks become rare.
    let before = network.descriptors_sent;
    network.run_for(Duration::from_secs(600));
    assert!(
        network.descriptors_sent - before < 8 * 7 * 30,
        "{}",
        network.descriptors_sent - before
    );
}

#[test]
fn two_hundred_nodes_become_a_ring() {
    let mut network = Network::new(200, 2, 3);
    network.run_for(Duration::from_secs(20));
    assert_near_links(&network);
    let mut links = 0;
    for node in 0..200 {
        let status = network.cores[node].status(network.now);
        assert!(
            status.links.len() >= WANTED_LINKS,
            "node {node} has {} links",
            status.links.len()
        );
        assert!(
            status.known_nodes >= 150,
            "node {node} knows {}",
            status.known_nodes
        );
        links += status.links.len();
    }
    assert!(links / 200 < 2 * WANTED_LINKS, "{} links on average", links / 200);
}

#[test]
fn silent_nodes_are_noticed_and_the_ring_closes_over_them() {
    let mut network = Network::new(60, 3, 3);
    network.run_for(Duration::from_secs(15));
    network
        .frozen
        .extend([3, 7, 11, 20, 21, 22, 23, 24, 40, 41, 50, 51, 52, 59]);
    network.run_for(Duration::from_secs(420));
    for node in (0..60).filter(|node| !network.frozen.contains(node)) {
        for other in network.frozen.clone() {
            assert_eq!(
                network.connections(node, other),
                0,
                "{node} still holds on to {other}"
            );
        }
    }
    assert_near_links(&network);
}

#[test]
fn a_node_that_comes_back_is_found_again() {
    let mut network = Network::new(8, 4, 3);
    network.run_for(Duration::from_secs(2));
    network.kill(5);
    network.run_for(Duration::from_secs(20));
    assert_eq!(network.cores[0].status(network.now).links.len(), 6);
    network.revive(5);
    network.run_for(Duration::from_secs(90));
    for node in 0..8 {
        assert_eq!(
            network.cores[node].status(network.now).links.len(),
            7,
            "node {node}"
        );
    }
}

#[test]
fn remembered_nodes_do_without_the_seed() {
    let mut network = Network::new(8, 5, 3);
    network.run_for(Duration::from_secs(2));
    let known: Vec<Descriptor> = network.cores[3].known().cloned().collect();
    network.kill(0);
    let node = network.add(100, 3, |config| {
        config.known = known;
        config.topology.seeds.clear();
    });
    network.run_for(Duration::from_secs(5));
    assert_eq!(network.cores[node].status(network.now).links.len(), 7);
}

#[test]
fn two_nodes_that_dial_each_other_keep_one_link() {
    for seed in 0..20 {
        let mut network = Network::new(2, seed, 3);
        let (one, wall) = (target(&network.descriptors[1]), network.wall());
        network.cores[0].add_seed(network.now, wall, one);
        network.run_for(Duration::from_secs(20));
        assert_eq!((network.connections(0, 1), network.connections(1, 0)), (1, 1));
        let ends = [0, 1].map(|node| network.cores[node].status(network.now).links[0].link.dialled);
        assert_eq!(ends.iter().filter(|dialled| **dialled).count(), 1);
    }
}

#[test]
fn a_newer_descriptor_reaches_everybody_and_an_older_one_nobody() {
    let mut network = Network::new(30, 6, 3);
    network.run_for(Duration::from_secs(10));
    let newer = network.resigned(4, |statement| statement.published += 3600);
    let older = network.resigned(4, |statement| statement.published -= 3600);
    let (now, wall) = (network.now, network.wall());
    network.cores[4].set_descriptor(now, wall, newer.clone());
    network.run_for(Duration::from_secs(5));
    let link = network.link(9, 10).unwrap();
    network.event(9, link, LinkEvent::Gossip(Frame::Descriptors(vec![older])));
    network.run_for(Duration::from_secs(5));
    for node in (0..30).filter(|node| *node != 4) {
        assert!(
            network.cores[node].known().any(|known| *known == newer),
            "node {node}"
        );
    }
}

#[test]
fn out_of_date_descriptors_and_floods_are_ignored() {
    let mut network = Network::new(3, 7, 3);
    network.run_for(Duration::from_secs(2));
    let link = network.link(0, 1).unwrap();
    let stale = network.resigned(2, |statement| statement.published -= 30 * 24 * 3600);
    let ahead = network.resigned(2, |statement| statement.published += 3 * 24 * 3600);
    network.event(
        0,
        link,
        LinkEvent::Gossip(Frame::Descriptors(vec![stale.clone(), ahead.clone()])),
    );
    assert!(
        network.cores[0]
            .known()
            .all(|known| *known != stale && *known != ahead)
    );
    // A thousand invented nodes in one moment: a burst is heard, the rest is not.
    let invented: Vec<Descriptor> = (1000..2000).map(crate::descriptor::fixtures::node).collect();
    for batch in invented.chunks(32) {
        network.event(0, link, LinkEvent::Gossip(Frame::Descriptors(batch.to_vec())));
    }
    let known = network.cores[0].status(network.now).known_nodes;
    assert!((500..600).contains(&known) && known < MAX_KNOWN, "{known}");
    // None of them answers; the links that work stay, and dials are bounded.
    network.run_for(Duration::from_secs(120));
    assert_eq!((network.connections(0, 1), network.connections(0, 2)), (1, 1));
    assert!(network.dialled.len() < 1500, "{} dials", network.dialled.len());
}

#[test]
fn repeated_offence_bans_for_a_while() {
    let mut network = Network::new(3, 8, 3);
    network.run_for(Duration::from_secs(2));
    for _ in 0..3 {
        let link = network.link(1, 0).unwrap();
        // Node 1's link machine sent something invalid: that is what node 0 is told.
        network.disconnect(link, true);
        network.run_for(Duration::from_secs(20));
    }
    assert_eq!(network.cores[0].status(network.now).banned_nodes, 1);
    assert_eq!(network.connections(0, 1), 0);
    assert_eq!(network.connections(0, 2), 1);
    network.run_for(Duration::from_secs(3000));
    assert_eq!(network.connections(0, 1), 1);
}

#[test]
fn a_line_that_always_breaks_is_dialled_ever_more_seldom_and_bans_nobody() {
    let mut network = Network::new(2, 12, 3);
    for _ in 0..600 {
        network.run_for(Duration::from_millis(500));
        if let Some(link) = network.link(1, 0) {
            network.disconnect(link, false);
        }
    }
    for node in 0..2 {
        let dials = network.dialled.iter().filter(|(from, _)| *from == node).count();
        assert!(
            (3..20).contains(&dials),
            "{dials} dials by {node} in five minutes"
        );
        assert_eq!(network.cores[node].status(network.now).banned_nodes, 0);
    }
    // A line that holds is used again, and what was is forgiven.
    network.run_for(Duration::from_secs(900));
    assert_eq!(network.connections(0, 1), 1);
}

#[test]
fn private_addresses_are_dialled_only_for_seeds_unless_allowed() {
    let mut network = Network::new(3, 9, 3);
    let shy = network.add(50, 3, |config| config.topology.allow_private = false);
    network.run_for(Duration::from_secs(30));
    let seed = network.descriptors[0].identity;
    assert!(
        network
            .dialled
            .iter()
            .any(|(node, to)| *node == shy && to.node == seed)
    );
    assert!(
        network
            .dialled
            .iter()
            .all(|(node, to)| *node != shy || to.node == seed)
    );
    // The others may dial it, and do.
    assert_eq!(network.cores[shy].status(network.now).links.len(), 3);
}

#[test]
fn links_are_capped_and_near_nodes_have_precedence() {
    let mut network = Network::new(1, 10, 3);
    let small = network.add(60, 3, |config| config.topology.max_links = 10);
    for number in 1..40 {
        network.add(number, 3, |_| {});
    }
    network.run_for(Duration::from_secs(60));
    let links = network.cores[small].status(network.now).links;
    assert!(links.len() <= 10);
    let near = near(&network, small);
    let held = near
        .iter()
        .filter(|node| network.connections(small, **node) == 1)
        .count();
    assert!(held >= 6, "{held} of 8 near nodes");
}

#[test]
fn an_unanswered_ping_closes_the_link() {
    let mut network = Network::new(2, 11, 3);
    network.run_for(Duration::from_secs(1));
    let link = network.link(0, 1).unwrap();
    network.event(0, link, LinkEvent::Pong(12345));
    network.frozen.insert(1);
    network.run_for(Duration::from_secs(400));
    assert!(network.cores[0].status(network.now).links.is_empty());
    // What a closed link still says is not heard.
    network.commands.clear();
    network.event(
        0,
        link,
        LinkEvent::Gossip(Frame::AskDescriptors {
            near: network.descriptors[0].location(),
        }),
    );
    assert!(
        !network
            .commands
            .iter()
            .any(|(.., command)| matches!(command, LinkCommand::Send(_)))
    );
}

/// A neighbour that owes an answer is found out at once, whatever an idle one may allow itself.
#[test]
fn who_does_not_answer_is_soon_given_up() {
    let mut network = Network::new(8, 14, 3);
    network.run_for(Duration::from_secs(10));
    network.frozen.insert(3);
    let point = network.descriptors[3].location();
    let near = (0..8).find(|node| *node != 3 && *node != 0).unwrap();
    for number in 0..8 {
        let mut block = super::network::block(number);
        while block.key().location().distance(point) > 1 << 60 {
            block = super::network::block(network.rng.next_u64());
        }
        network.insert(near, block);
    }
    network.run_for(Duration::from_secs(40));
    assert_eq!(network.connections(near, 3), 0);
}

/// Padded records make each word cost 4 KiB: a node on a home line pays for peace, too.
#[test]
fn peace_costs_a_node_of_32_links_a_few_gigabytes_a_month() {
    let mut network = Network::new(33, 13, 3);
    network.run_for(Duration::from_secs(1800));
    let before = network.records;
    network.run_for(Duration::from_secs(2 * 3600));
    let links: usize = (0..33)
        .map(|node| network.cores[node].status(network.now).links.len())
        .sum();
    assert_eq!(links, 33 * 32);
    // Each record is sent by one node and received by another.
    let bytes = (network.records - before) as f64 * 2.0 * 4096.0;
    let month = bytes / 33.0 * (30.0 * 24.0 / 2.0) / f64::from(1 << 30);
    println!("{month:.1} GiB a month");
    assert!(month < 6.0, "{month:.1} GiB a month");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = Network::new(12, seed, 3);
        network.trace = Some(DefaultHasher::new());
        network.run_for(Duration::from_secs(20));
        network.trace.map(|trace| trace.finish())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
