//! Key exchanges: how many circuits a relay can join, and how many links a node can answer, in a second of one processor; and how long the
//! real program takes for a circuit of three hops. What a circuit costs a relay in all is measured where a thousand of them are opened
//! ([`super::scale`]).

use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{IdentityKey, Seed};
use warren_node::aead::{RingAead, best_cipher};
use warren_proto::{
    circuit::ntor::{self, ClientHandshake},
    descriptor::NodeSecrets,
    link::{
        ReplayCache,
        handshake::{Initiator, Remote, Responder, Step},
    },
    network::Network,
    time::WallTime,
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{median, meter::thread_cpu, milliseconds, percentile, relay::Site, report::Report};

/// Processor time spent on each kind.
const LONG: Duration = Duration::from_millis(500);
/// Handshakes between two readings of the clock.
const BATCH: u32 = 16;

/// Circuits that are built one after the other.
const CIRCUITS: usize = 100;

/// Measures.
///
/// # Errors
/// When a handshake fails, or the program is not there.
pub fn bench(report: &mut Report) -> anyhow::Result<()> {
    alone(report)?;
    build(report)
}

/// Circuits of three hops, one after the other, through processes of the program.
fn build(report: &mut Report) -> anyhow::Result<()> {
    let mut site = Site::start(2)?;
    let mut client = site.client_of_exit(0)?;
    let path = [&site.exit_names[0], &site.relay_name, &site.exit_names[1]];
    let mut times = Vec::new();
    for _ in 0..CIRCUITS {
        let begun = Instant::now();
        client.open(&path, 1)?;
        times.push(milliseconds(begun.elapsed()));
    }
    report.add(
        "handshakes.build",
        median(times.iter().copied()),
        "ms, three hops",
    );
    report.add("handshakes.build.p90", percentile(times, 90), "ms, three hops");
    Ok(())
}

/// The exchanges alone, in this thread.
fn alone(report: &mut Report) -> anyhow::Result<()> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let relay = IdentityKey::from_seed(&Seed::from_bytes([1; 32])).id();
    let secret = StaticSecret::random_from_rng(&mut rng);
    let onion_key = PublicKey::from(&secret);
    let (_, create) = ClientHandshake::start(&mut rng, relay, onion_key.as_bytes(), 0);
    let circuits = per_second(|| {
        ntor::respond(&mut rng, &relay, &secret, &onion_key, &create)
            .map(drop)
            .map_err(|error| anyhow!("{error}"))
    })?;
    report.add("handshakes.circuits", circuits, "/CPU s at the relay");

    let (alice, bob) = (NodeSecrets::generate(&mut rng), NodeSecrets::generate(&mut rng));
    let network: Network = "bench".parse()?;
    let remote = Remote {
        node: bob.id(),
        link_key: bob.link_public().to_bytes(),
    };
    let now = WallTime(1_800_000_000);
    let cipher = best_cipher();
    let mut seed = 0;
    let links = per_second(|| {
        seed += 2;
        let (mut to_bob, mut to_alice, mut replays) = (BytesMut::new(), BytesMut::new(), ReplayCache::new());
        let rng = ChaCha20Rng::seed_from_u64;
        let dialling = Initiator::start(&alice, remote, network, cipher, now, rng(seed), &mut to_bob)?;
        let answering = Responder::new(&bob, network, cipher, rng(seed + 1));
        let Ok(Step::More(answering)) =
            answering.receive::<RingAead>(&to_bob.split(), now, &mut replays, &mut to_alice)
        else {
            return Err(anyhow!("a handshake was not answered"));
        };
        let dialled = dialling.receive::<RingAead>(&to_alice, &mut to_bob);
        let answered = answering.receive::<RingAead>(&to_bob, now, &mut replays, &mut to_alice);
        match (dialled, answered) {
            (Ok(Step::Done(_)), Ok(Step::Done(_))) => Ok(()),
            _ => Err(anyhow!("a handshake did not end")),
        }
    })?;
    report.add("handshakes.links", links, "/CPU s, both ends");
    Ok(())
}

fn per_second(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = thread_cpu();
    let mut done = 0;
    loop {
        for _ in 0..BATCH {
            once()?;
        }
        done += BATCH;
        let used = thread_cpu() - start;
        if used >= LONG {
            return Ok(f64::from(done) / used.as_secs_f64());
        }
    }
}
