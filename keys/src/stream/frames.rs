//! The frames of a compressed stream, one by one (`keys §7.2`).

use super::Compression;
use crate::splitfile::MAX_STREAM_LEN;
use bytes::Bytes;
use core::ops::Range;
use zstd::bulk::Decompressor;

/// Bytes of plaintext in every frame but the last: large enough for zstd to work well, small enough to seek by and to
/// decompress in bounded memory.
pub const FRAME_SIZE: usize = 1 << 20;
/// Bytes of the largest plaintext: that of the longest stream.
pub const MAX_FILE_SIZE: u64 = MAX_STREAM_LEN;
/// Bytes before the body of a frame.
pub const FRAME_HEADER: usize = 4;
/// Bytes of the table for each frame.
pub(crate) const TABLE_ENTRY: u64 = 8;

const COMPRESSED: u32 = 1 << 31;

/// Why a frame or table is not what the root says. The publisher made it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A header that no frame of this plaintext has.
    #[error("a frame header with an impossible length")]
    Header,
    /// A body that does not decompress to the plaintext's length.
    #[error("a frame that does not decompress to its length")]
    Body,
    /// Places of frames that contradict each other or the stream's length.
    #[error("a table of frames that contradicts the stream")]
    Table,
    /// The declared sizes are impossible together.
    #[error("declared sizes that no stream has")]
    Sizes,
    /// zstd could not be set up (memory).
    #[error("the decompressor could not be set up")]
    Setup,
}

/// Shape of a compressed stream, from the two lengths that the root declares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frames {
    size: u64,
    stream_len: u64,
}

impl Frames {
    /// # Errors
    /// No compressed stream has these lengths.
    pub fn new(size: u64, stream_len: u64) -> Result<Self, FrameError> {
        let count = size.div_ceil(FRAME_SIZE as u64);
        let overhead = count.saturating_mul(FRAME_HEADER as u64 + TABLE_ENTRY);
        // A body has at least one byte, and is stored as it is rather than longer than its plaintext.
        let possible = overhead.saturating_add(count)..=overhead.saturating_add(size);
        match (1..=MAX_FILE_SIZE).contains(&size) && possible.contains(&stream_len) {
            true => Ok(Self { size, stream_len }),
            false => Err(FrameError::Sizes),
        }
    }

    /// Number of frames, at least one.
    pub const fn count(&self) -> u64 {
        self.size.div_ceil(FRAME_SIZE as u64)
    }

    /// The frame that holds byte `offset` of the plaintext.
    pub fn frame_at(&self, offset: u64) -> Option<u64> {
        (offset < self.size).then_some(offset / FRAME_SIZE as u64)
    }

    /// Bytes of plaintext in frame `index`.
    pub fn plain_len(&self, index: u64) -> usize {
        let left = self.size.saturating_sub(index.saturating_mul(FRAME_SIZE as u64));
        usize::try_from(left).map_or(FRAME_SIZE, |left| left.min(FRAME_SIZE))
    }

    /// Where in the stream the table is.
    pub const fn table(&self) -> Range<u64> {
        self.stream_len - self.count() * TABLE_ENTRY..self.stream_len
    }

    /// The part of the stream to read in order to know where `frames` are: their entries and the one after.
    pub fn entries(&self, frames: Range<u64>) -> Range<u64> {
        let table = self.table();
        let at = |frame: u64| table.start + frame.min(self.count()) * TABLE_ENTRY;
        at(frames.start)..at(frames.end.saturating_add(1)).min(table.end)
    }

    /// Where in the stream each of `frames` is, from the bytes at [`Frames::entries`].
    ///
    /// # Errors
    /// Entries that contradict each other or the lengths.
    pub fn places(&self, frames: Range<u64>, entries: &[u8]) -> Result<Vec<Range<u64>>, FrameError> {
        let wanted = self.entries(frames.clone());
        if entries.len() as u64 != wanted.end - wanted.start || frames.end > self.count() {
            return Err(FrameError::Table);
        }
        let starts = entries
            .chunks_exact(8)
            .filter_map(|entry| entry.try_into().ok())
            .map(u64::from_be_bytes);
        // The last frame ends where the table begins.
        let starts: Vec<u64> = starts
            .chain((frames.end == self.count()).then_some(self.table().start))
            .collect();
        let places = starts.windows(2).zip(frames).map(|(pair, frame)| {
            let place = pair[0]..pair[1];
            let longest = (FRAME_HEADER + self.plain_len(frame)) as u64;
            let fits = place.start < place.end
                && place.end - place.start <= longest
                && place.end <= self.table().start
                && (frame > 0 || place.start == 0);
            if fits { Ok(place) } else { Err(FrameError::Table) }
        });
        places.collect()
    }
}

/// Length of a frame's body, from its header.
///
/// # Errors
/// No frame of `plain_len` bytes has this header.
pub(super) fn body_len(
    header: [u8; FRAME_HEADER],
    plain_len: usize,
) -> Result<(Compression, usize), FrameError> {
    let word = u32::from_be_bytes(header);
    let len = usize::try_from(word & !COMPRESSED).map_err(|_| FrameError::Header)?;
    match word & COMPRESSED {
        0 if len == plain_len => Ok((Compression::None, len)),
        COMPRESSED if (1..plain_len).contains(&len) => Ok((Compression::Zstd, len)),
        _ => Err(FrameError::Header),
    }
}

/// The header of a frame.
pub(super) fn header(compression: Compression, body_len: usize) -> [u8; FRAME_HEADER] {
    let flag = match compression {
        Compression::None => 0,
        Compression::Zstd => COMPRESSED,
    };
    // A body is at most FRAME_SIZE long.
    (flag | u32::try_from(body_len).unwrap_or(0)).to_be_bytes()
}

/// Opens frames; holds zstd's working memory.
pub struct FrameDecoder(Decompressor<'static>);

impl FrameDecoder {
    /// # Errors
    /// [`FrameError::Setup`].
    pub fn new() -> Result<Self, FrameError> {
        Decompressor::new().map(Self).map_err(|_| FrameError::Setup)
    }

    /// The plaintext of one frame, header and body; `plain_len` from [`Frames::plain_len`].
    ///
    /// # Errors
    /// The frame is not one of `plain_len` bytes.
    pub fn open(&mut self, frame: &Bytes, plain_len: usize) -> Result<Bytes, FrameError> {
        let header = frame.first_chunk().ok_or(FrameError::Header)?;
        let (compression, len) = body_len(*header, plain_len)?;
        if frame.len() - FRAME_HEADER != len {
            return Err(FrameError::Header);
        }
        self.open_body(compression, frame.slice(FRAME_HEADER..), plain_len)
    }

    pub(super) fn open_body(
        &mut self,
        compression: Compression,
        body: Bytes,
        plain_len: usize,
    ) -> Result<Bytes, FrameError> {
        match compression {
            Compression::None => Ok(body),
            Compression::Zstd => {
                // zstd writes into this buffer and stops at its end, whatever the frame says of its size.
                let mut plain = vec![0; plain_len];
                match self.0.decompress_to_buffer(&body, plain.as_mut_slice()) {
                    Ok(len) if len == plain_len => Ok(plain.into()),
                    _ => Err(FrameError::Body),
                }
            }
        }
    }
}
