//! A datastore in memory, with the answers of the real one.

use std::collections::BTreeMap;

use warren_keys::{Block, BlockId, BlockKind};
use warren_proto::core::api::{Shelf, StoreAnswer, StoreQuestion};

/// Blocks and the shelf that each stands on. It is never full.
#[derive(Default)]
pub struct Store {
    blocks: BTreeMap<BlockId, (Block, Shelf)>,
}

impl Store {
    pub(super) fn ask(&mut self, question: StoreQuestion) -> StoreAnswer {
        match question {
            StoreQuestion::Find(id) => match self.blocks.get(&id) {
                Some((block, shelf)) => StoreAnswer::Found(block.clone(), *shelf),
                None => StoreAnswer::Missing,
            },
            StoreQuestion::Keep(block, shelf) => self.keep(block, shelf),
            StoreQuestion::Survey { from, most } => self.survey(from, most),
            StoreQuestion::Holds(ids) => {
                let held = |id: &BlockId| self.shelf(id) == Some(Shelf::Store);
                StoreAnswer::Holdings(ids.iter().map(held).collect())
            }
            StoreQuestion::Demote(id) => match self.blocks.get_mut(&id) {
                Some((_, shelf)) if *shelf == Shelf::Store => {
                    *shelf = Shelf::Cache;
                    StoreAnswer::Kept
                }
                _ => StoreAnswer::Missing,
            },
        }
    }

    /// Names blocks in order of their keys. The cursor is the beginning of the next one's key.
    fn survey(&self, from: u64, most: usize) -> StoreAnswer {
        let stored = self
            .blocks
            .iter()
            .filter(|(_, (_, shelf))| *shelf == Shelf::Store);
        let mut ids: Vec<BlockId> = stored.map(|(id, _)| *id).collect();
        let held = ids.len() as u64;
        ids.sort_by_key(|id| id.key.location());
        let mut rest = ids.into_iter().skip_while(|id| id.key.location().as_u64() < from);
        let blocks = rest.by_ref().take(most).collect();
        StoreAnswer::Surveyed {
            blocks,
            next: rest.next().map(|id| id.key.location().as_u64()),
            held,
        }
    }

    fn keep(&mut self, block: Block, shelf: Shelf) -> StoreAnswer {
        let id = block.id();
        match self.blocks.get_mut(&id) {
            Some((other, _)) if id.kind == BlockKind::Signed && *other != block => {
                return StoreAnswer::Collision(other.clone());
            }
            // What is in the store does not become a mere cached copy.
            Some((_, Shelf::Store)) => {}
            _ => {
                self.blocks.insert(id, (block, shelf));
            }
        }
        StoreAnswer::Kept
    }

    /// Whether it holds a block.
    #[must_use]
    pub fn holds(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    /// The shelf of a block.
    #[must_use]
    pub fn shelf(&self, id: &BlockId) -> Option<Shelf> {
        self.blocks.get(id).map(|(_, shelf)| *shelf)
    }

    /// Puts a block in as if it had been stored before.
    pub fn put(&mut self, block: Block) {
        self.blocks.insert(block.id(), (block, Shelf::Store));
    }

    /// Loses a block.
    pub fn lose(&mut self, id: &BlockId) {
        self.blocks.remove(id);
    }

    /// All blocks that it holds.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().map(|(block, _)| block)
    }
}
