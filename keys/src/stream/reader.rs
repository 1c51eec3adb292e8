//! Stream to plaintext from the first byte to the last, with the checks at the end (`keys §7.4`).
//!
//! Every byte that comes in here has been verified against the key tree of the URI already; what is checked here is
//! that the publisher's frames, sizes and whole-file hash agree.

use super::frames::{FRAME_HEADER, FrameDecoder, FrameError, Frames, body_len};
use super::{Compression, StreamSummary};
use bytes::{Buf, Bytes, BytesMut};

/// Why a stream is not the one that the root describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamError {
    /// A frame or the table is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More or fewer bytes than declared.
    #[error("the stream is not as long as the root says")]
    Length,
    /// The whole plaintext has another hash.
    #[error("the plaintext has another hash than the root says")]
    Hash,
}

/// Reads one stream in order.
pub struct StreamReader {
    size: u64,
    hash: [u8; 32],
    stream_len: u64,
    /// Bytes of stream taken in, and of plaintext given out.
    taken: u64,
    given: u64,
    hasher: blake3::Hasher,
    frames: Option<FrameReader>,
}

struct FrameReader {
    shape: Frames,
    decoder: FrameDecoder,
    /// Bytes of stream that do not yet make a frame or table entry: less than one frame.
    pending: BytesMut,
    starts: Vec<u64>,
    /// Where in the stream `pending` begins.
    at: u64,
    entries: usize,
}

impl StreamReader {
    /// A reader of the stream that `summary` describes; its `stream_hash` is not used.
    ///
    /// # Errors
    /// The declared lengths are impossible together.
    pub fn new(summary: &StreamSummary) -> Result<Self, StreamError> {
        let StreamSummary {
            compression,
            size,
            hash,
            stream_len,
            ..
        } = *summary;
        let frames = match compression {
            Compression::None if size == stream_len => None,
            Compression::None => return Err(FrameError::Sizes.into()),
            Compression::Zstd => Some(FrameReader {
                shape: Frames::new(size, stream_len)?,
                decoder: FrameDecoder::new()?,
                pending: BytesMut::new(),
                starts: Vec::new(),
                at: 0,
                entries: 0,
            }),
        };
        Ok(Self {
            size,
            hash,
            stream_len,
            taken: 0,
            given: 0,
            hasher: blake3::Hasher::new(),
            frames,
        })
    }

    /// Takes the next bytes of the stream and hands the plaintext that they complete to `out`, at most a MiB at a time.
    ///
    /// # Errors
    /// The stream is not the one described. The reader is of no use after that.
    pub fn push(&mut self, stream: Bytes, mut out: impl FnMut(Bytes)) -> Result<(), StreamError> {
        self.taken = self.taken.saturating_add(stream.len() as u64);
        if self.taken > self.stream_len {
            return Err(StreamError::Length);
        }
        let (given, hasher) = (&mut self.given, &mut self.hasher);
        let mut give = |plain: Bytes| {
            *given += plain.len() as u64;
            hasher.update(&plain);
            out(plain);
        };
        match &mut self.frames {
            None => {
                if !stream.is_empty() {
                    give(stream);
                }
                Ok(())
            }
            Some(frames) => frames.push(stream, give).map_err(StreamError::from),
        }
    }

    /// Checks the end: lengths, table and hash of the whole plaintext.
    ///
    /// # Errors
    /// The stream is not the one described.
    pub fn finish(self) -> Result<(), StreamError> {
        let ends_clean = self
            .frames
            .is_none_or(|frames| frames.pending.is_empty() && frames.entries == frames.starts.len());
        if self.taken != self.stream_len || self.given != self.size || !ends_clean {
            return Err(StreamError::Length);
        }
        match *self.hasher.finalize().as_bytes() == self.hash {
            true => Ok(()),
            false => Err(StreamError::Hash),
        }
    }
}

impl FrameReader {
    fn push(&mut self, mut stream: Bytes, mut out: impl FnMut(Bytes)) -> Result<(), FrameError> {
        while (self.starts.len() as u64) < self.shape.count() {
            let plain_len = self.shape.plain_len(self.starts.len() as u64);
            if !self.fill(FRAME_HEADER, &mut stream) {
                return Ok(());
            }
            let header = self.pending.first_chunk().ok_or(FrameError::Header)?;
            let (compression, len) = body_len(*header, plain_len)?;
            if !self.fill(FRAME_HEADER + len, &mut stream) {
                return Ok(());
            }
            let body = core::mem::take(&mut self.pending).freeze().slice(FRAME_HEADER..);
            self.starts.push(self.at);
            self.at += (FRAME_HEADER + len) as u64;
            out(self.decoder.open_body(compression, body, plain_len)?);
        }
        while self.entries < self.starts.len() && self.fill(8, &mut stream) {
            let entry = self.pending.get_u64();
            if self.starts.get(self.entries) != Some(&entry) || self.at != self.shape.table().start {
                return Err(FrameError::Table);
            }
            self.entries += 1;
        }
        match stream.is_empty() {
            true => Ok(()),
            false => Err(FrameError::Table),
        }
    }

    /// Moves bytes over until `len` are pending; whether they are.
    fn fill(&mut self, len: usize, stream: &mut Bytes) -> bool {
        let missing = len.saturating_sub(self.pending.len()).min(stream.len());
        self.pending.reserve(len.saturating_sub(self.pending.len()));
        self.pending.extend_from_slice(&stream.split_to(missing));
        self.pending.len() >= len
    }
}
