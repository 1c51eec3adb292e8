//! Nodes that clients know: routers in memory, each with an identity and a descriptor at an address of its own.

use std::{collections::BTreeMap, net::SocketAddr};

use warren_keys::{IdentityKey, NodeId, Seed};
use warren_proto::{
    descriptor::{Descriptor, Services, Statement},
    network::Network,
    time::WallTime,
};

use super::{draw::Draw, ring::Ring, routers::RouterNet, scenario::NetworkSpec};

/// When the simulated clients live.
pub const WALL: WallTime = WallTime(1_800_000_000);

/// A network that is linked by the ring rule, and its directory.
pub struct Known {
    /// The routers, in the order of their places.
    pub net: RouterNet,
    /// What every client knows of all of them.
    pub view: BTreeMap<NodeId, Descriptor>,
    /// Which router has which identity.
    pub index: BTreeMap<NodeId, usize>,
    /// The routers' identities.
    pub ids: Vec<NodeId>,
}

impl Known {
    /// So many nodes.
    ///
    /// # Panics
    /// Never: the network's name is a name.
    #[must_use]
    pub fn new(spec: &NetworkSpec, nodes: usize, draw: &mut Draw) -> Self {
        let mut keys: Vec<IdentityKey> = (0..nodes)
            .map(|_| IdentityKey::from_seed(&Seed::from_bytes(draw.bytes())))
            .collect();
        keys.sort_by_key(|key| key.id().location());
        let name: Network = "simulation".parse().expect("a network's name");
        let ids: Vec<NodeId> = keys.iter().map(IdentityKey::id).collect();
        let view: BTreeMap<NodeId, Descriptor> = keys
            .iter()
            .map(|key| (key.id(), describe(key, &name, draw)))
            .collect();
        let (ring, _) = Ring::of(ids.iter().map(NodeId::location).collect());
        let links = ring.links(spec, |_| true, draw);
        let mut net = RouterNet::new(&ring, spec, Draw::new(draw.number()));
        for (a, b) in links {
            net.link(a, b);
        }
        Self {
            net,
            view,
            index: ids.iter().copied().zip(0..).collect(),
            ids,
        }
    }
}

/// A node somewhere on the Internet.
fn describe(key: &IdentityKey, network: &Network, draw: &mut Draw) -> Descriptor {
    let [a, b, c, d, ..] = draw.bytes();
    // Public unicast addresses: 11.0.0.0 to 99.255.255.255.
    let address = SocketAddr::from(([11 + a % 89, b, c, d], 4000));
    let statement = Statement {
        identity: key.id(),
        link_key: [1; 32],
        onion_key: [2; 32],
        addresses: vec![address],
        services: Services::ALL,
        published: WALL.0,
    };
    Descriptor::sign(key, statement, network)
}
