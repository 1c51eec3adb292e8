//! What the census of a node asks of the store region: which blocks are there, whether these are, and to let one go.

use warren_keys::BlockId;

use super::{Cursor, Fetched, Put, Store};
use crate::entry::Entry;
use crate::error::Result;
use crate::geometry::{Region, Slot};
use crate::slot::PEEK_LEN;

/// Names of some blocks of a region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// The blocks, in slot order.
    pub blocks: Vec<BlockId>,
    /// Where to go on; none at the end of the region.
    pub next: Option<Cursor>,
}

impl Store {
    /// The names of the next blocks of a region in slot order, at most `most`: a walk that sees every block that stays in
    /// place meanwhile. Reads 80 bytes of each slot, not the block: what they say is believed because the index has a keyed
    /// hash of it (`storage-format §5.1`).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn names(&self, region: Region, cursor: Cursor, most: usize) -> Result<Names> {
        let mut blocks = Vec::with_capacity(most);
        let mut at = cursor.0;
        let mut entries = Vec::with_capacity(most);
        while blocks.len() < most {
            let wanted = most - blocks.len();
            entries.clear();
            {
                let tables = self.index.lock();
                let rest = tables.entries(region).get(at..).unwrap_or_default();
                let live = rest.iter().enumerate().filter(|(_, entry)| entry.is_live());
                entries.extend(live.take(wanted).map(|(skip, entry)| (at + skip, *entry)));
            }
            let Some((last, _)) = entries.last() else {
                return Ok(Names { blocks, next: None });
            };
            at = last + 1;
            for (number, entry) in &entries {
                if let Ok(slot) = u32::try_from(*number) {
                    blocks.extend(self.name(region, Slot::new(slot), *entry)?);
                }
            }
        }
        Ok(Names {
            blocks,
            next: Some(Cursor(at)),
        })
    }

    fn name(&self, region: Region, slot: Slot, entry: Entry) -> Result<Option<BlockId>> {
        let mut buf = [0; PEEK_LEN];
        let read = self.medium(region).read_at(&mut buf, slot.offset());
        let id = self.cipher.peek(&buf);
        if let (Ok(()), Some(id)) = (read, id)
            && self.placer.place(&id).tag == entry.tag()
        {
            return Ok(Some(id));
        }
        // Damaged, or just being overwritten: reading all of it tells, and puts the index right.
        Ok(match self.fetch(region, slot, entry)? {
            Fetched::Block(block) => Some(block.id()),
            Fetched::Gone => None,
        })
    }

    /// Blocks in a region, as the index says. Looks at all of it: a millisecond for a million.
    #[must_use]
    pub fn occupied(&self, region: Region) -> u64 {
        self.index.lock().occupied(region)
    }

    /// Whether the index knows the block in the store region. Reads no disk: see [`Store::contains`].
    #[must_use]
    pub fn holds(&self, id: &BlockId) -> bool {
        self.index.holds(self.placer.place(id), Region::Store)
    }

    /// Moves a block from the store region to the cache, as its newest. Whether it was in the store region.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io). The block is then where it was.
    pub fn demote(&self, id: &BlockId) -> Result<bool> {
        let placement = self.placer.place(id);
        for (region, slot, entry) in self.index.find(placement) {
            if region != Region::Store {
                continue;
            }
            let Fetched::Block(block) = self.fetch(region, slot, entry)? else {
                continue;
            };
            if block.id() != *id {
                continue;
            }
            match self.put_beside(&block, Region::Cache, vec![(region, slot)])? {
                Put::Stored | Put::AlreadyStored | Put::Collision(_) => {}
                Put::Nearer => return Ok(false),
            }
            // Whoever writes there now has taken the slot anyway.
            if let Some(claim) = self.index.claim_if(region, slot, entry) {
                self.erase(claim)?;
            }
            return Ok(true);
        }
        Ok(false)
    }
}
