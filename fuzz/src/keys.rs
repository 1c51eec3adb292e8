//! The parsers of `warren-keys`: URIs, blocks, roots, splitfiles, streams.

pub mod block;
pub mod root;
pub mod splitfile;
pub mod stream;
pub mod uri;
