//! Whoever knocks at a port without the right to: silence or a plain refusal, a closed connection, a count, and no memory.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use warren_tests::process::{
    command::Ending,
    data::RandomFile,
    free_address, http,
    network::turn,
    node::{Home, Node, Settings},
    relay::{HANDSHAKE_IN, RECORD, Relay, Tamper, Way},
    scratch, wait_for,
};

/// A connection is closed within this; the program's own deadlines add up to 20 s.
const CLOSED: Duration = Duration::from_secs(60);

/// What a node may have grown by after hundreds of megabytes of bad input: the allocator's and the runtime's own, no more.
const GROWTH: u64 = 24 << 20;

/// Shortest answer to a handshake's first message (protocol §4.2).
const SHORTEST_ANSWER: usize = 116;

/// Sends `parts`, each in a write of its own, and reads until the other end closes; returns what it said.
fn probe(address: SocketAddr, parts: &[&[u8]], end: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(CLOSED)).unwrap();
    stream.set_write_timeout(Some(CLOSED)).unwrap();
    for part in parts {
        // Fails when the other end has closed, which is its right.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    if end {
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("still open after {CLOSED:?}")
            }
            Err(_) => return answer,
        }
    }
}

/// The reference with another port.
fn redirected(reference: &str, port: u16) -> String {
    let (rest, _) = reference.rsplit_once(':').unwrap();
    format!("{rest}:{port}")
}

/// A first message that a real node of `network` makes for the node behind `reference`, and that has never reached it.
fn first_message(folder: &Path, name: &str, network: &str, reference: &str) -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut settings = Settings::new(network);
    settings.seeds = vec![redirected(reference, listener.local_addr().unwrap().port())];
    settings.store = "16 MiB";
    let dialler = Home::make(folder.join(name), &settings).start();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(CLOSED)).unwrap();
    let mut message = vec![0; 2048];
    let len = stream.read(&mut message).unwrap();
    message.truncate(len);
    assert!(len >= 121, "a whole first message");
    dialler.kill();
    message
}

fn assert_unharmed(mut node: Node) {
    assert!(node.runs());
    let (code, home) = node.terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    assert!(!home.log().contains("panicked"), "{}", home.log());
}

