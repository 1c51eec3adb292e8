//! A proxy in front of every node, and a line between each two nodes that can be made slow, stopped or cut while it carries.
//!
//! A node advertises its *door*: an address at which the proxy listens. Whoever connects there is known by the address that it dials
//! from, which every node has for itself (in 127.0.0.0/8, or in a network namespace of its own). The proxy goes on to the node from that
//! same address where the machine allows, so that for both ends nothing is in between.
//!
//! Invariants: bytes come in the order in which they were sent, or the connection ends; a stopped line loses nothing and says nothing,
//! as a network that drops every packet looks to the two ends of a TCP connection; what a line holds is bounded, so a stopped one
//! holds its sender back.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Bytes that are carried at a time.
const CHUNK: usize = 16 << 10;

/// Chunks on their way in one direction of one connection: 1 MiB, which is what a line of 100 Mbit/s and 80 ms holds.
const CHUNKS: usize = 64;

/// A node's system gives up a connection on which nothing comes back for so long (protocol §5.3).
const KEEPALIVE: Duration = Duration::from_secs(35);

/// Whether a line carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flow {
    /// It does.
    #[default]
    Open,
    /// Nothing passes for now; nothing is lost, unless it lasts so long that the systems at both ends would give the connection up.
    /// A new connection is accepted and hears nothing.
    Stalled,
    /// Connections end at once, and new ones too.
    Cut,
}

/// The line between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// Whether it carries.
    pub flow: Flow,
    /// How long a byte takes.
    pub latency: Duration,
    /// How much longer it may take, at random.
    pub jitter: Duration,
}

/// All lines. They end when this goes out of scope.
pub struct Lines {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    seed: u64,
    /// Who dials from where.
    sources: Mutex<BTreeMap<IpAddr, usize>>,
    /// Lines by their two ends, the smaller number first.
    lines: Mutex<BTreeMap<(usize, usize), watch::Sender<Line>>>,
    connections: AtomicU64,
    strangers: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// No doors yet. The seed decides the jitter.
    ///
    /// # Panics
    /// When the system has no thread for it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // One thread: what it does to a byte is little, and the nodes need the processors.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self {
            shared: Arc::new(Shared {
                seed,
                sources: Mutex::default(),
                lines: Mutex::default(),
                connections: AtomicU64::new(0),
                strangers: AtomicU64::new(0),
            }),
            runtime: Some(runtime.unwrap()),
        }
    }

    /// Opens a door at `address` (port 0 takes a free one) that leads to node `number` at `node`, which dials from `source`. Returns where
    /// the door is.
    ///
    /// # Panics
    /// When the address is not free.
    pub fn open(&self, number: usize, address: SocketAddr, source: IpAddr, node: SocketAddr) -> SocketAddr {
        lock(&self.shared.sources).insert(source, number);
        let runtime = self.runtime.as_ref().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let door = listener.local_addr().unwrap();
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                shared.join(stream, from.ip(), number, node);
            }
        });
        door
    }

    /// Changes the line between two nodes.
    pub fn set(&self, one: usize, other: usize, change: impl FnOnce(&mut Line)) {
        self.shared.line(one, other).send_modify(change);
    }

    /// Changes the lines between every two of `count` nodes; `change` gets the two numbers, the smaller first.
    pub fn set_all(&self, count: usize, mut change: impl FnMut(usize, usize, &mut Line)) {
        for one in 0..count {
            for other in one + 1..count {
                self.set(one, other, |line| change(one, other, line));
            }
        }
    }

    /// Connections through all doors so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections to doors from addresses that are no node's: there must be none, or lines do not do what they are told.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.shared.strangers.load(Ordering::Relaxed)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn line(&self, one: usize, other: usize) -> watch::Sender<Line> {
        let ends = (one.min(other), one.max(other));
        lock(&self.lines).entry(ends).or_default().clone()
    }

    fn join(&self, stream: TcpStream, from: IpAddr, to: usize, node: SocketAddr) {
        let Some(who) = lock(&self.sources).get(&from).copied() else {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let line = self.line(who, to).subscribe();
        let seed = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Its end says nothing that the two nodes do not learn by themselves.
        tokio::spawn(async move { carry(line, stream, from, node, seed).await.ok() });
    }
}

