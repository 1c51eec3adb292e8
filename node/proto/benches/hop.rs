//! What a relay does to a block packet that passes through: record open, onion open, record seal, and all between.
//!
//! `relay` runs two real link machines; `floor` does the same cipher passes over the same number of bytes and nothing else.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::sync::Arc;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{IdentityKey, Seed};
use warren_proto::{
    circuit::{ntor::ClientHandshake, onion::HopCipher},
    crypto::{Aead, Cipher, Portable},
    descriptor::{Descriptor, NodeSecrets, Services, Statement},
    geometry::{PacketSize, RECORD_LEN, RECORD_PAYLOAD},
    ids::{CircuitAddr, CircuitId, LinkId},
    link::{
        Established, Link, LinkConfig,
        api::{LinkCommand, LinkEvent, LinkOutput},
        frames::{FrameReceiver, FrameSender},
        record::{Opener, Sealer},
    },
    network::Network,
    time::Time,
    wire::{Create, Created, Frame, OnionMessage},
};

const NOW: Time = Time(1_000_000);
/// Packets a batch: 2 MiB, less than a circuit's budget.
const PACKETS: usize = 64;
const BODY: usize = PacketSize::Block.body();
const TO_CLIENT: LinkId = LinkId(1);
const TO_EXIT: LinkId = LinkId(2);
const CIRCUIT: CircuitId = CircuitId(1);

fn network() -> Network {
    "bench".parse().unwrap()
}

fn node(seed: u8) -> (Arc<NodeSecrets>, Arc<Descriptor>) {
    let secrets = NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes([seed; 32])));
    let statement = Statement {
        services: Services::ALL,
        ..secrets.statement()
    };
    let descriptor = secrets.sign(statement, &network());
    (Arc::new(secrets), Arc::new(descriptor))
}

fn established(send: u8, receive: u8, peer_link_key: [u8; 32], dialler: bool) -> Established<Portable> {
    Established {
        sender: FrameSender::new(Sealer::new(Cipher::ChaCha20Poly1305, &[send; 32])),
        receiver: FrameReceiver::new(
            Opener::new(Cipher::ChaCha20Poly1305, &[receive; 32], BytesMut::new()),
            network(),
        ),
        peer_link_key,
        dialler,
        handshake_hash: [0; 32],
        version: 1,
        cipher: Cipher::ChaCha20Poly1305,
    }
}

/// A neighbour of the relay, played by hand.
struct Neighbour {
    sender: FrameSender<Portable>,
    receiver: FrameReceiver<Portable>,
}

/// The relay's two links, a circuit over them, and the client's cipher.
struct Relay {
    client_side: Link<Portable>,
    exit_side: Link<Portable>,
    client: Neighbour,
    cipher: HopCipher<Portable>,
    plain: Vec<u8>,
}

/// A link of the relay to the neighbour `peer`, after both introductions.
fn link(id: LinkId, peer: u8, relay_dialled: bool) -> (Link<Portable>, Neighbour) {
    let (secrets, descriptor) = node(1);
    let introduction = node(peer).1;
    let config = LinkConfig {
        id,
        secrets,
        descriptor,
        network: network(),
        dialled: relay_dialled.then_some(introduction.identity),
        remote: None,
        seed: [peer; 32],
    };
    let mut link = Link::new(
        NOW,
        established(1, 2, introduction.link_key, relay_dialled),
        config,
    );
    let Established { sender, receiver, .. } = established(2, 1, [0; 32], !relay_dialled);
    let mut neighbour = Neighbour { sender, receiver };
    neighbour.send(
        &mut link,
        &Frame::Hello(Box::new(Descriptor::clone(&introduction))),
    );
    assert!(matches!(
        link.poll_output(),
        Some(LinkOutput::Core(LinkEvent::Up { .. }))
    ));
    neighbour.receive(&mut link);
    (link, neighbour)
}

impl Neighbour {
    fn send(&mut self, link: &mut Link<Portable>, frame: &Frame) {
        self.sender.send(frame);
        self.sender.flush();
        link.buffer().extend_from_slice(&self.sender.take());
        link.received(NOW);
    }

    fn receive(&mut self, link: &mut Link<Portable>) -> Option<Frame> {
        let bytes = link.poll_transmit(NOW, 1 << 20)?;
        self.receiver.buffer().extend_from_slice(&bytes);
        self.receiver.open().unwrap();
        self.receiver.next().unwrap()
    }
}

