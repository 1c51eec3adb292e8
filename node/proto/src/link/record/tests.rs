use proptest::prelude::*;

use sha2::Digest;

use super::*;
use crate::crypto::Portable;

const KEY: [u8; 32] = [7; 32];
const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

fn sealer() -> Sealer<Portable> {
    Sealer::new(Cipher::ChaCha20Poly1305, &KEY)
}

fn opener() -> Opener<Portable> {
    Opener::new(Cipher::ChaCha20Poly1305, &KEY, BytesMut::new())
}

/// Seals plaintext of any form, as a faulty peer could.
fn raw_record(sequence: u64, mut plain: Vec<u8>) -> Vec<u8> {
    plain.resize(RECORD_LEN, 0);
    Portable::new(&KEY).seal(sequence, &[], &mut plain);
    plain
}

fn feed(opener: &mut Opener<Portable>, wire: &[u8]) -> Result<(), RecordError> {
    opener.buffer().extend_from_slice(wire);
    opener.open()
}

#[test]
fn records_have_one_length() {
    for len in [
        1,
        RECORD_PAYLOAD - 1,
        RECORD_PAYLOAD,
        RECORD_PAYLOAD + 1,
        3 * RECORD_PAYLOAD,
    ] {
        let mut sealer = sealer();
        sealer.write(&vec![5; len]);
        assert_eq!(sealer.pending(), len / RECORD_PAYLOAD * RECORD_LEN);
        sealer.flush();
        let wire = sealer.take();
        assert_eq!(wire.len(), len.div_ceil(RECORD_PAYLOAD) * RECORD_LEN);
        let mut opener = opener();
        feed(&mut opener, &wire).unwrap();
        assert_eq!(opener.stream(), vec![5; len]);
        assert_eq!(opener.take(usize::MAX), vec![5; len]);
        assert!(opener.stream().is_empty());
    }
}

#[test]
fn cover_is_a_record_and_nothing_to_flush_is_none() {
    let mut sealer = sealer();
    sealer.flush();
    sealer.write(&[]);
    assert!(sealer.take().is_empty());
    sealer.cover();
    sealer.write(b"x");
    sealer.cover();
    let wire = sealer.take();
    assert_eq!(wire.len(), 2 * RECORD_LEN);
    let mut opener = opener();
    feed(&mut opener, &wire[..RECORD_LEN]).unwrap();
    assert!(opener.stream().is_empty());
    feed(&mut opener, &wire[RECORD_LEN..]).unwrap();
    assert_eq!(opener.stream(), b"x");
}

#[test]
fn taking_leaves_the_record_that_is_being_filled() {
    let mut sealer = sealer();
    sealer.write(&[1; RECORD_PAYLOAD + 10]);
    assert_eq!(sealer.room(), RECORD_PAYLOAD - 10);
    let first = sealer.take();
    assert!(sealer.is_partial() && sealer.pending() == 0);
    sealer.write(&[2; 10]);
    sealer.flush();
    let mut opener = opener();
    feed(&mut opener, &first).unwrap();
    feed(&mut opener, &sealer.take()).unwrap();
    assert_eq!(
        opener.stream(),
        [vec![1; RECORD_PAYLOAD + 10], vec![2; 10]].concat()
    );
}

#[test]
fn every_flipped_bit_is_refused() {
    for cipher in CIPHERS {
        flipped_bits_are_refused(cipher);
    }
}

fn flipped_bits_are_refused(cipher: Cipher) {
    let mut sealer = Sealer::<Portable>::new(cipher, &KEY);
    sealer.write(b"contents");
    sealer.flush();
    let wire = sealer.take();
    // One bit of each byte, another each time; then all bits of the first and last bytes.
    let places = (0..RECORD_LEN).map(|byte| byte * 8 + byte % 8);
    for bit in places.chain(0..64).chain((RECORD_LEN - 8) * 8..RECORD_LEN * 8) {
        let mut changed = wire.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let mut opener = Opener::new(cipher, &KEY, BytesMut::new());
        assert_eq!(
            feed(&mut opener, &changed),
            Err(RecordError::Unauthenticated),
            "{cipher:?}, bit {bit}"
        );
    }
}

