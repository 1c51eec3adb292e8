//! Splitfiles: a stream of bytes as erasure-coded, encrypted blocks (`keys §6`).
//!
//! ```text
//! level 0   content stream ── cut in segments of 128 blocks ── + 64 parity ── encrypt ── blocks
//! level 1   the routing keys of level 0, in order: a stream of its own, coded in the same way
//!  …        until the list of keys fits in the root
//! ```
//!
//! Invariants: the shape of every level follows from the length of the stream ([`Layout`]); every block has its own
//! key, from file key, level, segment and index, so no stored block can be told from random or tied to its siblings;
//! all work is done one segment at a time, in bounded memory. Compression is not known here, nor in what order and
//! from whom blocks are fetched.

mod coder;
mod encoder;
mod key_tree;
mod layout;
mod level_buffer;

pub use coder::{Coder, CodingError, DecodeError, DecodedSegment};
pub use encoder::{EncodedSegment, EncoderError, SegmentJob, SplitEncoder};
pub use key_tree::{HELD_SEGMENTS, KeyTree, Keys, Wanted};
pub use layout::{
    Layout, Level, MAX_PARITY, MAX_STREAM_LEN, SEGMENT_DATA, Segment, StreamLength, TOP_KEYS, parity_for,
};

use crate::{CryptoKey, RoutingKey, Seed, labels};
use core::fmt;
use zeroize::Zeroizing;

/// Version of layout, erasure code and key derivation; part of every reproducible file key.
///
/// Whatever changes a single parity byte must change this number: two different blocks must never be encrypted
/// under one key.
pub const LAYOUT_VERSION: u8 = 1;

/// The key that all block keys of one splitfile derive from.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey(CryptoKey);

impl FileKey {
    /// The key that follows from the stream, so that inserting the same file again gives the same blocks.
    pub fn reproducible(stream_hash: &[u8; 32], stream_len: u64) -> Self {
        let parts: [&[u8]; 3] = [&[LAYOUT_VERSION], &stream_len.to_be_bytes(), stream_hash];
        Self(CryptoKey::from_bytes(labels::FILE_REPRODUCIBLE.derive(&parts)))
    }

    /// A key that nobody can compute from the content. The seed must be fresh: it is good for one stream.
    pub fn unpredictable(seed: Seed) -> Self {
        Self(CryptoKey::from_bytes(
            labels::FILE_UNPREDICTABLE.derive(&[&[LAYOUT_VERSION], seed.expose()]),
        ))
    }

    pub(crate) const fn from_root(bytes: [u8; 32]) -> Self {
        Self(CryptoKey::from_bytes(bytes))
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The cipher key of one block.
    fn block(&self, level: u8, segment: u64, index: u16) -> Zeroizing<[u8; 32]> {
        let mut place = [0; 11];
        place[0] = level;
        place[1..9].copy_from_slice(&segment.to_be_bytes());
        place[9..].copy_from_slice(&index.to_be_bytes());
        Zeroizing::new(*blake3::keyed_hash(self.expose(), &place).as_bytes())
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// What a root says of a stream that does not fit in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Splitfile {
    key: FileKey,
    layout: Layout,
    top: Vec<RoutingKey>,
}

impl Splitfile {
    /// Puts the parts together.
    ///
    /// # Errors
    /// The stream has another number of keys at its top level, or is empty or too long.
    pub fn new(key: FileKey, stream_len: u64, top: Vec<RoutingKey>) -> Result<Self, InvalidSplitfile> {
        let layout = Layout::of_stream(stream_len)?;
        match layout.top().keys() == top.len() as u64 {
            true => Ok(Self { key, layout, top }),
            false => Err(InvalidSplitfile::Keys {
                expected: layout.top().keys(),
                found: top.len(),
            }),
        }
    }

    /// The key of all blocks.
    pub const fn key(&self) -> &FileKey {
        &self.key
    }

    /// Shape of all levels.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of the content stream.
    pub fn stream_len(&self) -> u64 {
        self.layout.content().bytes()
    }

    /// Routing keys of the top level, segment by segment, data before parity.
    pub fn top(&self) -> &[RoutingKey] {
        &self.top
    }
}

/// Parts that do not make a splitfile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSplitfile {
    /// No layout for this length.
    #[error(transparent)]
    Length(#[from] StreamLength),
    /// Not as many keys as the length asks for.
    #[error("{found} keys in the root, {expected} expected for this length")]
    Keys {
        /// Keys of the top level.
        expected: u64,
        /// Keys that are there.
        found: usize,
    },
}

#[cfg(test)]
mod tests;
