//! The control interface: frames of an answer, and the JSON in them and in requests.

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use warren_node::control::{
    api::{
        AddPeer, ErrorReport, FetchDone, FetchRequest, FileInfo, InsertDone, InsertRequest, ProgressReport,
    },
    frames::{self, Kind, MAX_BODY},
    token::ControlFile,
};

use crate::{Input, Seed};

/// The first byte chooses between frames in pieces and a document.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 10 {
        0 => stream(&mut input),
        1 => document::<InsertRequest>(input.rest()),
        2 => document::<FetchRequest>(input.rest()),
        3 => document::<FileInfo>(input.rest()),
        4 => document::<ProgressReport>(input.rest()),
        5 => document::<InsertDone>(input.rest()),
        6 => document::<FetchDone>(input.rest()),
        7 => document::<AddPeer>(input.rest()),
        8 => document::<ErrorReport>(input.rest()),
        _ => document::<ControlFile>(input.rest()),
    }
}

/// The same frames come out however the stream is cut.
fn stream(input: &mut Input<'_>) {
    let piece = 1 + usize::from(input.u8());
    let bytes = input.rest();
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, piece), whole);
    let mut again = Vec::new();
    for (kind, body) in &whole.0 {
        assert!(body.len() <= MAX_BODY);
        again.extend_from_slice(&frames::encode(*kind, body));
    }
    assert!(bytes.starts_with(&again), "another encoding of the same frames");
}

/// All frames, and whether the stream was refused.
fn read(bytes: &[u8], piece: usize) -> (Vec<(Kind, Vec<u8>)>, bool) {
    let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            match frames::decode(&mut buffer) {
                Ok(Some((kind, body))) => got.push((kind, body.to_vec())),
                Ok(None) => break,
                Err(_) => return (got, true),
            }
        }
    }
    (got, false)
}

/// What is read and written again means the same.
fn document<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&value).expect("it is JSON");
    let again: T = serde_json::from_slice(&written).expect("its own writing");
    assert_eq!(serde_json::to_vec(&again).expect("it is JSON"), written);
}

/// An answer, and a document of each kind.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let answer = [
        (Kind::Info, &b"{\"size\":4}"[..]),
        (Kind::Data, b"data"),
        (Kind::Progress, b"{}"),
        (Kind::Done, b"{\"size\":4}"),
    ];
    let answer: Vec<u8> = answer
        .iter()
        .flat_map(|(kind, body)| frames::encode(*kind, body).to_vec())
        .collect();
    let documents = [
        r#"{"key":"KSK@words","name":"file","mime":"text/plain","unpredictable":true,"no_compress":false}"#,
        r#"{"key":"KSK@words"}"#,
        r#"{"size":18446744073709551615,"mime":null}"#,
        r#"{"phase":"transferring","bytes":1,"total_bytes":2,"blocks":3,"total_blocks":4,"failed_blocks":0}"#,
        r#"{"key":"KSK@words","size":4}"#,
        r#"{"size":4}"#,
        r#"{"reference":"warren-node:"}"#,
        r#"{"code":"not_found","message":"searched for and not found"}"#,
        r#"{"address":"127.0.0.1:4000","token":"00ff"}"#,
    ];
    let documents = documents.iter().zip(1..).map(|(text, kind)| {
        Seed::new(format!("document-{kind}"))
            .u8(kind)
            .bytes(text.as_bytes())
    });
    [
        Seed::new("answer").u8(0).u8(3).bytes(&answer),
        Seed::new("foreign").u8(0).u8(200).bytes(b"HTTP/1.1 200 OK"),
    ]
    .into_iter()
    .chain(documents)
    .collect()
}
