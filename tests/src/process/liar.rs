//! A seed that lies about everyone: a node's own handshake and descriptor, the protocol's link machine over real sockets, and behind it
//! nothing but inventions.
//!
//! Whoever asks it for nodes, or announces itself over it, is told of identities that do not exist, of nodes as they were a month
//! ago or will be, and of the same ones again; it tells so unasked, too, all the time. What it finds is never there. All of that an
//! honest node could say by mistake, so nobody ends a link for it; when told to ([`Liar::forge`]), it also says what none can.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{IdentityKey, NodeId, Seed};
use warren_node::aead::{RingAead, best_cipher};
use warren_proto::{
    descriptor::{Descriptor, Host, NodeReference, NodeSecrets, Services, Statement},
    ids::LinkId,
    link::{
        Established, Link, LinkConfig, ReplayCache, Responder, Step,
        api::{LinkCommand, LinkEvent, LinkOutput},
    },
    network::Network,
    time::{Time, WallTime},
    wire::{Announce, Frame, MAX_ANNOUNCED, MAX_DESCRIPTORS, Routed},
};

/// Between two unasked lies on a link.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const PIECE: usize = 16 << 10;
const DAY: u64 = 24 * 3600;

/// The seed. Its threads end with the test's process.
pub struct Liar(Arc<Shared>);

struct Shared {
    secrets: Arc<NodeSecrets>,
    descriptor: Arc<Descriptor>,
    network: Network,
    address: SocketAddr,
    /// Where most of the invented nodes are said to be; the others are where nobody listens.
    trap: SocketAddr,
    /// Connections there, and from where.
    knocks: Mutex<Vec<IpAddr>>,
    /// Nodes invented so far.
    invented: AtomicU64,
    forging: AtomicBool,
    links: AtomicUsize,
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(since.map_or(0, |time| time.as_secs()))
}

