//! What a node says of itself, signed (protocol §3.2).

use std::net::SocketAddr;

use warren_keys::NodeId;

/// A node's signed description of itself. Values of this type have a valid signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Identity key; the node's place on the ring follows from it.
    pub identity: NodeId,
    /// Static X25519 key of its link handshakes.
    pub link_key: [u8; 32],
    /// X25519 key of its circuit handshakes.
    pub onion_key: [u8; 32],
    /// Where it listens; empty when nobody can dial it.
    pub addresses: Vec<SocketAddr>,
    /// What it offers.
    pub services: Services,
    /// When it was signed, seconds since the Unix epoch.
    pub published: u64,
    /// Ed25519 signature by `identity`.
    pub signature: [u8; 64],
}

/// What a node offers to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Services {
    /// Carries circuits.
    pub relay: bool,
    /// Routes requests for circuits that end at it.
    pub exit: bool,
    /// Keeps blocks.
    pub store: bool,
}
