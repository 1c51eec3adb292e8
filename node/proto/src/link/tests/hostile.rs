//! Peers, clients and exits that do not keep to the protocol.

use core::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::{
    circuit::{CIRCUIT_BUDGET, CIRCUIT_IDLE, MAX_CIRCUITS, ntor::ClientHandshake, onion::HopCipher},
    crypto::Portable,
    descriptor::{Descriptor, Services},
    geometry::{PacketSize, RECORD_LEN},
    ids::{CircuitAddr, CircuitId, LinkId, OriginId},
    link::{
        CloseReason, Established, LinkConfig, Misbehaviour,
        api::{LinkCommand, LinkEvent, LinkOutput},
        frames::{FrameReceiver, FrameSender},
        testing::{Net, TestLink, block, established, exit_with, fetch, network, node},
    },
    time::Time,
    wire::{Create, Created, ExitReply, ExitRequest, ExitResult, Frame, OnionMessage},
};

const NOW: Time = Time(1_000_000);
const ME: LinkId = LinkId(1);
const RELAY: u8 = 1;
const PEER: u8 = 2;

/// An honest link whose peer is this test. The test dialled.
struct Raw {
    link: TestLink,
    sender: FrameSender<Portable>,
    receiver: FrameReceiver<Portable>,
    now: Time,
}

impl Raw {
    fn greeting() -> Self {
        Self::with(Services::ALL)
    }

    fn with(services: Services) -> Self {
        let (secrets, descriptor) = node(RELAY, services);
        let config = LinkConfig {
            id: ME,
            secrets,
            descriptor,
            network: network(),
            dialled: None,
            remote: None,
            seed: [3; 32],
        };
        let link_key = node(PEER, Services::ALL).1.link_key;
        let link = TestLink::new(NOW, established(1, 2, link_key, false), config);
        let Established { sender, receiver, .. } = established(2, 1, link_key, true);
        Self {
            link,
            sender,
            receiver,
            now: NOW,
        }
    }

    /// After both introductions.
    fn up() -> Self {
        let mut raw = Self::greeting();
        raw.greet();
        raw
    }

    fn greet(&mut self) {
        let hello = Frame::Hello(Box::new(Descriptor::clone(&node(PEER, Services::ALL).1)));
        assert!(matches!(
            self.send(&hello)[..],
            [LinkOutput::Core(LinkEvent::Up { dialled: false, .. })]
        ));
        assert!(matches!(self.frames()[..], [Frame::Hello(_)]));
    }

    /// Sends a frame; gives what the link says inside.
    fn send(&mut self, frame: &Frame) -> Vec<LinkOutput> {
        self.sender.send(frame);
        self.sender.flush();
        self.link.buffer().extend_from_slice(&self.sender.take());
        self.link.received(self.now);
        core::iter::from_fn(|| self.link.poll_output()).collect()
    }

    /// Sends many frames at once.
    fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        frames.into_iter().for_each(|frame| self.sender.send(&frame));
        self.sender.flush();
        self.link.buffer().extend_from_slice(&self.sender.take());
        self.link.received(self.now);
    }

    /// What the link sends.
    fn frames(&mut self) -> Vec<Frame> {
        while let Some(bytes) = self.link.poll_transmit(self.now, 1 << 20) {
            self.receiver.buffer().extend_from_slice(&bytes);
        }
        self.receiver.open().unwrap();
        core::iter::from_fn(|| self.receiver.next().unwrap()).collect()
    }

    fn fault(&self) -> Option<CloseReason> {
        self.link.close_reason()
    }

    /// Opens circuit `id` as the client of it.
    fn open(&mut self, id: u32) -> HopCipher<Portable> {
        let relay = node(RELAY, Services::ALL).1;
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        let (handshake, create) = ClientHandshake::start(&mut rng, relay.identity, &relay.onion_key, 0);
        self.send(&Frame::Create {
            circuit: CircuitId(id),
            create,
        });
        let frames = self.frames();
        let [Frame::Created { created, .. }] = &frames[..] else {
            panic!("{frames:?}")
        };
        HopCipher::new(0, &handshake.finish(created).unwrap()).unwrap()
    }

    fn say(&mut self, id: u32, cipher: &mut HopCipher<Portable>, message: &OnionMessage) -> Vec<LinkOutput> {
        let (size, mut body) = (message.size(), message.encode());
        cipher.seal_forward(size, &mut body).unwrap();
        self.send(&Frame::Packet {
            circuit: CircuitId(id),
            size,
            body,
        })
    }

    /// Whether the link said Destroy of `id`, and nothing else.
    fn destroyed(&mut self, id: u32) -> bool {
        matches!(self.frames()[..], [Frame::Destroy(CircuitId(destroyed))] if destroyed == id)
    }
}

