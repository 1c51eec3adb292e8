//! Things that several unit tests need.

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};

/// A content block that differs for each `seed`.
pub(crate) fn content_block(seed: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![seed; BLOCK_SIZE])).unwrap()
}
