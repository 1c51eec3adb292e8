//! All circuits that run over one link, of both directions (protocol §6.1, §6.6).
//!
//! A circuit is here in one of three roles: it arrives from the peer ([`RelayCircuit`]), it goes through to the peer on behalf
//! of another link, or it starts at this node ([`OriginCircuit`]).
//!
//! Invariants: the number of a circuit says who opened it, and numbers only grow, so a message for a circuit that is gone
//! is told from one for a circuit that never was: the first is late and ignored, the second is the peer's offence. When a
//! circuit ends, everybody who holds a part of it is told once: the peer, the other link, the core.
//!
//! Deliberately absent: bytes. Frames come in parsed and leave through the queue.

mod commands;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use warren_keys::NodeId;

use crate::{
    circuit::{
        CIRCUIT_IDLE, EXTEND_TIMEOUT, HOP_TIMEOUT, MAX_CIRCUITS, ntor,
        onion::HopCipher,
        origin::{Blame, OriginCircuit, Step},
        relay::{Arrival, RelayCircuit},
    },
    crypto::Aead,
    descriptor::{NodeSecrets, Services},
    geometry::PacketSize,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    link::{
        api::{LinkCommand, LinkEvent, LinkOutput},
        queue::SendQueue,
    },
    network::Network,
    time::Time,
    wire::{Create, Created, Frame, OnionMessage},
};

/// Circuits that a peer may open at once; a client that starts builds its pool, a relay that lost a neighbour rebuilds.
const CREATE_BURST: u32 = 256;
/// Circuits that a peer may open a second after that: each costs two key exchanges, about 0.15 ms.
const CREATE_RATE: u32 = 32;
/// Bytes that may wait on one link: half a second at 32 MB/s, several seconds on a home line.
const LINK_BUDGET: usize = 16 * 1024 * 1024;
/// Frames of link control that may wait; beyond, no circuit is opened over this link.
const CONTROL_BACKLOG: usize = 1024;
/// Frames of link control that a peer may provoke without reading them.
const CONTROL_FLOOD: usize = 8 * CONTROL_BACKLOG;

/// The peer broke the protocol: the link has to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Offence {
    /// The number is not one that the peer may choose now.
    #[error("a circuit number out of turn")]
    Number,
    /// A frame for a circuit that never was, or that this circuit cannot have now.
    #[error("a frame that the circuit cannot have")]
    Unexpected,
    /// The peer provokes answers and does not read them.
    #[error("answers are not read")]
    Flood,
}

/// Where a switch puts what is to be sent and told.
#[derive(Default)]
pub(crate) struct Outlet {
    /// To the peer.
    pub(crate) queue: SendQueue,
    /// To the core and to other links.
    pub(crate) events: VecDeque<LinkOutput>,
}

impl Outlet {
    pub(crate) fn core(&mut self, event: LinkEvent) {
        self.events.push_back(LinkOutput::Core(event));
    }

    pub(crate) fn link(&mut self, link: LinkId, command: LinkCommand) {
        self.events.push_back(LinkOutput::Link(link, command));
    }

    fn destroy(&mut self, circuit: CircuitId) {
        // Only gossip and pings are ever refused.
        self.queue.push_control(Frame::Destroy(circuit));
    }
}

/// Who ended a circuit, and so knows already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    /// The peer sent Destroy.
    Peer,
    /// The other link, or the core.
    Inside,
    /// This switch.
    Switch,
}

enum Role<A> {
    Relay(RelayCircuit<A>),
    Through(Through),
    Origin(OriginCircuit<A>),
}

/// A circuit that goes on to the peer from another link.
struct Through {
    from: CircuitAddr,
    /// Whether the peer has accepted it.
    open: bool,
    used: Time,
}

impl<A: Aead> Role<A> {
    /// When it may be dropped for want of packets; `None` while it waits for an answer, and for the own client's circuits.
    fn idle_at(&self) -> Option<Time> {
        match self {
            Self::Relay(relay) if !relay.extending() => Some(relay.used() + CIRCUIT_IDLE),
            Self::Through(through) if through.open => Some(through.used + CIRCUIT_IDLE),
            Self::Relay(_) | Self::Through(_) | Self::Origin(_) => None,
        }
    }

    /// The circuit's other half, on another link of this node.
    fn other(&self) -> Option<CircuitAddr> {
        match self {
            Self::Relay(relay) => relay.next(),
            Self::Through(through) => Some(through.from),
            Self::Origin(_) => None,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Origin(origin) => origin.blame(),
            Self::Relay(_) | Self::Through(_) => Blame(None),
        }
    }
}