/// Waits until the line carries; an error when it is cut.
async fn open(line: &mut watch::Receiver<Line>) -> io::Result<Line> {
    let line = line.wait_for(|line| line.flow != Flow::Stalled).await;
    match line {
        Ok(line) if line.flow == Flow::Open => Ok(*line),
        _ => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// One connection, from its first byte to its end.
async fn carry(
    mut line: watch::Receiver<Line>,
    client: TcpStream,
    from: IpAddr,
    to: SocketAddr,
    seed: u64,
) -> io::Result<()> {
    let now = open(&mut line).await?;
    sleep(now.latency * 2).await;
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if from.is_loopback() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let node = socket.connect(to).await?;
    client.set_nodelay(true)?;
    node.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let inwards = pump(from_client, to_node, line.clone(), seed);
    let outwards = pump(from_node, to_client, line.clone(), !seed);
    tokio::select! {
        _ = async { tokio::join!(inwards, outwards) } => {}
        // Ends both sockets.
        () = given_up(line.clone()) => {}
        _ = line.wait_for(|line| line.flow == Flow::Cut) => {}
    }
    Ok(())
}

/// Ends when the line has stood still for so long that TCP's keepalive would have found it dead. The proxy's own system answers the
/// nodes' probes, as no line that is cut does.
async fn given_up(mut line: watch::Receiver<Line>) {
    while line.wait_for(|line| line.flow == Flow::Stalled).await.is_ok() {
        let moves = line.wait_for(|line| line.flow != Flow::Stalled);
        if timeout(KEEPALIVE, moves).await.is_err() {
            return;
        }
    }
    // The lines are gone, and all connections with them.
    std::future::pending().await
}

/// Carries one direction until its end, and then ends the other socket's.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, line: watch::Receiver<Line>, seed: u64) {
    let (send, queue) = mpsc::channel(CHUNKS);
    let send = fill(from, send, line.clone(), seed);
    tokio::join!(send, empty(queue, to, line));
}

async fn fill(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    line: watch::Receiver<Line>,
    seed: u64,
) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut last = Instant::now();
    loop {
        let mut bytes = Vec::with_capacity(CHUNK);
        if !matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
        let Line { latency, jitter, .. } = *line.borrow();
        let part = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        last = last.max(Instant::now() + latency + jitter.mul_f64(part));
        if queue.send((last, bytes)).await.is_err() {
            return;
        }
    }
}

async fn empty(
    mut queue: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) {
    while let Some((due, bytes)) = queue.recv().await {
        sleep_until(due).await;
        if open(&mut line).await.is_err() || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // An end takes the same way as bytes do.
    if open(&mut line).await.is_ok() {
        to.shutdown().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpListener, TcpStream},
        thread,
    };

    use super::*;

    /// A line between this machine and itself: whoever connects from 127.0.0.1 is node 0.
    fn echo() -> (Lines, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let node = listener.local_addr().unwrap();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut copy = stream.try_clone().unwrap();
                thread::spawn(move || io::copy(&mut stream, &mut copy).ok());
            }
        });
        let lines = Lines::new(1);
        let door = lines.open(
            0,
            (Ipv4Addr::LOCALHOST, 0).into(),
            Ipv4Addr::LOCALHOST.into(),
            node,
        );
        (lines, door)
    }

    #[test]
    fn a_line_carries_late_stops_without_loss_and_ends_when_cut() {
        let (lines, door) = echo();
        lines.set(0, 0, |line| line.latency = Duration::from_millis(20));
        let mut stream = TcpStream::connect(door).unwrap();
        let mut bytes = [0; 5];
        let started = std::time::Instant::now();
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut bytes).unwrap();
        // Connecting takes two latencies, and the bytes one each way.
        assert!(started.elapsed() >= Duration::from_millis(80));
        assert_eq!(&bytes, b"hello");

        lines.set(0, 0, |line| line.flow = Flow::Stalled);
        stream.write_all(b"again").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read_exact(&mut bytes).is_err(), "nothing passes");
        stream.set_read_timeout(None).unwrap();
        lines.set(0, 0, |line| line.flow = Flow::Open);
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"again");

        lines.set(0, 0, |line| line.flow = Flow::Cut);
        assert!(!matches!(stream.read(&mut bytes), Ok(1..)), "it has ended");
        let mut next = TcpStream::connect(door).unwrap();
        assert!(!matches!(next.read(&mut bytes), Ok(1..)), "it is refused");
        assert_eq!((lines.connections(), lines.strangers()), (2, 0));
    }
}
