//! The fair queue of a link, seen from both of its ends.
//!
//! Circuits that go through to the peer are given numbered packets; what comes out must be the same packets, each circuit's
//! in order, none after its end, and the queue must be empty at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use warren_proto::{
    circuit::CIRCUIT_BUDGET,
    crypto::Cipher,
    geometry::PacketSize,
    ids::{CircuitAddr, CircuitId, LinkId, RequestId},
    link::{
        Link,
        api::{LinkCommand, LinkOutput},
        frames::{FrameReceiver, FrameSender},
        record::{Opener, Sealer},
    },
    time::Time,
    wire::{Create, Created, Frame, Routed},
};

use super::{START, link, messages};
use crate::{Input, Seed, cipher::NoSecurity, fixtures};

/// The other link, whose circuits go through this one.
const OTHER: LinkId = LinkId(2);
/// What may wait in all: the link's budget and that of routed messages, and some control.
const MOST_QUEUED: usize = 26 << 20;

struct World {
    link: Link<NoSecurity>,
    now: Time,
    peer: FrameSender<NoSecurity>,
    arrived: FrameReceiver<NoSecurity>,
    /// Numbers of the packets that wait, by circuit; circuits that are over are not here.
    waiting: BTreeMap<CircuitId, VecDeque<u32>>,
    /// Circuits that have ended here; the peer does not know yet.
    ended: BTreeSet<CircuitId>,
    /// What the other link calls the circuits.
    names: BTreeMap<CircuitId, CircuitId>,
    opening: CircuitId,
    routed: VecDeque<u64>,
    next_packet: u32,
    next_routed: u64,
}

/// Operations of the other link, of the core, and of the socket.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World {
        link: Link::new(
            START,
            link::established(2, true),
            link::config(LinkId(1), 1, Some(2)),
        ),
        now: START,
        peer: FrameSender::new(Sealer::new(Cipher::ChaCha20Poly1305, &[0; 32])),
        arrived: FrameReceiver::new(
            Opener::new(Cipher::ChaCha20Poly1305, &[0; 32], BytesMut::new()),
            fixtures::network(),
        ),
        waiting: BTreeMap::new(),
        ended: BTreeSet::new(),
        names: BTreeMap::new(),
        opening: CircuitId(0),
        routed: VecDeque::new(),
        next_packet: 0,
        next_routed: 0,
    };
    world.say(&Frame::Hello(Box::new(
        fixtures::node(2).descriptor.as_ref().clone(),
    )));
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.drain();
        assert!(world.link.queued_bytes() <= MOST_QUEUED, "over budget");
    }
    world.transmit(usize::MAX);
    assert!(
        world.waiting.values().all(VecDeque::is_empty) && world.routed.is_empty(),
        "something is left"
    );
    assert_eq!((world.link.queued_bytes(), world.link.oldest_queued()), (0, None));
    assert!(world.link.close_reason().is_none(), "an honest peer");
}

