use bytes::Bytes;
use proptest::prelude::*;
use warren_keys::{BlockId, BlockKind, RoutingKey};

use sha2::{Digest, Sha256};

use super::*;
use crate::{
    descriptor::fixtures::{descriptor, network, vector_descriptors, vectors},
    ids::RequestId,
    wire::{Holding, MAX_CENSUS, Receipt, Refusal, RepairMessage, RepairType, Replica, Routed, RoutedType},
};

fn block(fill: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![fill; BLOCK_SIZE])).unwrap()
}

fn announce(number: u8, addresses: usize) -> Announce {
    Announce {
        id: 0x1112_1314_1516_1718,
        target: Location::new(78),
        htl: 18,
        descriptor: descriptor(number, addresses),
    }
}

/// One frame of each type, routed messages included.
fn examples() -> Vec<Frame> {
    let (circuit, id) = (CircuitId(0x0102_0304), RequestId(0x0506_0708_090a_0b0c));
    let key = BlockId::signed(RoutingKey::from_bytes([9; 32]));
    let packet = |size: PacketSize| Frame::Packet {
        circuit,
        size,
        body: BytesMut::from(&vec![8; size.body()][..]),
    };
    vec![
        Frame::Hello(Box::new(descriptor(1, 4))),
        Frame::Ping(1),
        Frame::Pong(u64::MAX),
        Frame::AskDescriptors {
            near: Location::new(77),
        },
        Frame::Descriptors(vec![]),
        Frame::Descriptors((0..3).map(|n| descriptor(n, n.into())).collect()),
        Frame::Announce(Box::new(announce(3, 2))),
        Frame::Announced {
            id: 5,
            descriptors: (0..2).map(|n| descriptor(n, n.into())).collect(),
        },
        Frame::Observed("192.0.2.7:65535".parse().unwrap()),
        Frame::Observed("[2001:db8::1]:0".parse().unwrap()),
        Frame::AskDialBack { port: 9000 },
        Frame::DialedBack(DialResult::Reached),
        Frame::DialedBack(DialResult::NotTried),
        Frame::Create {
            circuit,
            create: Create {
                layer: 4,
                ephemeral: [7; 32],
            },
        },
        Frame::Created {
            circuit,
            created: Created {
                ephemeral: [6; 32],
                auth: [5; 32],
            },
        },
        Frame::Destroy(circuit),
        packet(PacketSize::Control),
        packet(PacketSize::Block),
        Frame::Routed(Routed::Request {
            id,
            block: key,
            htl: 18,
            stale: 1,
            branches: 3,
            best: 1 << 50,
            wait: false,
        }),
        Frame::Routed(Routed::Found {
            id,
            block: block(1),
            copy: true,
        }),
        Frame::Routed(Routed::Request {
            id,
            block: key,
            htl: 3,
            stale: 0,
            branches: 1,
            best: 0,
            wait: true,
        }),
        Frame::Routed(Routed::Arrived { block: block(7) }),
        Frame::Routed(Routed::NotFound { id, branches: 2 }),
        Frame::Routed(Routed::Refused {
            id,
            why: Refusal::Busy,
        }),
        Frame::Routed(Routed::Refused {
            id,
            why: Refusal::Loop,
        }),
        Frame::Routed(Routed::Refused {
            id,
            why: Refusal::Failed,
        }),
        Frame::Routed(Routed::Insert {
            id,
            block: block(2),
            htl: 17,
        }),
        Frame::Routed(Routed::Stored { id, copies: 5 }),
        Frame::Routed(Routed::Collision { id, block: block(3) }),
        Frame::Routed(Routed::Replicate { id, block: block(4) }),
        Frame::Routed(Routed::Replicated {
            id,
            replica: Replica::Busy,
        }),
        Frame::Routed(Routed::Repair(RepairMessage::Census {
            id,
            blocks: vec![key; MAX_CENSUS],
        })),
        Frame::Routed(Routed::Repair(RepairMessage::Holdings {
            id,
            holdings: vec![Holding::Lacking, Holding::Held, Holding::Foreign],
        })),
        Frame::Routed(Routed::Repair(RepairMessage::HandOver { id, block: block(5) })),
        Frame::Routed(Routed::Repair(RepairMessage::HandedOver {
            id,
            receipt: Receipt::Busy,
        })),
    ]
}

