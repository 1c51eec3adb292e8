//! A client of circuits and nothing else: the protocol's own link machine over a socket. It opens circuits as fast as it is told to, and
//! as many, where a node opens what its user needs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::BlockId;
use warren_node::aead::{RingAead, best_cipher};
use warren_proto::{
    descriptor::{Descriptor, Host, NodeReference, NodeSecrets, Statement},
    ids::{LinkId, OriginId},
    link::{
        Established, Initiator, Link, LinkConfig, Remote, Step,
        api::{LinkCommand, LinkEvent, LinkOutput},
    },
    network::Network,
    time::{Time, WallTime},
    wire::{ExitOp, ExitRequest},
};

/// A node that says nothing for so long does not work.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const PIECE: usize = 64 << 10;
/// Failed branches that a request allows its exit.
const BRANCHES: u8 = 1;

/// One client, on one link.
pub struct CircuitClient {
    stream: TcpStream,
    link: Link<RingAead>,
    begun: Instant,
    peer: Option<Descriptor>,
    opened: u64,
    ready: u64,
    asked: u32,
    answered: u32,
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(since.map_or(0, |time| time.as_secs()))
}

impl CircuitClient {
    /// Links to a node; the identity follows from `seed`.
    ///
    /// # Errors
    /// When the node does not answer as one.
    pub fn dial(network: Network, node: &NodeReference, seed: u64) -> anyhow::Result<Self> {
        let Host::Ip(ip) = node.host else {
            bail!("a node of a benchmark has an address, not a name")
        };
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secrets = NodeSecrets::generate(&mut rng);
        let mut stream = TcpStream::connect(SocketAddr::new(ip, node.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let remote = Remote {
            node: node.node,
            link_key: node.link_key,
        };
        let established = shake_hands(&mut stream, &secrets, remote, network, rng)?;
        let statement = Statement {
            published: wall().0,
            ..secrets.statement()
        };
        let config = LinkConfig {
            id: LinkId(seed),
            descriptor: Arc::new(secrets.sign(statement, &network)),
            secrets: Arc::new(secrets),
            network,
            dialled: Some(node.node),
            remote: Some(SocketAddr::new(ip, node.port)),
            seed: *blake3::hash(&seed.to_le_bytes()).as_bytes(),
        };
        let begun = Instant::now();
        let mut client = Self {
            stream,
            link: Link::new(Time(0), established, config),
            begun,
            peer: None,
            opened: 0,
            ready: 0,
            asked: 0,
            answered: 0,
        };
        client.link.received(Time(0));
        client.drive(|client| client.peer.is_some())?;
        Ok(client)
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// Never, after [`CircuitClient::dial`].
    pub fn peer(&self) -> anyhow::Result<&Descriptor> {
        self.peer.as_ref().context("not introduced")
    }

    /// Opens `count` circuits over the same path, all at once, and waits until they stand.
    ///
    /// # Errors
    /// When one does not.
    pub fn open(&mut self, path: &[&Descriptor], count: u64) -> anyhow::Result<()> {
        for _ in 0..count {
            let origin = OriginId(self.opened);
            let path = path.iter().copied().cloned().collect();
            self.opened += 1;
            self.link
                .command(self.now(), LinkCommand::OpenOrigin { origin, path });
        }
        self.drive(|client| client.ready == client.opened)
    }

    /// Asks for a block through each of the last `circuits` circuits, and waits for the answers.
    ///
    /// # Errors
    /// When one does not come.
    pub fn ask(&mut self, block: BlockId, circuits: u64) -> anyhow::Result<()> {
        for number in self.opened.saturating_sub(circuits)..self.opened {
            let op = ExitOp::Fetch {
                block,
                branches: BRANCHES,
                wait: false,
            };
            let request = ExitRequest { id: self.asked, op };
            self.asked += 1;
            let origin = OriginId(number);
            self.link
                .command(self.now(), LinkCommand::OriginSend { origin, request });
        }
        self.drive(|client| client.answered == client.asked)
    }

    /// Asks for a block `each` times through each of the last `circuits` circuits, and takes nothing in.
    ///
    /// # Errors
    /// When the node does not listen.
    pub fn ask_and_not_listen(&mut self, block: BlockId, circuits: u64, each: u32) -> anyhow::Result<()> {
        for number in self.opened.saturating_sub(circuits)..self.opened {
            for _ in 0..each {
                let op = ExitOp::Fetch {
                    block,
                    branches: BRANCHES,
                    wait: false,
                };
                let request = ExitRequest { id: self.asked, op };
                self.asked += 1;
                let origin = OriginId(number);
                self.link
                    .command(self.now(), LinkCommand::OriginSend { origin, request });
            }
        }
        while let Some(records) = self.link.poll_transmit(self.now(), PIECE) {
            self.stream.write_all(&records)?;
        }
        Ok(())
    }

    fn now(&self) -> Time {
        Time(0) + self.begun.elapsed()
    }

    /// Moves bytes until it is `done`.
    fn drive(&mut self, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            while let Some(output) = self.link.poll_output() {
                if let LinkOutput::Core(event) = output {
                    self.take(event)?;
                }
            }
            while let Some(records) = self.link.poll_transmit(self.now(), PIECE) {
                self.stream.write_all(&records)?;
            }
            if done(self) {
                return Ok(());
            }
            let count = self.stream.read(&mut piece).context("the node is silent")?;
            self.link.buffer().extend_from_slice(&piece[..count]);
            self.link.received(self.now());
            if let Some(reason) = self.link.close_reason() {
                bail!("the link has ended: {reason}");
            }
            if count == 0 {
                bail!("the node has closed the link");
            }
        }
    }

    fn take(&mut self, event: LinkEvent) -> anyhow::Result<()> {
        match event {
            LinkEvent::Up { peer, .. } => self.peer = Some(*peer),
            LinkEvent::OriginReady(_) => self.ready += 1,
            LinkEvent::OriginReply { .. } => self.answered += 1,
            LinkEvent::OriginClosed { .. } => bail!("a circuit was refused, or has ended"),
            // What neighbours tell each other unasked.
            _ => {}
        }
        Ok(())
    }
}

fn shake_hands(
    stream: &mut TcpStream,
    secrets: &NodeSecrets,
    remote: Remote,
    network: Network,
    rng: ChaCha20Rng,
) -> anyhow::Result<Established<RingAead>> {
    let mut out = BytesMut::new();
    let mut machine = Initiator::start(secrets, remote, network, best_cipher(), wall(), rng, &mut out)?;
    let mut piece = [0; 1500];
    loop {
        stream.write_all(&out.split())?;
        let count = stream.read(&mut piece)?;
        if count == 0 {
            bail!("the node has closed the connection");
        }
        machine = match machine.receive(&piece[..count], &mut out) {
            Ok(Step::More(machine)) => machine,
            Ok(Step::Done(established)) => {
                stream.write_all(&out)?;
                return Ok(established);
            }
            Err(error) => return Err(anyhow!("the handshake failed: {error}")),
        };
    }
}
