//! Everything that a node sees, in one list.
//!
//! A watched network runs on [`Watched`] ciphers. Each keeps, for the node at work, what its keys opened and what they
//! sealed: the frames of its links and every onion layer that it puts on or takes off. What passes inside the node from one machine
//! to another, what it asks its datastore, and the bytes of its handshakes are added, so a [`Transcript`] holds all that an
//! owner of the node can look at.
//!
//! Nothing is left out because it looks harmless: what can be concluded from it is [`crate::observer`]'s business.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::{Bytes, BytesMut};
use warren_keys::{Block, BlockId};
use warren_proto::{
    core::api::{StoreAnswer, StoreQuestion},
    crypto::{Aead, BadTag, Cipher},
    geometry::{PacketSize, RECORD_PAYLOAD},
    ids::{CircuitAddr, CircuitId, LinkId, RequestId, StoreTicket},
    link::api::{LinkCommand, LinkEvent},
    network::Network,
    wire::{
        ExitOp, ExitReply, ExitRequest, ExitResult, FRAME_HEADER, Frame, FrameType, OnionMessage,
        RepairMessage, Routed, decode_header,
    },
};

use crate::adversary::{Adversary, Step};

/// A cipher that reports to the transcript of the node at work, and lets its adversary write into the records that it seals.
pub struct Watched<A>(A);

/// One use of a cipher.
struct Ciphered {
    /// Sealed, or opened.
    sealed: bool,
    /// Links seal without associated data, circuits with some.
    link: bool,
    plain: Bytes,
    cipher: Bytes,
}

/// What the ciphers of this thread report to. A network runs on one thread, one machine at a time.
#[derive(Default)]
struct Tap {
    recording: bool,
    seen: Vec<Ciphered>,
    link: Option<LinkId>,
    adversary: Option<Box<dyn Adversary>>,
}

thread_local! {
    static TAP: RefCell<Tap> = RefCell::default();
}

/// Plaintext of a record: its payload and the count of used bytes.
const RECORD_PLAIN: usize = RECORD_PAYLOAD + 2;
/// Number of the nonce under which the next key is made.
const REKEY: u64 = u64::MAX;

impl<A: Aead> Aead for Watched<A> {
    fn with(cipher: Cipher, key: &[u8; 32]) -> Self {
        Self(A::with(cipher, key))
    }

    fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]) {
        if nonce == REKEY {
            return self.0.seal(nonce, aad, buf);
        }
        let text = buf.len().saturating_sub(warren_proto::geometry::TAG_LEN);
        let plain = TAP.with_borrow_mut(|tap| {
            if let (Some(link), Some(adversary), true) = (
                tap.link,
                &mut tap.adversary,
                aad.is_empty() && text == RECORD_PLAIN,
            ) {
                adversary.sealing(link, &mut buf[..text]);
            }
            tap.recording.then(|| Bytes::copy_from_slice(&buf[..text]))
        });
        self.0.seal(nonce, aad, buf);
        if let Some(plain) = plain {
            let cipher = Bytes::copy_from_slice(buf);
            report(true, aad, plain, cipher);
        }
    }

    fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        let recording = TAP.with_borrow(|tap| tap.recording);
        let cipher = recording.then(|| Bytes::copy_from_slice(buf.get(from..).unwrap_or_default()));
        let opened = self.0.open(nonce, aad, buf, from)?;
        if let Some(cipher) = cipher {
            report(false, aad, Bytes::copy_from_slice(&buf[..opened]), cipher);
        }
        Ok(opened)
    }
}

fn report(sealed: bool, aad: &[u8], plain: Bytes, cipher: Bytes) {
    let link = aad.is_empty();
    TAP.with_borrow_mut(|tap| {
        tap.seen.push(Ciphered {
            sealed,
            link,
            plain,
            cipher,
        });
    });
}

/// Runs a link machine with the tap on it.
pub(crate) fn during<R>(
    link: LinkId,
    adversary: &mut Option<Box<dyn Adversary>>,
    transcript: Option<&mut Transcript>,
    run: impl FnOnce() -> R,
) -> R {
    if adversary.is_none() && transcript.is_none() {
        return run();
    }
    TAP.with_borrow_mut(|tap| {
        tap.recording = transcript.is_some();
        tap.link = Some(link);
        tap.adversary = adversary.take();
    });
    let result = run();
    let seen = TAP.with_borrow_mut(|tap| {
        tap.recording = false;
        tap.link = None;
        *adversary = tap.adversary.take();
        std::mem::take(&mut tap.seen)
    });
    if let Some(transcript) = transcript {
        seen.into_iter().for_each(|each| transcript.ciphered(link, each));
    }
    result
}

/// Something that a node can tell apart from others of its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// A circuit on one of its links.
    Circuit(CircuitAddr),
    /// A routed request.
    Request(RequestId),
    /// A question to the datastore.
    Ticket(StoreTicket),
}

