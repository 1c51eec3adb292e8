//! `Noise_XK_25519_ChaChaPoly_SHA256` (Noise revision 34): the core of the link handshake (protocol §4.1).
//!
//! Each stage is its own type and each message consumes one, so that no stage can be repeated, skipped or run with another
//! stage's keys:
//!
//! ```text
//! initiator                                   responder
//! First::new ── write ── e, es ────────────→  Awaiting::read
//! Second ←───── read ─── e, ee ────────────── Answering::write
//! Third ─────── write ── s, se ────────────→  Finishing::read
//! Session                                     Session
//! ```
//!
//! What travels here is plain Noise, byte for byte. Masking, padding and the meaning of payloads are
//! [`super::handshake`]'s.
//!
//! Invariants: a Diffie–Hellman result of zero ends the handshake; secrets are zeroized on drop.

use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    crypto::{Aead, BadTag, Portable},
    geometry::TAG_LEN,
};

/// Exactly as long as a hash, so it is the first hash as it stands (Noise §5.2).
const PROTOCOL: &[u8; 32] = b"Noise_XK_25519_ChaChaPoly_SHA256";

/// Length of an X25519 key.
pub(crate) const KEY_LEN: usize = 32;

/// Why a Noise message is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoiseError {
    /// Made with other keys or another prologue, or changed on the way.
    #[error("the message does not authenticate")]
    Unauthenticated,
    /// The peer's key is of small order: the agreed secret would be known to everybody.
    #[error("a key of small order")]
    SmallOrder,
}

impl From<BadTag> for NoiseError {
    fn from(_: BadTag) -> Self {
        Self::Unauthenticated
    }
}

/// What both ends have after the last message.
pub(crate) struct Session {
    /// Key of the direction in which this end sends.
    pub(crate) send: Zeroizing<[u8; 32]>,
    /// Key of the other direction.
    pub(crate) receive: Zeroizing<[u8; 32]>,
    /// Hash of all that was said; the same at both ends and in no other handshake.
    pub(crate) hash: [u8; 32],
    /// The peer's static key.
    pub(crate) peer: [u8; 32],
}

/// HMAC-SHA256 (RFC 2104) with a key of one hash length, which is all that Noise needs.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    const BLOCK: usize = 64;
    let mut pad = Zeroizing::new([0x36; BLOCK]);
    pad.iter_mut().zip(key).for_each(|(p, k)| *p ^= k);
    let mut inner = Sha256::new().chain_update(*pad);
    for part in parts {
        inner.update(part);
    }
    let inner = Zeroizing::new(<[u8; 32]>::from(inner.finalize()));
    pad.iter_mut().for_each(|p| *p ^= 0x36 ^ 0x5c);
    Zeroizing::new(
        Sha256::new()
            .chain_update(*pad)
            .chain_update(*inner)
            .finalize()
            .into(),
    )
}

/// HKDF of Noise §4.3 with two outputs.
fn hkdf(chaining: &[u8; 32], input: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let extracted = hmac(chaining, &[input]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[&first[..], &[2]]);
    (first, second)
}

/// The SymmetricState of Noise §5.2, with the CipherState that it holds.
#[derive(ZeroizeOnDrop)]
struct Symmetric {
    hash: [u8; 32],
    chaining: [u8; 32],
    key: [u8; 32],
    nonce: u64,
}

impl Symmetric {
    /// Starts with the prologue and the pre-message of XK, `<- s`.
    fn new(prologue: &[u8], responder: &PublicKey) -> Self {
        let mut state = Self {
            hash: *PROTOCOL,
            chaining: *PROTOCOL,
            key: [0; 32],
            nonce: 0,
        };
        state.mix_hash(prologue);
        state.mix_hash(responder.as_bytes());
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(data)
            .finalize()
            .into();
    }

    fn mix_shared(&mut self, secret: &StaticSecret, public: &PublicKey) -> Result<(), NoiseError> {
        let shared = secret.diffie_hellman(public);
        if !shared.was_contributory() {
            return Err(NoiseError::SmallOrder);
        }
        let (chaining, key) = hkdf(&self.chaining, shared.as_bytes());
        (self.chaining, self.key, self.nonce) = (*chaining, *key, 0);
        Ok(())
    }

    /// Appends `plaintext`, sealed, to `out`.
    fn seal(&mut self, plaintext: &[u8], out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(plaintext);
        out.put_bytes(0, TAG_LEN);
        let sealed = &mut out[start..];
        Portable::new(&self.key).seal(self.nonce, &self.hash, sealed);
        self.nonce += 1;
        self.hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(sealed)
            .finalize()
            .into();
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut buf = sealed.to_vec();
        let len = Portable::new(&self.key).open(self.nonce, &self.hash, &mut buf, 0)?;
        buf.truncate(len);
        self.nonce += 1;
        self.mix_hash(sealed);
        Ok(buf)
    }

    fn into_session(self, initiator: bool, peer: &PublicKey) -> Session {
        let (first, second) = hkdf(&self.chaining, &[]);
        let (send, receive) = if initiator {
            (first, second)
        } else {
            (second, first)
        };
        Session {
            send,
            receive,
            hash: self.hash,
            peer: peer.to_bytes(),
        }
    }
}

