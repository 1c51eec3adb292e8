//! One link to a neighbour, after its handshake (protocol §5).
//!
//! Received bytes become records, frames, and then events; frames wait in a fair queue until the socket can take them and
//! become records again. The circuits that run over the link live in its [`Switch`].
//!
//! Invariants: the first frame each way is the introduction, and it fits the handshake; before it nothing is accepted and
//! nothing told. The first invalid byte closes the link, and closing tells everybody inside once: circuits on other links, the
//! core. Frames that are due are encoded when the driver asks for bytes, not earlier.
//!
//! Deliberately absent: sockets, and the decision which links there should be.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::NodeId;

use crate::{
    circuit::switch::{Ends, Offence, Outlet, Switch},
    crypto::Aead,
    descriptor::{Descriptor, NodeSecrets},
    geometry::RECORD_LEN,
    ids::{CircuitAddr, LinkId},
    link::{
        api::{LinkCommand, LinkEvent, LinkOutput},
        frames::{FrameReceiver, FrameSender, StreamError},
        handshake::Established,
        queue::SendQueue,
        record::RecordError,
    },
    network::Network,
    time::Time,
    wire::{Frame, Refusal, Replica, Routed},
};

/// How long the peer has for its introduction: one round trip and a slow machine.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A link that has heard nothing for so long, although something of a circuit was sent over it, asks for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(5);
/// The same of a link over which nothing of circuits was sent: longer than the topology's own pings take, which are the usual ones.
const IDLE_PING_AFTER: Duration = Duration::from_secs(400);
/// A link that hears nothing for so long after it should have asked is dead: the ping and two retransmissions' time went unanswered.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// A link whose socket takes nothing for so long although something waits is dead.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Pings of ours without an answer that are remembered.
const OPEN_PINGS: usize = 16;

/// What a link machine is made of, beside its handshake.
pub struct LinkConfig {
    /// Its name in this node.
    pub id: LinkId,
    /// This node's secrets.
    pub secrets: Arc<NodeSecrets>,
    /// What this node says of itself.
    pub descriptor: Arc<Descriptor>,
    /// The network.
    pub network: Network,
    /// Whom the driver dialled; `None` when the peer did.
    pub dialled: Option<NodeId>,
    /// Where the connection's other end is, if the driver knows.
    pub remote: Option<SocketAddr>,
    /// Seed of the machine's randomness; never used twice.
    pub seed: [u8; 32],
}

/// What the peer did that no peer following the protocol does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misbehaviour {
    /// A record did not open (which may be the line's fault), or its frames are malformed or carry something that does not
    /// verify.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Something came before the introduction, or a second introduction.
    #[error("an introduction out of turn")]
    Introduction,
    /// The introduction is of another node than the handshake, or than was dialled.
    #[error("another node than the handshake's")]
    Impostor,
    /// A circuit frame that no circuit can have.
    #[error(transparent)]
    Circuit(#[from] Offence),
    /// A pong without a ping.
    #[error("an answer to no ping")]
    Pong,
}

/// Why a link is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    /// This node wanted it.
    #[error("closed by this node")]
    Requested,
    /// The connection ended.
    #[error("the connection ended")]
    Disconnected,
    /// The peer is this node itself.
    #[error("linked to itself")]
    Itself,
    /// The peer is silent, or its socket takes nothing.
    #[error("the peer does not answer")]
    Dead,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Misbehaved(Misbehaviour),
}

impl CloseReason {
    /// Whether the peer is to be held to account for it.
    ///
    /// A record that does not open is not proof: whoever owns the line can change a byte, and could otherwise make two honest
    /// nodes shun each other. What a record that opened says was said by the peer.
    #[must_use]
    pub const fn misbehaved(&self) -> bool {
        match self {
            Self::Misbehaved(Misbehaviour::Stream(StreamError::Record(
                RecordError::Unauthenticated | RecordError::Ended,
            ))) => false,
            Self::Misbehaved(_) => true,
            Self::Requested | Self::Disconnected | Self::Itself | Self::Dead => false,
        }
    }
}

enum Phase<A> {
    /// The peer's introduction is awaited.
    Greeting { until: Time },
    /// Up.
    Up(Box<Switch<A>>),
    /// Over; the machine does nothing any more.
    Closed(CloseReason),
}

/// A sign of life that was asked for.
struct OpenPing {
    number: u64,
    /// Whether the core asked.
    core: bool,
}

