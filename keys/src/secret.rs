//! Secret values of 32 bytes: zeroized on drop, no readable `Debug`, compared in constant time.
//!
//! Deliberately no `Display`, no serde and no `Copy`: a secret leaves its type only through a call whose name
//! starts with `expose`, which a reader of the code can search for.

use core::fmt;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The key that opens what a URI names; second part of a CHK, SSK or USK.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CryptoKey([u8; 32]);

impl CryptoKey {
    /// Takes the 32 bytes as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A random key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(random(rng))
    }

    /// The secret bytes.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Randomness that makes an insert unpredictable, or the secret half of a signing key.
///
/// Not `Clone`: what takes a seed by value takes it for one use.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes the 32 bytes as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A random seed.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(random(rng))
    }

    /// The secret bytes.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

impl PartialEq for CryptoKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for CryptoKey {}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Seed {}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CryptoKey(..)")
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_says_nothing() {
        assert_eq!(
            format!(
                "{:?} {:?}",
                CryptoKey::from_bytes([7; 32]),
                Seed::from_bytes([7; 32])
            ),
            "CryptoKey(..) Seed(..)"
        );
    }

    #[test]
    fn equality() {
        let mut other = [7; 32];
        other[31] = 8;
        assert_eq!(CryptoKey::from_bytes([7; 32]), CryptoKey::from_bytes([7; 32]));
        assert_ne!(CryptoKey::from_bytes([7; 32]), CryptoKey::from_bytes(other));
    }
}
