//! Listener, dialler and link tasks over real sockets, with a test in the place of the core.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use warren_keys::{IdentityKey, NodeId, Seed};
use warren_proto::{
    core::api::DialTarget,
    crypto::Cipher,
    descriptor::{Services, Statement},
    ids::LinkId,
    link::api::{LinkCommand, LinkEvent},
    time::Time,
    topology::AccessRule,
    wire::Frame,
};

use super::{
    bandwidth::{
        BandwidthLimits,
        shaper::MIN_RATE,
        volume::{Month, Volume},
    },
    limits::Rejections,
    *,
};
use crate::{aead::best_cipher, memory::Memory};

/// A node without a core: its inputs pile up for the test to look at.
struct Bare {
    net: Arc<Net>,
    address: SocketAddr,
    inputs: Vec<CoreInput>,
}

impl Bare {
    fn start(seed: u8, network: &str, ip: IpAddr, gate: GateSettings) -> Self {
        let network: Network = network.parse().unwrap();
        let secrets = NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes([seed; 32])));
        let listener = listener::bind((ip, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::start();
        let statement = Statement {
            addresses: vec![address],
            services: Services::ALL,
            published: clock.wall().0,
            ..secrets.statement()
        };
        let descriptor = Arc::new(secrets.sign(statement, &network));
        let net = Net::new(NetParts {
            clock,
            secrets: Arc::new(secrets),
            network,
            dial_from: vec![ip],
            // Both kinds of machine.
            cipher: if seed.is_multiple_of(2) {
                Cipher::ChaCha20Poly1305
            } else {
                best_cipher()
            },
            descriptor,
            replays: ReplayCache::new(),
            gate,
            links: 8,
            memory: Memory::new(1 << 20),
            bandwidth: Bandwidth::new(
                clock.now(),
                BandwidthLimits::default(),
                Volume::new(Month::of(clock.wall())),
            ),
            access: Access::default(),
            core: Arc::new(Inbox::new(64)),
            seed: [seed; 32],
        });
        net.tasks.spawn(listener::serve(Arc::clone(&net), listener));
        Self {
            net,
            address,
            inputs: Vec::new(),
        }
    }

    fn new(seed: u8) -> Self {
        Self::start(seed, "test", Ipv4Addr::LOCALHOST.into(), GateSettings::default())
    }

    fn id(&self) -> NodeId {
        self.net.secrets.id()
    }

    fn dial(&self, other: &Self) {
        dialer::dial(
            &self.net,
            Box::new(DialTarget {
                node: other.id(),
                link_key: other.net.secrets.link_public().to_bytes(),
                addresses: vec![other.address],
            }),
        );
    }

    /// Waits until an input satisfies `wanted`, and takes it.
    async fn input<T>(&mut self, wanted: impl Fn(&CoreInput) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(at) = self.inputs.iter().position(|input| wanted(input).is_some()) {
                    return wanted(&self.inputs.remove(at)).unwrap();
                }
                self.net.core.take(&mut self.inputs).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .expect("nothing came")
    }

    async fn up(&mut self) -> (LinkId, NodeId) {
        self.input(|input| match input {
            CoreInput::Link(link, LinkEvent::Up { peer, .. }) => Some((*link, peer.identity)),
            _ => None,
        })
        .await
    }

    async fn down(&mut self, link: LinkId) -> bool {
        self.input(|input| match input {
            CoreInput::LinkDown {
                link: down,
                misbehaved,
            } if *down == link => Some(*misbehaved),
            _ => None,
        })
        .await
    }

    async fn rejected(&self, enough: impl Fn(&Rejections) -> bool) -> Rejections {
        let counted = async {
            loop {
                let seen = self.net.gate.rejections();
                if enough(&seen) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), counted)
            .await
            .expect("too few rejections")
    }

    async fn end(self) {
        self.net.close();
        self.net.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), self.net.tasks.wait())
            .await
            .expect("a task hangs");
    }
}

