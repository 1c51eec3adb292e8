use proptest::prelude::*;
use rand_core::SeedableRng;
use x25519_dalek::PublicKey;

use super::*;
use crate::{
    crypto::Portable,
    descriptor::fixtures::{key, network, secrets, vectors},
    link::{
        replay::MAX_CLOCK_HOURS,
        statistics::{UNIFORM, chi_square},
    },
    wire::Frame,
};

const NOW: WallTime = WallTime(1_800_000_000);
const AGREED: Agreed = Agreed {
    version: 1,
    cipher: Cipher::Aes256Gcm,
};

type Link = Established<Portable>;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn alice() -> NodeSecrets {
    NodeSecrets::new(key(1))
}

fn bob() -> NodeSecrets {
    NodeSecrets::new(key(2))
}

fn remote(secrets: &NodeSecrets) -> Remote {
    Remote {
        node: secrets.id(),
        link_key: secrets.link_public().to_bytes(),
    }
}

fn start_with(best: Cipher, seed: u64) -> (Initiator, BytesMut) {
    let (mut out, remote) = (BytesMut::new(), remote(&bob()));
    let initiator = Initiator::start(&alice(), remote, network(), best, NOW, rng(seed), &mut out).unwrap();
    (initiator, out)
}

fn start(seed: u64) -> (Initiator, BytesMut) {
    start_with(Cipher::Aes256Gcm, seed)
}

fn responder_with(best: Cipher, seed: u64) -> Responder {
    Responder::new(&bob(), network(), best, rng(seed ^ 0xffff))
}

fn responder(seed: u64) -> Responder {
    responder_with(Cipher::Aes256Gcm, seed)
}

/// What a responder makes of bytes, with a replay cache of its own.
fn answer(received: &[u8]) -> (Result<Step<Responder, Portable>, HandshakeError>, BytesMut) {
    let mut out = BytesMut::new();
    let step = responder(0).receive(received, NOW, &mut ReplayCache::new(), &mut out);
    (step, out)
}

fn more<M, A>(step: Result<Step<M, A>, HandshakeError>) -> M {
    match step.unwrap_or_else(|fault| panic!("{fault}")) {
        Step::More(machine) => machine,
        Step::Done(_) => panic!("done too early"),
    }
}

fn done<M, A>(step: Result<Step<M, A>, HandshakeError>) -> Established<A> {
    match step.unwrap_or_else(|fault| panic!("{fault}")) {
        Step::More(_) => panic!("not done"),
        Step::Done(established) => established,
    }
}

/// The three messages of a handshake, and its two ends.
fn run(seed: u64) -> ([BytesMut; 3], Link, Link) {
    run_with(Cipher::Aes256Gcm, Cipher::Aes256Gcm, seed)
}

/// With what the dialler and the dialled have.
fn run_with(dialler: Cipher, dialled: Cipher, seed: u64) -> ([BytesMut; 3], Link, Link) {
    let (initiator, first) = start_with(dialler, seed);
    let (mut second, mut third) = (BytesMut::new(), BytesMut::new());
    let mut replays = ReplayCache::new();
    let responder = responder_with(dialled, seed);
    let responder = more::<_, Portable>(responder.receive(&first, NOW, &mut replays, &mut second));
    let a = done(initiator.receive(&second, &mut third));
    let b = done(responder.receive(&third, NOW, &mut replays, &mut BytesMut::new()));
    ([first, second, third], a, b)
}

/// Sends a ping and checks that it arrives.
fn talks(from: &mut Link, to: &mut Link) -> bool {
    from.sender.send(&Frame::Ping(7));
    from.sender.flush();
    to.receiver.buffer().extend_from_slice(&from.sender.take());
    to.receiver.open().is_ok() && matches!(to.receiver.next(), Ok(Some(Frame::Ping(7))))
}

