//! The in-memory network itself: it carries blocks, and does the same twice.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BLOCK_SIZE, Block, BlockKind};
use warren_proto::{core::api::FetchFailure, crypto::Portable};
use warren_tests::net::{Death, Net, Spec};

/// Random bytes.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// A block of random bytes.
pub(crate) fn block(seed: u64) -> Block {
    let bytes = Bytes::from(bytes(seed, BLOCK_SIZE));
    Block::identify(BlockKind::Content, bytes).unwrap()
}

#[test]
fn blocks_travel() {
    let mut net: Net<Portable> = Net::started(Spec::new(1, 8));
    let (block, missing) = (block(1), block(2));
    assert_eq!(net.insert(1, block.clone(), 1).unwrap(), 5);
    assert_eq!(net.fetch(6, block.id()).unwrap(), block);
    assert_eq!(net.fetch(6, missing.id()), Err(FetchFailure::NotFound));
}

#[test]
fn one_seed_one_trace() {
    let run = |seed| {
        let mut net: Net<Portable> = Net::started(Spec::new(seed, 8));
        let block = block(1);
        net.insert(1, block.clone(), 2).unwrap();
        net.kill(3, Death::Silent);
        net.fetch(6, block.id()).unwrap();
        net.run_for(Duration::from_secs(30));
        (net.now(), net.trace())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}