#[test]
fn replay_reordering_and_gaps_are_refused() {
    for cipher in CIPHERS {
        disorder_is_refused(cipher);
    }
}

fn disorder_is_refused(cipher: Cipher) {
    let opener = || Opener::new(cipher, &KEY, BytesMut::new());
    let mut sealer = Sealer::<Portable>::new(cipher, &KEY);
    for text in [b"one", b"two"] {
        sealer.write(text);
        sealer.flush();
    }
    let wire = sealer.take();
    let (one, two) = wire.split_at(RECORD_LEN);
    for wrong in [[two, one], [one, one], [two, two]] {
        assert_eq!(
            feed(&mut opener(), &wrong.concat()),
            Err(RecordError::Unauthenticated)
        );
    }
    let mut ended = opener();
    feed(&mut ended, one).unwrap();
    assert_eq!(feed(&mut ended, one), Err(RecordError::Unauthenticated));
    assert_eq!(feed(&mut ended, two), Err(RecordError::Ended));
    assert_eq!(
        feed(
            &mut Opener::<Portable>::new(cipher, &[8; 32], BytesMut::new()),
            one
        ),
        Err(RecordError::Unauthenticated)
    );
}

#[test]
fn a_cut_record_waits_and_adds_nothing() {
    let mut sealer = sealer();
    sealer.write(b"contents");
    sealer.flush();
    let wire = sealer.take();
    let mut opener = opener();
    feed(&mut opener, &wire[..RECORD_LEN - 1]).unwrap();
    assert!(opener.stream().is_empty());
    feed(&mut opener, &wire[RECORD_LEN - 1..]).unwrap();
    assert_eq!(opener.stream(), b"contents");
}

#[test]
fn counts_and_padding_are_checked() {
    let overfull = u16::try_from(RECORD_PAYLOAD).unwrap() + 1;
    let mut plain = vec![0; RECORD_PAYLOAD];
    plain.extend_from_slice(&overfull.to_be_bytes());
    assert_eq!(
        feed(&mut opener(), &raw_record(0, plain)),
        Err(RecordError::Overfull(overfull))
    );
    for place in [5, 6, RECORD_PAYLOAD - 1] {
        let mut plain = vec![0; RECORD_PAYLOAD + 2];
        plain[place] = 1;
        plain[RECORD_PAYLOAD + 1] = 5;
        assert_eq!(
            feed(&mut opener(), &raw_record(0, plain)),
            Err(RecordError::Padding)
        );
    }
}

#[test]
fn a_buffer_that_was_cut_short_is_refused_not_a_panic() {
    let mut sealer = sealer();
    sealer.write(b"contents");
    sealer.flush();
    let mut opener = opener();
    feed(&mut opener, &sealer.take()).unwrap();
    feed(&mut opener, &[1, 2, 3]).unwrap();
    opener.buffer().clear();
    assert!(opener.stream().is_empty());
    assert_eq!(opener.open(), Err(RecordError::Ended));
    assert!(opener.take(3).is_empty());
}

#[test]
fn nearly_empty_records_take_no_room() {
    // The worst that a peer can do: one byte a record, and always part of the next record, so that the gap cannot just close.
    let (mut sealer, mut opener) = (sealer(), opener());
    let mut wire = BytesMut::new();
    for number in 0..500 {
        sealer.write(&[7]);
        sealer.flush();
        wire.extend_from_slice(&sealer.take());
        let now = wire.split_to(wire.len() - 100);
        feed(&mut opener, &now).unwrap();
        assert_eq!(opener.stream().len(), number);
        assert!(
            opener.buf.len() <= number + WIDEST_GAP + 2 * RECORD_LEN,
            "{} bytes kept",
            opener.buf.len()
        );
        assert!(opener.buf.capacity() < 256 * 1024);
    }
    feed(&mut opener, &wire).unwrap();
    assert_eq!(opener.stream(), vec![7; 500]);
}

