//! The messages of the protocol and their bytes (protocol §5 to §7).
//!
//! Every parser here is exact: lengths are bounded by the type, trailing bytes are an error, and a block is verified while it
//! is decoded, so that no unverified block exists beyond this module.

mod codec;
mod frame;
mod onion;
mod repair;
mod routed;
mod topology;

pub use codec::WireError;
pub use frame::{FRAME_HEADER, FrameType, MAX_FRAME_BODY, decode_header};
pub use onion::OnionMessage;
pub use repair::{Holding, MAX_CENSUS, Receipt, RepairMessage, RepairType};
pub use routed::RoutedType;

pub(crate) use codec::Reader;
pub(crate) use topology::encode_address;

use bytes::BytesMut;
use core::net::SocketAddr;
use warren_keys::{Block, BlockId, Location};

use crate::{
    descriptor::Descriptor,
    geometry::PacketSize,
    ids::{CircuitId, RequestId},
};

/// What travels between two neighbours once their link is up.
#[derive(Clone, Debug)]
pub enum Frame {
    /// First frame of both ends: who they are. Its link key is the one that the handshake proved.
    Hello(Box<Descriptor>),
    /// Asks for an answer, to see that the link lives.
    Ping(u64),
    /// The answer to a ping, with its number.
    Pong(u64),
    /// Asks for descriptors of nodes near a point of the ring, and a sample of others.
    AskDescriptors {
        /// The point.
        near: Location,
    },
    /// Signed descriptors, as gossip or as an answer; at most [`MAX_DESCRIPTORS`].
    Descriptors(Vec<Descriptor>),
    /// Somebody introduces itself to the nodes at a point of the ring (protocol §7.7).
    Announce(Box<Announce>),
    /// The answer to an announcement, back along its path.
    Announced {
        /// The announcement's number.
        id: u64,
        /// Descriptors of nodes around its target; at most [`MAX_ANNOUNCED`].
        descriptors: Vec<Descriptor>,
    },
    /// Where the sender sees the receiver come from.
    Observed(SocketAddr),
    /// Asks the receiver to dial the sender back, at the address that the link comes from.
    AskDialBack {
        /// The port there.
        port: u16,
    },
    /// What came of dialling back.
    DialedBack(DialResult),
    /// Opens a circuit to the receiver.
    Create {
        /// Its number, chosen by the sender.
        circuit: CircuitId,
        /// The handshake.
        create: Create,
    },
    /// Completes the opening.
    Created {
        /// The circuit.
        circuit: CircuitId,
        /// The handshake's answer.
        created: Created,
    },
    /// Ends a circuit; the reason never goes on the wire.
    Destroy(CircuitId),
    /// An onion packet.
    Packet {
        /// The circuit.
        circuit: CircuitId,
        /// Its size.
        size: PacketSize,
        /// `size.body()` bytes.
        body: BytesMut,
    },
    /// Key routing.
    Routed(Routed),
}

/// The most descriptors in one frame.
pub const MAX_DESCRIPTORS: usize = 32;
/// The most descriptors in the answer to an announcement: as many on each side of its target as a node links to, twice.
pub const MAX_ANNOUNCED: usize = 16;

/// An announcement on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    /// Random, the same along its path; its answer bears it.
    pub id: u64,
    /// The point of the ring that it is sent to.
    pub target: Location,
    /// Hops left.
    pub htl: u8,
    /// Who announces itself. Where it belongs on the ring follows from its identity; it cannot claim another place.
    pub descriptor: Descriptor,
}

/// What came of dialling a neighbour back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialResult {
    /// Nobody there, or somebody else.
    Failed,
    /// The neighbour answered.
    Reached,
    /// It was not tried: too many asked, or the address may not be dialled.
    NotTried,
}

impl Frame {
    /// Whether it is about the network, and so the topology's business.
    #[must_use]
    pub const fn is_topology(&self) -> bool {
        matches!(
            self,
            Self::AskDescriptors { .. }
                | Self::Descriptors(_)
                | Self::Announce(_)
                | Self::Announced { .. }
                | Self::Observed(_)
                | Self::AskDialBack { .. }
                | Self::DialedBack(_)
        )
    }
}

/// First half of the circuit handshake (protocol §6.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create {
    /// Which layer of the circuit the receiver will be; 0 is the entry.
    pub layer: u8,
    /// The client's ephemeral X25519 key.
    pub ephemeral: [u8; 32],
}