#[test]
fn both_ends_agree_and_know_each_other() {
    let (_, mut a, mut b) = run(1);
    assert_eq!(a.handshake_hash, b.handshake_hash);
    assert_eq!(a.peer_link_key, bob().link_public().to_bytes());
    assert_eq!(b.peer_link_key, alice().link_public().to_bytes());
    assert!(a.dialler && !b.dialler);
    assert_eq!((a.version, b.version), (1, 1));
    assert!(talks(&mut a, &mut b) && talks(&mut b, &mut a));
    let (_, mut other, _) = run(2);
    assert_ne!(a.handshake_hash, other.handshake_hash);
    assert!(!talks(&mut other, &mut b));
}

#[test]
fn records_are_sealed_with_aes_where_both_ends_have_it() {
    let (aes, chacha) = (Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305);
    let mut seen = Vec::new();
    for (dialler, dialled, agreed) in [
        (aes, aes, aes),
        (aes, chacha, chacha),
        (chacha, aes, chacha),
        (chacha, chacha, chacha),
    ] {
        let (messages, mut a, mut b) = run_with(dialler, dialled, 1);
        assert_eq!((a.cipher, b.cipher), (agreed, agreed));
        let lengths = messages.map(|message| message.len());
        a.sender.cover();
        let record = a.sender.take();
        b.receiver.buffer().extend_from_slice(&record);
        b.receiver.open().unwrap();
        assert!(talks(&mut a, &mut b) && talks(&mut b, &mut a));
        seen.push((lengths, record));
    }
    assert!(
        seen.iter().all(|(lengths, _)| *lengths == seen[0].0),
        "lengths tell the suite"
    );
    // Same random choices, so the same keys: only the cipher makes records differ.
    assert!(seen[0].1 != seen[1].1 && seen[1].1 == seen[2].1 && seen[2].1 == seen[3].1);
}

#[test]
fn a_suite_that_was_not_offered_is_refused() {
    for (best, suite) in [
        (Cipher::ChaCha20Poly1305, 2),
        (Cipher::ChaCha20Poly1305, 0),
        (Cipher::Aes256Gcm, 0),
        (Cipher::Aes256Gcm, 3),
    ] {
        let (initiator, first) = start_with(best, 11);
        let place = Place {
            responder: remote(&bob()),
            network: network(),
        };
        let awaiting = noise::Awaiting::new(&place.prologue(), bob().link_secret());
        let (answering, _) = awaiting
            .read(&unmask(&place, 1, first[..FIRST_LEN].into()))
            .unwrap();
        let Fresh { nonce, ephemeral, .. } = Fresh::draw(&mut rng(12));
        let padding = Padding {
            len: 0,
            seed: [0; SEED_LEN],
        };
        let mut payload = vec![1, suite];
        padding.put(&mut payload);
        let (mut second, mut third) = (BytesMut::new(), BytesMut::new());
        put_masked(&place, 2, nonce, padding, &mut second, |out| {
            answering.write(ephemeral, &payload, out)
        })
        .unwrap();
        let step: Result<Step<_, Portable>, _> = initiator.receive(&second, &mut third);
        assert_eq!(step.err(), Some(HandshakeError::Suite(suite)));
        assert!(third.is_empty());
    }
}

#[test]
fn records_behind_the_third_message_are_kept() {
    let (initiator, first) = start(1);
    let (mut second, mut third) = (BytesMut::new(), BytesMut::new());
    let mut replays = ReplayCache::new();
    let responder = more::<_, Portable>(responder(1).receive(&first, NOW, &mut replays, &mut second));
    let mut a: Link = done(initiator.receive(&second, &mut third));
    a.sender.send(&Frame::Ping(9));
    a.sender.flush();
    third.extend_from_slice(&a.sender.take());
    let mut b: Link = done(responder.receive(&third, NOW, &mut replays, &mut BytesMut::new()));
    b.receiver.open().unwrap();
    assert!(matches!(b.receiver.next(), Ok(Some(Frame::Ping(9)))));
}

