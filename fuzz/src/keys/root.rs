//! Roots: their bytes, and the blocks at their three positions.

use warren_keys::{
    BLOCK_SIZE, CryptoKey, InsertUri, Path, RoutingKey, Seed as KeySeed, Uri, content,
    root::{KeyChoice, Mime, ROOT_CAPACITY, Root, RootBody, RootError, RootReader, seal_chk, seal_insert},
    splitfile::{FileKey, Layout, Splitfile},
    stream::{Compression, StreamReader, StreamSummary},
};

use crate::{Input, Seed, fixtures};

/// The first byte chooses between the bytes of a root, those bytes in a block under a CHK, and a root made of parts.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => decode(input.rest()),
        1 => in_a_block(input.rest()),
        2 => parts(&mut input),
        _ => {
            let text = input.text();
            if let Ok(mime) = Mime::new(text.clone()) {
                assert!(mime.as_str() == text && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}

fn decode(payload: &[u8]) {
    let Ok(root) = Root::decode(payload) else { return };
    let bytes = root.encode().expect("what was decoded can be encoded");
    assert!(bytes.len() <= ROOT_CAPACITY && payload.starts_with(&bytes));
    assert!(payload[bytes.len()..].iter().all(|byte| *byte == 0));
    assert!(
        StreamReader::new(&root.summary()).is_ok(),
        "sizes that contradict each other"
    );
    if let RootBody::Split(file) = root.body() {
        assert_eq!(file.layout().top().keys(), file.top().len() as u64);
    }
}

/// A publisher can seal anything under a CHK.
fn in_a_block(payload: &[u8]) {
    let payload = &payload[..payload.len().min(BLOCK_SIZE)];
    let crypto = CryptoKey::from_bytes([5; 32]);
    let block = content::seal(payload, &crypto).expect("not too long");
    let uri = Uri::Chk(warren_keys::ChkUri {
        routing: block.key(),
        crypto,
        path: Path::none(),
    });
    let reader = RootReader::new(&uri).expect("a valid address");
    let mut padded = payload.to_vec();
    padded.resize(BLOCK_SIZE, 0);
    match (reader.open(&block), Root::decode(&padded)) {
        (Ok(opened), Ok(root)) => {
            assert!(opened.root == root);
            all_positions(&reader, &root, &reader.restore(&opened).expect("its own root"));
        }
        (Err(RootError::Invalid(_)), Err(_)) => {}
        (opened, root) => panic!("{opened:?}, but {root:?}"),
    }
}

/// Whichever position a root comes from, it is the same.
fn all_positions(reader: &RootReader, root: &Root, blocks: &[warren_keys::Block]) {
    for (block, id) in blocks.iter().zip(reader.ids()) {
        assert_eq!(block.id(), id);
        assert!(reader.open(block).is_ok_and(|opened| opened.root == *root));
        let mut bytes = block.bytes().to_vec();
        bytes[BLOCK_SIZE - 1] ^= 1;
        assert!(warren_keys::Block::verify(id, bytes.into()).is_err());
    }
    let foreign = fixtures::signed_block(0, 0);
    assert!(matches!(reader.open(&foreign), Err(RootError::OtherBlock)));
}

fn parts(input: &mut Input<'_>) {
    let compression = Compression::from_u8(input.u8() % 2).unwrap_or(Compression::None);
    let mime = input
        .flag()
        .then(|| Mime::new("text/plain").expect("a media type"));
    let (private, size, stream_len) = (input.u8() % 3, input.u64(), input.u64());
    let hash = input.array();
    let body = if input.flag() {
        let Ok(layout) = Layout::of_stream(stream_len) else {
            return;
        };
        let count = usize::try_from(layout.top().keys()).expect("few") + usize::from(input.u8() == 1);
        let top = vec![RoutingKey::from_bytes(input.array()); count];
        match Splitfile::new(FileKey::reproducible(&hash, stream_len), stream_len, top) {
            Ok(file) => RootBody::Split(file),
            Err(_) => return,
        }
    } else {
        RootBody::Inline(input.rest().to_vec().into())
    };
    let summary = StreamSummary {
        compression,
        size,
        hash,
        stream_len,
        stream_hash: hash,
    };
    let Ok(root) = Root::new(&summary, mime, body) else {
        return;
    };
    let bytes = root.encode().expect("a checked root");
    assert!(Root::decode(&bytes) == Ok(root.clone()));
    let sealed = match private {
        0 => seal_chk(&root, &KeyChoice::Reproducible),
        1 => seal_chk(&root, &KeyChoice::Unpredictable(KeySeed::from_bytes([1; 32]))),
        _ => seal_insert(&root, &InsertUri::parse("KSK@words").expect("a key")),
    };
    let sealed = sealed.expect("a checked root");
    let reader = RootReader::new(&sealed.uri).expect("a valid address");
    all_positions(&reader, &root, &sealed.blocks);
}

/// The vector, roots of both kinds, and parts of both kinds.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let vector = fixtures::unhex(
        fixtures::json(fixtures::REFERENCE)["root"]
            .as_str()
            .unwrap_or_default(),
    );
    let inline = fixtures::inline_root(b"content").encode().expect("a root");
    let vectors = fixtures::json(fixtures::SPLITFILE);
    let shapes = vectors["splitfiles"].as_array().cloned().unwrap_or_default();
    let mut seeds: Vec<Seed> = [0, 1]
        .into_iter()
        .flat_map(|mode| {
            [("vector", &vector[..]), ("inline", &inline)]
                .map(|(name, bytes)| Seed::new(format!("{name}-{mode}")).u8(mode).bytes(bytes))
        })
        .collect();
    for shape in shapes
        .iter()
        .filter(|shape| shape["top_keys"].as_u64().is_some_and(|keys| keys < 10))
    {
        let (len, keys) = (
            shape["stream_len"].as_u64().unwrap_or(0),
            shape["top_keys"].as_u64().unwrap_or(0),
        );
        let top = (0..keys).map(|_| RoutingKey::from_bytes([3; 32])).collect();
        let file =
            Splitfile::new(FileKey::reproducible(&[1; 32], len), len, top).expect("the vector's shape");
        let summary = StreamSummary {
            compression: Compression::None,
            size: len,
            hash: [1; 32],
            stream_len: len,
            stream_hash: [1; 32],
        };
        let root = Root::new(&summary, None, RootBody::Split(file)).expect("the vector's shape");
        seeds.push(
            Seed::new(format!("split-{len}"))
                .u8(0)
                .bytes(&root.encode().expect("a root")),
        );
        let parts = Seed::new(format!("parts-{len}"))
            .u8(2)
            .u8(0)
            .u8(1)
            .u8(0)
            .u64(len)
            .u64(len)
            .bytes(&[1; 32]);
        seeds.push(parts.u8(1).u8(0).bytes(&[3; 32]));
    }
    for private in 0..3 {
        let parts = Seed::new(format!("parts-inline-{private}"))
            .u8(2)
            .u8(0)
            .u8(0)
            .u8(private)
            .u64(4)
            .u64(4);
        seeds.push(parts.bytes(&[1; 32]).u8(0).bytes(b"four"));
    }
    seeds.push(Seed::new("mime").u8(3).bytes(b"text/plain; charset=utf-8"));
    seeds
}
