//! Plaintext to stream, in bounded memory (`keys §7.3`).

use super::frames::{FRAME_HEADER, FRAME_SIZE, TABLE_ENTRY, header};
use super::{Compression, StreamSummary};
use bytes::BytesMut;
use zstd::bulk::Compressor;

/// zstd's level: its default; higher ones cost several times the processor time for a few percent.
const LEVEL: i32 = 3;

/// zstd failed: a bug, or no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("zstd failed to compress")]
pub struct WriteError;

/// The rule for a whole file, from its first bytes (the first MiB, or all if it is shorter): compress when they shrink
/// by a tenth or more, frame overhead included. What does not shrink costs no processor time at the reader then.
///
/// # Errors
/// [`WriteError`].
pub fn choose_compression(sample: &[u8]) -> Result<Compression, WriteError> {
    let sample = &sample[..sample.len().min(FRAME_SIZE)];
    let body = Compressor::new(LEVEL)
        .and_then(|mut zstd| zstd.compress(sample))
        .map_err(|_| WriteError)?;
    let stream = (body.len() + FRAME_HEADER) as u64 + TABLE_ENTRY;
    match stream * 10 <= sample.len() as u64 * 9 {
        true => Ok(Compression::Zstd),
        false => Ok(Compression::None),
    }
}

/// Writes the stream of one file, and hashes plaintext and stream on the way.
pub struct StreamWriter {
    plain: Meter,
    /// Only of a compressed stream; a plain one is its plaintext.
    frames: Option<FrameWriter>,
}

struct FrameWriter {
    zstd: Compressor<'static>,
    /// The frame that is being filled.
    open: Vec<u8>,
    body: Vec<u8>,
    starts: Vec<u64>,
    stream: Meter,
}

#[derive(Default)]
struct Meter {
    len: u64,
    hasher: blake3::Hasher,
}

impl Meter {
    fn take(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

impl StreamWriter {
    /// # Errors
    /// [`WriteError`].
    pub fn new(compression: Compression) -> Result<Self, WriteError> {
        let frames = match compression {
            Compression::None => None,
            Compression::Zstd => Some(FrameWriter {
                zstd: Compressor::new(LEVEL).map_err(|_| WriteError)?,
                open: Vec::with_capacity(FRAME_SIZE),
                body: Vec::new(),
                starts: Vec::new(),
                stream: Meter::default(),
            }),
        };
        Ok(Self {
            plain: Meter::default(),
            frames,
        })
    }

    /// Takes the next bytes of plaintext and appends what they complete of the stream to `out`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn push(&mut self, mut plain: &[u8], out: &mut BytesMut) -> Result<(), WriteError> {
        self.plain.take(plain);
        let Some(frames) = &mut self.frames else {
            out.extend_from_slice(plain);
            return Ok(());
        };
        while !plain.is_empty() {
            let (now, later) = plain.split_at(plain.len().min(FRAME_SIZE - frames.open.len()));
            frames.open.extend_from_slice(now);
            plain = later;
            if frames.open.len() == FRAME_SIZE {
                frames.close(out)?;
            }
        }
        Ok(())
    }

    /// Appends the end of the stream to `out` and gives the measures of both.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(self, out: &mut BytesMut) -> Result<StreamSummary, WriteError> {
        let (size, hash) = (self.plain.len, self.plain.hash());
        let Some(mut frames) = self.frames else {
            return Ok(StreamSummary {
                compression: Compression::None,
                size,
                hash,
                stream_len: size,
                stream_hash: hash,
            });
        };
        if !frames.open.is_empty() {
            frames.close(out)?;
        }
        for start in core::mem::take(&mut frames.starts) {
            frames.emit(&start.to_be_bytes(), out);
        }
        let (stream_len, stream_hash) = (frames.stream.len, frames.stream.hash());
        Ok(StreamSummary {
            compression: Compression::Zstd,
            size,
            hash,
            stream_len,
            stream_hash,
        })
    }
}

impl FrameWriter {
    fn close(&mut self, out: &mut BytesMut) -> Result<(), WriteError> {
        self.starts.push(self.stream.len);
        self.body.clear();
        self.body
            .reserve(zstd::zstd_safe::compress_bound(self.open.len()));
        self.zstd
            .compress_to_buffer(&self.open, &mut self.body)
            .map_err(|_| WriteError)?;
        let body = core::mem::take(&mut self.body);
        let open = core::mem::take(&mut self.open);
        if body.len() < open.len() {
            self.emit(&header(Compression::Zstd, body.len()), out);
            self.emit(&body, out);
        } else {
            self.emit(&header(Compression::None, open.len()), out);
            self.emit(&open, out);
        }
        (self.body, self.open) = (body, open);
        self.open.clear();
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.stream.take(bytes);
        out.extend_from_slice(bytes);
    }
}
