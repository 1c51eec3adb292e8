//! Whom this node knows and whom it is linked to (protocol §7.6 to §7.9).
//!
//! [`Topology`] is the machine: it hears of links and gossip, keeps the directory, plans the links that the ring needs, asks
//! for dials, watches that links live, and passes on what is new.
//!
//! - `directory`: the signed descriptors that are known
//! - `ring`: which links the ring needs
//! - `dialling`, `links`, `bans`: dials and their failures, links, offenders
//! - `announce`: how a node finds its place, from one link on
//! - `gossip`: how descriptors spread
//! - `upkeep`: pings, redials, what goes when there are too many links
//! - `addresses`, `access`: what is dialled for strangers; whom the operator lets in
//! - `evidence`: whether strangers can dial this node, and where
//!
//! # Invariants
//!
//! 1. At most one link to a node; of two, both ends keep the same one.
//! 2. Only what is taken into the directory is passed on, and each only once: gossip dies out by itself.
//! 3. Every table is bounded, and a peer's messages cost at most its own row and its own link.
//! 4. A link counts as lost for everybody the moment this machine gives it up; what the driver says of it later is ignored.
//!
//! # What is deliberately absent
//!
//! Signatures (checked where a descriptor is read), key routing, and any trust in descriptors beyond "this identity said so".

mod access;
mod addresses;
mod announce;
mod bans;
mod bucket;
mod dialling;
mod directory;
mod evidence;
mod gossip;
mod limits;
mod links;
mod ring;
mod upkeep;

use std::collections::{BTreeSet, VecDeque};

use core::{net::SocketAddr, time::Duration};

use rand_chacha::ChaCha20Rng;
use warren_keys::{Location, NodeId};

pub(crate) use self::addresses::group;
pub(crate) use self::bucket::Bucket;
pub use self::{
    access::{Access, AccessRule, AddressRange, AddressRangeError},
    addresses::is_public,
    evidence::Reachability,
    limits::{LONG_CHOICE, LONG_PER_SIDE, MAX_KNOWN, MAX_LINKS, NEAR_PER_SIDE, WANTED_LINKS},
    ring::long_part,
};
use self::{
    announce::Announcing,
    bans::Bans,
    dialling::Dialling,
    directory::{Directory, Source},
    evidence::Evidence,
    gossip::Gossip,
    limits::{
        CALM_AFTER, CALM_UPKEEP, DIAL_BURST, DIAL_RATE, ENOUGH_LINKS, FEW_KNOWN, PING_INTERVAL, PLAN_DELAY,
        RELENT_TIME, SAME_OUTAGE, SHORT_LINK, UPKEEP,
    },
    links::{Link, Links, replaces},
    ring::Plan,
};
use crate::{
    core::api::DialTarget,
    descriptor::Descriptor,
    ids::LinkId,
    random::jittered,
    time::{Time, WallTime},
    wire::{DialResult, Frame},
};

/// How the topology is to behave. The default is the daemon's; its numbers are what the network was measured with.
#[derive(Clone, Debug)]
pub struct TopologySettings {
    /// Most links at once; at least [`TopologySettings::wanted_links`] for full speed.
    pub max_links: usize,
    /// Nearest nodes on each side of the ring to link to.
    pub near_per_side: usize,
    /// Long links on each side.
    pub long_per_side: usize,
    /// Descriptors kept.
    pub max_known: usize,
    /// Silence after which a link is pinged, within half to one and a half of it.
    pub ping_interval: Duration,
    /// Whether private and loopback addresses are dialled because a stranger named them.
    pub allow_private: bool,
    /// Whether the bound on neighbours of one network holds for private and loopback addresses too.
    pub strict_private: bool,
    /// The port at which this node's addresses take connections, by which peers can check that; `None` if it takes none.
    pub port: Option<u16>,
    /// Whom the operator lets in.
    pub access: Access,
    /// Nodes to find the network by; they may be anywhere, private ranges included.
    pub seeds: Vec<DialTarget>,
}

impl Default for TopologySettings {
    fn default() -> Self {
        Self {
            max_links: MAX_LINKS,
            near_per_side: NEAR_PER_SIDE,
            long_per_side: LONG_PER_SIDE,
            max_known: MAX_KNOWN,
            ping_interval: PING_INTERVAL,
            allow_private: false,
            strict_private: false,
            port: None,
            access: Access::default(),
            seeds: Vec::new(),
        }
    }
}

