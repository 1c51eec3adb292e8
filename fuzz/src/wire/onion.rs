//! The inside of circuit packets, once all layers are off.

use bytes::BytesMut;
use warren_proto::{
    geometry::PacketSize,
    wire::{Create, Created, ExitOp, ExitReply, ExitRequest, ExitResult, OnionMessage},
};

use crate::{Input, Seed, fixtures};

/// The first byte is the packet's size; the rest is filled up with zeros.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let size = if input.flag() {
        PacketSize::Block
    } else {
        PacketSize::Control
    };
    // What a hop sees may be shorter by the tags of its layers.
    let len = if input.flag() { size.payload() } else { size.body() };
    let mut packet = BytesMut::from(input.bytes(len));
    packet.resize(len, 0);
    let Ok(message) = OnionMessage::decode(size, packet.clone(), &fixtures::network()) else {
        return;
    };
    assert_eq!(message.size(), size);
    packet.resize(size.body(), 0);
    assert!(message.encode() == packet, "another encoding of the same message");
    if let OnionMessage::Request(ExitRequest {
        op: ExitOp::Insert(block),
        ..
    })
    | OnionMessage::Reply(ExitReply {
        result: ExitResult::Found(block) | ExitResult::Collision(block),
        ..
    }) = message
    {
        let again = warren_keys::Block::verify(block.id(), block.bytes().clone());
        assert!(again.is_ok(), "a block that was not verified");
    }
}

/// One of each message.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let block = fixtures::content_block(0);
    let target = Box::new(fixtures::node(1).descriptor.as_ref().clone());
    let request = |op| OnionMessage::Request(ExitRequest { id: 7, op });
    let reply = |result| OnionMessage::Reply(ExitReply { id: 7, result });
    let messages = [
        ("drop-control", OnionMessage::Drop(PacketSize::Control)),
        ("drop-block", OnionMessage::Drop(PacketSize::Block)),
        (
            "extend",
            OnionMessage::Extend {
                target,
                create: Create {
                    layer: 1,
                    ephemeral: [9; 32],
                },
            },
        ),
        (
            "extended",
            OnionMessage::Extended(Created {
                ephemeral: [9; 32],
                auth: [8; 32],
            }),
        ),
        (
            "fetch",
            request(ExitOp::Fetch {
                block: block.id(),
                branches: 3,
                wait: false,
            }),
        ),
        (
            "await",
            request(ExitOp::Fetch {
                block: block.id(),
                branches: 8,
                wait: true,
            }),
        ),
        ("insert", request(ExitOp::Insert(block.clone()))),
        ("found", reply(ExitResult::Found(block))),
        (
            "collision",
            reply(ExitResult::Collision(fixtures::signed_block(0, 1))),
        ),
        ("not-found", reply(ExitResult::NotFound)),
        ("waiting", reply(ExitResult::Waiting)),
        ("stored", reply(ExitResult::Stored(5))),
        ("busy", reply(ExitResult::Busy)),
        ("failed", reply(ExitResult::Failed)),
    ];
    messages
        .into_iter()
        .map(|(name, message)| {
            let size = u8::from(message.size() == PacketSize::Block);
            Seed::new(name).u8(size).u8(0).bytes(&message.encode()).trimmed()
        })
        .collect()
}
