use super::*;
use crate::{BLOCK_SIZE, Block};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_be_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn key(stream: &[u8]) -> FileKey {
    FileKey::reproducible(blake3::hash(stream).as_bytes(), stream.len() as u64)
}

/// Runs an encoder; `chunk` bytes a push, jobs in reverse order when `reverse`.
fn encode(stream: &[u8], chunk: usize, reverse: bool) -> (Splitfile, BTreeMap<RoutingKey, Block>) {
    let (mut encoder, mut coder) = (SplitEncoder::new(key(stream)), Coder::new());
    let mut blocks = BTreeMap::new();
    let mut waiting = Vec::new();
    for part in stream.chunks(chunk) {
        encoder.push(part).unwrap();
        waiting.extend(std::iter::from_fn(|| encoder.next_job()));
    }
    encoder.end().unwrap();
    loop {
        waiting.extend(std::iter::from_fn(|| encoder.next_job()));
        let Some(job) = (if reverse {
            waiting.pop()
        } else {
            (!waiting.is_empty()).then(|| waiting.remove(0))
        }) else {
            break;
        };
        let encoded = job.encode(&mut coder).unwrap();
        encoder.accept(&encoded.segment, encoded.keys()).unwrap();
        assert_eq!(
            encoder.accept(&encoded.segment, encoded.keys()),
            Err(EncoderError::Contract),
            "twice"
        );
        blocks.extend(encoded.blocks.into_iter().map(|block| (block.key(), block)));
    }
    (encoder.finish().unwrap().unwrap(), blocks)
}

/// Reads everything, with blocks that `lost` picks (by segment and index) missing.
fn read(
    file: &Splitfile,
    blocks: &BTreeMap<RoutingKey, Block>,
    lost: impl Fn(&Segment, u16) -> bool,
) -> Result<Vec<u8>, DecodeError> {
    let (mut tree, mut coder) = (KeyTree::new(file.clone()), Coder::new());
    let mut stream = Vec::new();
    let mut segment_of = |segment: &Segment, keys: &[RoutingKey]| {
        let found: Vec<_> = (0..)
            .zip(keys)
            .map(|(index, key)| blocks.get(key).filter(|_| !lost(segment, index)).cloned())
            .collect();
        let decoded = coder.decode(file.key(), segment, keys, &found)?;
        let missing: Vec<_> = (0..segment.data())
            .filter(|index| lost(segment, *index))
            .collect();
        assert_eq!(decoded.recovered.len(), missing.len());
        for (block, index) in decoded.recovered.iter().zip(missing) {
            assert_eq!(Some(block), blocks.get(&keys[usize::from(index)]));
        }
        Ok::<_, DecodeError>(decoded.data)
    };
    for segment in file.layout().content().iter() {
        let keys = loop {
            match tree.keys(&segment).unwrap() {
                Keys::Known(keys) => break keys,
                Keys::Needs(wanted) => {
                    let data = segment_of(&wanted.segment, &wanted.keys)?;
                    tree.insert_segment(&wanted.segment, &data);
                }
            }
        };
        stream.extend_from_slice(&segment_of(&segment, &keys)?);
    }
    Ok(stream)
}

#[test]
fn sizes_about_a_block_and_a_segment() {
    let block = BLOCK_SIZE;
    for len in [
        1,
        block - 1,
        block,
        block + 1,
        2 * block,
        127 * block,
        128 * block,
        129 * block,
        257 * block + 5,
    ] {
        let stream = noise(len, 1);
        let (file, blocks) = encode(&stream, 1 << 20, false);
        assert_eq!(file.stream_len(), len as u64);
        assert_eq!(
            blocks.len() as u64,
            file.layout().total_blocks(),
            "no two blocks are equal"
        );
        assert_eq!(read(&file, &blocks, |_, _| false).unwrap(), stream, "{len}");
        assert_eq!(
            read(&file, &blocks, |segment, index| index < segment.parity()).unwrap(),
            stream,
            "{len}"
        );
    }
}

#[test]
fn two_levels_whatever_the_order_and_portions() {
    let stream = noise((22 << 20) + 77, 2);
    let (file, blocks) = encode(&stream, usize::MAX, false);
    assert_eq!(file.layout().levels().count(), 2);
    assert_eq!(encode(&stream, 777_777, true), (file.clone(), blocks.clone()));
    assert_eq!(
        read(&file, &blocks, |segment, index| (index + 3) % 3 == 0
            && index < 3 * segment.parity())
        .unwrap(),
        stream
    );
    // Only the blocks of the list that are wanted, by themselves.
    let mut tree = KeyTree::new(file.clone());
    let last = file.layout().content().iter().last().unwrap();
    let Keys::Needs(wanted) = tree.keys(&last).unwrap() else {
        panic!("the root does not list level 0")
    };
    for index in wanted.blocks.clone() {
        let routing = wanted.keys[usize::from(index)];
        let data = Coder::open_block(file.key(), &wanted.segment, index, routing, &blocks[&routing]).unwrap();
        tree.insert_block(&wanted.segment, index, data);
    }
    let Keys::Known(keys) = tree.keys(&last).unwrap() else {
        panic!("all wanted blocks are there")
    };
    let index = last.data() - 1;
    let routing = keys[usize::from(index)];
    let opened = Coder::open_block(file.key(), &last, index, routing, &blocks[&routing]).unwrap();
    assert!(stream.ends_with(&opened) && opened.len() == last.block_len(index));
    assert!(Coder::open_block(file.key(), &last, last.data(), routing, &blocks[&routing]).is_err());
}