impl TopologySettings {
    /// Links that a node tries to have, as far as the network has nodes.
    #[must_use]
    pub const fn wanted_links(&self) -> usize {
        2 * (self.near_per_side + self.long_per_side)
    }
}

/// What the driver and the peer say of a link that has come up.
#[derive(Clone, Debug)]
pub struct End {
    /// Who the peer is.
    pub peer: Descriptor,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Where the peer's end of the connection is, if the driver knows.
    pub remote: Option<SocketAddr>,
}

/// What the topology wants done.
#[derive(Debug)]
pub enum TopologyOutput {
    /// Send to a neighbour.
    Send(LinkId, Frame),
    /// Close a link, which is already forgotten here.
    Close(LinkId),
    /// Connect to a node.
    Dial(Box<DialTarget>),
    /// A dial was given up: whoever waits for this node waits in vain.
    DialLost(NodeId),
    /// Nodes have become known.
    Grown,
}

/// What a wish for a link leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// There is one.
    Linked(LinkId),
    /// A dial is on its way.
    Dialling,
    /// There will be none.
    No,
}

/// A link as the status shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkReport {
    /// The link.
    pub link: LinkId,
    /// The peer.
    pub node: NodeId,
    /// Whether this node dialled.
    pub dialled: bool,
    /// When it came up.
    pub since: Time,
    /// The last ping's round trip.
    pub round_trip: Option<Duration>,
    /// Whether the ring needs it.
    pub needed: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Topology {
    me: NodeId,
    here: Location,
    own: Descriptor,
    settings: TopologySettings,
    rng: ChaCha20Rng,
    directory: Directory,
    links: Links,
    dialling: Dialling,
    ring_dials: Bucket,
    bans: Bans,
    gossip: Gossip,
    announcing: Announcing,
    evidence: Evidence,
    plan: Plan,
    /// Nodes that this node's own client enters the network by.
    entries: BTreeSet<NodeId>,
    /// No links are wanted for the time being.
    paused: bool,
    /// Since when there is no link.
    alone_since: Option<Time>,
    /// When a node with few links next tries one that it pauses for.
    probe_at: Time,
    /// Until then links are planned with each upkeep: pauses end.
    eager_until: Time,
    started: Time,
    plan_at: Option<Time>,
    planned: Time,
    expired: Time,
    upkeep_at: Time,
    output: VecDeque<TopologyOutput>,
}

impl Topology {
    /// A topology that knows nobody but its seeds.
    #[must_use]
    pub fn new(now: Time, own: Descriptor, settings: TopologySettings, mut rng: ChaCha20Rng) -> Self {
        let me = own.identity;
        let directory = Directory::new(me, settings.max_known, &mut rng);
        Self {
            me,
            here: me.location(),
            own,
            settings,
            directory,
            links: Links::default(),
            dialling: Dialling::default(),
            ring_dials: Bucket::new(now, DIAL_BURST, DIAL_RATE),
            bans: Bans::default(),
            gossip: Gossip::new(now),
            announcing: Announcing::new(now),
            evidence: Evidence::new(now),
            plan: Plan::default(),
            entries: BTreeSet::new(),
            paused: false,
            alone_since: Some(now),
            probe_at: now,
            eager_until: now,
            started: now,
            plan_at: Some(now),
            planned: now,
            expired: now,
            upkeep_at: now,
            output: VecDeque::new(),
            rng,
        }
    }

    /// Takes up what was known in an earlier run. Pinned entries (see [`Topology::set_entries`]) are kept however old.
    pub fn remember(&mut self, now: Time, wall: WallTime, known: Vec<Descriptor>) {
        for descriptor in known {
            let entries = &self.entries;
            let pinned = |node: &Descriptor| entries.contains(&node.identity);
            self.directory.add(now, wall, descriptor, Source::Memory, pinned);
        }
    }

    /// This node's present descriptor.
    #[must_use]
    pub fn own(&self) -> &Descriptor {
        &self.own
    }

    /// Replaces this node's descriptor by a newer one and tells the neighbours.
    pub fn set_own(&mut self, own: Descriptor) {
        self.own = own;
        for link in self.links.ids() {
            let frame = Frame::Descriptors(vec![self.own.clone()]);
            self.output.push_back(TopologyOutput::Send(link, frame));
        }
    }

    /// Adds a node to find the network by.
    pub fn add_seed(&mut self, now: Time, seed: DialTarget) {
        self.settings.seeds.retain(|known| known.node != seed.node);
        self.settings.seeds.push(seed);
        self.replan(now);
    }

