//! Descriptors for this crate's tests, and the vectors of `tests/vectors/proto/links.txt`.

use warren_keys::{IdentityKey, Seed};

use super::{Descriptor, NodeSecrets, Services, Statement};
use crate::{
    circuit::testing::{Stanza, stanzas_of},
    network::Network,
};

const VECTORS: &str = include_str!("../../../../tests/vectors/proto/links.txt");

/// The vectors of one kind; there are some.
pub(crate) fn vectors(kind: &str) -> Vec<Stanza> {
    let found: Vec<_> = stanzas_of(VECTORS, kind).collect();
    assert!(!found.is_empty(), "no vectors of {kind}");
    found
}

/// The node whose seed a vector gives.
pub(crate) fn secrets(seed: &[u8]) -> NodeSecrets {
    NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes(
        seed.try_into().unwrap(),
    )))
}

/// The descriptors among the vectors, in order.
pub(crate) fn vector_descriptors() -> Vec<Descriptor> {
    let network = Network::MAIN.parse().unwrap();
    let read = |vector: Stanza| Descriptor::decode(&vector.bytes("bytes"), &network).unwrap();
    vectors("descriptor").into_iter().map(read).collect()
}

pub(crate) fn network() -> Network {
    "test".parse().unwrap()
}

pub(crate) fn key(number: u8) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes([number; 32]))
}

/// A descriptor of node `number` with that many addresses, of both families by turns.
pub(crate) fn descriptor(number: u8, addresses: usize) -> Descriptor {
    let all = [
        "127.0.0.1:1000",
        "[2001:db8::1]:2",
        "192.0.2.7:65535",
        "[::1]:9999",
    ];
    let statement = Statement {
        identity: key(number).id(),
        link_key: [number; 32],
        onion_key: [number ^ 0x80; 32],
        addresses: all
            .iter()
            .take(addresses)
            .map(|text| text.parse().unwrap())
            .collect(),
        services: Services {
            relay: number & 1 != 0,
            exit: number & 2 != 0,
            store: number & 4 != 0,
        },
        published: 1_800_000_000 + u64::from(number),
    };
    Descriptor::sign(&key(number), statement, &network())
}

/// One of many nodes that offer everything and listen on a loopback address of their own.
pub(crate) fn node(number: u16) -> Descriptor {
    let (key, statement) = node_statement(number);
    Descriptor::sign(&key, statement, &network())
}

/// What [`node`] says of itself, and the key that signs it.
pub(crate) fn node_statement(number: u16) -> (IdentityKey, Statement) {
    let [high, low] = number.to_be_bytes();
    let mut seed = [0xaa; 32];
    seed[..2].copy_from_slice(&[high, low]);
    let key = IdentityKey::from_seed(&Seed::from_bytes(seed));
    let statement = Statement {
        identity: key.id(),
        link_key: seed,
        onion_key: seed,
        addresses: vec![([127, 1, high, low], 9000).into()],
        services: Services::ALL,
        published: 1_800_000_000,
    };
    (key, statement)
}
