//! Splitfiles: shapes, the tree of keys, and segments whose publisher is hostile.

use bytes::Bytes;
use warren_keys::{
    BLOCK_SIZE, Block, CryptoKey, RoutingKey, content,
    splitfile::{
        Coder, DecodeError, FileKey, HELD_SEGMENTS, KeyTree, Keys, Layout, MAX_STREAM_LEN, Segment, Splitfile,
    },
};

use crate::{Input, Seed, fixtures};

/// The first byte chooses between shapes, the tree of keys, and the coding of a segment.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => shape(&mut input),
        1 => tree(&mut input),
        _ => segment(&mut input),
    }
}

fn shape(input: &mut Input<'_>) {
    let len = input.u64();
    let Ok(layout) = Layout::of_stream(len) else {
        assert!(len == 0 || len > MAX_STREAM_LEN);
        return;
    };
    assert!(layout.levels().count() <= 4 && layout.total_blocks() > 0);
    for level in layout.levels() {
        for place in [0, input.u64() % level.segments(), level.segments() - 1] {
            let segment = level.segment(place).expect("below the count");
            let end = segment.offset() + segment.bytes() as u64;
            assert!((1..=128).contains(&segment.data()) && end <= level.bytes());
            assert_eq!(level.segment_at(segment.offset()), Some(segment));
            assert_eq!(level.segment_at(end - 1), Some(segment));
            let last = segment.block_at(end - 1).expect("inside");
            assert!(last + 1 == segment.data() && segment.block_len(last) > 0);
            match level.segment(place + 1) {
                Some(next) => {
                    assert_eq!(
                        (next.offset(), next.first_key()),
                        (end, segment.first_key() + u64::from(segment.blocks()))
                    );
                }
                None => assert_eq!(
                    (end, level.keys()),
                    (level.bytes(), segment.first_key() + u64::from(segment.blocks()))
                ),
            }
        }
        assert_eq!(
            (level.segment(level.segments()), level.segment_at(level.bytes())),
            (None, None)
        );
    }
}

/// Lists that hold whatever the input says, of files of any length.
fn tree(input: &mut Input<'_>) {
    let len = input.u64() % (MAX_STREAM_LEN + 2);
    let Ok(layout) = Layout::of_stream(len) else {
        return;
    };
    let count = usize::try_from(layout.top().keys()).expect("fits in a root");
    let top = vec![RoutingKey::from_bytes([8; 32]); count];
    let file =
        Splitfile::new(FileKey::reproducible(&[1; 32], len), len, top).expect("the right number of keys");
    let mut tree = KeyTree::new(file);
    while let Some(op) = input.op() {
        let level = layout.level(op % 5).unwrap_or_else(|| layout.content());
        let Some(segment) = level.segment(input.u64() % level.segments()) else {
            continue;
        };
        // As deep as the levels go, each step gives what the one before asked for.
        for _ in 0..5 {
            match tree.keys(&segment).expect("a segment of this file") {
                Keys::Known(keys) => {
                    assert_eq!(keys.len(), usize::from(segment.blocks()));
                    break;
                }
                Keys::Needs(wanted) => {
                    assert_eq!(wanted.keys.len(), usize::from(wanted.segment.blocks()));
                    assert!(
                        wanted.blocks.start < wanted.blocks.end && wanted.blocks.end <= wanted.segment.data()
                    );
                    give(&mut tree, &wanted.segment, wanted.blocks, input);
                }
            }
        }
        assert!(tree.held_segments() <= HELD_SEGMENTS);
    }
}

fn give(tree: &mut KeyTree, segment: &Segment, blocks: std::ops::Range<u16>, input: &mut Input<'_>) {
    let (how, fill) = (input.u8(), input.u8());
    match how % 16 {
        0 => tree.insert_segment(segment, &Bytes::from(vec![fill; segment.bytes()])),
        1..=12 => blocks.for_each(|index| {
            tree.insert_block(segment, index, vec![fill; segment.block_len(index)].into());
        }),
        13 => tree.insert_block(segment, input.u16(), vec![fill; usize::from(input.u16())].into()),
        _ => tree.insert_segment(segment, &vec![fill; usize::from(input.u16())].into()),
    }
}

/// A small segment with blocks missing, and blocks that the publisher made to fit their keys and not each other.
fn segment(input: &mut Input<'_>) {
    let len = 1 + u64::from(input.u32()) % (3 * BLOCK_SIZE as u64);
    let segment = Layout::of_stream(len)
        .expect("short")
        .content()
        .segment(0)
        .expect("the only one");
    let key = FileKey::reproducible(&[2; 32], len);
    let data: Vec<u8> = input
        .chunk()
        .iter()
        .copied()
        .chain([0])
        .cycle()
        .take(segment.bytes())
        .collect();
    let mut coder = Coder::new();
    let whole = coder.encode(&key, &segment, &data).expect("the right length");
    assert_eq!(whole.len(), usize::from(segment.blocks()));
    let mut keys: Vec<RoutingKey> = whole.iter().map(Block::key).collect();
    let mut blocks: Vec<Option<Block>> = whole.into_iter().map(Some).collect();
    let mut honest = true;
    for place in 0..blocks.len() {
        match input.u8() {
            0..=99 => {}
            200.. => {
                let made = content::seal(&[input.u8()], &CryptoKey::from_bytes([9; 32])).expect("short");
                (keys[place], blocks[place]) = (made.key(), Some(made));
                honest = false;
            }
            _ => blocks[place] = None,
        }
    }
    let there = blocks.iter().flatten().count();
    match coder.decode(&key, &segment, &keys, &blocks) {
        Ok(decoded) => {
            assert!(there >= usize::from(segment.data()) && decoded.data.len() == segment.bytes());
            assert!(
                !honest || decoded.data[..] == data[..],
                "other bytes than were encoded"
            );
            assert!(decoded.recovered.iter().all(|block| keys.contains(&block.key())));
        }
        Err(DecodeError::TooFew { .. }) => assert!(there < usize::from(segment.data())),
        Err(DecodeError::Inconsistent(_)) => assert!(!honest),
        Err(DecodeError::Coding(error)) => panic!("{error}"),
    }
}

/// The shapes of the vectors, walks through their trees, segments with gaps.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let vectors = fixtures::json(fixtures::SPLITFILE);
    let lens = vectors["splitfiles"].as_array().into_iter().flatten();
    let lens =
        lens.filter_map(|shape| shape["stream_len"].as_u64())
            .chain([10 << 30, 1 << 40, MAX_STREAM_LEN]);
    let mut seeds = Vec::new();
    for len in lens {
        seeds.push(Seed::new(format!("shape-{len}")).u8(0).u64(len).u64(1));
        let walk = Seed::new(format!("tree-{len}")).u8(1).u64(len);
        seeds.push(
            walk.u8(0)
                .u64(0)
                .u8(1)
                .u8(7)
                .u8(1)
                .u8(7)
                .u8(0)
                .u64(u64::MAX)
                .u8(0)
                .u8(1),
        );
    }
    for len in [0_u32, 40_000, 3 * 32_768 - 1] {
        let segment = Seed::new(format!("segment-{len}"))
            .u8(2)
            .u32(len)
            .chunk(b"content");
        seeds.push(segment.clone());
        seeds.push(Seed {
            name: format!("gaps-{len}"),
            ..segment.clone().bytes(&[150, 0, 150, 0])
        });
        seeds.push(Seed {
            name: format!("forged-{len}"),
            ..segment.bytes(&[150, 0, 200, 1, 200, 2])
        });
    }
    seeds
}
