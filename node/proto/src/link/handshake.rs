//! The handshake of a link: Noise XK under a mask, with lengths that vary (protocol §4).
//!
//! ```text
//! initiator → responder   nonce  e ⊕ mask  sealed payload  padding
//! responder → initiator   nonce  e ⊕ mask  sealed payload  padding
//! initiator → responder          sealed s  sealed payload  padding
//! ```
//!
//! Only ephemeral keys have structure; the mask over them comes from the responder's keys, the network's name and the
//! nonce, so whoever lacks the responder's reference sees random bytes from the first to the last. Padding is a keystream whose
//! seed and length are in the sealed payload, so it too is checked to the last bit.
//!
//! # Invariants
//!
//! - A responder sends nothing before a first message has authenticated, all of it has arrived, and the replay cache has admitted
//!   it.
//! - **Every error means silence.** After an error the machine is gone; the driver goes on reading and discarding, as
//!   it does with a connection that has not sent enough, until its deadline. It must not close at once: the
//!   moment would tell a prober where the input went wrong.
//! - Nothing is buffered beyond one message and one read.
//!
//! Sockets, deadlines and the bound on what is read in silence are the driver's.

use bytes::{Buf, BufMut, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_core::CryptoRng;
use warren_keys::{NodeId, labels};
use x25519_dalek::StaticSecret;

use super::{
    frames::{FrameReceiver, FrameSender},
    noise::{self, KEY_LEN, NoiseError},
    record::{Opener, Sealer},
    replay::{ReplayCache, ReplayError, hour_of},
};
use crate::{
    crypto::{Aead, Cipher},
    descriptor::NodeSecrets,
    geometry::TAG_LEN,
    network::Network,
    time::WallTime,
    wire::{Reader, WireError},
};

/// The oldest protocol version that this node speaks on a link.
const MIN_VERSION: u8 = 1;
/// The newest.
const MAX_VERSION: u8 = 1;
/// Longest padding, bytes; one less than a power of two, so that a draw is a mask. As much as a message itself several
/// times over, and with the message within one TCP segment.
const MAX_PADDING: u16 = 511;

const NONCE_LEN: usize = 32;
const SEED_LEN: usize = 32;
/// Length and seed of the padding.
const PADDING_FIELD: usize = 2 + SEED_LEN;
/// Oldest and newest version, best suite, hour, padding.
const FIRST_PAYLOAD: usize = 1 + 1 + 1 + 4 + PADDING_FIELD;
/// Version, suite, padding.
const SECOND_PAYLOAD: usize = 1 + 1 + PADDING_FIELD;
const THIRD_PAYLOAD: usize = PADDING_FIELD;
/// Bytes of the three messages before their padding.
const FIRST_LEN: usize = NONCE_LEN + KEY_LEN + FIRST_PAYLOAD + TAG_LEN;
const SECOND_LEN: usize = NONCE_LEN + KEY_LEN + SECOND_PAYLOAD + TAG_LEN;
const THIRD_LEN: usize = KEY_LEN + TAG_LEN + THIRD_PAYLOAD + TAG_LEN;

/// What of the prologue is the same everywhere.
const PROLOGUE: &[u8] = b"warren link handshake 1";

/// Why a handshake ends. Whichever it is, the peer gets silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Made with another node's keys, for another network, changed on the way, or no handshake at all.
    #[error("the handshake is not of this node, this network and this peer")]
    Unauthenticated,
    /// The peer's key is of small order.
    #[error("a key of small order")]
    SmallOrder,
    /// A sealed payload that this version does not make.
    #[error("a malformed payload")]
    Payload,
    /// No version in common.
    #[error("the peer speaks versions {min} to {max}, this node {MIN_VERSION} to {MAX_VERSION}")]
    Version {
        /// The peer's oldest.
        min: u8,
        /// The peer's newest.
        max: u8,
    },
    /// A cipher suite that this node does not know, or did not offer.
    #[error("suite {0} is not known or was not offered")]
    Suite(u8),
    /// Replayed, too old, or one too many.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Padding that is not what its seed makes.
    #[error("the padding was changed")]
    Padding,
    /// More bytes than the peer could send before its turn.
    #[error("bytes before their turn")]
    Early,
}

