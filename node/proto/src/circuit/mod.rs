//! Onion circuits (protocol §6).
//!
//! A client builds a circuit hop by hop: it opens one to its entry, and asks the last hop so far to extend it to the next.
//! Each link of a node keeps the circuits that run over it in a [`switch`]; a circuit through a relay is an entry in the
//! switches of two links, which pass its packets to each other.
//!
//! - [`ntor`]: the handshake with one hop
//! - [`onion`]: the layers on a packet
//! - [`relay`]: a circuit that arrives here; this node is a hop of it
//! - [`origin`]: a circuit that starts here; this node is its client
//! - [`switch`]: all circuits of one link
//!
//! # Invariants
//!
//! A hop knows the links before and after it, its own place, and nothing else of the circuit. An invalid packet ends its
//! circuit and only that; nothing on the wire says why (a reason would tell who holds which key). Circuit numbers are never
//! used twice on one link, so a late packet of a dead circuit cannot enter another.
//!
//! # What is deliberately absent
//!
//! Choice of the path, the reuse of circuits, and what is asked through them: the client's pool decides. Packets never skip
//! hops: only the last hop of a circuit is spoken to.

use core::time::Duration;

use crate::geometry::BLOCK_BODY;

pub mod ntor;
pub mod onion;
pub(crate) mod origin;
pub(crate) mod relay;
pub(crate) mod switch;
#[cfg(test)]
pub(crate) mod testing;

pub use switch::Offence;

/// Requests that a client may have open on one circuit; the exit ends circuits that go over it. 64 blocks on the way are
/// 2.6 MB/s at 0.8 s a request, and a large file uses several circuits.
pub const WINDOW: usize = 64;

/// Bytes of one circuit that may wait on one link: a full window of blocks with its frames' cost, and some handshakes. Who
/// keeps to the window never reaches it.
pub const CIRCUIT_BUDGET: usize = (WINDOW + 8) * (BLOCK_BODY + 256);

/// Circuits that a peer may hold open on one link. A client pool holds some tens; a busy relay passes on thousands over
/// its 32 links.
pub const MAX_CIRCUITS: usize = 1024;

/// How long the client waits for one hop of a new circuit. A hop costs a round trip through the circuit so far and, at its
/// end, perhaps a dial with its handshake.
pub const HOP_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a relay waits for the next hop's answer: less than the client does, so that its refusal comes before
/// the client's timeout.
pub const EXTEND_TIMEOUT: Duration = Duration::from_secs(12);

/// A circuit without packets for so long is dropped by its relays. A client pool has to replace its unused circuits before.
pub const CIRCUIT_IDLE: Duration = Duration::from_secs(30 * 60);
