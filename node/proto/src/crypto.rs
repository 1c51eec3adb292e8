//! The one AEAD interface: links and onion layers call it, the driver chooses who computes it.
//!
//! All implementations compute ChaCha20-Poly1305 (RFC 8439) and are interchangeable on the wire. The daemon brings one
//! backed by assembly; [`Portable`] is the pure-Rust reference that it is checked against, with
//! [`conformance::check`].
//!
//! Key agreement is not here: X25519 has one implementation, and its callers use it directly.

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{AeadInOut, inout::InOutBuf},
};
use zeroize::Zeroizing;

use crate::geometry::TAG_LEN;

pub mod conformance;

/// An AEAD key whose nonces are counters: 4 zero bytes followed by the counter as 8 bytes little-endian (Noise §12).
pub trait Aead: Send + 'static {
    /// Sets up the cipher for a key. The caller keeps and zeroizes its own copy of the key bytes.
    fn new(key: &[u8; 32]) -> Self;

    /// Encrypts `buf[..len - 16]` in place and writes the tag to the last 16 bytes.
    ///
    /// A `buf` shorter than a tag is left alone.
    fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]);

    /// Opens ciphertext and tag that start at `from` in `buf` and end with it; the plaintext is moved to the start of `buf`
    /// and its length returned. Contents of `buf` are unspecified after an error.
    ///
    /// # Errors
    /// [`BadTag`] when the bytes were not sealed under this key, nonce and associated data, or are shorter than a tag.
    fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag>;

    /// The key that follows this one: `REKEY` of Noise §4.2, the first 32 bytes of zeros sealed under the largest nonce.
    #[must_use]
    fn next_key(&self) -> Zeroizing<[u8; 32]> {
        let mut sealed = Zeroizing::new([0; 32 + TAG_LEN]);
        self.seal(u64::MAX, &[], &mut *sealed);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&sealed[..32]);
        key
    }
}

/// The sealed bytes were changed, or belong to another key, nonce or place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("authentication tag does not match")]
pub struct BadTag;

/// ChaCha20-Poly1305 in pure Rust; its key is zeroized on drop.
pub struct Portable(ChaCha20Poly1305);

impl Aead for Portable {
    fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]) {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        if let Ok(made) = self
            .0
            .encrypt_inout_detached(&nonce_bytes(nonce).into(), aad, InOutBuf::from(text))
        {
            tag.copy_from_slice(&made);
        }
    }

    fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        let sealed = buf.get_mut(from..).ok_or(BadTag)?;
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(BadTag)?;
        let len = text.len();
        let tag = (*tag).into();
        self.0
            .decrypt_inout_detached(&nonce_bytes(nonce).into(), aad, InOutBuf::from(text), &tag)
            .map_err(|_| BadTag)?;
        buf.copy_within(from..from + len, 0);
        Ok(len)
    }
}

/// The 12 bytes of nonce number `counter`, for implementations of [`Aead`].
#[must_use]
pub fn nonce_bytes(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_conforms() {
        conformance::check::<Portable>();
    }

    #[test]
    #[should_panic(expected = "RFC 8439")]
    fn a_wrong_cipher_does_not_conform() {
        struct OtherNonce(Portable);
        impl Aead for OtherNonce {
            fn new(key: &[u8; 32]) -> Self {
                Self(Portable::new(key))
            }
            fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]) {
                self.0.seal(nonce.swap_bytes(), aad, buf);
            }
            fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
                self.0.open(nonce.swap_bytes(), aad, buf, from)
            }
        }
        conformance::check::<OtherNonce>();
    }

    #[test]
    fn sealing_less_than_a_tag_changes_nothing() {
        let mut short = [7; TAG_LEN - 1];
        Portable::new(&[1; 32]).seal(0, &[], &mut short);
        assert_eq!(short, [7; TAG_LEN - 1]);
    }
}