/// One link, sans IO.
///
/// The driver reads from the socket into [`Link::buffer`] and calls [`Link::received`], writes what
/// [`Link::poll_transmit`] gives while the socket takes it, and passes [`LinkOutput`]s on in order: the outputs of one link to one other
/// link must keep their order.
pub struct Link<A> {
    config: LinkConfig,
    dialler: bool,
    peer_link_key: [u8; 32],
    rng: ChaCha20Rng,
    sender: FrameSender<A>,
    receiver: FrameReceiver<A>,
    phase: Phase<A>,
    out: Outlet,
    heard: Time,
    /// When something of a circuit was first sent since.
    waits: Option<Time>,
    pings: VecDeque<OpenPing>,
    /// Since when the socket has taken nothing although something waits.
    stalled: Option<Time>,
}

impl<A: Aead> Link<A> {
    /// Takes over after the handshake and introduces this node. Call [`Link::received`] once: the handshake may have left bytes.
    #[must_use]
    pub fn new(now: Time, established: Established<A>, config: LinkConfig) -> Self {
        let Established {
            sender,
            receiver,
            peer_link_key,
            dialler,
            ..
        } = established;
        let mut out = Outlet::default();
        out.queue
            .push_control(Frame::Hello(Box::new(Descriptor::clone(&config.descriptor))));
        Self {
            rng: ChaCha20Rng::from_seed(config.seed),
            config,
            dialler,
            peer_link_key,
            sender,
            receiver,
            phase: Phase::Greeting {
                until: now + HELLO_TIMEOUT,
            },
            out,
            heard: now,
            waits: None,
            pings: VecDeque::new(),
            stalled: Some(now),
        }
    }

