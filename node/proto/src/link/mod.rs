//! Links between neighbours (protocol §4, §5).
//!
//! A connection begins as an [`Initiator`] or a [`Responder`]; their [`Established`] result becomes a [`Link`], which a driver
//! feeds with bytes and commands for as long as it lives.

pub mod api;
pub mod frames;
pub mod handshake;
pub mod record;
pub mod replay;

mod machine;
mod noise;
pub(crate) mod queue;
#[cfg(test)]
pub(crate) mod statistics;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use handshake::{Established, HandshakeError, Initiator, Remote, Responder, Step};
pub use machine::{CloseReason, Link, LinkConfig, Misbehaviour};
pub use replay::{ReplayCache, ReplayError};
