//! Streams: frames and decompression as a hostile publisher could make them.

use bytes::{Bytes, BytesMut};
use warren_keys::stream::{
    Compression, FRAME_SIZE, FrameDecoder, Frames, StreamError, StreamReader, StreamSummary, StreamWriter,
};

use crate::{Input, Seed};

/// The first byte chooses between any bytes as a stream, a valid stream with changes, a single frame, and the table.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => hostile(&mut input),
        1 => changed(&mut input),
        2 => {
            let plain_len = usize::from(input.u16());
            let frame = Bytes::copy_from_slice(input.rest());
            let mut decoder = FrameDecoder::new().expect("memory");
            if let Ok(plain) = decoder.open(&frame, plain_len) {
                assert_eq!(plain.len(), plain_len);
            }
        }
        _ => table(&mut input),
    }
}

/// Reads `stream` in pieces of `piece` bytes. Nothing may come out beyond what was declared.
fn read(summary: &StreamSummary, stream: &Bytes, piece: usize) -> Result<Vec<u8>, StreamError> {
    let mut reader = StreamReader::new(summary)?;
    let mut plain = Vec::new();
    for start in (0..stream.len()).step_by(piece.max(1)) {
        let part = stream.slice(start..(start + piece.max(1)).min(stream.len()));
        reader.push(part, |bytes| {
            assert!(!bytes.is_empty());
            plain.extend_from_slice(&bytes);
            assert!(plain.len() as u64 <= summary.size, "more than declared");
        })?;
    }
    reader.finish().map(|()| plain)
}

fn hostile(input: &mut Input<'_>) {
    let compression = if input.flag() {
        Compression::Zstd
    } else {
        Compression::None
    };
    // Mostly less than a frame; several cost time and tell nothing new.
    let size = match input.u32() {
        size @ ..0x8000_0000 => u64::from(size) % 5000,
        size => u64::from(size) % (3 * FRAME_SIZE as u64),
    };
    let (piece, truth) = (usize::from(input.u16()), input.flag());
    let stream = Bytes::copy_from_slice(input.rest());
    let stream_len = if truth {
        stream.len() as u64
    } else {
        u64::from(u32::MAX)
    };
    let summary = StreamSummary {
        compression,
        size,
        hash: [0; 32],
        stream_len,
        stream_hash: [0; 32],
    };
    assert!(
        read(&summary, &stream, piece).is_err(),
        "nobody knows what hashes to zeros"
    );
}

fn changed(input: &mut Input<'_>) {
    let compression = if input.flag() {
        Compression::Zstd
    } else {
        Compression::None
    };
    let (push, piece, repeat) = (
        usize::from(input.u16()),
        usize::from(input.u16()),
        usize::from(input.u16()),
    );
    let changes = input.bytes(12);
    let seed = input.rest();
    // Compressible, and long enough for two frames now and then.
    let longest = if repeat == usize::from(u16::MAX) {
        FRAME_SIZE + 99
    } else {
        20_000
    };
    let plain: Vec<u8> = seed
        .iter()
        .copied()
        .cycle()
        .take(seed.len().saturating_mul(repeat).min(longest))
        .collect();
    let (mut writer, mut stream) = (StreamWriter::new(compression).expect("memory"), BytesMut::new());
    for part in plain.chunks(push.max(512)) {
        writer.push(part, &mut stream).expect("memory");
    }
    let summary = writer.finish(&mut stream).expect("memory");
    assert_eq!(
        (summary.size, summary.stream_len),
        (plain.len() as u64, stream.len() as u64)
    );
    if compression == Compression::Zstd && plain.is_empty() {
        return; // The root of an empty file says that nothing is compressed.
    }
    let whole = read(&summary, &stream.clone().freeze(), piece.max(256));
    assert!(whole.is_ok_and(|read| read == plain));
    let mut flipped = stream.to_vec();
    Input::new(changes).flip(&mut flipped, 4);
    if let Ok(read) = read(&summary, &flipped.into(), piece.max(256)) {
        assert!(read == plain, "a change in what zstd ignores");
    }
}

fn table(input: &mut Input<'_>) {
    let (size, stream_len) = (input.u64(), input.u64());
    let Ok(frames) = Frames::new(size, stream_len) else {
        return;
    };
    assert!(frames.count() > 0 && frames.table().end == stream_len);
    let start = input.u64() % frames.count();
    let end = (start + 1 + u64::from(input.u8() % 8)).min(frames.count() + 1);
    let wanted = frames.entries(start..end);
    assert!(wanted.start <= wanted.end && wanted.end <= stream_len);
    let mut entries = input.rest().to_vec();
    if input.is_empty() {
        entries.resize(
            usize::try_from(wanted.end - wanted.start).expect("few entries"),
            0,
        );
    }
    if let Ok(places) = frames.places(start..end, &entries) {
        assert_eq!(places.len() as u64, end - start);
        for (place, frame) in places.iter().zip(start..) {
            assert!(place.start < place.end && place.end <= frames.table().start);
            assert!(frames.plain_len(frame) <= FRAME_SIZE);
        }
    }
    assert_eq!(frames.frame_at(size), None);
}

/// Streams of each kind.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let text = b"a line of a text that shrinks well\n".repeat(20);
    let (mut writer, mut stream) = (
        StreamWriter::new(Compression::Zstd).expect("memory"),
        BytesMut::new(),
    );
    writer.push(&text, &mut stream).expect("memory");
    let summary = writer.finish(&mut stream).expect("memory");
    let size = u32::try_from(text.len()).expect("short");
    let frame = &stream[..stream.len() - 8];
    let hostile = |name: &str, flag, stream: &[u8]| {
        Seed::new(name)
            .u8(0)
            .u8(flag)
            .u32(size)
            .u16(50)
            .u8(1)
            .bytes(stream)
    };
    let changed = |name: &str, flag, repeat| {
        Seed::new(name)
            .u8(1)
            .u8(flag)
            .u16(700)
            .u16(300)
            .u16(repeat)
            .bytes(&[0; 12])
    };
    vec![
        hostile("compressed", 1, &stream),
        hostile("plain", 0, &text),
        changed("round-trip", 1, 30).bytes(&text[..35]),
        changed("round-trip-plain", 0, 30).bytes(&text[..35]),
        changed("two-frames", 1, u16::MAX).bytes(&text[..35]),
        Seed::new("frame")
            .u8(2)
            .u16(u16::try_from(text.len()).expect("short"))
            .bytes(frame),
        Seed::new("table")
            .u8(3)
            .u64(u64::from(size))
            .u64(summary.stream_len)
            .u64(0)
            .u8(0)
            .u64(0),
        Seed::new("long-table")
            .u8(3)
            .u64(5 << 20)
            .u64(100_000)
            .u64(1)
            .u8(1)
            .u64(20_000)
            .u64(40_000),
    ]
}
