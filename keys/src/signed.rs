//! Signed blocks with per-document blinded keys (`keys §4.2`).
//!
//! ```text
//! 0    blinded public key   32
//! 32   signature            64   Ed25519 over derive(SIGNED_MESSAGE, SIV ‖ ciphertext)
//! 96   SIV                  32   keyed hash of the payload
//! 128  ciphertext        32640   ChaCha20 under a key derived from document secret and SIV
//! ```
//!
//! Invariants: the cipher key depends on the payload, so signing another payload under the same name never uses a
//! keystream twice; the signature is deterministic, so the same payload gives the same block. A holder of the block
//! alone learns neither the publisher's key nor the name. Which of two valid blocks under one key a store keeps is
//! not decided here.

use crate::labels;
use crate::public_key::{self, PublisherKey};
use crate::{BLOCK_SIZE, Block, BlockError, BlockId, CryptoKey, RoutingKey, cipher};
use bytes::{Bytes, BytesMut};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

const SIGNATURE_START: usize = 32;
const SIV_START: usize = SIGNATURE_START + SIGNATURE_LEN;
const CIPHERTEXT_START: usize = SIV_START + 32;

/// Bytes of the signature in a block.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// Bytes that a signed block carries: 32,640.
pub const SIGNED_PAYLOAD: usize = BLOCK_SIZE - CIPHERTEXT_START;

/// The routing key under which a block with this blinded key lies.
fn routing_key(public: &[u8; 32]) -> RoutingKey {
    RoutingKey::from_bytes(labels::SIGNED_ROUTING.derive(&[public]))
}

fn field<const N: usize>(block: &[u8; BLOCK_SIZE], start: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[start..start + N]);
    bytes
}

/// The routing key of a block, before its signature is checked.
pub(crate) fn routing_key_of(block: &[u8; BLOCK_SIZE]) -> RoutingKey {
    routing_key(&field(block, 0))
}

/// Checks key and signature strictly and gives the routing key.
pub(crate) fn check(block: &[u8; BLOCK_SIZE]) -> Result<RoutingKey, BlockError> {
    let public = field(block, 0);
    let key = public_key::strict(&public).map_err(|_| BlockError::PublicKey)?;
    let signature = Signature::from_bytes(&field(block, SIGNATURE_START));
    key.verify_strict(&message(&block[SIV_START..]), &signature)
        .map_err(|_| BlockError::Signature)?;
    Ok(routing_key(&public))
}

/// What is signed. Hashed by BLAKE3 first, because Ed25519 would hash 32 KiB with SHA-512 at a tenth of the speed.
fn message(siv_and_ciphertext: &[u8]) -> [u8; 32] {
    labels::SIGNED_MESSAGE.derive(&[siv_and_ciphertext])
}

/// A valid signed block whose inside is not what its key says; its publisher made it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadPayload;

/// What a reader of one document holds: where the block lies and what opens it.
pub(crate) struct Document {
    public: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

impl Document {
    /// A document of an SSK.
    pub(crate) fn of_publisher(publisher: &PublisherKey, crypto: &CryptoKey, name: &str) -> Self {
        let secret = document_secret(publisher, crypto, name);
        let public = publisher.blinded(&blinding_factor(&secret));
        Self { public, secret }
    }

