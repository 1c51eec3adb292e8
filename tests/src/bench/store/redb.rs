//! redb, a B-tree: puts in batches, because each transaction rewrites a path of the tree.

use std::path::Path;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{CACHE, Contender, Name, Seal, sealed};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("blocks");
/// Puts of a transaction.
const BATCH: usize = 64;
/// Transactions from one that waits for the disk to the next; without any the file only grows.
const DURABLE: u64 = 64;

pub(super) struct Redb {
    database: Database,
    seal: Seal,
    pending: Vec<(Name, Vec<u8>)>,
    transactions: u64,
}

impl Redb {
    fn commit(&mut self, durability: Durability) -> anyhow::Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (name, value) in self.pending.drain(..) {
                table.insert(&name.key.as_bytes()[..], &value[..])?;
            }
        }
        transaction.commit()?;
        self.transactions += 1;
        Ok(())
    }
}

impl Contender for Redb {
    const NAME: &'static str = "redb";

    fn open(folder: &Path, _blocks: u64) -> anyhow::Result<Self> {
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(folder.join("blocks.redb"))?;
        Ok(Self {
            database,
            seal: Seal::new()?,
            pending: Vec::with_capacity(BATCH),
            transactions: 0,
        })
    }

    fn put(&mut self, name: &Name, block: &Bytes) -> anyhow::Result<()> {
        let value = sealed(&self.seal, name, block)?;
        self.pending.push((Name::new(name.number), value));
        if self.pending.len() < BATCH {
            return Ok(());
        }
        let durable = (self.transactions + 1).is_multiple_of(DURABLE);
        self.commit(if durable {
            Durability::Immediate
        } else {
            Durability::None
        })
    }

    fn get(&mut self, name: &Name) -> anyhow::Result<bool> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let Some(value) = table.get(&name.key.as_bytes()[..])? else {
            return Ok(false);
        };
        let mut value = value.value().to_vec();
        Ok(self.seal.open(name.number, &mut value))
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        self.commit(Durability::Immediate)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