fn misbehaved(reason: Option<CloseReason>) -> Misbehaviour {
    match reason {
        Some(CloseReason::Misbehaved(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn packet(id: u32) -> Frame {
    let size = PacketSize::Control;
    Frame::Packet {
        circuit: CircuitId(id),
        size,
        body: BytesMut::zeroed(size.body()),
    }
}

fn create(layer: u8) -> Create {
    Create {
        layer,
        ephemeral: [9; 32],
    }
}

fn created() -> Created {
    Created {
        ephemeral: [9; 32],
        auth: [0; 32],
    }
}

#[test]
fn nothing_goes_before_the_introduction() {
    for frame in [
        Frame::Ping(1),
        packet(1),
        Frame::Destroy(CircuitId(1)),
        Frame::Create {
            circuit: CircuitId(1),
            create: create(0),
        },
    ] {
        let mut raw = Raw::greeting();
        assert!(raw.send(&frame).is_empty());
        assert_eq!(misbehaved(raw.fault()), Misbehaviour::Introduction, "{frame:?}");
    }
    let mut raw = Raw::up();
    raw.send(&Frame::Hello(Box::new(Descriptor::clone(
        &node(PEER, Services::ALL).1,
    ))));
    assert_eq!(
        misbehaved(raw.fault()),
        Misbehaviour::Introduction,
        "a second one"
    );
}

#[test]
fn impostors_and_itself_are_sent_away() {
    let mut raw = Raw::greeting();
    let other = Frame::Hello(Box::new(Descriptor::clone(&node(7, Services::ALL).1)));
    assert!(raw.send(&other).is_empty(), "the core hears nothing of it");
    assert_eq!(misbehaved(raw.fault()), Misbehaviour::Impostor);

    // Dialled somebody else than who answers with a fitting link key.
    let (secrets, descriptor) = node(RELAY, Services::ALL);
    let peer = node(PEER, Services::ALL).1;
    let dialled = Some(node(7, Services::ALL).1.identity);
    let config = LinkConfig {
        id: ME,
        secrets,
        descriptor,
        network: network(),
        dialled,
        remote: None,
        seed: [3; 32],
    };
    let mut raw = Raw::greeting();
    raw.link = TestLink::new(NOW, established(1, 2, peer.link_key, true), config);
    raw.send(&Frame::Hello(Box::new(Descriptor::clone(&peer))));
    assert_eq!(misbehaved(raw.fault()), Misbehaviour::Impostor);

    let (secrets, descriptor) = node(RELAY, Services::ALL);
    let hello = Frame::Hello(Box::new(Descriptor::clone(&descriptor)));
    let link_key = descriptor.link_key;
    let config = LinkConfig {
        id: ME,
        secrets,
        descriptor,
        network: network(),
        dialled: None,
        remote: None,
        seed: [3; 32],
    };
    let mut raw = Raw::greeting();
    raw.link = TestLink::new(NOW, established(1, 2, link_key, false), config);
    raw.send(&hello);
    assert_eq!(raw.fault(), Some(CloseReason::Itself));
}

#[test]
fn circuit_numbers_out_of_turn_close_the_link() {
    let mut raw = Raw::up();
    raw.send(&Frame::Create {
        circuit: CircuitId(2),
        create: create(0),
    });
    assert!(
        raw.fault().is_some_and(|fault| fault.misbehaved()),
        "an even number of the dialler"
    );

    for second in [3, 5] {
        let mut raw = Raw::up();
        raw.open(5);
        raw.send(&Frame::Create {
            circuit: CircuitId(second),
            create: create(0),
        });
        assert!(
            raw.fault().is_some_and(|fault| fault.misbehaved()),
            "{second} after 5"
        );
    }
}

/// Whoever owns the line can change a byte. That must cost the link, and nobody's reputation.
#[test]
fn noise_on_the_line_ends_the_link_and_blames_nobody() {
    for byte in [0, 100, RECORD_LEN - 1] {
        let mut raw = Raw::up();
        raw.sender.send(&Frame::Ping(1));
        raw.sender.flush();
        let mut record = raw.sender.take();
        record[byte] ^= 1;
        raw.link.buffer().extend_from_slice(&record);
        raw.link.received(raw.now);
        let fault = raw.fault();
        assert!(matches!(
            fault,
            Some(CloseReason::Misbehaved(Misbehaviour::Stream(_)))
        ));
        assert!(fault.is_some_and(|fault| !fault.misbehaved()));
    }
    // What the peer itself has sealed is its own word.
    let mut raw = Raw::up();
    raw.send(&Frame::Pong(1));
    assert!(raw.fault().is_some_and(|fault| fault.misbehaved()));
}

#[test]
fn frames_for_circuits_that_never_were_close_the_link() {
    let frames = [
        packet(1),
        packet(2),
        Frame::Destroy(CircuitId(9)),
        Frame::Created {
            circuit: CircuitId(2),
            created: created(),
        },
    ];
    for frame in frames {
        let mut raw = Raw::up();
        raw.send(&frame);
        assert!(raw.fault().is_some_and(|fault| fault.misbehaved()), "{frame:?}");
    }
}

#[test]
fn frames_for_circuits_that_are_gone_are_ignored() {
    let mut raw = Raw::up();
    raw.open(1);
    raw.send(&Frame::Destroy(CircuitId(1)));
    for frame in [packet(1), Frame::Destroy(CircuitId(1))] {
        assert!(raw.send(&frame).is_empty());
    }
    assert_eq!(raw.fault(), None);
    assert!(raw.frames().is_empty());
}

#[test]
fn a_second_answer_or_an_early_packet_closes_the_link() {
    let mut raw = Raw::up();
    let from = CircuitAddr {
        link: LinkId(5),
        circuit: CircuitId(8),
    };
    raw.link.command(
        NOW,
        LinkCommand::OpenThrough {
            from,
            create: create(1),
        },
    );
    assert!(matches!(
        raw.frames()[..],
        [Frame::Create {
            circuit: CircuitId(2),
            ..
        }]
    ));
    let told = raw.send(&Frame::Created {
        circuit: CircuitId(2),
        created: created(),
    });
    assert!(
        matches!(
            told[..],
            [
                LinkOutput::Core(LinkEvent::Carries(true)),
                LinkOutput::Link(
                    LinkId(5),
                    LinkCommand::Extended {
                        circuit: CircuitId(8),
                        ..
                    }
                )
            ]
        ),
        "{told:?}"
    );
    raw.link.command(
        NOW,
        LinkCommand::OpenThrough {
            from,
            create: create(1),
        },
    );
    let told = raw.send(&packet(4));
    assert!(
        raw.fault().is_some_and(|fault| fault.misbehaved()),
        "a packet before Created"
    );
    // Those behind it are told: both circuits came from there. So is the core, once.
    let ended = |output: &&LinkOutput| matches!(output, LinkOutput::Link(LinkId(5), LinkCommand::Destroy(_)));
    let bare = |output: &&LinkOutput| matches!(output, LinkOutput::Core(LinkEvent::Carries(false)));
    assert_eq!(told.iter().filter(ended).count(), 2, "{told:?}");
    assert_eq!(told.iter().filter(bare).count(), 1, "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");

    let mut raw = Raw::up();
    raw.link.command(
        NOW,
        LinkCommand::OpenThrough {
            from,
            create: create(1),
        },
    );
    raw.send(&Frame::Created {
        circuit: CircuitId(2),
        created: created(),
    });
    raw.send(&Frame::Created {
        circuit: CircuitId(2),
        created: created(),
    });
    assert!(
        raw.fault().is_some_and(|fault| fault.misbehaved()),
        "a second Created"
    );
}

#[test]
fn pongs_without_pings_close_the_link() {
    let mut raw = Raw::up();
    raw.link.command(NOW, LinkCommand::Send(Frame::Ping(5)));
    assert!(matches!(raw.frames()[..], [Frame::Ping(5)]));
    assert!(matches!(
        raw.send(&Frame::Pong(5))[..],
        [LinkOutput::Core(LinkEvent::Pong(5))]
    ));
    raw.send(&Frame::Pong(5));
    assert_eq!(misbehaved(raw.fault()), Misbehaviour::Pong);
}

#[test]
fn a_handshake_without_a_secret_is_refused_quietly() {
    let mut raw = Raw::up();
    raw.send(&Frame::Create {
        circuit: CircuitId(1),
        create: Create {
            layer: 0,
            ephemeral: [0; 32],
        },
    });
    assert!(raw.destroyed(1));
    assert_eq!(raw.fault(), None);
}

#[test]
fn extensions_that_would_turn_back_or_skip_are_refused() {
    let target = |seed| Box::new(Descriptor::clone(&node(seed, Services::ALL).1));
    for (seed, layer) in [(RELAY, 1), (PEER, 1), (7, 0), (7, 2)] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        let told = raw.say(
            1,
            &mut cipher,
            &OnionMessage::Extend {
                target: target(seed),
                create: create(layer),
            },
        );
        assert!(
            !told
                .iter()
                .any(|output| matches!(output, LinkOutput::Core(LinkEvent::ExtendWanted { .. })))
        );
        assert!(raw.destroyed(1), "to {seed} as layer {layer}");
        assert_eq!(raw.fault(), None);
    }
}

#[test]
fn a_circuit_is_extended_once_and_carries_nothing_meanwhile() {
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    let extend = OnionMessage::Extend {
        target,
        create: create(1),
    };
    for second in [
        extend.clone(),
        OnionMessage::Drop(PacketSize::Control),
        OnionMessage::Request(fetch(1, &block(1))),
    ] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        let told = raw.say(1, &mut cipher, &extend);
        assert!(matches!(
            told[..],
            [LinkOutput::Core(LinkEvent::ExtendWanted { .. })]
        ));
        let told = raw.say(1, &mut cipher, &second);
        assert!(
            matches!(told[..], [LinkOutput::Core(LinkEvent::CircuitGone(CircuitId(1)))]),
            "{told:?}"
        );
        assert!(raw.destroyed(1));
        // The next hop answers after all: it is told that nobody waits.
        let next = CircuitAddr {
            link: LinkId(5),
            circuit: CircuitId(2),
        };
        raw.link.command(
            NOW,
            LinkCommand::Extended {
                circuit: CircuitId(1),
                next,
                created: created(),
            },
        );
        assert!(matches!(
            raw.link.poll_output(),
            Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(2))))
        ));
    }
}