struct Entry<A> {
    role: Role<A>,
    deadline: Option<Time>,
}

/// What a switch knows of its two ends.
pub(crate) struct Ends {
    /// The link that it belongs to.
    pub(crate) link: LinkId,
    /// Whether this node dialled.
    pub(crate) dialler: bool,
    /// This node.
    pub(crate) me: NodeId,
    /// The peer.
    pub(crate) peer: NodeId,
    /// What this node offers.
    pub(crate) services: Services,
    /// This node's onion key.
    pub(crate) secrets: Arc<NodeSecrets>,
    /// The network that both belong to.
    pub(crate) network: Network,
}

impl Ends {
    /// Whether this node does what a circuit's client asks: its services, and for an extension neither to this node nor back to
    /// where the circuit comes from.
    fn admits(&self, message: &OnionMessage) -> bool {
        match message {
            OnionMessage::Extend { target, .. } => {
                self.services.relay && target.identity != self.me && target.identity != self.peer
            }
            OnionMessage::Request(_) => self.services.exit,
            _ => true,
        }
    }
}

/// The circuits of one link.
pub(crate) struct Switch<A> {
    ends: Ends,
    rng: ChaCha20Rng,
    circuits: BTreeMap<CircuitId, Entry<A>>,
    origins: BTreeMap<OriginId, CircuitId>,
    deadlines: BTreeSet<(Time, CircuitId)>,
    /// The number of the next circuit that this node opens.
    next: u32,
    /// The highest number that the peer has used.
    last: Option<u32>,
    /// Circuits that the peer opened and that stand.
    arrived: usize,
    creates: Bucket,
}

impl<A: Aead> Switch<A> {
    /// No circuits yet.
    pub(crate) fn new(now: Time, ends: Ends, rng: ChaCha20Rng) -> Self {
        let next = if ends.dialler { 1 } else { 2 };
        Self {
            ends,
            rng,
            circuits: BTreeMap::new(),
            origins: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next,
            last: None,
            arrived: 0,
            creates: Bucket {
                tokens: CREATE_BURST,
                filled: now,
            },
        }
    }

    /// The peer opens a circuit to this node.
    pub(crate) fn create(
        &mut self,
        now: Time,
        id: CircuitId,
        create: &Create,
        out: &mut Outlet,
    ) -> Result<(), Offence> {
        if self.is_own(id) || self.last.is_some_and(|last| id.0 <= last) || id.0 == 0 {
            return Err(Offence::Number);
        }
        self.last = Some(id.0);
        let services = self.ends.services;
        let willing =
            (services.relay || services.exit) && self.arrived < MAX_CIRCUITS && self.creates.take(now);
        let accepted = if willing { self.accept(create) } else { None };
        let Some((cipher, created)) = accepted else {
            if out.queue.control_len() >= CONTROL_FLOOD {
                return Err(Offence::Flood);
            }
            out.destroy(id);
            return Ok(());
        };
        out.queue.push_control(Frame::Created { circuit: id, created });
        self.arrived += 1;
        self.enter(
            id,
            Role::Relay(RelayCircuit::new(now, cipher)),
            Some(now + CIRCUIT_IDLE),
        );
        Ok(())
    }

    fn accept(&mut self, create: &Create) -> Option<(HopCipher<A>, Created)> {
        let (keys, created) = ntor::respond(
            &mut self.rng,
            &self.ends.me,
            self.ends.secrets.onion_secret(),
            self.ends.secrets.onion_public(),
            create,
        )
        .ok()?;
        Some((HopCipher::new(create.layer, &keys)?, created))
    }

    /// The peer accepts a circuit.
    pub(crate) fn created(
        &mut self,
        now: Time,
        id: CircuitId,
        created: Created,
        out: &mut Outlet,
    ) -> Result<(), Offence> {
        let Some(entry) = self.circuits.get_mut(&id) else {
            return self.late(id);
        };
        match &mut entry.role {
            Role::Relay(_) | Role::Through(Through { open: true, .. }) => Err(Offence::Unexpected),
            Role::Through(through) => {
                through.open = true;
                through.used = now;
                let (from, next) = (
                    through.from,
                    CircuitAddr {
                        link: self.ends.link,
                        circuit: id,
                    },
                );
                out.link(
                    from.link,
                    LinkCommand::Extended {
                        circuit: from.circuit,
                        next,
                        created,
                    },
                );
                self.set_deadline(id, Some(now + CIRCUIT_IDLE));
                Ok(())
            }
            Role::Origin(origin) => {
                let step = origin.created(&mut self.rng, &created);
                self.step(now, id, step, out);
                Ok(())
            }
        }
    }

