//! What a running node tells its own user: one view of its state for the web page and the control interface.
//!
//! Deliberately absent: anything about what is being fetched or inserted. Peers and requests never stand together (log policy).

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use warren_keys::{BLOCK_SIZE, base64};

use crate::{
    config::{ByteLimit, ByteRate, Config},
    control::server::Overseer,
    http::Refusals,
    node::{NodeHandle, NodeStopped},
    proxy,
    reach::Reach,
    settings::{Change, Document, Live},
    standing::Standing,
};

/// A node's state, as shown to its user.
#[derive(Clone)]
pub struct Overview {
    node: Arc<NodeHandle>,
    network: String,
    refusals: Refusals,
    settings: Arc<Live>,
}

/// `warren status --json` and `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The network.
    pub network: String,
    /// What others need to reach this node, the best first; empty when it publishes no address.
    pub references: Vec<String>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// How it stands in the network.
    pub standing: Standing,
    /// Whether and where others reach it.
    pub reach: Reach,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Links that are up.
    pub links: usize,
    /// Links that it looks for.
    pub missing_links: usize,
    /// Nodes that it knows of.
    pub known_nodes: usize,
    /// Own circuits that are ready.
    pub circuits_ready: usize,
    /// Transfers of the local user.
    pub jobs: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Bytes of all data that waits in memory, of `limits.memory`.
    pub memory_bytes: usize,
    /// How often memory was short, and what was given up for it.
    #[serde(default)]
    pub reclaimed: Reclaimed,
    /// The store region.
    pub store: Region,
    /// The cache region.
    pub cache: Region,
    /// What it offers to others at present.
    pub services: Offered,
    /// What its links may move.
    pub limits: Limits,
    /// What they moved this month.
    pub month: Month,
    /// Requests taken from neighbours, and inserts.
    pub routed: u64,
    /// Requests and inserts carried out for circuits that end here.
    pub exit: u64,
    /// Neighbours and circuits that wait here for blocks that are not there yet.
    pub waits: usize,
    /// Connections and messages of strangers that were refused.
    pub rejected: u64,
    /// Requests and connections that the proxy and the control interface refused.
    pub refused: u64,
    /// What is wrong with this machine, in words; empty when all is well.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// How often each step of the order was taken by which memory is taken back (`docs/architecture.md`, "Memory").
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Reclaimed {
    /// Neighbours and circuits with several requests open began to be refused more.
    pub busy: u64,
    /// Copies and fetching ahead were given up.
    pub lean: u64,
    /// Circuits that ended.
    pub circuits: u64,
    /// Links that were closed.
    pub links: u64,
}

/// What a node offers to others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Offered {
    /// Carries circuits.
    pub relay: bool,
    /// Routes requests for circuits that end at it.
    pub exit: bool,
    /// Keeps blocks.
    pub store: bool,
}

/// What a node's links may move.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second to others.
    pub up: ByteRate,
    /// Bytes a second from others.
    pub down: ByteRate,
    /// Bytes in a calendar month, both directions.
    pub monthly: ByteLimit,
    /// Links at once.
    pub links: usize,
}

/// What a node's links have moved in a calendar month (UTC).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Month {
    /// Which, `2026-11`.
    pub month: String,
    /// Bytes to others.
    pub up_bytes: u64,
    /// Bytes from others.
    pub down_bytes: u64,
}

/// One region of the datastore.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Region {
    /// Bytes of blocks that it holds.
    pub used_bytes: u64,
    /// Bytes of blocks that it can hold.
    pub capacity_bytes: u64,
}

/// One link, in `GET /v1/peers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// The neighbour's identity.
    pub identity: String,
    /// Whether this node opened the link.
    pub dialled: bool,
    /// Round trip in milliseconds, when measured.
    pub round_trip_ms: Option<f64>,
}

impl Overview {
    /// A view of a node.
    #[must_use]
    pub fn new(node: Arc<NodeHandle>, network: String) -> Self {
        Self {
            node,
            network,
            refusals: Refusals::default(),
            settings: Arc::new(Live::new(Config::default(), None)),
        }
    }

