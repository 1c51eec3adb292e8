//! One link against a hostile peer, a confused core, and other links of its node.
//!
//! The cipher is [`NoSecurity`], so that everything a peer with the right keys could say is said, at every layer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use warren_proto::{
    crypto::Cipher,
    descriptor::Services,
    geometry::RECORD_LEN,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    link::{
        Established, Link, LinkConfig,
        api::{LinkCommand, LinkEvent, LinkOutput},
        frames::{FrameReceiver, FrameSender},
        record::{Opener, Sealer},
    },
    time::Time,
    wire::{ExitReply, Frame},
};

use super::{START, messages, pause};
use crate::{Input, Seed, cipher::NoSecurity, fixtures};

/// What may wait on a link at the most, bytes: the budgets of circuits and of routed messages, and control.
const MOST_QUEUED: usize = 32 << 20;
/// This node and its peer among the fixtures.
const ME: usize = 1;
const PEER: usize = 2;
/// The link, and the others of its node.
const HERE: LinkId = LinkId(1);
const OTHERS: [LinkId; 2] = [LinkId(2), LinkId(3)];

/// An end of a link between two fixtures as a handshake would leave it.
#[must_use]
pub fn established(peer: usize, dialler: bool) -> Established<NoSecurity> {
    Established {
        sender: FrameSender::new(Sealer::new(Cipher::ChaCha20Poly1305, &[0; 32])),
        receiver: FrameReceiver::new(
            Opener::new(Cipher::ChaCha20Poly1305, &[0; 32], BytesMut::new()),
            fixtures::network(),
        ),
        peer_link_key: fixtures::node(peer).descriptor.link_key,
        dialler,
        handshake_hash: [0; 32],
        version: 1,
        cipher: Cipher::ChaCha20Poly1305,
    }
}

/// What a link between two fixtures is made of.
#[must_use]
pub fn config(id: LinkId, me: usize, dialled: Option<usize>) -> LinkConfig {
    LinkConfig {
        id,
        secrets: fixtures::node(me).secrets.clone(),
        descriptor: fixtures::node(me).descriptor.clone(),
        network: fixtures::network(),
        dialled: dialled.map(|peer| fixtures::node(peer).descriptor.identity),
        remote: None,
        seed: [u8::try_from(id.0).unwrap_or(0); 32],
    }
}

/// What the link owes to its node.
struct World {
    link: Link<NoSecurity>,
    now: Time,
    peer: FrameSender<NoSecurity>,
    up: bool,
    next_origin: u64,
    /// Client circuits that have not ended, with the requests that have no answer.
    origins: BTreeMap<OriginId, BTreeSet<u32>>,
    /// Circuits that the core was told of, and whether it was asked as their exit.
    concerned: BTreeMap<CircuitId, bool>,
    gone: BTreeSet<CircuitId>,
}

