//! A circuit that starts here: this node is its client (protocol §6.5).
//!
//! It builds itself hop by hop, then carries requests to its exit and answers back.
//!
//! Invariants: a hop is added only when its proof holds; an answer is passed on only if it opened under the layers of all
//! hops, names an open request, and is of a kind that the request can have, with the very block that was asked for. Anything
//! else ends the circuit.
//!
//! Blame is a guess that the path choice uses, never proof: a hop can make its successor look dead. It is given when one hop
//! is more likely than all others, and only to this node's own core.

use std::collections::BTreeMap;

use bytes::BytesMut;
use rand_core::CryptoRng;
use warren_keys::{BlockId, BlockKind, NodeId};

use crate::{
    circuit::{WINDOW, ntor::ClientHandshake, onion::HopCipher},
    crypto::Aead,
    descriptor::Descriptor,
    geometry::{MAX_HOPS, PacketSize},
    ids::OriginId,
    network::Network,
    wire::{Create, Created, ExitOp, ExitReply, ExitRequest, ExitResult, OnionMessage},
};

/// The circuit has to end; the hop whose fault it most likely is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Blame(pub(crate) Option<NodeId>);

/// What is to be done next for a circuit.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this packet, and await the next hop's answer.
    Extend(PacketSize, BytesMut),
    /// The circuit stands.
    Ready,
    /// Hand this answer to who asked.
    Reply(ExitReply),
    /// Nothing: padding.
    Nothing,
}

/// A client's circuit.
pub(crate) struct OriginCircuit<A> {
    name: OriginId,
    path: Vec<Descriptor>,
    hops: Vec<HopCipher<A>>,
    handshake: Option<ClientHandshake>,
    open: BTreeMap<u32, Asked>,
}

/// What an open request may be answered with.
#[derive(Clone, Copy)]
enum Asked {
    Fetch(BlockId),
    /// A fetch that may be told to wait, once.
    Await(BlockId),
    Insert(BlockId),
}

impl<A: Aead> OriginCircuit<A> {
    /// Begins a circuit along `path`, and gives the handshake for its first hop; `None` when the path is empty or too long.
    pub(crate) fn start<R: CryptoRng + ?Sized>(
        rng: &mut R,
        name: OriginId,
        path: Vec<Descriptor>,
    ) -> Option<(Self, Create)> {
        let first = path.first().filter(|_| path.len() <= MAX_HOPS)?;
        let (handshake, create) = ClientHandshake::start(rng, first.identity, &first.onion_key, 0);
        let circuit = Self {
            name,
            path,
            hops: Vec::new(),
            handshake: Some(handshake),
            open: BTreeMap::new(),
        };
        Some((circuit, create))
    }

    /// Its name in this node.
    pub(crate) fn name(&self) -> OriginId {
        self.name
    }

    /// Whether all hops stand.
    pub(crate) fn ready(&self) -> bool {
        self.handshake.is_none()
    }

    /// Whom to blame when the circuit ends without a reason: while it is built, the hop that was to answer.
    pub(crate) fn blame(&self) -> Blame {
        Blame(if self.ready() {
            None
        } else {
            self.path.get(self.hops.len()).map(|hop| hop.identity)
        })
    }

    /// The first hop answered.
    ///
    /// # Errors
    /// Its proof does not hold, or it has answered before.
    pub(crate) fn created<R: CryptoRng + ?Sized>(
        &mut self,
        rng: &mut R,
        created: &Created,
    ) -> Result<Step, Blame> {
        if self.hops.is_empty() {
            self.add_hop(rng, created)
        } else {
            Err(self.entry())
        }
    }

