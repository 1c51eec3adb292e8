//! A circuit that arrives on a link: this node is one of its hops (protocol §6.4).
//!
//! The rule is one sentence: once the circuit goes on from here every packet goes on, and before that each packet is for
//! this node. So a relay never looks whether a packet could be meant for it, and cannot be made to answer in the middle of a
//! circuit.
//!
//! Invariants: a circuit is extended at most once; the hop after this one gets the next layer number; a packet that is not
//! expected in the present state ends the circuit.
//!
//! Deliberately absent: whom to extend to and how to answer requests. The core does both.

use bytes::BytesMut;

use crate::{
    circuit::{
        WINDOW,
        onion::{BadPacket, HopCipher},
    },
    crypto::Aead,
    descriptor::Descriptor,
    geometry::PacketSize,
    ids::CircuitAddr,
    network::Network,
    time::Time,
    wire::{Create, Created, ExitReply, ExitRequest, ExitResult, OnionMessage},
};

/// One circuit at one of its hops.
pub(crate) struct RelayCircuit<A> {
    cipher: HopCipher<A>,
    next: Next,
    /// Requests that the core has not answered yet.
    open: usize,
    /// Whether this node has ever been its exit.
    exit: bool,
    used: Time,
}

/// Where a circuit goes on.
enum Next {
    /// It ends here.
    Here,
    /// The core looks for the next hop.
    Asked,
    /// To this circuit on another link.
    There(CircuitAddr),
}

/// What a packet from the client's side means for this hop.
pub(crate) enum Arrival {
    /// It goes on, in the buffer that it came in.
    PassOn(CircuitAddr),
    /// The client wants the circuit to go on to `target`.
    Extend {
        /// Where to.
        target: Box<Descriptor>,
        /// The handshake to pass on.
        create: Create,
    },
    /// The client asks its exit.
    Request(ExitRequest),
    /// Nothing: padding.
    Nothing,
}

impl<A: Aead> RelayCircuit<A> {
    /// A circuit whose handshake is done.
    pub(crate) fn new(now: Time, cipher: HopCipher<A>) -> Self {
        Self {
            cipher,
            next: Next::Here,
            open: 0,
            exit: false,
            used: now,
        }
    }

    /// Takes a packet from the client's side; its layer is removed in place. Of what is for this hop, the buffer is used up.
    /// `admits` says whether this node does what a message asks for.
    ///
    /// # Errors
    /// The packet is invalid, not expected now, or not admitted.
    pub(crate) fn forward(
        &mut self,
        now: Time,
        size: PacketSize,
        body: &mut BytesMut,
        network: &Network,
        admits: impl FnOnce(&OnionMessage) -> bool,
    ) -> Result<Arrival, BadPacket> {
        self.cipher.open_forward(size, body)?;
        self.used = now;
        match self.next {
            Next::There(next) => return Ok(Arrival::PassOn(next)),
            Next::Asked => return Err(BadPacket),
            Next::Here => {}
        }
        let message = OnionMessage::decode(size, body.split(), network).map_err(|_| BadPacket)?;
        if !admits(&message) {
            return Err(BadPacket);
        }
        match message {
            OnionMessage::Drop(_) => Ok(Arrival::Nothing),
            // A circuit that has asked its exit for something stays where it is: the exit's duty ends with the circuit.
            OnionMessage::Extend { target, create }
                if create.layer == self.cipher.layer() + 1 && !self.exit =>
            {
                self.next = Next::Asked;
                Ok(Arrival::Extend { target, create })
            }
            OnionMessage::Request(request) if self.open < WINDOW => {
                self.open += 1;
                self.exit = true;
                Ok(Arrival::Request(request))
            }
            _ => Err(BadPacket),
        }
    }

    /// Adds this hop's layer, in place, to a packet from the next hop.
    ///
    /// # Errors
    /// The packet is malformed, or the circuit does not go on from here.
    pub(crate) fn backward(
        &mut self,
        now: Time,
        size: PacketSize,
        body: &mut BytesMut,
    ) -> Result<(), BadPacket> {
        if !matches!(self.next, Next::There(_)) {
            return Err(BadPacket);
        }
        self.used = now;
        self.cipher.seal_backward(size, body)
    }

    /// The next hop answered: from now on packets go there. Gives the packet that tells the client.
    ///
    /// # Errors
    /// No extension was asked for.
    pub(crate) fn extended(
        &mut self,
        next: CircuitAddr,
        created: Created,
    ) -> Result<(PacketSize, BytesMut), BadPacket> {
        if !self.extending() {
            return Err(BadPacket);
        }
        self.next = Next::There(next);
        self.say(&OnionMessage::Extended(created))
    }

    /// The packet that carries the exit's answer. After [`ExitResult::Waiting`] the request is still open.
    ///
    /// # Errors
    /// No request is open.
    pub(crate) fn reply(&mut self, now: Time, reply: ExitReply) -> Result<(PacketSize, BytesMut), BadPacket> {
        let last = !matches!(reply.result, ExitResult::Waiting);
        self.open = self.open.checked_sub(1).ok_or(BadPacket)? + usize::from(!last);
        self.used = now;
        self.say(&OnionMessage::Reply(reply))
    }

    fn say(&mut self, message: &OnionMessage) -> Result<(PacketSize, BytesMut), BadPacket> {
        let (size, mut body) = (message.size(), message.encode());
        self.cipher.seal_backward(size, &mut body)?;
        Ok((size, body))
    }

    /// Whether the core is looking for the next hop.
    pub(crate) fn extending(&self) -> bool {
        matches!(self.next, Next::Asked)
    }

    /// Whether the core has to hear of its end.
    pub(crate) fn concerns_core(&self) -> bool {
        self.exit || self.extending()
    }

    /// Where it goes on.
    pub(crate) fn next(&self) -> Option<CircuitAddr> {
        match self.next {
            Next::There(next) => Some(next),
            Next::Here | Next::Asked => None,
        }
    }

    /// When it last carried something.
    pub(crate) fn used(&self) -> Time {
        self.used
    }
}
