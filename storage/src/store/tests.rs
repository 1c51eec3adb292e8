//! The datastore over media in memory. Each store here has one or two sets a region, so that evictions come soon.

mod basic;
mod crash;
mod damage;
mod faults;
mod fixture;
mod real;
mod threads;

use super::*;
use crate::master::MasterKey;
use crate::medium::memory::Memory;
use bytes::Bytes;
use warren_keys::{BlockKind, RoutingKey};
use zeroize::Zeroizing;

pub(super) fn master() -> MasterKey {
    MasterKey::from_bytes(Zeroizing::new([0x42; 32]))
}

pub(super) fn options() -> Options {
    let geometry = Geometry::from_sets(1, 1).unwrap();
    Options {
        geometry,
        location: Location::new(0),
        space: Space::Sparse,
    }
}

pub(super) fn open(backend: impl Backend + 'static) -> Store {
    Store::open_on(Arc::new(backend), &master(), &options()).unwrap()
}

/// A content block, another one for each number.
pub(super) fn content(number: u64) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    for (i, chunk) in bytes.chunks_mut(64).enumerate() {
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        chunk[8] = u8::try_from(i % 251).unwrap();
    }
    Block::identify(BlockKind::Content, bytes.into()).unwrap()
}

/// A block under a key that begins with `location`. Its signature is nobody's business here.
pub(super) fn signed(location: u64, name: u8, version: u8) -> Block {
    let mut key = [name; 32];
    key[..8].copy_from_slice(&location.to_be_bytes());
    let bytes = Bytes::from(vec![version; BLOCK_SIZE]);
    Block::from_store(BlockId::signed(RoutingKey::from_bytes(key)), bytes).unwrap()
}

pub(super) fn has(store: &Store, block: &Block) -> bool {
    match store.get(&block.id()).unwrap() {
        None => false,
        Some((found, _)) => {
            assert!(found == *block, "another block was given out");
            true
        }
    }
}
