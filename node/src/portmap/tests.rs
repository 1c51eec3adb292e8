//! Against routers on loopback that speak the protocols over real sockets, honestly and otherwise.

use std::sync::{Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use super::*;

/// A public address, which nobody connects to here.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);
const PORT: u16 = 7420;

/// How a PCP router behaves.
#[derive(Clone, Copy)]
enum Manner {
    Pcp,
    /// Knows only the older protocol.
    NatPmp,
    /// PCP, with this address outside.
    Outside(Ipv4Addr),
    /// PCP, granting this many seconds.
    Lifetime(u32),
    PortZero,
    /// Answers with the wrong nonce, as somebody who did not see the request would.
    Blind,
    Refusing,
    /// So many bytes of nothing.
    Garbage(usize),
    /// The request itself.
    Echo,
}

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

struct FakeRouter {
    address: Ipv4Addr,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Drop for FakeRouter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRouter {
    /// The protocols' port is fixed, so each router has an address of its own on loopback.
    async fn start(manner: Manner) -> Self {
        let mut address = None;
        for last in 10..250 {
            let candidate = Ipv4Addr::new(127, 77, u8::try_from(std::process::id() % 251).unwrap(), last);
            if let Ok(socket) = UdpSocket::bind((candidate, crab_nat::GATEWAY_PORT)).await {
                address = Some((candidate, socket));
                break;
            }
        }
        let (address, socket) = address.expect("no free loopback address");
        let seen = Seen::default();
        let requests = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let request = buffer[..len].to_vec();
                requests
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(request.clone());
                let answer = answer(manner, &request);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, seen, task }
    }

    fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asked here and nowhere else: searches go to a port that nobody listens on.
    fn router(&self) -> Router {
        Router::at(Some(self.address), nowhere(), Ipv4Addr::UNSPECIFIED, port())
    }
}

fn port() -> NonZeroU16 {
    NonZeroU16::new(PORT).unwrap()
}

/// The discard port: whatever is sent there is lost.
fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9).into()
}

/// What a router answers, by the bytes of RFC 6887 §11.1 and RFC 6886 §3.
fn answer(manner: Manner, request: &[u8]) -> Vec<u8> {
    match manner {
        Manner::Garbage(len) => return vec![0xa5; len],
        Manner::Echo => return request.to_vec(),
        _ => {}
    }
    if request[0] == 0 {
        let mut answer = vec![0, 0x80 | request[1], 0, 0, 0, 0, 0, 7];
        match request[1] {
            0 => answer.extend(OUTSIDE.octets()),
            _ => {
                let removed = request[8..12] == [0; 4];
                answer.extend(&request[4..6]);
                answer.extend(if removed { [0, 0] } else { (PORT + 1).to_be_bytes() });
                answer.extend(&request[8..12]);
            }
        }
        return answer;
    }
    if matches!(manner, Manner::NatPmp) {
        return vec![0, 0x81, 0, 1, 0, 0, 0, 7];
    }
    let lifetime = match manner {
        Manner::Lifetime(seconds) => seconds.to_be_bytes(),
        _ => request[4..8].try_into().unwrap(),
    };
    let result = if matches!(manner, Manner::Refusing) { 2 } else { 0 };
    let mut answer = vec![2, 0x80 | request[1], 0, result];
    answer.extend(lifetime);
    answer.extend([0; 16]);
    answer.extend(&request[24..40]);
    if matches!(manner, Manner::Blind) {
        answer[24] ^= 1;
    }
    answer.extend(&request[40..42]);
    let outside_port = match manner {
        Manner::PortZero => 0,
        _ => PORT + 2,
    };
    answer.extend(outside_port.to_be_bytes());
    let outside = match manner {
        Manner::Outside(ip) => ip,
        _ => OUTSIDE,
    };
    answer.extend(outside.to_ipv6_mapped().octets());
    answer
}

#[test]
fn what_needs_no_mapping_asks_for_none() {
    let of = |list: &[&str]| {
        let list: Vec<SocketAddr> = list.iter().map(|text| text.parse().unwrap()).collect();
        candidate(&list).map(|(ip, port)| format!("{ip}:{port}"))
    };
    assert_eq!(of(&[]), None);
    assert_eq!(
        of(&["127.0.0.1:1", "[::1]:2", "[::]:3", "8.8.8.8:4", "0.0.0.0:0"]),
        None
    );
    assert_eq!(of(&["[::]:3", "0.0.0.0:4"]).as_deref(), Some("0.0.0.0:4"));
    assert_eq!(of(&["192.168.1.2:5"]).as_deref(), Some("192.168.1.2:5"));
}