    /// Where the driver appends what the socket gives; has spare room.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.receiver.buffer()
    }

    /// The driver has appended to [`Link::buffer`].
    pub fn received(&mut self, now: Time) {
        if self.is_closed() {
            return;
        }
        if let Err(error) = self.read(now) {
            self.close(CloseReason::Misbehaved(error));
        }
        self.settle(now);
    }

    /// Takes a command of the core or of another link.
    pub fn command(&mut self, now: Time, command: LinkCommand) {
        match &mut self.phase {
            Phase::Up(switch) => match command {
                LinkCommand::Send(frame) => self.send(now, frame),
                LinkCommand::Close => self.close(CloseReason::Requested),
                circuit => {
                    if !matches!(circuit, LinkCommand::Services(_)) {
                        self.waits.get_or_insert(now);
                    }
                    switch.command(now, circuit, &mut self.out);
                }
            },
            Phase::Greeting { .. } | Phase::Closed(_) if matches!(command, LinkCommand::Close) => {
                self.close(CloseReason::Requested);
            }
            Phase::Greeting { .. } | Phase::Closed(_) => refuse(command, &mut self.out),
        }
        self.settle(now);
    }

    /// Another link of this node, to which an output of this one was addressed, is gone.
    pub fn undeliverable(&mut self, now: Time, link: LinkId) {
        if let Phase::Up(switch) = &mut self.phase {
            switch.undeliverable(link, &mut self.out);
        }
        self.settle(now);
    }

    /// The queue to another link was full, and a packet for its circuit `other` was dropped: the circuit ends on both sides.
    pub fn refused(&mut self, now: Time, other: CircuitAddr) {
        if let Phase::Up(switch) = &mut self.phase {
            switch.refused(other, &mut self.out);
        }
        self.settle(now);
    }

    /// The connection ended.
    pub fn disconnected(&mut self) {
        self.close(CloseReason::Disconnected);
    }

    /// The next thing that the core or another link has to know.
    pub fn poll_output(&mut self) -> Option<LinkOutput> {
        self.out.events.pop_front()
    }

    /// Bytes for the socket: whole records, about `max` bytes of them (more by one frame at the most); `None` when nothing
    /// waits. What is taken has to be written before anything that is taken later.
    pub fn poll_transmit(&mut self, now: Time, max: usize) -> Option<BytesMut> {
        if self.is_closed() {
            return None;
        }
        let max = max.max(RECORD_LEN);
        while self.sender.pending() < max {
            let Some(frame) = self.out.queue.pop() else {
                self.sender.flush();
                break;
            };
            self.sender.send(&frame);
        }
        let bytes = (self.sender.pending() > 0).then(|| self.sender.take());
        // Whatever was taken shows that the socket takes something.
        self.stalled = None;
        self.settle(now);
        bytes
    }

    /// Bytes that wait for the socket, for the node's memory budget.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.out.queue.bytes() + self.sender.pending()
    }

    /// Since when the oldest packet of a circuit waits.
    #[must_use]
    pub fn oldest_queued(&self) -> Option<Time> {
        self.out.queue.oldest_circuit().map(|(since, _)| since)
    }

    /// Ends the circuit whose data has waited longest: when the node is over its memory budget, the driver calls this on
    /// the link with the least [`Link::oldest_queued`]. False when there is none.
    pub fn shed(&mut self, now: Time) -> bool {
        let shed = match &mut self.phase {
            Phase::Up(switch) => switch.shed(&mut self.out),
            Phase::Greeting { .. } | Phase::Closed(_) => false,
        };
        self.settle(now);
        shed
    }

    /// When [`Link::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let ping_at = self.ping_at();
        let silent = if self.pings.is_empty() {
            ping_at
        } else {
            ping_at + DEAD_AFTER
        };
        let phase = match &self.phase {
            Phase::Closed(_) => return None,
            Phase::Greeting { until } => Some(*until),
            Phase::Up(switch) => switch.poll_timeout(),
        };
        let stalled = self.stalled.map(|since| since + STALLED_AFTER);
        [Some(silent), phase, stalled].into_iter().flatten().min()
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Closed(_) => return,
            Phase::Greeting { until } if now >= *until => return self.close(CloseReason::Dead),
            Phase::Greeting { .. } => {}
            Phase::Up(switch) => switch.handle_timeout(now, &mut self.out),
        }
        let stalled = self.stalled.is_some_and(|since| now >= since + STALLED_AFTER);
        let ping_at = self.ping_at();
        if stalled || now >= ping_at + DEAD_AFTER {
            return self.close(CloseReason::Dead);
        }
        if now >= ping_at && self.pings.is_empty() {
            let number = self.rng.next_u64();
            self.ping(number, false);
        }
        self.settle(now);
    }

    /// When silence makes it ask for a sign of life.
    fn ping_at(&self) -> Time {
        let idle = self.heard + IDLE_PING_AFTER;
        self.waits.map_or(idle, |since| idle.min(since + PING_AFTER))
    }

    /// Why the link is closed; `None` while it lives.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match &self.phase {
            Phase::Closed(reason) => Some(*reason),
            Phase::Greeting { .. } | Phase::Up(_) => None,
        }
    }

    /// Circuits that run over it.
    #[cfg(test)]
    pub(crate) fn circuits(&self) -> usize {
        match &self.phase {
            Phase::Up(switch) => switch.len(),
            Phase::Greeting { .. } | Phase::Closed(_) => 0,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    fn read(&mut self, now: Time) -> Result<(), Misbehaviour> {
        self.receiver.open().map_err(StreamError::from)?;
        while let Some(frame) = self.receiver.next()? {
            (self.heard, self.waits) = (now, None);
            if self.is_closed() {
                break;
            }
            self.frame(now, frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, now: Time, frame: Frame) -> Result<(), Misbehaviour> {
        let switch = match &mut self.phase {
            Phase::Closed(_) => return Ok(()),
            Phase::Greeting { .. } => {
                let Frame::Hello(descriptor) = frame else {
                    return Err(Misbehaviour::Introduction);
                };
                return self.greeted(now, descriptor);
            }
            Phase::Up(switch) => switch,
        };
        match frame {
            Frame::Hello(_) => return Err(Misbehaviour::Introduction),
            // Whoever sends more pings than the bound gets fewer answers.
            Frame::Ping(number) => {
                self.out.queue.push_control(Frame::Pong(number));
                self.out.core(LinkEvent::Alive);
            }
            Frame::Pong(number) => self.pong(number)?,
            gossip @ (Frame::AskDescriptors { .. }
            | Frame::Descriptors(_)
            | Frame::Announce(_)
            | Frame::Announced { .. }
            | Frame::Observed(_)
            | Frame::AskDialBack { .. }
            | Frame::DialedBack(_)) => self.out.core(LinkEvent::Gossip(gossip)),
            Frame::Create { circuit, create } => switch.create(now, circuit, &create, &mut self.out)?,
            Frame::Created { circuit, created } => switch.created(now, circuit, created, &mut self.out)?,
            Frame::Destroy(circuit) => switch.destroyed(circuit, &mut self.out)?,
            Frame::Packet { circuit, size, body } => {
                switch.packet(now, circuit, size, body, &mut self.out)?
            }
            Frame::Routed(Routed::Request { id, .. }) if self.out.queue.is_crowded() => {
                let why = Refusal::Busy;
                // Over budget it is dropped, and the peer's patience tells it the same.
                let _ = self.out.queue.push_routed(now, Routed::Refused { id, why });
            }
            Frame::Routed(message) => self.out.core(LinkEvent::Routed(message)),
        }
        Ok(())
    }

    fn greeted(&mut self, now: Time, descriptor: Box<Descriptor>) -> Result<(), Misbehaviour> {
        let dialled = self
            .config
            .dialled
            .is_none_or(|dialled| dialled == descriptor.identity);
        if descriptor.link_key != self.peer_link_key || !dialled {
            return Err(Misbehaviour::Impostor);
        }
        let own = &self.config.descriptor;
        if descriptor.identity == own.identity {
            self.close(CloseReason::Itself);
            return Ok(());
        }
        let ends = Ends {
            link: self.config.id,
            dialler: self.dialler,
            me: own.identity,
            peer: descriptor.identity,
            services: own.services,
            secrets: Arc::clone(&self.config.secrets),
            network: self.config.network,
        };
        let rng = ChaCha20Rng::from_rng(&mut self.rng);
        self.phase = Phase::Up(Box::new(Switch::new(now, ends, rng)));
        self.out.core(LinkEvent::Up {
            peer: descriptor,
            dialled: self.dialler,
            remote: self.config.remote,
        });
        Ok(())
    }

    /// A frame of the core.
    fn send(&mut self, now: Time, frame: Frame) {
        match frame {
            Frame::Ping(number) => self.ping(number, true),
            Frame::Routed(message) => {
                if let Err(message) = self.out.queue.push_routed(now, message) {
                    bounce(&message, &mut self.out);
                }
            }
            // Gossip repeats itself: what does not fit is dropped.
            gossip if gossip.is_topology() => {
                self.out.queue.push_control(gossip);
            }
            // The rest is the link's own business, and the core has commands for it.
            _ => {}
        }
    }

    fn ping(&mut self, number: u64, core: bool) {
        if self.pings.len() < OPEN_PINGS && self.out.queue.push_control(Frame::Ping(number)) {
            self.pings.push_back(OpenPing { number, core });
        }
    }

    /// Answers come in the order of the pings, but a flooded peer may leave some out.
    fn pong(&mut self, number: u64) -> Result<(), Misbehaviour> {
        let place = self
            .pings
            .iter()
            .position(|ping| ping.number == number)
            .ok_or(Misbehaviour::Pong)?;
        if self
            .pings
            .drain(..=place)
            .next_back()
            .is_some_and(|ping| ping.core)
        {
            self.out.core(LinkEvent::Pong(number));
        }
        Ok(())
    }

    /// After every input: keeps the stall watch.
    fn settle(&mut self, now: Time) {
        if self.out.queue.is_empty() {
            self.stalled = None;
        } else if self.stalled.is_none() {
            self.stalled = Some(now);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        let peer_failed = !matches!(reason, CloseReason::Requested);
        if let Phase::Up(mut switch) = core::mem::replace(&mut self.phase, Phase::Closed(reason)) {
            switch.close(peer_failed, &mut self.out);
        }
        self.out.queue = SendQueue::default();
        self.stalled = None;
    }
}

/// Answers a command that a link cannot carry out any more, or not yet, so that nobody waits for it.
fn refuse(command: LinkCommand, out: &mut Outlet) {
    match command {
        LinkCommand::OpenOrigin { origin, .. } => out.core(LinkEvent::OriginClosed { origin, blame: None }),
        LinkCommand::OpenThrough { from, .. } => out.link(from.link, LinkCommand::ExtendFailed(from.circuit)),
        LinkCommand::Extended { next, .. } => out.link(next.link, LinkCommand::Destroy(next.circuit)),
        _ => {}
    }
}

/// Answers for the peer a routed message that there is no room for.
fn bounce(message: &Routed, out: &mut Outlet) {
    let answer = match *message {
        Routed::Request { id, .. } | Routed::Insert { id, .. } => Routed::Refused {
            id,
            why: Refusal::Busy,
        },
        Routed::Replicate { id, .. } => Routed::Replicated {
            id,
            replica: Replica::Busy,
        },
        // Who waits for an answer gives up by itself.
        _ => return,
    };
    out.core(LinkEvent::Routed(answer));
}