#[test]
fn inside_is_noise_that_snow_understands() {
    let ([first, second, third], a, _) = run(3);
    let place = Place {
        responder: remote(&bob()),
        network: network(),
    };
    let prologue = place.prologue();
    let params = "Noise_XK_25519_ChaChaPoly_SHA256".parse().unwrap();
    let secret = bob().link_secret().to_bytes();
    let fixed = Fresh::draw(&mut rng(3 ^ 0xffff)).ephemeral.to_bytes();
    let builder = snow::Builder::new(params)
        .prologue(&prologue)
        .unwrap()
        .local_private_key(&secret)
        .unwrap();
    let mut snow = builder
        .fixed_ephemeral_key_for_testing_only(&fixed)
        .build_responder()
        .unwrap();
    let mut payload = [0; 600];

    let noise = unmask(&place, 1, first[..FIRST_LEN].into());
    assert_eq!(snow.read_message(&noise, &mut payload), Ok(FIRST_PAYLOAD));
    assert_eq!(payload[..3], [1, 1, 2]);
    assert_eq!(payload[3..7], 500_000u32.to_be_bytes());
    assert_eq!(
        usize::from(u16::from_be_bytes([payload[7], payload[8]])),
        first.len() - FIRST_LEN
    );

    let noise = unmask(&place, 2, second[..SECOND_LEN].into());
    let padding = Fresh::draw(&mut rng(3 ^ 0xffff)).padding;
    let mut message = [0; 600];
    let len = snow
        .write_message(&second_payload(AGREED, padding), &mut message)
        .unwrap();
    assert_eq!(message[..len], noise[..]);

    assert_eq!(
        snow.read_message(&third[..THIRD_LEN], &mut payload),
        Ok(THIRD_PAYLOAD)
    );
    assert_eq!(
        snow.get_remote_static(),
        Some(&alice().link_public().as_bytes()[..])
    );
    assert_eq!(snow.get_handshake_hash(), a.handshake_hash);
}

#[test]
fn every_changed_byte_of_the_first_message_gets_silence() {
    let (_, first) = start(4);
    for place in 0..first.len() {
        let mut changed = first.clone();
        changed[place] ^= 1 << (place % 8);
        let (step, out) = answer(&changed);
        assert!(step.is_err() && out.is_empty(), "byte {place}");
    }
    for len in 0..first.len() {
        let (step, out) = answer(&first[..len]);
        assert!(
            matches!(step, Ok(Step::More(_))) && out.is_empty(),
            "cut to {len}"
        );
    }
}

#[test]
fn every_changed_byte_of_the_other_messages_is_refused() {
    let ([first, second, third], _, _) = run(5);
    for place in 0..second.len() {
        let mut changed = second.clone();
        changed[place] ^= 1 << (place % 8);
        let mut out = BytesMut::new();
        let step: Result<Step<_, Portable>, _> = start(5).0.receive(&changed, &mut out);
        assert!(step.is_err() && out.is_empty(), "byte {place}");
    }
    for place in 0..third.len() {
        let mut changed = third.clone();
        changed[place] ^= 1 << (place % 8);
        let mut replays = ReplayCache::new();
        let responder =
            more::<_, Portable>(responder(5).receive(&first, NOW, &mut replays, &mut BytesMut::new()));
        let mut out = BytesMut::new();
        let step: Result<Step<_, Portable>, _> = responder.receive(&changed, NOW, &mut replays, &mut out);
        assert!(step.is_err() && out.is_empty(), "byte {place}");
    }
}

#[test]
fn a_wrong_reference_gets_silence() {
    let carol = NodeSecrets::new(key(3));
    let mut wrong = vec![
        (
            Remote {
                node: bob().id(),
                ..remote(&carol)
            },
            network(),
        ),
        (
            Remote {
                node: carol.id(),
                ..remote(&bob())
            },
            network(),
        ),
        (remote(&carol), network()),
        (remote(&bob()), "another".parse().unwrap()),
    ];
    for (remote, network) in wrong.drain(..) {
        let mut first = BytesMut::new();
        let best = Cipher::Aes256Gcm;
        Initiator::start(&alice(), remote, network, best, NOW, rng(6), &mut first).unwrap();
        // Padding of unknown length may make it too short to be judged.
        first.resize(FIRST_LEN + usize::from(MAX_PADDING), 0);
        let (step, out) = answer(&first);
        assert_eq!(step.err(), Some(HandshakeError::Unauthenticated));
        assert!(out.is_empty());
    }
}