#[test]
fn one_block_too_few() {
    let stream = noise(10 * BLOCK_SIZE, 3);
    let (file, blocks) = encode(&stream, 1 << 20, false);
    let error = read(&file, &blocks, |segment, index| index <= segment.parity()).unwrap_err();
    assert_eq!(error, DecodeError::TooFew { needed: 10, found: 9 });
}

#[test]
fn reproducible_and_unpredictable_keys() {
    let stream = noise(3 * BLOCK_SIZE, 4);
    assert_eq!(encode(&stream, 99, false), encode(&stream, 1 << 20, false));
    assert_ne!(key(&stream), key(&stream[1..]));
    assert_ne!(
        FileKey::reproducible(&[1; 32], 5),
        FileKey::reproducible(&[1; 32], 6)
    );
    assert_ne!(
        FileKey::unpredictable(Seed::from_bytes([1; 32])),
        FileKey::unpredictable(Seed::from_bytes([2; 32]))
    );
}

#[test]
fn block_keys_never_repeat() {
    let key = FileKey::reproducible(&[1; 32], 5);
    let places = (0..3).flat_map(|level| {
        [0, 1, 256, 65_536]
            .into_iter()
            .flat_map(move |segment| (0..192).map(move |index| (level, segment, index)))
    });
    let keys: BTreeSet<_> = places
        .clone()
        .map(|(level, segment, index)| *key.block(level, segment, index))
        .collect();
    assert_eq!(keys.len(), places.count());
}

#[test]
fn inconsistent_parity_is_found() {
    let stream = noise(4 * BLOCK_SIZE, 5);
    let (file, blocks) = encode(&stream, 1 << 20, false);
    let segment = file.layout().content().segment(0).unwrap();
    let mut keys = file.top().to_vec();
    let mut found: Vec<_> = keys.iter().map(|key| blocks.get(key).cloned()).collect();
    // A publisher who lists another block as the first parity block.
    let forged = crate::content::seal(&noise(BLOCK_SIZE, 6), &CryptoKey::from_bytes([1; 32])).unwrap();
    (keys[4], found[4], found[0]) = (forged.key(), Some(forged), None);
    let mut coder = Coder::new();
    assert_eq!(
        coder.decode(file.key(), &segment, &keys, &found),
        Err(DecodeError::Inconsistent(0))
    );
    // Honest parity instead of it, and the segment is read; the coder is fit for use after a failure.
    found[4] = None;
    assert_eq!(
        coder.decode(file.key(), &segment, &keys, &found).unwrap().data,
        stream
    );
}

#[test]
fn mistakes_of_the_caller_are_errors() {
    let stream = noise(2 * BLOCK_SIZE, 7);
    let (file, blocks) = encode(&stream, 1 << 20, false);
    let segment = file.layout().content().segment(0).unwrap();
    let found: Vec<_> = file.top().iter().map(|key| blocks.get(key).cloned()).collect();
    let mut coder = Coder::new();
    assert!(matches!(
        coder.encode(file.key(), &segment, &stream[1..]),
        Err(CodingError::Count { .. })
    ));
    assert!(
        coder
            .decode(file.key(), &segment, file.top(), &found[1..])
            .is_err()
    );
    assert!(
        coder
            .decode(file.key(), &segment, &file.top()[1..], &found)
            .is_err()
    );
    let mut swapped = found;
    swapped.swap(0, 1);
    let error = coder.decode(file.key(), &segment, file.top(), &swapped);
    assert_eq!(error, Err(CodingError::OtherBlock(0).into()));

    let mut encoder = SplitEncoder::new(key(b"x"));
    assert_eq!(encoder.end(), Err(StreamLength(0).into()));
    assert_eq!(encoder.accept(&segment, vec![]), Err(EncoderError::Contract));
    encoder.push(b"x").unwrap();
    assert_eq!(encoder.finish(), Ok(None));
    encoder.end().unwrap();
    assert_eq!(encoder.push(b"y"), Err(EncoderError::Contract));
    assert_eq!(encoder.end(), Err(EncoderError::Contract));
    assert_eq!(encoder.finish(), Ok(None));
    assert_eq!(
        KeyTree::new(file).keys(encoder.next_job().unwrap().segment()),
        None,
        "a segment of another file"
    );
}

