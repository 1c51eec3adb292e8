//! The datastore.

use std::path::Path;

use anyhow::anyhow;
use bytes::Bytes;
use warren_keys::{Block, BlockId, Location};
use warren_storage::{Geometry, MasterKey, Options, Region, SLOT_LEN, Space, Store};
use zeroize::Zeroizing;

use super::{Contender, Name};

/// Slots for a hundred blocks: a datastore that is filled to 80 % has lost 0.25 % of its blocks to full sets.
const PERCENT: u64 = 125;
/// The cache region is not used.
const CACHE: u64 = 16 << 20;

pub(super) struct Own(Store);

impl Contender for Own {
    const NAME: &'static str = "warren";

    fn open(folder: &Path, blocks: u64) -> anyhow::Result<Self> {
        let size = blocks * SLOT_LEN as u64 / 100 * PERCENT;
        let options = Options {
            geometry: Geometry::for_quota(size.max(CACHE), CACHE)?,
            location: Location::new(0),
            space: Space::Sparse,
        };
        let master = MasterKey::from_bytes(Zeroizing::new([7; 32]));
        Ok(Self(Store::open(folder.join("datastore"), &master, &options)?))
    }

    fn put(&mut self, name: &Name, block: &Bytes) -> anyhow::Result<()> {
        let id = BlockId::signed(name.key);
        let block = Block::from_store(id, block.clone()).map_err(|error| anyhow!("{error}"))?;
        self.0.put(&block, Region::Store)?;
        Ok(())
    }

    fn get(&mut self, name: &Name) -> anyhow::Result<bool> {
        Ok(self.0.get(&BlockId::signed(name.key))?.is_some())
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        self.0.sync()?;
        Ok(())
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.0.close()?)
    }
}
