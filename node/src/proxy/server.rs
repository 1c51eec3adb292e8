//! Connections: the accept loop, and HTTP/1.1 on each connection within the [`Limits`](super::Limits).

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Proxy,
    guard::Hosts,
    limits::{MAX_HEAD, MAX_HEADERS, Unstalled},
};
use crate::client::Network;

/// Wait after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers under way may go on after the node was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves a listener until `stop`, then lets answers under way end, for two seconds at most.
///
/// # Errors
/// When the listener's own address cannot be read. Failing connections end quietly.
pub async fn serve<N: Network>(
    listener: TcpListener,
    proxy: Arc<Proxy<N>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let hosts = Arc::new(Hosts::new(listener.local_addr()?, proxy.hosts()));
    let slots = Arc::new(Semaphore::new(proxy.limits().connections));
    let mut connections = JoinSet::new();
    let run = async {
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
            let (proxy, hosts, stop) = (Arc::clone(&proxy), Arc::clone(&hosts), stop.clone());
            connections.spawn(async move {
                serve_connection(stream, proxy, hosts, stop).await;
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = run => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Speaks HTTP/1.1 on one connection until either side ends it.
pub(super) async fn serve_connection<N: Network>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    proxy: Arc<Proxy<N>>,
    hosts: Arc<Hosts>,
    stop: CancellationToken,
) {
    let limits = proxy.limits();
    let io = TokioIo::new(Unstalled::new(stream, limits.write_stall));
    let head_timeout = limits.head_timeout;
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, hosts) = (Arc::clone(&proxy), Arc::clone(&hosts));
        async move { Ok::<Response<Body>, Infallible>(proxy.answer(request.map(Body::new), &hosts).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // An error here is the client's: it went away or did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
