//! Drives the handshake machines over a socket. Deadlines are the callers'.

use std::io;

use bytes::{Buf, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::net::TcpStream;
use warren_proto::{
    core::api::DialTarget,
    link::{Established, HandshakeError, Initiator, Remote, Responder, Step},
};

use super::Net;
use crate::aead::RingAead;

/// Bytes read at a time: more than any handshake message.
const READ: usize = 1500;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The peer sent something that is not the handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Gone(#[from] io::Error),
}

/// Answers a handshake. Nothing is written before the first message has proved that its sender knows this node.
pub(crate) async fn respond(net: &Net, stream: &mut TcpStream) -> Result<Established<RingAead>, Fault> {
    let rng = ChaCha20Rng::from_seed(net.random_seed());
    let mut machine = Responder::new(&net.secrets, net.network, net.cipher, rng);
    let mut out = BytesMut::new();
    loop {
        let step = read_some(stream, |received| {
            machine.receive(received, net.clock.wall(), &mut net.replays(), &mut out)
        })
        .await??;
        write_all(stream, &mut out).await?;
        match step {
            Step::Done(established) => return Ok(established),
            Step::More(more) => machine = more,
        }
    }
}

/// Begins a handshake with a node.
pub(crate) async fn initiate(
    net: &Net,
    stream: &mut TcpStream,
    target: &DialTarget,
) -> Result<Established<RingAead>, Fault> {
    let rng = ChaCha20Rng::from_seed(net.random_seed());
    let remote = Remote {
        node: target.node,
        link_key: target.link_key,
    };
    let mut out = BytesMut::new();
    let (network, cipher, now) = (net.network, net.cipher, net.clock.wall());
    let mut machine = Initiator::start(&net.secrets, remote, network, cipher, now, rng, &mut out)?;
    loop {
        write_all(stream, &mut out).await?;
        match read_some(stream, |received| machine.receive(received, &mut out)).await?? {
            Step::Done(established) => {
                write_all(stream, &mut out).await?;
                return Ok(established);
            }
            Step::More(more) => machine = more,
        }
    }
}

/// Waits for bytes and passes them on. The buffer lives only while it is used, so a waiting handshake holds none.
async fn read_some<T>(stream: &TcpStream, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; READ];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => return Ok(take(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(stream: &TcpStream, out: &mut BytesMut) -> io::Result<()> {
    while out.has_remaining() {
        stream.writable().await?;
        match stream.try_write(out) {
            Ok(count) => out.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
