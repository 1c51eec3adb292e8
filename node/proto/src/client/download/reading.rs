//! What a download reads, and how it becomes plaintext: the stream's source, the unpacker, and what its output is for.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use warren_keys::{
    root::{Root, RootBody},
    splitfile::FileKey,
    stream::{Compression, FrameError, Frames},
};

use super::{
    DownloadFailure,
    stream::StreamFetch,
    unpack::Unpacker,
    work::{Piece, UnpackOrder},
};

/// Blocks opened in one piece of work: a MiB, about a millisecond.
const RUN: usize = 32;

pub(super) struct Reading {
    pub(super) source: Source,
    /// Absent while it is at work.
    pub(super) unpacker: Option<Unpacker>,
    pub(super) purpose: Purpose,
}

pub(super) enum Source {
    /// The whole stream, and the part that is still to be given out.
    Inline {
        stream: Bytes,
        rest: Option<Range<u64>>,
    },
    Split(Box<StreamFetch>),
}

pub(super) enum Purpose {
    /// What is unpacked goes to the reader.
    Content,
    /// It tells where the frames lie that hold the range.
    Table {
        frames: Frames,
        wanted: Range<u64>,
        entries: BytesMut,
    },
}

impl Reading {
    /// `None` when there is nothing to read.
    pub(super) fn new(root: &Root, range: Range<u64>) -> Result<Option<Self>, DownloadFailure> {
        let whole = range == (0..root.size());
        let source = |stream_range: Range<u64>| match root.body() {
            RootBody::Inline(stream) => Source::Inline {
                stream: stream.clone(),
                rest: Some(stream_range),
            },
            RootBody::Split(file) => Source::Split(Box::new(StreamFetch::new(file.clone(), stream_range))),
        };
        let content = |stream_range, unpacker| {
            Some(Self {
                source: source(stream_range),
                unpacker: Some(unpacker),
                purpose: Purpose::Content,
            })
        };
        Ok(match root.compression() {
            _ if whole => content(0..root.stream_len(), Unpacker::whole(&root.summary())?),
            _ if range.is_empty() => None,
            Compression::None => content(range, Unpacker::plain()),
            Compression::Zstd => {
                let frames = Frames::new(root.size(), root.stream_len())?;
                let (Some(first), Some(last)) =
                    (frames.frame_at(range.start), frames.frame_at(range.end - 1))
                else {
                    return Err(FrameError::Sizes.into());
                };
                let wanted = first..last + 1;
                let table = frames.entries(wanted.clone());
                Some(Self {
                    source: source(table),
                    unpacker: Some(Unpacker::plain()),
                    purpose: Purpose::Table {
                        frames,
                        wanted,
                        entries: BytesMut::new(),
                    },
                })
            }
        })
    }

    /// The next bytes of the stream for the unpacker, if it is free and there is something for it.
    pub(super) fn unpack(&mut self) -> Option<UnpackOrder> {
        let behind = self.unpacker.as_ref()?.behind();
        let pieces = if behind { Vec::new() } else { self.source.pieces() };
        let last = self.source.exhausted();
        if !behind && pieces.is_empty() && !last {
            return None;
        }
        let unpacker = self.unpacker.take()?;
        Some(UnpackOrder {
            key: self.source.key(),
            pieces,
            last,
            unpacker,
        })
    }
}

impl Source {
    fn pieces(&mut self) -> Vec<Piece> {
        match self {
            Self::Inline { stream, rest } => {
                let place = |at: u64| usize::try_from(at).map_or(stream.len(), |at| at.min(stream.len()));
                let piece = rest
                    .take()
                    .map(|rest| stream.slice(place(rest.start)..place(rest.end)));
                piece.map(Piece::Bytes).into_iter().collect()
            }
            Self::Split(stream) => stream.pieces(RUN),
        }
    }

    fn exhausted(&self) -> bool {
        match self {
            Self::Inline { rest, .. } => rest.is_none(),
            Self::Split(stream) => stream.exhausted(),
        }
    }

    fn key(&self) -> Option<FileKey> {
        match self {
            Self::Inline { .. } => None,
            Self::Split(stream) => Some(stream.file().key().clone()),
        }
    }

    /// Goes on with another part of the stream.
    pub(super) fn seek(&mut self, range: Range<u64>) {
        match self {
            Self::Inline { rest, .. } => *rest = Some(range),
            Self::Split(stream) => stream.seek(range),
        }
    }
}