#[test]
fn services_that_are_not_offered_are_not_given() {
    let none = Services {
        relay: false,
        exit: false,
        store: true,
    };
    let mut raw = Raw::with(none);
    raw.greet();
    raw.send(&Frame::Create {
        circuit: CircuitId(1),
        create: create(0),
    });
    assert!(raw.destroyed(1));

    let mut raw = Raw::with(Services {
        relay: false,
        ..Services::ALL
    });
    raw.greet();
    let mut cipher = raw.open(1);
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    raw.say(
        1,
        &mut cipher,
        &OnionMessage::Extend {
            target,
            create: create(1),
        },
    );
    assert!(raw.destroyed(1));

    let mut raw = Raw::with(Services {
        exit: false,
        ..Services::ALL
    });
    raw.greet();
    let mut cipher = raw.open(1);
    let told = raw.say(1, &mut cipher, &OnionMessage::Request(fetch(1, &block(1))));
    assert!(
        !told
            .iter()
            .any(|output| matches!(output, LinkOutput::Core(LinkEvent::ExitRequest { .. })))
    );
    assert!(raw.destroyed(1));
}

#[test]
fn messages_that_only_hops_send_end_the_circuit_of_a_client() {
    let reply = ExitReply {
        id: 1,
        result: ExitResult::NotFound,
    };
    for message in [OnionMessage::Extended(created()), OnionMessage::Reply(reply)] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        raw.say(1, &mut cipher, &message);
        assert!(raw.destroyed(1));
    }
}

