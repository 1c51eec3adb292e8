//! The stages of byte work, each run once under callgrind: how many instructions it takes does not depend on what else the machine does.
//! `tests/check_instructions.py` holds the counts against the committed ones.
//!
//! All is what a node computes with: ring's assembly for links, circuits and slots, and the crates of keys and erasure code. Under valgrind
//! the processor has AES and AVX2 but not AVX-512, so counts are above what runs outside; what they are for is to notice changes.

#![allow(
    missing_docs,
    unused_qualifications,
    reason = "a benchmark has no callers; the macros write out whole paths"
)]
#![expect(
    clippy::expect_used,
    clippy::large_stack_arrays,
    reason = "a benchmark stops at the first fault; slots are arrays"
)]

use std::hint::black_box;

use bytes::BytesMut;
use gungraun::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{
    BLOCK_SIZE, Block, BlockId, CryptoKey, IdentityKey, RoutingKey, Seed, content,
    splitfile::{Coder, DecodedSegment, FileKey, Layout, Segment},
};
use warren_node::aead::RingAead;
use warren_proto::{
    circuit::{
        ntor::{self, ClientHandshake},
        onion::HopCipher,
    },
    crypto::Cipher,
    geometry::{PacketSize, RECORD_PAYLOAD},
    link::record::{Opener, Sealer},
};
use warren_storage::{
    MasterKey, Region, SLOT_LEN, Slot,
    slot::{SlotCipher, SlotHead},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const KEY: [u8; 32] = [7; 32];
/// Records at a time: what one write of a busy link holds.
const RECORDS: usize = 16;
/// Blocks of data of a full segment, and how many of its 192 are lost in the worst case that it survives.
const DATA: usize = 128;
const LOST: usize = 64;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

// Records of links, of both suites.

fn sealer(cipher: Cipher) -> (Sealer<RingAead>, Vec<u8>) {
    let mut sealer = Sealer::new(cipher, &KEY);
    let stream = noise(RECORDS * RECORD_PAYLOAD);
    // The first use makes the buffer.
    sealer.write(&stream);
    drop(sealer.take());
    (sealer, stream)
}

#[library_benchmark]
#[bench::chacha(sealer(Cipher::ChaCha20Poly1305))]
#[bench::aes(sealer(Cipher::Aes256Gcm))]
fn record_seal((mut sealer, stream): (Sealer<RingAead>, Vec<u8>)) -> BytesMut {
    sealer.write(black_box(&stream));
    black_box(sealer.take())
}

fn received(cipher: Cipher) -> Opener<RingAead> {
    let mut sealer = Sealer::<RingAead>::new(cipher, &KEY);
    sealer.write(&noise(RECORDS * RECORD_PAYLOAD));
    Opener::new(cipher, &KEY, sealer.take())
}

#[library_benchmark]
#[bench::chacha(received(Cipher::ChaCha20Poly1305))]
#[bench::aes(received(Cipher::Aes256Gcm))]
fn record_open(mut opener: Opener<RingAead>) -> BytesMut {
    opener.open().expect("what was sealed");
    black_box(opener.take(usize::MAX))
}

// One layer of a packet with a block.

struct Layer {
    client: HopCipher<RingAead>,
    relay: HopCipher<RingAead>,
    body: Vec<u8>,
}

fn layer() -> Layer {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let relay = IdentityKey::from_seed(&Seed::from_bytes([1; 32])).id();
    let secret = StaticSecret::random_from_rng(&mut rng);
    let public = PublicKey::from(&secret);
    let (handshake, create) = ClientHandshake::start(&mut rng, relay, public.as_bytes(), 0);
    let (keys, created) =
        ntor::respond(&mut rng, &relay, &secret, &public, &create).expect("an honest client");
    let client = HopCipher::new(0, &handshake.finish(&created).expect("an honest relay")).expect("layer 0");
    let relay = HopCipher::new(0, &keys).expect("layer 0");
    // What one layer adds is not there yet.
    let mut body = noise(PacketSize::Block.layer(1));
    body.resize(PacketSize::Block.body(), 0);
    Layer { client, relay, body }
}

fn sealed() -> Layer {
    let mut layer = layer();
    layer
        .client
        .seal_forward(PacketSize::Block, &mut layer.body)
        .expect("a packet");
    layer
}

#[library_benchmark]
#[bench::block(layer())]
fn onion_seal(mut layer: Layer) -> Layer {
    layer
        .client
        .seal_forward(PacketSize::Block, black_box(&mut layer.body))
        .expect("a packet");
    layer
}

#[library_benchmark]
#[bench::block(sealed())]
fn onion_open(mut layer: Layer) -> Layer {
    layer
        .relay
        .open_forward(PacketSize::Block, black_box(&mut layer.body))
        .expect("what was sealed");
    layer
}

// Blocks.

fn block() -> Block {
    content::seal(&noise(BLOCK_SIZE), &CryptoKey::from_bytes(KEY)).expect("a block's worth")
}

#[library_benchmark]
#[bench::content(block())]
fn block_verify(block: Block) -> Block {
    Block::verify(black_box(block.id()), block.bytes().clone()).expect("a sound block")
}

// Segments of splitfiles: erasure code, ciphers and hashes.

struct Plain {
    coder: Coder,
    key: FileKey,
    segment: Segment,
    bytes: Vec<u8>,
}

fn plain() -> Plain {
    let bytes = noise(DATA * BLOCK_SIZE);
    let layout = Layout::of_stream(bytes.len() as u64).expect("a length");
    Plain {
        coder: Coder::new(),
        key: FileKey::reproducible(&KEY, bytes.len() as u64),
        segment: layout.content().segment(0).expect("the only one"),
        bytes,
    }
}

#[library_benchmark]
#[bench::full(plain())]
fn segment_encode(mut plain: Plain) -> Vec<Block> {
    plain
        .coder
        .encode(&plain.key, &plain.segment, black_box(&plain.bytes))
        .expect("a segment")
}

struct Coded {
    plain: Plain,
    keys: Vec<RoutingKey>,
    found: Vec<Option<Block>>,
}

fn coded() -> Coded {
    let mut plain = plain();
    let blocks = plain
        .coder
        .encode(&plain.key, &plain.segment, &plain.bytes)
        .expect("a segment");
    Coded {
        plain,
        keys: blocks.iter().map(Block::key).collect(),
        found: (0..)
            .zip(blocks)
            .map(|(at, block)| (at >= LOST).then_some(block))
            .collect(),
    }
}

#[library_benchmark]
#[bench::lost_64(coded())]
fn segment_decode(mut coded: Coded) -> DecodedSegment {
    let Plain {
        coder, key, segment, ..
    } = &mut coded.plain;
    coder
        .decode(key, segment, &coded.keys, black_box(&coded.found))
        .expect("enough blocks")
}

// Slots of the datastore.

struct Stored {
    cipher: SlotCipher,
    block: Box<[u8; BLOCK_SIZE]>,
    slot: Box<[u8; SLOT_LEN]>,
}

const PLACE: (Region, Slot) = (Region::Store, Slot::new(1));

fn stored() -> Stored {
    let mut stored = Stored {
        cipher: SlotCipher::new(&MasterKey::from_bytes(Zeroizing::new(KEY)), &[9; 32]),
        block: Box::new([0x5a; BLOCK_SIZE]),
        slot: Box::new([0; SLOT_LEN]),
    };
    seal(&mut stored);
    stored
}

fn seal(stored: &mut Stored) {
    let head = SlotHead {
        id: BlockId::signed(RoutingKey::from_bytes(KEY)),
        stamp: 1,
    };
    stored
        .cipher
        .seal(PLACE.0, PLACE.1, head, &stored.block, &mut stored.slot)
        .expect("randomness");
}

#[library_benchmark]
#[bench::block(stored())]
fn slot_seal(mut stored: Stored) -> Stored {
    seal(black_box(&mut stored));
    stored
}

#[library_benchmark]
#[bench::block(stored())]
fn slot_open(mut stored: Stored) -> (Stored, SlotHead) {
    let head = stored
        .cipher
        .open(PLACE.0, PLACE.1, black_box(&mut stored.slot[..]))
        .expect("what was sealed");
    (stored, head)
}

library_benchmark_group!(name = links, benchmarks = [record_seal, record_open]);
library_benchmark_group!(name = circuits, benchmarks = [onion_seal, onion_open]);
library_benchmark_group!(
    name = files,
    benchmarks = [block_verify, segment_encode, segment_decode]
);
library_benchmark_group!(name = slots, benchmarks = [slot_seal, slot_open]);
main!(library_benchmark_groups = [links, circuits, files, slots]);
