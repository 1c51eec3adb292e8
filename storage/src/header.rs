//! The header of a region file: a page that looks random and says how to read the rest (`storage-format §4`).
//!
//! Both region files carry it; either restores the other.

use std::io;

use warren_keys::labels;
use zeroize::Zeroizing;

use crate::geometry::{FORMAT_VERSION, Geometry, HEADER_LEN, Region, SLOT_LEN, WAYS};
use crate::master::MasterKey;
use crate::medium::Allocation;
use crate::random;
use crate::seal::{SALT_LEN, TAG_LEN, open_message, seal_message};

const PLAIN_LEN: usize = HEADER_LEN - SALT_LEN - TAG_LEN;

/// What a header says. The volume name is random, made once for both files; all keys of the datastore depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(crate) geometry: Geometry,
    pub(crate) volume: [u8; 32],
    /// How the space of the two files was obtained.
    pub(crate) allocation: [Allocation; 2],
}

/// Why a page is not a usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Does not authenticate: another key, another region, or damage.
    Unreadable,
    /// Authenticates, and has another format version or other slots.
    Version(u16),
}

impl Header {
    pub(crate) fn new(geometry: Geometry, allocation: [Allocation; 2]) -> io::Result<Self> {
        Ok(Self {
            geometry,
            volume: random::bytes32()?,
            allocation,
        })
    }

    /// The page to be written at the beginning of a region's file.
    pub(crate) fn seal(&self, master: &MasterKey, region: Region) -> io::Result<Vec<u8>> {
        self.seal_as(FORMAT_VERSION, master, region)
    }

    fn seal_as(&self, version: u16, master: &MasterKey, region: Region) -> io::Result<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_LEN));
        plain.extend_from_slice(&version.to_le_bytes());
        plain.extend(self.allocation.map(|a| u8::from(a == Allocation::Reserved)));
        plain.extend_from_slice(&slot_len_u32().to_le_bytes());
        plain.extend_from_slice(&WAYS.to_le_bytes());
        for region in Region::ALL {
            plain.extend_from_slice(&self.geometry.sets(region).to_le_bytes());
        }
        plain.extend_from_slice(&self.volume);
        plain.resize(PLAIN_LEN, 0);
        seal_message(
            &master.base_key(labels::STORAGE_HEADER),
            &[region.as_u8()],
            &plain,
        )
    }

    /// Reads the first [`HEADER_LEN`] bytes of a region's file.
    ///
    /// # Errors
    /// [`HeaderFault`], for whatever bytes.
    pub fn open(master: &MasterKey, region: Region, page: &[u8]) -> Result<Self, HeaderFault> {
        let plain = open_message(&master.base_key(labels::STORAGE_HEADER), &[region.as_u8()], page);
        let plain = plain.ok_or(HeaderFault::Unreadable)?;
        let (version, rest) = plain.split_first_chunk().ok_or(HeaderFault::Unreadable)?;
        let version = u16::from_le_bytes(*version);
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let (reserved, rest) = rest.split_first_chunk::<2>().ok_or(HeaderFault::Unreadable)?;
        let allocation = reserved.map(|r| {
            if r == 1 {
                Allocation::Reserved
            } else {
                Allocation::Sparse
            }
        });
        let rest = rest.first_chunk::<48>().ok_or(HeaderFault::Unreadable)?;
        let word = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        if (word(0), word(4)) != (slot_len_u32(), WAYS) {
            return Err(HeaderFault::Version(version));
        }
        let geometry = Geometry::from_sets(word(8), word(12)).ok_or(HeaderFault::Unreadable)?;
        let mut volume = [0; 32];
        volume.copy_from_slice(&rest[16..48]);
        Ok(Self {
            geometry,
            volume,
            allocation,
        })
    }
}

const fn slot_len_u32() -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a constant of 33,280")]
    let len = SLOT_LEN as u32;
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> MasterKey {
        MasterKey::from_bytes(Zeroizing::new([3; 32]))
    }

    fn header() -> Header {
        Header::new(
            Geometry::from_sets(5, 7).unwrap(),
            [Allocation::Reserved, Allocation::Sparse],
        )
        .unwrap()
    }

    #[test]
    fn round_trip_is_bound_to_region_and_key() {
        let header = header();
        let page = header.seal(&master(), Region::Store).unwrap();
        assert_eq!(page.len(), HEADER_LEN);
        assert_eq!(Header::open(&master(), Region::Store, &page).unwrap(), header);
        assert_eq!(
            Header::open(&master(), Region::Cache, &page),
            Err(HeaderFault::Unreadable)
        );
        let other = MasterKey::from_bytes(Zeroizing::new([4; 32]));
        assert_eq!(
            Header::open(&other, Region::Store, &page),
            Err(HeaderFault::Unreadable)
        );
    }

    #[test]
    fn another_version_is_named() {
        let page = header().seal_as(2, &master(), Region::Store).unwrap();
        assert_eq!(
            Header::open(&master(), Region::Store, &page),
            Err(HeaderFault::Version(2))
        );
    }

    #[test]
    fn blank_short_and_flipped_pages_do_not_open() {
        assert_eq!(
            Header::open(&master(), Region::Store, &[0; HEADER_LEN]),
            Err(HeaderFault::Unreadable)
        );
        assert_eq!(
            Header::open(&master(), Region::Store, &[1; 20]),
            Err(HeaderFault::Unreadable)
        );
        let page = header().seal(&master(), Region::Store).unwrap();
        for byte in (0..HEADER_LEN).step_by(61) {
            let mut bad = page.clone();
            bad[byte] ^= 0x10;
            assert_eq!(
                Header::open(&master(), Region::Store, &bad),
                Err(HeaderFault::Unreadable)
            );
        }
    }
}
