//! Nodes, blocks and test vectors that the targets share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use serde_json::Value;
use warren_keys::{
    BLOCK_SIZE, Block, BlockId, BlockKind, IdentityKey, InsertUri, RoutingKey, Seed,
    root::{Root, RootBody, seal_insert},
    stream::{Compression, StreamSummary},
};
use warren_proto::{
    descriptor::{Descriptor, NodeSecrets, Services, Statement},
    network::Network,
    time::WallTime,
};

/// When the descriptors of the fixtures are signed.
pub const NOW: WallTime = WallTime(1_800_000_000);

/// Nodes of the fixtures.
pub const NODES: usize = 64;

/// The network that the fixtures, and most of the test vectors, belong to.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn network() -> Network {
    Network::MAIN.parse().expect("a valid name")
}

/// A node that offers everything, with one address.
pub struct Node {
    /// Its keys.
    pub secrets: Arc<NodeSecrets>,
    /// What it says of itself.
    pub descriptor: Arc<Descriptor>,
}

static ALL_NODES: LazyLock<Vec<Node>> = LazyLock::new(|| (0..NODES).map(make_node).collect());

fn make_node(number: usize) -> Node {
    let byte = u8::try_from(number).unwrap_or(u8::MAX);
    let secrets = NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes([byte; 32])));
    // Every fourth is on the private network of its site, all others are public.
    let ip = if byte.is_multiple_of(4) {
        Ipv4Addr::new(10, 0, byte, 1)
    } else {
        Ipv4Addr::new(byte, byte, 113, 7)
    };
    let statement = Statement {
        addresses: vec![SocketAddr::from((ip, 7420))],
        services: Services::ALL,
        published: NOW.0,
        ..secrets.statement()
    };
    let descriptor = Arc::new(secrets.sign(statement, &network()));
    Node {
        secrets: Arc::new(secrets),
        descriptor,
    }
}

/// Node number `number`, counted modulo [`NODES`].
#[must_use]
pub fn node(number: usize) -> &'static Node {
    &ALL_NODES[number % NODES]
}

/// A content block, another one for each number.
///
/// # Panics
/// Never: the length is right.
#[must_use]
pub fn content_block(number: u8) -> Block {
    static BLOCKS: LazyLock<Vec<Block>> = LazyLock::new(|| {
        let make = |number| Block::identify(BlockKind::Content, Bytes::from(vec![number; BLOCK_SIZE]));
        (0..=255)
            .map(make)
            .collect::<Result<_, _>>()
            .expect("the length is right")
    });
    BLOCKS[usize::from(number)].clone()
}

/// A signed block: another key for each `name` (modulo 8), another content under that key for each `version` (modulo 2).
///
/// # Panics
/// Never: the root fits.
#[must_use]
pub fn signed_block(name: u8, version: u8) -> Block {
    static BLOCKS: LazyLock<Vec<Block>> = LazyLock::new(|| {
        let make = |name, version: u8| {
            let insert = InsertUri::parse(&format!("KSK@{name}")).expect("a valid key");
            let [origin, ..] = seal_insert(&inline_root(&[version]), &insert)
                .expect("a valid root")
                .blocks;
            origin
        };
        (0..16).map(|number| make(number / 2, number % 2)).collect()
    });
    BLOCKS[usize::from(name % 8 * 2 + version % 2)].clone()
}

/// A signed block whose signature is nobody's business: for stores, which authenticate what they give back by other means.
///
/// # Panics
/// Never: the length is right.
#[must_use]
pub fn unverified_block(name: u8, version: u8) -> Block {
    let id = BlockId::signed(RoutingKey::from_bytes([name; 32]));
    Block::from_store(id, Bytes::from(vec![version; BLOCK_SIZE])).expect("the length is right")
}

/// A root that holds its content.
///
/// # Panics
/// The content does not fit.
#[must_use]
pub fn inline_root(content: &[u8]) -> Root {
    let hash = *blake3::hash(content).as_bytes();
    let summary = StreamSummary {
        compression: Compression::None,
        size: content.len() as u64,
        hash,
        stream_len: content.len() as u64,
        stream_hash: hash,
    };
    Root::new(&summary, None, RootBody::Inline(Bytes::copy_from_slice(content))).expect("a short content")
}

/// One of the data files of test vectors in JSON.
///
/// # Panics
/// It is not JSON.
#[must_use]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("vectors are JSON")
}

/// `tests/vectors/keys/uris.json`
pub const URIS: &str = include_str!("../../tests/vectors/keys/uris.json");
/// `tests/vectors/keys/reference.json`
pub const REFERENCE: &str = include_str!("../../tests/vectors/keys/reference.json");
/// `tests/vectors/keys/splitfile.json`
pub const SPLITFILE: &str = include_str!("../../tests/vectors/keys/splitfile.json");
/// `tests/vectors/proto/links.txt`
pub const LINKS: &str = include_str!("../../tests/vectors/proto/links.txt");

/// The values called `name` in all stanzas of kind `kind` of a vector file.
pub fn vector_bytes(file: &'static str, kind: &str, name: &str) -> impl Iterator<Item = Vec<u8>> {
    let (head, name) = (format!("[{kind}]"), format!("{name} = "));
    let stanzas = file
        .split("\n\n")
        .filter(move |stanza| stanza.trim_start().starts_with(&head));
    stanzas.filter_map(move |stanza| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .map(unhex)
    })
}

/// Bytes of hexadecimal digits.
#[must_use]
pub fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
