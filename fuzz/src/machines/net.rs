//! A network of links in memory, with a stand-in for the core that does what circuits need, and a wire that can be tampered with.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use bytes::BytesMut;
use warren_proto::{
    crypto::{Aead, Cipher},
    descriptor::Descriptor,
    geometry::RECORD_LEN,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    link::{
        CloseReason, Established, Link,
        api::{LinkCommand, LinkEvent, LinkOutput},
        frames::{FrameReceiver, FrameSender},
        record::{Opener, Sealer},
    },
    time::Time,
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult, Frame, Routed},
};

use super::{START, link::config, messages};
use crate::{Input, fixtures};

/// A network of links between the first fixtures.
pub struct Net<A> {
    /// The present.
    pub now: Time,
    /// The nodes; node `n` is fixture `n`.
    pub nodes: Vec<Node<A>>,
    next_link: u64,
    next_origin: u64,
}

/// A node.
pub struct Node<A> {
    /// Its links.
    pub links: BTreeMap<LinkId, End<A>>,
    /// Its client circuits that have not ended.
    pub origins: BTreeMap<OriginId, Origin>,
    /// Circuits that asked it as their exit, with the requests that it has not answered.
    pub exits: BTreeMap<CircuitAddr, BTreeSet<u32>>,
    /// Routed messages that came, in order.
    pub routed: Vec<(LinkId, Routed)>,
    /// Why links ended.
    pub closed: Vec<CloseReason>,
    /// Answers that came for the node's own circuits.
    pub answers: usize,
}

/// A client circuit.
#[derive(Default)]
pub struct Origin {
    /// The link to its entry.
    pub link: Option<LinkId>,
    /// Whether all its hops stand.
    pub ready: bool,
    /// Requests without an answer.
    pub open: BTreeMap<u32, ExitRequest>,
}

/// One end of a link.
pub struct End<A> {
    /// The machine.
    pub link: Link<A>,
    /// Node and link at the other end.
    pub other: (usize, LinkId),
    /// What it has sent and the other end has not received.
    pub wire: Vec<u8>,
}

