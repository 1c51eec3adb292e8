use super::*;
use crate::splitfile::{FileKey, Layout};
use crate::stream::StreamWriter;
use crate::uri::{Name, SskKeypair};
use crate::{BLOCK_SIZE, Block, BlockId, BlockKind, CryptoKey, RoutingKey, Seed, Uri, content};
use bytes::BytesMut;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn inline(data: &[u8], compression: Compression) -> Root {
    let (mut writer, mut out) = (StreamWriter::new(compression).unwrap(), BytesMut::new());
    writer.push(data, &mut out).unwrap();
    let summary = writer.finish(&mut out).unwrap();
    Root::new(
        &summary,
        Some(Mime::new("text/plain").unwrap()),
        RootBody::Inline(out.freeze()),
    )
    .unwrap()
}

fn summary(size: u64) -> StreamSummary {
    StreamSummary {
        compression: Compression::None,
        size,
        hash: [5; 32],
        stream_len: size,
        stream_hash: [0; 32],
    }
}

fn split(len: u64) -> Root {
    let keys = (0..Layout::of_stream(len).unwrap().top().keys())
        .map(|n| RoutingKey::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes()));
    let file = Splitfile::new(FileKey::reproducible(&[1; 32], len), len, keys.collect()).unwrap();
    Root::new(&summary(len), None, RootBody::Split(file)).unwrap()
}

