//! The table of every domain-separation label of the project.
//!
//! A label is a BLAKE3 `derive_key` context string. Everything that is hashed, derived or signed anywhere in Warren
//! goes through one label of this table, so that no output of one use can stand in for another (`keys §2`).
//!
//! Invariants: labels are unique and end in a version; a changed format takes a new label, never an old one with
//! another meaning. This module deliberately knows nothing of the formats that use the labels.

use zeroize::{Zeroize, Zeroizing};

/// One domain-separation label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(&'static str);

impl Label {
    /// The context string.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// A BLAKE3 `derive_key` hasher under this label.
    pub fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_derive_key(self.0)
    }

    /// 32 bytes derived from the concatenation of `parts`.
    ///
    /// Parts are not delimited: all but the last must have a fixed length.
    pub fn derive(self, parts: &[&[u8]]) -> [u8; 32] {
        let mut out = [0; 32];
        self.derive_into(parts, &mut out);
        out
    }

    /// As [`Label::derive`], for a secret.
    pub fn derive_secret(self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        self.derive_into(parts, &mut *out);
        out
    }

    /// Fills `out` (any length) from the concatenation of `parts`; see [`Label::derive`].
    pub fn derive_into(self, parts: &[&[u8]], out: &mut [u8]) {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        let mut reader = hasher.finalize_xof();
        reader.fill(out);
        reader.zeroize();
        hasher.zeroize();
    }
}

/// Node location on the ring, from the identity key.
pub const NODE_LOCATION: Label = Label("warren keys: node location v1");

/// Routing key of a signed block, from its (blinded) public key.
pub const SIGNED_ROUTING: Label = Label("warren keys: signed block routing v1");
/// Prehash of a signed block's SIV and ciphertext; the thing that is signed.
pub const SIGNED_MESSAGE: Label = Label("warren keys: signed block message v1");
/// Secret of one document, from public key, crypto key and name.
pub const DOCUMENT_SECRET: Label = Label("warren keys: document secret v1");
/// Blinding factor of one document.
pub const DOCUMENT_BLINDING: Label = Label("warren keys: document blinding v1");
/// Nonce secret of a blinded signing key.
pub const DOCUMENT_NONCE: Label = Label("warren keys: document nonce secret v1");
/// Key of the hash that makes a signed block's SIV.
pub const DOCUMENT_SIV: Label = Label("warren keys: document siv key v1");
/// Cipher key of one content of one document.
pub const DOCUMENT_CIPHER: Label = Label("warren keys: document cipher key v1");

/// Signing seed of a KSK.
pub const KSK_SEED: Label = Label("warren keys: ksk signing seed v1");
/// Crypto key of a KSK.
pub const KSK_CRYPTO: Label = Label("warren keys: ksk crypto key v1");

/// Crypto key of a reproducible CHK root.
pub const CHK_REPRODUCIBLE: Label = Label("warren keys: chk key reproducible v1");
/// Crypto key of an unpredictable CHK root.
pub const CHK_UNPREDICTABLE: Label = Label("warren keys: chk key unpredictable v1");
/// Signing seed of the extra copies of a CHK root.
pub const CHK_COPY_SEED: Label = Label("warren keys: chk root copy seed v1");
/// Document secret of the extra copies of a CHK root.
pub const CHK_COPY_SECRET: Label = Label("warren keys: chk root copy secret v1");
/// Signing seed of the extra copies of a signed root.
pub const DOCUMENT_COPY_SEED: Label = Label("warren keys: document root copy seed v1");
/// Document secret of the extra copies of a signed root.
pub const DOCUMENT_COPY_SECRET: Label = Label("warren keys: document root copy secret v1");

/// File key of a reproducible splitfile.
pub const FILE_REPRODUCIBLE: Label = Label("warren keys: file key reproducible v1");
/// File key of an unpredictable splitfile.
pub const FILE_UNPREDICTABLE: Label = Label("warren keys: file key unpredictable v1");

