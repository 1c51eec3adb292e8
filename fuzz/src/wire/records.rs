//! Records: what a peer with the right key can put into them, and what the wire does to honest ones.

use bytes::BytesMut;
use warren_proto::{
    crypto::{Cipher, Portable},
    geometry::{RECORD_LEN, RECORD_PAYLOAD},
    link::{
        frames::FrameReceiver,
        record::{Opener, Sealer},
    },
    wire::MAX_FRAME_BODY,
};

use crate::{Input, Seed, cipher::NoSecurity, fixtures};

/// The first byte chooses between a hostile peer and a hostile wire.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() {
        wire(&mut input)
    } else {
        peer(&mut input)
    }
}

/// Records of any content, read as frames; the buffer must not grow beyond one frame and one read.
fn peer(input: &mut Input<'_>) {
    let mut receiver = FrameReceiver::new(
        Opener::<NoSecurity>::new(Cipher::ChaCha20Poly1305, &[0; 32], BytesMut::new()),
        fixtures::network(),
    );
    while let Some(op) = input.op() {
        let mut record = vec![0; RECORD_LEN];
        let used = input.long_chunk();
        let used = &used[..used.len().min(RECORD_PAYLOAD)];
        record[..used.len()].copy_from_slice(used);
        let count = if op & 1 == 0 {
            u16::try_from(used.len()).expect("a record's payload")
        } else {
            input.u16()
        };
        record[RECORD_PAYLOAD..RECORD_PAYLOAD + 2].copy_from_slice(&count.to_be_bytes());
        // Whole, or cut in the middle.
        let cut = if op & 2 == 0 {
            RECORD_LEN
        } else {
            usize::from(input.u16()) % RECORD_LEN
        };
        for part in [&record[..cut], &record[cut..]] {
            receiver.buffer().extend_from_slice(part);
            if receiver.open().is_err() {
                return assert!(receiver.next().is_err(), "frames after an error");
            }
            loop {
                match receiver.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return assert!(receiver.next().is_err(), "frames after an error"),
                }
            }
            assert!(
                receiver.buffer().len() <= 4 + MAX_FRAME_BODY + 5 * RECORD_LEN,
                "it keeps what it should not"
            );
        }
    }
}

/// A stream through records that are cut, and perhaps changed, lost or repeated on the way.
fn wire(input: &mut Input<'_>) {
    let cipher = if input.flag() {
        Cipher::Aes256Gcm
    } else {
        Cipher::ChaCha20Poly1305
    };
    let (mut sealer, mut opener) = (
        Sealer::<Portable>::new(cipher, &[1; 32]),
        Opener::<Portable>::new(cipher, &[1; 32], BytesMut::new()),
    );
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let mut damaged = false;
    while let Some(op) = input.op() {
        match op % 8 {
            0 | 1 => {
                let (byte, len) = (input.u8(), usize::from(input.u16() % 10_000));
                let stream = vec![byte; len];
                sealer.write(&stream);
                sent.extend_from_slice(&stream);
            }
            2 => sealer.flush(),
            3 => sealer.cover(),
            _ => {
                if op % 8 == 4 {
                    sealer.flush();
                }
                let mut wire = sealer.take().to_vec();
                assert!(wire.len().is_multiple_of(RECORD_LEN));
                if wire.is_empty() {
                    continue;
                }
                match op % 8 {
                    5 => damaged |= input.flip(&mut wire, 2),
                    6 => {
                        wire.drain(..RECORD_LEN);
                        damaged = true;
                    }
                    7 => {
                        wire.extend_from_within(..RECORD_LEN);
                        damaged = true;
                    }
                    _ => {}
                }
                for piece in wire.chunks(1 + usize::from(input.u16())) {
                    opener.buffer().extend_from_slice(piece);
                    if opener.open().is_err() {
                        assert!(damaged, "an honest record was refused");
                        return assert!(sent.starts_with(&received) && opener.open().is_err());
                    }
                    let len = usize::from(input.u16());
                    received.extend_from_slice(&opener.take(len));
                }
            }
        }
        assert!(sealer.room() <= RECORD_PAYLOAD && sealer.pending().is_multiple_of(RECORD_LEN));
    }
    let rest = opener.stream().to_vec();
    received.extend_from_slice(&rest);
    assert!(sent.starts_with(&received), "another stream than was sent");
    if !damaged {
        sealer.flush();
        opener.skip(rest.len());
        opener.buffer().extend_from_slice(&sealer.take());
        opener.open().expect("an honest record");
        received.extend_from_slice(opener.stream());
        assert_eq!(received, sent);
    }
}

/// Frames in records in different ways, and each fate of a record.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let frames: Vec<Vec<u8>> = fixtures::vector_bytes(fixtures::LINKS, "frame", "bytes").collect();
    let mut seeds: Vec<Seed> = frames
        .iter()
        .enumerate()
        .map(|(number, frame)| {
            let (head, tail) = frame.split_at(frame.len().min(6));
            Seed::new(format!("frame-{number}"))
                .u8(0)
                .u8(0)
                .long_chunk(head)
                .u8(2)
                .long_chunk(tail)
                .u16(1000)
        })
        .collect();
    // A block packet over nine records.
    let packet = [&[0x14, 0, 0x81, 4][..], &[0; RECORD_PAYLOAD - 4]].concat();
    let first = Seed::new("block-packet").u8(0).u8(0).long_chunk(&packet);
    seeds.push((0..8).fold(first, |seed, _| seed.u8(1).u16(0).u16(4078)));
    seeds.push(Seed::new("overfull").u8(0).u8(1).long_chunk(b"data").u16(0xffff));
    seeds.push(Seed::new("padding").u8(0).u8(1).long_chunk(b"data").u16(1));
    seeds.push(Seed::new("empty").u8(0).u8(0).u16(0).u8(2).u16(0).u16(9));
    let fates = [("take", 4), ("flip", 5), ("lose", 6), ("repeat", 7)];
    let ciphers = [("", 0), ("aes-", 1)];
    for ((cipher, flag), (name, fate)) in ciphers
        .into_iter()
        .flat_map(|cipher| fates.map(|fate| (cipher, fate)))
    {
        let seed = Seed::new(format!("wire-{cipher}{name}"))
            .u8(1)
            .u8(flag)
            .u8(0)
            .u8(9)
            .u16(9000)
            .u8(3)
            .u8(2);
        let seed = if fate == 5 {
            seed.u8(fate).u16(8).u8(1).u16(9).u8(0)
        } else {
            seed.u8(fate)
        };
        seeds.push(seed.u16(1499).u16(5000).u16(0).u16(5000));
    }
    seeds
}