#[test]
fn a_replayed_first_message_gets_silence() {
    let (_, first) = start(7);
    let mut replays = ReplayCache::new();
    let mut out = BytesMut::new();
    more::<_, Portable>(responder(7).receive(&first, NOW, &mut replays, &mut out));
    assert!(!out.is_empty());
    let mut replays = ReplayCache::from_bytes(&replays.to_bytes()).unwrap();
    for later in [0, 3600, 26 * 3600, 30 * 3600, 365 * 24 * 3600] {
        let mut out = BytesMut::new();
        let now = WallTime(NOW.0 + later);
        let step: Result<Step<_, Portable>, _> = responder(8).receive(&first, now, &mut replays, &mut out);
        let expected = if later <= 26 * 3600 {
            ReplayError::Replayed
        } else {
            let hour = u32::try_from(NOW.0 / 3600).unwrap();
            ReplayError::Clock { hour }
        };
        assert_eq!(step.err(), Some(expected.into()), "{later} s later");
        assert!(out.is_empty());
    }
    assert_eq!(replays.len(), 1);
}

#[test]
fn clocks_may_differ_by_a_day() {
    let (_, first) = start(8);
    let day = 24 * 3600;
    for (now, accepted) in [
        (NOW.0 - day, true),
        (NOW.0 + day, true),
        (NOW.0 - 3600 * (u64::from(MAX_CLOCK_HOURS) + 1), false),
        (NOW.0 + 3600 * (u64::from(MAX_CLOCK_HOURS) + 1), false),
        (0, false),
        (u64::MAX, false),
    ] {
        let mut out = BytesMut::new();
        let step: Result<Step<_, Portable>, _> =
            responder(8).receive(&first, WallTime(now), &mut ReplayCache::new(), &mut out);
        assert_eq!(step.is_ok(), accepted, "at {now}");
        assert_eq!(!out.is_empty(), accepted);
    }
}

#[test]
fn bytes_before_their_turn_are_refused() {
    let ([first, second, _], _, _) = run(9);
    let early = [&first[..], &[0]].concat();
    let (step, out) = answer(&early);
    assert_eq!(step.err(), Some(HandshakeError::Early));
    assert!(out.is_empty());
    let mut out = BytesMut::new();
    let step: Result<Step<_, Portable>, _> = start(9).0.receive(&[&second[..], &[0]].concat(), &mut out);
    assert_eq!(step.err(), Some(HandshakeError::Early));
    assert!(out.is_empty());
}

/// A first message with a payload of the caller's choice.
fn first_with(payload: &[u8]) -> BytesMut {
    let place = Place {
        responder: remote(&bob()),
        network: network(),
    };
    let Fresh { nonce, ephemeral, .. } = Fresh::draw(&mut rng(10));
    let first = noise::First::new(&place.prologue(), alice().link_secret(), place.responder.link_key);
    let mut out = BytesMut::new();
    let none = Padding {
        len: 0,
        seed: [0; SEED_LEN],
    };
    put_masked(&place, 1, nonce, none, &mut out, |out| {
        first.write(ephemeral, payload, out)
    })
    .unwrap();
    out
}

#[test]
fn versions_and_suites() {
    let payload = first_payload(
        Cipher::Aes256Gcm,
        hour_of(NOW),
        Padding {
            len: 0,
            seed: [0; SEED_LEN],
        },
    );
    let with = |changes: &[(usize, u8)]| {
        let mut payload = payload.clone();
        changes.iter().for_each(|(place, value)| payload[*place] = *value);
        let (step, out) = answer(&first_with(&payload));
        assert_eq!(step.is_err(), out.is_empty());
        step.err()
    };
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[(1, 9)]), None, "a newer node that still speaks version 1");
    assert_eq!(
        with(&[(0, 0)]),
        None,
        "an older node that already speaks version 1"
    );
    assert_eq!(
        with(&[(0, 2), (1, 3)]),
        Some(HandshakeError::Version { min: 2, max: 3 })
    );
    assert_eq!(
        with(&[(0, 0), (1, 0)]),
        Some(HandshakeError::Version { min: 0, max: 0 })
    );
    assert_eq!(
        with(&[(0, 2), (1, 1)]),
        Some(HandshakeError::Version { min: 2, max: 1 })
    );
    assert_eq!(with(&[(2, 1)]), None, "a node without AES");
    for suite in [0, 3, 255] {
        assert_eq!(with(&[(2, suite)]), Some(HandshakeError::Suite(suite)));
    }
    assert_eq!(
        with(&[(7, 2)]),
        Some(HandshakeError::Payload),
        "padding of 512 bytes"
    );
    let innocent = HandshakeError::Suite(3).is_innocent()
        && HandshakeError::Replay(ReplayError::Clock { hour: 0 }).is_innocent();
    assert!(innocent && !HandshakeError::Unauthenticated.is_innocent());
}

