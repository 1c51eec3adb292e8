//! The one bounds-checked reader of the protocol's messages, and why bytes are not a message.
//!
//! Integers are big-endian. A parser takes exactly the bytes that it is given: [`Reader::finish`] refuses any that are left.

use warren_keys::{BlockError, BlockId, BlockKind, RoutingKey};

use crate::{descriptor::DescriptorError, zeros::is_zero};

/// Why bytes are not a message. Always the sender's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// No message has this number.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// The length is none that a message of this type has.
    #[error("a message of type {kind} cannot have {len} bytes")]
    Length {
        /// The type's number.
        kind: u8,
        /// Bytes that its header announces.
        len: usize,
    },
    /// Ends within a field.
    #[error("the message is cut short")]
    Truncated,
    /// Goes on behind its last field.
    #[error("{0} bytes behind the end of the message")]
    Trailing(usize),
    /// A field has a value that it cannot have.
    #[error("{field} cannot be {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it was.
        value: u64,
    },
    /// Filler that is not zero.
    #[error("the padding is not zero")]
    Padding,
    /// A descriptor that is not valid.
    #[error("descriptor: {0}")]
    Descriptor(#[from] DescriptorError),
    /// A block that is not what it is said to be.
    #[error("block: {0}")]
    Block(#[from] BlockError),
}

/// Reads fields from the front of a slice.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Value {
                field,
                value: other.into(),
            }),
        }
    }

    /// The version of a saved form, which must be `known`.
    pub(crate) fn version(&mut self, known: u8) -> Result<(), WireError> {
        match self.u8()? {
            version if version == known => Ok(()),
            other => Err(WireError::Value {
                field: "version",
                value: other.into(),
            }),
        }
    }

    pub(crate) fn block_id(&mut self) -> Result<BlockId, WireError> {
        let kind = block_kind(self.u8()?)?;
        Ok(BlockId {
            kind,
            key: RoutingKey::from_bytes(self.array()?),
        })
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Ends the parse: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing(self.0.len()))
        }
    }

    /// Ends the parse of a padded message: what is left must be zero, so that padding carries nothing.
    pub(crate) fn finish_padding(self) -> Result<(), WireError> {
        if is_zero(self.0) {
            Ok(())
        } else {
            Err(WireError::Padding)
        }
    }
}

pub(crate) fn block_kind(number: u8) -> Result<BlockKind, WireError> {
    BlockKind::from_u8(number).ok_or(WireError::Value {
        field: "block kind",
        value: number.into(),
    })
}
