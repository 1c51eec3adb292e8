//! The one AEAD interface: links and onion layers call it, the driver chooses who computes it.
//!
//! All implementations compute ChaCha20-Poly1305 (RFC 8439) and AES-256-GCM (NIST SP 800-38D) and are interchangeable on the
//! wire. The daemon brings one backed by assembly; [`Portable`] is the pure-Rust reference that it is checked against, with
//! [`conformance::check`].
//!
//! Everything is sealed with ChaCha20-Poly1305, except records of links whose ends both have AES in hardware (protocol §4.1).
//!
//! Key agreement is not here: X25519 has one implementation, and its callers use it directly.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{AeadInOut, inout::InOutBuf},
};
use zeroize::Zeroizing;

use crate::geometry::TAG_LEN;

pub mod conformance;

/// What an [`Aead`] computes. All have keys of 32 bytes, nonces of 12 and tags of 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// RFC 8439.
    ChaCha20Poly1305,
    /// NIST SP 800-38D. Several times as fast where the processor has AES instructions, slow or leaky in time where not.
    Aes256Gcm,
}

impl Cipher {
    /// The 12 bytes of nonce number `counter`: 4 zero bytes, and the counter in the byte order that Noise §12 has for the
    /// cipher.
    #[must_use]
    pub fn nonce(self, counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&match self {
            Self::ChaCha20Poly1305 => counter.to_le_bytes(),
            Self::Aes256Gcm => counter.to_be_bytes(),
        });
        nonce
    }
}

/// An AEAD key whose nonces are counters ([`Cipher::nonce`]).
pub trait Aead: Send + Sized + 'static {
    /// Sets up a cipher for a key. The caller keeps and zeroizes its own copy of the key bytes.
    fn with(cipher: Cipher, key: &[u8; 32]) -> Self;

    /// ChaCha20-Poly1305 with a key.
    #[must_use]
    fn new(key: &[u8; 32]) -> Self {
        Self::with(Cipher::ChaCha20Poly1305, key)
    }

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

/// The ciphers in pure Rust; the key is zeroized on drop.
pub struct Portable(Key);

enum Key {
    ChaCha20Poly1305(ChaCha20Poly1305),
    Aes256Gcm(Box<Aes256Gcm>),
}

impl Aead for Portable {
    fn with(cipher: Cipher, key: &[u8; 32]) -> Self {
        Self(match cipher {
            Cipher::ChaCha20Poly1305 => Key::ChaCha20Poly1305(ChaCha20Poly1305::new(key.into())),
            Cipher::Aes256Gcm => Key::Aes256Gcm(Box::new(Aes256Gcm::new(key.into()))),
        })
    }

    fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]) {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        let text = InOutBuf::from(text);
        let made = match &self.0 {
            Key::ChaCha20Poly1305(key) => {
                let nonce = Cipher::ChaCha20Poly1305.nonce(nonce).into();
                key.encrypt_inout_detached(&nonce, aad, text)
            }
            Key::Aes256Gcm(key) => {
                let nonce = Cipher::Aes256Gcm.nonce(nonce).into();
                key.encrypt_inout_detached(&nonce, aad, text)
            }
        };
        if let Ok(made) = made {
            tag.copy_from_slice(&made);
        }
    }

    fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        let sealed = buf.get_mut(from..).ok_or(BadTag)?;
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(BadTag)?;
        let len = text.len();
        let tag = (*tag).into();
        let text = InOutBuf::from(text);
        match &self.0 {
            Key::ChaCha20Poly1305(key) => {
                let nonce = Cipher::ChaCha20Poly1305.nonce(nonce).into();
                key.decrypt_inout_detached(&nonce, aad, text, &tag)
            }
            Key::Aes256Gcm(key) => {
                let nonce = Cipher::Aes256Gcm.nonce(nonce).into();
                key.decrypt_inout_detached(&nonce, aad, text, &tag)
            }
        }
        .map_err(|_| BadTag)?;
        buf.copy_within(from..from + len, 0);
        Ok(len)
    }
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
            fn with(cipher: Cipher, key: &[u8; 32]) -> Self {
                Self(Portable::with(cipher, key))
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
