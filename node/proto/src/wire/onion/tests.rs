use bytes::Bytes;
use proptest::prelude::*;
use warren_keys::{BLOCK_SIZE, BlockId, BlockKind, RoutingKey};

use sha2::{Digest, Sha256};

use super::*;
use crate::{
    descriptor::fixtures::{descriptor, network, vector_descriptors, vectors},
    geometry::{MAX_HOPS, TAG_LEN},
};

fn block(fill: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![fill; BLOCK_SIZE])).unwrap()
}

fn examples() -> Vec<OnionMessage> {
    let key = BlockId::content(RoutingKey::from_bytes([3; 32]));
    let request = |op| OnionMessage::Request(ExitRequest { id: 0x0102_0304, op });
    let reply = |result| reply(0x0506_0708, result);
    vec![
        OnionMessage::Extend {
            target: Box::new(descriptor(1, 4)),
            create: Create {
                layer: 2,
                ephemeral: [1; 32],
            },
        },
        OnionMessage::Extended(Created {
            ephemeral: [2; 32],
            auth: [3; 32],
        }),
        request(ExitOp::Fetch {
            block: key,
            branches: 3,
            wait: false,
        }),
        request(ExitOp::Fetch {
            block: key,
            branches: 8,
            wait: true,
        }),
        request(ExitOp::Insert(block(1))),
        reply(ExitResult::Found(block(2))),
        reply(ExitResult::NotFound),
        reply(ExitResult::Waiting),
        reply(ExitResult::Stored(5)),
        reply(ExitResult::Collision(block(3))),
        reply(ExitResult::Busy),
        reply(ExitResult::Failed),
        OnionMessage::Drop(PacketSize::Control),
        OnionMessage::Drop(PacketSize::Block),
    ]
}

#[test]
fn every_message_goes_round_through_any_number_of_layers() {
    for message in examples() {
        let size = message.size();
        let packet = message.encode();
        assert_eq!(packet.len(), size.body());
        for layers in 0..=MAX_HOPS {
            let left = size.body() - layers * TAG_LEN;
            let again = OnionMessage::decode(size, packet[..left].into(), &network()).unwrap();
            assert!(again.encode() == packet, "{message:?}");
            assert_eq!(again.is_forward(), message.is_forward());
        }
    }
    let commands = (0..=u8::MAX).filter(|number| Command::from_u8(*number).is_ok());
    for number in commands {
        assert!(
            examples().iter().any(|message| message.encode()[0] == number),
            "no example of command {number}"
        );
    }
}

#[test]
fn padding_must_be_zero() {
    for message in examples() {
        let packet = message.encode();
        let len = HEADER + usize::from(u16::from_be_bytes([packet[1], packet[2]]));
        for place in [len, (len + packet.len()) / 2, packet.len() - 1] {
            let mut changed = packet.clone();
            changed[place] = 1;
            let refused = OnionMessage::decode(message.size(), changed, &network()).err();
            assert_eq!(refused, Some(WireError::Padding));
        }
    }
}

#[test]
fn a_message_in_the_other_packet_is_refused() {
    for message in examples()
        .into_iter()
        .filter(|message| !matches!(message, OnionMessage::Drop(_)))
    {
        let (other, mut packet) = match message.size() {
            PacketSize::Control => (PacketSize::Block, message.encode()),
            PacketSize::Block => (PacketSize::Control, message.encode()),
        };
        packet.resize(other.body(), 0);
        assert!(
            OnionMessage::decode(other, packet, &network()).is_err(),
            "{message:?}"
        );
    }
}

#[test]
fn lengths_are_exact() {
    for message in examples() {
        let packet = message.encode();
        let len = u16::from_be_bytes([packet[1], packet[2]]);
        for wrong in [len.wrapping_sub(1), len + 1, 0, u16::MAX] {
            let mut changed = packet.clone();
            changed[1..3].copy_from_slice(&wrong.to_be_bytes());
            if let Ok(again) = OnionMessage::decode(message.size(), changed.clone(), &network()) {
                assert!(again.encode() == changed, "{message:?} with length {wrong}");
                assert_eq!(wrong, len, "{message:?}");
            }
        }
    }
    assert!(OnionMessage::decode(PacketSize::Control, BytesMut::new(), &network()).is_err());
}

#[test]
fn a_block_keeps_the_packet() {
    let packet = OnionMessage::Reply(ExitReply {
        id: 1,
        result: ExitResult::Found(block(9)),
    })
    .encode();
    let range = packet.as_ptr_range();
    match OnionMessage::decode(PacketSize::Block, packet, &network()).unwrap() {
        OnionMessage::Reply(ExitReply {
            result: ExitResult::Found(block),
            ..
        }) => {
            assert!(range.contains(&block.bytes().as_ptr()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn vectors_agree() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(BLOCK_SIZE).collect();
    let block = Block::identify(BlockKind::Content, Bytes::from(bytes)).unwrap();
    let keys = [0, 1].map(|number| <[u8; 32]>::from(Sha256::digest(format!("key {number}"))));
    let request = |op| OnionMessage::Request(ExitRequest { id: 0x0102_0304, op });
    let reply = |result| reply(0x0102_0304, result);
    let fetch = ExitOp::Fetch {
        block: BlockId::content(RoutingKey::from_bytes(keys[0])),
        branches: 3,
        wait: false,
    };
    let awaited = ExitOp::Fetch {
        block: BlockId::content(RoutingKey::from_bytes(keys[0])),
        branches: 3,
        wait: true,
    };
    let messages = [
        OnionMessage::Drop(PacketSize::Control),
        OnionMessage::Extend {
            target: Box::new(vector_descriptors().remove(2)),
            create: Create {
                layer: 2,
                ephemeral: keys[0],
            },
        },
        OnionMessage::Extended(Created {
            ephemeral: keys[0],
            auth: keys[1],
        }),
        request(fetch),
        request(ExitOp::Insert(block.clone())),
        reply(ExitResult::Found(block.clone())),
        reply(ExitResult::NotFound),
        reply(ExitResult::Stored(5)),
        reply(ExitResult::Collision(block)),
        reply(ExitResult::Busy),
        reply(ExitResult::Failed),
        request(awaited),
        reply(ExitResult::Waiting),
    ];
    let vectors = vectors("message");
    assert_eq!(vectors.len(), messages.len());
    for (vector, message) in vectors.iter().zip(messages) {
        let encoded = message.encode();
        assert_eq!(
            encoded.len().to_string(),
            vector.text("length"),
            "{}",
            vector.text("name")
        );
        assert_eq!(encoded[..8], vector.bytes("start"), "{}", vector.text("name"));
        assert_eq!(
            Sha256::digest(&encoded)[..],
            vector.bytes("sha256"),
            "{}",
            vector.text("name")
        );
    }
}

proptest! {
    #[test]
    fn any_packet_is_a_message_or_an_error(command in 0u8..14, len in 0u16..400, data: Vec<u8>) {
        let mut packet = BytesMut::from(&[command][..]);
        packet.extend_from_slice(&len.to_be_bytes());
        packet.extend_from_slice(&data);
        for size in [PacketSize::Control, PacketSize::Block] {
            packet.resize(size.body(), 0);
            if let Ok(message) = OnionMessage::decode(size, packet.clone(), &network()) {
                prop_assert!(message.encode() == packet);
            }
        }
    }
}
