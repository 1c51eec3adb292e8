//! A running node: start, status, end.
//!
//! # Invariants
//!
//! - Everything that a node holds hangs on its [`NodeHandle`]; two nodes in one process share nothing.
//! - After [`NodeHandle::shutdown`] no task or thread of the node is left, the datastore is closed, and what was known of the
//!   network is saved.
//! - A start that fails leaves nothing running.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use warren_keys::NodeId;
pub use warren_proto::core::CoreStatus;
use warren_proto::{
    client::PoolSettings,
    core::{
        Core, CoreConfig,
        api::{CoreInput, DialTarget},
    },
    descriptor::{Host, NodeReference, NodeSecrets, Services, Statement},
    geometry::MAX_HOPS,
    ids::OriginId,
    link::ReplayCache,
    network::{Network, NetworkNameError},
    routing::Limits,
    topology::TopologySettings,
};
use warren_storage::{Geometry, Options, Space, Store};

use crate::{
    aead::best_cipher,
    clock::Clock,
    core_task::{CoreTask, Desk, remembered},
    datastore::Datastore,
    inbox::Inbox,
    jobs::Jobs,
    memory::Memory,
    net::{
        Net, NetParts,
        bandwidth::{
            Bandwidth,
            volume::{Month, Volume},
        },
        listener,
    },
    own::{Addresses, Own},
    portmap::{self, ask::Router},
    state::{Remembered, State, random_seed},
    store_pool::StorePool,
    upkeep::Upkeep,
};
pub use crate::{
    jobs::{Job, JobFactory, MAX_OPS, NodeStopped},
    memory::Reclaimed,
    net::{
        bandwidth::{
            BandwidthLimits, MonthStatus,
            shaper::{MAX_RATE, MIN_RATE},
            volume::{Allowance, MIN_MONTHLY},
        },
        limits::{GateSettings, Rejections},
        registry::LinkStatus,
    },
    portmap::Mapping,
    state::{KEY_FILE, StateError},
    store_pool::StoreCounts,
};

mod options;

pub use self::options::{NodeConfig, Settings};

/// Inputs that may wait for the core. It works off tens of thousands a second; with a block each, 64 MiB.
const CORE_INBOX: usize = 2048;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its state or key file.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its datastore.
    #[error(transparent)]
    Storage(#[from] warren_storage::Error),
    /// The network's name.
    #[error(transparent)]
    Network(#[from] NetworkNameError),
    /// An address to listen on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// More hops than a circuit can have.
    #[error("{0} hops; a circuit has at most {MAX_HOPS}")]
    Hops(usize),
    /// The start-up work on the disk did not end in a result.
    #[error("starting up failed inside the program; the log has more")]
    Bug,
}

/// A running node. Dropping it without [`shutdown`](Self::shutdown) ends it as if it had been killed.
pub struct NodeHandle {
    net: Arc<Net>,
    jobs: Arc<Jobs>,
    store: Arc<StorePool<Datastore>>,
    state: Arc<State>,
    desk: Arc<Desk>,
    own: Arc<Own>,
    mapping: watch::Sender<Mapping>,
    core: Option<JoinHandle<Core>>,
    listening: Vec<SocketAddr>,
}

/// What a node is doing. Counts are since its start.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// How long it has been running.
    pub uptime: Duration,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// Its links, as their sockets see them.
    pub links: Vec<LinkStatus>,
    /// What its core knows and does.
    pub core: CoreStatus,
    /// Jobs of the local user.
    pub jobs: usize,
    /// Bytes queued for all links.
    pub queued: usize,
    /// What it offers to others at present.
    pub services: Services,
    /// What was moved this month, and what may still be.
    pub month: MonthStatus,
    /// How port mapping stands.
    pub mapping: Mapping,
    /// What it publishes as its addresses.
    pub addresses: Vec<SocketAddr>,
    /// Whether its owner said what to publish.
    pub announced: bool,
    /// Bytes of all data that waits, of the memory allowed.
    pub memory: usize,
    /// How often which step was taken to get memory back.
    pub reclaimed: Reclaimed,
    /// What was asked of the datastore.
    pub store: StoreCounts,
    /// How full the datastore is.
    pub disk: warren_storage::Stats,
    /// What strangers sent in vain.
    pub rejections: Rejections,
    /// What is wrong with this machine, in words for its owner; empty when all is well.
    pub problems: Vec<String>,
}

