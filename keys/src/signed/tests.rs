use super::*;
use crate::BlockKind;
use std::collections::BTreeSet;

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signer(seed: u8, name: &str) -> DocumentSigner {
    DocumentSigner::of_publisher(&signing(seed), &CryptoKey::from_bytes([9; 32]), name).unwrap()
}

fn reader(seed: u8, name: &str) -> Document {
    let publisher = PublisherKey::from_bytes(&signing(seed).verifying_key().to_bytes()).unwrap();
    Document::of_publisher(&publisher, &CryptoKey::from_bytes([9; 32]), name)
}

#[test]
fn reader_finds_verifies_and_opens_what_the_publisher_signed() {
    let block = signer(1, "doc").seal(b"hello");
    let document = reader(1, "doc");
    assert_eq!(document.id(), block.id());
    assert_eq!(
        Block::verify(document.id(), block.bytes().clone()).unwrap(),
        block
    );
    let payload = document.open(&block).unwrap();
    assert_eq!(payload.len(), SIGNED_PAYLOAD);
    assert_eq!(&payload[..5], b"hello");
    assert_eq!(signer(1, "doc").seal(b"hello"), block, "signing is deterministic");
}

#[test]
fn every_bit_is_covered() {
    let block = signer(1, "doc").seal(b"hello");
    let sampled = (0..CIPHERTEXT_START).chain([CIPHERTEXT_START, 12_345, BLOCK_SIZE - 1]);
    for position in sampled {
        for bit in 0..8 {
            let mut bytes = block.bytes().to_vec();
            bytes[position] ^= 1 << bit;
            let expected = if position < 32 {
                BlockError::OtherKey
            } else {
                BlockError::Signature
            };
            assert_eq!(Block::verify(block.id(), bytes.clone().into()), Err(expected));
            assert!(Block::identify(BlockKind::Signed, bytes.into()).is_err());
        }
    }
}

#[test]
fn malleated_signature_is_refused() {
    // S + L signs the same equation; strict verification takes only the canonical S.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let block = signer(1, "doc").seal(b"hello");
    let mut bytes = block.bytes().to_vec();
    let mut carry = 0;
    for (byte, add) in bytes[SIGNATURE_START + 32..SIV_START].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert_eq!(
        Block::verify(block.id(), bytes.into()),
        Err(BlockError::Signature)
    );
}

#[test]
fn another_payload_under_one_name_uses_another_keystream() {
    let (one, two) = (signer(1, "doc").seal(&[0; 100]), signer(1, "doc").seal(&[1; 100]));
    assert_eq!(one.id(), two.id());
    let (one, two) = (&one.bytes()[CIPHERTEXT_START..], &two.bytes()[CIPHERTEXT_START..]);
    let equal = one.iter().zip(two).filter(|(a, b)| a == b).count();
    assert!(
        equal < SIGNED_PAYLOAD / 128,
        "{equal} equal bytes; both payloads are zero after the first 100"
    );
}

#[test]
fn names_publishers_and_crypto_keys_part_documents() {
    let other_crypto =
        DocumentSigner::of_publisher(&signing(1), &CryptoKey::from_bytes([8; 32]), "doc").unwrap();
    let ids = [
        signer(1, "doc").document().id(),
        signer(1, "dod").document().id(),
        signer(2, "doc").document().id(),
        other_crypto.document().id(),
    ];
    assert_eq!(BTreeSet::from(ids).len(), 4);
    assert_eq!(
        reader(1, "dod").open(&signer(1, "doc").seal(b"x")),
        Err(BadPayload)
    );
}

#[test]
fn restored_from_payload_and_signature() {
    let block = signer(1, "doc").seal(b"hello");
    let signature: [u8; SIGNATURE_LEN] = Document::signature(&block)[..].try_into().unwrap();
    assert_eq!(reader(1, "doc").restore(b"hello", &signature).unwrap(), block);
    assert_eq!(
        reader(1, "doc").restore(b"hellp", &signature),
        Err(BlockError::Signature)
    );
}

/// Over many documents of one publisher with equal payloads, what a storing node sees is uniform and shares nothing.
#[test]
fn documents_of_one_publisher_cannot_be_linked() {
    const DOCUMENTS: usize = 64;
    let blocks: Vec<_> = (0..DOCUMENTS)
        .map(|n| signer(1, &format!("site-{n}")).seal(b"the same payload"))
        .collect();

    let mut windows = BTreeSet::new();
    for block in &blocks {
        // Keys, signatures and SIVs whole; the ciphertext's start, where the equal plaintext is.
        for window in block.bytes()[..512].windows(8) {
            assert!(
                windows.insert(<[u8; 8]>::try_from(window).unwrap()),
                "two documents share eight bytes"
            );
        }
    }

    let chi_square = |bytes: &mut dyn Iterator<Item = u8>| {
        let mut counts = [0u32; 256];
        let mut total = 0u32;
        for byte in bytes {
            counts[usize::from(byte)] += 1;
            total += 1;
        }
        let expected = f64::from(total) / 256.0;
        counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum::<f64>()
    };
    // 255 degrees of freedom: mean 255, standard deviation 22.6; 400 is more than six deviations away.
    let ciphertext = chi_square(
        &mut blocks
            .iter()
            .flat_map(|block| block.bytes()[SIV_START..].iter().copied()),
    );
    assert!((150.0..400.0).contains(&ciphertext), "ciphertext: {ciphertext}");
    // Byte 31 of a point and byte 63 of a signature are bounded by field and group; all others are uniform.
    let heads = chi_square(
        &mut blocks
            .iter()
            .flat_map(|block| [&block.bytes()[..31], &block.bytes()[32..94]].concat()),
    );
    assert!((150.0..400.0).contains(&heads), "keys and signatures: {heads}");

    // Pairwise, the blinded keys differ in about half of their bits, like the keys of different publishers.
    let bits = |a: &Block, b: &Block| {
        a.bytes()[..31]
            .iter()
            .zip(&b.bytes()[..31])
            .map(|(a, b)| (a ^ b).count_ones())
            .sum::<u32>()
    };
    let mean =
        |of: &dyn Fn(usize) -> u32| f64::from((1..DOCUMENTS).map(of).sum::<u32>()) / (DOCUMENTS - 1) as f64;
    let same = mean(&|n| bits(&blocks[0], &blocks[n]));
    let others: Vec<_> = (100u8..)
        .take(DOCUMENTS)
        .map(|n| signer(n, "site-0").seal(b"the same payload"))
        .collect();
    let different = mean(&|n| bits(&others[0], &others[n]));
    // 248 bits: mean 124, deviation of one pair 7.9, of the mean of 63 about 1.
    assert!(
        (same - 124.0).abs() < 6.0 && (different - 124.0).abs() < 6.0,
        "{same} {different}"
    );
}
