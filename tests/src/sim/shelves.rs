//! A datastore that keeps names: all simulated blocks share one buffer of zeros.
//!
//! It answers like the real one, except that it is never full and that two signed blocks never collide.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockId, RoutingKey};
use warren_proto::core::api::{Shelf, StoreAnswer, StoreQuestion};

/// The bytes of every simulated block.
#[derive(Clone)]
pub struct Zeros(Bytes);

impl Default for Zeros {
    fn default() -> Self {
        Self(Bytes::from(vec![0; BLOCK_SIZE]))
    }
}

impl Zeros {
    /// A block with that name.
    ///
    /// # Panics
    /// Never: the buffer has the length of a block.
    #[must_use]
    pub fn block(&self, id: BlockId) -> Block {
        Block::from_store(id, self.0.clone()).expect("a whole block")
    }
}

/// Names of blocks, with the shelf that each stands on.
#[derive(Default)]
pub struct Shelves {
    blocks: BTreeMap<BlockId, Shelf>,
    /// Blocks in the store region, by place: a survey walks in this order, and its cursor is a place.
    stored: BTreeSet<(u64, BlockId)>,
}

impl Shelves {
    /// Answers a question.
    pub fn ask(&mut self, question: StoreQuestion, zeros: &Zeros) -> StoreAnswer {
        match question {
            StoreQuestion::Find(id) => match self.blocks.get(&id) {
                Some(shelf) => StoreAnswer::Found(zeros.block(id), *shelf),
                None => StoreAnswer::Missing,
            },
            StoreQuestion::Keep(block, shelf) => {
                self.keep(block.id(), shelf);
                StoreAnswer::Kept
            }
            StoreQuestion::Survey { from, most } => self.survey(from, most),
            StoreQuestion::Holds(ids) => {
                StoreAnswer::Holdings(ids.iter().map(|id| self.stores(id)).collect())
            }
            StoreQuestion::Demote(id) => {
                if !self.stored.remove(&place(id)) {
                    return StoreAnswer::Missing;
                }
                self.blocks.insert(id, Shelf::Cache);
                StoreAnswer::Kept
            }
        }
    }

    /// Keeps a block; what is in the store does not become a mere cached copy.
    pub fn keep(&mut self, id: BlockId, shelf: Shelf) {
        match shelf {
            Shelf::Store => {
                self.blocks.insert(id, shelf);
                self.stored.insert(place(id));
            }
            Shelf::Cache => {
                self.blocks.entry(id).or_insert(shelf);
            }
        }
    }

    fn survey(&self, from: u64, most: usize) -> StoreAnswer {
        let first = (from, BlockId::content(RoutingKey::from_bytes([0; 32])));
        let mut rest = self.stored.range(first..).copied();
        let blocks: Vec<BlockId> = rest.by_ref().take(most).map(|(_, id)| id).collect();
        StoreAnswer::Surveyed {
            blocks,
            next: rest.next().map(|(place, _)| place),
            held: self.stored.len() as u64,
        }
    }

    /// Whether a block is in the store region.
    #[must_use]
    pub fn stores(&self, id: &BlockId) -> bool {
        self.blocks.get(id) == Some(&Shelf::Store)
    }

    /// Whether a block is in either region.
    #[must_use]
    pub fn holds(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    /// All blocks that it holds, in either region.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockId> {
        self.blocks.keys()
    }

    /// Number of blocks in the store region.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.stored.len()
    }
}

fn place(id: BlockId) -> (u64, BlockId) {
    (id.key.location().as_u64(), id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::draw::Draw;

    #[test]
    fn a_survey_names_each_stored_block_once() {
        let (mut draw, zeros, mut shelves) = (Draw::new(1), Zeros::default(), Shelves::default());
        let blocks: Vec<BlockId> = (0..20).map(|_| draw.block_id()).collect();
        for (number, id) in blocks.iter().enumerate() {
            let shelf = if number % 4 == 0 {
                Shelf::Cache
            } else {
                Shelf::Store
            };
            shelves.keep(*id, shelf);
        }
        assert!(matches!(
            shelves.ask(StoreQuestion::Demote(blocks[1]), &zeros),
            StoreAnswer::Kept
        ));
        let (mut named, mut from) = (Vec::new(), Some(0));
        while let Some(begin) = from {
            let StoreAnswer::Surveyed { blocks, next, held } =
                shelves.ask(StoreQuestion::Survey { from: begin, most: 4 }, &zeros)
            else {
                panic!("a survey");
            };
            assert_eq!(held, 14);
            named.extend(blocks);
            from = next;
        }
        named.sort_unstable();
        let count = named.len();
        named.dedup();
        assert_eq!((named.len(), count), (14, 14));
        assert!(shelves.holds(&blocks[1]) && !shelves.stores(&blocks[1]));
    }
}