/// Where a node saw something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a frame on a link.
    Frame {
        /// The link.
        link: LinkId,
        /// Whether the peer sent it.
        incoming: bool,
        /// Its type.
        kind: FrameType,
        /// Bytes of its body.
        len: usize,
        /// The layer that a Create names.
        layer: Option<u8>,
    },
    /// In an onion layer that its keys put on or took off.
    Layer,
    /// On the way from one of its machines to another.
    Inside,
    /// Between it and its datastore.
    Datastore,
    /// In a handshake.
    Handshake {
        /// The link that came of it.
        link: LinkId,
        /// Whether the peer sent it.
        incoming: bool,
    },
}

/// One thing that a node saw: names and contents that stood together.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Where.
    pub place: Place,
    /// What is named in it.
    pub names: Vec<Name>,
    /// Bytes in it, and what the node can compute from them alone.
    pub contents: Vec<Bytes>,
}

/// All that one node saw, in order.
pub struct Transcript {
    network: Network,
    /// The sights.
    pub sights: Vec<Sight>,
    streams: BTreeMap<(LinkId, bool), FrameStream>,
}

impl Transcript {
    pub(crate) const fn new(network: Network) -> Self {
        Self {
            network,
            sights: Vec::new(),
            streams: BTreeMap::new(),
        }
    }

    fn ciphered(&mut self, link: LinkId, seen: Ciphered) {
        if !seen.link {
            return self.layer(seen);
        }
        let incoming = !seen.sealed;
        let stream = self.streams.entry((link, incoming)).or_default();
        stream.push(&seen.plain);
        let frames: Vec<Bytes> = std::iter::from_fn(|| stream.next()).collect();
        for frame in frames {
            self.frame(link, incoming, frame);
        }
    }

    fn layer(&mut self, seen: Ciphered) {
        let mut contents = vec![seen.cipher, seen.plain.clone()];
        for size in [PacketSize::Control, PacketSize::Block] {
            // Whatever layer it is of: when what is inside is a message, the node can read it.
            let mut inside = BytesMut::from(&seen.plain[..]);
            if inside.len() <= size.body() {
                inside.resize(size.body(), 0);
                if let Ok(message) = OnionMessage::decode(size, inside, &self.network) {
                    contents.extend(computed(&message));
                }
            }
        }
        self.add(Place::Layer, Vec::new(), contents);
    }

    fn frame(&mut self, link: LinkId, incoming: bool, frame: Bytes) {
        let (header, body) = frame.split_at(FRAME_HEADER);
        let Ok((kind, _)) = decode_header([header[0], header[1], header[2], header[3]]) else {
            return;
        };
        let place = |layer| Place::Frame {
            link,
            incoming,
            kind,
            len: body.len(),
            layer,
        };
        let circuit = || {
            let number = body.first_chunk().copied().map(u32::from_be_bytes);
            let circuit = CircuitId(number.unwrap_or_default());
            vec![Name::Circuit(CircuitAddr { link, circuit })]
        };
        let (place, names, mut contents) = match kind {
            FrameType::Create => (
                place(body.get(4).copied()),
                circuit(),
                vec![frame.slice(FRAME_HEADER + 5..)],
            ),
            FrameType::Created | FrameType::Destroy | FrameType::Packet(_) => {
                (place(None), circuit(), vec![frame.slice(FRAME_HEADER + 4..)])
            }
            FrameType::Routed(_) => {
                let id = body.first_chunk().copied().map(u64::from_be_bytes);
                let request = Name::Request(RequestId(id.unwrap_or_default()));
                (place(None), vec![request], vec![frame.slice(FRAME_HEADER..)])
            }
            _ => (place(None), Vec::new(), vec![frame.slice(FRAME_HEADER..)]),
        };
        if let Ok(Frame::Routed(message)) = Frame::decode(kind, BytesMut::from(body), &self.network) {
            contents.extend(block_in(&message).map(|block| key_bytes(block.id())));
        }
        self.add(place, names, contents);
    }

    /// Something passes between two of the node's machines.
    pub(crate) fn step(&mut self, step: &Step) {
        let on = |link: LinkId, circuit: CircuitId| Name::Circuit(CircuitAddr { link, circuit });
        let (names, contents) = match step {
            Step::Event(link, event) => match event {
                LinkEvent::ExtendWanted {
                    circuit,
                    target,
                    create,
                } => {
                    let ephemeral = Bytes::copy_from_slice(&create.ephemeral);
                    let target = Bytes::copy_from_slice(target.identity.as_bytes());
                    (vec![on(*link, *circuit)], vec![ephemeral, target])
                }
                LinkEvent::ExitRequest { circuit, request } => {
                    (vec![on(*link, *circuit)], in_request(request))
                }
                LinkEvent::CircuitGone(circuit) => (vec![on(*link, *circuit)], Vec::new()),
                // The rest says what the frame said that it came from, or is of the node's own circuits.
                _ => return,
            },
            Step::Command { to, command, .. } => match command {
                LinkCommand::OpenThrough { from, create } => {
                    let ephemeral = Bytes::copy_from_slice(&create.ephemeral);
                    (vec![Name::Circuit(*from)], vec![ephemeral])
                }
                LinkCommand::Extended {
                    circuit,
                    next,
                    created,
                } => {
                    let contents = [created.ephemeral, created.auth];
                    let contents = contents.map(|each| Bytes::copy_from_slice(&each));
                    (vec![on(*to, *circuit), Name::Circuit(*next)], contents.to_vec())
                }
                LinkCommand::ExitReply { circuit, reply } => (vec![on(*to, *circuit)], in_reply(reply)),
                LinkCommand::Forward { circuit, body, .. } | LinkCommand::Backward { circuit, body, .. } => {
                    (vec![on(*to, *circuit)], vec![Bytes::copy_from_slice(body)])
                }
                LinkCommand::Destroy(circuit) | LinkCommand::ExtendFailed(circuit) => {
                    (vec![on(*to, *circuit)], Vec::new())
                }
                _ => return,
            },
        };
        self.add(Place::Inside, names, contents);
    }