/// The first byte says who dialled, and whether the peer introduces itself properly.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let start = input.u8();
    let dialler = start & 1 == 1;
    let config = config(HERE, ME, dialler.then_some(PEER));
    let mut world = World {
        link: Link::new(START, established(PEER, dialler), config),
        now: START,
        peer: FrameSender::new(Sealer::new(Cipher::ChaCha20Poly1305, &[0; 32])),
        up: false,
        next_origin: 0,
        origins: BTreeMap::new(),
        concerned: BTreeMap::new(),
        gone: BTreeSet::new(),
    };
    if start & 2 == 0 {
        world.peer.send(&Frame::Hello(Box::new(
            fixtures::node(PEER).descriptor.as_ref().clone(),
        )));
        world.deliver();
        assert!(world.up);
    }
    while let Some(op) = input.op() {
        world.step(op, &mut input);
    }
    world.end();
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        match op % 16 {
            0..=4 => self.peer.send(&messages::frame(input)),
            5 | 6 => {
                self.peer.send(&messages::frame(input));
                self.deliver();
            }
            7 => {
                // Whole or broken records of any bytes.
                let mut record = input.chunk().to_vec();
                record.resize(usize::from(input.u16()) % (2 * RECORD_LEN), 0);
                self.link.buffer().extend_from_slice(&record);
                self.link.received(self.now);
            }
            8..=10 => {
                let command = self.command(input);
                self.link.command(self.now, command);
            }
            11 => drop(self.link.poll_transmit(self.now, usize::from(input.u16()))),
            12 => self.wait(input),
            13 => self.link.undeliverable(self.now, OTHERS[input.below(2)]),
            14 => {
                let other = self.elsewhere(input);
                self.link.refused(self.now, other);
            }
            _ => drop(self.link.shed(self.now)),
        }
        self.drain();
    }

    fn deliver(&mut self) {
        self.peer.flush();
        let bytes = self.peer.take();
        self.link.buffer().extend_from_slice(&bytes);
        self.link.received(self.now);
        self.drain();
    }

    fn elsewhere(&self, input: &mut Input<'_>) -> CircuitAddr {
        CircuitAddr {
            link: OTHERS[input.below(2)],
            circuit: CircuitId(u32::from(input.u8())),
        }
    }

    fn command(&mut self, input: &mut Input<'_>) -> LinkCommand {
        let kind = input.u8() % 13;
        let circuit = CircuitId(u32::from(input.u8()));
        let open: Vec<OriginId> = self.origins.keys().copied().collect();
        match kind {
            0 => LinkCommand::Send(messages::frame(input)),
            1 | 2 => {
                self.next_origin += 1;
                let origin = OriginId(self.next_origin);
                self.origins.insert(origin, BTreeSet::new());
                let first = if input.u8() < 240 { PEER } else { 3 };
                let rest = (0..input.below(6)).map(|_| usize::from(input.u8()));
                let path = [first]
                    .into_iter()
                    .chain(rest)
                    .map(|hop| fixtures::node(hop).descriptor.as_ref().clone());
                LinkCommand::OpenOrigin {
                    origin,
                    path: path.collect(),
                }
            }
            3 => {
                let origin = input.pick(&open).unwrap_or(OriginId(0));
                let request = messages::exit_request(input);
                if let Some(requests) = self.origins.get_mut(&origin) {
                    requests.insert(request.id);
                }
                LinkCommand::OriginSend { origin, request }
            }
            4 => {
                let origin = input.pick(&open).unwrap_or(OriginId(0));
                if self.up {
                    self.origins.remove(&origin);
                }
                LinkCommand::CloseOrigin(origin)
            }
            5 => LinkCommand::OpenThrough {
                from: self.elsewhere(input),
                create: messages::create(input),
            },
            6 => LinkCommand::ExtendFailed(circuit),
            7 => {
                let id = u32::from(input.u8() % 80);
                LinkCommand::ExitReply {
                    circuit,
                    reply: ExitReply {
                        id,
                        result: messages::exit_result(input),
                    },
                }
            }
            8 => LinkCommand::Extended {
                circuit,
                next: self.elsewhere(input),
                created: messages::created(input),
            },
            9 => {
                let (size, body) = messages::packet(input);
                if input.flag() {
                    LinkCommand::Forward { circuit, size, body }
                } else {
                    LinkCommand::Backward { circuit, size, body }
                }
            }
            10 => LinkCommand::Destroy(circuit),
            11 => LinkCommand::Services(Services {
                relay: input.flag(),
                exit: input.flag(),
                store: input.flag(),
            }),
            _ if input.u8() > 250 => LinkCommand::Close,
            _ => LinkCommand::Destroy(circuit),
        }
    }

    /// Lets time pass; whatever is due must be dealt with by being called.
    fn wait(&mut self, input: &mut Input<'_>) {
        self.now = self.now + pause(input);
        for _ in 0..10_000 {
            if self.link.poll_timeout().is_none_or(|due| due > self.now) {
                return;
            }
            self.link.handle_timeout(self.now);
            self.drain();
        }
        panic!("a timeout that never passes");
    }

    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                LinkOutput::Core(event) => self.told(event),
                LinkOutput::Link(to, command) => {
                    assert!(OTHERS.contains(&to), "an output for a link that nobody named");
                    assert!(matches!(
                        command,
                        LinkCommand::Extended { .. }
                            | LinkCommand::ExtendFailed(_)
                            | LinkCommand::Destroy(_)
                            | LinkCommand::Forward { .. }
                            | LinkCommand::Backward { .. }
                    ));
                }
            }
        }
        assert!(self.link.queued_bytes() <= MOST_QUEUED);
    }

    fn told(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { .. } => assert!(!std::mem::replace(&mut self.up, true), "up twice"),
            LinkEvent::OriginClosed { origin, .. } => {
                assert!(
                    self.origins.remove(&origin).is_some(),
                    "a circuit that ended twice"
                );
            }
            LinkEvent::OriginReady(origin) => assert!(self.origins.contains_key(&origin)),
            LinkEvent::OriginReply { origin, reply } => {
                let requests = self
                    .origins
                    .get_mut(&origin)
                    .expect("an answer of a circuit that is over");
                assert!(requests.contains(&reply.id), "an answer to nothing");
            }
            LinkEvent::ExtendWanted { circuit, .. } => {
                assert!(!self.gone.contains(&circuit));
                self.concerned.entry(circuit).or_insert(false);
            }
            LinkEvent::ExitRequest { circuit, .. } => {
                assert!(!self.gone.contains(&circuit));
                self.concerned.insert(circuit, true);
            }
            LinkEvent::CircuitGone(circuit) => {
                assert!(
                    self.concerned.remove(&circuit).is_some(),
                    "a circuit that nobody knew"
                );
                assert!(self.gone.insert(circuit), "gone twice");
            }
            LinkEvent::Gossip(_)
            | LinkEvent::Pong(_)
            | LinkEvent::Alive
            | LinkEvent::Routed(_)
            | LinkEvent::Carries(_) => {
                assert!(self.up);
            }
        }
    }

    /// Everybody inside is told that it is over, once.
    fn end(mut self) {
        self.link.disconnected();
        self.drain();
        assert!(self.link.close_reason().is_some());
        assert!(self.origins.is_empty(), "client circuits that never end");
        assert!(
            self.concerned.values().all(|exit| !exit),
            "an exit that is not told"
        );
        assert!(
            self.link.poll_timeout().is_none() && self.link.poll_transmit(self.now, usize::MAX).is_none()
        );
        let late = LinkCommand::OpenOrigin {
            origin: OriginId(u64::MAX),
            path: Vec::new(),
        };
        self.origins.insert(OriginId(u64::MAX), BTreeSet::new());
        self.link.command(self.now, late);
        self.drain();
        assert!(self.origins.is_empty(), "a command that is never answered");
    }
}

