//! Bytes of the messages of census and repair (protocol §9.1).

use bytes::{Buf, BufMut, BytesMut};
use warren_keys::{Block, BlockId};

use super::{
    codec::{Reader, WireError},
    frame::{BLOCK_FIELD, decode_block},
};
use crate::ids::RequestId;

/// The most blocks that one census asks about: one answer to a slice of a walk, and 2 KiB on the wire.
pub const MAX_CENSUS: usize = 64;

/// What neighbours say to each other about the blocks that both should keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RepairMessage {
    /// Asks which of these blocks the receiver keeps. One to [`MAX_CENSUS`] of them.
    Census {
        /// The question's number.
        id: RequestId,
        /// Blocks that the sender has and counts the receiver among the holders of.
        blocks: Vec<BlockId>,
    },
    /// Answer to [`RepairMessage::Census`].
    Holdings {
        /// The question's number.
        id: RequestId,
        /// For each block asked about, in the same order.
        holdings: Vec<Holding>,
    },
    /// Brings a block that the receiver should keep and does not.
    HandOver {
        /// Its number.
        id: RequestId,
        /// The block.
        block: Block,
    },
    /// Answer to [`RepairMessage::HandOver`].
    HandedOver {
        /// Its number.
        id: RequestId,
        /// What became of it.
        receipt: Receipt,
    },
}

/// What a node says about one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holding {
    /// Should be here and is not.
    Lacking,
    /// Is in the store.
    Held,
    /// This node is not among those who should keep it.
    Foreign,
}

/// What became of a block that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    /// Not kept, and bringing it again would not help.
    Refused,
    /// Kept.
    Kept,
    /// Not now.
    Busy,
}

/// Types of repair messages by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RepairType {
    /// [`RepairMessage::Census`].
    Census = 0x29,
    /// [`RepairMessage::Holdings`].
    Holdings = 0x2a,
    /// [`RepairMessage::HandOver`].
    HandOver = 0x2b,
    /// [`RepairMessage::HandedOver`].
    HandedOver = 0x2c,
}

const ID: usize = 8;
const BLOCK_ID: usize = 33;

impl RepairType {
    /// The type with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0x29 => Self::Census,
            0x2a => Self::Holdings,
            0x2b => Self::HandOver,
            0x2c => Self::HandedOver,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether a body of this type can have `len` bytes.
    pub(crate) fn admits(self, len: usize) -> bool {
        let list = |item: usize| {
            len.checked_sub(ID + 1)
                .is_some_and(|rest| rest.is_multiple_of(item) && (1..=MAX_CENSUS).contains(&(rest / item)))
        };
        match self {
            Self::Census => list(BLOCK_ID),
            Self::Holdings => list(1),
            Self::HandOver => len == ID + BLOCK_FIELD,
            Self::HandedOver => len == ID + 1,
        }
    }
}

impl Holding {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Lacking => 0,
            Self::Held => 1,
            Self::Foreign => 2,
        }
    }

    fn from_u8(number: u8) -> Result<Self, WireError> {
        match number {
            0 => Ok(Self::Lacking),
            1 => Ok(Self::Held),
            2 => Ok(Self::Foreign),
            other => Err(WireError::Value {
                field: "holding",
                value: other.into(),
            }),
        }
    }
}

impl Receipt {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Refused => 0,
            Self::Kept => 1,
            Self::Busy => 2,
        }
    }

    fn from_u8(number: u8) -> Result<Self, WireError> {
        match number {
            0 => Ok(Self::Refused),
            1 => Ok(Self::Kept),
            2 => Ok(Self::Busy),
            other => Err(WireError::Value {
                field: "receipt",
                value: other.into(),
            }),
        }
    }
}

impl RepairMessage {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> RepairType {
        match self {
            Self::Census { .. } => RepairType::Census,
            Self::Holdings { .. } => RepairType::Holdings,
            Self::HandOver { .. } => RepairType::HandOver,
            Self::HandedOver { .. } => RepairType::HandedOver,
        }
    }

    /// Its number: a question's own, or that of the question that it answers.
    #[must_use]
    pub const fn id(&self) -> RequestId {
        match self {
            Self::Census { id, .. }
            | Self::Holdings { id, .. }
            | Self::HandOver { id, .. }
            | Self::HandedOver { id, .. } => *id,
        }
    }

    /// Appends what follows the number; a block is not appended but returned. What exceeds [`MAX_CENSUS`] is left out.
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CENSUS")]
    pub(crate) fn encode_head(&self, out: &mut BytesMut) -> Option<&Block> {
        match self {
            Self::Census { blocks, .. } => {
                let blocks = &blocks[..blocks.len().min(MAX_CENSUS)];
                out.put_u8(blocks.len() as u8);
                for block in blocks {
                    out.put_u8(block.kind.as_u8());
                    out.put_slice(block.key.as_bytes());
                }
                None
            }
            Self::Holdings { holdings, .. } => {
                let holdings = &holdings[..holdings.len().min(MAX_CENSUS)];
                out.put_u8(holdings.len() as u8);
                out.extend(holdings.iter().map(|holding| holding.as_u8()));
                None
            }
            Self::HandOver { block, .. } => Some(block),
            Self::HandedOver { receipt, .. } => {
                out.put_u8(receipt.as_u8());
                None
            }
        }
    }

    pub(crate) fn decode(kind: RepairType, mut body: BytesMut) -> Result<Self, WireError> {
        let mut reader = Reader::new(&body);
        let id = RequestId(reader.u64()?);
        let message = match kind {
            RepairType::Census => {
                let count = list_len(reader.u8()?)?;
                let blocks = (0..count).map(|_| reader.block_id()).collect::<Result<_, _>>()?;
                Self::Census { id, blocks }
            }
            RepairType::Holdings => {
                let count = list_len(reader.u8()?)?;
                let holdings = (0..count)
                    .map(|_| Holding::from_u8(reader.u8()?))
                    .collect::<Result<_, _>>()?;
                Self::Holdings { id, holdings }
            }
            RepairType::HandedOver => Self::HandedOver {
                id,
                receipt: Receipt::from_u8(reader.u8()?)?,
            },
            RepairType::HandOver => {
                body.advance(ID);
                return Ok(Self::HandOver {
                    id,
                    block: decode_block(body)?,
                });
            }
        };
        reader.finish()?;
        Ok(message)
    }
}

fn list_len(count: u8) -> Result<usize, WireError> {
    let len = usize::from(count);
    if (1..=MAX_CENSUS).contains(&len) {
        Ok(len)
    } else {
        Err(WireError::Value {
            field: "number of blocks",
            value: count.into(),
        })
    }
}
