//! A slot: one block, sealed so that it authenticates itself and its place (`storage-format §5`).
//!
//! `salt[32] ‖ AEAD(head[464] ‖ block[32768]) ‖ tag[16]`, region and slot number as associated data, under a key of its
//! own per write. Whatever else is found in a slot (zeros, noise, half a write, a slot copied from elsewhere)
//! does not open and counts as no block.

use std::io;

use warren_keys::{BLOCK_SIZE, BlockId, BlockKind, RoutingKey, labels};

use crate::geometry::{BLOCK_AT, HEAD_LEN, Region, SLOT_LEN, Slot};
use crate::master::MasterKey;
use crate::random;
use crate::seal::{BaseKey, SALT_LEN, Sealer, TAG_LEN, peek_front};

/// What the head of a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHead {
    /// Which block it is.
    pub id: BlockId,
    /// The number of the put that wrote it, growing over the life of the datastore.
    pub stamp: u64,
}

/// Bytes at the front of a slot that say which block it holds: salt, and head up to the routing key.
pub(crate) const PEEK_LEN: usize = SALT_LEN + 48;

/// Seals and opens the slots of one datastore.
pub struct SlotCipher(BaseKey);

impl SlotCipher {
    /// The cipher for the datastore with this volume name.
    #[must_use]
    pub fn new(master: &MasterKey, volume: &[u8; 32]) -> Self {
        Self(master.volume_key(labels::STORAGE_SLOT, volume))
    }

    /// Fills `buf` with the sealed slot.
    ///
    /// # Errors
    /// The system's, if it has no randomness to give.
    pub fn seal(
        &self,
        region: Region,
        slot: Slot,
        head: SlotHead,
        block: &[u8; BLOCK_SIZE],
        buf: &mut [u8; SLOT_LEN],
    ) -> io::Result<()> {
        let salt = random::bytes32()?;
        buf[..SALT_LEN].copy_from_slice(&salt);
        let plain = &mut buf[SALT_LEN..SALT_LEN + HEAD_LEN];
        plain.fill(0);
        plain[0] = head.id.kind.as_u8();
        plain[8..16].copy_from_slice(&head.stamp.to_le_bytes());
        plain[16..48].copy_from_slice(head.id.key.as_bytes());
        buf[BLOCK_AT..BLOCK_AT + BLOCK_SIZE].copy_from_slice(block);
        let end = SLOT_LEN - TAG_LEN;
        let tag = Sealer::new(&self.0, &salt).seal(0, &place(region, slot), &mut buf[SALT_LEN..end]);
        buf[end..].copy_from_slice(&tag);
        Ok(())
    }

    /// Decrypts a slot in place; the block is then in [`block_range`]. `None` if it does not authenticate in this place.
    pub fn open(&self, region: Region, slot: Slot, buf: &mut [u8]) -> Option<SlotHead> {
        if buf.len() != SLOT_LEN {
            return None;
        }
        let (salt, sealed) = buf.split_first_chunk_mut::<SALT_LEN>()?;
        // Most slots that do not open were never written.
        if *salt == [0; SALT_LEN] {
            return None;
        }
        let plain = Sealer::new(&self.0, salt).open(0, &place(region, slot), sealed)?;
        parse_head(plain.get(..HEAD_LEN)?)
    }

    /// What the front of a slot says, *not authenticated*: for a caller that has a keyed hash of the id to compare with.
    pub(crate) fn peek(&self, front: &[u8; PEEK_LEN]) -> Option<BlockId> {
        let (salt, sealed) = front.split_first_chunk::<SALT_LEN>()?;
        if *salt == [0; SALT_LEN] {
            return None;
        }
        let mut plain: [u8; PEEK_LEN - SALT_LEN] = sealed.try_into().ok()?;
        peek_front(&self.0, salt, &mut plain);
        parse_head(&plain).map(|head| head.id)
    }
}

/// Where an opened slot has its block.
#[must_use]
pub fn block_range() -> std::ops::Range<usize> {
    BLOCK_AT..BLOCK_AT + BLOCK_SIZE
}

fn parse_head(head: &[u8]) -> Option<SlotHead> {
    let kind = BlockKind::from_u8(*head.first()?)?;
    let (stamp, key) = (head.get(8..16)?.first_chunk()?, head.get(16..48)?.first_chunk()?);
    let id = BlockId {
        kind,
        key: RoutingKey::from_bytes(*key),
    };
    Some(SlotHead {
        id,
        stamp: u64::from_le_bytes(*stamp),
    })
}

fn place(region: Region, slot: Slot) -> [u8; 5] {
    let [a, b, c, d] = slot.number().to_le_bytes();
    [region.as_u8(), a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn cipher() -> SlotCipher {
        SlotCipher::new(&MasterKey::from_bytes(Zeroizing::new([3; 32])), &[9; 32])
    }

    fn head() -> SlotHead {
        SlotHead {
            id: BlockId::signed(RoutingKey::from_bytes([0x5a; 32])),
            stamp: 77,
        }
    }

    fn sealed() -> [u8; SLOT_LEN] {
        let mut buf = [0; SLOT_LEN];
        cipher()
            .seal(Region::Store, Slot::new(4), head(), &[0xa5; BLOCK_SIZE], &mut buf)
            .unwrap();
        buf
    }

    #[test]
    fn round_trip_only_in_its_own_place() {
        let good = sealed();
        let mut buf = good;
        assert_eq!(cipher().open(Region::Store, Slot::new(4), &mut buf), Some(head()));
        assert_eq!(buf[block_range()], [0xa5; BLOCK_SIZE]);
        for (region, slot) in [(Region::Cache, 4), (Region::Store, 5), (Region::Store, 0)] {
            assert_eq!(cipher().open(region, Slot::new(slot), &mut good.clone()), None);
        }
    }

    #[test]
    fn nothing_recognisable_is_in_a_sealed_slot() {
        let bytes = sealed();
        assert!(
            bytes
                .windows(8)
                .all(|w| w != [0x5a; 8] && w != [0xa5; 8] && w != [0; 8])
        );
        assert_ne!(bytes, sealed(), "the same put never gives the same bytes");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn flipped_torn_and_cut_slots_do_not_open(bit in 0..SLOT_LEN * 8, cut in 0..SLOT_LEN) {
            let mut flipped = sealed();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(cipher().open(Region::Store, Slot::new(4), &mut flipped), None);
            let (mut torn, other) = (sealed(), sealed());
            let same = torn[..cut] == other[..cut];
            torn[..cut].copy_from_slice(&other[..cut]);
            prop_assert_eq!(cipher().open(Region::Store, Slot::new(4), &mut torn).is_some(), same);
            prop_assert_eq!(cipher().open(Region::Store, Slot::new(4), &mut sealed()[..cut]), None);
        }

        #[test]
        fn any_bytes_are_no_block(mut bytes in prop::collection::vec(any::<u8>(), 0..100), pad: bool) {
            if pad { bytes.resize(SLOT_LEN, 1); }
            prop_assert_eq!(cipher().open(Region::Store, Slot::new(0), &mut bytes), None);
        }
    }
}
