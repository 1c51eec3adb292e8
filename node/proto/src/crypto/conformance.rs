//! What every [`Aead`] must do, as one check that each implementation's tests call.
//!
//! It compares with fixed vectors and with [`Portable`], byte for byte, so that two implementations that pass can talk to
//! each other. Its panics are its verdict: it is meant for tests, and lives here because implementations are in other crates.

use super::{Aead, Cipher, Portable};
use crate::geometry::{BLOCK_BODY, CONTROL_BODY, RECORD_LEN, TAG_LEN};

/// Plaintext lengths at and around the edges of the blocks of ChaCha20 (64), Poly1305, AES and GHASH (16), and those that the
/// protocol uses.
const LENGTHS: [usize; 16] = [
    0,
    1,
    15,
    16,
    17,
    63,
    64,
    65,
    255,
    256,
    257,
    1000,
    CONTROL_BODY - TAG_LEN,
    RECORD_LEN - TAG_LEN,
    BLOCK_BODY - 2 * TAG_LEN,
    BLOCK_BODY - TAG_LEN,
];

/// Checks an implementation.
///
/// # Panics
/// When it deviates; the message says where.
pub fn check<A: Aead>() {
    vectors::<A>();
    gcm_vectors::<A>();
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        agrees_with_portable::<A>(cipher);
        opens_only_what_was_sealed::<A>(cipher);
        moves_plaintext_to_the_front::<A>(cipher);
    }
}

/// A deterministic filler, so that the check needs no generator.
fn fill(buf: &mut [u8], seed: u8) {
    let bytes = (0..=u8::MAX).cycle().zip((0..251).cycle());
    for (byte, (a, b)) in buf.iter_mut().zip(bytes) {
        *byte = a ^ b ^ seed;
    }
}