#[test]
fn a_remote_with_a_weak_key_is_not_dialled() {
    let mut out = BytesMut::new();
    let remote = Remote {
        node: bob().id(),
        link_key: [0; 32],
    };
    let best = Cipher::Aes256Gcm;
    let step = Initiator::start(&alice(), remote, network(), best, NOW, rng(1), &mut out);
    assert_eq!(step.err(), Some(HandshakeError::SmallOrder));
    assert!(out.is_empty());
}

/// What an observer collects: the same message of many handshakes.
#[test]
fn messages_look_random_and_their_lengths_vary() {
    const RUNS: usize = 400;
    let runs: Vec<_> = (0..RUNS as u64).map(|seed| run(1000 + seed).0).collect();
    for (message, len) in [(0, FIRST_LEN), (1, SECOND_LEN), (2, THIRD_LEN)] {
        let all: Vec<&[u8]> = runs.iter().map(|messages| &messages[message][..]).collect();
        // Each bit of the part that all have is one half of the time 1: within 5 standard deviations (of 10).
        for bit in 0..len * 8 {
            let ones = all.iter().filter(|m| m[bit / 8] >> (bit % 8) & 1 == 1).count();
            assert!(
                (RUNS / 2).abs_diff(ones) < 50,
                "message {message}, bit {bit}: {ones} of {RUNS}"
            );
        }
        let square = chi_square(&all.concat());
        assert!(
            UNIFORM.contains(&square),
            "message {message}: chi-square {square}"
        );
        let mut lengths: Vec<_> = all.iter().map(|m| m.len() - len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > RUNS / 3, "only {} lengths", lengths.len());
        assert!(lengths[0] < 16 && lengths[lengths.len() - 1] > usize::from(MAX_PADDING) - 16);
        assert!(lengths[lengths.len() - 1] <= usize::from(MAX_PADDING));
    }
    // Same ends, same mask key: without a nonce, the XOR of two messages would show the structure of two keys.
    let tops = runs
        .windows(2)
        .filter(|pair| (pair[0][0][63] ^ pair[1][0][63]) & 0x80 == 0)
        .count();
    assert!((RUNS / 2).abs_diff(tops) < 50, "{tops}");
}

#[test]
fn ephemeral_keys_have_the_structure_that_the_mask_hides() {
    // The reason for the mask: the highest bit of an X25519 key is never set.
    for seed in 0..64 {
        let Fresh { ephemeral, .. } = Fresh::draw(&mut rng(seed));
        assert_eq!(PublicKey::from(&ephemeral).as_bytes()[31] & 0x80, 0);
    }
}

