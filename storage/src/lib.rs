//! What a Warren node keeps on disk: the datastore, sealed state files, and the key file that opens both.
//!
//! - [`Store`] holds blocks in two regions of fixed-size slots, encrypted, with an index of eight bytes a slot in RAM.
//! - [`SealedFile`] holds a small state file, replaced as a whole.
//! - [`KeyFile`] holds the [`MasterKey`] of a node, plain or under a passphrase.
//!
//! The format and what may fail in it is written down in `docs/storage-format.md`; the code cites its sections.
//!
//! Architecture invariants: the API blocks and takes `&self`, there is no tokio here and no clock; the disk carries only
//! random-looking bytes (the key file apart, and save that unwritten slots are zeros); no bytes found on a disk make
//! this crate panic; no error and no `Debug` output carries a routing key or block bytes. Deliberately absent: what a block means,
//! the network, any decision on who stores what.

mod entry;
mod error;
mod geometry;
pub mod header;
mod index;
mod journal;
mod keyfile;
mod master;
pub mod medium;
mod random;
mod seal;
mod sealed_file;
pub mod slot;
mod snapshot;
mod store;

pub use error::{Error, Result};
pub use geometry::{FORMAT_VERSION, Geometry, HEADER_LEN, MAX_SETS, Region, SLOT_LEN, Slot, WAYS};
pub use keyfile::{
    KEY_FILE_LEN, KEY_FILE_VERSION, KeyFile, KeyFileContent, KeyFileFault, Passphrase, PassphraseCost,
    SealedKey,
};
pub use master::MasterKey;
pub use medium::{Allocation, Folder};
pub use sealed_file::{MAX_SEALED_FILE, SEALED_FILE_VERSION, SealedFile};
pub use store::{
    Cursor, IndexSource, Inspection, Names, Opened, Options, Put, Rebuilt, RegionInspection, RegionStats,
    Space, Stats, Store, Verified,
};
