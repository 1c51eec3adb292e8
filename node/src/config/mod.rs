//! The configuration file: what a person writes in `warren.toml`, checked and with its defaults filled in.
//!
//! Invariants: an unknown field, a value out of range or a malformed reference is an error that names its line; nothing is
//! silently corrected. The example that `warren init` writes is this module's own test input.
//!
//! Deliberately not here: secrets, and anything that the node learns by itself. Those are in sealed state files.

pub(crate) mod access;
mod limit;
pub(crate) mod save;
pub mod seeds;
mod size;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use warren_proto::{descriptor::NodeReference, network::Network};

pub use limit::{ByteLimit, ByteRate};
pub use save::SaveError;
pub use size::ByteSize;

use crate::node::{MAX_RATE, MIN_MONTHLY, MIN_RATE};

/// File name of the configuration inside the data directory.
pub const CONFIG_FILE: &str = "warren.toml";

/// The commented configuration that `warren init` writes; every line in it states a default.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Largest configuration file that is read, bytes: a larger one is some other file, named by mistake.
const MAX_CONFIG_LEN: u64 = 1 << 20;

/// Smallest datastore region, bytes: below this the set-associative table has too few sets to be of use to anyone.
const MIN_REGION: u64 = 16 << 20;

/// Everything that a person may set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network and the node's place in it.
    pub node: NodeSection,
    /// Disk.
    pub store: StoreSection,
    /// Circuits that this node builds for its own user.
    pub circuits: CircuitSection,
    /// What this node does for others.
    pub services: ServiceSection,
    /// Bounds.
    pub limits: LimitSection,
    /// Whom to have links with.
    pub access: AccessSection,
    /// The HTTP proxy.
    pub proxy: ProxySection,
    /// The control interface for the command line.
    pub control: ControlSection,
}

/// `[node]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSection {
    /// Name of the network; nodes of different names never connect.
    pub network: String,
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Addresses to publish; empty means the listening addresses that are not wildcards.
    pub advertise: Vec<SocketAddr>,
    /// Own addresses that connections to other nodes leave from, at most one of each family; without one the system chooses.
    pub dial_from: Vec<IpAddr>,
    /// References of nodes to learn the network from.
    pub seeds: Vec<String>,
    /// A file with more of them, one a line; empty for none. A relative path begins at the data directory.
    pub seeds_file: PathBuf,
    /// Whether to ask the router of the local network to let others in (UPnP, PCP, NAT-PMP).
    pub port_mapping: bool,
    /// Whether to connect to loopback and private addresses that strangers advertise.
    pub allow_private: bool,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            network: "warren".to_owned(),
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))],
            advertise: Vec::new(),
            dial_from: Vec::new(),
            seeds: Vec::new(),
            seeds_file: PathBuf::new(),
            port_mapping: true,
            allow_private: false,
        }
    }
}

/// Port that a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7420;

/// `[store]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// Disk for blocks that this node is among the nearest to.
    pub size: ByteSize,
    /// Disk for copies left by traffic.
    pub cache: ByteSize,
    /// Whether the disk space is reserved when the datastore is made, instead of taken as it fills.
    pub reserve: bool,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            size: ByteSize(8 << 30),
            cache: ByteSize(2 << 30),
            reserve: true,
        }
    }
}

/// `[circuits]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitSection {
    /// Hops of the circuits that carry this user's requests, 0 to 5. Zero hides nothing.
    pub hops: u8,
}

impl Default for CircuitSection {
    fn default() -> Self {
        Self { hops: 3 }
    }
}

/// `[services]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSection {
    /// Carry the circuits of others.
    pub relay: bool,
    /// Route requests for circuits that end here.
    pub exit: bool,
    /// Keep blocks for the network.
    pub store: bool,
}

impl Default for ServiceSection {
    fn default() -> Self {
        Self {
            relay: true,
            exit: true,
            store: true,
        }
    }
}

/// `[limits]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSection {
    /// Most links at once.
    pub links: u16,
    /// Memory for data that waits.
    pub memory: ByteSize,
    /// What may be sent to other nodes.
    pub up: ByteRate,
    /// What may be received from other nodes.
    pub down: ByteRate,
    /// What may be sent and received, together, in a calendar month (UTC).
    pub monthly: ByteLimit,
}

impl Default for LimitSection {
    fn default() -> Self {
        Self {
            links: 128,
            memory: ByteSize(256 << 20),
            up: ByteRate(None),
            down: ByteRate(None),
            monthly: ByteLimit(None),
        }
    }
}

/// `[access]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSection {
    /// With any entry, only who matches one: ranges of addresses, or identities of nodes.
    pub allow: Vec<String>,
    /// Nobody who matches one; wins over `allow`.
    pub deny: Vec<String>,
}