impl Relay {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let (mut client_side, mut client) = link(TO_CLIENT, 2, false);
        let (mut exit_side, mut exit) = link(TO_EXIT, 3, true);
        let relay = node(1).1;
        let (handshake, create) = ClientHandshake::start(&mut rng, relay.identity, &relay.onion_key, 0);
        client.send(
            &mut client_side,
            &Frame::Create {
                circuit: CIRCUIT,
                create,
            },
        );
        let Some(Frame::Created { created, .. }) = client.receive(&mut client_side) else {
            panic!("not created")
        };
        let mut cipher = HopCipher::new(0, &handshake.finish(&created).unwrap()).unwrap();
        let next = Create {
            layer: 1,
            ephemeral: [9; 32],
        };
        let message = OnionMessage::Extend {
            target: Box::new(Descriptor::clone(&node(3).1)),
            create: next.clone(),
        };
        let (size, mut body) = (message.size(), message.encode());
        cipher.seal_forward(size, &mut body).unwrap();
        client.send(
            &mut client_side,
            &Frame::Packet {
                circuit: CIRCUIT,
                size,
                body,
            },
        );
        let from = CircuitAddr {
            link: TO_CLIENT,
            circuit: CIRCUIT,
        };
        exit_side.command(NOW, LinkCommand::OpenThrough { from, create: next });
        exit.receive(&mut exit_side);
        let created = Created {
            ephemeral: [9; 32],
            auth: [0; 32],
        };
        exit.send(
            &mut exit_side,
            &Frame::Created {
                circuit: CIRCUIT,
                created,
            },
        );
        let Some(LinkOutput::Link(TO_CLIENT, extended)) = exit_side.poll_output() else {
            panic!("not extended")
        };
        client_side.command(NOW, extended);
        client.receive(&mut client_side);
        while client_side.poll_output().is_some() {}
        let mut plain = vec![0; BODY];
        rng.fill_bytes(&mut plain[..PacketSize::Block.layer(1)]);
        Self {
            client_side,
            exit_side,
            client,
            cipher,
            plain,
        }
    }

    /// What the client sends: a batch of packets in records.
    fn batch(&mut self) -> BytesMut {
        for _ in 0..PACKETS {
            let mut body = BytesMut::from(&self.plain[..]);
            self.cipher.seal_forward(PacketSize::Block, &mut body).unwrap();
            self.client.sender.send(&Frame::Packet {
                circuit: CIRCUIT,
                size: PacketSize::Block,
                body,
            });
        }
        self.client.sender.flush();
        self.client.sender.take()
    }

    /// What the relay does with it, read by read as a driver would.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        for piece in bytes.chunks(64 * 1024) {
            self.client_side.buffer().extend_from_slice(piece);
            self.client_side.received(NOW);
            while let Some(output) = self.client_side.poll_output() {
                match output {
                    LinkOutput::Link(TO_EXIT, command) => self.exit_side.command(NOW, command),
                    other => panic!("{other:?}"),
                }
            }
            while let Some(records) = self.exit_side.poll_transmit(NOW, 64 * 1024) {
                written += records.len();
            }
        }
        written
    }
}

fn hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hop");
    group.throughput(Throughput::Bytes((PACKETS * BODY) as u64));
    let relay = std::cell::RefCell::new(Relay::new());
    group.bench_function("relay", |bencher| {
        bencher.iter_batched(
            || relay.borrow_mut().batch(),
            |bytes| {
                let written = relay.borrow_mut().pass(&bytes);
                assert!(written >= PACKETS * BODY);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("floor", |bencher| {
        let cipher = Portable::new(&[1; 32]);
        let mut record = vec![0; RECORD_LEN];
        let mut body = vec![0; BODY];
        cipher.seal(0, &[], &mut record);
        cipher.seal(0, &[], &mut body);
        let (sealed_record, sealed_body) = (record.clone(), body.clone());
        bencher.iter(|| {
            for _ in 0..PACKETS {
                for _ in 0..BODY.div_ceil(RECORD_PAYLOAD) {
                    record.copy_from_slice(&sealed_record);
                    cipher.open(0, &[], &mut record, 0).unwrap();
                    cipher.seal(0, &[], &mut record);
                }
                body.copy_from_slice(&sealed_body);
                cipher.open(0, &[], &mut body, 0).unwrap();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, hop);
criterion_main!(benches);
