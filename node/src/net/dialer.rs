//! Outgoing connections: a node's addresses in order, each with a deadline, and the result to the core.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use warren_proto::core::api::{CoreInput, DialTarget};

use super::{
    Net,
    handshake::{self, Fault},
    link_task,
    listener::HANDSHAKE_DEADLINE,
};
use crate::log::PeerAddr;

/// A TCP connection stands within this or the next address is tried. Two SYN retransmissions.
const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

/// Addresses of one node that are tried. Descriptors may hold no more that are worth it: one or two of each family.
const MAX_ADDRESSES: usize = 4;

/// Dials in progress at once. A node that has lost all its links dials 32 neighbours; more would look like a scan.
const MAX_DIALS: usize = 48;

/// Starts a dial; ends in a link, or in [`CoreInput::DialFailed`].
pub(crate) fn dial(net: &Arc<Net>, target: Box<DialTarget>) {
    let permit = Arc::clone(&net.dials).try_acquire_owned().ok();
    let Some(permit) = permit.filter(|_| !net.registry.is_paused()) else {
        net.tell_core(CoreInput::DialFailed(target.node));
        return;
    };
    let net = Arc::clone(net);
    net.tasks.clone().spawn(async move {
        let connected = tokio::select! {
            () = net.stop.cancelled() => return,
            connected = try_addresses(&net, &target) => connected,
        };
        drop(permit);
        if !connected {
            net.tell_core(CoreInput::DialFailed(target.node));
        }
    });
}

/// How many dials may be in progress.
pub(crate) fn permits() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(MAX_DIALS))
}

async fn try_addresses(net: &Arc<Net>, target: &DialTarget) -> bool {
    for address in target.addresses.iter().take(MAX_ADDRESSES) {
        match connect(net, target, *address).await {
            Ok(()) => return true,
            Err(error) => tracing::debug!(peer = %PeerAddr(*address), %error, "cannot link"),
        }
    }
    false
}

async fn connect(net: &Arc<Net>, target: &DialTarget, address: SocketAddr) -> Result<(), Fault> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut stream = timeout(CONNECT_DEADLINE, connect_tcp(&net.dial_from, address))
        .await
        .map_err(late)??;
    let established = timeout(HANDSHAKE_DEADLINE, handshake::initiate(net, &mut stream, target)).await;
    let established = established.map_err(late)??;
    link_task::spawn(net, stream, established, address, Some(target.node));
    Ok(())
}

/// Connects, from the address of `from` that is of the same family if there is one.
async fn connect_tcp(from: &[IpAddr], address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(own) = from.iter().find(|own| own.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(*own, 0))?;
    }
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// Everything in 127.0.0.0/8 is this machine's own on Linux only.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_leave_from_the_named_address_of_their_family() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (v6, v4) = (IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from([127, 0, 0, 7]));
        for (from, seen) in [
            (vec![v6, v4], v4),
            (vec![v6], address.ip()),
            (vec![], address.ip()),
        ] {
            let stream = connect_tcp(&from, address).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
            assert_eq!(peer.ip(), seen);
        }
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        assert!(
            connect_tcp(&[elsewhere], address).await.is_err(),
            "not this machine's"
        );
    }
}
