use super::*;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn text(len: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|n| format!("line {n} of a text that shrinks well\n").into_bytes())
        .take(len)
        .collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(b"noise")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn write(plain: &[u8], compression: Compression, chunk: usize) -> (StreamSummary, Bytes) {
    let (mut writer, mut out) = (StreamWriter::new(compression).unwrap(), BytesMut::new());
    for part in plain.chunks(chunk) {
        writer.push(part, &mut out).unwrap();
    }
    let summary = writer.finish(&mut out).unwrap();
    assert_eq!(summary.stream_len, out.len() as u64);
    assert_eq!(summary.stream_hash, *blake3::hash(&out).as_bytes());
    assert_eq!(
        (summary.size, summary.hash),
        (plain.len() as u64, *blake3::hash(plain).as_bytes())
    );
    (summary, out.freeze())
}

fn read(summary: &StreamSummary, stream: &Bytes, chunk: usize) -> Result<Vec<u8>, StreamError> {
    let mut reader = StreamReader::new(summary)?;
    let mut plain = Vec::new();
    for start in (0..stream.len()).step_by(chunk) {
        let part = stream.slice(start..(start + chunk).min(stream.len()));
        reader.push(part, |bytes| {
            assert!(!bytes.is_empty());
            plain.extend_from_slice(&bytes);
        })?;
    }
    reader.finish().map(|()| plain)
}

#[test]
fn round_trip_of_sizes() {
    for len in [
        1,
        2,
        100,
        FRAME_SIZE - 1,
        FRAME_SIZE,
        FRAME_SIZE + 1,
        3 * FRAME_SIZE + 17,
    ] {
        for plain in [
            text(len),
            noise(len),
            [noise(len / 2), text(len - len / 2)].concat(),
        ] {
            for compression in [Compression::None, Compression::Zstd] {
                let (summary, stream) = write(&plain, compression, 77_777);
                assert_eq!(write(&plain, compression, usize::MAX), (summary, stream.clone()));
                assert_eq!(
                    read(&summary, &stream, 50_001).unwrap(),
                    plain,
                    "{len} {compression:?}"
                );
                assert_eq!(read(&summary, &stream, usize::MAX / 2).unwrap(), plain);
            }
        }
    }
    let (summary, stream) = write(&[], Compression::None, 1);
    assert!(read(&summary, &stream, 1).unwrap().is_empty());
}

#[test]
fn compression_is_chosen_by_the_sample() {
    assert_eq!(choose_compression(&text(100_000)), Ok(Compression::Zstd));
    assert_eq!(choose_compression(&noise(100_000)), Ok(Compression::None));
    assert_eq!(choose_compression(&[]), Ok(Compression::None));
    assert_eq!(choose_compression(b"short"), Ok(Compression::None));
    assert_eq!(choose_compression(&[0; 100]), Ok(Compression::Zstd));
    // Only the first MiB counts.
    assert_eq!(
        choose_compression(&[noise(FRAME_SIZE), text(FRAME_SIZE)].concat()),
        Ok(Compression::None)
    );
}

#[test]
fn any_range_by_the_table() {
    let plain = [text(FRAME_SIZE), noise(FRAME_SIZE), text(FRAME_SIZE + 5)].concat();
    let (summary, stream) = write(&plain, Compression::Zstd, 1 << 16);
    let frames = Frames::new(summary.size, summary.stream_len).unwrap();
    assert_eq!(frames.count(), 4);
    let mut decoder = FrameDecoder::new().unwrap();
    let at = |range: core::ops::Range<u64>| {
        stream.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
    };
    for first in 0..4 {
        for end in first + 1..=4 {
            let places = frames
                .places(first..end, &at(frames.entries(first..end)))
                .unwrap();
            for (frame, place) in (first..end).zip(places) {
                let opened = decoder.open(&at(place), frames.plain_len(frame)).unwrap();
                let start = usize::try_from(frame).unwrap() * FRAME_SIZE;
                assert_eq!(opened, plain[start..start + frames.plain_len(frame)]);
            }
        }
    }
    assert_eq!(frames.frame_at(summary.size - 1), Some(3));
    assert_eq!(frames.frame_at(summary.size), None);
    assert_eq!(frames.places(3..5, &[0; 16]), Err(FrameError::Table));
    for bad in [[0u64, 0], [0, u64::MAX], [1, 100], [0, 2 * FRAME_SIZE as u64]] {
        let entries = [bad[0].to_be_bytes(), bad[1].to_be_bytes()].concat();
        assert_eq!(frames.places(0..1, &entries), Err(FrameError::Table), "{bad:?}");
    }
}

