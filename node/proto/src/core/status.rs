//! What a node shows its owner of itself. Peers and requests never stand together (log policy).

use core::net::IpAddr;

use crate::{
    repair::{OpenRepairs, RepairStats},
    routing::{OpenRequests, RouterStats},
    topology::{LinkReport, Reachability},
};

/// A snapshot.
#[derive(Clone, Debug)]
pub struct CoreStatus {
    /// The links.
    pub links: Vec<LinkStatus>,
    /// Nodes in the directory.
    pub known_nodes: usize,
    /// Nodes that the ring wants a link to, and that are not known to be out of reach.
    pub missing_links: usize,
    /// Nodes to find the network by that the owner named.
    pub seeds: usize,
    /// Nodes banned at present.
    pub banned_nodes: usize,
    /// Whether strangers can dial this node.
    pub reachability: Reachability,
    /// Under which addresses others see this node: at most one of each family.
    pub observed: Vec<IpAddr>,
    /// Counters of the router since the start.
    pub router: RouterStats,
    /// What the router has open.
    pub open: OpenRequests,
    /// Counters of census and repair since the start.
    pub repair: RepairStats,
    /// What census and repair have open.
    pub open_repairs: OpenRepairs,
    /// Requests of circuits that end here, open.
    pub exit_requests: usize,
    /// Circuits that wait for a link.
    pub waiting_circuits: usize,
    /// Own circuits that stand.
    pub circuits_ready: usize,
    /// Own circuits that are being built.
    pub circuits_building: usize,
}

/// A link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// Who, since when, how far.
    pub link: LinkReport,
    /// Own requests open at the neighbour.
    pub requests: u32,
    /// How many may be open.
    pub window: u32,
}