#[test]
fn keys_change_together() {
    /// Seals nothing, but says under which key it would have: a change of keys needs too many records for a real cipher here.
    struct Count(u64);
    impl Aead for Count {
        fn with(_: Cipher, key: &[u8; 32]) -> Self {
            Self(u64::from(key[0]))
        }
        fn seal(&self, nonce: u64, _: &[u8], buf: &mut [u8]) {
            let end = buf.len() - TAG_LEN;
            buf[end..end + 8].copy_from_slice(&nonce.to_le_bytes());
            buf[end + 8..].copy_from_slice(&self.0.to_le_bytes());
            if nonce == u64::MAX {
                buf[0] = u8::try_from(self.0).unwrap() + 1;
            }
        }
        fn open(
            &self,
            nonce: u64,
            _: &[u8],
            buf: &mut [u8],
            from: usize,
        ) -> Result<usize, crate::crypto::BadTag> {
            let (text, tag) = buf[from..]
                .split_last_chunk::<TAG_LEN>()
                .ok_or(crate::crypto::BadTag)?;
            if tag[..8] != nonce.to_le_bytes() || tag[8..] != self.0.to_le_bytes() {
                return Err(crate::crypto::BadTag);
            }
            let len = text.len();
            buf.copy_within(from..from + len, 0);
            Ok(len)
        }
    }
    let (mut sealer, mut opener) = (
        Sealer::<Count>::new(Cipher::ChaCha20Poly1305, &[1; 32]),
        Opener::<Count>::new(Cipher::ChaCha20Poly1305, &[1; 32], BytesMut::new()),
    );
    for number in 0..2 * REKEY_INTERVAL + 2 {
        sealer.cover();
        let wire = sealer.take();
        assert_eq!(
            u64::from(wire[RECORD_LEN - 8]),
            1 + number / REKEY_INTERVAL,
            "record {number}"
        );
        opener.buffer().extend_from_slice(&wire);
        opener.open().unwrap();
    }
}

#[test]
fn interoperates_with_snow() {
    let params: snow::params::NoiseParams = "Noise_NN_25519_ChaChaPoly_SHA256".parse().unwrap();
    let mut a = snow::Builder::new(params.clone()).build_initiator().unwrap();
    let mut b = snow::Builder::new(params).build_responder().unwrap();
    let (mut message, mut payload) = ([0; 256], [0; 256]);
    let len = a.write_message(&[], &mut message).unwrap();
    b.read_message(&message[..len], &mut payload).unwrap();
    let len = b.write_message(&[], &mut message).unwrap();
    a.read_message(&message[..len], &mut payload).unwrap();
    let mut snow = b.into_transport_mode().unwrap();
    snow.rekey_initiator_manually(&KEY);

    let mut sealer = sealer();
    let mut plain = [0; RECORD_LEN];
    for number in 0..3u8 {
        sealer.write(&[number; 9]);
        sealer.flush();
        assert_eq!(
            snow.read_message(&sealer.take(), &mut plain),
            Ok(RECORD_PAYLOAD + 2)
        );
        assert_eq!(plain[..10], [[number; 9].as_slice(), &[0]].concat());
        assert_eq!(plain[RECORD_PAYLOAD..RECORD_PAYLOAD + 2], [0, 9]);
    }
}

#[test]
fn the_same_key_under_another_cipher_opens_nothing() {
    for (one, other) in [CIPHERS, [CIPHERS[1], CIPHERS[0]]].map(|[a, b]| (a, b)) {
        let mut sealer = Sealer::<Portable>::new(one, &KEY);
        sealer.cover();
        let mut opener = Opener::<Portable>::new(other, &KEY, BytesMut::new());
        assert_eq!(
            feed(&mut opener, &sealer.take()),
            Err(RecordError::Unauthenticated)
        );
    }
}

#[test]
fn records_look_random() {
    CIPHERS.into_iter().for_each(look_random);
}

