use bytes::Bytes;
use proptest::prelude::*;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};

use super::*;
use crate::{
    crypto::{Cipher, Portable},
    descriptor::fixtures::{descriptor, network},
    geometry::{PacketSize, RECORD_LEN},
    ids::{CircuitId, RequestId},
    wire::Routed,
};

const KEY: [u8; 32] = [7; 32];

fn pair() -> (FrameSender<Portable>, FrameReceiver<Portable>) {
    let opener = Opener::new(Cipher::ChaCha20Poly1305, &KEY, BytesMut::new());
    (
        FrameSender::new(Sealer::new(Cipher::ChaCha20Poly1305, &KEY)),
        FrameReceiver::new(opener, network()),
    )
}

fn found(fill: u8) -> Frame {
    let block = Block::identify(BlockKind::Content, Bytes::from(vec![fill; BLOCK_SIZE])).unwrap();
    Frame::Routed(Routed::Found {
        id: RequestId(fill.into()),
        block,
        copy: false,
    })
}

fn packet(fill: u8, size: PacketSize) -> Frame {
    Frame::Packet {
        circuit: CircuitId(fill.into()),
        size,
        body: BytesMut::from(&vec![fill; size.body()][..]),
    }
}

fn bytes(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode_into(&mut out);
    out
}

fn drain(receiver: &mut FrameReceiver<Portable>) -> Vec<Frame> {
    core::iter::from_fn(|| receiver.next().unwrap()).collect()
}

fn sent(kind: u8) -> Frame {
    match kind % 5 {
        0 => Frame::Ping(kind.into()),
        1 => found(kind),
        2 => packet(kind, PacketSize::Control),
        3 => packet(kind, PacketSize::Block),
        _ => Frame::Hello(Box::new(descriptor(kind, 2))),
    }
}

#[test]
fn blocks_are_not_copied_when_they_arrive_at_once() {
    let (mut sender, mut receiver) = pair();
    sender.send(&found(1));
    sender.flush();
    let wire = sender.take();
    assert_eq!(wire.len(), 9 * RECORD_LEN);
    receiver.buffer().extend_from_slice(&wire);
    let range = receiver.buffer().as_ptr_range();
    receiver.open().unwrap();
    match receiver.next() {
        Ok(Some(Frame::Routed(Routed::Found { block, .. }))) => {
            assert!(range.contains(&block.bytes().as_ptr()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn small_packets_do_not_keep_the_receive_buffer() {
    let (mut sender, mut receiver) = pair();
    sender.send(&packet(1, PacketSize::Control));
    sender.flush();
    receiver.buffer().extend_from_slice(&sender.take());
    let range = receiver.buffer().as_ptr_range();
    receiver.open().unwrap();
    match receiver.next() {
        Ok(Some(Frame::Packet { body, .. })) => assert!(!range.contains(&body.as_ptr())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_frame_ends_the_stream() {
    let (_, mut receiver) = pair();
    let mut sealer = Sealer::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY);
    sealer.write(&bytes(&Frame::Ping(1)));
    sealer.write(&[0xff, 0, 0, 0]);
    sealer.write(&bytes(&Frame::Ping(2)));
    sealer.flush();
    receiver.buffer().extend_from_slice(&sealer.take());
    receiver.open().unwrap();
    assert!(matches!(receiver.next(), Ok(Some(Frame::Ping(1)))));
    assert_eq!(receiver.next().err(), Some(WireError::UnknownType(0xff).into()));
    assert_eq!(receiver.next().err(), Some(RecordError::Ended.into()));
}

#[test]
fn an_impossible_length_is_refused_before_the_body() {
    let (_, mut receiver) = pair();
    let mut sealer = Sealer::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY);
    sealer.write(&[2, 0, 0, 9]);
    sealer.flush();
    receiver.buffer().extend_from_slice(&sealer.take());
    receiver.open().unwrap();
    assert_eq!(
        receiver.next().err(),
        Some(WireError::Length { kind: 2, len: 9 }.into())
    );
}

#[test]
fn a_bad_record_ends_the_stream_with_frames_still_in_it() {
    let (mut sender, mut receiver) = pair();
    sender.send(&Frame::Ping(1));
    sender.flush();
    receiver.buffer().extend_from_slice(&sender.take());
    receiver.buffer().extend_from_slice(&[0; RECORD_LEN]);
    assert_eq!(receiver.open(), Err(RecordError::Unauthenticated));
    assert_eq!(receiver.next().err(), Some(RecordError::Ended.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_frames_in_any_chunks(
        kinds in prop::collection::vec((any::<u8>(), any::<bool>()), 1..12),
        reads in prop::collection::vec(1usize..40_000, 1..12),
    ) {
        let (mut sender, mut receiver) = pair();
        let mut wire = Vec::new();
        for (kind, flush) in &kinds {
            sender.send(&sent(*kind));
            if *flush { sender.flush(); wire.extend_from_slice(&sender.take()); }
        }
        sender.flush();
        wire.extend_from_slice(&sender.take());
        let (mut wire, mut reads, mut got) = (&wire[..], reads.iter().cycle(), Vec::new());
        while !wire.is_empty() {
            let (now, later) = wire.split_at(wire.len().min(*reads.next().unwrap()));
            receiver.buffer().extend_from_slice(now);
            receiver.open().unwrap();
            got.extend(drain(&mut receiver));
            wire = later;
        }
        prop_assert_eq!(got.len(), kinds.len());
        for (got, (kind, _)) in got.iter().zip(&kinds) {
            prop_assert!(bytes(got) == bytes(&sent(*kind)));
        }
    }
}
