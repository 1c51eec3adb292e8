//! TCP in between: a relay in front of a node, which records every byte and, when told so, changes what passes.
//!
//! It stands for whoever owns the line. It knows no keys; where records begin it finds as any watcher would, by counting.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes of a record on a link.
pub const RECORD: usize = 4096;

/// Bytes that a handshake takes inwards: messages 1 and 3 (protocol §4.2).
pub const HANDSHAKE_IN: RangeInclusive<usize> = 121 + 98..=632 + 609;

/// Bytes that a handshake takes outwards: message 2.
pub const HANDSHAKE_OUT: RangeInclusive<usize> = 116..=627;

/// What the relay does, once, to two whole records on their way to the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    /// The second goes first.
    Swap,
    /// The first goes twice.
    Repeat,
    /// The first is left out.
    Omit,
    /// One bit of the second is changed.
    Flip,
    /// In the place of the second come random bytes.
    Replace,
    /// The second is cut in the middle, and nothing follows.
    Cut,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From who connected to the node.
    In,
    /// From the node.
    Out,
}

/// One connection through a relay.
pub struct Connection {
    captured: [Mutex<Vec<u8>>; 2],
    sockets: [TcpStream; 2],
    open: AtomicUsize,
}

impl Connection {
    /// What has passed one way, as it was sent.
    pub fn captured(&self, way: Way) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.captured[way as usize])
    }

    /// Whether either way still carries bytes.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }
}

struct Shared {
    target: OnceLock<SocketAddr>,
    connections: Mutex<Vec<Arc<Connection>>>,
    tamper: Mutex<Option<Tamper>>,
    stop: AtomicBool,
}

/// A listening relay; its connections end when it goes out of scope.
pub struct Relay {
    /// Where it listens: what the node behind it advertises.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens; connections wait until [`Relay::lead_to`] says where to.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: OnceLock::new(),
            connections: Mutex::default(),
            tamper: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    accepting.join(stream);
                }
            }
        });
        Self { address, shared }
    }

    /// Says where the node is.
    ///
    /// # Panics
    /// When that has been said.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.target.set(target).unwrap();
    }

    /// All connections so far.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.shared.connections).clone()
    }

    /// Does this to the next two records that go to the node. Must be said while nothing is on its way.
    pub fn tamper(&self, tamper: Tamper) {
        *lock(&self.shared.tamper) = Some(tamper);
    }

    /// Whether what was asked for has been done.
    pub fn has_tampered(&self) -> bool {
        lock(&self.shared.tamper).is_none()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        TcpStream::connect(self.address).ok();
        for connection in self.connections() {
            for socket in &connection.sockets {
                socket.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream) {
        let Some(target) = self.target.get() else { return };
        let Ok(node) = TcpStream::connect(target) else {
            return;
        };
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        for stream in [&client, &node] {
            stream.set_nodelay(true).unwrap();
        }
        let connection = Arc::new(Connection {
            captured: Default::default(),
            sockets: [clone(&client), clone(&node)],
            open: AtomicUsize::new(2),
        });
        lock(&self.connections).push(Arc::clone(&connection));
        for (way, from, to) in [(Way::In, clone(&client), clone(&node)), (Way::Out, node, client)] {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            thread::spawn(move || {
                pump(&shared, &connection, way, &from, &to);
                connection.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

/// Carries one way's bytes until its end, and ends the other socket's way.
fn pump(shared: &Shared, connection: &Connection, way: Way, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    let mut held = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        connection.captured(way).extend_from_slice(bytes);
        held.extend_from_slice(bytes);
        if way == Way::In {
            let mut tamper = lock(&shared.tamper);
            if let Some(what) = *tamper {
                if held.len() < 2 * RECORD {
                    continue;
                }
                *tamper = None;
                if !apply(what, &mut held) {
                    to.write_all(&held).ok();
                    break;
                }
            }
        }
        if to.write_all(&held).is_err() {
            break;
        }
        held.clear();
    }
    to.shutdown(Shutdown::Write).ok();
    // Whoever still sends here learns that nobody reads.
    from.shutdown(Shutdown::Read).ok();
}

/// Changes the first two records; false when nothing may follow.
fn apply(tamper: Tamper, held: &mut Vec<u8>) -> bool {
    match tamper {
        Tamper::Swap => held[..2 * RECORD].rotate_left(RECORD),
        Tamper::Repeat => {
            let first = held[..RECORD].to_vec();
            held.splice(..0, first);
        }
        Tamper::Omit => drop(held.drain(..RECORD)),
        Tamper::Flip => held[RECORD + RECORD / 2] ^= 1,
        Tamper::Replace => {
            let random = super::data::RandomFile::new(11, RECORD as u64).bytes();
            held[RECORD..2 * RECORD].copy_from_slice(&random);
        }
        Tamper::Cut => {
            held.truncate(RECORD + RECORD / 2);
            return false;
        }
    }
    true
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
