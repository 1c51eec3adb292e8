use bytes::BytesMut;
use proptest::prelude::*;
use snow::{Builder, HandshakeState};
use x25519_dalek::{PublicKey, StaticSecret};

use super::*;

const PROLOGUE: &[u8] = b"a prologue";

struct Keys {
    initiator: StaticSecret,
    responder: StaticSecret,
    first: StaticSecret,
    second: StaticSecret,
}

impl Keys {
    fn new(seed: u8) -> Self {
        let key = |number| StaticSecret::from([seed ^ number; 32]);
        Self {
            initiator: key(1),
            responder: key(2),
            first: key(3),
            second: key(4),
        }
    }

    fn responder_public(&self) -> [u8; 32] {
        PublicKey::from(&self.responder).to_bytes()
    }

    fn snow(&self, initiator: bool) -> HandshakeState {
        let params = "Noise_XK_25519_ChaChaPoly_SHA256".parse().unwrap();
        let builder = Builder::new(params).prologue(PROLOGUE).unwrap();
        if initiator {
            let (public, fixed) = (self.responder_public(), self.first.to_bytes());
            let builder = builder.local_private_key(self.initiator.as_bytes()).unwrap();
            let builder = builder.remote_public_key(&public).unwrap();
            builder
                .fixed_ephemeral_key_for_testing_only(&fixed)
                .build_initiator()
                .unwrap()
        } else {
            let fixed = self.second.to_bytes();
            let builder = builder.local_private_key(self.responder.as_bytes()).unwrap();
            builder
                .fixed_ephemeral_key_for_testing_only(&fixed)
                .build_responder()
                .unwrap()
        }
    }
}

fn snow_write(state: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; payload.len() + 128];
    let len = state.write_message(payload, &mut message).unwrap();
    message.truncate(len);
    message
}

fn snow_read(state: &mut HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; message.len()];
    let len = state.read_message(message, &mut payload).unwrap();
    payload.truncate(len);
    payload
}

/// Runs our initiator and our responder, and at each step snow's, and compares all that they say.
fn interoperates(keys: &Keys, payloads: [&[u8]; 3]) {
    let (mut snow_a, mut snow_b) = (keys.snow(true), keys.snow(false));
    let mut out = BytesMut::new();

    let second = First::new(PROLOGUE, &keys.initiator, keys.responder_public())
        .write(keys.first.clone(), payloads[0], &mut out)
        .unwrap();
    let message = out.split();
    assert_eq!(message, snow_write(&mut snow_a, payloads[0]));
    assert_eq!(snow_read(&mut snow_b, &message), payloads[0]);
    let (answering, got) = Awaiting::new(PROLOGUE, &keys.responder).read(&message).unwrap();
    assert_eq!(got, payloads[0]);

    let finishing = answering
        .write(keys.second.clone(), payloads[1], &mut out)
        .unwrap();
    let message = out.split();
    assert_eq!(message, snow_write(&mut snow_b, payloads[1]));
    assert_eq!(snow_read(&mut snow_a, &message), payloads[1]);
    let (third, got) = second.read(&message).unwrap();
    assert_eq!(got, payloads[1]);

    let ours_a = third.write(payloads[2], &mut out).unwrap();
    let message = out.split();
    assert_eq!(message, snow_write(&mut snow_a, payloads[2]));
    assert_eq!(snow_read(&mut snow_b, &message), payloads[2]);
    let (ours_b, got) = finishing.read(&message).unwrap();
    assert_eq!(got, payloads[2]);

    assert_eq!(ours_a.hash, snow_a.get_handshake_hash());
    assert_eq!(ours_b.hash, snow_b.get_handshake_hash());
    assert_eq!(ours_b.peer, PublicKey::from(&keys.initiator).to_bytes());
    assert_eq!(ours_a.peer, keys.responder_public());
    assert!(
        *ours_a.send == *ours_b.receive && *ours_a.receive == *ours_b.send && *ours_a.send != *ours_a.receive
    );

    // Transport, both ways, over a change of keys.
    let (mut snow_a, mut snow_b) = (
        snow_a.into_transport_mode().unwrap(),
        snow_b.into_transport_mode().unwrap(),
    );
    let (mut key_a, mut key_b) = (ours_a.send, ours_b.send);
    for nonce in 0..3 {
        let mut sealed = [0x55; 20 + TAG_LEN];
        let mut opened = [0; 20];
        Portable::new(&key_a).seal(nonce, &[], &mut sealed);
        assert_eq!(snow_b.read_message(&sealed, &mut opened), Ok(20));
        assert_eq!(opened, [0x55; 20]);
        let mut sealed = [0x66; 20 + TAG_LEN];
        Portable::new(&key_b).seal(nonce, &[], &mut sealed);
        assert_eq!(snow_a.read_message(&sealed, &mut opened), Ok(20));
        assert_eq!(opened, [0x66; 20]);
        (key_a, key_b) = (Portable::new(&key_a).next_key(), Portable::new(&key_b).next_key());
        snow_a.rekey_incoming();
        snow_b.rekey_incoming();
    }
}