    /// An onion packet.
    pub(crate) fn packet(
        &mut self,
        now: Time,
        id: CircuitId,
        size: PacketSize,
        mut body: BytesMut,
        out: &mut Outlet,
    ) -> Result<(), Offence> {
        let Some(entry) = self.circuits.get_mut(&id) else {
            return self.late(id);
        };
        match &mut entry.role {
            Role::Relay(relay) => {
                let ends = &self.ends;
                let admits = |message: &OnionMessage| ends.admits(message);
                let arrival = relay.forward(now, size, &mut body, &ends.network, admits);
                match arrival {
                    Ok(Arrival::PassOn(next)) => {
                        out.link(
                            next.link,
                            LinkCommand::Forward {
                                circuit: next.circuit,
                                size,
                                body,
                            },
                        );
                    }
                    Ok(Arrival::Extend { target, create }) => {
                        out.core(LinkEvent::ExtendWanted {
                            circuit: id,
                            target,
                            create,
                        });
                        self.set_deadline(id, Some(now + EXTEND_TIMEOUT));
                    }
                    Ok(Arrival::Request(request)) => {
                        out.core(LinkEvent::ExitRequest { circuit: id, request });
                    }
                    Ok(Arrival::Nothing) => {}
                    Err(_) => self.end(id, EndedBy::Switch, Blame(None), out),
                }
                Ok(())
            }
            Role::Through(Through { open: false, .. }) => Err(Offence::Unexpected),
            Role::Through(through) => {
                through.used = now;
                out.link(
                    through.from.link,
                    LinkCommand::Backward {
                        circuit: through.from.circuit,
                        size,
                        body,
                    },
                );
                Ok(())
            }
            Role::Origin(origin) => {
                let step = origin.packet(&mut self.rng, size, body, &self.ends.network);
                self.step(now, id, step, out);
                Ok(())
            }
        }
    }

    /// The peer ends a circuit.
    pub(crate) fn destroyed(&mut self, id: CircuitId, out: &mut Outlet) -> Result<(), Offence> {
        let Some(entry) = self.circuits.get(&id) else {
            return self.late(id);
        };
        let blame = entry.role.blame();
        self.end(id, EndedBy::Peer, blame, out);
        Ok(())
    }

