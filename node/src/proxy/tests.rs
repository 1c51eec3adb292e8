//! The proxy as a client sees it: raw HTTP/1.1 over loopback sockets against a network that lives in memory. What depends on
//! time runs over an in-memory connection under tokio's paused clock.

mod fetching;
mod guarding;
mod limiting;
mod uploading;
mod whole;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use warren_keys::{KskUri, Name, Path, Uri};

use super::{Hosts, Limits, NodeStatus, Proxy, Settings, serve, server::serve_connection};
use crate::client::{
    Content, ContentInfo, ContentStream, FetchError, InsertError, InsertKind, InsertOptions, Inserted,
    Network, Progress, Reporter, Source,
};

const CHK: &str =
    "CHK@AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE,AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI,ABAC--8";

/// What the network does when asked for a key.
#[derive(Clone)]
enum Behaviour {
    /// Gives the file.
    File(Bytes, Option<&'static str>),
    /// Gives the first half, then fails.
    Breaks(Bytes),
    /// Gives the first half, then nothing, and never ends.
    Stalls(Bytes),
    /// Fails.
    Fails(fn() -> FetchError),
    /// Never answers.
    Hangs,
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Behaviour>>,
    inserted: Mutex<Vec<(Bytes, InsertOptions)>>,
    opened: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
    /// Fetches under way.
    running: AtomicUsize,
}

#[derive(Clone, Default)]
struct Fake(Arc<State>);

/// Counts a fetch as running while it lives.
struct Running(Arc<State>);

impl Running {
    fn new(state: &Arc<State>) -> Self {
        state.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn with(self, key: &str, behaviour: Behaviour) -> Self {
        self.0.files.lock().unwrap().insert(key.to_owned(), behaviour);
        self
    }

    /// What was asked to be waited for, seconds.
    fn waits(&self) -> Vec<u64> {
        self.0
            .waits
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs)
            .collect()
    }

    fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }

    fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    fn inserted(&self) -> Vec<(Bytes, InsertOptions)> {
        self.0.inserted.lock().unwrap().clone()
    }
}

fn content(
    bytes: Bytes,
    mime: Option<&str>,
    give: usize,
    end: Option<FetchError>,
    running: Running,
) -> Content {
    let info = ContentInfo {
        size: bytes.len() as u64,
        mime: mime.map(str::to_owned),
        hash: *blake3::hash(&bytes).as_bytes(),
    };
    let (_, progress) = tokio::sync::watch::channel(Progress::default());
    Content::new(info, progress, move |range| {
        let (sink, stream) = ContentStream::channel(range.end - range.start, 1);
        tokio::spawn(async move {
            let [start, stop] = [range.start, range.end].map(|at| usize::try_from(at).unwrap().min(give));
            for piece in bytes[start..stop].chunks(10_000) {
                if !sink.send(Ok(Bytes::copy_from_slice(piece))).await {
                    return;
                }
            }
            if let Some(error) = end {
                sink.send(Err(error)).await;
            } else if give < bytes.len() {
                sink.closed().await;
            }
            drop(running);
        });
        stream
    })
}

impl Network for Fake {
    async fn open(&self, uri: &Uri, wait: Duration) -> Result<Content, FetchError> {
        self.0.waits.lock().unwrap().push(wait);
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        let running = Running::new(&self.0);
        let key = uri.clone().with_path(Path::none()).to_string();
        let behaviour = self.0.files.lock().unwrap().get(&key).cloned();
        match behaviour {
            None => Err(FetchError::NotFound),
            Some(Behaviour::Fails(error)) => Err(error()),
            Some(Behaviour::Hangs) => std::future::pending().await,
            Some(Behaviour::File(bytes, mime)) => Ok(content(bytes, mime, usize::MAX, None, running)),
            Some(Behaviour::Breaks(bytes)) => {
                let half = bytes.len() / 2;
                Ok(content(bytes, None, half, Some(FetchError::NotFound), running))
            }
            Some(Behaviour::Stalls(bytes)) => {
                let half = bytes.len() / 2;
                Ok(content(bytes, None, half, None, running))
            }
        }
    }

    async fn insert(
        &self,
        source: Source,
        options: InsertOptions,
        _: Reporter,
    ) -> Result<Inserted, InsertError> {
        let Source::Stream(mut stream) = source else {
            panic!("the proxy inserts streams")
        };
        let mut bytes = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_next(cx)).await
        {
            bytes.extend_from_slice(&piece.map_err(InsertError::Source)?);
        }
        let uri = match &options.kind {
            InsertKind::Chk => CHK.parse().unwrap(),
            InsertKind::Key(key) => key.to_uri(),
        };
        if self.0.files.lock().unwrap().contains_key(&uri.to_string()) {
            return Err(InsertError::Collision);
        }
        let size = bytes.len() as u64;
        self.0.inserted.lock().unwrap().push((bytes.into(), options));
        Ok(Inserted { uri, size })
    }
}

fn proxy<N: Network>(network: &N, limits: Limits) -> Arc<Proxy<N>> {
    let status = NodeStatus {
        links: 7,
        known_nodes: 33,
        network: "<test>".into(),
        problems: vec!["the disk is > full".into()],
        ..NodeStatus::default()
    };
    Proxy::new(
        network.clone(),
        move || std::future::ready(Some(status.clone())),
        Settings {
            limits,
            ..Settings::default()
        },
        &[5; 32],
    )
}

/// A proxy on a loopback socket; ends with the test.
struct Site {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start_with<N: Network>(network: &N, limits: Limits) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, proxy(network, limits), stop.clone()));
    Site { address, stop }
}

async fn start<N: Network>(network: &N) -> Site {
    start_with(network, Limits::default()).await
}

/// An answer taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn parse(raw: &[u8]) -> Self {
        let end = raw
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {raw:?}"));
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self {
            status,
            headers: lines.map(pair).collect(),
            body: raw[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether all came that the head promised.
    fn is_complete(&self) -> bool {
        self.header("content-length").unwrap().parse::<usize>().unwrap() == self.body.len()
    }
}

/// Reads until the other side closes; a reset counts as a close.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        raw.extend_from_slice(&buffer[..count]);
    }
    raw
}

impl Site {
    /// Sends a request line and headers (`Host` and `Connection: close` are added), and gives the answer.
    async fn ask(&self, line: &str, headers: &[&str]) -> Reply {
        self.send(line, headers, b"").await
    }

    async fn send(&self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        let host = format!("Host: {}", self.address);
        let mut all = vec![host.as_str(), "Connection: close"];
        all.extend(headers);
        let length = format!("Content-Length: {}", body.len());
        if !body.is_empty() {
            all.push(&length);
        }
        self.raw(
            format!("{line} HTTP/1.1\r\n{}\r\n\r\n", all.join("\r\n")).as_bytes(),
            body,
        )
        .await
    }

    async fn raw(&self, head: &[u8], body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head).await.unwrap();
        // The server may refuse and close before the body is through.
        let _ = stream.write_all(body).await;
        Reply::parse(&read_all(&mut stream).await)
    }
}

/// The other end of a connection that is served under the test's clock.
fn connect(fake: &Fake, limits: Limits, buffer: usize) -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(buffer);
    let hosts = Arc::new(Hosts::new("127.0.0.1:8888".parse().unwrap(), &[]));
    tokio::spawn(serve_connection(
        server,
        proxy(fake, limits),
        hosts,
        CancellationToken::new(),
    ));
    client
}

fn file(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn ksk(words: &str) -> Uri {
    Uri::Ksk(KskUri {
        words: Name::new(words).unwrap(),
        path: Path::none(),
    })
}
