//! Rules for Ed25519 public keys from outside (`keys §2.2`).
//!
//! Invariant: what passes here is the one encoding of a point that is not of small order; publisher keys are free
//! of torsion as well, so that every blinded key is again in the prime-order group.

use core::fmt;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::VerifyingKey;

/// 32 bytes that are not an acceptable Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a valid Ed25519 public key")]
pub struct InvalidPublicKey;

/// Decodes a key strictly: canonical encoding, on the curve, not of small order.
pub(crate) fn strict(bytes: &[u8; 32]) -> Result<VerifyingKey, InvalidPublicKey> {
    let key = if is_canonical(bytes) {
        VerifyingKey::from_bytes(bytes).ok()
    } else {
        None
    };
    key.filter(|key| !key.is_weak()).ok_or(InvalidPublicKey)
}

/// Whether the y coordinate is below the field's prime 2^255 − 19. (The other non-canonical encodings, x = 0 with
/// its sign set, are of small order.)
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *first < 0xed
}

/// The public key of an SSK or USK: strict and free of torsion.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublisherKey {
    bytes: [u8; 32],
    point: EdwardsPoint,
}

impl PublisherKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// Not canonical, not a point, or outside the prime-order group.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidPublicKey> {
        strict(bytes)?;
        let point = CompressedEdwardsY(*bytes).decompress().ok_or(InvalidPublicKey)?;
        if !point.is_torsion_free() {
            return Err(InvalidPublicKey);
        }
        Ok(Self { bytes: *bytes, point })
    }

    /// The key of a seed.
    pub(crate) fn of_signing_key(key: &ed25519_dalek::SigningKey) -> Self {
        let key = key.verifying_key();
        Self {
            bytes: key.to_bytes(),
            point: key.to_edwards(),
        }
    }

    /// Its encoding.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The encoding of `factor` times this key.
    pub(crate) fn blinded(&self, factor: &Scalar) -> [u8; 32] {
        (factor * self.point).compress().to_bytes()
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublisherKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    #[test]
    fn small_order_is_refused() {
        for point in EIGHT_TORSION {
            assert_eq!(strict(&point.compress().to_bytes()).err(), Some(InvalidPublicKey));
        }
    }

    #[test]
    fn torsion_is_refused_in_publishers() {
        assert!(PublisherKey::from_bytes(&ED25519_BASEPOINT_POINT.compress().to_bytes()).is_ok());
        let mixed = (ED25519_BASEPOINT_POINT + EIGHT_TORSION[1]).compress().to_bytes();
        assert!(strict(&mixed).is_ok());
        assert_eq!(PublisherKey::from_bytes(&mixed), Err(InvalidPublicKey));
    }

    #[test]
    fn other_encodings_are_refused() {
        // y = p + y0 for every y0 below 19, both signs: each is a second encoding of a small y.
        for low in 0xed..=0xff {
            for sign in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, sign);
                assert!(!is_canonical(&bytes));
                assert_eq!(strict(&bytes).err(), Some(InvalidPublicKey));
            }
        }
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xec, 0x7f);
        assert!(is_canonical(&largest));
        assert!(is_canonical(&[0; 32]));
    }
}