    /// Another link is gone, and with it all circuits that went on over it.
    pub(crate) fn undeliverable(&mut self, link: LinkId, out: &mut Outlet) {
        let elsewhere = |role: &Role<A>| role.other().is_some_and(|other| other.link == link);
        let lost = self.circuits.iter().filter(|(_, entry)| elsewhere(&entry.role));
        let lost: Vec<CircuitId> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.end(id, EndedBy::Switch, Blame(None), out);
        }
    }

    /// Another link could not take a packet for its circuit `other`: a gap that the circuit cannot survive.
    pub(crate) fn refused(&mut self, other: CircuitAddr, out: &mut Outlet) {
        let circuit = self
            .circuits
            .iter()
            .find(|(_, entry)| entry.role.other() == Some(other));
        if let Some(id) = circuit.map(|(id, _)| *id) {
            self.end(id, EndedBy::Switch, Blame(None), out);
        }
    }

    /// The earliest deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Ends what has waited too long.
    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outlet) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(time, _)| *time <= now) {
            self.set_deadline(id, None);
            let Some(role) = self.circuits.get(&id).map(|entry| &entry.role) else {
                continue;
            };
            if let Some(until) = role.idle_at().filter(|until| *until > now) {
                // It was used since the deadline was set.
                self.set_deadline(id, Some(until));
                continue;
            }
            let blame = role.blame();
            self.end(id, EndedBy::Switch, blame, out);
        }
    }

    /// Ends the circuit whose data has waited longest; false when no circuit has any.
    pub(crate) fn shed(&mut self, out: &mut Outlet) -> bool {
        let Some((_, id)) = out.queue.oldest_circuit() else {
            return false;
        };
        self.end(id, EndedBy::Switch, Blame(None), out);
        true
    }

    /// The link closes: everybody but the peer is told. `peer_failed` puts the blame for client circuits on the peer.
    pub(crate) fn close(&mut self, peer_failed: bool, out: &mut Outlet) {
        let blame = Blame(peer_failed.then_some(self.ends.peer));
        while let Some(id) = self.circuits.keys().next().copied() {
            self.end(id, EndedBy::Peer, blame, out);
        }
    }

    /// Circuits of all roles.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.circuits.len()
    }

    fn step(&mut self, now: Time, id: CircuitId, step: Result<Step, Blame>, out: &mut Outlet) {
        let Some(Entry {
            role: Role::Origin(origin),
            ..
        }) = self.circuits.get(&id)
        else {
            return;
        };
        let name = origin.name();
        match step {
            Ok(Step::Extend(size, body)) => {
                self.set_deadline(id, Some(now + HOP_TIMEOUT));
                self.send(now, id, size, body, out);
            }
            Ok(Step::Ready) => {
                self.set_deadline(id, None);
                out.core(LinkEvent::OriginReady(name));
            }
            Ok(Step::Reply(reply)) => out.core(LinkEvent::OriginReply { origin: name, reply }),
            Ok(Step::Nothing) => {}
            Err(blame) => self.end(id, EndedBy::Switch, blame, out),
        }
    }

    /// Queues a packet for the peer within the budgets.
    fn send(&mut self, now: Time, id: CircuitId, size: PacketSize, body: BytesMut, out: &mut Outlet) {
        if out.queue.push_packet(now, id, size, body).is_err() {
            self.end(id, EndedBy::Switch, Blame(None), out);
        }
        while out.queue.bytes() > LINK_BUDGET && self.shed(out) {}
    }

    /// Removes a circuit and tells everybody who does not know yet.
    fn end(&mut self, id: CircuitId, by: EndedBy, blame: Blame, out: &mut Outlet) {
        self.set_deadline(id, None);
        let Some(entry) = self.circuits.remove(&id) else {
            return;
        };
        out.queue.clear(id);
        if by != EndedBy::Peer {
            out.destroy(id);
        }
        // A relay's continuation is told in any case: if not the other link but the core ended it, nobody else would.
        let known = by == EndedBy::Inside && matches!(entry.role, Role::Through(_));
        if let Some(other) = entry.role.other().filter(|_| !known) {
            out.link(other.link, LinkCommand::Destroy(other.circuit));
        }
        let onward = !matches!(entry.role, Role::Relay(_));
        if onward && self.circuits.len() == self.arrived {
            out.core(LinkEvent::Carries(false));
        }
        match entry.role {
            Role::Relay(relay) => {
                self.arrived -= 1;
                if relay.concerns_core() {
                    out.core(LinkEvent::CircuitGone(id));
                }
            }
            Role::Through(_) => {}
            Role::Origin(origin) => {
                self.origins.remove(&origin.name());
                if by != EndedBy::Inside {
                    out.core(LinkEvent::OriginClosed {
                        origin: origin.name(),
                        blame: blame.0,
                    });
                }
            }
        }
    }

    /// Takes in a circuit that goes on over this link.
    fn enter_onward(&mut self, id: CircuitId, role: Role<A>, deadline: Time, out: &mut Outlet) {
        if self.circuits.len() == self.arrived {
            out.core(LinkEvent::Carries(true));
        }
        self.enter(id, role, Some(deadline));
    }

    fn enter(&mut self, id: CircuitId, role: Role<A>, deadline: Option<Time>) {
        self.circuits.insert(id, Entry { role, deadline: None });
        self.set_deadline(id, deadline);
    }

    fn set_deadline(&mut self, id: CircuitId, deadline: Option<Time>) {
        if let Some(entry) = self.circuits.get_mut(&id) {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, id));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, id));
            }
            entry.deadline = deadline;
        }
    }

    /// A frame for a circuit that is not there: late if it ever was, else an offence.
    fn late(&self, id: CircuitId) -> Result<(), Offence> {
        let was = if self.is_own(id) {
            id.0 < self.next
        } else {
            self.last.is_some_and(|last| id.0 <= last)
        };
        if was { Ok(()) } else { Err(Offence::Unexpected) }
    }

    /// Whether the number is of a circuit that this node opens.
    fn is_own(&self, id: CircuitId) -> bool {
        (id.0 % 2 == 1) == self.ends.dialler
    }

    /// Whether one more circuit may be opened to the peer.
    fn may_open(&self, out: &Outlet) -> bool {
        self.circuits.len() - self.arrived < MAX_CIRCUITS && out.queue.control_len() < CONTROL_BACKLOG
    }

    /// The number of a new circuit; `None` when the link has used all up.
    fn number(&mut self) -> Option<CircuitId> {
        let id = CircuitId(self.next);
        self.next = self.next.checked_add(2)?;
        Some(id)
    }
}

/// A token bucket.
struct Bucket {
    tokens: u32,
    filled: Time,
}

impl Bucket {
    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.filled).as_micros() * u128::from(CREATE_RATE) / 1_000_000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(CREATE_BURST);
            self.filled = now;
        }
        let some = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        some
    }
}
