//! What can go wrong with a fetch or an insert, by cause.

use std::io;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The network was searched through several exits, and too much of the file is nowhere.
    #[error("the network was searched and does not have it")]
    NotFound,
    /// The network could not answer: no circuits, or no exit answered in time. Says nothing about the file.
    #[error("the network could not answer")]
    Unreachable,
    /// The node is linked to nobody.
    #[error(
        "this node has no link to any other; it needs the reference of one (`warren peers --add`, or a seed in warren.toml)"
    )]
    NoLinks,
    /// What is stored under the key does not make a file: made wrongly, or under another key. Trying again is useless.
    #[error("what is stored under this key is not a readable file: {0}")]
    BadData(String),
    /// The key cannot be fetched, whatever is stored.
    #[error("this key cannot be fetched: {0}")]
    BadKey(String),
    /// The node has as many jobs as it may have.
    #[error("the node is busy with other fetches and inserts")]
    Busy,
    /// The node is stopping, or the caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// A bug of ours.
    #[error("an internal error: {0}")]
    Internal(String),
}

/// Why a file could not be inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Something else is stored under this key already.
    #[error("another document is already stored under this key")]
    Collision,
    /// The network could not take enough of the blocks.
    #[error("the network could not take it")]
    Unreachable,
    /// The node is linked to nobody.
    #[error(
        "this node has no link to any other; it needs the reference of one (`warren peers --add`, or a seed in warren.toml)"
    )]
    NoLinks,
    /// The media type cannot be recorded.
    #[error("the media type is not valid: {0}")]
    BadType(String),
    /// The file was changed while it was read.
    #[error("the file changed while it was being inserted")]
    Changed,
    /// The source could not be read to its end.
    #[error("the source ended early: {0}")]
    Source(#[source] io::Error),
    /// The node's own disk failed.
    #[error("the node's temporary file: {0}")]
    Spool(#[source] io::Error),
    /// The node is stopping, or the caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// A bug of ours.
    #[error("an internal error: {0}")]
    Internal(String),
}
