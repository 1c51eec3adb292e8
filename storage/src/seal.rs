//! The one place that encrypts: ChaCha20-Poly1305 (RFC 8439) under keys that are never used for two messages with the
//! same nonce (`storage-format §2`).
//!
//! A [`Sealer`] is made from a base key and a fresh 256-bit random salt; its key is `BLAKE3-keyed(base, salt)`. Two
//! sealers collide only if two salts do: after 2^64 of them with probability below 2^-128. Inside one sealer the caller
//! counts nonces.
//!
//! Deliberately not here: streaming, key storage, any choice of cipher. The cipher's key schedule lives in `ring`, which
//! does not zeroize it; base keys, from which it comes, are zeroized by their owners.

use std::io;

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher, StreamCipherSeek},
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::random;

/// Bytes of salt before a sealed message.
pub(crate) const SALT_LEN: usize = 32;
/// Bytes of the authentication tag after a sealed message.
pub(crate) const TAG_LEN: usize = 16;

/// A 32-byte secret from which sealing keys are derived. Zeroized on drop; never printed.
#[derive(Clone)]
pub(crate) struct BaseKey(Zeroizing<[u8; 32]>);

impl BaseKey {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key below this one for `context`: 32 public bytes.
    pub(crate) fn derive(&self, context: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*blake3::keyed_hash(&self.0, context).as_bytes()))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An AEAD key for one salt; the nonces are counted by the caller.
pub(crate) struct Sealer(LessSafeKey);

impl Sealer {
    pub(crate) fn new(base: &BaseKey, salt: &[u8; SALT_LEN]) -> Self {
        let key = base.derive(salt);
        #[expect(
            clippy::expect_used,
            reason = "fails only for a key that is not 32 bytes long"
        )]
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes()).expect("32-byte key");
        Self(LessSafeKey::new(key))
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `data` in place and gives the tag. `counter` must be new for this sealer.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        #[expect(
            clippy::expect_used,
            reason = "fails only above 256 GiB, and no buffer here is larger than 16 MiB"
        )]
        let tag = self
            .0
            .seal_in_place_separate_tag(Self::nonce(counter), Aad::from(aad), data)
            .expect("message within the cipher's bound");
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Decrypts `data`, which ends with the tag, in place. `None` if it does not authenticate.
    pub(crate) fn open<'a>(&self, counter: u64, aad: &[u8], data: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0
            .open_in_place(Self::nonce(counter), Aad::from(aad), data)
            .ok()
    }
}

/// Decrypts the first bytes of message 0 under `salt` in place, *without authenticating them*: the tag covers the whole message.
/// Only for what is checked by other means.
pub(crate) fn peek_front(base: &BaseKey, salt: &[u8; SALT_LEN], front: &mut [u8]) {
    let key = base.derive(salt);
    let mut cipher = ChaCha20::new(key.bytes().into(), &[0; 12].into());
    // RFC 8439 §2.8: block 0 of the key stream is the authenticator's key.
    cipher.seek(64_u32);
    cipher.apply_keystream(front);
}

/// `salt ‖ AEAD(plaintext) ‖ tag`: a whole small message under a fresh salt.
pub(crate) fn seal_message(base: &BaseKey, aad: &[u8], plaintext: &[u8]) -> io::Result<Vec<u8>> {
    let salt = random::bytes32()?;
    let mut out = Vec::with_capacity(SALT_LEN + plaintext.len() + TAG_LEN);
    out.extend_from_slice(&salt);
    out.extend_from_slice(plaintext);
    let tag = Sealer::new(base, &salt).seal(0, aad, &mut out[SALT_LEN..]);
    out.extend_from_slice(&tag);
    Ok(out)
}

/// The plaintext of [`seal_message`]; `None` if it does not authenticate.
pub(crate) fn open_message(base: &BaseKey, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_LEN>()?;
    let mut data = Zeroizing::new(rest.to_vec());
    let len = Sealer::new(base, salt).open(0, aad, &mut data)?.len();
    data.truncate(len);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(byte: u8) -> BaseKey {
        BaseKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn round_trip_and_every_input_matters() {
        let sealed = seal_message(&base(1), b"name", b"content").unwrap();
        assert_eq!(
            open_message(&base(1), b"name", &sealed).unwrap().as_slice(),
            b"content"
        );
        assert!(open_message(&base(2), b"name", &sealed).is_none());
        assert!(open_message(&base(1), b"other", &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_message(&base(1), b"name", &bad).is_none());
        }
        for len in 0..sealed.len() {
            assert!(open_message(&base(1), b"name", &sealed[..len]).is_none());
        }
    }

    #[test]
    fn one_plaintext_never_gives_one_ciphertext() {
        let a = seal_message(&base(1), b"", &[0; 64]).unwrap();
        let b = seal_message(&base(1), b"", &[0; 64]).unwrap();
        assert_ne!(a[..32], b[..32]);
        assert_ne!(a[32..], b[32..]);
    }

    /// RFC 8439 §2.8.2 has a 12-byte nonce that a counter cannot reach, so the reference is an independent derivation:
    /// the all-zero message under a known key equals the raw ChaCha20 key stream, block 1 (RFC 8439 A.1 vector #2).
    #[test]
    fn cipher_is_chacha20_poly1305() {
        let zero = UnboundKey::new(&CHACHA20_POLY1305, &[0; 32]).unwrap();
        let mut data = [0; 8];
        Sealer(LessSafeKey::new(zero)).seal(0, b"", &mut data);
        assert_eq!(data, [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
    }
}
