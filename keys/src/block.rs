//! Blocks: the one unit that is stored and routed.
//!
//! Invariant: a [`Block`] value is verified by construction. A content block has the hash that its id says, a signed
//! block a valid strict signature under the key that its id says (`keys §4`). What a block holds is opaque here: see
//! [`crate::content`] and [`crate::signed`].

use crate::{RoutingKey, signed};
use bytes::Bytes;
use core::fmt;

/// Bytes of every block, on the wire and on disk, whatever its kind.
pub const BLOCK_SIZE: usize = 32_768;

/// How a block proves that it is the one asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum BlockKind {
    /// Its routing key is the hash of its bytes.
    Content = 0,
    /// Its routing key is the hash of the public key that signed it.
    Signed = 1,
}

impl BlockKind {
    /// The number that stands for the kind in messages and on disk.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Content),
            1 => Some(Self::Signed),
            _ => None,
        }
    }
}

/// Name of a block in the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId {
    /// How the block proves itself.
    pub kind: BlockKind,
    /// Where it is.
    pub key: RoutingKey,
}

impl BlockId {
    /// Id of a content block.
    pub const fn content(key: RoutingKey) -> Self {
        Self {
            kind: BlockKind::Content,
            key,
        }
    }

    /// Id of a signed block.
    pub const fn signed(key: RoutingKey) -> Self {
        Self {
            kind: BlockKind::Signed,
            key,
        }
    }
}

/// Why bytes are not the block they are said to be. Always the fault of who sent them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// Not [`BLOCK_SIZE`] bytes.
    #[error("a block of {0} bytes, {BLOCK_SIZE} expected")]
    Length(usize),
    /// The bytes belong under another routing key.
    #[error("the block belongs to another routing key")]
    OtherKey,
    /// The public key in a signed block is not one (not canonical, not a point, of small order).
    #[error("the block's public key is not valid")]
    PublicKey,
    /// The signature does not hold.
    #[error("the block's signature does not hold")]
    Signature,
}

/// A verified block. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    id: BlockId,
    bytes: Bytes,
}

impl Block {
    /// Checks that `bytes` are the block `id`.
    ///
    /// # Errors
    /// Wrong length, another block's bytes, or a signature that does not hold.
    pub fn verify(id: BlockId, bytes: Bytes) -> Result<Self, BlockError> {
        let key = match id.kind {
            BlockKind::Content => content_key(&bytes)?,
            BlockKind::Signed => signed::routing_key_of(sized(&bytes)?),
        };
        if key != id.key {
            return Err(BlockError::OtherKey);
        }
        if id.kind == BlockKind::Signed {
            signed::check(sized(&bytes)?)?;
        }
        Ok(Self { id, bytes })
    }

    /// Takes bytes whose id is not known beforehand, checks them, and computes it.
    ///
    /// # Errors
    /// As [`Block::verify`], [`BlockError::OtherKey`] excepted.
    pub fn identify(kind: BlockKind, bytes: Bytes) -> Result<Self, BlockError> {
        let key = match kind {
            BlockKind::Content => content_key(&bytes)?,
            BlockKind::Signed => signed::check(sized(&bytes)?)?,
        };
        Ok(Self {
            id: BlockId { kind, key },
            bytes,
        })
    }

    /// Takes a block that was verified before it was stored, from a store that authenticates what it gives back.
    /// Only the length is checked.
    ///
    /// # Errors
    /// [`BlockError::Length`].
    pub fn from_store(id: BlockId, bytes: Bytes) -> Result<Self, BlockError> {
        sized(&bytes)?;
        Ok(Self { id, bytes })
    }

    /// A block that this crate has just made.
    pub(crate) const fn made(id: BlockId, bytes: Bytes) -> Self {
        Self { id, bytes }
    }

    /// Its name.
    pub const fn id(&self) -> BlockId {
        self.id
    }

    /// Its routing key.
    pub const fn key(&self) -> RoutingKey {
        self.id.key
    }

    /// Its [`BLOCK_SIZE`] bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn sized(bytes: &[u8]) -> Result<&[u8; BLOCK_SIZE], BlockError> {
    bytes.try_into().map_err(|_| BlockError::Length(bytes.len()))
}

fn content_key(bytes: &[u8]) -> Result<RoutingKey, BlockError> {
    sized(bytes)?;
    Ok(RoutingKey::from_bytes(*blake3::hash(bytes).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_its_hash() {
        let bytes = Bytes::from(vec![7; BLOCK_SIZE]);
        let id = BlockId::content(RoutingKey::from_bytes(*blake3::hash(&bytes).as_bytes()));
        let block = Block::verify(id, bytes.clone()).unwrap();
        assert_eq!(block.id(), id);
        assert_eq!(Block::identify(BlockKind::Content, bytes.clone()).unwrap(), block);
        assert_eq!(
            Block::verify(id, bytes.slice(1..)),
            Err(BlockError::Length(BLOCK_SIZE - 1))
        );
        for position in [0, 1, 12_345, BLOCK_SIZE - 1] {
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[position] ^= 1 << bit;
                assert_eq!(Block::verify(id, changed.into()), Err(BlockError::OtherKey));
            }
        }
        assert_eq!(
            Block::verify(BlockId::signed(id.key), bytes),
            Err(BlockError::OtherKey)
        );
    }

    #[test]
    fn kinds_have_stable_numbers() {
        assert_eq!((BlockKind::Content.as_u8(), BlockKind::Signed.as_u8()), (0, 1));
        for number in 0..=255 {
            assert!(BlockKind::from_u8(number).is_none_or(|kind| kind.as_u8() == number));
        }
    }
}
