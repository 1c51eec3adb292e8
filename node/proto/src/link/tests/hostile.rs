//! Peers, clients and exits that do not keep to the protocol.

mod any_order;
mod circuits;
mod floods;

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