fn encode(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode_into(&mut out);
    out
}

fn decode(bytes: &[u8]) -> Result<Frame, WireError> {
    let (header, body) = bytes.split_first_chunk().ok_or(WireError::Truncated)?;
    let (kind, len) = decode_header(*header)?;
    if body.len() != len {
        return Err(WireError::Truncated);
    }
    Frame::decode(kind, body.into(), &network())
}

#[test]
fn every_frame_goes_round() {
    for frame in examples() {
        let bytes = encode(&frame);
        let again = decode(&bytes).unwrap_or_else(|fault| panic!("{:?}: {fault}", frame.kind()));
        assert_eq!(frame.kind(), again.kind());
        assert!(encode(&again) == bytes, "{:?}", frame.kind());
        assert!(bytes.len() <= FRAME_HEADER + MAX_FRAME_BODY);
    }
}

#[test]
fn the_examples_have_every_type() {
    let known = (0..=u8::MAX).filter_map(FrameType::from_u8);
    let examples: Vec<_> = examples().iter().map(Frame::kind).collect();
    for kind in known {
        assert_eq!(FrameType::from_u8(kind.as_u8()), Some(kind));
        assert!(examples.contains(&kind), "no example of {kind:?}");
    }
    assert!(FrameType::from_u8(0).is_none(), "zeros must not be a frame");
}

#[test]
fn lengths_are_judged_by_the_header() {
    for number in 0..=u8::MAX {
        let header = |len: usize| {
            let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
            decode_header([number, a, b, c])
        };
        let Some(kind) = FrameType::from_u8(number) else {
            assert_eq!(header(8), Err(WireError::UnknownType(number)));
            continue;
        };
        let admitted: Vec<_> = (0..=MAX_FRAME_BODY + 10)
            .filter(|len| header(*len).is_ok())
            .collect();
        assert!(admitted.iter().all(|len| kind.admits(*len)));
        assert!(!admitted.is_empty() && admitted[admitted.len() - 1] <= MAX_FRAME_BODY);
        assert_eq!(
            header(0xff_ffff),
            Err(WireError::Length {
                kind: number,
                len: 0xff_ffff
            })
        );
        match kind {
            FrameType::Hello | FrameType::Descriptors | FrameType::Announce | FrameType::Announced => {}
            FrameType::Observed => assert_eq!(admitted, [7, 19]),
            FrameType::Routed(RoutedType::Repair(RepairType::Census | RepairType::Holdings)) => {
                assert_eq!(admitted.len(), MAX_CENSUS);
            }
            _ => assert_eq!(admitted.len(), 1, "{kind:?}"),
        }
    }
}

