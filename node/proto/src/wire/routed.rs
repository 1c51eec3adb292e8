//! Bytes of the key-routing messages (protocol §5.2).

use bytes::{Buf, BufMut, BytesMut};

use super::{
    Refusal, Replica, Routed,
    codec::{Reader, WireError},
    frame::{BLOCK_FIELD, decode_block},
    repair::{RepairMessage, RepairType},
};
use crate::ids::RequestId;

/// Types of key-routing messages by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoutedType {
    /// [`Routed::Request`].
    Request,
    /// [`Routed::Found`].
    Found,
    /// [`Routed::NotFound`].
    NotFound,
    /// [`Routed::Refused`].
    Refused,
    /// [`Routed::Insert`].
    Insert,
    /// [`Routed::Stored`].
    Stored,
    /// [`Routed::Collision`].
    Collision,
    /// [`Routed::Replicate`].
    Replicate,
    /// [`Routed::Replicated`].
    Replicated,
    /// [`Routed::Request`] that waits.
    Await,
    /// [`Routed::Arrived`].
    Arrived,
    /// [`Routed::Repair`].
    Repair(RepairType),
}

const ID: usize = 8;

impl RoutedType {
    /// The type with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0x20 => Self::Request,
            0x21 => Self::Found,
            0x22 => Self::NotFound,
            0x23 => Self::Refused,
            0x24 => Self::Insert,
            0x25 => Self::Stored,
            0x26 => Self::Collision,
            0x27 => Self::Replicate,
            0x28 => Self::Replicated,
            0x2d => Self::Await,
            0x2e => Self::Arrived,
            _ => Self::Repair(RepairType::from_u8(number)?),
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Request => 0x20,
            Self::Found => 0x21,
            Self::NotFound => 0x22,
            Self::Refused => 0x23,
            Self::Insert => 0x24,
            Self::Stored => 0x25,
            Self::Collision => 0x26,
            Self::Replicate => 0x27,
            Self::Replicated => 0x28,
            Self::Await => 0x2d,
            Self::Arrived => 0x2e,
            Self::Repair(repair) => repair.as_u8(),
        }
    }

    /// Whether a body of this type can have `len` bytes. Only those of repair vary.
    pub(crate) fn admits(self, len: usize) -> bool {
        match self {
            Self::Request | Self::Await => len == ID + 33 + 3 + 8,
            Self::Found | Self::Insert => len == ID + 1 + BLOCK_FIELD,
            Self::NotFound | Self::Refused | Self::Stored | Self::Replicated => len == ID + 1,
            Self::Collision | Self::Replicate => len == ID + BLOCK_FIELD,
            Self::Arrived => len == BLOCK_FIELD,
            Self::Repair(repair) => repair.admits(len),
        }
    }
}

impl Refusal {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Busy => 1,
            Self::Loop => 2,
            Self::Failed => 3,
        }
    }

    fn from_u8(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Busy),
            2 => Ok(Self::Loop),
            3 => Ok(Self::Failed),
            other => Err(WireError::Value {
                field: "refusal",
                value: other.into(),
            }),
        }
    }
}

impl Replica {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Declined => 0,
            Self::Stored => 1,
            Self::Busy => 2,
        }
    }

    fn from_u8(number: u8) -> Result<Self, WireError> {
        match number {
            0 => Ok(Self::Declined),
            1 => Ok(Self::Stored),
            2 => Ok(Self::Busy),
            other => Err(WireError::Value {
                field: "replica",
                value: other.into(),
            }),
        }
    }
}