/// A circuit that ends here, one that goes on, one that starts here, and what is not allowed.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let up = |name: &str| Seed::new(name).u8(0);
    // Create circuit 1 (the peer dialled, so its circuits are odd) and ask it for something.
    let exit = |name: &str| {
        up(name)
            .u8(5)
            .u8(4)
            .u8(1)
            .u8(0)
            .u8(9)
            .u8(5)
            .u8(8)
            .u8(1)
            .u8(0)
            .u8(2)
            .u8(7)
            .u8(0)
            .u8(0)
            .u8(3)
    };
    let relay = |name: &str| {
        let extend = up(name)
            .u8(5)
            .u8(4)
            .u8(1)
            .u8(0)
            .u8(9)
            .u8(5)
            .u8(8)
            .u8(1)
            .u8(0)
            .u8(0)
            .u8(3)
            .u8(1)
            .u8(9);
        extend.u8(8).u8(8).u8(1).u8(0).u8(5).u8(9).u8(9)
    };
    vec![
        up("frames")
            .u8(5)
            .u8(1)
            .u8(0)
            .u64(7)
            .u8(5)
            .u8(3)
            .u8(0)
            .u8(1)
            .u64(9)
            .u8(5)
            .u8(10)
            .u8(0)
            .u8(4)
            .u8(0)
            .u64(0),
        Seed::new("no-introduction").u8(2).u8(5).u8(1).u8(0).u64(7),
        Seed::new("impostor").u8(2).u8(5).u8(0).u8(0).u8(3),
        exit("exit").u8(8).u8(7).u8(1).u8(7).u8(0).u8(0).u8(11).u16(9000),
        exit("exit-dies").u8(5).u8(7).u8(1),
        relay("relay")
            .u8(5)
            .u8(8)
            .u8(1)
            .u8(0)
            .u8(4)
            .u8(1)
            .u8(8)
            .u8(9)
            .u8(1)
            .u8(0)
            .u8(4)
            .u8(0)
            .u8(0),
        relay("relay-lost").u8(13).u8(0),
        up("through")
            .u8(8)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(4)
            .u8(1)
            .u8(9)
            .u8(5)
            .u8(6)
            .u8(2)
            .u8(9)
            .u8(9)
            .u8(5)
            .u8(8)
            .u8(2)
            .u8(0)
            .u8(4)
            .u8(0),
        up("origin")
            .u8(8)
            .u8(1)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(3)
            .u8(4)
            .u8(11)
            .u16(9000)
            .u8(5)
            .u8(6)
            .u8(2)
            .u8(9)
            .u8(9),
        up("origin-closed")
            .u8(8)
            .u8(1)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(8)
            .u8(4)
            .u8(0)
            .u8(0),
        up("silence")
            .u8(12)
            .u8(200)
            .u8(2)
            .u8(11)
            .u16(500)
            .u8(12)
            .u8(200)
            .u8(2)
            .u8(12)
            .u8(30)
            .u8(3),
        up("records")
            .u8(7)
            .chunk(&[1; 20])
            .u16(4096)
            .u8(7)
            .chunk(&[0; 20])
            .u16(100),
        up("shed").u8(15).u8(14).u8(0).u8(1),
    ]
}