impl<A: Aead> Net<A> {
    /// `count` nodes without links.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let node = || Node {
            links: BTreeMap::new(),
            origins: BTreeMap::new(),
            exits: BTreeMap::new(),
            routed: Vec::new(),
            closed: Vec::new(),
            answers: 0,
        };
        Self {
            now: START,
            nodes: (0..count).map(|_| node()).collect(),
            next_link: 1,
            next_origin: 1,
        }
    }

    /// Links two nodes; `a` dials.
    pub fn connect(&mut self, a: usize, b: usize) {
        let ids = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        // Both, by turns.
        let cipher = if self.next_link % 4 == 1 {
            Cipher::ChaCha20Poly1305
        } else {
            Cipher::Aes256Gcm
        };
        self.next_link += 2;
        for (end, (me, peer)) in [(a, b), (b, a)].into_iter().enumerate() {
            let keys = if end == 0 { [1, 2] } else { [2, 1] };
            let established = Established {
                sender: FrameSender::new(Sealer::new(cipher, &[keys[0]; 32])),
                receiver: FrameReceiver::new(
                    Opener::new(cipher, &[keys[1]; 32], BytesMut::new()),
                    fixtures::network(),
                ),
                peer_link_key: fixtures::node(peer).descriptor.link_key,
                dialler: end == 0,
                handshake_hash: [0; 32],
                version: 1,
                cipher,
            };
            let link = Link::new(
                self.now,
                established,
                config(ids[end], me, (end == 0).then_some(peer)),
            );
            self.nodes[me].links.insert(
                ids[end],
                End {
                    link,
                    other: (peer, ids[1 - end]),
                    wire: Vec::new(),
                },
            );
        }
    }

    /// A link of a node, as the input chooses.
    pub fn any_link(&self, input: &mut Input<'_>) -> Option<(usize, LinkId)> {
        let all: Vec<_> = (0..self.nodes.len())
            .flat_map(|node| self.nodes[node].links.keys().map(move |id| (node, *id)))
            .collect();
        input.pick(&all)
    }

    /// Gives a command to a link, if it is still there.
    pub fn command(&mut self, node: usize, link: LinkId, command: LinkCommand) {
        let now = self.now;
        if let Some(end) = self.nodes[node].links.get_mut(&link) {
            end.link.command(now, command);
        }
        self.drain();
    }

    /// Begins a circuit of `node` along `path`; nothing when it has no link to the first hop.
    pub fn open(&mut self, node: usize, path: &[usize]) {
        let Some(first) = path.first() else { return };
        let Some(link) = self.link_to(node, *first) else {
            return;
        };
        let origin = OriginId(self.next_origin);
        self.next_origin += 1;
        self.nodes[node].origins.insert(
            origin,
            Origin {
                link: Some(link),
                ..Origin::default()
            },
        );
        let path = path
            .iter()
            .map(|hop| Descriptor::clone(&fixtures::node(*hop).descriptor))
            .collect();
        self.command(node, link, LinkCommand::OpenOrigin { origin, path });
    }

    /// Asks the exit of one of `node`'s circuits for something.
    pub fn ask(&mut self, node: usize, origin: OriginId, request: ExitRequest) {
        let Some(state) = self.nodes[node].origins.get_mut(&origin) else {
            return;
        };
        let Some(link) = state.link else { return };
        if state.open.contains_key(&request.id) {
            return; // The pool never does.
        }
        state.open.insert(request.id, request.clone());
        self.command(node, link, LinkCommand::OriginSend { origin, request });
    }

    /// Closes one of `node`'s circuits.
    pub fn close_origin(&mut self, node: usize, origin: OriginId) {
        if let Some(Origin { link: Some(link), .. }) = self.nodes[node].origins.remove(&origin) {
            self.command(node, link, LinkCommand::CloseOrigin(origin));
        }
    }

    /// The exit of a circuit answers one of its requests.
    pub fn answer(&mut self, node: usize, at: CircuitAddr, result: ExitResult) {
        let Some(id) = self.nodes[node].exits.get_mut(&at).and_then(BTreeSet::pop_first) else {
            return;
        };
        if matches!(result, ExitResult::Waiting) {
            self.nodes[node].exits.entry(at).or_default().insert(id);
        }
        self.command(
            node,
            at.link,
            LinkCommand::ExitReply {
                circuit: at.circuit,
                reply: ExitReply { id, result },
            },
        );
    }

    /// The link of `node` to node `peer`.
    #[must_use]
    pub fn link_to(&self, node: usize, peer: usize) -> Option<LinkId> {
        self.nodes[node]
            .links
            .iter()
            .find(|(_, end)| end.other.0 == peer)
            .map(|(id, _)| *id)
    }

    /// Takes from a link's queue what its socket would take.
    pub fn transmit(&mut self, node: usize, link: LinkId, max: usize) {
        let now = self.now;
        if let Some(end) = self.nodes[node].links.get_mut(&link)
            && let Some(bytes) = end.link.poll_transmit(now, max)
        {
            assert!(bytes.len().is_multiple_of(RECORD_LEN), "not whole records");
            end.wire.extend_from_slice(&bytes);
        }
        self.drain();
    }

    /// Brings `len` bytes of the wire to the other end.
    pub fn deliver(&mut self, node: usize, link: LinkId, len: usize) {
        let now = self.now;
        let Some(end) = self.nodes[node].links.get_mut(&link) else {
            return;
        };
        let bytes: Vec<u8> = end.wire.drain(..len.min(end.wire.len())).collect();
        let (peer, other) = end.other;
        if let Some(end) = self.nodes[peer].links.get_mut(&other) {
            end.link.buffer().extend_from_slice(&bytes);
            end.link.received(now);
        }
        self.drain();
    }

    /// Moves everything until nothing moves.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let links: Vec<_> = (0..self.nodes.len())
                .flat_map(|node| self.nodes[node].links.keys().map(move |id| (node, *id)))
                .collect();
            let mut moved = false;
            for (node, link) in links {
                self.transmit(node, link, 1 << 20);
                let waiting = self.nodes[node].links.get(&link).map_or(0, |end| end.wire.len());
                moved |= waiting > 0;
                if waiting > 0 {
                    self.deliver(node, link, waiting);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets time pass, from wake-up to wake-up, while everything flows.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        self.run();
        for _ in 0..100_000 {
            let ends = self.nodes.iter().flat_map(|node| node.links.values());
            let Some(wake) = ends
                .filter_map(|end| end.link.poll_timeout())
                .min()
                .filter(|wake| *wake <= until)
            else {
                self.now = until;
                return;
            };
            self.now = self.now.max(wake);
            self.timeouts();
            self.run();
        }
        panic!("time never passes");
    }

    /// Lets time pass while nothing flows.
    pub fn sleep(&mut self, time: Duration) {
        self.now = self.now + time;
        self.timeouts();
    }

    fn timeouts(&mut self) {
        let now = self.now;
        for end in self.nodes.iter_mut().flat_map(|node| node.links.values_mut()) {
            let mut calls = 0;
            while end.link.poll_timeout().is_some_and(|due| due <= now) {
                end.link.handle_timeout(now);
                calls += 1;
                assert!(calls < 10_000, "a timeout that never passes");
            }
        }
        self.drain();
    }

    /// Ends a link as if its connection broke.
    pub fn cut(&mut self, node: usize, link: LinkId) {
        if let Some(end) = self.nodes[node].links.get_mut(&link) {
            end.link.disconnected();
        }
        self.drain();
    }

    /// Passes all outputs on until there are none; links that are over are removed, after what they had to say.
    pub fn drain(&mut self) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for node in 0..self.nodes.len() {
                let ids: Vec<LinkId> = self.nodes[node].links.keys().copied().collect();
                for id in ids {
                    while let Some(output) = self.nodes[node]
                        .links
                        .get_mut(&id)
                        .and_then(|end| end.link.poll_output())
                    {
                        moved = true;
                        self.output(node, id, output);
                    }
                    let reason = self.nodes[node]
                        .links
                        .get(&id)
                        .and_then(|end| end.link.close_reason());
                    if let Some(reason) = reason {
                        moved = true;
                        self.remove(node, id, reason);
                    }
                }
            }
        }
    }

    fn remove(&mut self, node: usize, id: LinkId, reason: CloseReason) {
        let Some(end) = self.nodes[node].links.remove(&id) else {
            return;
        };
        self.nodes[node].closed.push(reason);
        assert!(
            self.nodes[node].exits.keys().all(|at| at.link != id),
            "an exit that is not told"
        );
        assert!(
            self.nodes[node]
                .origins
                .values()
                .all(|origin| origin.link != Some(id)),
            "a client that is not told"
        );
        // What is on the wire is lost with the connection.
        if let Some(other) = self.nodes[end.other.0].links.get_mut(&end.other.1) {
            other.link.disconnected();
        }
    }

    fn output(&mut self, node: usize, id: LinkId, output: LinkOutput) {
        let now = self.now;
        match output {
            LinkOutput::Core(event) => self.event(node, id, event),
            LinkOutput::Link(to, command) => match self.nodes[node].links.get_mut(&to) {
                Some(end) if end.link.close_reason().is_none() => end.link.command(now, command),
                _ => {
                    if let Some(end) = self.nodes[node].links.get_mut(&id) {
                        end.link.undeliverable(now, to);
                    }
                }
            },
        }
    }

    fn event(&mut self, node: usize, link: LinkId, event: LinkEvent) {
        let here = &mut self.nodes[node];
        match event {
            LinkEvent::ExtendWanted {
                circuit,
                target,
                create,
            } => {
                let next = here
                    .links
                    .iter()
                    .find(|(_, end)| fixtures::node(end.other.0).descriptor.identity == target.identity);
                let (to, command) = match next.map(|(id, _)| *id) {
                    Some(next) => (
                        next,
                        LinkCommand::OpenThrough {
                            from: CircuitAddr { link, circuit },
                            create,
                        },
                    ),
                    None => (link, LinkCommand::ExtendFailed(circuit)),
                };
                let now = self.now;
                if let Some(end) = here.links.get_mut(&to) {
                    end.link.command(now, command);
                }
            }
            LinkEvent::ExitRequest { circuit, request } => {
                here.exits
                    .entry(CircuitAddr { link, circuit })
                    .or_default()
                    .insert(request.id);
            }
            LinkEvent::CircuitGone(circuit) => drop(here.exits.remove(&CircuitAddr { link, circuit })),
            LinkEvent::OriginReady(origin) => {
                let state = here.origins.get_mut(&origin).expect("ready, though it is over");
                assert!(!std::mem::replace(&mut state.ready, true), "ready twice");
            }
            LinkEvent::OriginReply { origin, reply } => {
                let state = here
                    .origins
                    .get_mut(&origin)
                    .expect("an answer, though it is over");
                let mut request = state.open.remove(&reply.id).expect("an answer to nothing");
                fits(&request, &reply);
                match (&reply.result, &mut request.op) {
                    // Only once, and then the answer.
                    (ExitResult::Waiting, ExitOp::Fetch { wait, .. }) => {
                        *wait = false;
                        state.open.insert(reply.id, request);
                    }
                    _ => here.answers += 1,
                }
            }
            LinkEvent::OriginClosed { origin, .. } => {
                assert!(here.origins.remove(&origin).is_some(), "closed twice");
            }
            LinkEvent::Routed(message) => here.routed.push((link, message)),
            LinkEvent::Up { .. }
            | LinkEvent::Gossip(_)
            | LinkEvent::Pong(_)
            | LinkEvent::Alive
            | LinkEvent::Carries(_) => {}
        }
    }
}

