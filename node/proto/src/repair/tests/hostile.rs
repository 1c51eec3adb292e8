//! Neighbours that claim to have everything, or nothing, or do not answer: each costs its own row.

use std::collections::BTreeMap;

use warren_keys::Block;

use super::network::{Conduct, HOUR, Network, block};

/// 20 nodes, one of which is as `conduct` says and has nothing; and the blocks that it should have.
fn with_one(conduct: Conduct, seed: u64) -> (Network, Vec<Block>, usize) {
    let mut network = Network::new(20, seed);
    let liar = 7;
    let blocks: Vec<Block> = (0..200)
        .map(block)
        .filter(|block| network.nearest(block.key().location(), 5).contains(&liar))
        .take(30)
        .collect();
    for block in &blocks {
        network.place(block, 5);
    }
    network.nodes[liar].conduct = conduct;
    network.nodes[liar].store.clear();
    // The first census of each begins on the second day and takes one.
    network.run_for(74 * HOUR);
    (network, blocks, liar)
}

/// Kills an honest holder of each kind of place, and asserts that the others get their four honest copies back.
fn assert_repaired(mut network: Network, blocks: &[Block], liar: usize) {
    let dead = network
        .nearest(network.nodes[liar].place, 2)
        .into_iter()
        .find(|node| *node != liar)
        .unwrap();
    network.stop(dead);
    network.nodes[dead].store.clear();
    network.run_for(100 * HOUR);
    for block in blocks {
        let honest: Vec<usize> = network
            .holders(block.id())
            .into_iter()
            .filter(|node| *node != liar)
            .collect();
        assert_eq!(honest.len(), 4, "{honest:?}");
    }
}

#[test]
fn claiming_to_have_all_costs_one_copy() {
    let (network, blocks, liar) = with_one(Conduct::HasAll, 1);
    assert_eq!(network.pushed(), 0);
    assert_repaired(network, &blocks, liar);
}

#[test]
fn claiming_to_lack_all_brings_each_block_from_two_and_not_again_for_three_days() {
    let (mut network, blocks, liar) = with_one(Conduct::LacksAll, 2);
    network.run_for(100 * HOUR);
    assert!(network.pushes.iter().all(|(_, _, to, _)| *to == liar));
    for block in &blocks {
        let pushes = network.pushes.iter().filter(|(.., pushed)| *pushed == block.id());
        let mut last = BTreeMap::new();
        for (at, from, ..) in pushes {
            let before = last.insert(*from, *at);
            assert!(before.is_none_or(|before| at.since(before) >= 72 * HOUR));
        }
        assert_eq!(last.len(), 2, "{last:?}");
    }
    assert_repaired(network, &blocks, liar);
}

#[test]
fn silence_brings_nothing_and_hinders_nobody() {
    let (network, blocks, liar) = with_one(Conduct::Silent, 3);
    assert_eq!(network.pushed(), 0);
    assert_repaired(network, &blocks, liar);
}
