//! The client: block operations over circuits, and whole files over block operations (protocol §8).
//!
//! [`pool`] runs inside the core. It keeps circuits, chooses their nodes ([`path`], [`entry`]) and fetches and inserts single
//! blocks. [`download`] and [`upload`] run in the job that a user has begun, outside the core; they say which blocks to fetch
//! and insert, in what order, and turn them into files and back.
//!
//! What is deliberately absent: any look into the own datastore, which would let a probe see what its owner reads.

mod circuit;
pub mod download;
pub mod entry;
mod fetch_op;
mod insert_op;
mod job;
mod op;
pub mod path;
pub mod pool;
mod shared;
#[cfg(test)]
mod testing;
pub mod upload;
pub mod window;

pub use download::{Download, DownloadFailure, DownloadOutput, DownloadProgress, Work, Worked};
pub use entry::PinnedEntry;
pub use job::MAX_OPS;
pub use path::RelayView;
pub use pool::{MAX_WAIT, Pool, PoolOutput, PoolSettings};
pub use upload::{Upload, UploadFailure, UploadOutput, UploadProgress, UploadTarget, Uploaded};