    pub(crate) fn id(&self) -> BlockId {
        BlockId::signed(routing_key(&self.public))
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Decrypts a block of this document: [`SIGNED_PAYLOAD`] bytes.
    pub(crate) fn open(&self, block: &Block) -> Result<BytesMut, BadPayload> {
        let bytes: &[u8; BLOCK_SIZE] = block.bytes()[..].try_into().map_err(|_| BadPayload)?;
        let siv = field(bytes, SIV_START);
        let mut payload = BytesMut::from(&bytes[CIPHERTEXT_START..]);
        cipher::apply(&self.cipher_key(&siv), &mut payload);
        match self.siv(&payload).ct_eq(&siv).into() {
            true => Ok(payload),
            false => Err(BadPayload),
        }
    }

    /// Makes the block anew from its payload and its signature, and verifies it.
    pub(crate) fn restore(
        &self,
        payload: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<Block, BlockError> {
        let mut buffer = self.unsigned(payload);
        buffer[SIGNATURE_START..SIV_START].copy_from_slice(signature);
        Block::verify(self.id(), buffer.freeze())
    }

    /// The signature in a block.
    pub(crate) fn signature(block: &Block) -> Bytes {
        block.bytes().slice(SIGNATURE_START..SIV_START)
    }

    /// The block with zeros for its signature. `payload` is padded with zeros and cut at [`SIGNED_PAYLOAD`].
    fn unsigned(&self, payload: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::with_capacity(BLOCK_SIZE);
        buffer.extend_from_slice(&self.public);
        buffer.resize(CIPHERTEXT_START, 0);
        buffer.extend_from_slice(&payload[..payload.len().min(SIGNED_PAYLOAD)]);
        buffer.resize(BLOCK_SIZE, 0);
        let siv = self.siv(&buffer[CIPHERTEXT_START..]);
        buffer[SIV_START..CIPHERTEXT_START].copy_from_slice(&siv);
        cipher::apply(&self.cipher_key(&siv), &mut buffer[CIPHERTEXT_START..]);
        buffer
    }

    fn siv(&self, payload: &[u8]) -> [u8; 32] {
        let key = labels::DOCUMENT_SIV.derive_secret(&[&*self.secret]);
        *blake3::keyed_hash(&key, payload).as_bytes()
    }

    fn cipher_key(&self, siv: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        labels::DOCUMENT_CIPHER.derive_secret(&[&*self.secret, siv])
    }
}

/// What a publisher of one document holds: the document and the key that signs it.
pub(crate) struct DocumentSigner {
    document: Document,
    key: ExpandedSecretKey,
    verifying: VerifyingKey,
}

impl DocumentSigner {
    /// A document of an SSK, its key blinded for this one name.
    pub(crate) fn of_publisher(
        signing: &SigningKey,
        crypto: &CryptoKey,
        name: &str,
    ) -> Result<Self, BlockError> {
        let publisher = PublisherKey::of_signing_key(signing);
        let document = Document::of_publisher(&publisher, crypto, name);
        let root = ExpandedSecretKey::from(signing.as_bytes());
        let key = ExpandedSecretKey {
            scalar: blinding_factor(&document.secret) * root.scalar,
            hash_prefix: labels::DOCUMENT_NONCE.derive(&[&root.hash_prefix, &*document.secret]),
        };
        Self::new(document, key)
    }

    /// A document with a keypair of its own, not blinded.
    pub(crate) fn of_seed(seed: &[u8; 32], secret: Zeroizing<[u8; 32]>) -> Result<Self, BlockError> {
        let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        Self::new(Document { public, secret }, ExpandedSecretKey::from(seed))
    }

    fn new(document: Document, key: ExpandedSecretKey) -> Result<Self, BlockError> {
        let verifying = public_key::strict(&document.public).map_err(|_| BlockError::PublicKey)?;
        Ok(Self {
            document,
            key,
            verifying,
        })
    }

    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// Encrypts and signs `payload`, padded with zeros to [`SIGNED_PAYLOAD`].
    pub(crate) fn seal(&self, payload: &[u8]) -> Block {
        let mut buffer = self.document.unsigned(payload);
        let signature = raw_sign::<Sha512>(&self.key, &message(&buffer[SIV_START..]), &self.verifying);
        buffer[SIGNATURE_START..SIV_START].copy_from_slice(&signature.to_bytes());
        Block::made(self.document.id(), buffer.freeze())
    }
}

/// Public key and crypto key have fixed lengths and the name comes last: no two documents share an input.
fn document_secret(publisher: &PublisherKey, crypto: &CryptoKey, name: &str) -> Zeroizing<[u8; 32]> {
    let parts: [&[u8]; 3] = [publisher.as_bytes(), crypto.expose(), name.as_bytes()];
    labels::DOCUMENT_SECRET.derive_secret(&parts)
}

/// 64 bytes reduced modulo the group order, so that the bias is negligible.
fn blinding_factor(secret: &[u8; 32]) -> Scalar {
    let mut wide = [0; 64];
    labels::DOCUMENT_BLINDING.derive_into(&[secret], &mut wide);
    let factor = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    factor
}

#[cfg(test)]
mod tests;
