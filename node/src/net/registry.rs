//! The node's links as its tasks see each other: where to put commands for a link, and how much each has queued.
//!
//! # Invariants
//!
//! - Link numbers are never reused.
//! - Nobody waits for a link: a command that its inbox does not take comes back to the sender.
//! - The node's total of queued bytes is known within one batch of each link; over the budget, the link that holds the
//!   oldest queued data is told to shed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use warren_keys::NodeId;
use warren_proto::{ids::LinkId, link::api::LinkCommand, time::Time};

use crate::{inbox::Inbox, memory::Memory};

/// Commands that may wait for one link. A link drains its inbox whenever it runs, so this bounds a burst between two runs:
/// 1024 block packets are 34 MiB, which the memory budget counts like everything queued.
const INBOX: usize = 1024;

/// "Nothing queued" in [`LinkHandle::oldest`].
const NEVER: u64 = u64::MAX;

/// One link, as the others see it.
pub(crate) struct LinkHandle {
    /// Its number.
    pub(crate) id: LinkId,
    inbox: Inbox<LinkCommand>,
    queued: AtomicUsize,
    oldest: AtomicU64,
    shed: AtomicBool,
    /// The socket's other end.
    address: SocketAddr,
    /// Whether this node dialled.
    dialled: bool,
    since: Time,
    /// The node there, once it has introduced itself.
    peer: OnceLock<NodeId>,
    read: AtomicU64,
    written: AtomicU64,
}

/// One link, for the node's status.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The node at the other end.
    pub node: NodeId,
    /// Where it is. For the node's own operator only; not for logs.
    pub address: SocketAddr,
    /// Whether this node dialled.
    pub dialled: bool,
    /// How long the link has stood.
    pub age: Duration,
    /// Bytes read from the socket.
    pub read: u64,
    /// Bytes written to the socket.
    pub written: u64,
    /// Bytes that wait for the socket.
    pub queued: usize,
}

impl LinkHandle {
    /// Counts bytes read.
    pub(crate) fn count_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes written.
    pub(crate) fn count_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Where its commands go.
    #[must_use]
    pub(crate) fn inbox(&self) -> &Inbox<LinkCommand> {
        &self.inbox
    }

    /// Whether the link was told to shed since this was last asked.
    pub(crate) fn take_shed(&self) -> bool {
        self.shed.swap(false, Ordering::AcqRel)
    }
}

/// All links of a node, and its memory budget for queued data.
pub(crate) struct Registry {
    links: RwLock<Links>,
    next: AtomicU64,
    memory: Arc<Memory>,
    /// Nodes that are linked, for who waits for them.
    neighbours: watch::Sender<usize>,
}

#[derive(Default)]
struct Links {
    by_id: BTreeMap<LinkId, Arc<LinkHandle>>,
    /// No more links: the node stops.
    closed: bool,
    /// No links for the time being: the month's volume is used up.
    paused: bool,
}

impl Links {
    /// Two links to one node, while its ends agree which one stays, are one neighbour.
    fn neighbours(&self) -> usize {
        let nodes: BTreeSet<_> = self.by_id.values().filter_map(|link| link.peer.get()).collect();
        nodes.len()
    }
}

