//! What nobody but publisher and readers may see of a file: its content, its names, its URI, and every key in any form.

use warren_keys::{
    RoutingKey, Uri, base64,
    root::RootReader,
    splitfile::{Coder, FileKey, SplitEncoder},
};

use super::search::Needles;

/// Adds everything about a file that was inserted: where all its blocks are, what opens them, its content and its names.
///
/// # Panics
/// When the URI is none.
pub fn add_file(needles: &mut Needles, uri: &str, content: &[u8], names: &[&str]) {
    needles.add("a URI", uri);
    needles.add("a URI without its kind", &uri[4..uri.len().min(40)]);
    for name in names {
        needles.add(format!("the name {name:?}"), name);
        needles.add(
            format!("the name {name:?} in base64"),
            &base64::encode(name.as_bytes())[..10],
        );
    }
    let uri = Uri::parse(uri).unwrap();
    match &uri {
        Uri::Chk(chk) => needles.add_key("the crypto key of a CHK", chk.crypto.expose()),
        Uri::Ssk(ssk) => needles.add_key("the crypto key of an SSK", ssk.publisher.crypto.expose()),
        Uri::Usk(_) | Uri::Ksk(_) => {}
    }
    for id in RootReader::new(&uri).unwrap().ids() {
        needles.add_key("the routing key of a root", id.key.as_bytes());
    }
    needles.add_content("content", content);
}

/// Adds the routing keys of all blocks of a splitfile whose stream is the content itself.
///
/// # Panics
/// When the content is too small for a splitfile.
pub fn add_blocks(needles: &mut Needles, content: &[u8]) {
    for key in block_keys(content) {
        needles.add_key("the routing key of a block", key.as_bytes());
    }
}

fn block_keys(stream: &[u8]) -> Vec<RoutingKey> {
    let key = FileKey::reproducible(blake3::hash(stream).as_bytes(), stream.len() as u64);
    let (mut encoder, mut coder) = (SplitEncoder::new(key), Coder::new());
    encoder.push(stream).unwrap();
    encoder.end().unwrap();
    let mut keys = Vec::new();
    while let Some(job) = encoder.next_job() {
        let segment = *job.segment();
        let encoded = job.encode(&mut coder).unwrap();
        keys.extend(encoded.keys());
        encoder.accept(&segment, encoded.keys()).unwrap();
    }
    keys
}
