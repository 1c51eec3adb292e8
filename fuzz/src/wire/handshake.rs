//! Both ends of the link handshake against strangers, and against peers that know the keys and break every other rule.

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_proto::{
    crypto::{Cipher, Portable},
    link::{Established, HandshakeError, Initiator, Remote, ReplayCache, Responder, Step},
    wire::Frame,
};

use super::noise::{Party, padding};
use crate::{Input, Seed, fixtures};

/// Lengths of the payloads that version 1 sends.
const PAYLOADS: [usize; 3] = [41, 36, 34];
/// Lengths of the messages before their padding.
const MESSAGES: [usize; 3] = [32 + 32 + 41 + 16, 32 + 32 + 36 + 16, 48 + 34 + 16];

/// What a machine made of some bytes.
type Outcome<M> = Result<Step<M, Portable>, HandshakeError>;

/// The first byte chooses who is fuzzed and by whom.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 6 {
        0 => stranger_dials(&mut input),
        1 => stranger_answers(&mut input),
        2 => hostile_initiator(&mut input),
        3 => hostile_responder(&mut input),
        4 => honest(&mut input),
        _ => {
            let bytes = input.rest();
            if let Ok(cache) = ReplayCache::from_bytes(bytes) {
                assert!(cache.to_bytes() == bytes, "another form of the same cache");
            }
        }
    }
}

/// What a machine has whose seed is this: both, by turns.
fn best(seed: u64) -> Cipher {
    if seed & 2 == 0 {
        Cipher::Aes256Gcm
    } else {
        Cipher::ChaCha20Poly1305
    }
}

fn responder(seed: u64) -> Responder {
    Responder::new(
        &fixtures::node(2).secrets,
        fixtures::network(),
        best(seed),
        ChaCha20Rng::seed_from_u64(seed),
    )
}

fn initiator(seed: u64, out: &mut BytesMut) -> Initiator {
    let [dials, answers] = [1, 2].map(|node| &fixtures::node(node).secrets);
    let remote = Remote {
        node: answers.id(),
        link_key: answers.link_public().to_bytes(),
    };
    let rng = ChaCha20Rng::seed_from_u64(seed);
    let (network, now) = (fixtures::network(), fixtures::NOW);
    Initiator::start(dials, remote, network, best(seed), now, rng, out).expect("an honest key")
}

/// Feeds a machine in pieces.
fn feed<M>(
    mut machine: M,
    bytes: &[u8],
    piece: usize,
    mut receive: impl FnMut(M, &[u8]) -> Outcome<M>,
) -> Outcome<M> {
    let mut pieces = bytes.chunks(piece.max(1)).peekable();
    while let Some(piece) = pieces.next() {
        machine = match receive(machine, piece)? {
            Step::More(machine) => machine,
            Step::Done(mut done) => {
                // The rest of what arrived belongs to the records.
                pieces.for_each(|piece| done.receiver.buffer().extend_from_slice(piece));
                return Ok(Step::Done(done));
            }
        };
    }
    Ok(Step::More(machine))
}

fn stranger_dials(input: &mut Input<'_>) {
    let (piece, mut replays, mut out) = (input.u16().into(), ReplayCache::new(), BytesMut::new());
    let result = feed(responder(0), input.rest(), piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut out)
    });
    assert!(!matches!(result, Ok(Step::Done(_))), "a stranger got in");
    assert!(out.is_empty() && replays.is_empty(), "a stranger got an answer");
}

fn stranger_answers(input: &mut Input<'_>) {
    let (piece, mut out) = (input.u16().into(), BytesMut::new());
    let machine = initiator(1, &mut out);
    out.clear();
    let result = feed(machine, input.rest(), piece, |machine, bytes| {
        machine.receive(bytes, &mut out)
    });
    assert!(
        !matches!(result, Ok(Step::Done(_))) && out.is_empty(),
        "a stranger was believed"
    );
}

/// A payload of message `number` that the input has changed, and the padding that may fit it.
fn payload(number: usize, input: &mut Input<'_>) -> (Vec<u8>, Vec<u8>) {
    let hour = u32::try_from(fixtures::NOW.0 / 3600).expect("a date of this century");
    let mut payload = match number {
        0 => [&[1, 1, 2][..], &hour.to_be_bytes()].concat(),
        1 => vec![1, 2],
        _ => Vec::new(),
    };
    let (len, seed) = (input.u16() % 600, [input.u8(); 32]);
    payload.extend_from_slice(&len.to_be_bytes());
    payload.extend_from_slice(&seed);
    assert_eq!(payload.len(), PAYLOADS[number]);
    let changes = input.below(4);
    input.flip(&mut payload, changes);
    let mut padding = padding(len, &seed);
    let changes = input.below(2);
    input.flip(&mut padding, changes);
    // More or less than the payload says.
    match input.u8() {
        250.. => padding.extend_from_slice(input.chunk()),
        240.. => padding.truncate(usize::from(input.u16())),
        _ => {}
    }
    (payload, padding)
}