fn keypair() -> SskKeypair {
    SskKeypair::new(&Seed::from_bytes([3; 32]), CryptoKey::from_bytes([4; 32]))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn sealed(root: &Root) -> Vec<SealedRoot> {
    vec![
        seal_chk(root, &KeyChoice::Reproducible).unwrap(),
        seal_chk(root, &KeyChoice::Unpredictable(Seed::from_bytes([9; 32]))).unwrap(),
        seal_insert(root, &keypair().document(name("doc")).into()).unwrap(),
        seal_insert(root, &keypair().site(name("site"), 5).into()).unwrap(),
        seal_insert(root, &crate::InsertUri::parse("KSK@some words").unwrap()).unwrap(),
    ]
}

/// The largest root: a full list, and every number at its longest.
fn largest() -> Root {
    let len = (1u64..)
        .map(|n| (n << 40) + 1)
        .find(|len| Layout::of_stream(*len).unwrap().top().keys() > 900)
        .unwrap();
    let Root { body, .. } = split(len);
    Root::new(
        &summary(len),
        Some(Mime::new("x".repeat(MAX_MIME_LEN)).unwrap()),
        body,
    )
    .unwrap()
}

#[test]
fn every_position_of_every_form_opens_and_restores() {
    let full = inline(&[7; INLINE_MAX], Compression::None);
    for root in [
        inline(b"", Compression::None),
        inline(b"hello", Compression::None),
        inline(&[0; 100_000], Compression::Zstd),
        full,
        split(40_000),
        largest(),
    ] {
        let mut ids = BTreeSet::new();
        for sealed in sealed(&root) {
            let uri = Uri::parse(&sealed.uri.to_string()).unwrap();
            let reader = RootReader::new(&uri).unwrap();
            assert_eq!(sealed.blocks.clone().map(|block| block.id()), reader.ids());
            for block in &sealed.blocks {
                assert_eq!(
                    Block::verify(block.id(), block.bytes().clone()).as_ref(),
                    Ok(block)
                );
                let opened = reader.open(block).unwrap();
                assert_eq!(opened.root, root);
                assert_eq!(reader.restore(&opened).unwrap(), sealed.blocks);
                ids.insert(block.id());
            }
        }
        assert_eq!(ids.len(), 15, "all positions of all forms are apart");
    }
}

#[test]
fn usk_is_the_ssk_of_its_edition() {
    let root = inline(b"hello", Compression::None);
    let usk = seal_insert(&root, &keypair().site(name("site"), 5).into()).unwrap();
    let ssk = seal_insert(&root, &keypair().document(name("site-5")).into()).unwrap();
    assert_eq!(usk.blocks, ssk.blocks);
    let (Uri::Usk(usk), ssk) = (usk.uri, ssk.uri) else {
        panic!("a USK")
    };
    assert_eq!(Uri::from(usk.to_ssk()), ssk);
}

#[test]
fn reproducible_and_unpredictable_chks() {
    let root = inline(b"hello", Compression::None);
    let seed = |n| KeyChoice::Unpredictable(Seed::from_bytes([n; 32]));
    let uri = |choice: &KeyChoice, root: &Root| seal_chk(root, choice).unwrap().uri.to_string();
    assert_eq!(
        uri(&KeyChoice::Reproducible, &root),
        uri(&KeyChoice::Reproducible, &root)
    );
    let other = inline(b"hellp", Compression::None);
    let uris = [
        uri(&KeyChoice::Reproducible, &root),
        uri(&seed(1), &root),
        uri(&seed(2), &root),
        uri(&seed(1), &other),
    ];
    let keys: BTreeSet<_> = uris.iter().map(|uri| uri.split(',').nth(1).unwrap()).collect();
    assert_eq!(keys.len(), 4, "no crypto key is used for two roots");
}

#[test]
fn forged_copies_are_not_believed() {
    let (root, forged) = (
        inline(b"hello", Compression::None),
        inline(b"forged", Compression::None),
    );
    for sealed in sealed(&root) {
        let reader = RootReader::new(&sealed.uri).unwrap();
        // Whoever knows the URI has the copies' signing keys, and the publisher's signature of the true root.
        for block in reader
            .blocks(&forged, sealed.blocks[0].clone())
            .unwrap()
            .iter()
            .skip(1)
        {
            assert_eq!(
                Block::verify(block.id(), block.bytes().clone()).as_ref(),
                Ok(block),
                "the network stores it"
            );
            assert_eq!(reader.open(block), Err(RootError::Forged));
        }
        assert_eq!(
            reader.open(&content::seal(b"x", &CryptoKey::from_bytes([1; 32])).unwrap()),
            Err(RootError::OtherBlock)
        );
    }
}

#[test]
fn every_bit_of_every_position_is_covered() {
    for sealed in sealed(&inline(b"hello", Compression::None)) {
        for block in &sealed.blocks {
            for position in (0..160).chain([5000, BLOCK_SIZE - 1]) {
                let mut bytes = block.bytes().to_vec();
                bytes[position] ^= 1 << (position % 8);
                assert!(Block::verify(block.id(), bytes.into()).is_err());
            }
        }
    }
}

#[test]
fn a_wrong_crypto_key_opens_nothing() {
    let Uri::Chk(mut uri) = seal_chk(&inline(b"hello", Compression::None), &KeyChoice::Reproducible)
        .unwrap()
        .uri
    else {
        panic!("a CHK")
    };
    let block = seal_chk(&inline(b"hello", Compression::None), &KeyChoice::Reproducible)
        .unwrap()
        .blocks[0]
        .clone();
    uri.crypto = CryptoKey::from_bytes([1; 32]);
    assert!(matches!(
        RootReader::new(&uri.into()).unwrap().open(&block),
        Err(RootError::Invalid(_))
    ));
}

#[test]
fn contents_about_the_inline_limit() {
    let (one, many) = (
        split(INLINE_MAX as u64 + 1),
        inline(&[1; INLINE_MAX], Compression::None),
    );
    assert!(one.encode().unwrap().len() < 1000 && many.encode().unwrap().len() <= ROOT_CAPACITY);
    let stream = Bytes::from(vec![1; INLINE_MAX + 1]);
    assert_eq!(
        Root::new(&summary(INLINE_MAX as u64 + 1), None, RootBody::Inline(stream)),
        Err(InvalidRoot::TooLong(INLINE_MAX + 1))
    );
    let keys = vec![RoutingKey::from_bytes([1; 32]); 4];
    let file = Splitfile::new(FileKey::reproducible(&[1; 32], 9), INLINE_MAX as u64, keys).unwrap();
    assert_eq!(
        Root::new(&summary(INLINE_MAX as u64), None, RootBody::Split(file)),
        Err(InvalidRoot::NeedlessSplit(INLINE_MAX as u64))
    );
}

#[test]
fn the_largest_header_fits() {
    let bytes = largest().encode().unwrap();
    let RootBody::Split(file) = largest().body().clone() else {
        panic!("a splitfile")
    };
    assert!(bytes.len() - file.top().len() * 32 <= ROOT_HEADER_MAX);
    assert_eq!(Root::decode(&bytes).unwrap(), largest());
}

#[test]
fn hostile_roots() {
    let bytes = inline(b"hello", Compression::None).encode().unwrap().to_vec();
    let decode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        Root::decode(&changed)
    };
    let set_len = |bytes: &mut Vec<u8>| {
        let len = u16::try_from(bytes.len() - 2).unwrap();
        bytes[..2].copy_from_slice(&len.to_be_bytes());
    };
    assert!(decode(&|bytes| bytes.extend([0; 100])).is_ok(), "padding");
    assert_eq!(decode(&|bytes| bytes.push(1)), Err(InvalidRoot::Padding));
    assert_eq!(
        decode(&|bytes| bytes.truncate(bytes.len() - 1)),
        Err(InvalidRoot::Length)
    );
    assert_eq!(decode(&|bytes| bytes.truncate(1)), Err(InvalidRoot::Length));
    assert_eq!(decode(&|bytes| bytes[..2].fill(0)), Err(InvalidRoot::Padding));
    assert_eq!(Root::decode(&[0; 100]), Err(InvalidRoot::Length));
    assert_eq!(Root::decode(&[0xff; BLOCK_SIZE * 2]), Err(InvalidRoot::Length));
    assert_eq!(decode(&|bytes| bytes[2] = 2), Err(InvalidRoot::Version(2)));
    assert_eq!(
        decode(&|bytes| {
            bytes.push(0);
            set_len(bytes)
        }),
        Err(InvalidRoot::Malformed),
        "trailing bytes"
    );
    // version, Some, 10, "text/plain", then the size as one byte.
    let size = 2 + 1 + 1 + 1 + 10;
    assert_eq!(bytes[size], 5);
    assert_eq!(decode(&|bytes| bytes[size] = 4), Err(InvalidRoot::Sizes));
    assert_eq!(
        decode(&|bytes| {
            bytes[size] = 0x85;
            bytes.insert(size + 1, 0);
            set_len(bytes)
        }),
        Err(InvalidRoot::Malformed),
        "a longer form of 5"
    );
    assert_eq!(
        decode(&|bytes| bytes[size + 33] = 1),
        Err(InvalidRoot::Sizes),
        "zstd, but too short"
    );
    assert_eq!(
        decode(&|bytes| bytes[size + 33] = 2),
        Err(InvalidRoot::Malformed),
        "unknown compression"
    );
    assert_eq!(decode(&|bytes| bytes[5] = b'\n'), Err(InvalidMime.into()));
}