#[test]
fn create_floods_meet_the_rate_then_the_cap() {
    let mut raw = Raw::up();
    let mut opened = 0;
    let mut numbers = (1..).step_by(2).map(CircuitId);
    let mut flood = || -> Vec<Frame> {
        numbers
            .by_ref()
            .take(512)
            .map(|circuit| Frame::Create {
                circuit,
                create: create(0),
            })
            .collect()
    };
    for second in 0..30 {
        raw.send_all(flood());
        opened += raw
            .frames()
            .iter()
            .filter(|frame| matches!(frame, Frame::Created { .. }))
            .count();
        assert_eq!(opened, (256 + 32 * second).min(MAX_CIRCUITS), "after {second} s");
        raw.now = raw.now + Duration::from_secs(1);
    }
    assert_eq!(raw.fault(), None);
    assert_eq!(raw.link.circuits(), MAX_CIRCUITS);
}

#[test]
fn a_peer_that_provokes_and_does_not_read_is_cut_off() {
    let mut raw = Raw::up();
    let mut numbers = (1..).step_by(2).map(CircuitId);
    for _ in 0..100 {
        let weak = Create {
            layer: 0,
            ephemeral: [0; 32],
        };
        let flood = |circuit| {
            [
                Frame::Create {
                    circuit,
                    create: weak.clone(),
                },
                Frame::Ping(1),
            ]
        };
        raw.send_all(numbers.by_ref().take(100).flat_map(flood));
        assert!(raw.link.queued_bytes() < 2 * 1024 * 1024);
    }
    assert!(raw.fault().is_some_and(|fault| fault.misbehaved()));
    assert_eq!(raw.link.queued_bytes(), 0);
}