impl HandshakeError {
    /// Whether a peer that means well can cause it: by an old version or a wrong clock.
    #[must_use]
    pub const fn is_innocent(&self) -> bool {
        matches!(
            self,
            Self::Version { .. }
                | Self::Suite(_)
                | Self::Replay(ReplayError::Clock { .. } | ReplayError::Crowded)
        )
    }
}

impl From<NoiseError> for HandshakeError {
    fn from(fault: NoiseError) -> Self {
        match fault {
            NoiseError::Unauthenticated => Self::Unauthenticated,
            NoiseError::SmallOrder => Self::SmallOrder,
        }
    }
}

impl From<WireError> for HandshakeError {
    fn from(_: WireError) -> Self {
        Self::Payload
    }
}

/// A link whose ends know each other.
pub struct Established<A> {
    /// Sends frames.
    pub sender: FrameSender<A>,
    /// Receives frames. It may already hold bytes that came behind the handshake: open it once before the next read.
    pub receiver: FrameReceiver<A>,
    /// The static link key that the peer proved to hold.
    pub peer_link_key: [u8; 32],
    /// Whether this end began the handshake.
    pub dialler: bool,
    /// Hash of the handshake: the same at both ends, and of this link only.
    pub handshake_hash: [u8; 32],
    /// Protocol version of the link.
    pub version: u8,
    /// The cipher of its records.
    pub cipher: Cipher,
}

/// Where a handshake is after some bytes.
#[expect(
    clippy::large_enum_variant,
    reason = "one is made for each link and taken apart at once"
)]
pub enum Step<M, A> {
    /// It needs more.
    More(M),
    /// It is done.
    Done(Established<A>),
}

/// Whom an initiator wants to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remote {
    /// The node.
    pub node: NodeId,
    /// Its static link key.
    pub link_key: [u8; 32],
}

/// What is mixed into a handshake beside the keys of Noise: the responder, and the network.
#[derive(Clone, Copy)]
struct Place {
    responder: Remote,
    network: Network,
}

impl Place {
    fn prologue(&self) -> Vec<u8> {
        [PROLOGUE, self.network.as_bytes(), self.responder.node.as_bytes()].concat()
    }

    /// Puts the mask of message `number` on its ephemeral key, or takes it off.
    fn mask(&self, number: u8, nonce: &[u8], key: &mut [u8]) {
        let Remote { node, link_key } = &self.responder;
        let mut mask = [0; KEY_LEN];
        let parts: [&[u8]; 5] = [
            link_key,
            node.as_bytes(),
            self.network.as_bytes(),
            &[number],
            nonce,
        ];
        labels::LINK_MASK.derive_into(&parts, &mut mask);
        key.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// The padding of one message.
#[derive(Clone, Copy)]
struct Padding {
    len: u16,
    seed: [u8; SEED_LEN],
}

impl Padding {
    fn draw<R: CryptoRng>(rng: &mut R) -> Self {
        let mut seed = [0; SEED_LEN];
        rng.fill_bytes(&mut seed);
        #[expect(clippy::cast_possible_truncation, reason = "masked")]
        let len = (rng.next_u32() & u32::from(MAX_PADDING)) as u16;
        Self { len, seed }
    }

    fn put(&self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.len.to_be_bytes());
        payload.extend_from_slice(&self.seed);
    }

    /// Reads the last field of a payload.
    fn read(mut reader: Reader<'_>) -> Result<Self, HandshakeError> {
        let (len, seed) = (reader.u16()?, reader.array()?);
        reader.finish()?;
        if len > MAX_PADDING {
            return Err(HandshakeError::Payload);
        }
        Ok(Self { len, seed })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len.into()];
        labels::LINK_PADDING.derive_into(&[&self.seed], &mut bytes);
        bytes
    }

    /// Takes the padding off the front of `input`; false when it has not arrived.
    fn strip(&self, input: &mut BytesMut) -> Result<bool, HandshakeError> {
        if input.len() < self.len.into() {
            return Ok(false);
        }
        if input.split_to(self.len.into()) != self.bytes() {
            return Err(HandshakeError::Padding);
        }
        Ok(true)
    }
}

