//! The crate against the data files in `tests/vectors/keys`.
//!
//! `reference.json` comes from `reference.py`, an independent implementation in Python of `docs/keys.md`;
//! `splitfile.json` pins the erasure code, which the reference does not have; `uris.json` is written by hand.

use crate::root::{KeyChoice, Root, RootReader, seal_chk, seal_insert};
use crate::splitfile::{Coder, FileKey, SplitEncoder, Splitfile};
use crate::{Block, IdentityKey, InsertUri, Name, Seed, SskKeypair, Uri};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn reference() -> Value {
    json(include_str!("../../tests/vectors/keys/reference.json"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list, not {value}"))
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seed(value: &Value) -> Seed {
    Seed::from_bytes(unhex(value).try_into().unwrap())
}

fn assert_blocks(blocks: &[Block], expected: &Value) {
    assert_eq!(blocks.len(), list(expected).len());
    for (block, expected) in blocks.iter().zip(list(expected)) {
        assert_eq!(hex(block.key().as_bytes()), text(&expected["routing_key"]));
        assert_eq!(
            blake3::hash(block.bytes()).to_hex().as_str(),
            text(&expected["block_blake3"])
        );
    }
}

fn root() -> Root {
    let bytes = unhex(&reference()["root"]);
    let root = Root::decode(&bytes).unwrap();
    assert_eq!(root.encode().unwrap().as_slice(), bytes);
    root
}

#[test]
fn uris() {
    let vectors = json(include_str!("../../tests/vectors/keys/uris.json"));
    for vector in list(&vectors["valid"]) {
        let uri = Uri::parse(text(&vector["text"])).unwrap_or_else(|error| panic!("{vector}: {error}"));
        assert_eq!(uri.to_string(), text(&vector["printed"]));
        assert_eq!(Uri::parse(text(&vector["printed"])), Ok(uri));
    }
    for vector in list(&vectors["invalid"]) {
        let error = Uri::parse(text(&vector["text"])).expect_err(text(&vector["text"]));
        assert_eq!(error.to_string(), text(&vector["error"]), "{}", vector["text"]);
    }
}

#[test]
fn chks() {
    for vector in list(&reference()["chk"]) {
        let choice = match &vector["seed"] {
            Value::Null => KeyChoice::Reproducible,
            value => KeyChoice::Unpredictable(seed(value)),
        };
        let sealed = seal_chk(&root(), &choice).unwrap();
        assert_eq!(sealed.uri.to_string(), text(&vector["uri"]));
        assert_blocks(&sealed.blocks, &vector["blocks"]);
    }
}

#[test]
fn ssks() {
    for vector in list(&reference()["ssk"]) {
        let keypair = SskKeypair::parse(text(&vector["private"])).unwrap();
        assert_eq!(*keypair.expose(), text(&vector["private"]));
        assert_eq!(keypair.publisher().to_string(), text(&vector["public"]));
        let sealed = seal_insert(
            &root(),
            &keypair.document(Name::new(text(&vector["name"])).unwrap()).into(),
        )
        .unwrap();
        assert_eq!(
            hex(&sealed.blocks[0].bytes()[..32]),
            text(&vector["blinded_public_key"])
        );
        assert_blocks(&sealed.blocks, &vector["blocks"]);
        let reader = RootReader::new(&sealed.uri).unwrap();
        assert_eq!(reader.ids(), sealed.blocks.clone().map(|block| block.id()));
    }
}

#[test]
fn ksk() {
    let vector = &reference()["ksk"];
    let Uri::Ksk(uri) = Uri::parse(text(&vector["uri"])).unwrap() else {
        panic!("a KSK")
    };
    assert_eq!(*uri.keypair().expose(), text(&vector["private"]));
    let sealed = seal_insert(&root(), &InsertUri::Ksk(uri)).unwrap();
    let same = list(&reference()["ssk"]).last().unwrap()["blocks"].clone();
    assert_blocks(&sealed.blocks, &same);
}

#[test]
fn node() {
    let vector = &reference()["node"];
    let key = IdentityKey::from_seed(&seed(&vector["seed"]));
    assert_eq!(key.id().to_string(), text(&vector["id"]));
    assert_eq!(
        format!("{:016x}", key.id().location().as_u64()),
        text(&vector["location"])
    );
}

/// The stream of the vectors: BLAKE3 output of any length for the input "stream".
fn stream(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(b"stream")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn encode(stream: &[u8]) -> (Splitfile, String) {
    let key = FileKey::reproducible(blake3::hash(stream).as_bytes(), stream.len() as u64);
    let (mut encoder, mut coder, mut hasher) = (SplitEncoder::new(key), Coder::new(), blake3::Hasher::new());
    encoder.push(stream).unwrap();
    encoder.end().unwrap();
    while let Some(job) = encoder.next_job() {
        let encoded = job.encode(&mut coder).unwrap();
        for block in &encoded.blocks {
            hasher.update(block.key().as_bytes());
        }
        encoder.accept(&encoded.segment, encoded.keys()).unwrap();
    }
    (
        encoder.finish().unwrap().unwrap(),
        hasher.finalize().to_hex().to_string(),
    )
}

#[test]
fn splitfile_data_blocks() {
    for vector in list(&reference()["splitfile"]) {
        let stream = stream(usize::try_from(vector["stream_len"].as_u64().unwrap()).unwrap());
        assert_eq!(
            blake3::hash(&stream).to_hex().as_str(),
            text(&vector["stream_blake3"])
        );
        let (file, _) = encode(&stream);
        assert_eq!(hex(file.key().expose()), text(&vector["file_key"]));
        for (key, expected) in file.top().iter().zip(list(&vector["data_keys"])) {
            assert_eq!(hex(key.as_bytes()), text(expected));
        }
    }
}

/// Any change of these values needs another [`crate::splitfile::LAYOUT_VERSION`].
#[test]
fn splitfile_all_blocks() {
    let vectors = json(include_str!("../../tests/vectors/keys/splitfile.json"));
    for vector in list(&vectors["splitfiles"]) {
        let stream = stream(usize::try_from(vector["stream_len"].as_u64().unwrap()).unwrap());
        let (file, hash) = encode(&stream);
        let found = serde_json::json!({
            "stream_len": stream.len(),
            "levels": file.layout().levels().count(),
            "blocks": file.layout().total_blocks(),
            "top_keys": file.top().len(),
            "all_keys_blake3": hash,
        });
        assert_eq!(&found, vector);
    }
}