/// A file of zeros is the easiest to recognise: its blocks must still look like noise and like nothing of each other.
#[test]
fn blocks_look_like_noise() {
    let (_, blocks) = encode(&vec![0; 40 * BLOCK_SIZE], 1 << 20, false);
    let mut windows = BTreeSet::new();
    let mut counts = [0u32; 256];
    for block in blocks.values() {
        for byte in block.bytes() {
            counts[usize::from(*byte)] += 1;
        }
        for window in block.bytes()[..2048].windows(8) {
            assert!(
                windows.insert(<[u8; 8]>::try_from(window).unwrap()),
                "eight bytes occur twice"
            );
        }
    }
    let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
    let chi_square: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    // 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert!((150.0..400.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn at_most_two_segments_are_held_back() {
    const SEGMENT: usize = 128 * BLOCK_SIZE;
    let mut encoder = SplitEncoder::new(key(b""));
    let portion = noise(SEGMENT / 3 + 1, 10);
    let (mut pushed, mut given) = (0, 0);
    for _ in 0..20 {
        encoder.push(&portion).unwrap();
        pushed += portion.len();
        given += std::iter::from_fn(|| encoder.next_job())
            .map(|job| job.segment().bytes())
            .sum::<usize>();
        assert!(pushed - given <= 2 * SEGMENT);
    }
    assert!(given > 0);
}

#[test]
fn work_can_move_to_other_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<(Coder, SegmentJob, SplitEncoder, KeyTree, DecodedSegment)>();
    is_send::<(
        crate::stream::StreamReader,
        crate::stream::StreamWriter,
        crate::stream::FrameDecoder,
    )>();
    is_send::<(crate::root::RootReader, crate::root::SealedRoot)>();
}

#[test]
fn splitfiles_with_wrong_counts_are_refused() {
    let keys = vec![RoutingKey::from_bytes([1; 32]); 5];
    let new = |len, keys: &[RoutingKey]| Splitfile::new(FileKey::from_root([1; 32]), len, keys.to_vec());
    assert!(new(2 * BLOCK_SIZE as u64, &keys).is_ok());
    assert_eq!(
        new(2 * BLOCK_SIZE as u64, &keys[1..]),
        Err(InvalidSplitfile::Keys {
            expected: 5,
            found: 4
        })
    );
    assert_eq!(
        new(3 * BLOCK_SIZE as u64, &keys),
        Err(InvalidSplitfile::Keys {
            expected: 7,
            found: 5
        })
    );
    assert_eq!(new(0, &[]), Err(StreamLength(0).into()));
    assert_eq!(new(u64::MAX, &keys), Err(StreamLength(u64::MAX).into()));
}

#[test]
fn lists_held_are_bounded() {
    // A terabyte: three levels. Lists need not be real to see what is kept.
    let layout = Layout::of_stream(1 << 40).unwrap();
    let top = (0..layout.top().keys())
        .map(|_| RoutingKey::from_bytes([7; 32]))
        .collect();
    let mut tree = KeyTree::new(Splitfile::new(FileKey::from_root([1; 32]), 1 << 40, top).unwrap());
    let content = layout.content();
    for step in 0..40 {
        let segment = content.segment(step * content.segments() / 40).unwrap();
        let mut asked = Vec::new();
        while let Keys::Needs(wanted) = tree.keys(&segment).unwrap() {
            assert!(wanted.blocks.len() <= 2 && wanted.blocks.end <= wanted.segment.data());
            asked.push(wanted.segment.level());
            tree.insert_segment(&wanted.segment, &Bytes::from(vec![7; wanted.segment.bytes()]));
            assert!(tree.held_segments() <= HELD_SEGMENTS);
        }
        assert!(asked.is_sorted_by(|a, b| a >= b), "from the top down: {asked:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_128_of_192(order in Just((0u16..192).collect::<Vec<_>>()).prop_shuffle()) {
        let stream = noise(128 * BLOCK_SIZE, 8);
        let (file, blocks) = encode(&stream, 1 << 22, false);
        let kept: BTreeSet<u16> = order.into_iter().take(128).collect();
        prop_assert_eq!(read(&file, &blocks, |_, index| !kept.contains(&index)).unwrap(), stream);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_subset_of_a_small_segment(len in 1usize..12 * BLOCK_SIZE, order in Just((0u16..20).collect::<Vec<_>>()).prop_shuffle()) {
        let stream = noise(len, 9);
        let (file, blocks) = encode(&stream, 1 << 22, false);
        let segment = file.layout().content().segment(0).unwrap();
        let kept: BTreeSet<u16> = order.into_iter().filter(|index| *index < segment.blocks()).take(usize::from(segment.data())).collect();
        prop_assert_eq!(read(&file, &blocks, |_, index| !kept.contains(&index)).unwrap(), stream);
    }
}