/// A compressed stream of one frame with this body.
fn forged(body: &[u8], size: u64) -> (StreamSummary, Bytes) {
    let stream = [&frames::header(Compression::Zstd, body.len())[..], body, &[0; 8]].concat();
    let summary = StreamSummary {
        compression: Compression::Zstd,
        size,
        hash: [0; 32],
        stream_len: stream.len() as u64,
        stream_hash: [0; 32],
    };
    (summary, stream.into())
}

#[test]
fn bombs_do_not_expand() {
    // 64 MiB of zeros in a few KiB, declared as 100 KB, as a whole MiB, and as what it is.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    for size in [100_000, FRAME_SIZE as u64] {
        let (summary, stream) = forged(&bomb, size);
        assert_eq!(read(&summary, &stream, 1000), Err(FrameError::Body.into()));
    }
    let (summary, _) = forged(&bomb, 64 << 20);
    assert!(
        StreamReader::new(&summary).is_ok_and(|reader| reader.finish().is_err()),
        "64 frames, one is there"
    );
    // Declared sizes that need more frames than the stream can hold.
    let declare = |size, stream_len| Frames::new(size, stream_len).err();
    assert_eq!(declare(1 << 40, 30_000), Some(FrameError::Sizes));
    assert_eq!(declare(u64::MAX, u64::MAX), Some(FrameError::Sizes));
    assert_eq!(declare(u64::MAX, 1), Some(FrameError::Sizes));
    assert_eq!(declare(0, 0), Some(FrameError::Sizes));
    assert_eq!(declare(10, 12), Some(FrameError::Sizes));
    assert_eq!(declare(10, 13), None);
    assert_eq!(declare(10, 23), Some(FrameError::Sizes));
    // A frame that expands to less than its length.
    let (summary, stream) = forged(&zstd::bulk::compress(&[0; 99], 3).unwrap(), 100);
    assert_eq!(read(&summary, &stream, 1000), Err(FrameError::Body.into()));
}

#[test]
fn contradictions_are_found() {
    let (summary, stream) = write(&text(3000), Compression::Zstd, 1000);
    assert_eq!(
        read(
            &StreamSummary {
                hash: [1; 32],
                ..summary
            },
            &stream,
            100
        ),
        Err(StreamError::Hash)
    );
    assert_eq!(
        read(
            &StreamSummary {
                size: 2999,
                ..summary
            },
            &stream,
            100
        ),
        Err(FrameError::Body.into())
    );
    assert!(read(&summary, &stream.slice(1..), 100).is_err());
    assert_eq!(
        read(&summary, &stream.slice(..stream.len() - 1), 100),
        Err(StreamError::Length)
    );
    let longer = Bytes::from([&stream[..], &[0]].concat());
    assert_eq!(read(&summary, &longer, 100), Err(StreamError::Length));
    assert_eq!(
        read(
            &StreamSummary {
                stream_len: summary.stream_len + 1,
                ..summary
            },
            &longer,
            100
        ),
        Err(FrameError::Table.into())
    );
    let mut table = stream.to_vec();
    *table.last_mut().unwrap() = 1;
    assert_eq!(read(&summary, &table.into(), 100), Err(FrameError::Table.into()));
    let plain = StreamSummary {
        compression: Compression::None,
        ..summary
    };
    assert_eq!(StreamReader::new(&plain).err(), Some(FrameError::Sizes.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_streams_never_panic_or_expand(mut stream in proptest::collection::vec(any::<u8>(), 13..400), size in 1u64..5_000_000, flag: bool, short in 0u16..400) {
        stream[..2].copy_from_slice(&[if flag { 0x80 } else { 0 }, 0]);
        stream[2..4].copy_from_slice(&short.to_be_bytes());
        let summary = StreamSummary { compression: Compression::Zstd, size, hash: [0; 32], stream_len: stream.len() as u64, stream_hash: [0; 32] };
        prop_assert!(read(&summary, &stream.into(), 50).is_err());
    }

    #[test]
    fn flipped_bits_are_found(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let (summary, stream) = write(&text(5000), Compression::Zstd, 1000);
        let mut flipped = stream.to_vec();
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        // Some bits of a zstd frame carry nothing; then the plaintext is right.
        if let Ok(plain) = read(&summary, &flipped.into(), 1000) {
            prop_assert_eq!(plain, text(5000));
        }
    }
}
