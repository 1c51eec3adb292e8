//! ChaCha20 under a key that is used once, so the nonce is zero (`keys §4.1`).

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Encrypts or decrypts in place.
pub(crate) fn apply(key: &[u8; 32], data: &mut [u8]) {
    ChaCha20::new(key.into(), &[0; 12].into()).apply_keystream(data);
}

/// Encrypts or decrypts `from` into `to`; both have one length.
pub(crate) fn apply_into(key: &[u8; 32], from: &[u8], to: &mut [u8]) {
    debug_assert_eq!(from.len(), to.len());
    to.copy_from_slice(from);
    apply(key, to);
}