impl Registry {
    /// No links yet; what they queue is booked in `memory`.
    #[must_use]
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self {
            links: RwLock::default(),
            next: AtomicU64::new(1),
            memory,
            neighbours: watch::Sender::new(0),
        }
    }

    /// Makes room for a new link.
    #[must_use]
    pub(crate) fn register(&self, now: Time, address: SocketAddr, dialled: bool) -> Arc<LinkHandle> {
        let id = LinkId(self.next.fetch_add(1, Ordering::Relaxed));
        let handle = Arc::new(LinkHandle {
            id,
            inbox: Inbox::new(INBOX),
            queued: AtomicUsize::new(0),
            oldest: AtomicU64::new(NEVER),
            shed: AtomicBool::new(false),
            address,
            dialled,
            since: now,
            peer: OnceLock::new(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        });
        let mut links = self.write();
        if links.closed || links.paused {
            handle.inbox.close();
        }
        links.by_id.insert(id, Arc::clone(&handle));
        drop(links);
        handle
    }

    fn read(&self) -> RwLockReadGuard<'_, Links> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Links> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a link: commands for it fail from now on.
    pub(crate) fn remove(&self, handle: &LinkHandle) {
        let mut links = self.write();
        links.by_id.remove(&handle.id);
        let neighbours = links.neighbours();
        self.neighbours.send_replace(neighbours);
        drop(links);
        handle.inbox.close();
        let had = handle.queued.swap(0, Ordering::Relaxed);
        self.memory.link(had, 0);
    }

    /// A link by its number.
    #[must_use]
    pub(crate) fn link(&self, id: LinkId) -> Option<Arc<LinkHandle>> {
        self.read().by_id.get(&id).cloned()
    }

    /// Number of links, up or not.
    pub(crate) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Records who is at the other end of a link, which is up by that.
    pub(crate) fn introduced(&self, handle: &LinkHandle, node: NodeId) {
        // Under the lock, so that counts are published in the order in which they were true.
        let links = self.write();
        if handle.peer.set(node).is_ok() {
            self.neighbours.send_replace(links.neighbours());
        }
    }

    /// The number of nodes that are linked, to watch.
    pub(crate) fn neighbours(&self) -> watch::Receiver<usize> {
        self.neighbours.subscribe()
    }

    /// Ends all links and lets none be made, or lets them be made again.
    pub(crate) fn pause(&self, paused: bool) {
        let mut links = self.write();
        links.paused = paused;
        if paused {
            for link in links.by_id.values() {
                link.inbox.close();
            }
        }
    }

    /// Whether no links are made for the time being.
    pub(crate) fn is_paused(&self) -> bool {
        self.read().paused
    }

    /// Ends all links, and those whose handshake is just being completed.
    pub(crate) fn close_all(&self) {
        let mut links = self.write();
        links.closed = true;
        for link in links.by_id.values() {
            link.inbox.close();
        }
    }

    /// The links that are up.
    pub(crate) fn status(&self, now: Time) -> Vec<LinkStatus> {
        let links = self.read();
        let up = links
            .by_id
            .values()
            .filter_map(|link| Some((link, *link.peer.get()?)));
        up.map(|(link, node)| LinkStatus {
            node,
            address: link.address,
            dialled: link.dialled,
            age: now.since(link.since),
            read: link.read.load(Ordering::Relaxed),
            written: link.written.load(Ordering::Relaxed),
            queued: link.queued.load(Ordering::Relaxed),
        })
        .collect()
    }

    /// Bytes queued over all links.
    #[must_use]
    pub(crate) fn queued(&self) -> usize {
        self.memory.links()
    }

    /// Records what `handle`'s link has queued, and since when its oldest byte waits. Over the budget, tells the link with
    /// the oldest data to shed, or the fullest to close (see [`crate::memory`]).
    pub(crate) fn account(&self, handle: &LinkHandle, queued: usize, oldest: Option<Time>) {
        handle
            .oldest
            .store(oldest.map_or(NEVER, |time| time.0), Ordering::Relaxed);
        let before = handle.queued.swap(queued, Ordering::Relaxed);
        self.memory.link(before, queued);
        if self.memory.must_reclaim() {
            self.reclaim();
        }
    }

    /// Ends the circuit with the oldest data; when no circuit has any, the link with the most.
    fn reclaim(&self) {
        let links = self.read();
        let oldest = links
            .by_id
            .values()
            .min_by_key(|link| link.oldest.load(Ordering::Relaxed));
        match oldest {
            Some(link) if link.oldest.load(Ordering::Relaxed) != NEVER => {
                if !link.shed.swap(true, Ordering::AcqRel) {
                    self.memory.ended_circuit();
                    link.inbox.nudge();
                }
            }
            _ => {
                let queued = |link: &Arc<LinkHandle>| link.queued.load(Ordering::Relaxed);
                let fullest = links.by_id.values().max_by_key(|link| queued(link));
                if let Some(link) = fullest.filter(|link| queued(link) > 0 && !link.inbox.is_closed()) {
                    self.memory.closed_link();
                    link.inbox.close();
                }
            }
        }
    }
}

