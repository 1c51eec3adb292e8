//! Connections to the proxy: [`crate::http`] within the [`Limits`](super::Limits).

use std::{io, sync::Arc, time::Duration};

use axum::body::Body;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Proxy, guard::Hosts, limits::Unstalled};
use crate::{client::Network, http};

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
    let mut connections = JoinSet::new();
    let run = http::accept(
        &listener,
        proxy.limits().connections,
        &mut connections,
        |stream| serve_connection(stream, Arc::clone(&proxy), Arc::clone(&hosts), stop.clone()),
    );
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
    let stream = Unstalled::new(stream, limits.write_stall);
    http::connection(
        stream,
        limits.head_timeout,
        &proxy.settings.refusals,
        &stop,
        |request| {
            let (proxy, hosts) = (Arc::clone(&proxy), Arc::clone(&hosts));
            async move { proxy.answer(request.map(Body::new), &hosts).await }
        },
    )
    .await;
}
