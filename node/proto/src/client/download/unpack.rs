//! Stream to plaintext: the whole of it with its hash, or a range.
//!
//! Invariant: one call gives about [`BATCH`] of plaintext at most, however well the stream was compressed; the rest waits
//! as stream. The last bytes of a whole file leave only after its hash has been checked.

use std::{collections::VecDeque, ops::Range};

use bytes::{Buf, Bytes, BytesMut};
use warren_keys::stream::{Compression, FRAME_SIZE, FrameDecoder, StreamReader, StreamSummary};

use super::DownloadFailure;

/// Plaintext given at a time.
const BATCH: usize = 2 << 20;
/// Stream that is decompressed in one step. A frame of one MiB of zeros is some fifty bytes long, so a step may give some
/// MiB at worst.
const STEP: usize = 256;

/// What a run gave.
pub(super) struct Unpacked {
    pub(super) plain: Vec<Bytes>,
    /// To be run again when there is room: stream is left over. None when all is done.
    pub(super) unpacker: Option<Unpacker>,
}

pub(super) struct Unpacker {
    mode: Mode,
    waiting: VecDeque<Bytes>,
}

enum Mode {
    Whole {
        reader: Box<StreamReader>,
        compressed: bool,
    },
    /// The stream is the plaintext.
    Plain,
    Frames(Box<FrameRange>),
}

/// Some frames in a row, and the range of their plaintext that is wanted.
struct FrameRange {
    decoder: FrameDecoder,
    /// Bytes of each frame in the stream, and of its plaintext.
    frames: VecDeque<(usize, usize)>,
    pending: BytesMut,
    /// Plaintext before the range, and in it.
    skip: usize,
    left: u64,
}

impl Unpacker {
    /// From the first byte to the last.
    pub(super) fn whole(summary: &StreamSummary) -> Result<Self, DownloadFailure> {
        let reader = Box::new(StreamReader::new(summary)?);
        let compressed = summary.compression == Compression::Zstd;
        Ok(Self::of(Mode::Whole { reader, compressed }))
    }

    /// The range was fetched as it is.
    pub(super) fn plain() -> Self {
        Self::of(Mode::Plain)
    }

    /// `places` of consecutive frames in the stream with the length of their plaintext; `range` counts from the first one's
    /// first byte.
    pub(super) fn frames(
        places: impl IntoIterator<Item = (Range<u64>, usize)>,
        range: Range<u64>,
    ) -> Result<Self, DownloadFailure> {
        let length = |place: Range<u64>| usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
        Ok(Self::of(Mode::Frames(Box::new(FrameRange {
            decoder: FrameDecoder::new().map_err(DownloadFailure::from)?,
            frames: places
                .into_iter()
                .map(|(place, plain)| (length(place), plain))
                .collect(),
            pending: BytesMut::new(),
            skip: usize::try_from(range.start).unwrap_or(usize::MAX),
            left: range.end.saturating_sub(range.start),
        }))))
    }

    fn of(mode: Mode) -> Self {
        Self {
            mode,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, stream: Bytes) {
        self.waiting.push_back(stream);
    }

    /// Whether stream is left over.
    pub(super) fn behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Unpacks some of what was pushed; `last` when no more will come.
    pub(super) fn run(mut self, last: bool) -> Result<Unpacked, DownloadFailure> {
        let mut plain = Vec::new();
        let mut given = 0;
        while given < BATCH
            && let Some(mut stream) = self.waiting.pop_front()
        {
            let step = match &self.mode {
                Mode::Whole {
                    compressed: false, ..
                }
                | Mode::Plain => stream.len(),
                Mode::Whole { .. } | Mode::Frames(_) => STEP.min(stream.len()),
            };
            let now = stream.split_to(step);
            if stream.has_remaining() {
                self.waiting.push_front(stream);
            }
            let give = |bytes: Bytes| {
                given += bytes.len();
                plain.push(bytes);
            };
            match &mut self.mode {
                Mode::Whole { reader, .. } => reader.push(now, give)?,
                Mode::Plain => [now].into_iter().for_each(give),
                Mode::Frames(frames) => frames.push(&now, give)?,
            }
        }
        if !last || self.behind() {
            return Ok(Unpacked {
                plain,
                unpacker: Some(self),
            });
        }
        if let Mode::Whole { reader, .. } = self.mode {
            reader.finish()?;
        }
        Ok(Unpacked {
            plain,
            unpacker: None,
        })
    }
}

impl FrameRange {
    fn push(&mut self, stream: &[u8], mut give: impl FnMut(Bytes)) -> Result<(), DownloadFailure> {
        self.pending.extend_from_slice(stream);
        while let Some((len, plain_len)) = self.frames.front().copied()
            && self.pending.len() >= len
        {
            self.frames.pop_front();
            let frame = self.pending.split_to(len).freeze();
            let mut plain = self.decoder.open(&frame, plain_len)?;
            plain.advance(self.skip.min(plain.len()));
            self.skip = self.skip.saturating_sub(plain_len);
            plain.truncate(usize::try_from(self.left).unwrap_or(FRAME_SIZE));
            self.left = self.left.saturating_sub(plain.len() as u64);
            if !plain.is_empty() {
                give(plain);
            }
        }
        Ok(())
    }
}