#[test]
fn wrong_values_are_refused() {
    let create = Frame::Create {
        circuit: CircuitId(1),
        create: Create {
            layer: 5,
            ephemeral: [0; 32],
        },
    };
    assert_eq!(
        decode(&encode(&create)).err(),
        Some(WireError::Value {
            field: "layer",
            value: 5
        })
    );

    let mut found = encode(&Frame::Routed(Routed::Found {
        id: RequestId(1),
        block: block(1),
        copy: false,
    }));
    found[FRAME_HEADER + 8] = 2;
    assert_eq!(
        decode(&found).err(),
        Some(WireError::Value {
            field: "copy",
            value: 2
        })
    );
    found[FRAME_HEADER + 8] = 0;
    found[FRAME_HEADER + 9] = 2;
    assert_eq!(
        decode(&found).err(),
        Some(WireError::Value {
            field: "block kind",
            value: 2
        })
    );
    found[FRAME_HEADER + 9] = 1;
    assert!(
        matches!(decode(&found).err(), Some(WireError::Block(_))),
        "content is no signed block"
    );

    let mut holdings = encode(&Frame::Routed(Routed::Repair(RepairMessage::Holdings {
        id: RequestId(1),
        holdings: vec![Holding::Held],
    })));
    let last = holdings.len() - 1;
    for (at, value, field) in [
        (last, 3, "holding"),
        (last - 1, 0, "number of blocks"),
        (last - 1, 65, "number of blocks"),
    ] {
        let before = std::mem::replace(&mut holdings[at], value);
        let value = value.into();
        assert_eq!(decode(&holdings).err(), Some(WireError::Value { field, value }));
        holdings[at] = before;
    }
    holdings[last - 1] = 2;
    assert_eq!(decode(&holdings).err(), Some(WireError::Truncated));

    let mut refused = encode(&Frame::Routed(Routed::Refused {
        id: RequestId(1),
        why: Refusal::Busy,
    }));
    let last = refused.len() - 1;
    for value in [0, 4] {
        refused[last] = value;
        assert_eq!(
            decode(&refused).err(),
            Some(WireError::Value {
                field: "refusal",
                value: value.into()
            })
        );
    }

    let mut descriptors = encode(&Frame::Descriptors(vec![descriptor(1, 1)]));
    descriptors[FRAME_HEADER] = 2;
    assert_eq!(decode(&descriptors).err(), Some(WireError::Truncated));
    descriptors[FRAME_HEADER] = 0;
    assert!(matches!(decode(&descriptors).err(), Some(WireError::Trailing(_))));
    descriptors[FRAME_HEADER] = 33;
    assert!(matches!(
        decode(&descriptors).err(),
        Some(WireError::Value { .. })
    ));
}

