//! Identities of nodes.
//!
//! Invariants: a [`NodeId`] is a strictly valid Ed25519 public key; every signature is bound to a label of
//! [`crate::labels`], so a statement of one kind is never a valid statement of another. The X25519 keys of links and
//! circuits are not here; they derive from the identity by [`IdentityKey::derive`] or are made anew.

use crate::labels::{self, Label};
use crate::public_key::{self, InvalidPublicKey};
use crate::{Base64Error, Location, Seed, base64};
use core::fmt;
use core::str::FromStr;
use ed25519_dalek::{Signature, Signer, SigningKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes of a signature.
pub const SIGNATURE_SIZE: usize = 64;

/// The secret Ed25519 key that is a node's identity.
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// The key of a seed.
    pub fn from_seed(seed: &Seed) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// A random key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::from_seed(&Seed::generate(rng))
    }

    /// The seed, for the key file.
    pub fn expose_seed(&self) -> Seed {
        Seed::from_bytes(self.0.to_bytes())
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` as a statement of the kind `purpose`.
    pub fn sign(&self, purpose: Label, message: &[u8]) -> [u8; SIGNATURE_SIZE] {
        self.0.sign(&purpose.derive(&[message])).to_bytes()
    }

    /// A further secret of this node under `purpose`, say the seed of its link key.
    pub fn derive(&self, purpose: Label) -> Zeroizing<[u8; 32]> {
        purpose.derive_secret(&[self.0.as_bytes()])
    }
}

/// A node's identity: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// A signature that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signature does not hold")]
pub struct InvalidSignature;

impl NodeId {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// Not canonical, not a point, or of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidPublicKey> {
        public_key::strict(bytes)?;
        Ok(Self(*bytes))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where on the ring the node stands: hashed, so that a place costs a search to choose.
    pub fn location(&self) -> Location {
        Location::from_hash(&labels::NODE_LOCATION.derive(&[&self.0]))
    }

    /// Checks a signature of [`IdentityKey::sign`] strictly.
    ///
    /// # Errors
    /// It does not hold for this node, purpose and message.
    pub fn verify(
        &self,
        purpose: Label,
        message: &[u8],
        signature: &[u8; SIGNATURE_SIZE],
    ) -> Result<(), InvalidSignature> {
        let key = public_key::strict(&self.0).map_err(|_| InvalidSignature)?;
        key.verify_strict(&purpose.derive(&[message]), &Signature::from_bytes(signature))
            .map_err(|_| InvalidSignature)
    }
}

/// Why a text is not a node id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NodeIdError {
    /// Not base64 of 32 bytes.
    #[error("the node id {0}")]
    Base64(#[from] Base64Error),
    /// Not a key.
    #[error("the node id is {0}")]
    Key(#[from] InvalidPublicKey),
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        Ok(Self::from_bytes(&base64::decode(text)?)?)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({:.8}..)", base64::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_bound_to_node_purpose_and_message() {
        let key = IdentityKey::from_seed(&Seed::from_bytes([1; 32]));
        let other = IdentityKey::from_seed(&Seed::from_bytes([2; 32]));
        let signature = key.sign(labels::NODE_LOCATION, b"message");
        assert_eq!(
            key.id().verify(labels::NODE_LOCATION, b"message", &signature),
            Ok(())
        );
        assert_eq!(
            key.id().verify(labels::KSK_SEED, b"message", &signature),
            Err(InvalidSignature)
        );
        assert_eq!(
            key.id().verify(labels::NODE_LOCATION, b"messagf", &signature),
            Err(InvalidSignature)
        );
        assert_eq!(
            other.id().verify(labels::NODE_LOCATION, b"message", &signature),
            Err(InvalidSignature)
        );
        for byte in 0..SIGNATURE_SIZE {
            let mut changed = signature;
            changed[byte] ^= 1 << (byte % 8);
            assert_eq!(
                key.id().verify(labels::NODE_LOCATION, b"message", &changed),
                Err(InvalidSignature)
            );
        }
    }

    #[test]
    fn text_round_trip() {
        let key = IdentityKey::from_seed(&Seed::from_bytes([1; 32]));
        let text = key.id().to_string();
        assert_eq!(text.parse(), Ok(key.id()));
        assert!(matches!(
            text[1..].parse::<NodeId>(),
            Err(NodeIdError::Base64(Base64Error::Length {
                expected: 43,
                found: 42
            }))
        ));
        assert_eq!(
            base64::encode(&[0; 32]).parse::<NodeId>(),
            Err(NodeIdError::Key(InvalidPublicKey))
        );
        assert_eq!(IdentityKey::from_seed(&key.expose_seed()).id(), key.id());
    }
}
