//! Who is missed, for how long, and by whom.

use warren_keys::{Block, Location};

use super::network::{HOUR, Network, block};
use crate::{repair::RepairLimits, wire::ExitResult};

/// A network of nodes that are always on, with blocks on their five nearest, two days old: long enough to know and trust each other.
fn settled(nodes: usize, blocks: u64, seed: u64) -> (Network, Vec<Block>) {
    let mut network = Network::new(nodes, seed);
    let all: Vec<Block> = (0..blocks).map(block).collect();
    for block in &all {
        network.place(block, 5);
    }
    network.run_for(48 * HOUR);
    assert_eq!(network.pushed(), 0, "nothing is missing");
    (network, all)
}

/// The node that holds most of the blocks.
fn busiest(network: &Network, blocks: &[Block]) -> usize {
    let held = |node: &usize| {
        blocks
            .iter()
            .filter(|block| network.holds(*node, block.id()))
            .count()
    };
    (0..network.nodes.len()).max_by_key(held).unwrap()
}

/// Asserts that each block is on those of the nearest five, and on nobody else.
fn assert_in_place(network: &Network, blocks: &[Block], nearest: impl Fn(&Block) -> Vec<usize>) {
    for block in blocks {
        let mut wanted = nearest(block);
        wanted.sort_unstable();
        assert_eq!(network.holders(block.id()), wanted);
    }
}

/// The `5` nearest of those that are not in `without`.
fn nearest_but(network: &Network, block: &Block, without: &[usize]) -> Vec<usize> {
    let mut nearest = network.nearest(block.key().location(), 5 + without.len());
    nearest.retain(|node| !without.contains(node));
    nearest.truncate(5);
    nearest
}

#[test]
fn who_is_away_for_71_hours_is_not_replaced() {
    let (mut network, blocks) = settled(20, 40, 1);
    let node = busiest(&network, &blocks);
    network.stop(node);
    network.run_for(71 * HOUR);
    network.start(node);
    network.run_for(72 * HOUR);
    assert_eq!(network.pushed(), 0);
    assert_in_place(&network, &blocks, |block| nearest_but(&network, block, &[]));
}

#[test]
fn who_is_away_for_longer_is_replaced_and_may_come_back() {
    let (mut network, blocks) = settled(20, 40, 2);
    let node = busiest(&network, &blocks);
    let held = blocks
        .iter()
        .filter(|block| network.holds(node, block.id()))
        .count();
    network.stop(node);
    network.run_for(73 * HOUR);
    let before = network.pushed();
    network.run_for(25 * HOUR);
    assert_eq!(network.pushed(), held as u64, "{before} of them at once");
    for block in &blocks {
        let others = network
            .holders(block.id())
            .into_iter()
            .filter(|other| *other != node);
        assert_eq!(others.count(), 5);
    }
    // It still has its blocks, so nothing travels; the sixth copies go in time.
    network.start(node);
    network.run_for(96 * HOUR);
    assert_eq!(network.pushed(), held as u64);
    assert_in_place(&network, &blocks, |block| nearest_but(&network, block, &[]));
}

#[test]
fn a_newcomer_gets_its_blocks_within_the_hour_and_others_give_theirs_up_in_days() {
    let (mut network, blocks) = settled(20, 60, 3);
    let place = Location::new(blocks[0].key().location().as_u64() + 1);
    let newcomer = network.join(place);
    network.run_for(HOUR);
    let due = |block: &&Block| network.nearest(block.key().location(), 5).contains(&newcomer);
    let due = blocks.iter().filter(due).count() as u64;
    assert!(due > 0 && network.holds(newcomer, blocks[0].id()));
    assert_eq!(network.pushed(), due);
    network.run_for(71 * HOUR);
    assert_in_place(&network, &blocks, |block| nearest_but(&network, block, &[]));
    assert_eq!(network.pushed(), due);
}

