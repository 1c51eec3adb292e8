//! Half of the nodes are killed for good, and as many new ones come.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_tests::process::chaos::{
    fleet::{Fleet, NODES},
    load::choose,
};

const SEED: u64 = 0x6861_6c66;

/// Files, bytes: from a root alone to a segment and a half.
const FILES: [u64; 12] = [
    20_000, 200_000, 900_000, 6_000_000, 1, 32_768, 100_000, 300_000, 30_000, 500_000, 60_000, 2_000_000,
];

#[test]
fn half_of_the_nodes_are_killed_at_once_and_replaced() {
    let mut fleet = Fleet::start("replaced", SEED, NODES);
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let files = fleet.insert(&(0..NODES).collect::<Vec<_>>(), &FILES);
    // The node that all others were told of goes too.
    let others: Vec<usize> = (1..NODES).collect();
    let mut dead = choose(&mut rng, &others, NODES / 2 - 1);
    dead.push(0);
    fleet.destroy(&dead);
    fleet.wait_until_whole();
    let new: Vec<usize> = dead.iter().map(|_| fleet.add()).collect();
    fleet.wait_until_whole();
    let old: Vec<usize> = others.into_iter().filter(|n| !dead.contains(n)).collect();
    let mut readers = choose(&mut rng, &old, 2);
    readers.extend(choose(&mut rng, &new, 2));
    fleet.finish(&files, &readers);
}