#[tokio::test]
async fn pcp_is_asked_properly_renewed_and_taken_back() {
    let fake = FakeRouter::start(Manner::Pcp).await;
    let router = fake.router();
    let grant = router.open().await.unwrap();
    assert_eq!(grant.outside, (OUTSIDE, PORT + 2).into());
    assert_eq!((grant.protocol(), grant.lifetime.as_secs()), ("PCP", 3600));
    let renewed = router.renew(&grant).await.unwrap();
    assert_eq!(renewed.outside, grant.outside);
    router.close(renewed).await;

    let seen = fake.seen();
    let [asked, renewed, removed] = &seen[..] else {
        panic!("{} requests", seen.len());
    };
    for (request, lifetime) in [(asked, 3600_u32), (renewed, 3600), (removed, 0)] {
        assert_eq!(request.len(), 60);
        // Version, MAP; lifetime; the client's address; TCP; the port inside.
        assert_eq!(request[..2], [2, 1]);
        assert_eq!(request[4..8], lifetime.to_be_bytes());
        assert_eq!(request[8..24], Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
        assert_eq!(request[36], 6);
        assert_eq!(request[40..42], PORT.to_be_bytes());
        // The same mapping by its nonce.
        assert_eq!(request[24..36], asked[24..36]);
    }
    assert_eq!(asked[42..44], PORT.to_be_bytes());
    assert_eq!(renewed[42..44], (PORT + 2).to_be_bytes());
}

#[tokio::test]
async fn a_router_that_knows_only_nat_pmp_is_asked_by_that() {
    let fake = FakeRouter::start(Manner::NatPmp).await;
    let router = fake.router();
    let grant = router.open().await.unwrap();
    assert_eq!(grant.outside, (OUTSIDE, PORT + 1).into());
    assert_eq!(grant.protocol(), "NAT-PMP");
    router.close(grant).await;
    let seen = fake.seen();
    let older: Vec<_> = seen.iter().filter(|request| request[0] == 0).collect();
    // A TCP mapping, the address outside, the mapping's end.
    assert_eq!(
        older[0][..],
        [0, 2, 0, 0, 0x1c, 0xfc, 0x1c, 0xfc, 0, 0, 0x0e, 0x10]
    );
    assert_eq!(older[1][..], [0, 0]);
    assert_eq!(older[2][..], [0, 2, 0, 0, 0x1c, 0xfc, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_router_that_lies_or_talks_nonsense_changes_nothing() {
    let private = Ipv4Addr::new(192, 168, 7, 7);
    let manners = [
        (Manner::Outside(private), "another one before it"),
        (Manner::Outside(Ipv4Addr::UNSPECIFIED), "another one before it"),
        (Manner::Lifetime(0), "no time"),
        (Manner::PortZero, "port of 0"),
        (Manner::Blind, "nonce"),
        (Manner::Refusing, "uthori"),
        (Manner::Garbage(0), ""),
        (Manner::Garbage(3), ""),
        (Manner::Garbage(24), ""),
        (Manner::Garbage(60), ""),
        (Manner::Garbage(1100), ""),
        (Manner::Garbage(2000), ""),
        (Manner::Echo, ""),
    ];
    for (manner, words) in manners {
        let fake = FakeRouter::start(manner).await;
        let why = fake.router().by_pcp(fake.address).await.unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    // Whatever time a router grants, it is not asked all the time.
    for seconds in [1, u32::MAX] {
        let fake = FakeRouter::start(Manner::Lifetime(seconds)).await;
        let grant = fake.router().open().await.unwrap();
        let pause = grant.lifetime.mul_f64(0.5).clamp(MIN_RENEWAL, MAX_RENEWAL);
        assert!((MIN_RENEWAL..=MAX_RENEWAL).contains(&pause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_network_is_given_up_and_asked_again_later() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let router = Router::at(
        Some(Ipv4Addr::new(127, 77, 252, 1)),
        socket.local_addr().unwrap(),
        Ipv4Addr::UNSPECIFIED,
        port(),
    );
    let stop = CancellationToken::new();
    let (sender, mut state) = watch::channel(Mapping::Off);
    let keeping = tokio::spawn(keep(Arc::new(router), stop.clone(), sender));
    let refused = |mapping: &Mapping| matches!(mapping, Mapping::Refused(_));
    state.wait_for(refused).await.unwrap();
    // Told again each time: the network may have got a router meanwhile.
    state.changed().await.unwrap();
    assert!(refused(&state.borrow_and_update()));
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn a_mapping_is_told_and_taken_back_at_the_end() {
    let fake = FakeRouter::start(Manner::Pcp).await;
    let stop = CancellationToken::new();
    let (sender, mut state) = watch::channel(Mapping::Off);
    let keeping = tokio::spawn(keep(Arc::new(fake.router()), stop.clone(), sender));
    let open = Mapping::Open {
        outside: (OUTSIDE, PORT + 2).into(),
        protocol: "PCP",
    };
    state.wait_for(|mapping| *mapping == open).await.unwrap();
    stop.cancel();
    keeping.await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen.last().unwrap()[4..8], [0; 4]);
}

/// A UPnP router: answers searches on one socket and HTTP on another. `bodies` maps what a request contains to the answer's body.
async fn upnp(bodies: &'static [(&'static str, &'static str)]) -> (SocketAddr, Seen, [JoinHandle<()>; 2]) {
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let search = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = http.local_addr().unwrap();
    let address = search.local_addr().unwrap();
    let seen = Seen::default();
    let requests = Arc::clone(&seen);
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 2000];
        while let Ok((len, from)) = search.recv_from(&mut buffer).await {
            assert!(buffer[..len].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{at}/root.xml\r\n\r\n");
            search.send_to(answer.as_bytes(), from).await.unwrap();
        }
    });
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // Until the body is there, as far as the head announces one.
            loop {
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let announced = text.split("content-length: ").nth(1);
                let announced = announced.and_then(|rest| rest.split('\r').next()?.parse().ok());
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                if count == 0 || body.is_some_and(|len| len >= announced.unwrap_or(0)) {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let body = bodies.iter().find(|(part, _)| text.contains(part));
            let (status, body) = body.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body));
            requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.ok();
            stream.write_all(body.as_bytes()).await.ok();
        }
    });
    (address, seen, [answering, serving])
}

const ROOT: &str = r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/control</controlURL>
<SCPDURL>/schema.xml</SCPDURL></service></serviceList></device></deviceList></device></deviceList></device></root>"#;
const SCHEMA: &str = r#"<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>
<action><name>AddPortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument>
<argument><name>NewInternalPort</name><direction>in</direction></argument>
<argument><name>NewInternalClient</name><direction>in</direction></argument>
<argument><name>NewEnabled</name><direction>in</direction></argument>
<argument><name>NewPortMappingDescription</name><direction>in</direction></argument>
<argument><name>NewLeaseDuration</name><direction>in</direction></argument></argumentList></action>
<action><name>DeletePortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument></argumentList></action></actionList></scpd>"#;
const ADDED: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:AddPortMappingResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"/></s:Body></s:Envelope>"#;
const REMOVED: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:DeletePortMappingResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"/></s:Body></s:Envelope>"#;
const PUBLIC: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:GetExternalIPAddressResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">
<NewExternalIPAddress>8.8.4.4</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>"#;
const PRIVATE: &str = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:GetExternalIPAddressResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">
<NewExternalIPAddress>100.64.3.2</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>"#;

fn upnp_router(search: SocketAddr) -> Router {
    Router::at(None, search, Ipv4Addr::UNSPECIFIED, port())
}

#[tokio::test]
async fn upnp_is_asked_properly_and_taken_back() {
    let (search, seen, tasks) = upnp(&[
        ("GET /root.xml", ROOT),
        ("GET /schema.xml", SCHEMA),
        ("#AddPortMapping", ADDED),
        ("#GetExternalIPAddress", PUBLIC),
        ("#DeletePortMapping", REMOVED),
    ])
    .await;
    let router = upnp_router(search);
    let grant = router.open().await.unwrap();
    assert_eq!(grant.outside, (OUTSIDE, PORT).into());
    assert_eq!(grant.protocol(), "UPnP");
    let renewed = router.renew(&grant).await.unwrap();
    router.close(renewed).await;
    let seen = seen.lock().unwrap().clone();
    let requests: Vec<_> = seen
        .iter()
        .map(|request| String::from_utf8_lossy(request))
        .collect();
    let with = |part: &str| requests.iter().filter(|request| request.contains(part)).count();
    assert_eq!((with("#AddPortMapping"), with("#DeletePortMapping")), (2, 1));
    for part in [
        "<NewExternalPort>7420</NewExternalPort>",
        "<NewInternalPort>7420</NewInternalPort>",
        "<NewInternalClient>127.0.0.1</NewInternalClient>",
        "<NewProtocol>TCP</NewProtocol>",
        "<NewLeaseDuration>3600</NewLeaseDuration>",
    ] {
        assert!(requests.iter().any(|request| request.contains(part)), "{part}");
    }
    tasks.into_iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn a_upnp_router_that_lies_is_left_as_it_was() {
    // Behind another router: the mapping is of no use, and is not left open.
    let (search, seen, tasks) = upnp(&[
        ("GET /root.xml", ROOT),
        ("GET /schema.xml", SCHEMA),
        ("#AddPortMapping", ADDED),
        ("#GetExternalIPAddress", PRIVATE),
        ("#DeletePortMapping", REMOVED),
    ])
    .await;
    let why = upnp_router(search).open().await.unwrap_err();
    assert!(why.contains("another one before it"), "{why}");
    let removed = |request: &Vec<u8>| String::from_utf8_lossy(request).contains("#DeletePortMapping");
    assert!(seen.lock().unwrap().iter().any(removed));
    tasks.into_iter().for_each(|task| task.abort());

    // Answers an order with something else.
    let (search, _, tasks) = upnp(&[
        ("GET /root.xml", ROOT),
        ("GET /schema.xml", SCHEMA),
        ("POST", "<html>Login</html>"),
    ])
    .await;
    let why = upnp_router(search).open().await.unwrap_err();
    assert!(why.contains("UPnP"), "{why}");
    tasks.into_iter().for_each(|task| task.abort());
}