/// Commands on their way to links, grouped so that each link is woken once for a batch.
#[derive(Default)]
pub(crate) struct Outbox {
    // A task talks to few links in one batch; a short list beats a map.
    batches: Vec<Batch>,
}

struct Batch {
    link: LinkId,
    handle: Option<Arc<LinkHandle>>,
    commands: Vec<LinkCommand>,
}

/// Destinations whose handles an [`Outbox`] remembers between batches.
const REMEMBERED: usize = 64;

impl Outbox {
    /// Queues a command for a link.
    pub(crate) fn put(&mut self, link: LinkId, command: LinkCommand) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.link == link) {
            batch.commands.push(command);
        } else {
            self.batches.push(Batch {
                link,
                handle: None,
                commands: vec![command],
            });
        }
    }

    /// Hands everything over. What a link does not take goes to `undeliverable`, with `gone` telling a link that no longer
    /// exists from one that is full.
    pub(crate) fn flush(
        &mut self,
        registry: &Registry,
        mut undeliverable: impl FnMut(LinkId, LinkCommand, bool),
    ) {
        let mut any_gone = false;
        for batch in &mut self.batches {
            if batch.commands.is_empty() {
                continue;
            }
            if batch.handle.is_none() {
                batch.handle = registry.link(batch.link);
            }
            if batch
                .handle
                .as_ref()
                .is_some_and(|handle| handle.inbox.push_all(&mut batch.commands))
            {
                continue;
            }
            let handle = batch.handle.take_if(|handle| !handle.inbox.is_closed());
            let gone = handle.is_none();
            for command in batch.commands.drain(..) {
                let command = match &handle {
                    Some(handle) if must_arrive(&command) => match handle.inbox.push_reserved(command) {
                        Ok(()) => continue,
                        Err(refused) => refused.into_inner(),
                    },
                    _ => command,
                };
                undeliverable(batch.link, command, gone);
            }
            batch.handle = handle;
            any_gone |= gone;
        }
        if any_gone || self.batches.len() > REMEMBERED {
            self.batches.retain(|batch| batch.handle.is_some());
        }
        if self.batches.len() > REMEMBERED {
            self.batches.clear();
        }
    }
}