impl NodeHandle {
    /// Who the node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.net.secrets.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// References to the node, the best first; empty when it publishes no address.
    #[must_use]
    pub fn references(&self) -> Vec<NodeReference> {
        let descriptor = self.net.descriptor();
        let reference = |address: &SocketAddr| NodeReference {
            node: descriptor.identity,
            link_key: descriptor.link_key,
            host: Host::Ip(address.ip()),
            port: address.port(),
        };
        descriptor.addresses.iter().map(reference).collect()
    }

    /// Opens jobs: the way of the local user's downloads and uploads.
    #[must_use]
    pub fn jobs(&self) -> JobFactory {
        JobFactory(Arc::clone(&self.jobs))
    }

    /// What the node is doing.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub async fn status(&self) -> Result<NodeStatus, NodeStopped> {
        let report = self.desk.report(&self.net.core).await?;
        Ok(NodeStatus {
            node: self.id(),
            uptime: self.net.clock.uptime(),
            listening: self.listening.clone(),
            links: self.net.registry.status(self.net.clock.now()),
            core: report.status,
            jobs: self.jobs.len(),
            queued: self.net.registry.queued(),
            services: self.net.descriptor().services,
            month: self.net.bandwidth.status(),
            mapping: self.mapping.borrow().clone(),
            addresses: self.net.descriptor().addresses.clone(),
            announced: self.own.is_announced(),
            memory: self.net.memory.used(),
            reclaimed: self.net.memory.reclaimed(),
            store: self.store.counts(),
            disk: self.store.backend().store().stats(),
            rejections: self.net.gate.rejections(),
            problems: self.problems(),
        })
    }

    fn problems(&self) -> Vec<String> {
        let clock = self.net.wrong_clock().map(|wrong| wrong.to_string());
        let disk = self.store.backend().trouble();
        clock.into_iter().chain(disk).collect()
    }

    /// The nodes that one of the own circuits passes, entry first; empty when there is no such circuit. For its owner's eyes.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub async fn path(&self, origin: OriginId) -> Result<Vec<NodeId>, NodeStopped> {
        self.desk.path(&self.net.core, origin).await
    }

    /// Adds a node to find the network by.
    pub fn add_seed(&self, seed: DialTarget) {
        self.desk.add_seed(&self.net.core, seed);
    }

    /// Introduces the node to another one: it connects, and learns the network from there too.
    ///
    /// # Errors
    /// When the reference's host has no address.
    pub async fn add_peer(&self, reference: &NodeReference) -> io::Result<()> {
        let addresses = match &reference.host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, reference.port)],
            Host::Name(name) => tokio::net::lookup_host((name.as_str(), reference.port))
                .await?
                .collect(),
        };
        self.add_seed(DialTarget {
            node: reference.node,
            link_key: reference.link_key,
            addresses,
        });
        Ok(())
    }

    /// What can be changed while the node runs.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            services: self.own.services(),
            bandwidth: self.net.bandwidth.limits(),
            links: self.net.kept_links(),
            access: self.net.access(),
        }
    }

    /// Changes it, at once and until the node ends.
    pub fn change(&self, settings: &Settings) {
        let net = &self.net;
        if settings.bandwidth != net.bandwidth.limits() {
            net.bandwidth.set_limits(net.clock.now(), settings.bandwidth);
        }
        if settings.links != net.kept_links() {
            net.set_kept_links(settings.links);
            self.desk.set_max_links(&net.core, settings.links);
        }
        if settings.access != net.access() {
            net.set_access(settings.access.clone());
            self.desk.set_access(&net.core, settings.access.clone());
        }
        self.own.set_services(settings.services);
    }

    /// The number of other nodes that are linked, to watch.
    #[must_use]
    pub fn neighbours(&self) -> watch::Receiver<usize> {
        self.net.registry.neighbours()
    }

    /// Waits until at least `count` other nodes are linked.
    pub async fn wait_for_links(&self, count: usize) {
        // Fails only when the registry is gone, which this handle holds.
        let _ = self
            .net
            .registry
            .neighbours()
            .wait_for(|linked| *linked >= count)
            .await;
    }

    /// Waits until fewer than `count` other nodes are linked.
    pub async fn wait_for_links_below(&self, count: usize) {
        let _ = self
            .net
            .registry
            .neighbours()
            .wait_for(|linked| *linked < count)
            .await;
    }

    /// Ends the node: links, jobs and listeners first, then what is known of the network is saved and the datastore closed.
    ///
    /// # Errors
    /// What could not be saved. The node has ended all the same, and nothing acknowledged is lost.
    pub async fn shutdown(mut self) -> Result<(), StartError> {
        self.stop();
        let core = match self.core.take() {
            Some(task) => task.await.ok(),
            None => None,
        };
        self.net.tasks.close();
        self.net.tasks.wait().await;
        let (state, store, net) = (
            Arc::clone(&self.state),
            Arc::clone(&self.store),
            Arc::clone(&self.net),
        );
        // The store's last other owners were the tasks.
        drop(self);
        tokio::task::spawn_blocking(move || {
            let saved = core.map_or(Ok(()), |core| {
                let remembered = remembered(&core, &net.clock);
                state.remember(&remembered)?;
                state.remember_repair(&remembered.repair)
            });
            let replays = state.remember_replays(&net.replays());
            let counted = state.remember_traffic(&net.bandwidth.volume());
            // The tasks have ended, so nobody else holds it; were it otherwise, its drop would lose nothing.
            if let Some(datastore) = Arc::into_inner(store).and_then(StorePool::into_backend) {
                datastore.into_store().close()?;
            }
            saved?;
            counted?;
            Ok(replays?)
        })
        .await
        .map_err(|_| StartError::Bug)?
    }

    /// Ends the node as a kill would: nothing is saved, nobody is told. Its tasks end a moment later, and only then is its
    /// folder free again.
    pub fn abort(self) {
        drop(self);
    }

    /// Connections whose handshake is in progress.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.net.gate.half_open()
    }

    fn stop(&self) {
        self.net.close();
        self.net.core.close();
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Nodes come from here.
pub struct Node;

/// What start-up reads from the disk.
struct Opened {
    state: State,
    secrets: NodeSecrets,
    remembered: Remembered,
    replays: ReplayCache,
    traffic: Option<Volume>,
    store: Store,
}

fn open(config: &NodeConfig, network: &Network) -> Result<Opened, StartError> {
    let state = State::open(&config.folder, config.passphrase.as_ref())?;
    let secrets = NodeSecrets::new(state.identity()?);
    let (remembered, replays) = (state.remembered(network)?, state.replays()?);
    let traffic = state.traffic()?;
    let options = Options {
        geometry: Geometry::for_quota(config.store_size, config.cache_size)?,
        location: secrets.id().location(),
        space: if config.sparse {
            Space::Sparse
        } else {
            Space::Reserve
        },
    };
    let store = Store::open(state.store_folder(), state.master(), &options)?;
    if store.geometry() != options.geometry {
        tracing::warn!(
            "the datastore keeps the sizes that it was made with; to change them, stop the node and remove its store folder"
        );
    }
    Ok(Opened {
        state,
        secrets,
        remembered,
        replays,
        traffic,
        store,
    })
}

impl Node {
    /// Makes what a node needs on the disk, so that [`Node::start`] finds it: key file, identity, datastore. Returns who it will be.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn prepare(config: NodeConfig) -> Result<NodeId, StartError> {
        let prepare = move || {
            let Opened { secrets, store, .. } = open(&config, &config.network.parse()?)?;
            store.close()?;
            Ok(secrets.id())
        };
        tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|_| StartError::Bug)?
    }

    /// Opens the datastore of a node that is not running, to look into it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open_store(config: &NodeConfig) -> Result<Store, StartError> {
        Ok(open(config, &config.network.parse()?)?.store)
    }

    /// Starts a node. Must be called inside a tokio runtime with time and network enabled.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: NodeConfig) -> Result<NodeHandle, StartError> {
        let network: Network = config.network.parse()?;
        if config.hops > MAX_HOPS {
            return Err(StartError::Hops(config.hops));
        }
        let (config, opened) = tokio::task::spawn_blocking(move || {
            let opened = open(&config, &network);
            (config, opened)
        })
        .await
        .map_err(|_| StartError::Bug)?;
        let Opened {
            state,
            secrets,
            remembered,
            replays,
            traffic,
            store,
        } = opened?;
        // Before the first task: from here on only a port can be in the way.
        let (listeners, listening) = listen(&config.listen)?;
        let seed = random_seed().map_err(StateError::Random)?;
        let clock = Clock::start();
        let addresses = Addresses::new(&config.advertise, &listening);
        let descriptor = secrets.sign(
            Statement {
                addresses: addresses.published(),
                services: config.services,
                published: clock.wall().0,
                ..secrets.statement()
            },
            &network,
        );
        let core = Arc::new(Inbox::new(CORE_INBOX));
        let memory = Memory::new(config.memory);
        let net = Net::new(NetParts {
            clock,
            secrets: Arc::new(secrets),
            network,
            dial_from: config.dial_from.clone(),
            cipher: best_cipher(),
            descriptor: Arc::new(descriptor.clone()),
            replays,
            gate: config.gate.clone(),
            links: config.links,
            memory: Arc::clone(&memory),
            bandwidth: Bandwidth::new(
                clock.now(),
                config.bandwidth,
                traffic.unwrap_or_else(|| Volume::new(Month::of(clock.wall()))),
            ),
            access: config.access.clone(),
            core: Arc::clone(&core),
            seed,
        });
        let (seeds, unresolved) = seeds(&config.seeds);
        let mut machine = Core::new(
            clock.now(),
            clock.wall(),
            CoreConfig {
                topology: TopologySettings {
                    max_links: config.links,
                    allow_private: config.allow_private,
                    access: config.access.clone(),
                    port: addresses.port(),
                    seeds,
                    ..TopologySettings::default()
                },
                limits: Limits::default(),
                pool: PoolSettings {
                    hops: config.hops,
                    strict_private: config.strict_private,
                    ..PoolSettings::new(descriptor.identity)
                },
                known: remembered.descriptors,
                entries: remembered.entries,
                descriptor,
            },
            net.random_seed(),
        );
        machine.restore_repair(clock.now(), clock.wall(), &remembered.repair);
        let answers = Arc::clone(&core);
        let store = StorePool::start(
            Datastore::new(store),
            &net.tasks,
            net.stop.clone(),
            move |batch| {
                // As many answers as questions, and the pool bounds those; refused only when the node stops.
                answers.push_all_reserved(
                    batch
                        .drain(..)
                        .map(|(ticket, answer)| CoreInput::Store(ticket, answer)),
                );
            },
        );
        let desk = Arc::<Desk>::default();
        let node = NodeHandle {
            jobs: Jobs::new(core, memory),
            store: Arc::new(store),
            state: Arc::new(state),
            own: Arc::new(Own::new(Arc::clone(&net), Arc::clone(&desk), addresses)),
            mapping: watch::Sender::new(Mapping::Off),
            desk,
            core: None,
            listening,
            net,
        };
        Ok(node.run(machine, listeners, unresolved, config.port_mapping))
    }
}

