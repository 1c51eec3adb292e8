//! What is read back from a disk, and the datastore under operations, crashes and faults.

pub mod datastore;
pub mod files;

use std::sync::Arc;

use warren_keys::{Block, Location};
use warren_storage::{
    Geometry, HEADER_LEN, MasterKey, Options, SLOT_LEN, Space, Store, WAYS, medium::Backend,
};

use crate::fixtures;

/// Blocks that the targets know by number: fewer than a set has slots, so nothing is ever evicted.
pub const BLOCKS: u8 = 40;

/// The key of all datastores here.
#[must_use]
pub fn master() -> MasterKey {
    MasterKey::from_bytes([0x42; 32].into())
}

/// Opens a datastore with one set a region, or makes one.
///
/// # Errors
/// Those of the datastore.
///
/// # Panics
/// Never: the size is valid.
pub fn open(backend: Arc<dyn Backend>) -> warren_storage::Result<Store> {
    let set = (HEADER_LEN + SLOT_LEN * WAYS as usize) as u64;
    let geometry = Geometry::for_quota(set, set).expect("one set");
    Store::open_on(
        backend,
        &master(),
        &Options {
            geometry,
            location: Location::new(0),
            space: Space::Sparse,
        },
    )
}

/// Block number `name`: even ones are content, odd ones are signed and have two versions.
#[must_use]
pub fn named(name: u8, version: u8) -> Block {
    if name.is_multiple_of(2) {
        fixtures::content_block(name)
    } else {
        fixtures::unverified_block(name, version)
    }
}