/// The random parts of a message with an ephemeral key.
struct Fresh {
    nonce: [u8; NONCE_LEN],
    ephemeral: StaticSecret,
    padding: Padding,
}

impl Fresh {
    fn draw<R: CryptoRng>(rng: &mut R) -> Self {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        Self {
            nonce,
            ephemeral: StaticSecret::random_from_rng(rng),
            padding: Padding::draw(rng),
        }
    }
}

/// Appends message `number`: the nonce, then what `write` makes with its key masked, then the padding.
fn put_masked<S>(
    place: &Place,
    number: u8,
    nonce: [u8; NONCE_LEN],
    padding: Padding,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<S, NoiseError>,
) -> Result<S, NoiseError> {
    let start = out.len();
    out.put_slice(&nonce);
    // On an error nothing is sent, not even a nonce.
    let state = write(out).inspect_err(|_| out.truncate(start))?;
    let key = start + NONCE_LEN;
    place.mask(number, &nonce, &mut out[key..key + KEY_LEN]);
    out.put_slice(&padding.bytes());
    Ok(state)
}

/// Takes the nonce and the mask off message `number`, which is all of `message`.
fn unmask(place: &Place, number: u8, mut message: BytesMut) -> BytesMut {
    let nonce = message.split_to(NONCE_LEN.min(message.len()));
    let key = message.len().min(KEY_LEN);
    place.mask(number, &nonce, &mut message[..key]);
    message
}

fn first_payload(best: Cipher, hour: u32, padding: Padding) -> Vec<u8> {
    let mut payload = vec![MIN_VERSION, MAX_VERSION, suite_of(best)];
    payload.extend_from_slice(&hour.to_be_bytes());
    padding.put(&mut payload);
    payload
}

fn second_payload(agreed: Agreed, padding: Padding) -> Vec<u8> {
    let mut payload = vec![agreed.version, suite_of(agreed.cipher)];
    padding.put(&mut payload);
    payload
}

fn third_payload(padding: Padding) -> Vec<u8> {
    let mut payload = Vec::with_capacity(THIRD_PAYLOAD);
    padding.put(&mut payload);
    payload
}

/// What the two ends settle in the first two payloads.
#[derive(Clone, Copy)]
struct Agreed {
    version: u8,
    cipher: Cipher,
}

/// The suite's number (protocol §4.1). Both exchange keys with X25519, ChaCha20-Poly1305 and SHA-256, and differ in the cipher of
/// the records behind; a hybrid with a post-quantum exchange will be another number.
const fn suite_of(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::ChaCha20Poly1305 => 1,
        Cipher::Aes256Gcm => 2,
    }
}

/// Reads a suite that is at most `best`: whoever offers one takes those with lower numbers too.
fn suite(reader: &mut Reader<'_>, best: Cipher) -> Result<Cipher, HandshakeError> {
    match (reader.u8()?, best) {
        (1, _) => Ok(Cipher::ChaCha20Poly1305),
        (2, Cipher::Aes256Gcm) => Ok(Cipher::Aes256Gcm),
        (other, _) => Err(HandshakeError::Suite(other)),
    }
}

/// The best version that both ends speak.
fn agree(min: u8, max: u8) -> Result<u8, HandshakeError> {
    let best = max.min(MAX_VERSION);
    if min > max || best < min || best < MIN_VERSION {
        return Err(HandshakeError::Version { min, max });
    }
    Ok(best)
}

fn establish<A: Aead>(
    session: &noise::Session,
    place: &Place,
    dialler: bool,
    Agreed { version, cipher }: Agreed,
    received: BytesMut,
) -> Established<A> {
    let opener = Opener::new(cipher, &session.receive, received);
    Established {
        sender: FrameSender::new(Sealer::new(cipher, &session.send)),
        receiver: FrameReceiver::new(opener, place.network),
        peer_link_key: session.peer,
        dialler,
        handshake_hash: session.hash,
        version,
        cipher,
    }
}

