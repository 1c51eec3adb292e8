//! The master key and everything that is derived from it.
//!
//! One random key of 32 bytes opens all that a node keeps on disk. It lives in the key file ([`crate::KeyFile`]) and
//! in memory; every use has its own subkey under a label of [`warren_keys::labels`], so that no file can be
//! taken for another. Destroying it destroys everything (`storage-format §10`).

use subtle::ConstantTimeEq;
use warren_keys::labels::Label;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::random;
use crate::seal::BaseKey;

/// The random key under which a node's storage is encrypted. Zeroized on drop, never printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// A fresh random key.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the operating system has no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random::bytes32().map_err(Error::io(
            "make a key with randomness from",
            "the operating system",
        ))?)))
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The subkey for `label`, for files that this crate does not write itself.
    #[must_use]
    pub fn subkey(&self, label: Label) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(label.derive(&[self.0.as_slice()]))
    }

    /// The subkey for `label` in the store that has this random name.
    pub(crate) fn volume_key(&self, label: Label, volume: &[u8; 32]) -> BaseKey {
        BaseKey::new(Zeroizing::new(label.derive(&[self.0.as_slice(), volume])))
    }

    pub(crate) fn base_key(&self, label: Label) -> BaseKey {
        BaseKey::new(self.subkey(label))
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for MasterKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_keys::labels;

    #[test]
    fn every_use_has_its_own_key() {
        let a = MasterKey::from_bytes(Zeroizing::new([1; 32]));
        let b = MasterKey::from_bytes(Zeroizing::new([2; 32]));
        let mut keys = vec![
            *a.subkey(labels::STORAGE_HEADER),
            *a.subkey(labels::STORAGE_STATE),
            *b.subkey(labels::STORAGE_STATE),
            *a.volume_key(labels::STORAGE_SLOT, &[1; 32]).bytes(),
            *a.volume_key(labels::STORAGE_SLOT, &[2; 32]).bytes(),
            *a.volume_key(labels::STORAGE_INDEX, &[1; 32]).bytes(),
        ];
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 6);
    }
}
