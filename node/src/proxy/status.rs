//! What the start page tells about the node.

use std::{pin::Pin, time::Duration};

use warren_keys::BLOCK_SIZE;
use warren_storage::RegionStats;

/// A snapshot of the node for its own user. Shown only on the start page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeStatus {
    /// Version of the program.
    pub version: String,
    /// Name of the network.
    pub network: String,
    /// Since the node was started.
    pub uptime: Duration,
    /// Links to other nodes that are up.
    pub links: usize,
    /// Nodes whose descriptor this node has.
    pub known_nodes: usize,
    /// Bytes of blocks in both regions of the datastore.
    pub stored_bytes: u64,
    /// Bytes that both regions can hold.
    pub capacity_bytes: u64,
    /// What is wrong with this machine, in words.
    pub problems: Vec<String>,
}

impl NodeStatus {
    /// What a node of the network `network` says of itself.
    #[must_use]
    pub fn of_node(node: &crate::node::NodeStatus, network: &str) -> Self {
        let regions = [node.disk.store, node.disk.cache];
        let bytes =
            |slots: fn(&RegionStats) -> u64| regions.iter().map(slots).sum::<u64>() * BLOCK_SIZE as u64;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: network.to_owned(),
            uptime: node.uptime,
            links: node.links.len(),
            known_nodes: node.core.known_nodes,
            stored_bytes: bytes(|region| region.used),
            capacity_bytes: bytes(|region| region.slots),
            problems: node.problems.clone(),
        }
    }
}

/// Whom to ask for the status.
pub(super) struct StatusSource(Box<dyn Fn() -> Answer + Send + Sync>);

type Answer = Pin<Box<dyn Future<Output = Option<NodeStatus>> + Send>>;

impl StatusSource {
    pub(super) fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<NodeStatus>> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(ask())))
    }

    /// None when the node is stopping.
    pub(super) async fn ask(&self) -> Option<NodeStatus> {
        (self.0)().await
    }
}

/// A size for people: `1.5 GiB`.
#[must_use]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).clamp(1, 6);
    // One decimal, rounded down: nothing is shown as larger than it is.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power as usize - 1])
}

/// A duration for people: `3 h 20 min`.
#[must_use]
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (10 << 30, "10.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (12_000, "3 h 20 min"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
