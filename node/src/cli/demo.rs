//! `warren demo`: a private network of eight nodes on this machine, and a file on its way through it.
//!
//! Nothing here is special to the demonstration but its size: the nodes are those of `warren run`, with identities, datastores and ports of
//! their own, and the file is fetched through the HTTP proxy as a browser would.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_util::sync::CancellationToken;
use warren_keys::{Path as UriPath, Uri};

use super::{Failure, args::DemoArgs, run, terminal::Terminal};
use crate::{
    client::{Client, InsertOptions, Network, Reporter, Source},
    node::{Node, NodeConfig, NodeHandle},
    overview::Overview,
};

/// Nodes of the network: enough that a three-hop circuit and the routing behind it have somewhere to go.
const NODES: usize = 8;
/// The node that inserts, and the one whose proxy fetches.
const PUBLISHER: usize = 1;
const READER: usize = 6;
/// Hops of the circuits.
const HOPS: usize = 3;
/// Disk that each node may use; taken only as it fills.
const STORE: u64 = 2 << 30;
const CACHE: u64 = 256 << 20;
/// How long the nodes may take to find each other before the demonstration has failed.
const FORMING: Duration = Duration::from_secs(20);

/// What is sent when no file is named.
const DOCUMENT: &[u8] = include_bytes!("../../../README.md");
const DOCUMENT_NAME: &str = "README.md";

/// What the demonstration measured.
#[derive(Serialize)]
struct Report {
    key: String,
    bytes: u64,
    formed_ms: u128,
    insert_ms: u128,
    first_byte_ms: u128,
    fetch_ms: u128,
    circuit_hops: usize,
    mean_routed_hops: f64,
    identical: bool,
    url: String,
    proxies: Vec<String>,
}

struct Member {
    node: Arc<NodeHandle>,
    client: Client,
    proxy: SocketAddr,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

/// Runs the demonstration.
///
/// # Errors
/// When the file cannot be read, the network does not form, or what comes out is not what went in.
pub(super) async fn demo(terminal: Terminal, args: DemoArgs) -> Result<(), Failure> {
    run::start_log(&args.log)?;
    let stop = run::stop_signal()?;
    let folder = Folder::make()?;
    let (file, name) = match args.file {
        Some(path) => {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("file")
                .to_owned();
            (path, name)
        }
        None => {
            let path = folder.0.join(DOCUMENT_NAME);
            std::fs::write(&path, DOCUMENT).map_err(|error| Failure::io(path.display(), &error))?;
            (path, DOCUMENT_NAME.to_owned())
        }
    };
    let size = match std::fs::metadata(&file) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(Failure::usage(format!("{} is not a file", file.display()))),
        Err(error) => return Err(Failure::io(file.display(), &error)),
    };

    let members = start(&folder.0, &stop).await?;
    let outcome = tokio::select! {
        outcome = send(terminal, &members, &file, &name, size) => outcome,
        () = stop.cancelled() => Err(Failure::new("stopped before the file was through")),
    };
    if outcome.is_ok() && !args.exit {
        stop.cancelled().await;
    }
    stop.cancel();
    for Member {
        node, client, served, ..
    } in members
    {
        served.await.ok();
        drop(client);
        run::shutdown(node).await?;
    }
    outcome
}

async fn start(folder: &Path, stop: &CancellationToken) -> Result<Vec<Member>, Failure> {
    // A name of its own, so that two demonstrations at once never meet.
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(Failure::new)?;
    let network = format!("demo-{}", data_encoding::HEXLOWER.encode(&nonce));
    let mut members: Vec<Member> = Vec::with_capacity(NODES);
    for number in 0..NODES {
        let folder = folder.join(format!("node-{number}"));
        let node = Node::start(NodeConfig {
            network: network.clone(),
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            seeds: members
                .first()
                .map(|first| first.node.references())
                .unwrap_or_default(),
            store_size: STORE,
            cache_size: CACHE,
            hops: HOPS,
            sparse: true,
            allow_private: true,
            ..NodeConfig::new(folder.clone())
        })
        .await
        .map_err(Failure::new)?;
        let node = Arc::new(node);
        let client = Client::new(node.jobs(), folder).with_neighbours(node.neighbours());
        let overview = Overview::new(Arc::clone(&node), network.clone());
        let (proxy, served) = run::serve_proxy(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            &[],
            &client,
            &overview,
            stop,
        )
        .await?;
        members.push(Member {
            node,
            client,
            proxy,
            served,
        });
    }
    Ok(members)
}

