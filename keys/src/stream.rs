//! Plaintext to the stream that is stored, and back (`keys §7`).
//!
//! ```text
//! plain       the plaintext itself
//! compressed  frame 0 ‖ frame 1 ‖ … ‖ table      one frame for each MiB of plaintext
//!             frame  4 bytes header (bit 31: zstd; bits 0–30: length of the body) ‖ body
//!             table  8 bytes for each frame: where in the stream it begins
//! ```
//!
//! Invariants: a frame holds exactly the plaintext that its number says, so nothing expands beyond a MiB at a time or
//! beyond the declared size in all; frames are independent, so a reader can begin anywhere. How a stream is stored is
//! not known here.

mod frames;
mod reader;
mod writer;

pub use frames::{FRAME_HEADER, FRAME_SIZE, FrameDecoder, FrameError, Frames, MAX_FILE_SIZE};
pub use reader::{StreamError, StreamReader};
pub use writer::{StreamWriter, WriteError, choose_compression};

/// How a stream holds its plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    None = 0,
    /// In zstd frames.
    Zstd = 1,
}

impl Compression {
    /// The number that stands for it in roots.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The compression with this number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Measures of a plaintext and of the stream that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamSummary {
    /// How the stream holds the plaintext.
    pub compression: Compression,
    /// Bytes of plaintext.
    pub size: u64,
    /// BLAKE3 of the plaintext.
    pub hash: [u8; 32],
    /// Bytes of the stream.
    pub stream_len: u64,
    /// BLAKE3 of the stream; reproducible file keys derive from it.
    pub stream_hash: [u8; 32],
}

#[cfg(test)]
mod tests;