/// `[proxy]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySection {
    /// Whether the proxy runs.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Must be true for `listen` to be anything but loopback.
    pub allow_remote: bool,
    /// Further names that browsers may use for it in `Host`.
    pub hosts: Vec<String>,
}

impl Default for ProxySection {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8888)),
            allow_remote: false,
            hosts: Vec::new(),
        }
    }
}

/// `[control]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlSection {
    /// Where the command line reaches the node; loopback only. Port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for ControlSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {source}; `warren init` writes a new one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} is {len} bytes long; a configuration has at most {MAX_CONFIG_LEN}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// Not TOML, an unknown field, or a value of the wrong type; the message shows the line.
    #[error("{origin}: {message}")]
    Syntax {
        /// The file, as shown to the user.
        origin: String,
        /// What the parser says.
        message: String,
    },
    /// A value that cannot be.
    #[error("{origin}: {field} {problem}")]
    Value {
        /// The file, as shown to the user.
        origin: String,
        /// Section and field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the line or field.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let len = fs::metadata(path).map_err(read)?.len();
        if len > MAX_CONFIG_LEN {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
                len,
            });
        }
        let text = fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks the text of a configuration; `origin` is how errors name it.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] and [`ConfigError::Value`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            origin: origin.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        config.check().map_err(|(field, problem)| ConfigError::Value {
            origin: origin.to_owned(),
            field,
            problem,
        })?;
        Ok(config)
    }

    /// Checks all values.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Err(error) = self.node.network.parse::<Network>() {
            return Err(("node.network", format!("is not valid: {error}")));
        }
        for seed in &self.node.seeds {
            if let Err(error) = seed.parse::<NodeReference>() {
                return Err(("node.seeds", format!("has {seed:?}, which is not valid: {error}")));
            }
        }
        if self.node.listen.len() > 4 {
            return Err(("node.listen", "takes at most four addresses".to_owned()));
        }
        if self.node.advertise.len() > 4 {
            return Err(("node.advertise", "takes at most four addresses".to_owned()));
        }
        if let Some(address) = self
            .node
            .advertise
            .iter()
            .find(|a| a.ip().is_unspecified() || a.port() == 0)
        {
            return Err(("node.advertise", format!("has {address}, which nobody can dial")));
        }
        if let Some(address) = self.node.dial_from.iter().find(|a| a.is_unspecified()) {
            return Err((
                "node.dial_from",
                format!("has {address}, which is no address; leave the field out and the system chooses"),
            ));
        }
        let of_v4 = self.node.dial_from.iter().filter(|a| a.is_ipv4()).count();
        if of_v4 > 1 || self.node.dial_from.len() - of_v4 > 1 {
            return Err((
                "node.dial_from",
                "takes at most one address of each family".to_owned(),
            ));
        }
        if self.circuits.hops > 5 {
            return Err((
                "circuits.hops",
                format!("is {}; circuits have 0 to 5 hops", self.circuits.hops),
            ));
        }
        for (field, size) in [("store.size", self.store.size), ("store.cache", self.store.cache)] {
            if size.0 < MIN_REGION {
                return Err((field, format!("is {size}; the least is {}", ByteSize(MIN_REGION))));
            }
        }
        self.limits.check()?;
        access::access(&self.access.allow, &self.access.deny)?;
        if self.limits.memory.0 < 32 << 20 {
            return Err(("limits.memory", "must be at least 32 MiB".to_owned()));
        }
        if !self.proxy.listen.ip().is_loopback() && !self.proxy.allow_remote {
            return Err((
                "proxy.listen",
                format!(
                    "is {}, which other machines can reach; anyone there could read what this node's user reads. \
                     Set proxy.allow_remote = true if that is what you want",
                    self.proxy.listen
                ),
            ));
        }
        if !self.control.listen.ip().is_loopback() {
            return Err(("control.listen", "must be a loopback address".to_owned()));
        }
        Ok(())
    }
}

impl LimitSection {
    /// Checks what can be changed at run time too.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.links < 8 {
            return Err((
                "limits.links",
                "must be at least 8; with fewer the ring falls apart".to_owned(),
            ));
        }
        for (field, rate) in [("limits.up", self.up), ("limits.down", self.down)] {
            if rate.0.is_some_and(|rate| rate < MIN_RATE) {
                let least = ByteRate(Some(MIN_RATE));
                return Err((
                    field,
                    format!("is {rate}; the least is {least}, below which links break"),
                ));
            }
            if rate.0.is_some_and(|rate| rate > MAX_RATE) {
                return Err((field, format!("is {rate}; write \"unlimited\" for no limit")));
            }
        }
        if let Some(monthly) = self.monthly.0
            && monthly < MIN_MONTHLY
        {
            let (monthly, least) = (ByteSize(monthly), ByteSize(MIN_MONTHLY));
            return Err((
                "limits.monthly",
                format!(
                    "is {monthly}; the least is {least}, and keeping 32 links takes some 130 GiB a month"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
