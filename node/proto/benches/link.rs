//! Byte work of a link with the portable cipher: records, and frames with blocks in them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use core::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};
use warren_proto::{
    crypto::{Aead, Cipher, Portable},
    descriptor::NodeSecrets,
    geometry::{PacketSize, RECORD_LEN, RECORD_PAYLOAD, TAG_LEN},
    ids::{CircuitId, RequestId},
    link::{
        Initiator, Remote, ReplayCache, Responder, Step,
        frames::{FrameReceiver, FrameSender},
        record::{Opener, Sealer},
    },
    network::Network,
    time::WallTime,
    wire::{Frame, Routed},
};

const KEY: [u8; 32] = [7; 32];
/// Records at a time: what one write of a busy link holds.
const RECORDS: usize = 16;

fn network() -> Network {
    Network::MAIN.parse().unwrap()
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let stream = vec![0x5a; RECORDS * RECORD_PAYLOAD];
    group.throughput(Throughput::Bytes((RECORDS * RECORD_LEN) as u64));

    // The floor: the cipher alone on as many bytes.
    let cipher = Portable::new(&KEY);
    let mut buf = vec![0x5a; RECORD_LEN];
    group.bench_function("aead only", |b| {
        b.iter(|| (0..RECORDS as u64).for_each(|nonce| cipher.seal(nonce, &[], black_box(&mut buf))));
    });

    let mut sealer = Sealer::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY);
    group.bench_function("seal", |b| {
        b.iter(|| {
            sealer.write(&stream);
            black_box(sealer.take())
        });
    });

    group.bench_function("open", |b| {
        let mut sealer = Sealer::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY);
        let mut opener = Opener::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY, BytesMut::new());
        b.iter_batched(
            || {
                sealer.write(&stream);
                sealer.take()
            },
            |wire| {
                opener.buffer().extend_from_slice(&wire);
                opener.open().unwrap();
                black_box(opener.take(usize::MAX))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let block = Block::identify(BlockKind::Content, Bytes::from(vec![1; BLOCK_SIZE])).unwrap();
    let found = Frame::Routed(Routed::Found {
        id: RequestId(1),
        block,
        copy: false,
    });
    let size = PacketSize::Block;
    let packet = Frame::Packet {
        circuit: CircuitId(1),
        size,
        body: BytesMut::from(&vec![2; size.body()][..]),
    };
    for (name, frame) in [("block", found), ("packet", packet)] {
        group.throughput(Throughput::Bytes((size.body() + TAG_LEN) as u64));
        let mut sender = FrameSender::new(Sealer::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY));
        let mut receiver = FrameReceiver::new(
            Opener::<Portable>::new(Cipher::ChaCha20Poly1305, &KEY, BytesMut::new()),
            network(),
        );
        group.bench_function(format!("{name} sent and received"), |b| {
            b.iter(|| {
                sender.send(&frame);
                sender.flush();
                receiver.buffer().extend_from_slice(&sender.take());
                receiver.open().unwrap();
                black_box(receiver.next().unwrap().unwrap())
            });
        });
    }
    group.finish();
}

fn handshake(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (alice, bob) = (NodeSecrets::generate(&mut rng), NodeSecrets::generate(&mut rng));
    let remote = Remote {
        node: bob.id(),
        link_key: bob.link_public().to_bytes(),
    };
    let now = WallTime(1_800_000_000);
    let mut seed = 0;
    c.bench_function("handshake, both ends", |b| {
        b.iter(|| {
            seed += 2;
            let (mut to_bob, mut to_alice, mut replays) =
                (BytesMut::new(), BytesMut::new(), ReplayCache::new());
            let rng = ChaCha20Rng::seed_from_u64;
            let a = Initiator::start(
                &alice,
                remote,
                network(),
                Cipher::ChaCha20Poly1305,
                now,
                rng(seed),
                &mut to_bob,
            )
            .unwrap();
            let b = Responder::new(&bob, network(), Cipher::ChaCha20Poly1305, rng(seed + 1));
            let step = b.receive::<Portable>(&to_bob.split(), now, &mut replays, &mut to_alice);
            let Ok(Step::More(b)) = step else {
                panic!("not answered")
            };
            a.receive::<Portable>(&to_alice, &mut to_bob).ok().unwrap();
            b.receive::<Portable>(&to_bob, now, &mut replays, &mut to_alice)
                .ok()
                .unwrap()
        });
    });
}

criterion_group!(benches, records, frames, handshake);
criterion_main!(benches);