#[test]
fn a_prober_of_the_nodes_port_gets_no_byte() {
    // Needs no turn: it mostly waits.
    let folder = scratch();
    let mut settings = Settings::new("probe");
    settings.listen = free_address();
    let node = Home::make(folder.path().join("node"), &settings).start();
    let port = node.listening();
    let fresh = |name: &str| first_message(folder.path(), name, "probe", &node.reference);

    // That all of what follows can fail: an unchanged first message is answered.
    let answered = fresh("member");
    assert!(probe(port, &[&answered], true).len() >= SHORTEST_ANSWER);

    let other = first_message(folder.path(), "stranger", "another-network", &node.reference);
    let unused = fresh("unused");
    let (longer, padded) = (fresh("longer"), fresh("padded"));
    let flipped = |at: usize| {
        let mut message = unused.clone();
        message[at] ^= 1;
        message
    };
    let random = RandomFile::new(1, 1 << 20).bytes();
    let half = unused.len() / 2;
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![0x16]),
        ("too few random bytes", random[..120].to_vec()),
        ("as many as a message", random[..632].to_vec()),
        ("more than a message", random[..5000].to_vec()),
        ("a megabyte", random.clone()),
        ("zeros", vec![0; 4096]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        (
            "TLS",
            [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random[..506]].concat(),
        ),
        ("a replay", answered.clone()),
        ("another network", other),
        ("a changed nonce", flipped(0)),
        ("a changed ephemeral key", flipped(40)),
        ("a changed payload", flipped(70)),
        ("a changed tag", flipped(120)),
        ("halves swapped", [&unused[half..], &unused[..half]].concat()),
        ("cut by a byte", unused[..unused.len() - 1].to_vec()),
        ("a byte too many", [&longer[..], &[0]].concat()),
        ("a record too many", [&padded[..], &random[..RECORD]].concat()),
    ];
    let count = cases.len() as u64;
    let before = node.rejected();
    // As many at a time as one address may have in handshakes, the dialler of a later step not counted.
    while !cases.is_empty() {
        let batch = cases.split_off(cases.len().saturating_sub(14));
        thread::scope(|scope| {
            for (what, bytes) in &batch {
                scope.spawn(move || {
                    let answer = probe(port, &[bytes], false);
                    assert!(answer.is_empty(), "{what}: {} bytes of answer", answer.len());
                });
            }
        });
    }
    assert!(node.rejected() >= before + count, "each of them is counted");

    // Nor after a restart, which forgets no replay.
    let (code, home) = node.terminate();
    assert_eq!(code, Some(0));
    let node = home.start();
    let (whole, halves) = ([&answered[..]], [&answered[..60], &answered[60..]]);
    thread::scope(|scope| {
        for parts in [&whole[..], &halves] {
            scope.spawn(move || assert!(probe(port, parts, false).is_empty(), "a replay after a restart"));
        }
    });

    // A storm leaves no trace in memory.
    let storm = |count: usize| {
        for seed in 0..count {
            let len = 70_000 + seed * 131 % 60_000;
            assert!(probe(port, &[&random[..len]], false).is_empty());
        }
    };
    storm(100);
    let (settled, before) = (node.memory().0, node.rejected());
    storm(900);
    let (now, _) = node.memory();
    println!("{} KiB before the storm, {} KiB after", settled >> 10, now >> 10);
    assert!(now < settled + GROWTH, "{settled} bytes of memory grew to {now}");
    assert!(node.rejected() >= before + 900);

    // And honest nodes still come in.
    let mut settings = Settings::new("probe");
    settings.seeds = vec![node.reference.clone()];
    let honest = Home::make(folder.path().join("honest"), &settings).start();
    wait_for("a link", CLOSED, || (honest.status()["links"] == 1).then_some(()));
    assert_unharmed(node);
}

#[test]
fn records_that_were_tampered_with_end_their_link() {
    let _turn = turn();
    let folder = scratch();
    let relay = Relay::listen();
    let mut settings = Settings::new("tamper");
    settings.hops = 1;
    settings.listen = free_address();
    settings.advertise = vec![relay.address];
    relay.lead_to(settings.listen);
    let node = Home::make(folder.path().join("node"), &settings).start();
    let mut settings = Settings::new("tamper");
    settings.hops = 1;
    settings.seeds = vec![node.reference.clone()];
    // Cannot be reached, so that every link between the two is one through the relay.
    settings.advertise = vec![free_address()];
    let mut expected = 0;
    for tamper in [
        Tamper::Swap,
        Tamper::Repeat,
        Tamper::Omit,
        Tamper::Flip,
        Tamper::Replace,
        Tamper::Cut,
    ] {
        // A client of its own each time: nodes that sent what no honest node sends do not link again for a while.
        let client = Home::make(folder.path().join(format!("{tamper:?}")), &settings).start();
        let connection = wait_for("a link at rest", CLOSED, || {
            let open = relay
                .connections()
                .into_iter()
                .rfind(|connection| connection.is_open());
            // The handshake is over, and what follows begins with a record.
            open.filter(|connection| {
                let len = connection.captured(Way::In).len();
                client.status()["links"] == 1 && len > RECORD && HANDSHAKE_IN.contains(&(len % RECORD))
            })
        });
        relay.tamper(tamper);
        // Something to tamper with; it does not get through, and need not be waited for.
        let path = folder.path().join("file");
        std::fs::write(&path, RandomFile::new(3, 60_000).bytes()).unwrap();
        let put = client
            .home
            .warren(&["put", path.to_str().unwrap(), "--unpredictable"]);
        let put = Ending::start(put);
        wait_for("the end of the link", CLOSED, || {
            (!connection.is_open()).then_some(())
        });
        drop(put);
        assert!(relay.has_tampered(), "{tamper:?}: nothing passed");
        // What is cut off looks like a line that failed, and is nobody's fault.
        if tamper != Tamper::Cut {
            expected += 1;
        }
        assert_eq!(node.rejected(), expected, "{tamper:?} is counted");
        assert_unharmed(client);
    }
    assert_unharmed(node);
}

