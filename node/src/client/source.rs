//! Where the bytes of an insert come from.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

/// Bytes that come once, in order: standard input, an HTTP upload.
pub struct ByteStream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>);

impl ByteStream {
    /// Wraps a stream. An error item makes the insert fail.
    #[must_use]
    pub fn new(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// The bytes of an insert.
pub enum Source {
    /// A regular file, read twice: a content-derived key needs a pass before the first block can be encrypted.
    Path(PathBuf),
    /// Bytes that come once; spooled in memory or, encrypted, in a temporary file.
    Stream(ByteStream),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path(_) => "Source::Path(..)",
            Self::Stream(_) => "Source::Stream(..)",
        })
    }
}
