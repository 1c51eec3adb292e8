//! Links and how they come about: listener, dialler, and one task for each link.
//!
//! [`Net`] is what these share: immutable facts of the node, and parts that each have an owner or a lock of their own.

use std::{
    net::IpAddr,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_proto::{
    core::api::CoreInput,
    crypto::Cipher,
    descriptor::{Descriptor, NodeSecrets},
    link::ReplayCache,
    network::Network,
    topology::Access,
};

use crate::{clock::Clock, inbox::Inbox, memory::Memory};

pub(crate) mod bandwidth;
pub(crate) mod clocks;
pub(crate) mod dialer;
pub(crate) mod handshake;
pub(crate) mod limits;
pub(crate) mod link_task;
pub(crate) mod listener;
mod pacing;
pub(crate) mod registry;

use bandwidth::Bandwidth;
use clocks::{Clocks, WrongClock};
use limits::{Gate, GateSettings};
use registry::Registry;

/// Links beyond those that the core keeps: their peers have yet to introduce themselves, or are about to be turned away.
/// Whoever has the node's reference can open links; this bounds what that costs.
const UNDECIDED: usize = 64;

/// What the tasks of one node share.
pub(crate) struct Net {
    pub(crate) clock: Clock,
    pub(crate) secrets: Arc<NodeSecrets>,
    pub(crate) network: Network,
    /// The best cipher for records that this machine computes.
    pub(crate) cipher: Cipher,
    /// Links that the core keeps at most.
    links: AtomicUsize,
    pub(crate) registry: Registry,
    pub(crate) core: Arc<Inbox<CoreInput>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) bandwidth: Bandwidth,
    /// Whom the owner lets in; the core has its own copy.
    access: RwLock<Access>,
    pub(crate) clocks: Clocks,
    /// Handshakes that were answered lately, so that a recorded one is not answered twice.
    replays: Mutex<ReplayCache>,
    pub(crate) dials: Arc<Semaphore>,
    /// Addresses that dials leave from, by family; without one the system chooses.
    pub(crate) dial_from: Vec<IpAddr>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// What this node says of itself; replaced when it is signed anew.
    descriptor: Mutex<Arc<Descriptor>>,
    rng: Mutex<ChaCha20Rng>,
    /// The node's account.
    pub(crate) memory: Arc<Memory>,
}

/// What a [`Net`] is made of.
pub(crate) struct NetParts {
    pub(crate) clock: Clock,
    pub(crate) secrets: Arc<NodeSecrets>,
    pub(crate) network: Network,
    pub(crate) dial_from: Vec<IpAddr>,
    pub(crate) cipher: Cipher,
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) replays: ReplayCache,
    pub(crate) gate: GateSettings,
    /// Links that the core keeps at most.
    pub(crate) links: usize,
    /// Where what is queued is booked.
    pub(crate) memory: Arc<Memory>,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) access: Access,
    pub(crate) core: Arc<Inbox<CoreInput>>,
    pub(crate) seed: [u8; 32],
}

impl Net {
    /// Nothing runs yet.
    pub(crate) fn new(parts: NetParts) -> Arc<Self> {
        Arc::new(Self {
            clock: parts.clock,
            secrets: parts.secrets,
            network: parts.network,
            cipher: parts.cipher,
            links: AtomicUsize::new(parts.links),
            registry: Registry::new(Arc::clone(&parts.memory)),
            memory: parts.memory,
            core: parts.core,
            gate: Gate::new(parts.gate),
            bandwidth: parts.bandwidth,
            access: RwLock::new(parts.access),
            clocks: Clocks::default(),
            replays: Mutex::new(parts.replays),
            dials: dialer::permits(),
            dial_from: parts.dial_from,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            descriptor: Mutex::new(parts.descriptor),
            rng: Mutex::new(ChaCha20Rng::from_seed(parts.seed)),
        })
    }

    /// Ends listeners, dials, handshakes and links; the core learns of the links' ends.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        self.registry.close_all();
    }

    /// What is wrong with this machine's clock, by those of other nodes.
    pub(crate) fn wrong_clock(&self) -> Option<WrongClock> {
        self.clocks.judge(self.clock.now(), self.clock.wall())
    }

    /// Links that may stand at once, those included about which the core has yet to decide.
    pub(crate) fn max_links(&self) -> usize {
        self.kept_links() + UNDECIDED
    }

    /// Links that the core keeps at most.
    pub(crate) fn kept_links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    /// Another number of links from now on; the core has to be told apart.
    pub(crate) fn set_kept_links(&self, links: usize) {
        self.links.store(links, Ordering::Relaxed);
    }

    /// Whom the owner lets in.
    pub(crate) fn access(&self) -> Access {
        self.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other people from now on; the core has to be told apart.
    pub(crate) fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Whether a connection from an address may begin a handshake.
    pub(crate) fn may_knock(&self, from: IpAddr) -> bool {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.may_knock(from.to_canonical())
    }

    /// What this node says of itself now.
    pub(crate) fn descriptor(&self) -> Arc<Descriptor> {
        Arc::clone(&self.descriptor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what this node says of itself on new links.
    pub(crate) fn set_descriptor(&self, descriptor: Arc<Descriptor>) {
        *self.descriptor.lock().unwrap_or_else(PoisonError::into_inner) = descriptor;
    }

    /// The handshakes that were answered lately.
    pub(crate) fn replays(&self) -> MutexGuard<'_, ReplayCache> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh seed for a machine.
    pub(crate) fn random_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut seed);
        seed
    }

    /// Uniform in 0 to 1.
    pub(crate) fn random_fraction(&self) -> f64 {
        let bits = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In a range, near enough to uniform for a delay or a length.
    pub(crate) fn random_between(&self, range: Range<usize>) -> usize {
        let bits = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        range.start + usize::try_from(bits).unwrap_or(usize::MAX) % range.len().max(1)
    }

    /// Tells the core what it must not miss: the end of a link or of a dial. There are at most as many as links and dials, so
    /// the inbox's reserve holds them.
    pub(crate) fn tell_core(&self, input: CoreInput) {
        // Refused only when the node stops.
        let _ = self.core.push_reserved(input);
    }
}

#[cfg(test)]
mod tests;
