//! What a node is told when it starts, and what it may be told later.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use warren_proto::{
    descriptor::{NodeReference, Services},
    network::Network,
    topology::Access,
};
use warren_storage::Passphrase;

use super::{BandwidthLimits, GateSettings};

/// How a node is to run.
pub struct NodeConfig {
    /// Where key file, state and datastore are; made if it does not exist.
    pub folder: PathBuf,
    /// Opens the key file, or seals it when it is made.
    pub passphrase: Option<Passphrase>,
    /// Name of the network.
    pub network: String,
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses to publish; empty means the listening ones that are not wildcards.
    pub advertise: Vec<SocketAddr>,
    /// Own addresses that connections to other nodes leave from, at most one of each family; without one the system chooses.
    pub dial_from: Vec<IpAddr>,
    /// Nodes to learn the network from.
    pub seeds: Vec<NodeReference>,
    /// What to do for others.
    pub services: Services,
    /// Most links at once.
    pub links: usize,
    /// Bytes of memory for data that waits: on links, in the core, in transfers.
    pub memory: usize,
    /// What the links may move.
    pub bandwidth: BandwidthLimits,
    /// Whom to have links with.
    pub access: Access,
    /// Hops of own circuits, 0 to [`MAX_HOPS`](warren_proto::geometry::MAX_HOPS).
    pub hops: usize,
    /// Disk for blocks that belong here, bytes. Only for a new datastore.
    pub store_size: u64,
    /// Disk for copies left by traffic, bytes. Only for a new datastore.
    pub cache_size: u64,
    /// Whether the datastore takes its disk space as it fills, instead of at once.
    pub sparse: bool,
    /// Whether to ask the local network's router to let others in. Asks nothing for loopback addresses.
    pub port_mapping: bool,
    /// Whether private and loopback addresses that strangers advertise are dialled, for test networks.
    pub allow_private: bool,
    /// Whether two hops of a circuit must be in different networks also on loopback and private addresses.
    pub strict_private: bool,
    /// Bounds for connections from strangers.
    pub gate: GateSettings,
}

impl NodeConfig {
    /// The defaults, for a node in `folder` that listens nowhere and knows nobody.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            passphrase: None,
            network: Network::MAIN.to_owned(),
            listen: Vec::new(),
            advertise: Vec::new(),
            dial_from: Vec::new(),
            seeds: Vec::new(),
            services: Services::ALL,
            links: 128,
            memory: 256 << 20,
            bandwidth: BandwidthLimits::default(),
            access: Access::default(),
            hops: 3,
            store_size: 8 << 30,
            cache_size: 2 << 30,
            sparse: false,
            port_mapping: false,
            allow_private: false,
            strict_private: false,
            gate: GateSettings::default(),
        }
    }
}

/// What can be changed while a node runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What the owner wants to offer; a month that is used up may keep it from that.
    pub services: Services,
    /// What the links may move.
    pub bandwidth: BandwidthLimits,
    /// Most links at once.
    pub links: usize,
    /// Whom to have links with.
    pub access: Access,
}