impl Routed {
    /// Whether a node that gets it says something in return.
    #[must_use]
    pub const fn wants_answer(&self) -> bool {
        matches!(
            self,
            Self::Request { .. }
                | Self::Insert { .. }
                | Self::Replicate { .. }
                | Self::Repair(RepairMessage::Census { .. } | RepairMessage::HandOver { .. })
        )
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> RoutedType {
        match self {
            Self::Request { wait: false, .. } => RoutedType::Request,
            Self::Request { wait: true, .. } => RoutedType::Await,
            Self::Found { .. } => RoutedType::Found,
            Self::NotFound { .. } => RoutedType::NotFound,
            Self::Refused { .. } => RoutedType::Refused,
            Self::Insert { .. } => RoutedType::Insert,
            Self::Stored { .. } => RoutedType::Stored,
            Self::Collision { .. } => RoutedType::Collision,
            Self::Replicate { .. } => RoutedType::Replicate,
            Self::Replicated { .. } => RoutedType::Replicated,
            Self::Arrived { .. } => RoutedType::Arrived,
            Self::Repair(message) => RoutedType::Repair(message.kind()),
        }
    }

    /// The request that it belongs to; none for what belongs to a key.
    #[must_use]
    pub const fn id(&self) -> Option<RequestId> {
        match self {
            Self::Arrived { .. } => None,
            Self::Request { id, .. }
            | Self::Found { id, .. }
            | Self::NotFound { id, .. }
            | Self::Refused { id, .. }
            | Self::Insert { id, .. }
            | Self::Stored { id, .. }
            | Self::Collision { id, .. }
            | Self::Replicate { id, .. }
            | Self::Replicated { id, .. } => Some(*id),
            Self::Repair(message) => Some(message.id()),
        }
    }

    /// Appends all but the bytes of a block, which are returned.
    pub(crate) fn encode_head(&self, out: &mut BytesMut) -> &[u8] {
        if let Some(id) = self.id() {
            out.put_u64(id.0);
        }
        let block = match self {
            Self::Request {
                block,
                htl,
                stale,
                branches,
                best,
                ..
            } => {
                out.put_u8(block.kind.as_u8());
                out.put_slice(block.key.as_bytes());
                out.put_slice(&[*htl, *stale, *branches]);
                out.put_u64(*best);
                return &[];
            }
            Self::NotFound { branches, .. } => {
                out.put_u8(*branches);
                return &[];
            }
            Self::Refused { why, .. } => {
                out.put_u8(why.as_u8());
                return &[];
            }
            Self::Stored { copies, .. } => {
                out.put_u8(*copies);
                return &[];
            }
            Self::Replicated { replica, .. } => {
                out.put_u8(replica.as_u8());
                return &[];
            }
            Self::Found { block, copy, .. } => {
                out.put_u8(u8::from(*copy));
                block
            }
            Self::Insert { block, htl, .. } => {
                out.put_u8(*htl);
                block
            }
            Self::Collision { block, .. } | Self::Replicate { block, .. } | Self::Arrived { block } => block,
            Self::Repair(message) => match message.encode_head(out) {
                Some(block) => block,
                None => return &[],
            },
        };
        out.put_u8(block.id().kind.as_u8());
        block.bytes()
    }

    pub(crate) fn decode(kind: RoutedType, mut body: BytesMut) -> Result<Self, WireError> {
        let mut reader = Reader::new(&body);
        let id = match kind {
            RoutedType::Arrived => RequestId(0),
            _ => RequestId(reader.u64()?),
        };
        let message = match kind {
            RoutedType::Repair(kind) => return RepairMessage::decode(kind, body).map(Self::Repair),
            RoutedType::Arrived => {
                return Ok(Self::Arrived {
                    block: decode_block(body)?,
                });
            }
            RoutedType::Request | RoutedType::Await => Self::Request {
                id,
                block: reader.block_id()?,
                htl: reader.u8()?,
                stale: reader.u8()?,
                branches: reader.u8()?,
                best: reader.u64()?,
                wait: kind == RoutedType::Await,
            },
            RoutedType::NotFound => Self::NotFound {
                id,
                branches: reader.u8()?,
            },
            RoutedType::Refused => Self::Refused {
                id,
                why: Refusal::from_u8(reader.u8()?)?,
            },
            RoutedType::Stored => Self::Stored {
                id,
                copies: reader.u8()?,
            },
            RoutedType::Replicated => Self::Replicated {
                id,
                replica: Replica::from_u8(reader.u8()?)?,
            },
            RoutedType::Found => {
                let copy = reader.flag("copy")?;
                body.advance(ID + 1);
                return Ok(Self::Found {
                    id,
                    block: decode_block(body)?,
                    copy,
                });
            }
            RoutedType::Insert => {
                let htl = reader.u8()?;
                body.advance(ID + 1);
                return Ok(Self::Insert {
                    id,
                    block: decode_block(body)?,
                    htl,
                });
            }
            RoutedType::Collision => {
                body.advance(ID);
                return Ok(Self::Collision {
                    id,
                    block: decode_block(body)?,
                });
            }
            RoutedType::Replicate => {
                body.advance(ID);
                return Ok(Self::Replicate {
                    id,
                    block: decode_block(body)?,
                });
            }
        };
        reader.finish()?;
        Ok(message)
    }
}