/// Second half of the circuit handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// The relay's ephemeral X25519 key.
    pub ephemeral: [u8; 32],
    /// Proof that the relay holds its onion key.
    pub auth: [u8; 32],
}

/// Key-routing messages between neighbours (protocol §7).
#[derive(Clone, Debug)]
pub enum Routed {
    /// Looks for a block.
    Request {
        /// The request, the same along its path.
        id: RequestId,
        /// What is looked for.
        block: BlockId,
        /// Hops left.
        htl: u8,
        /// Hops since the path last came nearer to the key.
        stale: u8,
        /// Failed branches that the request may still have.
        branches: u8,
        /// Ring distance from the key to the nearest node on the path so far.
        best: u64,
        /// Whether the receiver is to remember who asked, and to push the block when it arrives later.
        wait: bool,
    },
    /// The block that was asked for.
    Found {
        /// The request.
        id: RequestId,
        /// The block.
        block: Block,
        /// Set by the holder, cleared by the next node, which keeps a copy (leave-copy-down).
        copy: bool,
    },
    /// The search ended without the block: one failed branch.
    NotFound {
        /// The request.
        id: RequestId,
        /// Failed branches left over from the request's allowance.
        branches: u8,
    },
    /// The receiver will not take the request: overloaded, or it has seen the request already.
    Refused {
        /// The request.
        id: RequestId,
        /// Why, as far as the sender needs it to go elsewhere.
        why: Refusal,
    },
    /// Carries a block towards the nodes nearest to its key.
    Insert {
        /// The request.
        id: RequestId,
        /// The block.
        block: Block,
        /// Hops left.
        htl: u8,
    },
    /// The block is durable.
    Stored {
        /// The request.
        id: RequestId,
        /// Nodes that hold it, the sink included.
        copies: u8,
    },
    /// Another signed block is already stored under this key: here it is.
    Collision {
        /// The request.
        id: RequestId,
        /// The block that was there first.
        block: Block,
    },
    /// The sink pushes a copy to one of the nodes nearest to the key.
    Replicate {
        /// The request.
        id: RequestId,
        /// The block.
        block: Block,
    },
    /// Answer to [`Routed::Replicate`].
    Replicated {
        /// The request.
        id: RequestId,
        /// What became of the copy.
        replica: Replica,
    },
    /// A block that the receiver waits for ([`Routed::Request`] with `wait`) has arrived.
    Arrived {
        /// The block.
        block: Block,
    },
    /// Census and repair between two who should keep the same blocks (protocol §9).
    Repair(RepairMessage),
}

/// Why a routed request is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Overloaded: slow down, route elsewhere.
    Busy,
    /// Already on this request's path, or no way on from here.
    Loop,
    /// The insert could not be made durable anywhere from here.
    Failed,
}

/// What became of a pushed copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replica {
    /// Not kept, and will not be.
    Declined,
    /// Durable.
    Stored,
    /// Not kept because too much else is being written; it may be pushed again.
    Busy,
}

/// What a client asks of its exit, inside all layers (protocol §6.5).
#[derive(Clone, Debug)]
pub struct ExitRequest {
    /// The client's number for it, unique among the circuit's open requests.
    pub id: u32,
    /// What is wanted.
    pub op: ExitOp,
}

/// The two things an exit does.
#[derive(Clone, Debug)]
pub enum ExitOp {
    /// Route a request for this block.
    Fetch {
        /// The block.
        block: BlockId,
        /// Failed branches allowed (capped by the exit).
        branches: u8,
        /// Whether a search in vain is to leave a wait: the answer is then [`ExitResult::Waiting`] first.
        wait: bool,
    },
    /// Route an insert of this block.
    Insert(Block),
}

/// The exit's answer.
#[derive(Clone, Debug)]
pub struct ExitReply {
    /// The client's number.
    pub id: u32,
    /// What came of it.
    pub result: ExitResult,
}

/// What came of a client's request.
#[derive(Clone, Debug)]
pub enum ExitResult {
    /// The block, verified.
    Found(Block),
    /// The search ended without it.
    NotFound,
    /// The search ended without it, and the network remembers who asked. Not the last answer: [`ExitResult::Found`] follows
    /// when the block arrives, [`ExitResult::NotFound`] when the wait has expired.
    Waiting,
    /// The insert is durable on this many nodes.
    Stored(u8),
    /// Another signed block is stored under the key.
    Collision(Block),
    /// Overloaded; slow down or go elsewhere.
    Busy,
    /// The network could not answer.
    Failed,
}
