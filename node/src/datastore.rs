//! The datastore as the store pool's backend: translates between what the core asks and what the disk does.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use warren_keys::{Block, BlockId};
use warren_proto::core::api::{Shelf, StoreAnswer};
use warren_storage::{Cursor, Error, Put, Region, Store};

use crate::store_pool::Backend;

/// The open datastore of a node.
pub(crate) struct Datastore {
    store: Store,
    /// What failed lately; so that a full disk is one line in the log, not one for each block.
    trouble: Mutex<Option<Trouble>>,
    /// Blocks in the store region, counted once in a walk.
    held: AtomicU64,
}

const UNCOUNTED: u64 = u64::MAX;

struct Trouble {
    error: String,
    last: Instant,
}

/// The datastore works again when something was kept so long after the last failure: on a full disk, blocks whose place is taken already
/// are kept in between.
const CALM: Duration = Duration::from_secs(10);

impl Datastore {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            trouble: Mutex::default(),
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
        let error = error.to_string();
        let mut trouble = self.lock();
        if trouble.is_none() {
            tracing::warn!(%error, "the datastore fails; this node answers that it cannot store until that is over");
        }
        *trouble = Some(Trouble {
            error,
            last: Instant::now(),
        });
        StoreAnswer::Failed
    }

    fn works(&self) {
        let mut trouble = self.lock();
        if trouble
            .as_ref()
            .is_some_and(|trouble| trouble.last.elapsed() >= CALM)
        {
            *trouble = None;
            tracing::warn!("the datastore works again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is the matter with the disk, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.lock();
        trouble
            .as_ref()
            .map(|trouble| format!("blocks could not be kept: {}", trouble.error))
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