/// RFC 8439 appendix A.5 has a nonce whose first four bytes are zero, as ours are.
fn vectors<A: Aead>() {
    let key = [
        0x1c, 0x92, 0x40, 0xa5, 0xeb, 0x55, 0xd3, 0x8a, 0xf3, 0x33, 0x88, 0x86, 0x04, 0xf6, 0xb5, 0xf0, 0x47,
        0x39, 0x17, 0xc1, 0x40, 0x2b, 0x80, 0x09, 0x9d, 0xca, 0x5c, 0xbc, 0x20, 0x70, 0x75, 0xc0,
    ];
    let aad = [
        0xf3, 0x33, 0x88, 0x86, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x4e, 0x91,
    ];
    let nonce = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        Cipher::ChaCha20Poly1305.nonce(nonce),
        [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    let text: &[u8] = b"Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, \
        or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material \
        or to cite them other than as /\xe2\x80\x9cwork in progress./\xe2\x80\x9d";
    let start = [
        0x64, 0xa0, 0x86, 0x15, 0x75, 0x86, 0x1a, 0xf4, 0x60, 0xf0, 0x62, 0xc7, 0x9b, 0xe6, 0x43, 0xbd,
    ];
    let tag = [
        0xee, 0xad, 0x9d, 0x67, 0x89, 0x0c, 0xbb, 0x22, 0x39, 0x23, 0x36, 0xfe, 0xa1, 0x85, 0x1f, 0x38,
    ];
    let mut buf = [text, &[0; TAG_LEN]].concat();
    A::new(&key).seal(nonce, &aad, &mut buf);
    assert_eq!(buf[..16], start, "ciphertext of RFC 8439 A.5");
    assert_eq!(buf[text.len()..], tag, "tag of RFC 8439 A.5");
}

/// "The Galois/Counter Mode of Operation" (McGrew and Viega), test cases 13 and 14; a nonce that is not zero, in Noise's byte
/// order, by another implementation (OpenSSL 3).
fn gcm_vectors<A: Aead>() {
    assert_eq!(Cipher::Aes256Gcm.nonce(1), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let zero = A::with(Cipher::Aes256Gcm, &[0; 32]);
    let mut tag = [0; TAG_LEN];
    zero.seal(0, &[], &mut tag);
    assert_eq!(
        u128::from_be_bytes(tag),
        0x530f_8afb_c745_36b9_a963_b4f1_c4cb_738b,
        "GCM test case 13"
    );
    let mut sealed = [0; 32];
    zero.seal(0, &[], &mut sealed);
    let expected = [
        0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0,
        0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19,
    ];
    assert_eq!(sealed, expected, "GCM test case 14");
    let mut sealed = [0; 21];
    sealed[..5].copy_from_slice(b"hello");
    A::with(Cipher::Aes256Gcm, &[7; 32]).seal(0x0102_0304_0506_0708, b"aad", &mut sealed);
    let expected = [
        0xbb, 0x4e, 0x14, 0x1c, 0xdc, 0x75, 0xf9, 0x70, 0xa6, 0xe6, 0x33, 0x46, 0x9e, 0xb1, 0xd2, 0x65, 0x10,
        0xf6, 0xe3, 0x3f, 0xce,
    ];
    assert_eq!(sealed, expected, "nonces are counters, the highest byte first");
}

fn agrees_with_portable<A: Aead>(cipher: Cipher) {
    let mut key = [0; 32];
    for (round, len) in (0..).zip(LENGTHS) {
        fill(&mut key, round);
        let (tested, reference) = (A::with(cipher, &key), Portable::with(cipher, &key));
        assert_eq!(tested.next_key(), reference.next_key(), "REKEY");
        for (nonce, aad_len) in [
            (0, 0),
            (1, 12),
            (u64::from(u32::MAX), 16),
            (1 << 32, 33),
            (u64::MAX, 64),
        ] {
            let mut aad = vec![0; aad_len];
            fill(&mut aad, 0x5a);
            let mut ours = vec![0; len + TAG_LEN];
            fill(&mut ours[..len], round);
            let plain = ours[..len].to_vec();
            let mut theirs = ours.clone();
            tested.seal(nonce, &aad, &mut ours);
            reference.seal(nonce, &aad, &mut theirs);
            assert!(
                ours == theirs,
                "sealing {len} bytes under nonce {nonce} with {aad_len} associated bytes"
            );
            assert_eq!(
                tested.open(nonce, &aad, &mut theirs, 0),
                Ok(len),
                "opening {len} bytes, nonce {nonce}"
            );
            assert!(
                theirs[..len] == plain[..],
                "plaintext of {len} bytes, nonce {nonce}"
            );
        }
    }
}

fn opens_only_what_was_sealed<A: Aead>(kind: Cipher) {
    let cipher = A::with(kind, &[9; 32]);
    let mut sealed = [0; 40 + TAG_LEN];
    fill(&mut sealed[..40], 1);
    cipher.seal(7, b"aad", &mut sealed);
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            cipher.open(7, b"aad", &mut changed, 0).is_err(),
            "bit {bit} flipped"
        );
    }
    for len in 0..sealed.len() {
        assert!(
            cipher.open(7, b"aad", &mut { sealed }[..len], 0).is_err(),
            "truncated to {len}"
        );
    }
    for from in 1..=sealed.len() + 1 {
        assert!(
            cipher.open(7, b"aad", &mut { sealed }, from).is_err(),
            "opened from {from}"
        );
    }
    assert!(
        cipher.open(8, b"aad", &mut { sealed }, 0).is_err(),
        "another nonce"
    );
    assert!(
        cipher.open(7, b"add", &mut { sealed }, 0).is_err(),
        "other associated data"
    );
    assert!(
        A::with(kind, &[8; 32])
            .open(7, b"aad", &mut { sealed }, 0)
            .is_err(),
        "another key"
    );
    let other = match kind {
        Cipher::ChaCha20Poly1305 => Cipher::Aes256Gcm,
        Cipher::Aes256Gcm => Cipher::ChaCha20Poly1305,
    };
    assert!(
        A::with(other, &[9; 32])
            .open(7, b"aad", &mut { sealed }, 0)
            .is_err(),
        "another cipher"
    );
    assert_eq!(cipher.open(7, b"aad", &mut sealed, 0), Ok(40));
}

fn moves_plaintext_to_the_front<A: Aead>(cipher: Cipher) {
    let cipher = A::with(cipher, &[3; 32]);
    let mut text = vec![0; 1000];
    fill(&mut text, 2);
    for from in [0, 1, 15, 16, 17, 18, 64, 700, 1000, 5000] {
        let mut buf = vec![0xee; from + 1000 + TAG_LEN];
        buf[from..from + 1000].copy_from_slice(&text);
        cipher.seal(1, &[], &mut buf[from..]);
        assert_eq!(cipher.open(1, &[], &mut buf, from), Ok(1000), "from {from}");
        assert!(buf[..1000] == text[..], "plaintext moved from {from}");
    }
}