/// Whether losing the command would leave something standing, or somebody waiting, until a timeout. Such commands are small
/// and come at most once per circuit or link.
fn must_arrive(command: &LinkCommand) -> bool {
    matches!(
        command,
        LinkCommand::Destroy(_)
            | LinkCommand::CloseOrigin(_)
            | LinkCommand::ExtendFailed(_)
            | LinkCommand::Extended { .. }
            | LinkCommand::OpenThrough { .. }
            | LinkCommand::OpenOrigin { .. }
            | LinkCommand::Services(_)
            | LinkCommand::Close
    )
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use warren_keys::{IdentityKey, Seed};
    use warren_proto::{geometry::PacketSize, ids::CircuitId};

    use super::*;

    fn register(registry: &Registry) -> Arc<LinkHandle> {
        registry.register(Time(0), ([127, 0, 0, 1], 1).into(), true)
    }

    fn packet(circuit: u32) -> LinkCommand {
        let body = bytes::BytesMut::zeroed(8);
        LinkCommand::Forward {
            circuit: CircuitId(circuit),
            size: PacketSize::Control,
            body,
        }
    }

    #[test]
    fn batches_arrive_in_order_and_overflow_comes_back() {
        let registry = Registry::new(Memory::new(usize::MAX));
        let link = register(&registry);
        let mut outbox = Outbox::default();
        for n in 0..INBOX + 3 {
            outbox.put(link.id, packet(u32::try_from(n).unwrap()));
        }
        outbox.put(link.id, LinkCommand::Destroy(CircuitId(7)));
        let mut back = Vec::new();
        outbox.flush(&registry, |to, command, gone| {
            assert!(to == link.id && !gone);
            back.push(command);
        });
        assert_eq!(back.len(), 3);
        let mut got = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(link.inbox().poll_take(&mut cx, &mut got).is_ready());
        assert!(matches!(
            got.first(),
            Some(LinkCommand::Forward {
                circuit: CircuitId(0),
                ..
            })
        ));
        assert!(matches!(got.last(), Some(LinkCommand::Destroy(CircuitId(7)))));
    }

    #[test]
    fn commands_for_a_link_that_ended_come_back() {
        let registry = Registry::new(Memory::new(usize::MAX));
        let link = register(&registry);
        let mut outbox = Outbox::default();
        outbox.put(link.id, packet(1));
        outbox.flush(&registry, |_, _, _| panic!("taken"));
        registry.remove(&link);
        let mut back = 0;
        outbox.put(link.id, LinkCommand::Destroy(CircuitId(1)));
        outbox.put(LinkId(99), packet(1));
        outbox.flush(&registry, |_, _, gone| {
            assert!(gone);
            back += 1;
        });
        assert_eq!(back, 2);
    }

    #[test]
    fn a_link_that_comes_while_the_node_stops_ends_too() {
        let registry = Registry::new(Memory::new(usize::MAX));
        let early = register(&registry);
        registry.close_all();
        assert!(early.inbox().is_closed());
        assert!(register(&registry).inbox().is_closed());
    }

    #[test]
    fn a_pause_ends_links_and_is_over_when_it_is_over() {
        let registry = Registry::new(Memory::new(usize::MAX));
        let early = register(&registry);
        registry.pause(true);
        assert!(registry.is_paused() && early.inbox().is_closed());
        assert!(register(&registry).inbox().is_closed());
        registry.pause(false);
        assert!(!register(&registry).inbox().is_closed());
    }

    #[test]
    fn two_links_to_one_node_are_one_neighbour() {
        let registry = Registry::new(Memory::new(usize::MAX));
        let links = [register(&registry), register(&registry), register(&registry)];
        let node = |seed| IdentityKey::from_seed(&Seed::from_bytes([seed; 32])).id();
        registry.introduced(&links[0], node(1));
        registry.introduced(&links[1], node(1));
        registry.introduced(&links[2], node(2));
        assert_eq!(*registry.neighbours().borrow(), 2);
        registry.remove(&links[0]);
        assert_eq!(*registry.neighbours().borrow(), 2);
        registry.remove(&links[1]);
        assert_eq!(*registry.neighbours().borrow(), 1);
    }

    #[test]
    fn over_budget_the_link_with_the_oldest_data_sheds() {
        let registry = Registry::new(Memory::new(100));
        let (young, old) = (register(&registry), register(&registry));
        registry.account(&old, 60, Some(Time(10)));
        assert!(!old.take_shed());
        registry.account(&young, 60, Some(Time(20)));
        assert!(old.take_shed() && !young.take_shed());
        registry.account(&old, 0, None);
        assert_eq!(registry.queued(), 60);
        registry.remove(&young);
        assert_eq!(registry.queued(), 0);
    }

    #[test]
    fn over_budget_without_circuits_the_fullest_link_closes() {
        let registry = Registry::new(Memory::new(100));
        let (small, large) = (register(&registry), register(&registry));
        registry.account(&large, 90, None);
        registry.account(&small, 5, None);
        assert!(!large.inbox().is_closed(), "within the budget");
        registry.account(&small, 30, Some(Time(1)));
        assert!(
            small.take_shed() && !large.inbox().is_closed(),
            "a circuit dies first"
        );
        registry.account(&small, 20, None);
        assert!(large.inbox().is_closed() && !small.inbox().is_closed());
        let reclaimed = registry.memory.reclaimed();
        assert_eq!((reclaimed.circuits, reclaimed.links), (1, 1));
        registry.remove(&large);
        assert_eq!(registry.queued(), 20);
    }
}
