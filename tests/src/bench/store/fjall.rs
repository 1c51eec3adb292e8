//! fjall, a log-structured merge tree, with large values in files of their own as its documentation advises.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{CACHE, Contender, Name, Seal, sealed};

pub(super) struct Fjall {
    database: Database,
    blocks: Keyspace,
    seal: Seal,
}

impl Contender for Fjall {
    const NAME: &'static str = "fjall";

    fn open(folder: &Path, _blocks: u64) -> anyhow::Result<Self> {
        let database = Database::builder(folder).cache_size(CACHE as u64).open()?;
        let blocks = database.keyspace("blocks", || {
            KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()))
        })?;
        Ok(Self {
            database,
            blocks,
            seal: Seal::new()?,
        })
    }

    fn put(&mut self, name: &Name, block: &Bytes) -> anyhow::Result<()> {
        let value = sealed(&self.seal, name, block)?;
        self.blocks.insert(name.key.as_bytes(), value)?;
        Ok(())
    }

    fn get(&mut self, name: &Name) -> anyhow::Result<bool> {
        let Some(value) = self.blocks.get(name.key.as_bytes())? else {
            return Ok(false);
        };
        Ok(self.seal.open(name.number, &mut value.to_vec()))
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