#[test]
fn a_flood_over_budget_ends_its_circuit_only() {
    let mut net = Net::chain(3);
    net.nodes[2].exit = exit_with(vec![block(1)]);
    net.open(7, &[0, 1, 2]);
    net.open(8, &[0, 1, 2]);
    net.told(0);
    // The exit's own link queue fills: as if the exit sent without end and nobody read.
    let before = net.circuits();
    net.flowing = false;
    let body = || BytesMut::zeroed(PacketSize::Block.body());
    let through = CircuitId(1);
    let mut sent = 0;
    while net.link(1, 2).circuits() == 2 && sent < 1000 {
        net.command(
            1,
            2,
            LinkCommand::Forward {
                circuit: through,
                size: PacketSize::Block,
                body: body(),
            },
        );
        sent += 1;
        assert!(net.link(1, 2).queued_bytes() <= CIRCUIT_BUDGET);
    }
    assert_eq!(net.link(1, 2).circuits(), 1, "after {sent} packets");
    assert_eq!(
        net.link(1, 2).oldest_queued(),
        None,
        "its packets are gone with it"
    );
    net.flowing = true;
    net.run();
    assert_eq!(net.circuits(), before / 2);
    net.ask(0, 1, 8, fetch(1, &block(1)));
    let told = net.told(0);
    assert!(
        told.iter().any(|event| matches!(
            event,
            LinkEvent::OriginReply {
                origin: OriginId(8),
                ..
            }
        )),
        "{told:?}"
    );
    assert!(
        told.iter().any(|event| matches!(
            event,
            LinkEvent::OriginClosed {
                origin: OriginId(7),
                ..
            }
        )),
        "{told:?}"
    );
}

#[test]
fn over_the_links_budget_the_oldest_data_dies_first() {
    let mut net = Net::chain(3);
    for origin in 0..12 {
        net.open(origin, &[0, 1, 2]);
    }
    net.told(0);
    net.flowing = false;
    // Circuits fill one after the other, none over its own budget.
    for circuit in (1..24).step_by(2) {
        net.now = net.now + Duration::from_millis(1);
        for _ in 0..60 {
            let body = BytesMut::zeroed(PacketSize::Block.body());
            net.command(
                1,
                2,
                LinkCommand::Forward {
                    circuit: CircuitId(circuit),
                    size: PacketSize::Block,
                    body,
                },
            );
        }
    }
    assert!(net.link(1, 2).queued_bytes() <= 16 * 1024 * 1024);
    assert_eq!(net.link(1, 2).circuits(), 8, "the first four gave way");
    let now = net.now;
    assert!(net.link(1, 2).shed(now), "the node can ask for more");
    assert_eq!(net.link(1, 2).circuits(), 7);
    net.run();
    // Destroyed the other way: towards the client nothing is stuck once bytes flow again.
    net.flowing = true;
    net.run();
    let closed = |event: &LinkEvent| match event {
        LinkEvent::OriginClosed { origin, .. } => Some(origin.0),
        _ => None,
    };
    let closed: Vec<u64> = net.told(0).iter().filter_map(closed).collect();
    assert_eq!(closed[..5], [0, 1, 2, 3, 4]);
}