fn split_key(message: &[u8]) -> Result<(PublicKey, &[u8]), NoiseError> {
    let (key, rest) = message
        .split_first_chunk::<KEY_LEN>()
        .ok_or(NoiseError::Unauthenticated)?;
    Ok((PublicKey::from(*key), rest))
}

/// Initiator: about to write the first message.
pub(crate) struct First {
    symmetric: Symmetric,
    own: StaticSecret,
    responder: PublicKey,
}

/// Initiator: awaits the second message.
pub(crate) struct Second {
    symmetric: Symmetric,
    own: StaticSecret,
    ephemeral: StaticSecret,
    responder: PublicKey,
}

/// Initiator: about to write the third message.
pub(crate) struct Third {
    symmetric: Symmetric,
    own: StaticSecret,
    responder: PublicKey,
    answered: PublicKey,
}

impl First {
    pub(crate) fn new(prologue: &[u8], own: &StaticSecret, responder: [u8; 32]) -> Self {
        let responder = PublicKey::from(responder);
        Self {
            symmetric: Symmetric::new(prologue, &responder),
            own: own.clone(),
            responder,
        }
    }

    /// `-> e, es`: 32 bytes, then the payload and its tag.
    pub(crate) fn write(
        mut self,
        ephemeral: StaticSecret,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Result<Second, NoiseError> {
        let public = PublicKey::from(&ephemeral);
        self.symmetric.mix_hash(public.as_bytes());
        self.symmetric.mix_shared(&ephemeral, &self.responder)?;
        out.put_slice(public.as_bytes());
        self.symmetric.seal(payload, out);
        Ok(Second {
            symmetric: self.symmetric,
            own: self.own,
            ephemeral,
            responder: self.responder,
        })
    }
}

impl Second {
    /// `<- e, ee`: gives the payload.
    pub(crate) fn read(mut self, message: &[u8]) -> Result<(Third, Vec<u8>), NoiseError> {
        let (answered, sealed) = split_key(message)?;
        self.symmetric.mix_hash(answered.as_bytes());
        self.symmetric.mix_shared(&self.ephemeral, &answered)?;
        let payload = self.symmetric.open(sealed)?;
        Ok((
            Third {
                symmetric: self.symmetric,
                own: self.own,
                responder: self.responder,
                answered,
            },
            payload,
        ))
    }
}

impl Third {
    /// `-> s, se`: 48 bytes, then the payload and its tag.
    pub(crate) fn write(mut self, payload: &[u8], out: &mut BytesMut) -> Result<Session, NoiseError> {
        self.symmetric.seal(PublicKey::from(&self.own).as_bytes(), out);
        self.symmetric.mix_shared(&self.own, &self.answered)?;
        self.symmetric.seal(payload, out);
        Ok(self.symmetric.into_session(true, &self.responder))
    }
}

/// Responder: awaits the first message.
pub(crate) struct Awaiting {
    symmetric: Symmetric,
    own: StaticSecret,
}

/// Responder: about to write the second message.
pub(crate) struct Answering {
    symmetric: Symmetric,
    /// The initiator's ephemeral key.
    pub(crate) opened: [u8; 32],
}

/// Responder: awaits the third message.
pub(crate) struct Finishing {
    symmetric: Symmetric,
    ephemeral: StaticSecret,
}

impl Awaiting {
    pub(crate) fn new(prologue: &[u8], own: &StaticSecret) -> Self {
        Self {
            symmetric: Symmetric::new(prologue, &PublicKey::from(own)),
            own: own.clone(),
        }
    }

    /// `-> e, es`: gives the payload.
    pub(crate) fn read(mut self, message: &[u8]) -> Result<(Answering, Vec<u8>), NoiseError> {
        let (opened, sealed) = split_key(message)?;
        self.symmetric.mix_hash(opened.as_bytes());
        self.symmetric.mix_shared(&self.own, &opened)?;
        let payload = self.symmetric.open(sealed)?;
        Ok((
            Answering {
                symmetric: self.symmetric,
                opened: opened.to_bytes(),
            },
            payload,
        ))
    }
}

impl Answering {
    /// `<- e, ee`: 32 bytes, then the payload and its tag.
    pub(crate) fn write(
        mut self,
        ephemeral: StaticSecret,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Result<Finishing, NoiseError> {
        let public = PublicKey::from(&ephemeral);
        self.symmetric.mix_hash(public.as_bytes());
        self.symmetric
            .mix_shared(&ephemeral, &PublicKey::from(self.opened))?;
        out.put_slice(public.as_bytes());
        self.symmetric.seal(payload, out);
        Ok(Finishing {
            symmetric: self.symmetric,
            ephemeral,
        })
    }
}

impl Finishing {
    /// `-> s, se`: gives the payload.
    pub(crate) fn read(mut self, message: &[u8]) -> Result<(Session, Vec<u8>), NoiseError> {
        let (sealed_key, sealed) = message
            .split_at_checked(KEY_LEN + TAG_LEN)
            .ok_or(NoiseError::Unauthenticated)?;
        let mut key = self.symmetric.open(sealed_key)?;
        let (peer, _) = split_key(&key)?;
        key.zeroize();
        self.symmetric.mix_shared(&self.ephemeral, &peer)?;
        let payload = self.symmetric.open(sealed)?;
        Ok((self.symmetric.into_session(false, &peer), payload))
    }
}

#[cfg(test)]
mod tests;
