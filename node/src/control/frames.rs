//! The frames of a control answer: kind (one byte), length (four bytes, big-endian), body.
//!
//! An answer is any number of progress and data frames, then exactly one [`Kind::Done`] or [`Kind::Error`]. An answer that stops before that
//! was cut off.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Largest body, bytes: one segment of a file, so that a reader's memory is bounded.
pub const MAX_BODY: usize = 8 << 20;

const HEADER: usize = 5;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// JSON: facts about the file that follows.
    Info,
    /// JSON: how far it is.
    Progress,
    /// Bytes of the file.
    Data,
    /// JSON: the result. The last frame.
    Done,
    /// JSON: what went wrong. The last frame.
    Error,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Info => b'I',
            Self::Progress => b'P',
            Self::Data => b'D',
            Self::Done => b'Z',
            Self::Error => b'E',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'I' => Self::Info,
            b'P' => Self::Progress,
            b'D' => Self::Data,
            b'Z' => Self::Done,
            b'E' => Self::Error,
            _ => return None,
        })
    }
}

/// Not a control answer: a frame of unknown kind or beyond [`MAX_BODY`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer is not in this program's format; the running node may be of another version")]
pub struct BadFrame;

/// A frame's header and body as bytes. A body beyond [`MAX_BODY`] must be split by the caller.
#[must_use]
pub fn encode(kind: Kind, body: &[u8]) -> Bytes {
    debug_assert!(body.len() <= MAX_BODY, "callers split what is larger");
    let mut frame = BytesMut::with_capacity(HEADER + body.len());
    frame.put_u8(kind.byte());
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(body);
    frame.freeze()
}

/// Only a frame's header; the `len` bytes of its body follow as they are.
#[must_use]
pub fn header(kind: Kind, len: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER);
    frame.put_u8(kind.byte());
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    frame.freeze()
}

/// Takes the first whole frame from `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// [`BadFrame`]; the buffer is of no use then.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, BadFrame> {
    let [kind, a, b, c, d, ..] = **buffer else {
        return Ok(None);
    };
    let kind = Kind::from_byte(kind).ok_or(BadFrame)?;
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| BadFrame)?;
    if len > MAX_BODY {
        return Err(BadFrame);
    }
    if buffer.len() < HEADER + len {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some((kind, buffer.split_to(len).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_chunking() {
        let mut stream = BytesMut::new();
        let sent = [
            (Kind::Info, &b"{}"[..]),
            (Kind::Data, &[7; 1000]),
            (Kind::Data, b""),
            (Kind::Done, b"{}"),
        ];
        for (kind, body) in sent {
            stream.extend_from_slice(&encode(kind, body));
        }
        for chunk in [1, 3, 7, 2000] {
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(chunk) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            assert!(buffer.is_empty());
            assert!(got.iter().map(|(kind, body)| (*kind, &body[..])).eq(sent));
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode(&mut BytesMut::from(&b"HTTP/1.1"[..])), Err(BadFrame));
        assert_eq!(
            decode(&mut BytesMut::from(&b"D\xff\xff\xff\xff"[..])),
            Err(BadFrame)
        );
    }
}