/// An exit that answers `request` with `reply`; tells what became of the circuit.
fn lying_exit(request: ExitRequest, reply: ExitReply) -> Vec<LinkEvent> {
    let mut net = Net::chain(4);
    net.open(7, &[0, 1, 2, 3]);
    net.told(0);
    net.nodes[3].exit = Box::new(move |_| Some(reply.clone()));
    net.ask(0, 1, 7, request);
    let told = net.told(0);
    let exit = net.nodes[3].descriptor.identity;
    let blamed =
        |event: &LinkEvent| matches!(event, LinkEvent::OriginClosed { blame, .. } if *blame == Some(exit));
    assert_eq!(told.iter().any(blamed), net.circuits() == 0);
    told
}

#[test]
fn an_exit_that_lies_is_caught_and_blamed() {
    use crate::wire::ExitOp;
    let insert = || ExitRequest {
        id: 1,
        op: ExitOp::Insert(block(1)),
    };
    let wrong = [
        (fetch(1, &block(1)), 1, ExitResult::Found(block(2))),
        (fetch(1, &block(1)), 2, ExitResult::Found(block(1))),
        (fetch(1, &block(1)), 2, ExitResult::NotFound),
        (fetch(1, &block(1)), 1, ExitResult::Stored(5)),
        (fetch(1, &block(1)), 1, ExitResult::Collision(block(1))),
        (insert(), 1, ExitResult::Found(block(1))),
        (insert(), 1, ExitResult::NotFound),
        // Two content blocks under one key would be a broken hash.
        (insert(), 1, ExitResult::Collision(block(1))),
        (insert(), 1, ExitResult::Collision(block(2))),
    ];
    for (request, id, result) in wrong {
        let told = lying_exit(request, ExitReply { id, result });
        assert!(
            matches!(
                told[..],
                [LinkEvent::Carries(false), LinkEvent::OriginClosed { .. }]
            ),
            "{told:?}"
        );
    }
    let right = [
        (fetch(1, &block(1)), ExitResult::Found(block(1))),
        (fetch(1, &block(1)), ExitResult::NotFound),
        (insert(), ExitResult::Stored(5)),
        (insert(), ExitResult::Busy),
        (fetch(1, &block(1)), ExitResult::Failed),
    ];
    for (request, result) in right {
        let told = lying_exit(request, ExitReply { id: 1, result });
        assert!(matches!(told[..], [LinkEvent::OriginReply { .. }]), "{told:?}");
    }
}

#[test]
fn an_answer_twice_ends_the_circuit() {
    let mut raw = Raw::up();
    let mut cipher = raw.open(1);
    raw.say(1, &mut cipher, &OnionMessage::Request(fetch(1, &block(1))));
    let reply = || ExitReply {
        id: 1,
        result: ExitResult::NotFound,
    };
    for _ in 0..2 {
        raw.link.command(
            NOW,
            LinkCommand::ExitReply {
                circuit: CircuitId(1),
                reply: reply(),
            },
        );
    }
    // The honest exit's machine refuses to send the second.
    assert!(
        raw.frames()
            .iter()
            .any(|frame| matches!(frame, Frame::Destroy(CircuitId(1))))
    );
}

#[test]
fn a_circuit_that_goes_on_to_a_silent_peer_is_dropped_in_the_end() {
    let mut raw = Raw::up();
    let from = CircuitAddr {
        link: LinkId(5),
        circuit: CircuitId(8),
    };
    raw.link.command(
        NOW,
        LinkCommand::OpenThrough {
            from,
            create: create(1),
        },
    );
    raw.send(&Frame::Created {
        circuit: CircuitId(2),
        created: created(),
    });
    raw.frames();
    let mut steps = 0;
    while raw.link.circuits() == 1 {
        raw.now = raw.now + Duration::from_secs(30);
        raw.send(&Frame::Ping(1));
        raw.link.handle_timeout(raw.now);
        raw.frames();
        steps += 1;
        assert!(Duration::from_secs(30) * steps <= CIRCUIT_IDLE + Duration::from_secs(30));
    }
    assert_eq!(raw.fault(), None);
    assert!(matches!(
        raw.link.poll_output(),
        Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(8))))
    ));
}

