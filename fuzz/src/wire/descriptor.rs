//! Descriptors with any signature and with a right one, references, names of networks.

use bytes::BytesMut;
use warren_keys::{NodeId, labels};
use warren_proto::{
    descriptor::{
        DESCRIPTOR_MAX_AGE, Descriptor, MAX_DESCRIPTOR_LEN, MIN_DESCRIPTOR_LEN, NodeReference, is_dialable,
    },
    network::Network,
    time::WallTime,
};

use crate::{Input, Seed, fixtures};

/// Where the identity is in a descriptor.
const IDENTITY: std::ops::Range<usize> = 1..33;

/// The first byte chooses between any bytes, a statement that a hostile node signs, and text.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => drop(decode(input.rest())),
        1 => {
            let signer = &fixtures::node(input.below(4)).secrets;
            let mut bytes = input.rest().to_vec();
            if let Some(identity) = bytes.get_mut(IDENTITY) {
                identity.copy_from_slice(signer.id().as_bytes());
            }
            let signed = [fixtures::network().as_bytes(), &bytes[..]].concat();
            bytes.extend_from_slice(&signer.identity().sign(labels::DESCRIPTOR, &signed));
            if let Some(descriptor) = decode(&bytes) {
                assert_eq!(descriptor.identity, signer.id());
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                assert!(decode(&bytes).is_none(), "forged");
            }
        }
        _ => text(&input.text()),
    }
}

fn decode(bytes: &[u8]) -> Option<Descriptor> {
    let descriptor = Descriptor::decode(bytes, &fixtures::network()).ok()?;
    assert!((MIN_DESCRIPTOR_LEN..=MAX_DESCRIPTOR_LEN).contains(&bytes.len()));
    let mut encoded = BytesMut::new();
    descriptor.encode_into(&mut encoded);
    assert!(encoded[..] == *bytes, "another encoding of the same descriptor");
    assert!(descriptor.addresses.iter().all(is_dialable));
    assert!(
        Descriptor::decode(bytes, &"another".parse().expect("a name")).is_err(),
        "of another network"
    );
    let published = WallTime(descriptor.published);
    assert!(descriptor.is_current(published));
    let later = published.0.checked_add(DESCRIPTOR_MAX_AGE.as_secs() + 1);
    assert!(later.is_none_or(|later| !descriptor.is_current(WallTime(later))));
    Some(descriptor)
}

fn text(text: &str) {
    if let Ok(reference) = text.parse::<NodeReference>() {
        assert_eq!(reference.to_string(), text, "two texts of one reference");
        assert!(reference.address().is_none_or(|address| is_dialable(&address)));
    }
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string(), text);
    }
    if text.parse::<Network>().is_ok() {
        assert!(text.is_ascii() && !text.is_empty());
    }
}

/// The vectors, the statements in them, references to each kind of host.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let vectors: Vec<Vec<u8>> = fixtures::vector_bytes(fixtures::LINKS, "descriptor", "bytes").collect();
    let node = fixtures::node(1);
    let key = warren_keys::base64::encode(&node.descriptor.link_key);
    let hosts = [
        "192.0.2.7",
        "[2001:db8::1]",
        "[::1]",
        "node.example.org",
        "localhost",
        "999.1.1.1",
        "[::ffff:1.2.3.4]",
    ];
    let references = hosts
        .iter()
        .map(|host| format!("warren-node:{},{key}@{host}:7420", node.secrets.id()));
    let texts = references.chain([
        node.secrets.id().to_string(),
        "main".to_owned(),
        "warren-node:@:".to_owned(),
    ]);
    let mut seeds: Vec<Seed> = vectors
        .iter()
        .enumerate()
        .flat_map(|(number, bytes)| {
            let statement = &bytes[..bytes.len() - warren_keys::SIGNATURE_SIZE];
            [
                Seed::new(format!("vector-{number}")).u8(0).bytes(bytes),
                Seed::new(format!("signed-{number}")).u8(1).u8(1).bytes(statement),
            ]
        })
        .collect();
    seeds.extend(
        texts
            .enumerate()
            .map(|(number, text)| Seed::new(format!("text-{number}")).u8(2).bytes(text.as_bytes())),
    );
    seeds
}