fn hostile_initiator(input: &mut Input<'_>) {
    let piece = usize::from(input.u16());
    let seed = 1 + u64::from(input.flag());
    let (mut replays, mut out) = (ReplayCache::new(), BytesMut::new());
    let [own, peer] = [1, 2].map(|node| &fixtures::node(node).secrets);
    let mut party = Party::new(own, peer, &fixtures::network(), true, &[7; 32]);
    let (payload_1, padding_1) = payload(0, input);
    let mut first = party.write(1, [3; 32], &payload_1).expect("a first message");
    first.extend_from_slice(&padding_1);
    let answer = feed(responder(seed), &first, piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut out)
    });
    // With bytes behind the first message it may have failed after its answer.
    let Ok(Step::More(machine)) = answer else {
        return assert!(
            out.is_empty() || replays.len() == 1,
            "an answer without a message"
        );
    };
    if out.is_empty() {
        return;
    }
    assert!(replays.len() == 1 && out.len() >= MESSAGES[1]);
    let read = party.read(2, &out[..MESSAGES[1]]).expect("a valid answer");
    assert!(read.len() == PAYLOADS[1] && read[0] == 1);
    let suite = read[1];
    assert!(suite == 1 || suite == 2 && best(seed) == Cipher::Aes256Gcm);
    let replay = feed(responder(3), &first, piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut BytesMut::new())
    });
    assert!(
        matches!(replay, Err(HandshakeError::Replay(_))),
        "a replay was answered"
    );
    let (payload_3, padding_3) = payload(2, input);
    let mut third = party.write(3, [0; 32], &payload_3).expect("a third message");
    third.extend_from_slice(&padding_3);
    third.extend_from_slice(input.rest());
    out.clear();
    let end = feed(machine, &third, piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut out)
    });
    assert!(out.is_empty());
    if let Ok(Step::Done(done)) = end {
        assert!(
            done.handshake_hash[..] == party.hash()[..]
                && done.peer_link_key == own.link_public().to_bytes()
                && (done.cipher == Cipher::Aes256Gcm) == (suite == 2)
        );
        check_records(done);
    }
}

fn hostile_responder(input: &mut Input<'_>) {
    let (piece, mut out) = (usize::from(input.u16()), BytesMut::new());
    let seed = 1 + u64::from(input.flag());
    let machine = initiator(seed, &mut out);
    let [peer, own] = [1, 2].map(|node| &fixtures::node(node).secrets);
    let mut party = Party::new(own, peer, &fixtures::network(), false, &[7; 32]);
    let read = party.read(1, &out[..MESSAGES[0]]).expect("a valid message");
    assert_eq!(read.len(), PAYLOADS[0]);
    out.clear();
    let (payload_2, padding_2) = payload(1, input);
    let mut second = party.write(2, [3; 32], &payload_2).expect("a second message");
    second.extend_from_slice(&padding_2);
    second.extend_from_slice(input.rest());
    match feed(machine, &second, piece, |machine, bytes| {
        machine.receive(bytes, &mut out)
    }) {
        Ok(Step::Done(done)) => {
            assert!(
                party
                    .read(3, &out[..MESSAGES[2]])
                    .is_some_and(|payload| payload.len() == PAYLOADS[2])
            );
            assert!(done.handshake_hash[..] == party.hash()[..]);
            assert!(done.cipher == Cipher::ChaCha20Poly1305 || best(seed) == Cipher::Aes256Gcm);
            check_records(done);
        }
        _ => assert!(out.is_empty(), "the identity went out before the peer was proved"),
    }
}

/// What came behind the handshake is not sealed by anybody.
fn check_records(mut done: Established<Portable>) {
    let waiting = done.receiver.buffer().len();
    assert_eq!(done.receiver.open().is_err(), waiting >= 4096);
}

