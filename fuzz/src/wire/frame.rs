//! Frames of every type, routed messages among them.

use bytes::{BufMut, BytesMut};
use warren_proto::{
    ids::{CircuitId, RequestId},
    wire::{Frame, FrameType, MAX_FRAME_BODY, Refusal, Routed, decode_header},
};

use crate::{Input, Seed, fixtures};

/// A header, and the start of a body that is filled up with zeros to the length that the header announces.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let header = input.array();
    let Ok((kind, len)) = decode_header(header) else {
        return;
    };
    assert!(kind.admits(len) && len <= MAX_FRAME_BODY && FrameType::from_u8(header[0]) == Some(kind));
    let mut body = BytesMut::from(input.bytes(len));
    body.resize(len, 0);
    let network = fixtures::network();
    if let Ok(frame) = Frame::decode(kind, body.clone(), &network) {
        assert_eq!(frame.kind(), kind);
        let mut encoded = BytesMut::new();
        frame.encode_into(&mut encoded);
        assert!(
            encoded[..4] == header && encoded[4..] == body[..],
            "another encoding of the same frame"
        );
        if matches!(frame, Frame::Hello(_)) {
            let foreign = "another".parse().expect("a name");
            assert!(
                Frame::decode(kind, body.clone(), &foreign).is_err(),
                "a descriptor of another network"
            );
        }
    }
    body.put_u8(0);
    if !kind.admits(len + 1) {
        assert!(Frame::decode(kind, body, &network).is_err());
    }
}

/// The vectors, and each routed message with a block of each kind.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let vectors = fixtures::vector_bytes(fixtures::LINKS, "frame", "bytes");
    let id = RequestId(0x0506_0708_090a_0b0c);
    // Blocks of zeros need not be in the file. A signed block does, so there is one.
    let content = fixtures::content_block(0);
    let frames = [
        (
            "found",
            Routed::Found {
                id,
                block: content.clone(),
                copy: true,
            },
        ),
        (
            "insert",
            Routed::Insert {
                id,
                block: content.clone(),
                htl: 18,
            },
        ),
        (
            "replicate",
            Routed::Replicate {
                id,
                block: content.clone(),
            },
        ),
        ("arrived", Routed::Arrived { block: content }),
        (
            "await",
            Routed::Request {
                id,
                block: fixtures::signed_block(0, 0).id(),
                htl: 17,
                stale: 0,
                branches: 2,
                best: 1 << 60,
                wait: true,
            },
        ),
        (
            "collision",
            Routed::Collision {
                id,
                block: fixtures::signed_block(0, 0),
            },
        ),
        (
            "refused-busy",
            Routed::Refused {
                id,
                why: Refusal::Busy,
            },
        ),
        (
            "refused-failed",
            Routed::Refused {
                id,
                why: Refusal::Failed,
            },
        ),
    ];
    let descriptors = (0..3)
        .map(|number| fixtures::node(number).descriptor.as_ref().clone())
        .collect();
    let frames = frames
        .into_iter()
        .map(|(name, message)| (name, Frame::Routed(message)))
        .chain([
            ("descriptors", Frame::Descriptors(descriptors)),
            ("no-descriptors", Frame::Descriptors(Vec::new())),
            ("destroy", Frame::Destroy(CircuitId(2))),
        ]);
    let made = frames.map(|(name, frame)| {
        let mut bytes = BytesMut::new();
        frame.encode_into(&mut bytes);
        Seed::new(name).bytes(&bytes).trimmed()
    });
    crate::seed::numbered("vector", vectors).chain(made).collect()
}