/// A client sees only what it asked for, verified.
fn fits(request: &ExitRequest, reply: &ExitReply) {
    match (&request.op, &reply.result) {
        (ExitOp::Fetch { block, .. }, ExitResult::Found(found)) => {
            assert_eq!(found.id(), *block, "another block");
            let verified = warren_keys::Block::verify(*block, found.bytes().clone());
            assert!(verified.is_ok(), "an unverified block");
        }
        (ExitOp::Insert(block), ExitResult::Collision(other)) => assert_eq!(other.id(), block.id()),
        (ExitOp::Fetch { .. }, ExitResult::Stored(_) | ExitResult::Collision(_))
        | (ExitOp::Fetch { wait: false, .. }, ExitResult::Waiting)
        | (ExitOp::Insert(_), ExitResult::Found(_) | ExitResult::NotFound | ExitResult::Waiting) => {
            panic!("an answer that the question cannot have")
        }
        _ => {}
    }
}

/// What an honest exit could answer.
pub fn honest_answer(request: &ExitOp, input: &mut Input<'_>) -> ExitResult {
    match request {
        ExitOp::Fetch { wait: true, .. } => {
            [ExitResult::Waiting, ExitResult::NotFound, ExitResult::Busy][input.below(3)].clone()
        }
        ExitOp::Fetch { .. } => {
            [ExitResult::NotFound, ExitResult::Busy, ExitResult::Failed][input.below(3)].clone()
        }
        ExitOp::Insert(_) => {
            [ExitResult::Stored(5), ExitResult::Busy, ExitResult::Failed][input.below(3)].clone()
        }
    }
}

/// A routed message as a core would send it.
pub fn routed(input: &mut Input<'_>, number: u64) -> Frame {
    Frame::Routed(messages::routed(input, warren_proto::ids::RequestId(number)))
}

/// The circuits of a node that ask it as their exit.
#[must_use]
pub fn exits<A>(node: &Node<A>) -> Vec<CircuitAddr> {
    node.exits.keys().copied().collect()
}

/// A circuit number that the input chooses.
pub fn circuit(input: &mut Input<'_>) -> CircuitId {
    CircuitId(u32::from(input.u8()))
}