/// Two honest ends over a wire that cuts as it likes, and that may change the bytes of one message.
fn honest(input: &mut Input<'_>) {
    let (piece, seed, changed) = (usize::from(input.u16()), input.u64(), input.u8());
    let (mut replays, mut nothing) = (ReplayCache::new(), BytesMut::new());
    let (mut first, mut second, mut third) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    let dials = initiator(seed, &mut first);
    if changed == 1 && input.flip(&mut first, 2) {
        let result = feed(responder(seed), &first, piece, |machine, bytes| {
            machine.receive(bytes, fixtures::NOW, &mut replays, &mut second)
        });
        return assert!(second.is_empty() && !matches!(result, Ok(Step::Done(_))));
    }
    let answers = feed(responder(!seed), &first, piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut second)
    });
    let Ok(Step::More(answers)) = answers else {
        panic!("no answer to an honest message")
    };
    if changed == 2 && input.flip(&mut second, 2) {
        let result = feed(dials, &second, piece, |machine, bytes| {
            machine.receive(bytes, &mut third)
        });
        return assert!(third.is_empty() && !matches!(result, Ok(Step::Done(_))));
    }
    let Ok(Step::Done(mut a)) = feed(dials, &second, piece, |machine, bytes| {
        machine.receive(bytes, &mut third)
    }) else {
        panic!("the dialler is not done")
    };
    let altered = changed == 3 && input.flip(&mut third, 2);
    let end = feed(answers, &third, piece, |machine, bytes| {
        machine.receive(bytes, fixtures::NOW, &mut replays, &mut nothing)
    });
    if altered {
        return assert!(!matches!(end, Ok(Step::Done(_))));
    }
    let Ok(Step::Done(mut b)) = end else {
        panic!("the listener is not done")
    };
    assert!(a.handshake_hash == b.handshake_hash && (a.version, b.version) == (1, 1));
    let both = [best(seed), best(!seed)] == [Cipher::Aes256Gcm; 2];
    assert!(a.cipher == b.cipher && (a.cipher == Cipher::Aes256Gcm) == both);
    talk(&mut a, &mut b, seed);
    talk(&mut b, &mut a, !seed);
}

fn talk(from: &mut Established<Portable>, to: &mut Established<Portable>, number: u64) {
    from.sender.send(&Frame::Ping(number));
    from.sender.flush();
    to.receiver.buffer().extend_from_slice(&from.sender.take());
    to.receiver.open().expect("an honest record");
    assert!(matches!(to.receiver.next(), Ok(Some(Frame::Ping(arrived))) if arrived == number));
}

/// The vectors' messages as a stranger's, and each of the other roles with and without changes.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (mode, message) in [(0, "message_1"), (1, "message_2")] {
        let vectors = fixtures::vector_bytes(fixtures::LINKS, "handshake", message);
        seeds.extend(crate::seed::numbered(
            message,
            vectors.map(|bytes| [&[mode, 0, 99][..], &bytes].concat()),
        ));
    }
    let payload = |seed: Seed, len| seed.u16(len).u8(5).u8(0).u8(0).u8(0);
    seeds.push(payload(payload(Seed::new("initiator").u8(2).u16(700).u8(1), 100), 511).bytes(&[0; 100]));
    seeds.push(payload(
        payload(Seed::new("initiator-slowly").u8(2).u16(1).u8(0), 0),
        0,
    ));
    // The version that it speaks at least is 2.
    seeds.push(
        Seed::new("initiator-version")
            .u8(2)
            .u16(700)
            .u8(1)
            .u16(1)
            .u8(5)
            .u8(1)
            .u16(0)
            .u8(3)
            .u8(0)
            .u8(0),
    );
    seeds.push(payload(Seed::new("responder").u8(3).u16(50).u8(1), 200));
    seeds.push(payload(Seed::new("responder-early").u8(3).u16(50).u8(1), 200).bytes(b"too early"));
    seeds.push(
        Seed::new("responder-suite")
            .u8(3)
            .u16(700)
            .u8(0)
            .u16(1)
            .u8(5)
            .u8(1)
            .u16(1)
            .u8(3)
            .u8(0)
            .u8(0),
    );
    seeds.push(Seed::new("honest").u8(4).u16(60).u64(1).u8(0));
    for message in 1..=3 {
        seeds.push(
            Seed::new(format!("honest-changed-{message}"))
                .u8(4)
                .u16(60)
                .u64(2)
                .u8(message)
                .u16(9)
                .u8(1),
        );
    }
    seeds.push(Seed::new("replays").u8(5).bytes(&ReplayCache::new().to_bytes()));
    let hour = [
        &[1][..],
        &500_000_u32.to_be_bytes(),
        &2_u16.to_be_bytes(),
        &[1; 16],
        &[2; 16],
    ]
    .concat();
    seeds.push(Seed::new("replays-of-an-hour").u8(5).bytes(&hour));
    seeds
}
