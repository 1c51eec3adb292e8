//! Incoming connections: admitted within bounds, answered only after they have proved that they know this node.
//!
//! A connection that never sends a valid first message gets no byte and no early close: it is read and forgotten until a
//! random moment, so that a prober cannot tell Warren from a service that waits for more input. One exception is stated
//! openly: when too many strangers knock at once, connections are closed on arrival.

use std::{io, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use warren_proto::link::{HandshakeError, ReplayError};

use super::{
    Net,
    handshake::{self, Fault},
    limits::{Offence, Slot},
    link_task,
};
use crate::log::PeerAddr;

/// Connections that the kernel completes ahead of us. More than a burst of a full neighbourhood coming back at once.
const BACKLOG: u32 = 256;

/// Pause after the system refuses to accept (out of file descriptors): trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A handshake is over within this, or the connection is closed. Two round trips over the worst satellite path and a busy
/// node; a prober's connection lives at least as long.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a silenced prober that are read at least and at most before its connection is closed. Random between, so that
/// the close says nothing about where the input went wrong.
const SWALLOW: Range<usize> = 4 * 1024..64 * 1024;

/// Opens a listening socket. An IPv6 wildcard takes IPv6 only, so that both families can listen on one port.
///
/// # Errors
/// The system's: the address is in use, or not this machine's.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the node stops.
pub(crate) async fn serve(net: Arc<Net>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = net.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                if net.registry.is_paused() {
                    continue;
                }
                if !net.may_knock(from.ip()) {
                    net.gate.count_denied();
                    continue;
                }
                if let Some(slot) = net.gate.admit(net.clock.now(), from.ip()) {
                    let net = Arc::clone(&net);
                    net.tasks.clone().spawn(incoming(net, stream, from, slot));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn incoming(net: Arc<Net>, mut stream: TcpStream, from: SocketAddr, slot: Slot) {
    let deadline = Instant::now() + HANDSHAKE_DEADLINE;
    let answered = tokio::select! {
        () = net.stop.cancelled() => return,
        answered = timeout_at(deadline, handshake::respond(&net, &mut stream)) => answered,
    };
    match answered {
        Ok(Ok(established)) => {
            drop(slot);
            if net.registry.len() >= net.max_links() {
                net.gate.count_crowded();
                return;
            }
            tracing::debug!(peer = %PeerAddr(from), "link accepted");
            link_task::spawn(&net, stream, established, from, None);
        }
        Ok(Err(Fault::Handshake(error))) => {
            let offence = if error.is_innocent() {
                Offence::Innocent
            } else {
                Offence::Handshake
            };
            net.gate.offend(net.clock.now(), from.ip(), offence);
            if let HandshakeError::Replay(ReplayError::Clock { hour }) = error {
                net.clocks.refused(net.clock.now(), from.ip(), hour);
            }
            tracing::debug!(peer = %PeerAddr(from), %error, "handshake refused");
            swallow(&net, stream, deadline, slot).await;
        }
        Ok(Err(Fault::Gone(_))) => {}
        Err(_) => {
            net.gate.offend(net.clock.now(), from.ip(), Offence::Late);
            swallow(&net, stream, deadline, slot).await;
        }
    }
}

/// Reads and forgets, until the deadline and a random while more, or a random number of bytes.
async fn swallow(net: &Net, stream: TcpStream, deadline: Instant, slot: Slot) {
    let place = net.gate.swallow();
    // Its place among the silenced is bounded separately: honest dialers may have the slot.
    drop(slot);
    let until = deadline + HANDSHAKE_DEADLINE.mul_f64(net.random_fraction());
    let mut left = net.random_between(SWALLOW);
    let mut scratch = [0; 2048];
    let read_all = async {
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut scratch) {
                Ok(0) => return,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if left == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = read_all => {}
        () = place.evicted() => {}
        () = sleep_until(until) => {}
        () = net.stop.cancelled() => {}
    }
}
