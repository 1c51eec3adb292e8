//! ChaCha20-Poly1305 and AES-256-GCM by *ring*'s assembly: what links and circuits of the daemon compute with.
//!
//! 2 to 6 times as fast as the pure-Rust [`Portable`](warren_proto::crypto::Portable), which it is checked against below.
//! *ring* does not wipe its expanded key when it is dropped; the callers wipe the key bytes that they pass in, and a
//! process's memory is outside of what Warren defends (threat model).

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use warren_proto::{
    crypto::{Aead, BadTag, Cipher},
    geometry::TAG_LEN,
};

/// An AEAD key in *ring*'s form.
pub struct RingAead {
    cipher: Cipher,
    key: LessSafeKey,
}

/// The cipher for records of links: AES where this processor has instructions for all of it. Without them it would be slower
/// than ChaCha20-Poly1305.
#[must_use]
pub fn best_cipher() -> Cipher {
    #[cfg(target_arch = "x86_64")]
    let hardware = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let hardware =
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let hardware = false;
    if hardware {
        Cipher::Aes256Gcm
    } else {
        Cipher::ChaCha20Poly1305
    }
}

impl RingAead {
    fn nonce(&self, counter: u64) -> Nonce {
        Nonce::assume_unique_for_key(self.cipher.nonce(counter))
    }
}

impl Aead for RingAead {
    fn with(cipher: Cipher, key: &[u8; 32]) -> Self {
        let algorithm = match cipher {
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Cipher::Aes256Gcm => &AES_256_GCM,
        };
        #[expect(
            clippy::expect_used,
            reason = "the only error is a key whose length is not 32 bytes"
        )]
        let key = UnboundKey::new(algorithm, key).expect("a 32-byte key");
        Self {
            cipher,
            key: LessSafeKey::new(key),
        }
    }

    fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        let Some(split) = buf.len().checked_sub(TAG_LEN) else {
            return;
        };
        let (text, tag) = buf.split_at_mut(split);
        match self
            .key
            .seal_in_place_separate_tag(self.nonce(counter), Aad::from(aad), text)
        {
            Ok(computed) => tag.copy_from_slice(computed.as_ref()),
            // Only for texts above 64 GiB, which no caller can have; never let plaintext out.
            Err(ring::error::Unspecified) => buf.fill(0),
        }
    }

    fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        if buf.len() < from.saturating_add(TAG_LEN) {
            return Err(BadTag);
        }
        let opened = self
            .key
            .open_within(self.nonce(counter), Aad::from(aad), buf, from..);
        opened
            .map(|text| text.len())
            .map_err(|ring::error::Unspecified| BadTag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_proto::crypto::Portable;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            aes in any::<bool>(),
            key in any::<[u8; 32]>(),
            counter in any::<u64>(),
            aad in proptest::collection::vec(any::<u8>(), 0..40),
            text in proptest::collection::vec(any::<u8>(), 0..6000),
            from in 0usize..70,
            flip in any::<proptest::sample::Index>(),
        ) {
            let cipher = if aes { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 };
            let (ring, portable) = (RingAead::with(cipher, &key), Portable::with(cipher, &key));
            let mut fast = text.clone();
            fast.resize(text.len() + TAG_LEN, 0);
            let mut reference = fast.clone();
            ring.seal(counter, &aad, &mut fast);
            portable.seal(counter, &aad, &mut reference);
            prop_assert_eq!(&fast, &reference);

            let mut shifted = vec![0xa5; from];
            shifted.extend_from_slice(&fast);
            let mut other = shifted.clone();
            prop_assert_eq!(ring.open(counter, &aad, &mut shifted, from), Ok(text.len()));
            prop_assert_eq!(&shifted[..text.len()], &text[..]);
            prop_assert_eq!(portable.open(counter, &aad, &mut other, from), Ok(text.len()));
            prop_assert_eq!(&other[..text.len()], &text[..]);

            let at = flip.index(fast.len());
            fast[at] ^= 1;
            let mut again = fast.clone();
            prop_assert_eq!(ring.open(counter, &aad, &mut fast, 0), Err(BadTag));
            prop_assert_eq!(portable.open(counter, &aad, &mut again, 0), Err(BadTag));
        }
    }

    #[test]
    fn conforms() {
        warren_proto::crypto::conformance::check::<RingAead>();
    }

    #[test]
    fn short_buffers_are_refused() {
        let key = RingAead::new(&[7; 32]);
        assert_eq!(key.open(0, &[], &mut [0; 20], 5), Err(BadTag));
        assert_eq!(key.open(0, &[], &mut [0; 20], 500), Err(BadTag));
        let mut short = [3; 15];
        key.seal(0, &[], &mut short);
        assert_eq!(short, [3; 15]);
    }
}
