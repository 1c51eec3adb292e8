//! Valid messages of every kind, as the input wants them.

use bytes::BytesMut;
use warren_keys::{Block, BlockId, Location};
use warren_proto::{
    descriptor::Descriptor,
    geometry::PacketSize,
    ids::{CircuitId, RequestId},
    wire::{
        Announce, Create, Created, DialResult, ExitOp, ExitReply, ExitRequest, ExitResult, Frame,
        OnionMessage, Refusal, Replica, Routed,
    },
};

use crate::{Input, fixtures};

/// One of eight content blocks or of eight signed ones, which have two versions each.
pub fn block(input: &mut Input<'_>) -> Block {
    let choice = input.u8();
    match choice & 1 {
        0 => fixtures::content_block(choice >> 1 & 7),
        _ => fixtures::signed_block(choice >> 1 & 7, choice >> 4),
    }
}

/// The identifier of one of the [`block`]s.
pub fn block_id(input: &mut Input<'_>) -> BlockId {
    block(input).id()
}

/// One of the fixtures' descriptors.
pub fn descriptor(input: &mut Input<'_>) -> Descriptor {
    fixtures::node(input.u8().into()).descriptor.as_ref().clone()
}

/// First half of a circuit handshake; its key may be of small order.
pub fn create(input: &mut Input<'_>) -> Create {
    Create {
        layer: input.u8() % 5,
        ephemeral: [input.u8(); 32],
    }
}

/// Second half of a circuit handshake, almost certainly without a proof.
pub fn created(input: &mut Input<'_>) -> Created {
    Created {
        ephemeral: [input.u8(); 32],
        auth: [input.u8(); 32],
    }
}

/// What a client asks of its exit.
pub fn exit_request(input: &mut Input<'_>) -> ExitRequest {
    let id = u32::from(input.u8() % 80);
    let kind = input.u8() % 4;
    let op = match kind {
        0 | 2 => ExitOp::Fetch {
            block: block_id(input),
            branches: input.u8(),
            wait: kind == 2,
        },
        _ => ExitOp::Insert(block(input)),
    };
    ExitRequest { id, op }
}

/// What an exit answers.
pub fn exit_result(input: &mut Input<'_>) -> ExitResult {
    match input.u8() % 7 {
        6 => ExitResult::Waiting,
        0 => ExitResult::Found(block(input)),
        1 => ExitResult::NotFound,
        2 => ExitResult::Stored(input.u8()),
        3 => ExitResult::Collision(block(input)),
        4 => ExitResult::Busy,
        _ => ExitResult::Failed,
    }
}

/// What a circuit packet carries.
pub fn onion(input: &mut Input<'_>) -> OnionMessage {
    match input.u8() % 5 {
        0 => OnionMessage::Extend {
            target: Box::new(descriptor(input)),
            create: create(input),
        },
        1 => OnionMessage::Extended(created(input)),
        2 => OnionMessage::Request(exit_request(input)),
        3 => {
            let id = u32::from(input.u8() % 80);
            OnionMessage::Reply(ExitReply {
                id,
                result: exit_result(input),
            })
        }
        _ => OnionMessage::Drop(if input.flag() {
            PacketSize::Block
        } else {
            PacketSize::Control
        }),
    }
}

/// The body of a circuit packet: a message, or whatever.
pub fn packet(input: &mut Input<'_>) -> (PacketSize, BytesMut) {
    if input.u8() < 200 {
        let message = onion(input);
        return (message.size(), message.encode());
    }
    let size = if input.flag() {
        PacketSize::Block
    } else {
        PacketSize::Control
    };
    let mut body = BytesMut::from(input.chunk());
    body.resize(size.body(), 0);
    (size, body)
}

/// Why a routed request is refused.
pub fn refusal(input: &mut Input<'_>) -> Refusal {
    [Refusal::Busy, Refusal::Loop, Refusal::Failed][input.below(3)]
}

/// A key-routing message with this number.
pub fn routed(input: &mut Input<'_>, id: RequestId) -> Routed {
    let kind = input.u8() % 11;
    match kind {
        0 | 9 => Routed::Request {
            id,
            block: block_id(input),
            htl: input.u8(),
            stale: input.u8(),
            branches: input.u8(),
            best: input.u64(),
            wait: kind == 9,
        },
        1 => Routed::Found {
            id,
            block: block(input),
            copy: input.flag(),
        },
        2 => Routed::NotFound {
            id,
            branches: input.u8(),
        },
        3 => Routed::Refused {
            id,
            why: refusal(input),
        },
        4 => Routed::Insert {
            id,
            block: block(input),
            htl: input.u8(),
        },
        5 => Routed::Stored {
            id,
            copies: input.u8(),
        },
        6 => Routed::Collision {
            id,
            block: block(input),
        },
        7 => Routed::Replicate {
            id,
            block: block(input),
        },
        10 => Routed::Arrived { block: block(input) },
        _ => Routed::Replicated {
            id,
            replica: replica(input),
        },
    }
}

/// What may become of a pushed copy.
pub(super) fn replica(input: &mut Input<'_>) -> Replica {
    match input.u8() % 3 {
        0 => Replica::Declined,
        1 => Replica::Stored,
        _ => Replica::Busy,
    }
}

/// What neighbours tell each other about the network.
pub fn gossip(input: &mut Input<'_>) -> Frame {
    let list = |input: &mut Input<'_>| {
        let count = input.below(8);
        (0..count).map(|_| descriptor(input)).collect()
    };
    match input.u8() % 8 {
        0 | 1 => Frame::AskDescriptors {
            near: Location::new(input.u64()),
        },
        2 => Frame::Announce(Box::new(Announce {
            id: input.u8().into(),
            target: Location::new(input.u64()),
            htl: input.u8(),
            descriptor: descriptor(input),
        })),
        3 => Frame::Announced {
            id: input.u8().into(),
            descriptors: list(input),
        },
        4 => Frame::Observed(([127, 0, 0, input.u8()], input.u8().into()).into()),
        5 => Frame::AskDialBack {
            port: input.u8().into(),
        },
        6 => Frame::DialedBack(match input.u8() % 3 {
            0 => DialResult::Failed,
            1 => DialResult::Reached,
            _ => DialResult::NotTried,
        }),
        _ => Frame::Descriptors(list(input)),
    }
}

/// A frame of any type. Circuits have small numbers, so that frames meet.
pub fn frame(input: &mut Input<'_>) -> Frame {
    let kind = input.u8() % 12;
    let circuit = CircuitId(u32::from(input.u8()));
    match kind {
        0 => Frame::Hello(Box::new(descriptor(input))),
        1 => Frame::Ping(input.u64()),
        2 => Frame::Pong(input.u64()),
        3 => gossip(input),
        4 | 5 => Frame::Create {
            circuit,
            create: create(input),
        },
        6 => Frame::Created {
            circuit,
            created: created(input),
        },
        7 => Frame::Destroy(circuit),
        8 | 9 => {
            let (size, body) = packet(input);
            Frame::Packet { circuit, size, body }
        }
        _ => {
            let id = RequestId(u64::from(input.u8()));
            Frame::Routed(routed(input, id))
        }
    }
}