#[test]
fn interoperates_with_snow() {
    interoperates(&Keys::new(0x10), [b"", b"", b""]);
    interoperates(
        &Keys::new(0x20),
        [b"first", b"the second", b"and the third payload"],
    );
}

#[test]
fn every_flipped_bit_is_refused() {
    let keys = Keys::new(0x30);
    let start = || {
        let mut out = BytesMut::new();
        let second = First::new(PROLOGUE, &keys.initiator, keys.responder_public())
            .write(keys.first.clone(), b"one", &mut out)
            .unwrap();
        (second, out)
    };
    let answer = |message: &[u8]| {
        let mut out = BytesMut::new();
        let (answering, _) = Awaiting::new(PROLOGUE, &keys.responder).read(message)?;
        let finishing = answering.write(keys.second.clone(), b"two", &mut out)?;
        Ok::<_, NoiseError>((finishing, out))
    };
    let (_, message) = start();
    for changed in flips(&message) {
        assert!(Awaiting::new(PROLOGUE, &keys.responder).read(&changed).is_err());
    }
    let (_, reply) = answer(&message).unwrap();
    for changed in flips(&reply) {
        assert!(start().0.read(&changed).is_err());
    }
    let mut last = BytesMut::new();
    start()
        .0
        .read(&reply)
        .unwrap()
        .0
        .write(b"three", &mut last)
        .unwrap();
    for changed in flips(&last) {
        assert!(answer(&message).unwrap().0.read(&changed).is_err());
    }
    assert!(answer(&message).unwrap().0.read(&last).is_ok());
}

/// All variants of `message` with one bit flipped; in a debug build X25519 is slow, so one bit of each byte, another each time.
fn flips(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..message.len()).map(|place| {
        let mut changed = message.to_vec();
        changed[place] ^= 1 << (place % 8);
        changed
    })
}

#[test]
fn other_keys_and_prologues_are_refused() {
    let keys = Keys::new(0x40);
    let mut out = BytesMut::new();
    First::new(PROLOGUE, &keys.initiator, keys.responder_public())
        .write(keys.first.clone(), b"", &mut out)
        .unwrap();
    assert!(Awaiting::new(b"a prologuf", &keys.responder).read(&out).is_err());
    assert!(Awaiting::new(PROLOGUE, &keys.initiator).read(&out).is_err());
    assert!(Awaiting::new(PROLOGUE, &keys.responder).read(&out).is_ok());
}

#[test]
fn keys_of_small_order_are_refused() {
    let keys = Keys::new(0x50);
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        let first = First::new(PROLOGUE, &keys.initiator, weak);
        assert_eq!(
            first.write(keys.first.clone(), b"", &mut BytesMut::new()).err(),
            Some(NoiseError::SmallOrder)
        );
        let message = [&weak[..], &[0; TAG_LEN]].concat();
        let refused = Awaiting::new(PROLOGUE, &keys.responder).read(&message).err();
        assert_eq!(refused, Some(NoiseError::SmallOrder));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_payload_interoperates(seed: u8, a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
        interoperates(&Keys::new(seed), [&a, &b, &c]);
    }

    #[test]
    fn random_messages_are_refused(message: Vec<u8>) {
        let keys = Keys::new(0x60);
        prop_assert!(Awaiting::new(PROLOGUE, &keys.responder).read(&message).is_err());
    }
}