/// The end that dials.
pub struct Initiator {
    place: Place,
    best: Cipher,
    rng: ChaCha20Rng,
    input: BytesMut,
    stage: InitiatorStage,
}

enum InitiatorStage {
    /// The second message is awaited.
    Sent(noise::Second),
    /// Its padding is.
    Answered {
        third: noise::Third,
        agreed: Agreed,
        padding: Padding,
    },
}

impl Initiator {
    /// Begins: appends the first message to `out`. `best` is the cipher of the link if the responder has it too: AES only
    /// where it is in hardware. `rng` must not be used for anything else.
    ///
    /// # Errors
    /// [`HandshakeError::SmallOrder`] when the remote's link key is no honest key.
    pub fn start(
        secrets: &NodeSecrets,
        remote: Remote,
        network: Network,
        best: Cipher,
        now: WallTime,
        mut rng: ChaCha20Rng,
        out: &mut BytesMut,
    ) -> Result<Self, HandshakeError> {
        let place = Place {
            responder: remote,
            network,
        };
        let Fresh {
            nonce,
            ephemeral,
            padding,
        } = Fresh::draw(&mut rng);
        let first = noise::First::new(&place.prologue(), secrets.link_secret(), remote.link_key);
        let payload = first_payload(best, hour_of(now), padding);
        let second = put_masked(&place, 1, nonce, padding, out, |out| {
            first.write(ephemeral, &payload, out)
        })?;
        Ok(Self {
            place,
            best,
            rng,
            input: BytesMut::new(),
            stage: InitiatorStage::Sent(second),
        })
    }

    /// Takes received bytes; appends to `out` what is to be sent.
    ///
    /// # Errors
    /// The handshake failed; see the module's invariants for what follows.
    pub fn receive<A: Aead>(
        mut self,
        received: &[u8],
        out: &mut BytesMut,
    ) -> Result<Step<Self, A>, HandshakeError> {
        self.input.put_slice(received);
        if let InitiatorStage::Sent(second) = self.stage {
            if self.input.len() < SECOND_LEN {
                return Ok(Step::More(Self {
                    stage: InitiatorStage::Sent(second),
                    ..self
                }));
            }
            let message = unmask(&self.place, 2, self.input.split_to(SECOND_LEN));
            let (third, payload) = second.read(&message)?;
            let mut reader = Reader::new(&payload);
            let version = reader.u8()?;
            agree(version, version)?;
            let cipher = suite(&mut reader, self.best)?;
            self.stage = InitiatorStage::Answered {
                third,
                agreed: Agreed { version, cipher },
                padding: Padding::read(reader)?,
            };
        }
        let InitiatorStage::Answered {
            third,
            agreed,
            padding,
        } = self.stage
        else {
            return Err(HandshakeError::Payload);
        };
        if !padding.strip(&mut self.input)? {
            return Ok(Step::More(Self {
                stage: InitiatorStage::Answered {
                    third,
                    agreed,
                    padding,
                },
                ..self
            }));
        }
        if self.input.has_remaining() {
            return Err(HandshakeError::Early);
        }
        let padding = Padding::draw(&mut self.rng);
        let session = third.write(&third_payload(padding), out)?;
        out.put_slice(&padding.bytes());
        Ok(Step::Done(establish(
            &session,
            &self.place,
            true,
            agreed,
            self.input,
        )))
    }
}

/// The end that was dialled.
pub struct Responder {
    place: Place,
    best: Cipher,
    rng: ChaCha20Rng,
    input: BytesMut,
    stage: ResponderStage,
}

enum ResponderStage {
    /// The first message is awaited.
    Waiting(noise::Awaiting),
    /// Its padding is.
    Opened {
        answering: noise::Answering,
        agreed: Agreed,
        hour: u32,
        padding: Padding,
    },
    /// The third message is.
    Sent {
        finishing: noise::Finishing,
        agreed: Agreed,
    },
    /// Its padding is.
    Finished {
        session: noise::Session,
        agreed: Agreed,
        padding: Padding,
    },
}