async fn send(
    terminal: Terminal,
    members: &[Member],
    file: &Path,
    name: &str,
    size: u64,
) -> Result<(), Failure> {
    let started = Instant::now();
    let formed = async {
        for member in members {
            member.node.wait_for_links(NODES - 1).await;
        }
    };
    tokio::time::timeout(FORMING, formed)
        .await
        .map_err(|_| Failure::new(format!("the nodes did not find each other in {FORMING:?}")))?;
    let formed = started.elapsed();
    terminal.remark(
        &serde_json::json!({ "formed": { "nodes": NODES, "ms": formed.as_millis() } }),
        &format!("{NODES} nodes are up and linked after {formed:.1?}."),
    );

    let started = Instant::now();
    let options = InsertOptions {
        mime: mime_guess::from_path(name).first_raw().map(str::to_owned),
        ..InsertOptions::default()
    };
    let inserted = members[PUBLISHER]
        .client
        .insert(Source::Path(file.to_owned()), options, Reporter::ignored())
        .await
        .map_err(|error| Failure::new(format!("the insert failed: {error}")))?;
    let insert = started.elapsed();
    let uri = match UriPath::new([name]) {
        Ok(path) => inserted.uri.with_path(path),
        Err(_) => inserted.uri,
    };
    terminal.remark(
        &serde_json::json!({ "inserted": { "key": uri.to_string(), "ms": insert.as_millis() } }),
        &format!("Inserted {size} bytes at node {PUBLISHER} in {insert:.1?}:\n\n  {uri}\n"),
    );

    let proxy = members[READER].proxy;
    let fetched = fetch_and_compare(proxy, &uri, file).await?;
    let mean_routed_hops = mean_routed_hops(members).await?;
    let report = Report {
        key: uri.to_string(),
        bytes: size,
        formed_ms: formed.as_millis(),
        insert_ms: insert.as_millis(),
        first_byte_ms: fetched.first_byte.as_millis(),
        fetch_ms: fetched.whole.as_millis(),
        circuit_hops: HOPS,
        mean_routed_hops,
        identical: fetched.identical,
        url: format!("http://{proxy}/{uri}"),
        proxies: members
            .iter()
            .map(|member| format!("http://{}/", member.proxy))
            .collect(),
    };
    let verdict = if fetched.identical {
        "identical to what was inserted"
    } else {
        "NOT what was inserted"
    };
    let text = format!(
        "Fetched {} bytes through the HTTP proxy of node {READER}: first byte after {:.1?}, all after {:.1?}; {verdict}.\n\
         Each block went through {} circuit hops and, on average, {mean_routed_hops:.1} routing hops.\n\n\
         The file:         {}\n\
         The nodes' pages: {}\n",
        fetched.bytes,
        fetched.first_byte,
        fetched.whole,
        report.circuit_hops,
        report.url,
        report.proxies.join("\n                  "),
    );
    terminal.result(&report, &text);
    if fetched.identical {
        Ok(())
    } else {
        Err(Failure::new("what came out is not what went in"))
    }
}

/// Neighbours asked for each request that left an exit, over all nodes.
async fn mean_routed_hops(members: &[Member]) -> Result<f64, Failure> {
    let (mut requests, mut forwarded) = (0, 0);
    for member in members {
        let router = member.node.status().await.map_err(Failure::new)?.core.router;
        requests += router.exit_fetches;
        forwarded += router.forwarded;
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean of small counts, for people")]
    let mean = forwarded as f64 / requests.max(1) as f64;
    Ok(mean)
}

struct Fetched {
    bytes: u64,
    first_byte: Duration,
    whole: Duration,
    identical: bool,
}

/// Fetches a key as a browser would and compares the answer with the file while it comes.
async fn fetch_and_compare(proxy: SocketAddr, uri: &Uri, file: &Path) -> Result<Fetched, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("the fetch failed: {error}"));
    let started = Instant::now();
    let stream = TcpStream::connect(proxy).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::get(format!("/{uri}"))
        .header(hyper::header::HOST, proxy.to_string())
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| failed(&error))?;
    let mut answer = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(failed(&answer.status()));
    }
    let mut original = tokio::fs::File::open(file)
        .await
        .map_err(|error| Failure::io(file.display(), &error))?;
    let mut fetched = Fetched {
        bytes: 0,
        first_byte: started.elapsed(),
        whole: Duration::ZERO,
        identical: true,
    };
    let mut expected = Vec::new();
    while let Some(frame) = answer.body_mut().frame().await {
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else {
            continue;
        };
        if fetched.bytes == 0 {
            fetched.first_byte = started.elapsed();
        }
        fetched.bytes += data.len() as u64;
        expected.resize(data.len(), 0);
        let same = original.read_exact(&mut expected).await.is_ok() && expected == data;
        fetched.identical &= same;
    }
    fetched.whole = started.elapsed();
    fetched.identical &= original.read(&mut [0]).await.is_ok_and(|more| more == 0);
    Ok(fetched)
}

/// A folder of its own under the system's temporary one, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(Failure::new)?;
        let name = format!("warren-demo-{}", data_encoding::HEXLOWER.encode(&nonce));
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .map_err(|error| Failure::io(path.display(), &error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is sealed, and in the temporary folder.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
