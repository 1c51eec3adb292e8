//! Small networks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use warren_keys::{BLOCK_SIZE, Block, BlockKind};
use warren_node::node::{Node, NodeConfig, NodeHandle};
use warren_proto::descriptor::NodeReference;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has to come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A small node in `folder`.
pub(crate) fn config(folder: &TempDir, seeds: &[NodeReference]) -> NodeConfig {
    NodeConfig {
        network: "test".to_owned(),
        listen: vec![loopback()],
        seeds: seeds.to_vec(),
        store_size: 16 << 20,
        cache_size: 16 << 20,
        sparse: true,
        allow_private: true,
        ..NodeConfig::new(folder.path().join("node"))
    }
}

/// Nodes that know the first one.
pub(crate) struct Network {
    pub(crate) nodes: Vec<NodeHandle>,
    pub(crate) folders: Vec<TempDir>,
}

impl Network {
    /// Starts `count` nodes and waits until each is linked to all others.
    pub(crate) async fn linked(count: usize) -> Self {
        Self::linked_with(count, |_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn linked_with(count: usize, adjust: impl Fn(&mut NodeConfig)) -> Self {
        let config = |folder: &TempDir, seeds: &[NodeReference]| {
            let mut config = config(folder, seeds);
            adjust(&mut config);
            config
        };
        let folders: Vec<_> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let first = Node::start(config(&folders[0], &[])).await.unwrap();
        let seeds = first.references();
        let mut nodes = vec![first];
        for folder in &folders[1..] {
            nodes.push(Node::start(config(folder, &seeds)).await.unwrap());
        }
        for node in &nodes {
            soon("links", node.wait_for_links(count - 1)).await;
        }
        Self { nodes, folders }
    }

    pub(crate) async fn shutdown(self) {
        for node in self.nodes {
            soon("shutdown", node.shutdown()).await.unwrap();
        }
    }
}

/// A block that differs for each `seed`.
pub(crate) fn block(seed: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![seed; BLOCK_SIZE])).unwrap()
}