#[test]
fn vectors_agree() {
    for vector in vectors("handshake") {
        let bytes = |name: &str| <[u8; 32]>::try_from(vector.bytes(name)).unwrap();
        let ephemeral = |number: u8| StaticSecret::from(bytes(&format!("ephemeral_secret_{number}")));
        let padding = |number: u8| Padding {
            len: vector.text(&format!("padding_{number}")).parse().unwrap(),
            seed: bytes(&format!("padding_seed_{number}")),
        };
        let (alice, bob) = (
            secrets(&bytes("initiator_seed")),
            secrets(&bytes("responder_seed")),
        );
        let place = Place {
            responder: remote(&bob),
            network: vector.text("network").parse().unwrap(),
        };
        let hour: u32 = vector.text("hour").parse().unwrap();
        let cipher = |name: &str| match vector.text(name) {
            "1" => Cipher::ChaCha20Poly1305,
            "2" => Cipher::Aes256Gcm,
            other => panic!("suite {other}"),
        };

        let mut one = BytesMut::new();
        let first = noise::First::new(&place.prologue(), alice.link_secret(), place.responder.link_key);
        let payload = first_payload(cipher("suite_offered"), hour, padding(1));
        let second = put_masked(&place, 1, bytes("nonce_1"), padding(1), &mut one, |out| {
            first.write(ephemeral(1), &payload, out)
        });
        assert_eq!(one, vector.bytes("message_1"));

        // The real responder takes it, up to its own random choices.
        let now = WallTime(u64::from(hour) * 3600);
        let mut out = BytesMut::new();
        let responder = Responder::new(&bob, place.network, Cipher::Aes256Gcm, rng(0));
        more::<_, Portable>(responder.receive(&one, now, &mut ReplayCache::new(), &mut out));
        let awaiting = noise::Awaiting::new(&place.prologue(), bob.link_secret());
        let (answering, _) = awaiting
            .read(&unmask(&place, 1, one[..FIRST_LEN].into()))
            .unwrap();
        let mut two = BytesMut::new();
        let agreed = Agreed {
            version: 1,
            cipher: cipher("suite"),
        };
        let payload = second_payload(agreed, padding(2));
        let finishing = put_masked(&place, 2, bytes("nonce_2"), padding(2), &mut two, |out| {
            answering.write(ephemeral(2), &payload, out)
        });
        assert_eq!(two, vector.bytes("message_2"));

        let (third, _) = second
            .unwrap()
            .read(&unmask(&place, 2, two[..SECOND_LEN].into()))
            .unwrap();
        let mut three = BytesMut::new();
        let session = third.write(&third_payload(padding(3)), &mut three).unwrap();
        three.extend_from_slice(&padding(3).bytes());
        assert_eq!(three, vector.bytes("message_3"));
        let (other, _) = finishing.unwrap().read(&three[..THIRD_LEN]).unwrap();

        for (hash, to_responder, to_initiator) in [
            (session.hash, session.send, session.receive),
            (other.hash, other.receive, other.send),
        ] {
            assert_eq!(hash, bytes("hash"));
            assert!(*to_responder == bytes("key_to_responder") && *to_initiator == bytes("key_to_initiator"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_chunks(seed: u64, cuts in prop::collection::vec(1usize..200, 1..10)) {
        let mut cuts = cuts.iter().cycle();
        let mut cut = |bytes: &mut BytesMut| bytes.split_to(bytes.len().min(*cuts.next().unwrap()));
        let (initiator, mut to_responder) = start(seed);
        let (mut to_initiator, mut replays) = (BytesMut::new(), ReplayCache::new());
        let mut a = Step::More(initiator);
        let mut b = Step::More(responder(seed));
        let (mut a, mut b): (Link, Link) = loop {
            (a, b) = match (a, b) {
                (Step::Done(a), Step::Done(b)) => break (a, b),
                (Step::More(machine), b) if !to_initiator.is_empty() => {
                    (machine.receive(&cut(&mut to_initiator), &mut to_responder).unwrap(), b)
                }
                (a, Step::More(machine)) => {
                    prop_assert!(!to_responder.is_empty(), "both wait");
                    (a, machine.receive(&cut(&mut to_responder), NOW, &mut replays, &mut to_initiator).unwrap())
                }
                _ => panic!("the initiator cannot be last"),
            };
        };
        prop_assert!(talks(&mut a, &mut b) && talks(&mut b, &mut a));
    }

    #[test]
    fn random_bytes_get_silence(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6)) {
        let mut out = BytesMut::new();
        let mut machine = responder(1);
        for chunk in chunks {
            match machine.receive::<Portable>(&chunk, NOW, &mut ReplayCache::new(), &mut out) {
                Ok(Step::More(again)) => machine = again,
                Ok(Step::Done(_)) => panic!("random bytes are no handshake"),
                Err(_) => break,
            }
        }
        prop_assert!(out.is_empty());
    }
}
