//! What a link machine exchanges with the node's core and with the node's other links.
//!
//! A link machine owns all byte work of one link: records, frames, the onion layers of the circuits that arrive on it, and
//! the verification of blocks. The core owns decisions. Blocks pass between them by reference count.

use core::net::SocketAddr;

use bytes::BytesMut;
use warren_keys::NodeId;

use crate::{
    descriptor::{Descriptor, Services},
    geometry::PacketSize,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    wire::{Create, Created, ExitReply, ExitRequest, Frame, Routed},
};

/// To a link machine, from the core or from another link of the same node.
#[derive(Debug)]
pub enum LinkCommand {
    /// Core: send this frame (gossip, pings and routed messages; circuits have their own commands).
    Send(Frame),
    /// Core: build a client circuit whose first hop is this link's peer. `path` names every hop, the peer first.
    OpenOrigin {
        /// The new circuit's name in this node.
        origin: OriginId,
        /// 1 to `MAX_HOPS` nodes.
        path: Vec<Descriptor>,
    },
    /// Core: send a request through a client circuit.
    OriginSend {
        /// The circuit.
        origin: OriginId,
        /// The request.
        request: ExitRequest,
    },
    /// Core: close a client circuit.
    CloseOrigin(OriginId),
    /// Core: extend somebody's circuit to this link's peer.
    OpenThrough {
        /// Where the circuit comes from.
        from: CircuitAddr,
        /// The handshake to pass on.
        create: Create,
    },
    /// Core: the extension that `circuit` asked for cannot be made; the circuit ends.
    ExtendFailed(CircuitId),
    /// Core: as the exit of `circuit`, answer its client.
    ExitReply {
        /// The circuit.
        circuit: CircuitId,
        /// The answer.
        reply: ExitReply,
    },
    /// Other link: the extension of `circuit` stands; packets go on to `next`.
    Extended {
        /// The circuit on this link.
        circuit: CircuitId,
        /// Its continuation.
        next: CircuitAddr,
        /// The handshake's answer, for the client.
        created: Created,
    },
    /// Other link: an onion packet that goes to this link's peer as it is.
    Forward {
        /// The circuit on this link.
        circuit: CircuitId,
        /// Its size.
        size: PacketSize,
        /// The body.
        body: BytesMut,
    },
    /// Other link: an onion packet on its way back to the client; this link adds its layer.
    Backward {
        /// The circuit on this link.
        circuit: CircuitId,
        /// Its size.
        size: PacketSize,
        /// The body.
        body: BytesMut,
    },
    /// Other link or core: the circuit ends.
    Destroy(CircuitId),
    /// Core: this node's services have changed. Circuits that pass through a node which no longer relays end at once; one that ends
    /// at a node which is no exit any more ends with its next request (protocol §6.6).
    Services(Services),
    /// Core: close the link.
    Close,
}

/// From a link machine to the core.
#[derive(Debug)]
pub enum LinkEvent {
    /// The peer has introduced itself; the link is up.
    Up {
        /// Who it is; the handshake has proved its link key.
        peer: Box<Descriptor>,
        /// Whether this node dialled.
        dialled: bool,
        /// Where the peer's end of the connection is, if the driver knows.
        remote: Option<SocketAddr>,
    },
    /// Of the topology: the peer asks, or tells.
    Gossip(Frame),
    /// The answer to a ping.
    Pong(u64),
    /// The peer has pinged: it need not be pinged itself.
    Alive,
    /// Key routing; blocks in it are verified.
    Routed(Routed),
    /// A circuit that arrives on this link wants to go on to `target`.
    ExtendWanted {
        /// The circuit.
        circuit: CircuitId,
        /// Where to; signature checked.
        target: Box<Descriptor>,
        /// The handshake to pass on.
        create: Create,
    },
    /// This node is the exit of `circuit`, and its client asks.
    ExitRequest {
        /// The circuit.
        circuit: CircuitId,
        /// The request; a block in it is verified.
        request: ExitRequest,
    },
    /// A circuit that asked this node as exit is gone; its open requests have nobody to answer to.
    CircuitGone(CircuitId),
    /// Whether circuits go on over this link from this node, own ones or others': the first has been begun, or the last has
    /// ended.
    Carries(bool),
    /// A client circuit stands.
    OriginReady(OriginId),
    /// An answer came through a client circuit.
    OriginReply {
        /// The circuit.
        origin: OriginId,
        /// The answer; a block in it is verified against its identifier.
        reply: ExitReply,
    },
    /// A client circuit is gone, or could not be built.
    OriginClosed {
        /// The circuit.
        origin: OriginId,
        /// The hop that could not be reached or answered wrongly, when this node knows.
        blame: Option<NodeId>,
    },
}

/// What a link machine wants done, beside bytes to write.
#[derive(Debug)]
pub enum LinkOutput {
    /// Tell the core.
    Core(LinkEvent),
    /// Tell another link of this node. When that link is gone the driver calls `Link::undeliverable`.
    Link(LinkId, LinkCommand),
}
