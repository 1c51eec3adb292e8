//! What a fetch hands out: facts about a file, then its verified bytes.

use std::{
    fmt,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::{mpsc, watch};

use super::{FetchError, Progress};

/// Facts about a file, from its verified root.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentInfo {
    /// Bytes of the file.
    pub size: u64,
    /// Media type that the publisher declared. Not checked.
    pub mime: Option<String>,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
}

impl fmt::Debug for ContentInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentInfo(..)")
    }
}

/// An open file. Its job in the network lives as long as this, or as the stream made of it.
pub struct Content {
    info: ContentInfo,
    progress: watch::Receiver<Progress>,
    start: Box<dyn FnOnce(Range<u64>) -> ContentStream + Send>,
}

impl Content {
    /// From the facts and a way to begin the transfer. `start` is called at most once, within a tokio runtime.
    #[must_use]
    pub fn new(
        info: ContentInfo,
        progress: watch::Receiver<Progress>,
        start: impl FnOnce(Range<u64>) -> ContentStream + Send + 'static,
    ) -> Self {
        Self {
            info,
            progress,
            start: Box::new(start),
        }
    }

    /// Facts about the file.
    #[must_use]
    pub fn info(&self) -> &ContentInfo {
        &self.info
    }

    /// How far the fetch is; goes on to report after [`Content::stream`].
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// The bytes of a range, cut to the file's size, in order. Dropping the stream cancels the fetch.
    #[must_use]
    pub fn stream(self, range: Range<u64>) -> ContentStream {
        let end = range.end.min(self.info.size);
        (self.start)(range.start.min(end)..end)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(..)")
    }
}

/// Verified bytes in order, in pieces of any size. After an error there is nothing more.
#[derive(Debug)]
pub struct ContentStream {
    pieces: mpsc::Receiver<Result<Bytes, FetchError>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Bytes that are still due.
    Due(u64),
    Ended,
}

/// The writing end of a [`ContentStream`]. When it is dropped before all bytes were written, the stream ends in
/// [`FetchError::Cancelled`], never as if the file were complete.
#[derive(Debug)]
pub struct ContentSink(mpsc::Sender<Result<Bytes, FetchError>>);

impl ContentSink {
    /// Hands a piece or the final error over; waits while the reader is behind. False when the reader has gone.
    pub async fn send(&self, piece: Result<Bytes, FetchError>) -> bool {
        self.0.send(piece).await.is_ok()
    }

    /// Waits until the reader has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl ContentStream {
    /// A stream of `len` bytes and its writing end, which takes `capacity` pieces before it waits for the reader.
    #[must_use]
    pub fn channel(len: u64, capacity: usize) -> (ContentSink, Self) {
        let (sink, pieces) = mpsc::channel(capacity);
        (
            ContentSink(sink),
            Self {
                pieces,
                state: State::Due(len),
            },
        )
    }
}

impl Stream for ContentStream {
    type Item = Result<Bytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let State::Due(due) = self.state else {
            return Poll::Ready(None);
        };
        if due == 0 {
            self.state = State::Ended;
            return Poll::Ready(None);
        }
        let piece = match self.pieces.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(piece) => piece.unwrap_or(Err(FetchError::Cancelled)),
        };
        self.state = match &piece {
            Ok(bytes) => State::Due(due.saturating_sub(bytes.len() as u64)),
            Err(_) => State::Ended,
        };
        Poll::Ready(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin};

    use bytes::Bytes;
    use futures_core::Stream;

    use super::ContentStream;
    use crate::client::FetchError;

    async fn next(stream: &mut ContentStream) -> Option<Result<Bytes, FetchError>> {
        poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
    }

    #[tokio::test]
    async fn a_lost_writer_is_an_error_and_not_an_end() {
        let (sink, mut stream) = ContentStream::channel(3, 4);
        assert!(sink.send(Ok(Bytes::from_static(b"ab"))).await);
        drop(sink);
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "ab");
        assert!(matches!(
            next(&mut stream).await,
            Some(Err(FetchError::Cancelled))
        ));
        assert!(next(&mut stream).await.is_none());
    }

    #[tokio::test]
    async fn ends_when_all_bytes_have_come() {
        let (sink, mut stream) = ContentStream::channel(2, 4);
        assert!(sink.send(Ok(Bytes::from_static(b"ab"))).await);
        assert!(next(&mut stream).await.unwrap().is_ok());
        assert!(next(&mut stream).await.is_none());
        let (_sink, mut empty) = ContentStream::channel(0, 4);
        assert!(next(&mut empty).await.is_none());
    }
}
