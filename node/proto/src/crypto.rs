//! The one AEAD interface: links and onion layers call it, the driver chooses who computes it.
//!
//! All implementations compute ChaCha20-Poly1305 (RFC 8439) and are interchangeable on the wire. The daemon brings one
//! backed by assembly; [`Portable`] is the pure-Rust reference that it is checked against.

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
}

/// The sealed bytes were changed, or belong to another key, nonce or place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("authentication tag does not match")]
pub struct BadTag;