impl Responder {
    /// Awaits a first message. `best` is the cipher of the link if the initiator offers it. `rng` must not be used for anything
    /// else.
    #[must_use]
    pub fn new(secrets: &NodeSecrets, network: Network, best: Cipher, rng: ChaCha20Rng) -> Self {
        let responder = Remote {
            node: secrets.id(),
            link_key: secrets.link_public().to_bytes(),
        };
        let place = Place { responder, network };
        let awaiting = noise::Awaiting::new(&place.prologue(), secrets.link_secret());
        Self {
            place,
            best,
            rng,
            input: BytesMut::new(),
            stage: ResponderStage::Waiting(awaiting),
        }
    }

    /// Takes received bytes; appends to `out` what is to be sent. `replays` is the same for all responders of a node.
    ///
    /// # Errors
    /// The handshake failed; see the module's invariants for what follows.
    pub fn receive<A: Aead>(
        mut self,
        received: &[u8],
        now: WallTime,
        replays: &mut ReplayCache,
        out: &mut BytesMut,
    ) -> Result<Step<Self, A>, HandshakeError> {
        self.input.put_slice(received);
        loop {
            self.stage = match self.stage {
                ResponderStage::Waiting(awaiting) => {
                    if self.input.len() < FIRST_LEN {
                        return Ok(Step::More(Self {
                            stage: ResponderStage::Waiting(awaiting),
                            ..self
                        }));
                    }
                    let message = unmask(&self.place, 1, self.input.split_to(FIRST_LEN));
                    read_first(awaiting, self.best, &message)?
                }
                ResponderStage::Opened {
                    answering,
                    agreed,
                    hour,
                    padding,
                } => {
                    if !padding.strip(&mut self.input)? {
                        let stage = ResponderStage::Opened {
                            answering,
                            agreed,
                            hour,
                            padding,
                        };
                        return Ok(Step::More(Self { stage, ..self }));
                    }
                    if self.input.has_remaining() {
                        return Err(HandshakeError::Early);
                    }
                    replays.admit(now, hour, &answering.opened)?;
                    let Fresh {
                        nonce,
                        ephemeral,
                        padding,
                    } = Fresh::draw(&mut self.rng);
                    let payload = second_payload(agreed, padding);
                    let finishing = put_masked(&self.place, 2, nonce, padding, out, |out| {
                        answering.write(ephemeral, &payload, out)
                    })?;
                    ResponderStage::Sent { finishing, agreed }
                }
                ResponderStage::Sent { finishing, agreed } => {
                    if self.input.len() < THIRD_LEN {
                        return Ok(Step::More(Self {
                            stage: ResponderStage::Sent { finishing, agreed },
                            ..self
                        }));
                    }
                    let (session, payload) = finishing.read(&self.input.split_to(THIRD_LEN))?;
                    let padding = Padding::read(Reader::new(&payload))?;
                    ResponderStage::Finished {
                        session,
                        agreed,
                        padding,
                    }
                }
                ResponderStage::Finished {
                    session,
                    agreed,
                    padding,
                } => {
                    if !padding.strip(&mut self.input)? {
                        let stage = ResponderStage::Finished {
                            session,
                            agreed,
                            padding,
                        };
                        return Ok(Step::More(Self { stage, ..self }));
                    }
                    return Ok(Step::Done(establish(
                        &session,
                        &self.place,
                        false,
                        agreed,
                        self.input,
                    )));
                }
            };
        }
    }
}

fn read_first(
    awaiting: noise::Awaiting,
    best: Cipher,
    message: &[u8],
) -> Result<ResponderStage, HandshakeError> {
    let (answering, payload) = awaiting.read(message)?;
    let mut reader = Reader::new(&payload);
    let (min, max) = (reader.u8()?, reader.u8()?);
    let version = agree(min, max)?;
    // The better one that both have.
    let cipher = match suite(&mut reader, Cipher::Aes256Gcm)? {
        Cipher::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
        Cipher::Aes256Gcm => best,
    };
    let agreed = Agreed { version, cipher };
    let hour = reader.u32()?;
    Ok(ResponderStage::Opened {
        answering,
        agreed,
        hour,
        padding: Padding::read(reader)?,
    })
}

#[cfg(test)]
mod tests;
