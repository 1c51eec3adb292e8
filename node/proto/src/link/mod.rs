//! Links between neighbours.

pub mod api;
pub mod frames;
pub mod handshake;
pub mod record;
pub mod replay;

mod noise;
#[cfg(test)]
pub(crate) mod statistics;

pub use handshake::{Established, HandshakeError, Initiator, Remote, Responder, Step};
pub use replay::ReplayCache;