#[test]
fn media_types() {
    assert!(Mime::new("text/html; charset=utf-8").is_ok());
    for bad in ["", "text/html\r\nX: y", "é", &"x".repeat(256)] {
        assert_eq!(Mime::new(bad), Err(InvalidMime));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_decodes_has_one_form(at in any::<proptest::sample::Index>(), value: u8, which in 0usize..3) {
        let root = [inline(b"hello world", Compression::None), split(100_000), inline(&[0; 3000], Compression::Zstd)][which].clone();
        let mut bytes = root.encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(decoded) = Root::decode(&bytes) {
            let encoded = decoded.encode().unwrap();
            prop_assert_eq!(&bytes[..encoded.len()], &encoded[..]);
        }
    }

    #[test]
    fn any_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Root::decode(&bytes);
        let len = bytes.len().saturating_sub(2);
        for (byte, value) in bytes.iter_mut().zip([0, u8::try_from(len).unwrap(), 1]) { *byte = value }
        let _ = Root::decode(&bytes);
    }
}

#[test]
fn kinds_of_positions() {
    let kinds = |uri: &Uri| {
        RootReader::new(uri)
            .unwrap()
            .ids()
            .map(|BlockId { kind, .. }| kind)
    };
    let all = sealed(&inline(b"hello", Compression::None));
    assert_eq!(
        kinds(&all[0].uri),
        [BlockKind::Content, BlockKind::Signed, BlockKind::Signed]
    );
    assert_eq!(kinds(&all[2].uri), [BlockKind::Signed; 3]);
}
