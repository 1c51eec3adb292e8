//! The processor work of a download, to be done away from the network: erasure code, ciphers, decompression, hash.

use std::{fmt, ops::Range};

use bytes::Bytes;
use warren_keys::{
    Block, RoutingKey,
    splitfile::{Coder, CodingError, DecodeError, FileKey, Segment},
};

use super::{
    DownloadFailure,
    unpack::{Unpacked, Unpacker},
};

/// A part of the stream, in order.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A data block, still encrypted, and which of its bytes are wanted.
    Block {
        segment: Segment,
        index: u16,
        key: RoutingKey,
        block: Block,
        trim: Range<usize>,
    },
    /// Bytes of the stream.
    Bytes(Bytes),
}

impl Piece {
    /// Bytes of stream.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Block { trim, .. } => trim.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    pub(super) fn open(self, key: Option<&FileKey>) -> Result<Bytes, CodingError> {
        match (self, key) {
            (Self::Bytes(bytes), _) => Ok(bytes),
            (
                Self::Block {
                    segment,
                    index,
                    key: block_key,
                    block,
                    trim,
                },
                Some(key),
            ) => {
                let plain = Coder::open_block(key, &segment, index, block_key, &block)?;
                let end = trim.end.min(plain.len());
                Ok(plain.slice(trim.start.min(end)..end))
            }
            // An inline stream has no blocks.
            (Self::Block { index, .. }, None) => Err(CodingError::OtherBlock(index)),
        }
    }
}

/// Work for one thread, some milliseconds long. Any order, any number at a time.
pub struct Work(pub(super) Order);

pub(super) enum Order {
    Decode(DecodeOrder),
    Unpack(UnpackOrder),
}

pub(super) struct DecodeOrder {
    pub(super) key: FileKey,
    pub(super) segment: Segment,
    pub(super) keys: Vec<RoutingKey>,
    pub(super) blocks: Vec<Option<Block>>,
    /// Blocks to make again for the network, which has lost them.
    pub(super) missing: Vec<u16>,
}

pub(super) struct UnpackOrder {
    pub(super) key: Option<FileKey>,
    pub(super) pieces: Vec<Piece>,
    /// No more pieces will come.
    pub(super) last: bool,
    pub(super) unpacker: Unpacker,
}

/// Work done, for [`super::Download::worked`].
pub struct Worked(pub(super) Done);

pub(super) enum Done {
    Decoded {
        segment: Segment,
        result: Result<(Bytes, Vec<Block>), DecodeError>,
    },
    Unpacked(Result<Unpacked, DownloadFailure>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Order::Decode(_) => "Work(Decode)",
            Order::Unpack(_) => "Work(Unpack)",
        })
    }
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worked(..)")
    }
}

impl Work {
    /// Does it. `coder` is this thread's working memory.
    #[must_use]
    pub fn run(self, coder: &mut Coder) -> Worked {
        Worked(match self.0 {
            Order::Decode(order) => Done::Decoded {
                segment: order.segment,
                result: decode(order, coder),
            },
            Order::Unpack(order) => Done::Unpacked(unpack(order)),
        })
    }
}

fn decode(order: DecodeOrder, coder: &mut Coder) -> Result<(Bytes, Vec<Block>), DecodeError> {
    let DecodeOrder {
        key,
        segment,
        keys,
        blocks,
        missing,
    } = order;
    let decoded = coder.decode(&key, &segment, &keys, &blocks)?;
    let is_missing = |block: &Block| {
        missing
            .iter()
            .any(|index| keys.get(usize::from(*index)) == Some(&block.key()))
    };
    let mut heal: Vec<Block> = decoded.recovered.into_iter().filter(is_missing).collect();
    if missing.iter().any(|index| *index >= segment.data()) {
        let all = coder.encode(&key, &segment, &decoded.data)?;
        let parity = all.into_iter().skip(usize::from(segment.data()));
        heal.extend(parity.filter(is_missing));
    }
    Ok((decoded.data, heal))
}

fn unpack(order: UnpackOrder) -> Result<Unpacked, DownloadFailure> {
    let UnpackOrder {
        key,
        pieces,
        last,
        mut unpacker,
    } = order;
    for piece in pieces {
        unpacker.push(piece.open(key.as_ref()).map_err(DecodeError::from)?);
    }
    unpacker.run(last)
}
