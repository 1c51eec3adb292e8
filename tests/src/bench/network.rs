//! Real nodes in this process, with loopback sockets and datastores between and below them: eight that are all linked, unless told otherwise.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_core::Stream;
use tempfile::TempDir;
use tokio::task::JoinSet;
use warren_keys::Uri;
use warren_node::{
    client::{ByteStream, Client, Content, ContentStream, InsertOptions, Network as _, Reporter, Source},
    node::{Node, NodeConfig, NodeHandle},
};
use warren_proto::{descriptor::NodeReference, routing::RouterStats};

use super::line::Line;

/// Nodes of a network.
pub const NODES: usize = 8;
/// The node that inserts, and the one that fetches.
pub const PUBLISHER: usize = 1;
/// See [`PUBLISHER`].
pub const READER: usize = 6;
/// Links that each node of a larger network is to have before it is used: the least that a node strives for.
const LINKS: usize = 20;
/// Nothing that the benchmarks wait for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(2);

/// A node and its client.
pub struct Member {
    /// The node.
    pub node: Arc<NodeHandle>,
    /// Its client.
    pub client: Client,
    _line: Option<Line>,
    // Removed last.
    _folder: TempDir,
}

/// The network.
pub struct Network(pub Vec<Member>);

/// Settings of a node of the network `name`.
#[must_use]
pub fn config(name: &str, folder: &TempDir, seeds: Vec<NodeReference>) -> NodeConfig {
    NodeConfig {
        network: name.to_owned(),
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        seeds,
        store_size: 2 << 30,
        cache_size: 256 << 20,
        sparse: true,
        allow_private: true,
        ..NodeConfig::new(folder.path())
    }
}

/// Waits for something that has to come.
///
/// # Errors
/// When it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .with_context(|| format!("waited in vain for {what}"))
}

impl Network {
    /// Starts `count` nodes that know `seed`, or the first of themselves, and waits until all are linked.
    ///
    /// # Errors
    /// When a node does not start, or they do not find each other.
    pub async fn start(name: &str, count: usize, seed: Option<NodeReference>) -> anyhow::Result<Self> {
        Self::start_apart(name, count, seed, None).await
    }

    /// The same with a line before each node that delays every byte, both ways.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub async fn start_apart(
        name: &str,
        count: usize,
        seed: Option<NodeReference>,
        delay: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let mut members: Vec<Member> = Vec::with_capacity(count);
        let mut seeds: Vec<_> = seed.into_iter().collect();
        for _ in 0..count {
            let folder = tempfile::tempdir()?;
            let line = delay.map(Line::listen).transpose()?;
            let config = NodeConfig {
                advertise: line.iter().map(|line| line.address).collect(),
                ..config(name, &folder, seeds.clone())
            };
            let node = Arc::new(Node::start(config).await?);
            if let (Some(line), Some(listening)) = (&line, node.listening().first()) {
                line.lead_to(*listening);
            }
            if seeds.is_empty() {
                seeds = node.references();
            }
            members.push(Member {
                client: Client::new(node.jobs(), folder.path()),
                node,
                _line: line,
                _folder: folder,
            });
        }
        let network = Self(members);
        network.linked(LINKS.min(count - 1)).await?;
        Ok(network)
    }

    /// Waits until each node has `links` neighbours.
    ///
    /// # Errors
    /// When they do not find each other.
    pub async fn linked(&self, links: usize) -> anyhow::Result<()> {
        for member in &self.0 {
            soon("links", member.node.wait_for_links(links)).await?;
        }
        Ok(())
    }

    /// What all routers did, added up.
    ///
    /// # Errors
    /// When a node has ended.
    pub async fn routed(&self) -> anyhow::Result<RouterStats> {
        let mut sum = RouterStats::default();
        for member in &self.0 {
            let one = member.node.status().await?.core.router;
            sum.exit_fetches += one.exit_fetches;
            sum.exit_inserts += one.exit_inserts;
            sum.forwarded += one.forwarded;
            sum.inserts_forwarded += one.inserts_forwarded;
            sum.near += one.near;
            sum.cached += one.cached;
            sum.refused_busy += one.refused_busy;
            sum.timeouts += one.timeouts;
        }
        Ok(sum)
    }

    /// Ends all nodes at once. What they stored goes too, so nobody waits for the disk to take it.
    pub fn end(self) {
        for Member { node, client, .. } in self.0 {
            drop(client);
            if let Some(node) = Arc::into_inner(node) {
                node.abort();
            }
        }
    }
}

