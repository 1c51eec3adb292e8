//! Slow, large and many requests. Under the paused clock time passes when nothing else can happen, so the limits themselves are
//! tested, in no time.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Behaviour, Fake, Limits, Reply, connect, file, read_all, start, start_with};

const HEAD: &[u8] = b"GET /KSK@f HTTP/1.1\r\nHost: localhost:8888\r\n";

fn fake(behaviour: Behaviour) -> Fake {
    Fake::default().with("KSK@f", behaviour)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends() {
    let limits = Limits::default();
    let limit = limits.head_timeout;
    for bytes in [&b""[..], b"GET", HEAD] {
        let begun = Instant::now();
        let mut client = connect(&Fake::default(), limits.clone(), 1 << 16);
        client.write_all(bytes).await.unwrap();
        read_all(&mut client).await;
        assert!(
            (limit..limit * 2).contains(&begun.elapsed()),
            "{bytes:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles() {
    let limit = Limits::default().head_timeout;
    let begun = Instant::now();
    let mut client = connect(&Fake::default(), Limits::default(), 1 << 16);
    for byte in HEAD.iter().cycle() {
        if client.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        (limit..limit * 2).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_request() {
    let mut client = connect(&fake(Behaviour::File(file(3), None)), Limits::default(), 1 << 16);
    let begun = Instant::now();
    client.write_all(&[HEAD, b"\r\n"].concat()).await.unwrap();
    let reply = Reply::parse(&read_all(&mut client).await);
    assert_eq!((reply.status, reply.body.len()), (200, 3));
    assert!(
        begun.elapsed() <= Limits::default().head_timeout * 2,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_network_that_never_answers() {
    let fake = fake(Behaviour::Hangs);
    let mut client = connect(&fake, Limits::default(), 1 << 16);
    client
        .write_all(&[HEAD, b"Connection: close\r\n\r\n"].concat())
        .await
        .unwrap();
    let reply = Reply::parse(&read_all(&mut client).await);
    assert_eq!((reply.status, reply.header("retry-after")), (504, Some("5")));
    assert_eq!(fake.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_trickles() {
    let fake = Fake::default();
    let mut client = connect(&fake, Limits::default(), 1 << 16);
    let head = b"PUT / HTTP/1.1\r\nHost: localhost:8888\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(client);
    let writer = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = Instant::now();
    let mut answer = vec![0; 4096];
    let count = reading.read(&mut answer).await.unwrap();
    assert_eq!(Reply::parse(&answer[..count]).status, 408);
    assert!(
        begun.elapsed() <= Limits::default().upload_window * 2,
        "{:?}",
        begun.elapsed()
    );
    drop(reading);
    writer.abort();
    assert!(fake.inserted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_slow_but_steady() {
    let fake = Fake::default();
    let mut client = connect(&fake, Limits::default(), 1 << 16);
    let head =
        b"PUT / HTTP/1.1\r\nHost: localhost:8888\r\nConnection: close\r\nContent-Length: 600000\r\n\r\n";
    client.write_all(head).await.unwrap();
    for _ in 0..600 {
        client.write_all(&[7; 1000]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(Reply::parse(&read_all(&mut client).await).status, 201);
    assert_eq!(fake.inserted()[0].0.len(), 600_000);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing() {
    let fake = fake(Behaviour::File(file(1_000_000), None));
    let mut client = connect(&fake, Limits::default(), 1000);
    client.write_all(&[HEAD, b"\r\n"].concat()).await.unwrap();
    let limit = Limits::default().write_stall;
    sleep(limit - Duration::from_secs(1)).await;
    assert_eq!(fake.running(), 1, "a pause is allowed");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(fake.running(), 0, "the fetch ends with the connection");
    assert!(read_all(&mut client).await.len() < 100_000);
}

#[tokio::test]
async fn who_leaves_ends_the_fetch() {
    for behaviour in [Behaviour::Hangs, Behaviour::Stalls(file(100_000))] {
        let fake = fake(behaviour);
        let site = start(&fake).await;
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let head = format!("GET /KSK@f HTTP/1.1\r\nHost: {}\r\n\r\n", site.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        wait_until(|| fake.running() == 1).await;
        drop(stream);
        wait_until(|| fake.running() == 0).await;
    }
}

/// Lets other tasks run until something holds; a minute is a failure.
async fn wait_until(holds: impl Fn() -> bool) {
    let turn = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), turn)
        .await
        .expect("it never happened");
}

#[tokio::test]
async fn oversized_heads() {
    let site = start(&Fake::default()).await;
    let long = "x".repeat(9000);
    assert_eq!(site.ask(&format!("GET /KSK@{long}"), &[]).await.status, 414);
    let key = "x".repeat(5000);
    assert_eq!(site.ask(&format!("GET /KSK@{key}"), &[]).await.status, 400);
    let huge = format!("X-Y: {}", "x".repeat(300_000));
    assert_eq!(site.ask("GET /", &[&huge]).await.status, 431);
    let many: Vec<String> = (0..100).map(|i| format!("X-{i}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(site.ask("GET /", &many).await.status, 431);
    assert_eq!(site.raw(b"NONSENSE\r\n\r\n", b"").await.status, 400);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let fake = Fake::default();
    let site = start_with(
        &fake,
        Limits {
            connections: 2,
            ..Limits::default()
        },
    )
    .await;
    // A request answered on each proves that both are accepted.
    let mut holding = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let head = format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", site.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        holding.push(stream);
    }
    let third = site.ask("GET /", &[]);
    tokio::pin!(third);
    for _ in 0..1000 {
        tokio::select! {
            biased;
            _ = &mut third => panic!("a third connection was served"),
            () = tokio::task::yield_now() => {}
        }
    }
    holding.pop();
    assert_eq!(third.await.status, 200);
}

#[tokio::test]
async fn uploads_beyond_the_limit_are_refused() {
    let fake = Fake::default();
    let site = start_with(
        &fake,
        Limits {
            uploads: 0,
            ..Limits::default()
        },
    )
    .await;
    let reply = site.send("PUT /", &[], b"x").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
}
