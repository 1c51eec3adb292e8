//! Nodes, networks and blocks for the tests of this module.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{
    BLOCK_SIZE, Block, BlockKind, IdentityKey, NodeId, Seed, Uri, labels,
    root::{INLINE_MAX, KeyChoice, Root, RootBody, seal_chk},
    splitfile::{Coder, EncodedSegment, FileKey, SplitEncoder},
    stream::{Compression, StreamSummary, StreamWriter},
};

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

/// Bytes that do not compress, or do.
pub(crate) fn plaintext(len: usize, compressible: bool) -> Vec<u8> {
    let mut rng = ChaCha20Rng::seed_from_u64(len as u64);
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    if compressible {
        bytes.iter_mut().for_each(|byte| *byte &= 3);
    }
    bytes
}

/// The stream of a plaintext and its measures.
pub(crate) fn stream_of(plain: &[u8], compression: Compression) -> (BytesMut, StreamSummary) {
    let mut writer = StreamWriter::new(compression).unwrap();
    let mut stream = BytesMut::new();
    writer.push(plain, &mut stream).unwrap();
    let summary = writer.finish(&mut stream).unwrap();
    (stream, summary)
}

/// A file as a publisher makes it: its URI, the blocks of its root, and all others by level.
pub(crate) struct Published {
    pub(crate) uri: Uri,
    pub(crate) roots: Vec<Block>,
    pub(crate) segments: Vec<EncodedSegment>,
}

impl Published {
    pub(crate) fn new(plain: &[u8], compression: Compression) -> Self {
        let (stream, summary) = stream_of(plain, compression);
        Self::of_stream(&stream, &summary)
    }

    /// With measures that may be wrong.
    pub(crate) fn of_stream(stream: &[u8], summary: &StreamSummary) -> Self {
        let mut segments = Vec::new();
        let body = if stream.len() <= INLINE_MAX {
            RootBody::Inline(Bytes::copy_from_slice(stream))
        } else {
            let key = FileKey::reproducible(&summary.stream_hash, summary.stream_len);
            let (mut encoder, mut coder) = (SplitEncoder::new(key), Coder::new());
            encoder.push(stream).unwrap();
            encoder.end().unwrap();
            while let Some(job) = encoder.next_job() {
                let encoded = job.encode(&mut coder).unwrap();
                encoder.accept(&encoded.segment, encoded.keys()).unwrap();
                segments.push(encoded);
            }
            RootBody::Split(encoder.finish().unwrap().unwrap())
        };
        let root = Root::new(summary, None, body).unwrap();
        let sealed = seal_chk(&root, &KeyChoice::Reproducible).unwrap();
        Self {
            uri: sealed.uri,
            roots: sealed.blocks.to_vec(),
            segments,
        }
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.roots
            .iter()
            .chain(self.segments.iter().flat_map(|segment| &segment.blocks))
    }
}