#[test]
fn nodes_that_are_new_themselves_hand_over_only_what_is_nearest() {
    let mut network = Network::new(20, 8);
    let blocks: Vec<Block> = (0..60).map(block).collect();
    for block in &blocks {
        network.place(block, 5);
    }
    network.run_for(HOUR);
    let newcomer = network.join(Location::new(blocks[0].key().location().as_u64() + 1));
    network.run_for(HOUR);
    for block in &blocks {
        let nearest = network.nearest(block.key().location(), 2).contains(&newcomer);
        assert_eq!(network.holds(newcomer, block.id()), nearest);
    }
}

#[test]
fn restarts_forget_nothing() {
    let (mut network, blocks) = settled(16, 40, 4);
    // All at once, twice, with one of them staying away.
    let away = busiest(&network, &blocks);
    for round in 0..2 {
        for node in 0..16 {
            network.stop(node);
        }
        network.run_for(HOUR);
        for node in (0..16).filter(|node| *node != away) {
            network.start(node);
        }
        network.run_for(20 * HOUR);
        assert_eq!(network.pushed(), 0, "round {round}");
    }
    network.run_for(54 * HOUR);
    assert!(network.pushed() > 0);
    let others = |block: &Block| {
        network
            .holders(block.id())
            .iter()
            .filter(|node| **node != away)
            .count()
    };
    assert!(blocks.iter().all(|block| others(block) == 5));
}

#[test]
fn who_comes_back_from_a_month_away_starts_no_storm() {
    let (mut network, blocks) = settled(20, 40, 5);
    let node = busiest(&network, &blocks);
    network.stop(node);
    network.run_for(30 * 24 * HOUR);
    let before = network.pushed();
    // Half of the others happen to be off.
    let off: Vec<usize> = (0..20).filter(|other| *other != node).step_by(2).collect();
    for other in &off {
        network.stop(*other);
    }
    network.start(node);
    network.run_for(8 * HOUR);
    for other in off {
        network.start(other);
    }
    network.run_for(40 * HOUR);
    assert_eq!(network.pushed(), before);
}

#[test]
fn a_mass_failure_is_repaired_within_the_budget() {
    let (mut network, blocks) = settled(24, 120, 6);
    let before = network.pushed();
    // A tenth of some 25 blocks a day, saved up to 64.
    network.limits = RepairLimits {
        daily_permille: 400,
        least_daily: 0,
        ..RepairLimits::default()
    };
    for node in 0..24 {
        network.stop(node);
        network.start(node);
    }
    let dead: Vec<usize> = (0..12).collect();
    for node in &dead {
        network.stop(*node);
        network.nodes[*node].store.clear();
    }
    let survivors: Vec<Block> = blocks
        .iter()
        .filter(|block| !network.holders(block.id()).is_empty())
        .cloned()
        .collect();
    let mut last = before;
    for day in 0..12_u32 {
        network.run_for(24 * HOUR);
        let pushed = network.pushed() - last;
        last += pushed;
        // Twelve nodes with 25 to 50 blocks each, and half of what they may save up at the start.
        let most = if day < 4 { 12 * (32 + 4 * 20) } else { 12 * 25 };
        assert!(pushed <= most, "{pushed} on day {day}");
    }
    assert!(survivors.len() > 100);
    assert_in_place(&network, &survivors, |block| nearest_but(&network, block, &dead));
}

#[test]
fn what_was_inserted_while_holders_were_away_reaches_them() {
    let (mut network, _) = settled(20, 0, 7);
    let off: Vec<usize> = (0..20).step_by(2).collect();
    for node in &off {
        network.stop(*node);
    }
    let blocks: Vec<Block> = (100..120).map(block).collect();
    for block in &blocks {
        assert!(matches!(network.insert(1, block.clone()), ExitResult::Stored(5)));
    }
    network.run_for(10 * HOUR);
    assert_eq!(
        network.pushed(),
        0,
        "five are online and have it; the others are only away"
    );
    for node in off {
        network.start(node);
    }
    network.run_for(80 * HOUR);
    assert_in_place(&network, &blocks, |block| nearest_but(&network, block, &[]));
    for block in &blocks {
        assert!(matches!(network.fetch(3, block.id()), ExitResult::Found(found) if found == *block));
    }
}
