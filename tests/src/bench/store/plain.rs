//! The least that any encrypted store must do: seal or open, and one `pwrite` or `pread` at a place that follows from the number.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use bytes::{Bytes, BytesMut};
use ring::aead::CHACHA20_POLY1305;
use warren_keys::BLOCK_SIZE;
use warren_storage::SLOT_LEN;

use super::{Contender, Name, Seal};

/// Slots for a block: the datastore has as many more, so that hardly any set overflows.
const SPARE: f64 = 1.25;

pub(super) struct Plain {
    file: File,
    slots: u64,
    seal: Seal,
    slot: Vec<u8>,
}

impl Plain {
    /// The same scatter as the hashed slots of the datastore.
    fn offset(&self, name: &Name) -> u64 {
        name.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.slots * SLOT_LEN as u64
    }
}

impl Contender for Plain {
    const NAME: &'static str = "plain";
    const MISSES: bool = false;

    fn open(folder: &Path, blocks: u64) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("blocks"))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "hundreds of thousands"
        )]
        // A power of two, which an odd factor permutes: no two blocks share a slot.
        let slots = ((blocks as f64 * SPARE) as u64).next_power_of_two();
        file.set_len(slots * SLOT_LEN as u64)?;
        Ok(Self {
            file,
            slots,
            seal: Seal::new()?,
            slot: vec![0; SLOT_LEN],
        })
    }

    fn put(&mut self, name: &Name, block: &Bytes) -> anyhow::Result<()> {
        let at = SLOT_LEN - CHACHA20_POLY1305.tag_len() - BLOCK_SIZE;
        self.slot[at..at + BLOCK_SIZE].copy_from_slice(block);
        self.seal.seal(name.number, &mut self.slot)?;
        self.file.write_all_at(&self.slot, self.offset(name))?;
        Ok(())
    }

    fn get(&mut self, name: &Name) -> anyhow::Result<bool> {
        // As the datastore: the caller keeps the block.
        let mut slot = BytesMut::zeroed(SLOT_LEN);
        self.file.read_exact_at(&mut slot, self.offset(name))?;
        Ok(self.seal.open(name.number, &mut slot))
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        Ok(self.file.sync_data()?)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