fn look_random(cipher: Cipher) {
    let mut sealer = Sealer::<Portable>::new(cipher, &KEY);
    for _ in 0..256 {
        sealer.cover();
    }
    let wire = sealer.take();
    for place in 0..RECORD_LEN {
        let first = wire[place];
        assert!(
            wire.chunks(RECORD_LEN).any(|record| record[place] != first),
            "byte {place} is constant"
        );
    }
    let square = crate::link::statistics::chi_square(&wire);
    assert!(
        crate::link::statistics::UNIFORM.contains(&square),
        "chi-square {square}"
    );
}

#[test]
fn vectors_agree() {
    for vector in crate::descriptor::fixtures::vectors("record") {
        let key = vector.bytes("key").try_into().unwrap();
        let number: u64 = vector.text("number").parse().unwrap();
        let cipher = match vector.text("suite") {
            "1" => Cipher::ChaCha20Poly1305,
            "2" => Cipher::Aes256Gcm,
            other => panic!("suite {other}"),
        };
        let mut sealer = Sealer::<Portable>::new(cipher, &key);
        let mut opener = Opener::new(cipher, &key, BytesMut::new());
        // To the last record before; whether the key changes there is the sequence's business.
        let before = number.saturating_sub(1);
        sealer.sequence.next = before;
        opener
            .sequence
            .as_mut()
            .map(|sequence: &mut Sequence<Portable>| sequence.next = before)
            .unwrap();
        if number > 0 {
            sealer.cover();
            feed(&mut opener, &sealer.take()).unwrap();
        }
        sealer.write(&vector.bytes("used"));
        // A record that is full is sealed already.
        if sealer.pending() == 0 {
            sealer.cover();
        }
        let wire = sealer.take();
        assert_eq!(wire.len(), RECORD_LEN);
        assert_eq!(wire[RECORD_LEN - 32..], vector.bytes("end"), "record {number}");
        assert_eq!(
            sha2::Sha256::digest(&wire)[..],
            vector.bytes("sha256"),
            "record {number}"
        );
        feed(&mut opener, &wire).unwrap();
        assert_eq!(opener.stream(), vector.bytes("used"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_stream_in_any_chunks(
        writes in prop::collection::vec((0usize..9000, any::<bool>()), 0..12),
        reads in prop::collection::vec(1usize..12_000, 1..20),
        takes in prop::collection::vec(1usize..9000, 1..20),
    ) {
        let (mut sealer, mut opener) = (sealer(), opener());
        let (mut wire, mut sent, mut got) = (Vec::new(), Vec::new(), Vec::new());
        for (len, flush) in writes {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().skip(sent.len() % 256).take(len).collect();
            sealer.write(&bytes);
            sent.extend_from_slice(&bytes);
            if flush { sealer.flush(); wire.extend_from_slice(&sealer.take()); }
        }
        sealer.flush();
        wire.extend_from_slice(&sealer.take());
        prop_assert_eq!(wire.len() % RECORD_LEN, 0);
        let (mut wire, mut reads, mut takes) = (&wire[..], reads.iter().cycle(), takes.iter().cycle());
        while !wire.is_empty() {
            let (now, later) = wire.split_at(wire.len().min(*reads.next().unwrap()));
            feed(&mut opener, now).unwrap();
            wire = later;
            let len = *takes.next().unwrap();
            if len % 2 == 0 {
                got.extend_from_slice(&opener.take(len));
            } else {
                let len = len.min(opener.stream().len());
                got.extend_from_slice(&opener.stream()[..len]);
                opener.skip(len);
            }
        }
        got.extend_from_slice(&opener.take(usize::MAX));
        prop_assert!(got == sent);
    }

    #[test]
    fn random_bytes_are_refused(wire in prop::collection::vec(any::<u8>(), RECORD_LEN..RECORD_LEN + 100)) {
        prop_assert_eq!(feed(&mut opener(), &wire), Err(RecordError::Unauthenticated));
    }
}