impl NodeHandle {
    fn run(
        mut self,
        core: Core,
        listeners: Vec<TcpListener>,
        unresolved: Vec<NodeReference>,
        map_port: bool,
    ) -> Self {
        let net = &self.net;
        let (store, jobs, desk) = (
            Arc::clone(&self.store),
            Arc::clone(&self.jobs),
            Arc::clone(&self.desk),
        );
        let task = CoreTask::new(Arc::clone(net), core, store, jobs, desk);
        self.core = Some(net.tasks.spawn(task.run()));
        for listener in listeners {
            net.tasks.spawn(listener::serve(Arc::clone(net), listener));
        }
        let upkeep = Upkeep::new(
            Arc::clone(net),
            Arc::clone(&self.state),
            Arc::clone(&self.desk),
            Arc::clone(&self.own),
            unresolved,
        );
        net.tasks.spawn(upkeep.run());
        if let Some((inside, port)) = portmap::candidate(&self.listening).filter(|_| map_port) {
            let router = Arc::new(Router::of_this_network(inside, port));
            net.tasks
                .spawn(portmap::keep(router, net.stop.clone(), self.mapping.clone()));
            net.tasks.spawn(follow(
                Arc::clone(&self.own),
                self.mapping.subscribe(),
                net.stop.clone(),
            ));
        }
        tracing::info!(node = %self.id(), listening = ?self.listening, "node started");
        self
    }
}

