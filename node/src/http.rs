//! HTTP/1.1 on the node's local interfaces: the accept loop, one connection within bounds, and the count of what was refused.
//!
//! What is answered, and to whom, is for the [proxy](crate::proxy) and the [control interface](crate::control) to say.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Most header fields in one request; browsers send about twenty.
const MAX_HEADERS: usize = 64;
/// Size of a connection's read buffer, bytes: large enough for uploads at full speed. A request whose head has not ended when the
/// buffer is full is refused.
const MAX_HEAD: usize = 64 * 1024;
/// Wait after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many requests and connections were refused: by one without the right to ask, or that are not HTTP or beyond its bounds.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// All since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn look_at(&self, status: StatusCode) {
        // What says something of files, and not of the request, is no refusal: 404, 409, 412, 416.
        if matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::URI_TOO_LONG
                | StatusCode::MISDIRECTED_REQUEST
        ) {
            self.count();
        }
    }
}

/// Accepts connections for ever, `most` at once; further ones wait in the listener's queue. They live in `connections`.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    most: usize,
    connections: &mut JoinSet<()>,
    serve: impl Fn(TcpStream) -> F,
) {
    let slots = Arc::new(Semaphore::new(most));
    // The semaphore is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are written whole or in large pieces, never byte by byte.
        let _ = stream.set_nodelay(true);
        let served = serve(stream);
        connections.spawn(async move {
            served.await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Speaks HTTP/1.1 on one connection until either side ends it; after `stop` only to the end of the answer under way. `head_timeout` is
/// from the opening, or the end of the last request, to the end of the next request's head.
pub(crate) async fn connection<F>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    head_timeout: Duration,
    refusals: &Refusals,
    stop: &CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async move {
            let response = answered.await;
            refusals.look_at(response.status());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // An error here is the client's: it went away, or did not speak HTTP.
    if served.is_err_and(|error| error.is_parse() || error.is_incomplete_message()) {
        refusals.count();
    }
}