/// What stands for a network in hashes and signatures, from its name.
pub const NETWORK: Label = Label("warren proto: network v1");
/// Signature of a node descriptor.
pub const DESCRIPTOR: Label = Label("warren proto: descriptor v1");
/// Seed of a node's static link key, from its identity.
pub const LINK_KEY: Label = Label("warren proto: link key v1");
/// Seed of a node's onion key, from its identity.
pub const ONION_KEY: Label = Label("warren proto: onion key v1");
/// Mask over the ephemeral keys of a link handshake.
pub const LINK_MASK: Label = Label("warren proto: link handshake mask v1");
/// Padding of the messages of a link handshake.
pub const LINK_PADDING: Label = Label("warren proto: link handshake padding v1");
/// Key of a circuit's hop for packets from the client.
pub const CIRCUIT_FORWARD: Label = Label("warren proto: circuit forward key v1");
/// Key of a circuit's hop for packets to the client.
pub const CIRCUIT_BACKWARD: Label = Label("warren proto: circuit backward key v1");
/// Proof of a relay that it holds its onion key.
pub const CIRCUIT_AUTH: Label = Label("warren proto: circuit relay proof v1");

/// Key of the headers of a datastore's files.
pub const STORAGE_HEADER: Label = Label("warren storage: region header v1");
/// Key of a datastore's slots.
pub const STORAGE_SLOT: Label = Label("warren storage: slot v1");
/// Key of the hash that turns routing keys into places in a datastore.
pub const STORAGE_PLACE: Label = Label("warren storage: placement v1");
/// Key of a datastore's index snapshot.
pub const STORAGE_INDEX: Label = Label("warren storage: index snapshot v1");
/// Key of a datastore's journal.
pub const STORAGE_JOURNAL: Label = Label("warren storage: journal v1");
/// Key of sealed state files.
pub const STORAGE_STATE: Label = Label("warren storage: state file v1");
/// Check value of a plain key file.
pub const STORAGE_KEY_CHECK: Label = Label("warren storage: key file check v1");

/// Every label; a new one goes here too (a test compares).
pub const ALL: &[Label] = &[
    NODE_LOCATION,
    SIGNED_ROUTING,
    SIGNED_MESSAGE,
    DOCUMENT_SECRET,
    DOCUMENT_BLINDING,
    DOCUMENT_NONCE,
    DOCUMENT_SIV,
    DOCUMENT_CIPHER,
    KSK_SEED,
    KSK_CRYPTO,
    CHK_REPRODUCIBLE,
    CHK_UNPREDICTABLE,
    CHK_COPY_SEED,
    CHK_COPY_SECRET,
    DOCUMENT_COPY_SEED,
    DOCUMENT_COPY_SECRET,
    FILE_REPRODUCIBLE,
    FILE_UNPREDICTABLE,
    NETWORK,
    DESCRIPTOR,
    LINK_KEY,
    ONION_KEY,
    LINK_MASK,
    LINK_PADDING,
    STORAGE_HEADER,
    STORAGE_SLOT,
    STORAGE_PLACE,
    STORAGE_INDEX,
    STORAGE_JOURNAL,
    STORAGE_STATE,
    STORAGE_KEY_CHECK,
    CIRCUIT_FORWARD,
    CIRCUIT_BACKWARD,
    CIRCUIT_AUTH,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_complete_and_unique() {
        let declared = include_str!("labels.rs")
            .lines()
            .filter(|line| line.starts_with("pub const ") && line.contains(": Label ="))
            .count();
        assert_eq!(declared, ALL.len(), "a label is missing from ALL");
        let unique: BTreeSet<_> = ALL.iter().map(|label| label.as_str()).collect();
        assert_eq!(unique.len(), ALL.len(), "two labels are equal");
        for label in ALL {
            assert!(label.as_str().starts_with("warren "), "{label:?}");
            let version = label.as_str().rsplit(' ').next().unwrap();
            assert!(
                version
                    .strip_prefix('v')
                    .is_some_and(|n| n.parse::<u32>().is_ok()),
                "{label:?}"
            );
        }
    }

    #[test]
    fn parts_are_concatenated() {
        assert_eq!(KSK_SEED.derive(&[b"ab", b"c"]), KSK_SEED.derive(&[b"abc"]));
        assert_ne!(KSK_SEED.derive(&[b"abc"]), KSK_CRYPTO.derive(&[b"abc"]));
    }
}
