//! Things that several unit tests need.

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};

/// A node's reference, as it is written in a configuration.
pub(crate) const REFERENCE: &str = "warren-node:SD~JcNiQbvH3-rXBMkScViNkzGmoEmluQW30NfractM,\
                                    MdfSDqaCIVRbMK-JJoivikYzIAYAbspqfiG6FQVIo1A@127.0.0.1:36587";

/// A content block that differs for each `seed`.
pub(crate) fn content_block(seed: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![seed; BLOCK_SIZE])).unwrap()
}