impl Member {
    /// Waits until the node has `count` circuits in reserve and builds none.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn circuits(&self, count: usize) -> anyhow::Result<()> {
        soon("circuits", async {
            loop {
                let core = self.node.status().await?.core;
                if core.circuits_ready >= count && core.circuits_building == 0 {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await?
    }

    /// Inserts a file.
    ///
    /// # Errors
    /// When the insert fails.
    pub async fn insert(&self, source: Source) -> anyhow::Result<Uri> {
        insert(self.client.clone(), source).await
    }

    /// Inserts files of noise, `size` bytes each, with the seeds `seeds`, `at_once` at a time; gives their keys in the order of the seeds.
    ///
    /// # Errors
    /// When an insert fails.
    pub async fn insert_noise(
        &self,
        seeds: Range<u64>,
        size: usize,
        at_once: usize,
    ) -> anyhow::Result<Vec<Uri>> {
        let uris = self.try_insert_noise(seeds, size, at_once).await?;
        uris.into_iter().collect()
    }

    /// The same, whatever becomes of each file.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn try_insert_noise(
        &self,
        seeds: Range<u64>,
        size: usize,
        at_once: usize,
    ) -> anyhow::Result<Vec<anyhow::Result<Uri>>> {
        let mut uris = Vec::new();
        let mut running = JoinSet::new();
        for seed in seeds {
            if running.len() >= at_once
                && let Some(done) = running.join_next().await
            {
                uris.push(done?);
            }
            let client = self.client.clone();
            running.spawn(async move {
                let uri = insert(client, piece(noise(seed, size).into())).await;
                (seed, uri.with_context(|| format!("a file of {size} bytes")))
            });
        }
        while let Some(done) = running.join_next().await {
            uris.push(done?);
        }
        uris.sort_by_key(|(seed, _)| *seed);
        Ok(uris.into_iter().map(|(_, uri)| uri).collect())
    }

    /// Fetches a file of `size` bytes.
    ///
    /// # Errors
    /// As [`fetch`].
    pub async fn fetch(&self, uri: &Uri, size: usize, take: impl FnMut(&[u8])) -> anyhow::Result<Duration> {
        fetch(&self.client, uri, size, take).await
    }
}

/// Inserts a file.
///
/// # Errors
/// When the insert fails.
pub async fn insert(client: Client, source: Source) -> anyhow::Result<Uri> {
    let options = InsertOptions::default();
    let inserted = client.insert(source, options, Reporter::ignored());
    Ok(inserted.await.context("an insert failed")?.uri)
}

/// Fetches a file of `size` bytes and passes its pieces on. Gives the time to the first byte.
///
/// # Errors
/// When it does not come, or has another size. The client has held it against its hash.
pub async fn fetch(
    client: &Client,
    uri: &Uri,
    size: usize,
    take: impl FnMut(&[u8]),
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let content = open(client, uri).await?;
    let opened = begun.elapsed();
    Ok(opened + read(content, size, take).await?)
}

/// Finds a file's root.
///
/// # Errors
/// When it is not there.
pub async fn open(client: &Client, uri: &Uri) -> anyhow::Result<Content> {
    Ok(soon("a file's root", client.open(uri, Duration::ZERO)).await??)
}

/// Reads a file of `size` bytes and passes its pieces on. Gives the time to the first byte.
///
/// # Errors
/// As [`fetch`].
pub async fn read(content: Content, size: usize, mut take: impl FnMut(&[u8])) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut stream = content.stream(0..u64::MAX);
    let mut first = None;
    let mut came = 0;
    while let Some(piece) = soon("a file's bytes", next(&mut stream)).await? {
        let piece = piece?;
        first.get_or_insert_with(|| begun.elapsed());
        came += piece.len();
        take(&piece);
    }
    ensure!(came == size, "{came} of {size} bytes came out");
    match first {
        Some(time) => Ok(time),
        None => bail!("an empty file has no first byte"),
    }
}

/// A source of one piece.
#[must_use]
pub fn piece(bytes: Bytes) -> Source {
    struct Once(Option<Bytes>);
    impl Stream for Once {
        type Item = std::io::Result<Bytes>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.take().map(Ok))
        }
    }
    Source::Stream(ByteStream::new(Once(Some(bytes))))
}

/// The next piece of a file.
async fn next(stream: &mut ContentStream) -> Option<Result<Bytes, warren_node::client::FetchError>> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}

/// Bytes that do not shrink, different for each `seed`.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