    /// Replaces the operator's lists. Links to nodes that are not let in any more are closed.
    pub fn set_access(&mut self, now: Time, access: Access) {
        self.settings.access = access;
        let access = &self.settings.access;
        let unwelcome = self
            .links
            .iter()
            .filter(|(_, link)| !access.admits(&link.node, link.remote.map(|remote| remote.ip())));
        let unwelcome: Vec<LinkId> = unwelcome.map(|(id, _)| id).collect();
        for id in unwelcome {
            self.close(now, id);
        }
        self.start_afresh(now);
    }

    /// No links are wanted from now on (their end is the driver's business), or wanted again.
    pub fn set_paused(&mut self, now: Time, paused: bool) {
        let over = self.paused && !paused;
        self.paused = paused;
        if over {
            self.start_afresh(now);
        }
    }

    /// Changes how many links there may be. Those beyond are closed, the least needed first.
    pub fn set_max_links(&mut self, now: Time, most: usize) {
        self.settings.max_links = most;
        while self.links.len() > most && self.close_least_needed(now) {}
        self.start_afresh(now);
    }

    /// Links that the plan misses: nodes that could be dialled.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.plan.missing.len()
    }

    /// Nodes to find the network by.
    #[must_use]
    pub fn seeds(&self) -> usize {
        self.settings.seeds.len()
    }

    /// Names the nodes whose links are worth keeping for the own client.
    pub fn set_entries(&mut self, entries: impl IntoIterator<Item = NodeId>) {
        self.entries = entries.into_iter().collect();
    }

    /// A link has come up. `false`: it is not wanted, and its `Close` is among the outputs.
    pub fn up(&mut self, now: Time, wall: WallTime, id: LinkId, end: End) -> bool {
        let End {
            peer,
            dialled,
            remote,
        } = end;
        let node = peer.identity;
        self.dialling.connected(&node);
        if self.proves(now, &node, dialled) {
            self.output.push_back(TopologyOutput::Close(id));
            return false;
        }
        let earlier = self
            .links
            .to(&node)
            .and_then(|id| self.links.find(id).map(|link| (id, link.dialled)));
        let loses = earlier.is_some_and(|(_, earlier)| !replaces(&self.me, &node, earlier, dialled));
        let address = remote.map(|remote| remote.ip());
        let welcome = !self.bans.is_banned(now, &node) && self.settings.access.admits(&node, address);
        if loses || node == self.me || !welcome {
            self.output.push_back(TopologyOutput::Close(id));
            return false;
        }
        if let Some((earlier, _)) = earlier {
            self.close(now, earlier);
        }
        let patience = jittered(&mut self.rng, self.settings.ping_interval);
        let link = Link {
            remote,
            group: address.and_then(|address| group(address, self.settings.strict_private)),
            ..Link::new(now, node, dialled, patience)
        };
        self.links.insert(id, link);
        let out_of_reach = self.dialling.out_of_reach_since(&node);
        if self.links.len() > self.settings.max_links && !self.make_room(now, id) {
            self.close(now, id);
            return false;
        }
        self.learn(now, wall, peer, Source::Itself(id));
        self.directory.set_suspect(&node, false);
        if self.directory.len() < FEW_KNOWN || self.is_near(&node) {
            self.ask(now, id, self.here);
            self.gossip.hurry(now);
        }
        if self.links.len() <= ENOUGH_LINKS {
            self.announcing.hurry(now);
        }
        self.note_arrival(now, id, remote, dialled);
        let outage = self.alone_since.take().into_iter().chain(out_of_reach).min();
        if let Some(begun) = outage {
            self.relent(now, begun);
        }
        self.replan(now);
        true
    }

    /// A link has ended. `misbehaved`: by the peer's fault.
    pub fn down(&mut self, now: Time, id: LinkId, misbehaved: bool) {
        let Some(link) = self.links.remove(id) else {
            return;
        };
        if misbehaved {
            self.bans.offence(now, link.node);
        }
        let short = now.since(link.since) < SHORT_LINK;
        self.lost(now, id, &link);
        if misbehaved || (link.dialled && short) {
            self.dialling.failed(now, link.node, &mut self.rng);
        }
        self.replan(now);
    }

    /// A dial did not lead to a link.
    pub fn dial_failed(&mut self, now: Time, node: NodeId) {
        if self.evidence.is_dialling(&node) {
            self.dialling.connected(&node);
            self.dialled_back(&node, DialResult::Failed);
        } else if self.dialling.is_open(&node) {
            self.dialling.failed(now, node, &mut self.rng);
            self.directory.set_suspect(&node, true);
            self.replan(now);
        }
    }

    /// A neighbour sent what no honest node sends. The link is closed; repeated offence bans its node.
    pub fn offence(&mut self, now: Time, id: LinkId) {
        if let Some(node) = self.links.find(id).map(|link| link.node) {
            self.bans.offence(now, node);
            self.close(now, id);
            self.dialling.failed(now, node, &mut self.rng);
        }
    }

    /// A circuit of somebody is to go on to `target`, or (without `on_behalf_of`) one of this node's own starts there.
    pub fn reach(
        &mut self,
        now: Time,
        wall: WallTime,
        target: &Descriptor,
        on_behalf_of: Option<LinkId>,
    ) -> Reach {
        let node = target.identity;
        if node == self.me || self.bans.is_banned(now, &node) {
            return Reach::No;
        }
        if let Some(id) = self.links.to(&node) {
            if let Some(link) = self.links.find_mut(id) {
                link.circuit = Some(now);
            }
            return Reach::Linked(id);
        }
        if self.dialling.is_open(&node) {
            return Reach::Dialling;
        }
        let full = self.links.len() + self.dialling.open() >= self.settings.max_links;
        // A pinned entry may have been away for long, and is worth a try all the same.
        let current = target.is_current(wall) || (on_behalf_of.is_none() && self.entries.contains(&node));
        if full || self.paused || !current || !self.dialling.may_start(now, &node) {
            return Reach::No;
        }
        if let Some(link) = on_behalf_of {
            let allowed = self
                .links
                .find_mut(link)
                .is_some_and(|link| link.extends.take(now, 1));
            if !allowed {
                return Reach::No;
            }
        }
        if self.dial(now, target.clone()) {
            Reach::Dialling
        } else {
            Reach::No
        }
    }

    /// A circuit was opened over a link.
    pub fn circuit_opened(&mut self, now: Time, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.circuit = Some(now);
        }
    }

    /// No circuit goes on over a link any more.
    pub fn circuits_over(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.circuit = None;
        }
    }

    /// The link to a node, if there is one.
    #[must_use]
    pub fn link_to(&self, node: &NodeId) -> Option<LinkId> {
        self.links.to(node)
    }

    /// Takes note that a link lives. `false`: it does not exist, or not any more.
    pub fn heard(&mut self, now: Time, id: LinkId) -> bool {
        let link = self.links.find_mut(id);
        link.map(|link| (link.heard, link.waits) = (now, None)).is_some()
    }

    /// Takes note that something was sent over a link that wants an answer.
    pub fn asked(&mut self, now: Time, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.waits.get_or_insert(now);
        }
    }

    /// The node at the other end of a link.
    #[must_use]
    pub fn node_of(&self, id: LinkId) -> Option<NodeId> {
        self.links.find(id).map(|link| link.node)
    }

    /// Whether the node at the other end of a link keeps blocks, as far as it is known.
    #[must_use]
    pub fn stores(&self, id: LinkId) -> Option<bool> {
        let node = self.links.find(id)?.node;
        self.directory
            .find(&node)
            .map(|known| known.descriptor.services.store)
    }

    /// Number of nodes known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.directory.len()
    }

    /// Number of nodes banned at present.
    #[must_use]
    pub fn banned(&self, now: Time) -> usize {
        self.bans.banned(now)
    }

    /// All that is known.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.directory.iter().map(|entry| &entry.descriptor)
    }

    /// What the own client may build circuits from: of the sample of the network, nodes that are linked or not known to be out of
    /// reach. Neighbours are among them only as often as anybody.
    pub fn fit(&self, now: Time) -> impl Iterator<Item = &Descriptor> {
        self.directory
            .sampled()
            .filter(move |descriptor| self.is_fit(now, &descriptor.identity))
    }

    /// The descriptor of a node that is known and fit, whether in the sample or not. A pinned entry is fit again as soon as it may
    /// be dialled: each moment without it is a moment in which another one may get pinned.
    #[must_use]
    pub fn fit_one(&self, now: Time, node: &NodeId) -> Option<&Descriptor> {
        let again = self.entries.contains(node)
            && !self.dialling.is_pausing(now, node)
            && !self.bans.is_banned(now, node);
        let entry = self
            .directory
            .find(node)
            .filter(|_| again || self.is_fit(now, node));
        entry.map(|entry| &entry.descriptor)
    }

    fn is_fit(&self, now: Time, node: &NodeId) -> bool {
        self.links.to(node).is_some() || !(self.dialling.failing(now, node) || self.bans.is_banned(now, node))
    }

    /// The links, for the status.
    pub fn links(&self) -> impl Iterator<Item = LinkReport> {
        self.links.iter().map(|(link, state)| LinkReport {
            link,
            node: state.node,
            dialled: state.dialled,
            since: state.since,
            round_trip: state.round_trip,
            needed: self.plan.needed.contains(&state.node),
        })
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<TopologyOutput> {
        self.output.pop_front()
    }

    /// When [`Topology::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let announcing = Some(self.announcing.next_due());
        [
            self.plan_at,
            self.gossip.next_spread(),
            Some(self.upkeep_at),
            announcing,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Looks after everything that is due.
    pub fn handle_timeout(&mut self, now: Time, wall: WallTime) {
        if self.upkeep_at <= now {
            self.upkeep(now, wall);
            let calm = self.plan.missing.is_empty()
                && self.dialling.open() == 0
                && self.eager_until <= now
                && now.since(self.started) >= CALM_AFTER;
            let pause = if calm { CALM_UPKEEP } else { UPKEEP };
            self.upkeep_at = now + jittered(&mut self.rng, pause);
        }
        if self.announcing.next_due() <= now {
            self.announcements_due(now, wall);
        }
        if self.gossip.next_spread().is_some_and(|at| at <= now) {
            self.spread(now);
        }
        if self.plan_at.is_some_and(|at| at <= now) {
            self.plan_at = None;
            self.plan_links(now, wall);
        }
    }

    /// Gives a link up: forgotten here, closed by the driver.
    fn close(&mut self, now: Time, id: LinkId) {
        if let Some(link) = self.links.remove(id) {
            self.output.push_back(TopologyOutput::Close(id));
            self.lost(now, id, &link);
            self.replan(now);
        }
    }

    /// A link is not there any more.
    fn lost(&mut self, now: Time, id: LinkId, link: &Link) {
        if now.since(link.since) >= SHORT_LINK {
            self.dialling.forgive(now, link.node);
        }
        self.announcements_lost(now, id);
        if self.plan.near.contains(&link.node) && self.links.to(&link.node).is_none() {
            self.announcing.hurry(now);
        }
        if self.links.len() == 0 {
            self.alone_since = self.alone_since.or(Some(now));
        }
    }

    /// An outage that began at `begun` or shortly before seems to be over: who has been out of reach since then is dialled soon, and
    /// what was missed is asked for.
    fn relent(&mut self, now: Time, begun: Time) {
        let from = Time(
            begun
                .0
                .saturating_sub(u64::try_from(SAME_OUTAGE.as_micros()).unwrap_or(u64::MAX)),
        );
        if self.dialling.relent(now, from, &mut self.rng) {
            self.be_eager(now);
        }
    }

    /// What nodes could not be reached for was this node's own doing, and is over.
    fn start_afresh(&mut self, now: Time) {
        self.dialling.start_afresh(now, &mut self.rng);
        self.be_eager(now);
        self.replan(now);
    }

    fn be_eager(&mut self, now: Time) {
        self.eager_until = now + RELENT_TIME * 2;
        self.upkeep_at = self.upkeep_at.min(now + UPKEEP);
        self.announcing.hurry(now);
        self.gossip.hurry(now);
    }

    fn replan(&mut self, now: Time) {
        self.plan_at.get_or_insert(now + PLAN_DELAY);
    }

    /// Starts a dial of a stranger, if it has an address that may be dialled.
    fn dial(&mut self, now: Time, target: Descriptor) -> bool {
        let settings = &self.settings;
        let addresses: Vec<_> = addresses::diallable(&target.addresses, settings.allow_private)
            .filter(|address| settings.access.admits(&target.identity, Some(address.ip())))
            .collect();
        if addresses.is_empty() {
            return false;
        }
        self.dial_at(
            now,
            DialTarget {
                node: target.identity,
                link_key: target.link_key,
                addresses,
            },
        );
        true
    }

    fn dial_at(&mut self, now: Time, target: DialTarget) {
        self.dialling.start(now, target.node);
        self.output.push_back(TopologyOutput::Dial(Box::new(target)));
    }
}
