//! What arrives over a link: descriptors, the handshake, records, frames, and the inside of circuit packets.

pub mod descriptor;
pub mod frame;
pub mod handshake;
pub mod noise;
pub mod onion;
pub mod records;
