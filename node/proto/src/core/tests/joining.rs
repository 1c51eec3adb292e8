//! How nodes find their place in a network that is larger than their directories, from one link on; and what spoils it not.

use core::time::Duration;

use rand_core::Rng;
use warren_keys::Location;

use super::{
    forming::{assert_near_links, near},
    network::{Network, target},
};
use crate::{
    core::CoreConfig,
    descriptor::{Descriptor, fixtures},
    link::api::LinkEvent,
    topology::{LONG_PER_SIDE, NEAR_PER_SIDE, long_part},
    wire::{Announce, Frame},
};

/// Few enough that the networks here do not fit.
const ROOM: usize = 120;

fn small_directory(config: &mut CoreConfig) {
    config.topology.max_known = ROOM;
}

/// A network of nodes that come one after another and know the first.
fn grown(count: u16, seed: u64, each: Duration) -> Network {
    let mut network = Network::new(0, seed, 3);
    for number in 0..count {
        network.add(number, 3, small_directory);
        network.run_for(each);
    }
    network
}

/// Parts of the ring, of those that hold anybody who answers, into which a node has no long link.
fn parts_without_link(network: &Network, node: usize) -> usize {
    let here = network.descriptors[node].location();
    let (near, pairs) = (near(network, node), network.pairs());
    let reach = |up: bool, other: usize| {
        let there = network.descriptors[other].location();
        if up {
            here.clockwise(there)
        } else {
            there.clockwise(here)
        }
    };
    let (after, before) = near.split_at(NEAR_PER_SIDE);
    let mut missing = 0;
    for (up, side) in [(true, after), (false, before)] {
        let start = side.iter().map(|other| reach(up, *other)).max().unwrap();
        for part in 0..LONG_PER_SIDE {
            let (from, to) = long_part(start, part, LONG_PER_SIDE);
            let inside = |other: &usize| {
                *other != node
                    && !network.frozen.contains(other)
                    && (from + 1..=to).contains(&reach(up, *other))
            };
            let mut within = (0..network.cores.len()).filter(inside).peekable();
            let held = within.peek().is_some();
            missing += usize::from(held && !within.any(|other| pairs.contains_key(&(node, other))));
        }
    }
    missing
}

fn gossip(network: &mut Network, node: usize, from: usize, frame: Frame) {
    let link = network.link(node, from).unwrap();
    network.event(node, link, LinkEvent::Gossip(frame));
}

#[test]
fn one_link_to_a_seed_makes_a_full_member() {
    let mut network = grown(220, 1, Duration::from_millis(60));
    network.run_for(Duration::from_secs(90));
    assert_near_links(&network);
    for node in 0..220 {
        let missing = parts_without_link(&network, node);
        assert_eq!(missing, 0, "long links that node {node} lacks");
        let known = network.cores[node].status(network.now).known_nodes;
        assert!(known <= ROOM, "node {node} knows {known}");
    }
    // The seed has done no more than any node must that many link to first.
    let others: u64 = network.heard[1..].iter().sum::<u64>() / 219;
    assert!(
        network.heard[0] < 10 * others,
        "{} at the seed, {others} elsewhere",
        network.heard[0]
    );
    // In peace there is little to say.
    let before: u64 = network.heard.iter().sum();
    network.run_for(Duration::from_secs(600));
    let before: u64 = before / 220;
    let after = network.heard.iter().sum::<u64>() / 220 - before;
    assert!(after < 300, "{after} frames a node in ten minutes");
    assert_near_links(&network);
}

#[test]
fn a_crowd_at_one_seed_finds_its_way() {
    let mut network = grown(160, 2, Duration::ZERO);
    network.run_for(Duration::from_secs(60));
    assert_near_links(&network);
    let most = network.cores[0].status(network.now).links.len();
    assert!(most <= 128, "{most} links at the seed");
}

#[test]
fn the_ring_closes_over_a_gap_in_a_network_larger_than_directories() {
    let mut network = grown(150, 3, Duration::from_millis(50));
    network.run_for(Duration::from_secs(60));
    // Five next to each other, more than a side's near links, and others here and there.
    let mut order: Vec<usize> = (0..150).collect();
    order.sort_by_key(|node| network.descriptors[*node].location());
    for node in order[40..45].iter().chain(order[60..140].iter().step_by(4)) {
        network.kill(*node);
    }
    network.run_for(Duration::from_secs(90));
    assert_near_links(&network);
}

#[test]
fn a_flood_of_announcements_costs_its_own_link() {
    let mut network = grown(30, 4, Duration::from_millis(100));
    network.run_for(Duration::from_secs(20));
    let before: u64 = network.heard.iter().sum();
    let victim = network.descriptors[7].clone();
    for id in 0..1000 {
        let target = Location::new(network.rng.next_u64());
        let announce = Announce {
            id,
            target,
            htl: 255,
            descriptor: victim.clone(),
        };
        gossip(&mut network, 1, 2, Frame::Announce(Box::new(announce)));
    }
    network.run_for(Duration::from_secs(1));
    let caused = network.heard.iter().sum::<u64>() - before;
    assert!(caused < 30 * 8, "{caused} frames from a thousand announcements");
    assert_eq!(network.connections(1, 2), 1);
}