/// Publishes the address that the router gives this node, as long as it does.
async fn follow(own: Arc<Own>, mut mapping: watch::Receiver<Mapping>, stop: CancellationToken) {
    while let Some(Ok(())) = stop.run_until_cancelled(mapping.changed()).await {
        let outside = match &*mapping.borrow_and_update() {
            Mapping::Open { outside, .. } => Some(*outside),
            Mapping::Off | Mapping::Asking | Mapping::Refused(_) => None,
        };
        own.set_mapped(outside);
    }
}

/// Splits seeds into those whose address is known and those whose name has to be looked up.
fn seeds(references: &[NodeReference]) -> (Vec<DialTarget>, Vec<NodeReference>) {
    let mut known = Vec::new();
    let mut names = Vec::new();
    for reference in references {
        match &reference.host {
            Host::Ip(ip) => known.push(DialTarget {
                node: reference.node,
                link_key: reference.link_key,
                addresses: vec![SocketAddr::new(*ip, reference.port)],
            }),
            Host::Name(_) => names.push(reference.clone()),
        }
    }
    (known, names)
}

/// Opens all listening sockets, and says which ports they got.
fn listen(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for &address in addresses {
        let failed = |source| StartError::Listen { address, source };
        let listener = listener::bind(address).map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    Ok((listeners, bound))
}