    pub(crate) fn asked(&mut self, ticket: StoreTicket, question: &StoreQuestion) {
        let contents = match question {
            StoreQuestion::Find(id) => vec![key_bytes(*id)],
            StoreQuestion::Keep(block, _) => in_block(block),
            StoreQuestion::Survey { .. } => Vec::new(),
            StoreQuestion::Holds(ids) => ids.iter().map(|id| key_bytes(*id)).collect(),
            StoreQuestion::Demote(id) => vec![key_bytes(*id)],
        };
        self.add(Place::Datastore, vec![Name::Ticket(ticket)], contents);
    }

    pub(crate) fn answered(&mut self, ticket: StoreTicket, answer: &StoreAnswer) {
        let contents = match answer {
            StoreAnswer::Found(block, _) | StoreAnswer::Collision(block) => in_block(block),
            StoreAnswer::Surveyed { blocks, .. } => blocks.iter().map(|id| key_bytes(*id)).collect(),
            StoreAnswer::Missing
            | StoreAnswer::Kept
            | StoreAnswer::Failed
            | StoreAnswer::Busy
            | StoreAnswer::Holdings(_) => Vec::new(),
        };
        self.add(Place::Datastore, vec![Name::Ticket(ticket)], contents);
    }

    pub(crate) fn handshake(&mut self, link: LinkId, incoming: bool, bytes: &[u8]) {
        let contents = vec![Bytes::copy_from_slice(bytes)];
        self.add(Place::Handshake { link, incoming }, Vec::new(), contents);
    }

    fn add(&mut self, place: Place, names: Vec<Name>, contents: Vec<Bytes>) {
        self.sights.push(Sight {
            place,
            names,
            contents,
        });
    }

    /// The frames among the sights: link, whether incoming, type, bytes of the body, layer of a Create.
    pub fn frames(&self) -> impl Iterator<Item = (&Sight, LinkId, bool, FrameType)> {
        self.sights.iter().filter_map(|sight| match sight.place {
            Place::Frame {
                link, incoming, kind, ..
            } => Some((sight, link, incoming, kind)),
            _ => None,
        })
    }
}

fn key_bytes(id: BlockId) -> Bytes {
    Bytes::copy_from_slice(id.key.as_bytes())
}

fn in_block(block: &Block) -> Vec<Bytes> {
    vec![key_bytes(block.id()), block.bytes().clone()]
}

fn in_request(request: &ExitRequest) -> Vec<Bytes> {
    match &request.op {
        ExitOp::Fetch { block, .. } => vec![key_bytes(*block)],
        ExitOp::Insert(block) => in_block(block),
    }
}

fn in_reply(reply: &ExitReply) -> Vec<Bytes> {
    match &reply.result {
        ExitResult::Found(block) | ExitResult::Collision(block) => in_block(block),
        _ => Vec::new(),
    }
}

fn computed(message: &OnionMessage) -> Vec<Bytes> {
    match message {
        OnionMessage::Request(request) => in_request(request),
        OnionMessage::Reply(reply) => in_reply(reply),
        _ => Vec::new(),
    }
}

/// The block that a routed message carries.
#[must_use]
pub const fn block_in(message: &Routed) -> Option<&Block> {
    match message {
        Routed::Found { block, .. }
        | Routed::Insert { block, .. }
        | Routed::Collision { block, .. }
        | Routed::Replicate { block, .. }
        | Routed::Repair(RepairMessage::HandOver { block, .. }) => Some(block),
        _ => None,
    }
}

/// Takes records apart into frames.
#[derive(Default)]
pub struct FrameStream {
    bytes: BytesMut,
}

impl FrameStream {
    /// Takes the plaintext of a record.
    pub fn push(&mut self, record: &[u8]) {
        if let Some((payload, count)) = record.split_last_chunk::<2>() {
            let used = usize::from(u16::from_be_bytes(*count)).min(payload.len());
            self.bytes.extend_from_slice(&payload[..used]);
        }
    }

    /// The next whole frame, header included.
    #[expect(clippy::should_implement_trait, reason = "resumes after None")]
    pub fn next(&mut self) -> Option<Bytes> {
        let len = u32::from_be_bytes([0, *self.bytes.get(1)?, *self.bytes.get(2)?, *self.bytes.get(3)?]);
        let len = FRAME_HEADER + len as usize;
        (self.bytes.len() >= len).then(|| self.bytes.split_to(len).freeze())
    }
}