#[test]
fn what_comes_of_an_announcement_is_bounded_and_comes_once() {
    let mut network = grown(20, 5, Duration::from_millis(100));
    network.run_for(Duration::from_secs(20));
    let newcomer = fixtures::node(900);
    let announce = |descriptor: &Descriptor| {
        let target = descriptor.location();
        Frame::Announce(Box::new(Announce {
            id: 77,
            target,
            htl: 18,
            descriptor: descriptor.clone(),
        }))
    };
    let before = network.heard[2];
    gossip(&mut network, 1, 2, announce(&newcomer));
    gossip(&mut network, 1, 2, announce(&newcomer));
    network.run_for(Duration::from_secs(1));
    assert!(network.cores[1].known().any(|known| *known == newcomer));
    let answers = network.heard[2] - before;
    assert!((1..=12).contains(&answers), "{answers} frames back");
    // Out of date, from the future, or the receiver's own: not heard at all.
    for by in [-30, 3] {
        let mut changed = network.resigned(3, |statement| {
            statement.published = statement.published.saturating_add_signed(by * 24 * 3600);
        });
        let before = network.heard.iter().sum::<u64>();
        gossip(&mut network, 1, 2, announce(&changed));
        changed = network.descriptors[1].clone();
        gossip(&mut network, 1, 2, announce(&changed));
        network.run_for(Duration::from_millis(100));
        // What the twenty nodes say to each other in this time anyway; who hears an announcement tells six, and they six more.
        let heard = network.heard.iter().sum::<u64>() - before;
        assert!(heard <= 8, "{heard} frames");
    }
}

#[test]
fn answers_that_nobody_asked_for_are_ignored() {
    let mut network = grown(10, 6, Duration::from_millis(100));
    network.run_for(Duration::from_secs(20));
    let invented: Vec<Descriptor> = (1000..1016).map(fixtures::node).collect();
    for id in 0..100 {
        let descriptors = invented.clone();
        gossip(&mut network, 1, 2, Frame::Announced { id, descriptors });
    }
    network.run_for(Duration::from_secs(2));
    assert_eq!(network.cores[1].status(network.now).known_nodes, 9);
}

/// A descriptor has no place in it: the place follows from the identity, and the target of an announcement is only where it goes.
#[test]
fn nobody_can_claim_a_place() {
    let mut network = grown(60, 7, Duration::from_millis(100));
    network.run_for(Duration::from_secs(30));
    let claimed = network.descriptors[5].location();
    let stranger = (900..)
        .map(fixtures::node)
        .find(|node| node.location().distance(claimed) > 1 << 62)
        .unwrap();
    let announce = Announce {
        id: 1,
        target: claimed,
        htl: 18,
        descriptor: stranger.clone(),
    };
    gossip(&mut network, 1, 2, Frame::Announce(Box::new(announce)));
    network.run_for(Duration::from_secs(30));
    // It is nobody, so nobody is linked to it, and all near links are as they were.
    assert_near_links(&network);
    let known = network.cores[5].known().find(|known| **known == stranger);
    assert!(known.is_none_or(|known| known.location() == stranger.identity.location()));
}

#[test]
fn a_seed_that_lies_about_everyone_does_not_keep_a_second_seed_from_helping() {
    let mut network = grown(90, 8, Duration::from_millis(60));
    network.run_for(Duration::from_secs(40));
    let honest = target(&network.descriptors[1]);
    let mut invented: Vec<Descriptor> = (1000..2000).map(fixtures::node).collect();
    let newcomer = network.add(500, 3, |config| {
        small_directory(config);
        config.topology.seeds.push(honest);
    });
    let here = network.descriptors[newcomer].location();
    invented.sort_by_key(|node| here.distance(node.location()));
    // The first seed says nothing true, and nothing but what is nearest to the newcomer.
    network.run_for(Duration::from_millis(20));
    for lies in invented.chunks(32) {
        if network.link(newcomer, 0).is_some() {
            gossip(&mut network, newcomer, 0, Frame::Descriptors(lies.to_vec()));
        }
        network.run_for(Duration::from_millis(500));
    }
    network.run_for(Duration::from_secs(60));
    for other in near(&network, newcomer) {
        assert_eq!(network.connections(newcomer, other), 1, "to its near {other}");
    }
}

/// On the way of every announcement sit nodes that take everything in and never answer.
#[test]
fn peers_that_accept_and_never_answer_only_delay() {
    let mut network = grown(90, 9, Duration::from_millis(60));
    network.run_for(Duration::from_secs(30));
    network
        .frozen
        .extend((0..90).step_by(7).filter(|node| *node != 0));
    let newcomer = network.add(500, 3, small_directory);
    network.run_for(Duration::from_secs(60));
    for other in near(&network, newcomer) {
        assert_eq!(network.connections(newcomer, other), 1, "to its near {other}");
    }
    assert_eq!(parts_without_link(&network, newcomer), 0);
}

#[test]
fn who_cannot_be_dialled_takes_part_over_the_links_that_it_dials() {
    let mut network = grown(60, 10, Duration::from_millis(60));
    network.run_for(Duration::from_secs(30));
    let hidden = network.add(500, 3, |config| {
        small_directory(config);
        let (key, mut statement) = fixtures::node_statement(500);
        statement.addresses.clear();
        config.descriptor = Descriptor::sign(&key, statement, &fixtures::network());
    });
    network.walled.insert(hidden);
    network.run_for(Duration::from_secs(60));
    for other in near(&network, hidden) {
        assert_eq!(network.connections(hidden, other), 1, "to its near {other}");
    }
    assert_eq!(parts_without_link(&network, hidden), 0);
    let identity = network.descriptors[hidden].identity;
    assert!(
        network.dialled.iter().all(|(_, target)| target.node != identity),
        "dialled in vain"
    );
}
