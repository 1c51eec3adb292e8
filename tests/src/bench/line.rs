//! A slow line: TCP in front of a node that carries every byte later by a fixed time, whatever the load.
//!
//! Threads and plain sleeps, because timers of an asynchronous runtime are too coarse to emulate milliseconds with.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Bytes read at a time.
const PIECE: usize = 64 << 10;
/// Pieces under way in one direction, beyond which the sender is held back: 64 MiB, far more than a benchmark sends in one delay.
const UNDER_WAY: usize = 1024;

/// A listening line. It ends with its process, and its connections with their ends.
pub(super) struct Line {
    /// Where it listens: what the node behind it advertises.
    pub(super) address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
}

impl Line {
    /// Listens; connections come to nothing until [`Line::lead_to`] says where they go.
    ///
    /// # Errors
    /// When there is no free port.
    pub(super) fn listen(delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let target = Arc::new(OnceLock::new());
        let known = Arc::clone(&target);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Some(node) = known.get().and_then(|to| TcpStream::connect(to).ok()) {
                    // Without two handles each the connection just ends.
                    join(client, node, delay).ok();
                }
            }
        });
        Ok(Self { address, target })
    }

    /// Says where the node is; the first word counts.
    pub(super) fn lead_to(&self, target: SocketAddr) {
        self.target.get_or_init(|| target);
    }
}

fn join(client: TcpStream, node: TcpStream, delay: Duration) -> std::io::Result<()> {
    for end in [&client, &node] {
        end.set_nodelay(true)?;
    }
    carry(client.try_clone()?, node.try_clone()?, delay);
    carry(node, client, delay);
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, pieces) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send
                .send((Instant::now() + delay, buffer[..count].to_vec()))
                .is_err()
            {
                break;
            }
        }
        // Whoever still sends here learns that nobody reads.
        from.shutdown(Shutdown::Read).ok();
    });
    thread::spawn(move || {
        for (due, bytes) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_bytes_no_sooner_than_the_delay() {
        let delay = Duration::from_millis(3);
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let line = Line::listen(delay).unwrap();
        line.lead_to(node.local_addr().unwrap());
        let mut near = TcpStream::connect(line.address).unwrap();
        let (mut far, _) = node.accept().unwrap();
        let begun = Instant::now();
        near.write_all(b"there").unwrap();
        let mut bytes = [0; 5];
        far.read_exact(&mut bytes).unwrap();
        far.write_all(b"back!").unwrap();
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"back!");
        assert!(begun.elapsed() >= 2 * delay);
    }
}