#[test]
fn more_descriptors_than_allowed_are_not_sent() {
    let list = vec![descriptor(1, 0); MAX_DESCRIPTORS + 1];
    match decode(&encode(&Frame::Descriptors(list))) {
        Ok(Frame::Descriptors(list)) => assert_eq!(list.len(), MAX_DESCRIPTORS),
        other => panic!("{other:?}"),
    }
    let descriptors = vec![descriptor(1, 0); MAX_ANNOUNCED + 1];
    match decode(&encode(&Frame::Announced { id: 1, descriptors })) {
        Ok(Frame::Announced { descriptors, .. }) => assert_eq!(descriptors.len(), MAX_ANNOUNCED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_and_packets_keep_their_buffer() {
    for frame in examples() {
        let mut bytes = encode(&frame);
        bytes.advance(FRAME_HEADER);
        let range = bytes.as_ptr_range();
        match Frame::decode(frame.kind(), bytes, &network()).unwrap() {
            Frame::Packet { body, .. } => assert!(range.contains(&body.as_ptr())),
            Frame::Routed(Routed::Found { block, .. }) => assert!(range.contains(&block.bytes().as_ptr())),
            _ => {}
        }
    }
}

#[test]
fn vectors_agree() {
    let network = Network::MAIN.parse().unwrap();
    let mut seen = 0;
    for vector in vectors("frame") {
        let bytes = vector.bytes("bytes");
        let (header, body) = bytes.split_first_chunk().unwrap();
        let (kind, len) = decode_header(*header).unwrap();
        assert_eq!(body.len(), len, "{}", vector.text("name"));
        let frame = Frame::decode(kind, body.into(), &network).unwrap();
        assert_eq!(encode(&frame), bytes);
        seen += 1;
        let (circuit, id) = (CircuitId(0x0102_0304), RequestId(0x0506_0708_090a_0b0c));
        let right = match frame {
            Frame::Hello(descriptor) => *descriptor == vector_descriptors()[1],
            Frame::Ping(number) => number == 1,
            Frame::Pong(number) => number == u64::MAX,
            Frame::AskDescriptors { near } => near == Location::new(77),
            Frame::Descriptors(list) => list == vector_descriptors(),
            Frame::Announce(announce) => {
                announce.id == 0x1112_1314_1516_1718
                    && announce.target == Location::new(77)
                    && announce.htl == 18
                    && announce.descriptor == vector_descriptors()[0]
            }
            Frame::Announced { id, descriptors } => {
                id == 0x1112_1314_1516_1718 && descriptors == vector_descriptors()[..1]
            }
            Frame::Observed(address) => ["192.0.2.7:65535", "[2001:db8::1]:443"]
                .map(|text| text.parse().unwrap())
                .contains(&address),
            Frame::AskDialBack { port } => port == 9000,
            Frame::DialedBack(result) => result == DialResult::Reached,
            Frame::Create {
                circuit: number,
                create,
            } => number == circuit && create.layer == 4,
            Frame::Created {
                circuit: number,
                created,
            } => number == circuit && created.auth != created.ephemeral,
            Frame::Destroy(number) => number == circuit,
            Frame::Packet {
                circuit: number,
                size,
                ..
            } => number == circuit && size == PacketSize::Control,
            Frame::Routed(routed) => {
                routed.id() == Some(id)
                    && match routed {
                        Routed::Request {
                            block,
                            htl: 18,
                            stale: 1,
                            branches: 3,
                            best,
                            ..
                        } => block.kind == BlockKind::Signed && best == 1 << 50,
                        Routed::NotFound { branches: 2, .. } => true,
                        Routed::Refused {
                            why: Refusal::Loop, ..
                        } => true,
                        Routed::Stored { copies: 5, .. } => true,
                        Routed::Replicated {
                            replica: Replica::Stored,
                            ..
                        } => true,
                        Routed::Repair(RepairMessage::Census { blocks, .. }) => {
                            blocks.iter().map(|block| block.kind).collect::<Vec<_>>()
                                == [BlockKind::Signed, BlockKind::Content]
                        }
                        Routed::Repair(RepairMessage::Holdings { holdings, .. }) => {
                            holdings == [Holding::Lacking, Holding::Held, Holding::Foreign]
                        }
                        Routed::Repair(RepairMessage::HandedOver { receipt, .. }) => receipt == Receipt::Kept,
                        _ => false,
                    }
            }
        };
        assert!(right, "{}", vector.text("name"));
    }
    assert_eq!(seen, 24);
}

#[test]
fn vectors_with_blocks_agree() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(BLOCK_SIZE).collect();
    let block = Block::identify(BlockKind::Content, Bytes::from(bytes.clone())).unwrap();
    let (circuit, id) = (CircuitId(0x0102_0304), RequestId(0x0506_0708_090a_0b0c));
    let mut body = BytesMut::from(&bytes[..]);
    body.resize(PacketSize::Block.body(), 0);
    let frames = [
        Frame::Packet {
            circuit,
            size: PacketSize::Block,
            body,
        },
        Frame::Routed(Routed::Found {
            id,
            block: block.clone(),
            copy: true,
        }),
        Frame::Routed(Routed::Insert {
            id,
            block: block.clone(),
            htl: 17,
        }),
        Frame::Routed(Routed::Collision {
            id,
            block: block.clone(),
        }),
        Frame::Routed(Routed::Replicate {
            id,
            block: block.clone(),
        }),
        Frame::Routed(Routed::Repair(RepairMessage::HandOver {
            id,
            block: block.clone(),
        })),
        Frame::Routed(Routed::Arrived { block }),
    ];
    let vectors = vectors("long frame");
    assert_eq!(vectors.len(), frames.len());
    for (vector, frame) in vectors.iter().zip(frames) {
        let encoded = encode(&frame);
        let head = vector.bytes("head");
        assert_eq!(encoded[..head.len()], head, "{}", vector.text("name"));
        assert_eq!(
            Sha256::digest(&encoded)[..],
            vector.bytes("sha256"),
            "{}",
            vector.text("name")
        );
        assert!(decode(&encoded).is_ok());
    }
}

proptest! {
    #[test]
    fn any_body_of_any_type_is_a_frame_or_an_error(index in 0usize..35, body: Vec<u8>) {
        let kind = examples()[index].kind();
        if let Ok(frame) = Frame::decode(kind, BytesMut::from(&body[..]), &network()) {
            prop_assert_eq!(&encode(&frame)[FRAME_HEADER..], &body[..]);
        }
    }

    #[test]
    fn a_changed_frame_is_the_frame_it_says_or_an_error(index in 0usize..35, place: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = encode(&examples()[index]);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(frame) = decode(&bytes) {
            prop_assert!(encode(&frame) == bytes);
        }
    }
}
