//! What was out of reach for a while, and how soon it is found again.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{forming::assert_near_links, network::Network};
use crate::topology::WANTED_LINKS;

/// How long everything is out of reach here: long enough for the longest pauses.
const OUTAGE: Duration = Duration::from_secs(600);
/// When all is to be well again.
const HEALED: Duration = Duration::from_secs(60);

fn links(network: &Network, node: usize) -> usize {
    network.cores[node].status(network.now).links.len()
}

/// A network of which `part` has been out of the others' reach for a while, just before that ends.
fn parted(count: u16, seed: u64, part: impl IntoIterator<Item = usize>) -> Network {
    let mut network = Network::new(count, seed, 3);
    network.run_for(Duration::from_secs(30));
    network.apart.extend(part);
    network.run_for(OUTAGE);
    let between = network.pairs();
    let across = between
        .keys()
        .filter(|(one, other)| network.apart.contains(one) != network.apart.contains(other));
    assert_eq!(across.count(), 0, "links that carry nothing");
    network
}

fn heal(network: &mut Network) {
    network.apart.clear();
    network.run_for(HEALED);
}

#[test]
fn two_parts_are_one_ring_again_within_a_minute() {
    for (count, seed, smaller) in [
        (40, 1, 20),
        (20, 2, 8),
        (30, 3, 3),
        (8, 4, 4),
        (4, 5, 2),
        (2, 6, 1),
    ] {
        let mut network = parted(count, seed, 1..=smaller);
        heal(&mut network);
        assert_near_links(&network);
    }
}

/// What joined one part while the network was in two is found by the other.
#[test]
fn newcomers_of_either_part_find_their_place() {
    let mut network = parted(30, 1, 10..30);
    for number in 30..40 {
        let node = network.add(number, 3, |_| {});
        if number % 2 == 0 {
            // Its seed must be one that it can reach.
            let seed = super::network::target(&network.descriptors[15]);
            let (now, wall) = (network.now, network.wall());
            network.apart.insert(node);
            network.cores[node].add_seed(now, wall, seed);
        }
    }
    network.run_for(Duration::from_secs(60));
    heal(&mut network);
    assert_near_links(&network);
}

#[test]
fn a_node_whose_own_line_was_cut_is_back_soon_and_was_patient_meanwhile() {
    for seed in 0..2 {
        let mut network = Network::new(34, seed, 3);
        network.run_for(Duration::from_secs(30));
        network.apart.insert(7);
        network.run_for(OUTAGE);
        assert_eq!(links(&network, 7), 0);
        let before = network.dialled.len();
        network.run_for(OUTAGE);
        let dials = network.dialled[before..].iter().filter(|(from, _)| *from == 7);
        let dials = dials.count();
        assert!((60..300).contains(&dials), "{dials} dials in ten minutes");
        heal(&mut network);
        assert_near_links(&network);
        assert!(links(&network, 7) >= WANTED_LINKS);
    }
}

/// Nodes come and go, and each return might be the end of an outage: who is gone for good is not knocked at all the time for that.
#[test]
fn the_dead_are_left_alone_though_others_come_and_go() {
    let mut network = Network::new(30, 1, 3);
    network.run_for(Duration::from_secs(30));
    let dead: BTreeSet<usize> = (20..30).collect();
    for node in &dead {
        network.kill(*node);
    }
    network.run_for(OUTAGE);
    let before = network.dialled.len();
    for round in 0..20 {
        let node = 5 + round % 10;
        network.kill(node);
        network.run_for(Duration::from_secs(20));
        network.revive(node);
        network.run_for(Duration::from_secs(40));
    }
    let dead: BTreeSet<_> = dead
        .iter()
        .map(|node| network.descriptors[*node].identity)
        .collect();
    let mut knocks = [0; 30];
    for (from, to) in &network.dialled[before..] {
        knocks[*from] += u32::from(dead.contains(&to.node));
    }
    // Twenty minutes, ten dead: without returns there are some four a node and dead neighbour.
    assert!(knocks.iter().all(|knocks| *knocks <= 10 * 20), "{knocks:?}");
}

#[test]
fn a_node_that_paused_is_back_at_once() {
    let mut network = Network::new(20, 1, 3);
    network.run_for(Duration::from_secs(30));
    let (now, wall) = (network.now, network.wall());
    network.cores[3].set_paused(now, wall, true);
    network.walled.insert(3);
    let ends: Vec<_> = (0..20).filter_map(|other| network.link(3, other)).collect();
    for link in ends {
        network.disconnect(link, false);
    }
    let before = network.dialled.len();
    network.run_for(OUTAGE);
    assert_eq!(links(&network, 3), 0);
    let dials = network.dialled[before..].iter().filter(|(from, _)| *from == 3);
    assert_eq!(dials.count(), 0, "dials of a node that wants no links");
    network.walled.clear();
    let (now, wall) = (network.now, network.wall());
    network.cores[3].set_paused(now, wall, false);
    network.flush(3);
    network.run_for(Duration::from_secs(10));
    assert_eq!(links(&network, 3), 19);
}
