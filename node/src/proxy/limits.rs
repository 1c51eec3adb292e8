//! Bounds on slow, large and many requests, so that no client can hold the node's memory or connections for nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// Longest request target, bytes. The longest key takes 4096 (`keys §3`), percent-encoded as a whole somewhat more.
pub const MAX_TARGET: usize = 8192;

/// Bounds that the configuration or a test may want otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the listener's queue. A browser opens six.
    pub connections: usize,
    /// From the opening of a connection, or the end of the last request on it, to the end of the next request's head.
    pub head_timeout: Duration,
    /// From a request for a key to the first byte of its file. Long: a search may go through several exits, and manifests come
    /// before data.
    pub first_byte_timeout: Duration,
    /// A client that takes no byte for so long has gone. Long: a paused film takes none.
    pub write_stall: Duration,
    /// In each such window...
    pub upload_window: Duration,
    /// ...an upload must bring at least so many bytes.
    pub upload_window_bytes: u64,
    /// Largest upload, bytes: bounds the temporary file.
    pub upload_bytes: u64,
    /// Uploads at once.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            head_timeout: Duration::from_secs(15),
            first_byte_timeout: Duration::from_secs(180),
            write_stall: Duration::from_secs(600),
            upload_window: Duration::from_secs(60),
            upload_window_bytes: 16 * 1024,
            upload_bytes: 256 << 30,
            uploads: 8,
        }
    }
}

/// The body of an upload as a stream that ends in an error when it is too slow (`TimedOut`) or too large (`FileTooLarge`).
pub(super) struct Upload {
    body: Body,
    left: u64,
    window: Duration,
    window_bytes: u64,
    brought: u64,
    deadline: Pin<Box<Sleep>>,
}

impl Upload {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body,
            left: limits.upload_bytes,
            window: limits.upload_window,
            window_bytes: limits.upload_window_bytes,
            brought: 0,
            deadline: Box::pin(sleep(limits.upload_window)),
        }
    }
}

impl Stream for Upload {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(bytes) = frame.into_data() else { continue }; // trailers mean nothing to us
                    let len = bytes.len() as u64;
                    let Some(left) = this.left.checked_sub(len) else {
                        return Poll::Ready(Some(Err(io::ErrorKind::FileTooLarge.into())));
                    };
                    this.left = left;
                    this.brought = this.brought.saturating_add(len);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if this.deadline.as_mut().poll(cx).is_pending() => return Poll::Pending,
                Poll::Pending if this.brought < this.window_bytes => {
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
                Poll::Pending => {
                    this.brought = 0;
                    this.deadline.as_mut().reset(Instant::now() + this.window);
                }
            }
        }
    }
}

/// A connection that fails when the peer takes no byte for too long.
pub(super) struct Unstalled<T> {
    inner: T,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Unstalled<T> {
    pub(super) const fn new(inner: T, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            stalled: None,
        }
    }

    fn watch<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let limit = self.limit;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unstalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Unstalled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}
