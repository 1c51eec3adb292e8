//! Roots: what a URI opens to (`keys §5`).
//!
//! Invariants: a root always fits in one block of either kind ([`ROOT_CAPACITY`]); its text has one form, so equal
//! roots are equal bytes and a reproducible CHK is reproducible; sizes in it agree with each other. How it lies in the
//! network, and at which three positions, is in [`RootReader`] and its siblings.

mod codec;
mod mime;
mod position;
mod seal;

pub use mime::{InvalidMime, MAX_MIME_LEN, Mime};
pub use position::{OpenedRoot, ROOT_COPIES, RootError, RootReader};
pub use seal::{KeyChoice, SealedRoot, seal_chk, seal_insert};

use crate::SIGNED_PAYLOAD;
use crate::signed::SIGNATURE_LEN;
use crate::splitfile::{InvalidSplitfile, Splitfile, TOP_KEYS};
use crate::stream::{Compression, FrameError, Frames, StreamSummary};
use bytes::Bytes;

/// Bytes of a root as it is encoded, its length field included: what is left of a signed block beside the signature
/// of another, which the copies of signed roots carry.
pub const ROOT_CAPACITY: usize = SIGNED_PAYLOAD - SIGNATURE_LEN;
/// Bytes of a root that are neither inline data nor a list of keys, at most.
pub const ROOT_HEADER_MAX: usize = 576;
/// Bytes of the longest stream that lies in the root itself. Every longer one is a splitfile.
pub const INLINE_MAX: usize = ROOT_CAPACITY - ROOT_HEADER_MAX;

const _: () = assert!(
    TOP_KEYS * 32 <= INLINE_MAX,
    "the longest list of keys fits in a root"
);

/// What a URI opens to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    mime: Option<Mime>,
    size: u64,
    hash: [u8; 32],
    compression: Compression,
    body: RootBody,
}

/// The stream, or how to find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootBody {
    /// The stream itself, at most [`INLINE_MAX`] bytes.
    Inline(Bytes),
    /// Where its blocks are.
    Split(Splitfile),
}

/// Parts that do not make a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidRoot {
    /// An inline stream above [`INLINE_MAX`].
    #[error("{0} bytes of inline data do not fit in a root")]
    TooLong(usize),
    /// A splitfile of a stream that would fit in the root.
    #[error("a splitfile for {0} bytes, which fit in a root")]
    NeedlessSplit(u64),
    /// Size of the plaintext and length of the stream that cannot belong together.
    #[error("the sizes of plaintext and stream contradict each other")]
    Sizes,
    /// Keys that do not fit the length.
    #[error(transparent)]
    Split(#[from] InvalidSplitfile),
    /// Not as long as its own length field says, or longer than any root.
    #[error("the root's length field is wrong")]
    Length,
    /// Bytes other than zero behind the root.
    #[error("the root's padding is not zero")]
    Padding,
    /// A format of a later version.
    #[error("a root of format version {0}, which this version does not know")]
    Version(u8),
    /// Not decodable, or another form of what it decodes to.
    #[error("the root is not well formed")]
    Malformed,
    /// A media type with characters that none has.
    #[error(transparent)]
    Mime(#[from] InvalidMime),
}

impl From<FrameError> for InvalidRoot {
    fn from(_: FrameError) -> Self {
        Self::Sizes
    }
}

impl Root {
    /// Puts the parts together. Of `summary`, the hash of the stream is not kept.
    ///
    /// # Errors
    /// Parts that contradict each other, or data that does not fit.
    pub fn new(summary: &StreamSummary, mime: Option<Mime>, body: RootBody) -> Result<Self, InvalidRoot> {
        let StreamSummary {
            compression,
            size,
            hash,
            stream_len,
            ..
        } = *summary;
        let root = Self {
            mime,
            size,
            hash,
            compression,
            body,
        };
        if root.stream_len() != stream_len {
            return Err(InvalidRoot::Sizes);
        }
        root.checked()
    }

    /// Reads a root and the padding behind it.
    ///
    /// # Errors
    /// Anything but exactly the bytes that [`Root::encode`] gives, and zeros.
    pub fn decode(payload: &[u8]) -> Result<Self, InvalidRoot> {
        codec::decode(payload)
    }

    /// The bytes of the root, without padding: at most [`ROOT_CAPACITY`].
    ///
    /// # Errors
    /// A bug.
    pub fn encode(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, InvalidRoot> {
        codec::encode(self)
    }

    /// Media type of the plaintext, if the publisher gave one.
    pub const fn mime(&self) -> Option<&Mime> {
        self.mime.as_ref()
    }

    /// Bytes of plaintext.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// BLAKE3 of the plaintext.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// How the stream holds the plaintext.
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// The stream, or how to find it.
    pub const fn body(&self) -> &RootBody {
        &self.body
    }

    /// Bytes of the stream.
    pub fn stream_len(&self) -> u64 {
        match &self.body {
            RootBody::Inline(stream) => stream.len() as u64,
            RootBody::Split(file) => file.stream_len(),
        }
    }

    /// The measures for a [`crate::stream::StreamReader`]; the hash of the stream is not known to a reader, and zero.
    pub fn summary(&self) -> StreamSummary {
        StreamSummary {
            compression: self.compression,
            size: self.size,
            hash: self.hash,
            stream_len: self.stream_len(),
            stream_hash: [0; 32],
        }
    }

    fn checked(self) -> Result<Self, InvalidRoot> {
        match &self.body {
            RootBody::Inline(stream) if stream.len() > INLINE_MAX => {
                return Err(InvalidRoot::TooLong(stream.len()));
            }
            // One form for every content.
            RootBody::Split(file) if file.stream_len() <= INLINE_MAX as u64 => {
                return Err(InvalidRoot::NeedlessSplit(file.stream_len()));
            }
            _ => {}
        }
        match self.compression {
            Compression::None if self.size != self.stream_len() => return Err(InvalidRoot::Sizes),
            Compression::None => {}
            Compression::Zstd => {
                Frames::new(self.size, self.stream_len())?;
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