impl Liar {
    /// Starts lying to the nodes of a network.
    ///
    /// # Panics
    /// When the system gives no address.
    pub fn start(network: &str) -> Self {
        let network: Network = network.parse().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0);
        let (door, trap) = (TcpListener::bind(any).unwrap(), TcpListener::bind(any).unwrap());
        let address = door.local_addr().unwrap();
        let secrets = NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes([0xee; 32])));
        let statement = Statement {
            addresses: vec![address],
            services: Services::ALL,
            published: wall().0,
            ..secrets.statement()
        };
        let shared = Arc::new(Shared {
            descriptor: Arc::new(secrets.sign(statement, &network)),
            secrets: Arc::new(secrets),
            network,
            address,
            trap: trap.local_addr().unwrap(),
            knocks: Mutex::default(),
            invented: AtomicU64::new(0),
            forging: AtomicBool::new(false),
            links: AtomicUsize::new(0),
        });
        let at_trap = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in trap.incoming().flatten() {
                let from = stream.peer_addr().map(|peer| peer.ip());
                let mut knocks = at_trap.knocks.lock().unwrap_or_else(PoisonError::into_inner);
                knocks.extend(from);
            }
        });
        let at_door = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, stream) in (0..).zip(door.incoming().flatten()) {
                let shared = Arc::clone(&at_door);
                // However it ends, it is only a liar's link.
                thread::spawn(move || shared.serve(number, stream).ok());
            }
        });
        Self(shared)
    }

    /// How to find it.
    pub fn reference(&self) -> String {
        let reference = NodeReference {
            node: self.node(),
            link_key: self.0.secrets.link_public().to_bytes(),
            host: Host::Ip(self.0.address.ip()),
            port: self.0.address.port(),
        };
        reference.to_string()
    }

    /// Who it is.
    pub fn node(&self) -> NodeId {
        self.0.secrets.id()
    }

    /// How many identities it has invented and told of.
    pub fn invented(&self) -> u64 {
        self.0.invented.load(Ordering::Relaxed)
    }

    /// How many links it has had.
    pub fn links(&self) -> usize {
        self.0.links.load(Ordering::Relaxed)
    }

    /// How often somebody at `from` has tried to reach nodes that it invented.
    ///
    /// # Panics
    /// Never.
    pub fn knocks(&self, from: IpAddr) -> usize {
        let knocks = self.0.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        knocks.iter().filter(|knock| **knock == from).count()
    }

    /// From now on it says what no honest node says: descriptors that nobody signed for this network.
    pub fn forge(&self) {
        self.0.forging.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn serve(&self, number: u64, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let established = self.shake_hands(number, &mut stream)?;
        stream.set_read_timeout(Some(PAUSE))?;
        self.links.fetch_add(1, Ordering::Relaxed);
        let config = LinkConfig {
            id: LinkId(number),
            secrets: Arc::clone(&self.secrets),
            descriptor: Arc::clone(&self.descriptor),
            network: self.network,
            dialled: None,
            remote: stream.peer_addr().ok(),
            seed: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        };
        let begun = Instant::now();
        let now = || Time(0) + begun.elapsed();
        let mut link: Link<RingAead> = Link::new(now(), established, config);
        link.received(now());
        let (mut piece, mut lied) = (vec![0; PIECE], begun);
        // What the other end said of itself first, to be told again for ever.
        let mut peer = None;
        while link.close_reason().is_none() {
            while let Some(output) = link.poll_output() {
                let LinkOutput::Core(event) = output else { continue };
                let answer = match event {
                    LinkEvent::Up { peer: other, .. } => {
                        peer = Some(*other);
                        None
                    }
                    LinkEvent::Gossip(Frame::AskDescriptors { .. }) => {
                        Some(Frame::Descriptors(self.lies(MAX_DESCRIPTORS, peer.as_ref())))
                    }
                    LinkEvent::Gossip(Frame::Announce(announce)) => {
                        let Announce { id, .. } = *announce;
                        let descriptors = self.lies(MAX_ANNOUNCED, peer.as_ref());
                        Some(Frame::Announced { id, descriptors })
                    }
                    LinkEvent::Routed(Routed::Request { id, branches, .. }) => {
                        Some(Frame::Routed(Routed::NotFound { id, branches }))
                    }
                    _ => None,
                };
                if let Some(answer) = answer {
                    link.command(now(), LinkCommand::Send(answer));
                }
            }
            if peer.is_some() && lied.elapsed() >= PAUSE {
                lied = Instant::now();
                let lies = if self.forging.load(Ordering::Relaxed) {
                    self.forged()
                } else {
                    self.lies(MAX_DESCRIPTORS, peer.as_ref())
                };
                link.command(now(), LinkCommand::Send(Frame::Descriptors(lies)));
            }
            if link.poll_timeout().is_some_and(|due| due <= now()) {
                link.handle_timeout(now());
            }
            while let Some(records) = link.poll_transmit(now(), PIECE) {
                stream.write_all(&records)?;
            }
            match stream.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    link.buffer().extend_from_slice(&piece[..count]);
                    link.received(now());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn shake_hands(&self, number: u64, stream: &mut TcpStream) -> io::Result<Established<RingAead>> {
        let rng = ChaCha20Rng::seed_from_u64(number);
        let mut machine = Responder::new(&self.secrets, self.network, best_cipher(), rng);
        let (mut piece, mut out) = ([0; 1500], BytesMut::new());
        let mut replays = ReplayCache::new();
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let step = machine.receive(&piece[..count], wall(), &mut replays, &mut out);
            let step = step.map_err(io::Error::other)?;
            stream.write_all(&out.split())?;
            machine = match step {
                Step::More(machine) => machine,
                Step::Done(established) => return Ok(established),
            };
        }
    }

    /// What an honest node could say by mistake.
    fn lies(&self, count: usize, peer: Option<&Descriptor>) -> Vec<Descriptor> {
        let lie = |place: usize| match (place % 8, peer) {
            // What whoever hears it said itself, a while ago.
            (0, Some(peer)) => peer.clone(),
            (1, _) => self.invent(wall().0 - 30 * DAY, self.network),
            (2, _) => self.invent(wall().0 + 3 * DAY, self.network),
            _ => self.invent(wall().0, self.network),
        };
        (0..count).map(lie).collect()
    }

    /// What none can say: signed for another network.
    fn forged(&self) -> Vec<Descriptor> {
        let other = "elsewhere".parse().expect("a valid name");
        vec![self.invent(wall().0, other)]
    }

    fn invent(&self, published: u64, network: Network) -> Descriptor {
        let number = self.invented.fetch_add(1, Ordering::Relaxed);
        let key = IdentityKey::from_seed(&Seed::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()));
        // Port 1 is nobody's.
        let nowhere = SocketAddr::new(self.trap.ip(), 1);
        let statement = Statement {
            identity: key.id(),
            link_key: *blake3::hash(b"a key of nobody").as_bytes(),
            onion_key: *blake3::hash(b"another one").as_bytes(),
            addresses: vec![if number.is_multiple_of(4) {
                nowhere
            } else {
                self.trap
            }],
            services: Services::ALL,
            published,
        };
        Descriptor::sign(&key, statement, &network)
    }
}
