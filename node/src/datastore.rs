//! The datastore as the store pool's backend: translates between what the core asks and what the disk does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use warren_keys::{Block, BlockId};
use warren_proto::core::api::{Shelf, StoreAnswer};
use warren_storage::{Cursor, Error, Put, Region, Store};

use crate::store_pool::Backend;

/// The open datastore of a node.
pub(crate) struct Datastore {
    store: Store,
    /// Whether the last write or read failed; so that a full disk is one line in the log, not one for each block.
    failing: AtomicBool,
    /// Blocks in the store region, counted once in a walk.
    held: AtomicU64,
}

const UNCOUNTED: u64 = u64::MAX;

impl Datastore {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            failing: AtomicBool::new(false),
            held: AtomicU64::new(UNCOUNTED),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn into_store(self) -> Store {
        self.store
    }

    fn failed(&self, error: &Error) -> StoreAnswer {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the datastore fails; this node answers that it cannot store until that is over");
        }
        StoreAnswer::Failed
    }

    fn works(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!("the datastore works again");
        }
    }
}

const fn shelf(region: Region) -> Shelf {
    match region {
        Region::Store => Shelf::Store,
        Region::Cache => Shelf::Cache,
    }
}

impl Backend for Datastore {
    fn find(&self, id: &BlockId) -> StoreAnswer {
        match self.store.get(id) {
            Ok(Some((block, region))) => StoreAnswer::Found(block, shelf(region)),
            Ok(None) => StoreAnswer::Missing,
            Err(error) => self.failed(&error),
        }
    }

    fn keep(&self, block: Block, on: Shelf) -> StoreAnswer {
        let region = match on {
            Shelf::Store => Region::Store,
            Shelf::Cache => Region::Cache,
        };
        match self.store.put(&block, region) {
            Ok(put) => {
                self.works();
                match put {
                    Put::Stored | Put::AlreadyStored => StoreAnswer::Kept,
                    Put::Collision(existing) => StoreAnswer::Collision(existing),
                    // Full of blocks that belong here more: another node has to keep it.
                    Put::Nearer => StoreAnswer::Failed,
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn survey(&self, from: u64, most: usize) -> StoreAnswer {
        if from == 0 || self.held.load(Ordering::Relaxed) == UNCOUNTED {
            self.held
                .store(self.store.occupied(Region::Store), Ordering::Relaxed);
        }
        let held = self.held.load(Ordering::Relaxed);
        match self.store.names(Region::Store, Cursor::from_u64(from), most) {
            Ok(names) => StoreAnswer::Surveyed {
                blocks: names.blocks,
                next: names.next.map(Cursor::as_u64),
                held,
            },
            Err(error) => self.failed(&error),
        }
    }

    fn holds(&self, ids: &[BlockId]) -> StoreAnswer {
        StoreAnswer::Holdings(ids.iter().map(|id| self.store.holds(id)).collect())
    }

    fn demote(&self, id: &BlockId) -> StoreAnswer {
        match self.store.demote(id) {
            Ok(true) => StoreAnswer::Kept,
            Ok(false) => StoreAnswer::Missing,
            Err(error) => self.failed(&error),
        }
    }

    fn sync(&self) -> bool {
        self.store.sync().map_err(|error| self.failed(&error)).is_ok()
    }
}