    /// Takes a packet from the entry.
    ///
    /// # Errors
    /// It is invalid, or not expected.
    pub(crate) fn packet<R: CryptoRng + ?Sized>(
        &mut self,
        rng: &mut R,
        size: PacketSize,
        mut body: BytesMut,
        network: &Network,
    ) -> Result<Step, Blame> {
        if self.hops.is_empty() {
            return Err(self.entry());
        }
        for (layer, hop) in self.hops.iter_mut().enumerate() {
            // The link proves that the outermost layer is as the entry sent it. Of a layer further in, either its own hop or the
            // one before can be at fault.
            if hop.open_backward(size, &mut body).is_err() {
                return Err(if layer == 0 { self.entry() } else { Blame(None) });
            }
        }
        // What opened under all layers was made by the last hop.
        let author = Blame(self.path.get(self.hops.len() - 1).map(|hop| hop.identity));
        match OnionMessage::decode(size, body, network).map_err(|_| author)? {
            OnionMessage::Extended(created) if !self.ready() => self.add_hop(rng, &created),
            OnionMessage::Reply(reply) if self.ready() && self.fits(&reply) => {
                let asked = self.open.remove(&reply.id);
                // A block that comes after this is the answer that was waited for.
                if let (Some(Asked::Await(block)), ExitResult::Waiting) = (asked, &reply.result) {
                    self.open.insert(reply.id, Asked::Fetch(block));
                }
                Ok(Step::Reply(reply))
            }
            OnionMessage::Drop(_) => Ok(Step::Nothing),
            _ => Err(author),
        }
    }

    /// The packet that carries a request; `None` when the circuit does not stand, its window is full, or a request with the same
    /// number is open.
    pub(crate) fn request(&mut self, request: ExitRequest) -> Option<(PacketSize, BytesMut)> {
        if !self.ready() || self.open.len() >= WINDOW || self.open.contains_key(&request.id) {
            return None;
        }
        let asked = match &request.op {
            ExitOp::Fetch {
                block, wait: true, ..
            } => Asked::Await(*block),
            ExitOp::Fetch { block, .. } => Asked::Fetch(*block),
            ExitOp::Insert(block) => Asked::Insert(block.id()),
        };
        self.open.insert(request.id, asked);
        self.seal(&OnionMessage::Request(request))
    }

    fn add_hop<R: CryptoRng + ?Sized>(&mut self, rng: &mut R, created: &Created) -> Result<Step, Blame> {
        let suspect = self.blame();
        let handshake = self.handshake.take().ok_or(suspect)?;
        let keys = handshake.finish(created).map_err(|_| suspect)?;
        let layer = u8::try_from(self.hops.len()).map_err(|_| suspect)?;
        self.hops.push(HopCipher::new(layer, &keys).ok_or(suspect)?);
        let Some(target) = self.path.get(self.hops.len()).cloned() else {
            return Ok(Step::Ready);
        };
        let (handshake, create) = ClientHandshake::start(rng, target.identity, &target.onion_key, layer + 1);
        self.handshake = Some(handshake);
        let (size, body) = self
            .seal(&OnionMessage::Extend {
                target: Box::new(target),
                create,
            })
            .ok_or(suspect)?;
        Ok(Step::Extend(size, body))
    }

    fn seal(&mut self, message: &OnionMessage) -> Option<(PacketSize, BytesMut)> {
        let (size, mut body) = (message.size(), message.encode());
        for hop in self.hops.iter_mut().rev() {
            hop.seal_forward(size, &mut body).ok()?;
        }
        Some((size, body))
    }

    /// Whether an answer is one that its request can have.
    fn fits(&self, reply: &ExitReply) -> bool {
        match (self.open.get(&reply.id), &reply.result) {
            (None, _) => false,
            (Some(_), ExitResult::Busy | ExitResult::Failed) => true,
            (Some(Asked::Fetch(asked) | Asked::Await(asked)), ExitResult::Found(block)) => {
                block.id() == *asked
            }
            (Some(Asked::Fetch(_) | Asked::Await(_)), ExitResult::NotFound) => true,
            (Some(Asked::Await(_)), ExitResult::Waiting) => true,
            (Some(Asked::Insert(_)), ExitResult::Stored(_)) => true,
            // Only signed blocks can differ under one key.
            (Some(Asked::Insert(asked)), ExitResult::Collision(block)) => {
                block.id() == *asked && asked.kind == BlockKind::Signed
            }
            _ => false,
        }
    }

    fn entry(&self) -> Blame {
        Blame(self.path.first().map(|hop| hop.identity))
    }
}