#[tokio::test]
async fn two_nodes_link_talk_and_part() {
    let (mut a, mut b) = (Bare::new(1), Bare::new(2));
    a.dial(&b);
    let ((at_a, peer_of_a), (at_b, peer_of_b)) = (a.up().await, b.up().await);
    assert_eq!((peer_of_a, peer_of_b), (b.id(), a.id()));
    assert_eq!(*a.net.registry.neighbours().borrow(), 1);

    let link = a.net.registry.link(at_a).unwrap();
    link.inbox().push(LinkCommand::Send(Frame::Ping(77))).unwrap();
    a.input(|input| matches!(input, CoreInput::Link(_, LinkEvent::Pong(77))).then_some(()))
        .await;

    link.inbox().push(LinkCommand::Close).unwrap();
    assert!(!a.down(at_a).await && !b.down(at_b).await);
    assert_eq!(*b.net.registry.neighbours().borrow(), 0);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn ipv6_works_the_same() {
    let six = |seed| Bare::start(seed, "test", Ipv6Addr::LOCALHOST.into(), GateSettings::default());
    let (mut a, mut b) = (six(1), six(2));
    a.dial(&b);
    assert_eq!(a.up().await.1, b.id());
    assert_eq!(b.up().await.1, a.id());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_dial_that_leads_nowhere_is_reported() {
    let (mut a, b) = (Bare::new(1), Bare::new(2));
    let nobody = {
        let listener = listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        listener.local_addr().unwrap()
    };
    let target = |node, addresses| {
        let link_key = b.net.secrets.link_public().to_bytes();
        Box::new(DialTarget {
            node,
            link_key,
            addresses,
        })
    };
    dialer::dial(&a.net, target(b.id(), vec![nobody]));
    let failed = |node| {
        move |input: &CoreInput| match input {
            CoreInput::DialFailed(failed) if *failed == node => Some(()),
            _ => None,
        }
    };
    a.input(failed(b.id())).await;
    // The next address is tried.
    dialer::dial(&a.net, target(b.id(), vec![nobody, b.address]));
    assert_eq!(a.up().await.1, b.id());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn other_networks_are_refused_and_counted() {
    let (a, stranger) = (
        Bare::new(1),
        Bare::start(2, "other", Ipv4Addr::LOCALHOST.into(), GateSettings::default()),
    );
    stranger.dial(&a);
    let seen = a.rejected(|seen| seen.bad_handshakes == 1).await;
    assert_eq!(seen.bad_links, 0);
    a.end().await;
    stranger.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_prober_gets_no_byte_and_no_telling_close() {
    let a = Bare::new(1);
    for input in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x5a; 1000], &[]] {
        let started = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(a.address).await.unwrap();
        stream.write_all(input).await.unwrap();
        let mut answer = Vec::new();
        // A reset is no byte either.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        assert!(started.elapsed() >= listener::HANDSHAKE_DEADLINE);
    }
    a.end().await;
}

#[tokio::test]
async fn a_flood_costs_no_more_than_its_bounds() {
    let settings = GateSettings {
        half_open: 20,
        half_open_per_source: 10,
        swallowed: 5,
        ..GateSettings::default()
    };
    let mut a = Bare::start(1, "test", Ipv4Addr::LOCALHOST.into(), settings);
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(a.address).await.unwrap();
        let _ = stream.write_all(&[0xa5; 700]).await;
        open.push(stream);
    }
    let seen = a
        .rejected(|seen| seen.bad_handshakes + seen.crowded_source == 200)
        .await;
    assert!(seen.bad_handshakes > 0);
    assert!(a.net.tasks.len() <= 1 + 10 + 5, "{} tasks", a.net.tasks.len());
    // Who knows the node still gets in.
    let b = Bare::new(2);
    b.dial(&a);
    assert_eq!(a.up().await.1, b.id());
    drop(open);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn links_are_bounded_also_for_those_who_know_the_node() {
    let mut a = Bare::new(1);
    let others: Vec<_> = (2..6).map(Bare::new).collect();
    // The core of this test never closes one, so they pile up.
    let fill: Vec<_> = (0..a.net.max_links() - 2)
        .map(|_| a.net.registry.register(Time(0), a.address, false))
        .collect();
    for other in &others {
        other.dial(&a);
    }
    a.up().await;
    a.up().await;
    a.rejected(|seen| seen.crowded == 2).await;
    assert_eq!(*a.net.registry.neighbours().borrow(), 2);
    drop(fill);
    a.end().await;
    for other in others {
        other.end().await;
    }
}

#[tokio::test]
async fn garbage_on_a_link_ends_it_and_blames_nobody() {
    let (mut a, mut b) = (Bare::new(1), Bare::new(2));
    // In the middle: passes on what b and a say, and adds a record of garbage once both are up.
    let middle = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = middle.local_addr().unwrap();
    let target = a.address;
    let (garbage, go) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut from, _) = middle.accept().await.unwrap();
        let mut to = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
            _ = go => {}
        }
        to.write_all(&[0x77; 4096]).await.unwrap();
        let _ = to.read_to_end(&mut Vec::new()).await;
    });
    dialer::dial(
        &b.net,
        Box::new(DialTarget {
            node: a.id(),
            link_key: a.net.secrets.link_public().to_bytes(),
            addresses: vec![address],
        }),
    );
    let ((at_a, _), (at_b, _)) = (a.up().await, b.up().await);
    garbage.send(()).unwrap();
    // Whoever owns the line can change a byte: neither end is to blame.
    assert!(!a.down(at_a).await && !b.down(at_b).await);
    assert_eq!(a.net.gate.rejections().bad_links, 1);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_limited_link_carries_everything_at_its_rate() {
    const MESSAGES: usize = 7;
    let limited = |up, down| BandwidthLimits {
        up,
        down,
        monthly: None,
    };
    let rate = Some(MIN_RATE);
    for (sender, receiver) in [
        (limited(rate, None), limited(None, None)),
        (limited(None, None), limited(None, rate)),
    ] {
        let mut a = Bare::start(1, "test", Ipv4Addr::LOCALHOST.into(), GateSettings::default());
        let mut b = Bare::start(2, "test", Ipv4Addr::LOCALHOST.into(), GateSettings::default());
        a.dial(&b);
        let ((link, _), _) = (a.up().await, b.up().await);
        // Changed while the link stands, as an owner does.
        a.net.bandwidth.set_limits(a.net.clock.now(), sender);
        b.net.bandwidth.set_limits(b.net.clock.now(), receiver);
        let started = tokio::time::Instant::now();
        for _ in 0..MESSAGES {
            let gossip = Frame::Descriptors(vec![Descriptor::clone(&a.net.descriptor()); 24]);
            let command = LinkCommand::Send(gossip);
            assert!(a.net.registry.link(link).unwrap().inbox().push(command).is_ok());
        }
        for _ in 0..MESSAGES {
            b.input(|input| match input {
                CoreInput::Link(_, LinkEvent::Gossip(Frame::Descriptors(list))) => Some(list.len()),
                _ => None,
            })
            .await;
        }
        let moved = b.net.bandwidth.volume().down;
        assert!(moved > 30_000, "{moved}");
        // A bucket is never more than full, so this holds however slow the machine is.
        let least = Duration::from_secs_f64((moved - 24_000) as f64 / MIN_RATE as f64);
        assert!(
            started.elapsed() >= least / 2,
            "{:?} for {moved} bytes",
            started.elapsed()
        );
        assert!(a.net.bandwidth.volume().up >= moved);
    }
}

#[tokio::test]
async fn who_is_not_let_in_costs_no_handshake() {
    let mut a = Bare::start(1, "test", Ipv4Addr::LOCALHOST.into(), GateSettings::default());
    let b = Bare::start(2, "test", Ipv4Addr::LOCALHOST.into(), GateSettings::default());
    let deny = vec![AccessRule::Addresses("127.0.0.0/8".parse().unwrap())];
    b.net.set_access(Access {
        deny,
        ..Access::default()
    });
    a.dial(&b);
    let failed = |input: &CoreInput| matches!(input, CoreInput::DialFailed(_)).then_some(());
    a.input(failed).await;
    let counts = b.rejected(|counts| counts.denied > 0).await;
    assert_eq!((counts.denied, counts.total()), (1, 1));
    assert_eq!(b.net.gate.half_open(), 0);
    // And in again.
    b.net.set_access(Access::default());
    a.dial(&b);
    a.up().await;
}
