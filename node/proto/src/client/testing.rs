//! Nodes, networks and blocks for the tests of this module.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockKind, IdentityKey, NodeId, Seed, labels};

use crate::{
    descriptor::{Descriptor, Services, Statement},
    network::Network,
};

thread_local! {
    static NODES: RefCell<BTreeMap<u64, NodeId>> = const { RefCell::new(BTreeMap::new()) };
}

fn key(index: u64) -> IdentityKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&index.to_le_bytes());
    IdentityKey::from_seed(&Seed::from_bytes(seed))
}

/// The identity number `index`.
pub(crate) fn node(index: u64) -> NodeId {
    NODES.with_borrow_mut(|known| *known.entry(index).or_insert_with(|| key(index).id()))
}

/// A node that offers everything.
pub(crate) fn descriptor(index: u64, addresses: &[&str]) -> Descriptor {
    offering(index, addresses, Services::ALL)
}

/// A node.
pub(crate) fn offering(index: u64, addresses: &[&str], services: Services) -> Descriptor {
    let statement = Statement {
        identity: node(index),
        link_key: [1; 32],
        onion_key: [2; 32],
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        services,
        published: 0,
    };
    Descriptor::sign(
        &key(index),
        statement,
        &"client-tests".parse::<Network>().unwrap(),
    )
}

/// Nodes 0 to `count - 1` on loopback.
pub(crate) fn network(count: usize) -> BTreeMap<NodeId, Descriptor> {
    (0..count as u64)
        .map(|index| descriptor(index, &[&format!("127.0.0.1:{}", 1000 + index)]))
        .map(|descriptor| (descriptor.identity, descriptor))
        .collect()
}

/// The content block number `index`.
pub(crate) fn block(index: u64) -> Block {
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap()
}

/// A signed block; all have one routing key, whatever their text.
pub(crate) fn signed_block(text: &str) -> Block {
    let key = IdentityKey::from_seed(&Seed::from_bytes([42; 32]));
    let mut bytes = vec![0; BLOCK_SIZE];
    bytes[..32].copy_from_slice(key.id().as_bytes());
    bytes[128..128 + text.len()].copy_from_slice(text.as_bytes());
    let signature = key.sign(labels::SIGNED_MESSAGE, &bytes[96..]);
    bytes[32..96].copy_from_slice(&signature);
    Block::identify(BlockKind::Signed, Bytes::from(bytes)).unwrap()
}