impl World {
    fn say(&mut self, frame: &Frame) {
        self.peer.send(frame);
        self.peer.flush();
        let bytes = self.peer.take();
        self.link.buffer().extend_from_slice(&bytes);
        self.link.received(self.now);
        self.drain();
    }

    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        self.now = Time(self.now.0 + 1);
        let open: Vec<CircuitId> = self
            .waiting
            .keys()
            .filter(|circuit| !self.ended.contains(circuit))
            .copied()
            .collect();
        match op % 8 {
            0 if open.len() < 32 => {
                self.opening = CircuitId(self.opening.0 + 1);
                let from = CircuitAddr {
                    link: OTHER,
                    circuit: self.opening,
                };
                let create = Create {
                    layer: 1,
                    ephemeral: [9; 32],
                };
                self.link
                    .command(self.now, LinkCommand::OpenThrough { from, create });
                // The peer answers what it was asked.
                self.transmit(usize::MAX);
            }
            1..=3 => {
                let Some(circuit) = input.pick(&open) else { return };
                let size = if op & 8 == 0 {
                    PacketSize::Control
                } else {
                    PacketSize::Block
                };
                for _ in 0..=input.u8() % 80 {
                    self.push(circuit, size);
                }
            }
            4 => {
                for _ in 0..=input.u8() % 40 {
                    self.route(input.flag());
                }
            }
            5 => self.transmit(usize::from(input.u16())),
            6 if input.flag() => {
                let oldest = self.link.oldest_queued();
                assert_eq!(self.link.shed(self.now), oldest.is_some());
            }
            6 => {
                if let Some(circuit) = input.pick(&open) {
                    self.over(circuit);
                    self.link.command(self.now, LinkCommand::Destroy(circuit));
                }
            }
            _ => {
                let frame = messages::gossip(input);
                self.link.command(self.now, LinkCommand::Send(frame));
            }
        }
    }

    fn push(&mut self, circuit: CircuitId, size: PacketSize) {
        let Some(waiting) = self
            .waiting
            .get_mut(&circuit)
            .filter(|_| !self.ended.contains(&circuit))
        else {
            return;
        };
        self.next_packet += 1;
        waiting.push_back(self.next_packet);
        assert!(waiting.len() * PacketSize::Control.body() <= CIRCUIT_BUDGET + PacketSize::Control.body());
        let mut body = BytesMut::zeroed(size.body());
        body[..4].copy_from_slice(&self.next_packet.to_be_bytes());
        self.link
            .command(self.now, LinkCommand::Forward { circuit, size, body });
        self.drain();
    }

    fn route(&mut self, block: bool) {
        self.next_routed += 1;
        let id = RequestId(self.next_routed);
        let message = if block {
            Routed::Found {
                id,
                block: fixtures::content_block(1),
                copy: false,
            }
        } else {
            Routed::NotFound { id, branches: 1 }
        };
        // Beyond its budget the link drops answers; stay within it.
        if self.routed.len() < 200 {
            self.routed.push_back(self.next_routed);
            self.link
                .command(self.now, LinkCommand::Send(Frame::Routed(message)));
        }
    }

    /// A circuit is over: of its packets only the one whose first part has gone already may still come.
    fn over(&mut self, circuit: CircuitId) {
        if let Some(waiting) = self.waiting.get_mut(&circuit) {
            waiting.truncate(1);
            self.ended.insert(circuit);
        }
    }

    /// Circuits that the link ended are over for the model too.
    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            if let LinkOutput::Link(to, command) = output {
                assert_eq!(to, OTHER);
                if let LinkCommand::Destroy(name) = command
                    && let Some(circuit) = self.names.get(&name)
                {
                    self.over(*circuit);
                }
            }
        }
    }

    fn transmit(&mut self, max: usize) {
        while let Some(bytes) = self.link.poll_transmit(self.now, max) {
            self.arrived.buffer().extend_from_slice(&bytes);
            self.arrived.open().expect("the link's own records");
            while let Some(frame) = self.arrived.next().expect("the link's own frames") {
                self.arrive(frame);
            }
            if max != usize::MAX {
                return;
            }
        }
    }

    fn arrive(&mut self, frame: Frame) {
        match frame {
            Frame::Create { circuit, .. } => {
                self.waiting.insert(circuit, VecDeque::new());
                self.names.insert(self.opening, circuit);
                self.say(&Frame::Created {
                    circuit,
                    created: Created {
                        ephemeral: [1; 32],
                        auth: [2; 32],
                    },
                });
            }
            Frame::Destroy(circuit) => drop(self.waiting.remove(&circuit)),
            Frame::Packet { circuit, body, .. } => {
                let number = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                let waiting = self
                    .waiting
                    .get_mut(&circuit)
                    .expect("a packet of a circuit that is over");
                assert_eq!(waiting.pop_front(), Some(number), "out of order");
            }
            Frame::Routed(message) => {
                let number = message.id().map_or(0, |id| id.0);
                let place = self.routed.iter().position(|waiting| *waiting == number);
                self.routed.remove(place.expect("a message that was not sent"));
            }
            Frame::Hello(_)
            | Frame::AskDescriptors { .. }
            | Frame::Announce(_)
            | Frame::Announced { .. }
            | Frame::Observed(_)
            | Frame::AskDialBack { .. }
            | Frame::DialedBack(_)
            | Frame::Descriptors(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => {}
            Frame::Created { .. } => panic!("an answer to nothing"),
        }
    }
}

/// Interactive beside bulk, over budget, shed, destroyed.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let two = |name: &str| Seed::new(name).u8(0).u8(0);
    vec![
        two("bulk-and-interactive")
            .u8(9)
            .u8(0)
            .u8(60)
            .u8(1)
            .u8(1)
            .u8(2)
            .u8(5)
            .u16(50_000)
            .u8(1)
            .u8(1)
            .u8(0)
            .u8(5)
            .u16(60_000),
        two("routed")
            .u8(9)
            .u8(0)
            .u8(10)
            .u8(4)
            .u8(3)
            .u8(1)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(5)
            .u16(65_535)
            .u8(5)
            .u16(65_535),
        two("over-budget")
            .u8(9)
            .u8(0)
            .u8(79)
            .u8(9)
            .u8(1)
            .u8(70)
            .u8(5)
            .u16(1000),
        two("shed")
            .u8(9)
            .u8(0)
            .u8(9)
            .u8(9)
            .u8(1)
            .u8(9)
            .u8(6)
            .u8(1)
            .u8(5)
            .u16(9000),
        two("destroyed")
            .u8(9)
            .u8(0)
            .u8(9)
            .u8(6)
            .u8(0)
            .u8(0)
            .u8(5)
            .u16(9000),
        two("gossip")
            .u8(7)
            .u8(1)
            .u64(5)
            .u8(7)
            .u8(7)
            .u8(3)
            .u8(1)
            .u8(2)
            .u8(3)
            .u8(5)
            .u16(9000),
        (0..12)
            .fold(Seed::new("link-budget"), |seed, _| seed.u8(0))
            .bytes(&[
                9, 0, 70, 9, 1, 70, 9, 2, 70, 9, 3, 70, 9, 4, 70, 9, 5, 70, 9, 6, 70, 9, 7, 70,
            ]),
    ]
}