#[test]
fn garbage_at_the_proxy_and_the_control_interface() {
    let folder = scratch();
    let mut settings = Settings::new("garbage");
    settings.hops = 1;
    let other = Home::make(folder.path().join("other"), &settings).start();
    settings.seeds = vec![other.reference.clone()];
    let node = Home::make(folder.path().join("node"), &settings).start();
    // A node without links takes no uploads.
    wait_for("a link", CLOSED, || (node.status()["links"] == 1).then_some(()));
    let random = RandomFile::new(2, 1 << 20).bytes();
    let long = vec![b'a'; 1 << 20];
    let refused_by = |node: &Node| node.status()["refused"].as_u64().unwrap();
    let mut counted = 0;
    for (interface, address) in [("proxy", node.proxy), ("control", node.control.address)] {
        let host = format!("Host: {address}\r\n");
        let with = |head: &str| head.replace("HOST", &host).into_bytes();
        let cases: [(&str, Vec<u8>); 10] = [
            ("random bytes", random.clone()),
            ("the first message of a handshake", random[..400].to_vec()),
            ("a line without end", [b"GET /", &long[..]].concat()),
            (
                "a field without end",
                [&with("GET / HTTP/1.1\r\nHOSTx: "), &long[..]].concat(),
            ),
            (
                "fields without end",
                [
                    &with("GET / HTTP/1.1\r\nHOST"),
                    b"x: y\r\n".repeat(100_000).as_slice(),
                ]
                .concat(),
            ),
            ("half a head", with("GET / HTTP/1.1\r\nHOST")),
            (
                "half a body",
                with("PUT /x HTTP/1.1\r\nHOSTContent-Length: 1000000000000\r\n\r\nhalf"),
            ),
            (
                "lengths that contradict",
                with("PUT /x HTTP/1.1\r\nHOSTContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            ),
            (
                "a negative length",
                with("PUT /x HTTP/1.1\r\nHOSTContent-Length: -1\r\n\r\n"),
            ),
            (
                "a chunk of nonsense",
                with("PUT /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            ),
        ];
        for (what, bytes) in &cases {
            let answer = probe(address, &[bytes], true);
            let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
            let answer = String::from_utf8_lossy(&answer);
            assert!(refused, "{interface}: {what}: {answer}");
            let now = refused_by(&node);
            assert!(now > counted, "{interface}: {what} is counted");
            counted = now;
        }
        let settled = node.memory().0;
        for _ in 0..100 {
            for (_, bytes) in &cases {
                probe(address, &[bytes], true);
            }
        }
        let (now, _) = node.memory();
        println!(
            "{interface}: {} KiB before, {} KiB after",
            settled >> 10,
            now >> 10
        );
        assert!(
            now < settled + GROWTH,
            "{interface}: {settled} bytes of memory grew to {now}"
        );
    }
    // Nor does anybody hold a connection by saying nothing, or never coming to the point.
    thread::scope(|scope| {
        for address in [node.proxy, node.control.address] {
            for said in [&b""[..], b"GET /v1/st", b"GET / HTTP/1.1\r\nx: y\r\n"] {
                scope.spawn(move || probe(address, &[said], false));
            }
        }
    });
    // Without the token there is nothing to see, whatever is asked for.
    for path in ["/v1/status", "/v1/peers", "/", "/v2"] {
        for token in [&[][..], &[("Authorization", "Bearer 0123456789abcdef")]] {
            let answer = http::request(node.control.address, "GET", path, token, b"").unwrap();
            assert_eq!(answer.status, 401, "{path}");
        }
    }
    // Another site's page gets nothing from the proxy, and both still work.
    let foreign = [("Origin", "http://example.com")];
    let answer = http::request(node.proxy, "GET", "/KSK@x", &foreign, b"").unwrap();
    assert_eq!(answer.status, 403);
    let answer = http::request(node.proxy, "GET", "/", &[], b"").unwrap();
    assert_eq!(answer.status, 200);
    assert_unharmed(node);
}