#[test]
fn an_extension_that_cannot_be_delivered_ends_the_circuit() {
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    let next = CircuitAddr {
        link: LinkId(5),
        circuit: CircuitId(2),
    };
    let extended = || {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        raw.say(
            1,
            &mut cipher,
            &OnionMessage::Extend {
                target: target.clone(),
                create: create(1),
            },
        );
        raw.link.command(
            NOW,
            LinkCommand::Extended {
                circuit: CircuitId(1),
                next,
                created: created(),
            },
        );
        assert!(matches!(raw.frames()[..], [Frame::Packet { .. }]));
        raw
    };
    let mut raw = extended();
    raw.link.undeliverable(NOW, LinkId(6));
    assert_eq!(raw.link.circuits(), 1, "another link");
    raw.link.undeliverable(NOW, LinkId(5));
    assert!(raw.destroyed(1));

    let mut raw = extended();
    raw.link.refused(
        NOW,
        CircuitAddr {
            circuit: CircuitId(4),
            ..next
        },
    );
    assert_eq!(raw.link.circuits(), 1, "another circuit");
    raw.link.refused(NOW, next);
    assert!(raw.destroyed(1));
    assert!(matches!(
        raw.link.poll_output(),
        Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(2))))
    ));
}

/// Random frames of a peer, in random order, some of them fitting.
mod any_order {
    use proptest::prelude::*;
    use warren_keys::Location;

    use super::*;
    use crate::ids::RequestId;
    use crate::wire::{Refusal, Routed};

    fn frame() -> impl Strategy<Value = Frame> {
        let circuit = (0..12_u32).prop_map(CircuitId);
        prop_oneof![
            any::<u64>().prop_map(Frame::Ping),
            (0..3_u64).prop_map(Frame::Pong),
            Just(Frame::AskDescriptors {
                near: Location::new(1)
            }),
            Just(Frame::Descriptors(vec![])),
            (circuit.clone(), 0..5_u8, any::<[u8; 32]>()).prop_map(|(circuit, layer, ephemeral)| {
                Frame::Create {
                    circuit,
                    create: Create { layer, ephemeral },
                }
            }),
            circuit.clone().prop_map(|circuit| Frame::Created {
                circuit,
                created: created()
            }),
            circuit.clone().prop_map(Frame::Destroy),
            (circuit, any::<bool>()).prop_map(|(circuit, large)| {
                let size = if large {
                    PacketSize::Block
                } else {
                    PacketSize::Control
                };
                Frame::Packet {
                    circuit,
                    size,
                    body: BytesMut::zeroed(size.body()),
                }
            }),
            any::<u64>().prop_map(|id| Frame::Routed(Routed::Refused {
                id: RequestId(id),
                why: Refusal::Busy
            })),
        ]
    }

    fn command() -> impl Strategy<Value = u8> {
        0..9_u8
    }

    fn obey(raw: &mut Raw, command: u8, number: u32) {
        let (circuit, addr) = (
            CircuitId(number),
            CircuitAddr {
                link: LinkId(5),
                circuit: CircuitId(number),
            },
        );
        let body = BytesMut::zeroed(PacketSize::Control.body());
        let peer = Descriptor::clone(&node(PEER, Services::ALL).1);
        let origin = OriginId(number.into());
        raw.link.command(
            raw.now,
            match command {
                0 => LinkCommand::OpenOrigin {
                    origin,
                    path: vec![peer],
                },
                1 => LinkCommand::OriginSend {
                    origin,
                    request: fetch(number, &block(1)),
                },
                2 => LinkCommand::CloseOrigin(origin),
                3 => LinkCommand::OpenThrough {
                    from: addr,
                    create: create(1),
                },
                4 => LinkCommand::ExtendFailed(circuit),
                5 => LinkCommand::Extended {
                    circuit,
                    next: addr,
                    created: created(),
                },
                6 => LinkCommand::Forward {
                    circuit,
                    size: PacketSize::Control,
                    body,
                },
                7 => LinkCommand::Backward {
                    circuit,
                    size: PacketSize::Control,
                    body,
                },
                _ => LinkCommand::Destroy(circuit),
            },
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn never_panics_and_accounts_for_all(
            steps in proptest::collection::vec((frame(), proptest::option::of((command(), 0..12_u32)), 0..40_u64), 1..60)
        ) {
            let mut raw = Raw::up();
            for (frame, inside, seconds) in steps {
                raw.now = raw.now + Duration::from_secs(seconds);
                raw.link.handle_timeout(raw.now);
                if let Some((kind, number)) = inside {
                    obey(&mut raw, kind, number);
                }
                raw.send(&frame);
                raw.frames();
                prop_assert_eq!(raw.link.queued_bytes(), 0, "all was taken");
                if raw.fault().is_some() {
                    prop_assert_eq!(raw.link.circuits(), 0);
                    prop_assert_eq!(raw.link.poll_timeout(), None);
                }
            }
        }
    }
}
