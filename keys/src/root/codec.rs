//! Bytes of a root (`keys §5.1`): `length (2, big-endian) ‖ postcard`, then zeros to the end of the payload.
//!
//! Invariant: decoding accepts only what encoding gives. Postcard's variable-length integers have several forms for
//! one number, so what was decoded is encoded again and compared.

use super::{InvalidRoot, Mime, ROOT_CAPACITY, Root, RootBody};
use crate::RoutingKey;
use crate::splitfile::{FileKey, Splitfile};
use crate::stream::Compression;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Version of the format below.
const VERSION: u8 = 1;

const LENGTH_FIELD: usize = 2;

#[derive(Serialize, Deserialize)]
struct WireRoot<'a> {
    version: u8,
    #[serde(borrow)]
    mime: Option<&'a str>,
    size: u64,
    hash: [u8; 32],
    compression: u8,
    body: WireBody<'a>,
}

#[derive(Serialize, Deserialize)]
enum WireBody<'a> {
    Inline(&'a [u8]),
    Split {
        key: [u8; 32],
        stream_len: u64,
        top: &'a [u8],
    },
}

pub(super) fn encode(root: &Root) -> Result<Zeroizing<Vec<u8>>, InvalidRoot> {
    let top: Vec<u8>;
    let body = match root.body() {
        RootBody::Inline(stream) => WireBody::Inline(stream),
        RootBody::Split(file) => {
            top = file.top().iter().flat_map(|key| *key.as_bytes()).collect();
            WireBody::Split {
                key: *file.key().expose(),
                stream_len: file.stream_len(),
                top: &top,
            }
        }
    };
    let wire = WireRoot {
        version: VERSION,
        mime: root.mime().map(Mime::as_str),
        size: root.size(),
        hash: *root.hash(),
        compression: root.compression().as_u8(),
        body,
    };
    let mut bytes = Zeroizing::new(vec![0; ROOT_CAPACITY]);
    let len = postcard::to_slice(&wire, &mut bytes[LENGTH_FIELD..])
        .map_err(|_| InvalidRoot::Length)?
        .len();
    let field = u16::try_from(len).map_err(|_| InvalidRoot::Length)?;
    bytes[..LENGTH_FIELD].copy_from_slice(&field.to_be_bytes());
    bytes.truncate(LENGTH_FIELD + len);
    Ok(bytes)
}

pub(super) fn decode(payload: &[u8]) -> Result<Root, InvalidRoot> {
    let (field, rest) = payload
        .split_first_chunk::<LENGTH_FIELD>()
        .ok_or(InvalidRoot::Length)?;
    let len = usize::from(u16::from_be_bytes(*field));
    let (bytes, padding) = rest.split_at_checked(len).ok_or(InvalidRoot::Length)?;
    if LENGTH_FIELD + len > ROOT_CAPACITY {
        return Err(InvalidRoot::Length);
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(InvalidRoot::Padding);
    }
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&other) => return Err(InvalidRoot::Version(other)),
        None => return Err(InvalidRoot::Length),
    }
    let wire: WireRoot<'_> = match postcard::take_from_bytes(bytes) {
        Ok((wire, [])) => wire,
        _ => return Err(InvalidRoot::Malformed),
    };
    let root = Root {
        mime: wire.mime.map(Mime::new).transpose()?,
        size: wire.size,
        hash: wire.hash,
        compression: Compression::from_u8(wire.compression).ok_or(InvalidRoot::Malformed)?,
        body: body(wire.body)?,
    };
    let root = root.checked()?;
    match encode(&root)?.as_slice() == &payload[..LENGTH_FIELD + len] {
        true => Ok(root),
        false => Err(InvalidRoot::Malformed),
    }
}

fn body(wire: WireBody<'_>) -> Result<RootBody, InvalidRoot> {
    match wire {
        WireBody::Inline(stream) => Ok(RootBody::Inline(Bytes::copy_from_slice(stream))),
        WireBody::Split { key, stream_len, top } => {
            let (keys, []) = top.as_chunks::<32>() else {
                return Err(InvalidRoot::Malformed);
            };
            let top = keys.iter().copied().map(RoutingKey::from_bytes).collect();
            Ok(RootBody::Split(Splitfile::new(
                FileKey::from_root(key),
                stream_len,
                top,
            )?))
        }
    }
}