    /// The same of a node that was started with the configuration in `file`: its settings can be changed and saved.
    #[must_use]
    pub fn with_config(self, file: &Path, config: Config) -> Self {
        Self {
            settings: Arc::new(Live::new(config, Some(file))),
            ..self
        }
    }

    /// Where the local interfaces count what they refuse.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// The state now.
    ///
    /// # Errors
    /// When the node is stopping.
    pub async fn status(&self) -> Result<Status, NodeStopped> {
        let status = self.node.status().await?;
        let region = |stats: warren_storage::RegionStats| Region {
            used_bytes: stats.used * BLOCK_SIZE as u64,
            capacity_bytes: stats.slots * BLOCK_SIZE as u64,
        };
        let router = &status.core.router;
        let settings = self.node.settings();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.network.clone(),
            references: self.node.references().iter().map(ToString::to_string).collect(),
            uptime_seconds: status.uptime.as_secs(),
            standing: Standing::of(&status.core, status.month.allowance, status.uptime),
            reach: Reach::of(&status),
            listening: status.listening.iter().map(ToString::to_string).collect(),
            links: status.core.links.len(),
            missing_links: status.core.missing_links,
            known_nodes: status.core.known_nodes,
            circuits_ready: status.core.circuits_ready,
            jobs: status.jobs,
            queued_bytes: status.queued,
            memory_bytes: status.memory,
            reclaimed: Reclaimed {
                busy: status.reclaimed.busy,
                lean: status.reclaimed.lean,
                circuits: status.reclaimed.circuits,
                links: status.reclaimed.links,
            },
            store: region(status.disk.store),
            cache: region(status.disk.cache),
            services: Offered {
                relay: status.services.relay,
                exit: status.services.exit,
                store: status.services.store,
            },
            limits: Limits {
                up: ByteRate(settings.bandwidth.up),
                down: ByteRate(settings.bandwidth.down),
                monthly: ByteLimit(settings.bandwidth.monthly),
                links: settings.links,
            },
            month: Month {
                month: status.month.month,
                up_bytes: status.month.up,
                down_bytes: status.month.down,
            },
            routed: router.requests + router.inserts,
            exit: router.exit_fetches + router.exit_inserts,
            waits: status.core.open.waits,
            rejected: status.rejections.total(),
            refused: self.refusals.total(),
            problems: status.problems,
        })
    }

    /// The links now.
    ///
    /// # Errors
    /// When the node is stopping.
    pub async fn peers(&self) -> Result<Vec<Peer>, NodeStopped> {
        let status = self.node.status().await?;
        let peer = |link: &warren_proto::core::LinkStatus| Peer {
            identity: base64::encode(link.link.node.as_bytes()),
            dialled: link.link.dialled,
            round_trip_ms: link.link.round_trip.map(|time| time.as_secs_f64() * 1000.0),
        };
        Ok(status.core.links.iter().map(peer).collect())
    }

    /// What the start page of the proxy shows; nothing while the node is stopping.
    pub async fn page(&self) -> Option<proxy::NodeStatus> {
        let status = self.node.status().await.ok()?;
        Some(proxy::NodeStatus::of_node(&status, &self.network))
    }
}

impl Overseer for Overview {
    async fn status(&self) -> Result<serde_json::Value, NodeStopped> {
        Ok(serde_json::json!(Overview::status(self).await?))
    }

    async fn peers(&self) -> Result<serde_json::Value, NodeStopped> {
        Ok(serde_json::json!(Overview::peers(self).await?))
    }

    fn settings(&self) -> Document {
        self.settings.show()
    }

    async fn change(&self, change: Change) -> Result<Document, String> {
        let (settings, node) = (Arc::clone(&self.settings), Arc::clone(&self.node));
        let changing = move || {
            settings.change(&node, &change)?;
            Ok(settings.show())
        };
        tokio::task::spawn_blocking(changing)
            .await
            .map_err(|_| "the change failed inside the program; the log has more".to_owned())?
    }

    async fn add_peer(&self, reference: &str) -> Result<(), String> {
        let parsed = reference
            .parse()
            .map_err(|error| format!("{reference:?} is not a node reference: {error}"))?;
        self.node
            .add_peer(&parsed)
            .await
            .map_err(|error| format!("its host has no address: {error}"))
    }
}
