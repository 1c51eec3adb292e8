//! Key routing: finds blocks, and brings them to the nodes nearest to their keys (protocol §7).
//!
//! [`Router`] is the machine. Its neighbours, the exit duty and the datastore are beyond it: it takes routed messages,
//! answers of the datastore and the exits' wishes, and gives messages, questions and answers back.
//!
//! - `fetch`: searches, with their failed branches and the requests that joined them
//! - `insert`: the way of a block to its sink
//! - `sink`: what the nearest node does, and what its neighbours do with a pushed copy
//! - `neighbours`, `window`: whom to ask, and how much at once
//! - `pace`: how long to wait for an answer
//! - `waits`: who gets a block that arrives after its search has failed
//! - `memory`, `table`: what is bounded by age and number
//!
//! # Invariants
//!
//! 1. Every request that is accepted gets exactly one answer, unless its asker goes away first.
//! 2. Every open entry has a timer, so nothing stays open for longer than [`Limits`] and the constants of `limits` say,
//!    whatever the neighbours do.
//! 3. A request waits only for the same request further on, or for one with a smaller number that it joined. Waiting in
//!    circles is therefore impossible.
//! 4. Every table is bounded; at a bound new requests are refused and open ones go on.
//!
//! # What is deliberately absent
//!
//! Who the neighbours should be (see [`crate::topology`]), any queue of requests (a full node refuses), any knowledge of
//! clients (see [`crate::core`]), and the verification of blocks, which the links do before a message gets here.

mod fetch;
mod insert;
mod limits;
mod memory;
mod neighbours;
mod pace;
mod sink;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod waits;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::{BLOCK_SIZE, Block, BlockId, Location};

pub(crate) use self::memory::Recent;
use self::{
    fetch::{Search, Width},
    insert::Insert,
    limits::{FAILED_TIME, FEW, MAX_AGAIN, MAX_FAILED, MAX_SEEN, SEEN_TIME},
    neighbours::Neighbours,
    pace::Pace,
    table::Table,
    waits::{Waiter, Waits},
};
pub use self::{
    limits::{FETCH_BRANCHES, Limits, MAX_BRANCHES, MAX_HTL, MAX_STALE, REPLICAS, WAIT_TIME},
    stats::{OpenRequests, RouterStats},
};
use crate::{
    core::api::{Pressure, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::{ExitResult, Refusal, Replica, Routed},
};

/// What the router wants done.
#[derive(Debug)]
pub enum RouterOutput {
    /// Send to a neighbour.
    Send(LinkId, Routed),
    /// Ask the datastore.
    Store(StoreTicket, StoreQuestion),
    /// The answer to [`Router::fetch`] or [`Router::insert`]; [`ExitResult::Waiting`] is not the last.
    Answer(RequestId, ExitResult),
    /// A neighbour sent what no honest node sends.
    Offence(LinkId, Offence),
}

/// What a neighbour did wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offence {
    /// A valid block, but not the one that was asked for; or, as a collision, the block that was inserted.
    WrongBlock,
    /// An answer that does not belong to the kind of request, such as a found block for an insert.
    WrongAnswer,
}

/// On whose behalf a request runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// A neighbour, who forwards it.
    Link(LinkId),
    /// This node, as the exit of somebody's circuit.
    Exit,
    /// This node's own client without circuits: the own datastore is neither asked nor filled.
    Own,
    /// This node, for those who wait here and whose way on was lost: nobody is answered.
    Again,
}

impl Asker {
    fn is_link(self, link: LinkId) -> bool {
        self == Self::Link(link)
    }
}

/// How a request ends.
#[derive(Debug)]
enum End {
    /// Here it is; `copy` asks the next node to keep a copy.
    Found { block: Block, copy: bool },
    /// Somebody searched and did not find it.
    NotFound { left: u8 },
    /// All who could have been asked are overloaded.
    Busy,
    /// Nobody to ask.
    NoWay,
    /// Those who were asked went away or stayed silent; or the insert could not be made durable.
    Failed,
    /// Durable on this many nodes.
    Stored(u8),
    /// Another block is there.
    Collision(Block),
}

/// What an answer of the datastore is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TicketUse {
    Lookup(RequestId),
    Sink(RequestId),
    Replica(LinkId, RequestId),
    Cache,
}

/// The router machine.
#[derive(Debug)]
pub struct Router {
    me: Location,
    stores: bool,
    /// Whether requests of neighbours are refused.
    resting: bool,
    limits: Limits,
    pressure: Pressure,
    rng: ChaCha20Rng,
    neighbours: Neighbours,
    searches: Table<Search>,
    /// The open searches by block, for joining.
    by_block: BTreeSet<(BlockId, RequestId)>,
    /// Requests that wait for a search with another number.
    joined: BTreeMap<RequestId, RequestId>,
    inserts: Table<Insert>,
    tickets: BTreeMap<StoreTicket, TicketUse>,
    last_ticket: u64,
    /// Tickets that belong to no open request.
    writes: usize,
    seen: Recent<RequestId, ()>,
    failed: Recent<BlockId, Width>,
    waits: Waits,
    fetch_pace: Pace,
    insert_pace: Pace,
    output: VecDeque<RouterOutput>,
    stats: RouterStats,
}

impl Router {
    /// A router at `me` without neighbours. `stores`: whether this node keeps blocks.
    #[must_use]
    pub fn new(me: Location, stores: bool, limits: Limits, rng: ChaCha20Rng) -> Self {
        Self {
            me,
            stores,
            resting: false,
            limits,
            pressure: Pressure::None,
            rng,
            neighbours: Neighbours::default(),
            searches: Table::new(),
            by_block: BTreeSet::new(),
            joined: BTreeMap::new(),
            inserts: Table::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            writes: 0,
            seen: Recent::new(MAX_SEEN, SEEN_TIME),
            failed: Recent::new(MAX_FAILED, FAILED_TIME),
            waits: Waits::default(),
            fetch_pace: Pace::new(),
            insert_pace: Pace::new(),
            output: VecDeque::new(),
            stats: RouterStats::default(),
        }
    }

    /// A link to a neighbour is up. `stores`: whether that node keeps blocks.
    pub fn neighbour_up(&mut self, link: LinkId, location: Location, stores: bool) {
        self.neighbours.insert(link, location, stores);
    }

    /// A link is gone. What waited for it goes elsewhere; searches that only it asked for are dropped; inserts go on. What it was
    /// asked to push is asked for elsewhere.
    pub fn neighbour_down(&mut self, now: Time, link: LinkId) {
        if !self.neighbours.remove(link) {
            return;
        }
        for id in self.searches.ids() {
            self.search_lost_link(now, id, link);
        }
        for id in self.inserts.ids() {
            self.insert_lost_link(now, id, link);
        }
        for (block, reach) in self.waits.lost_link(link).into_iter().take(MAX_AGAIN) {
            if !self.searches_full() {
                self.search_again(now, block, reach);
            }
        }
    }

    /// How full the node's memory is.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
    }

    /// Bytes of the blocks that are held for inserts and for the datastore.
    #[must_use]
    pub fn memory(&self) -> usize {
        (self.inserts.len() + self.writes) * BLOCK_SIZE
    }

    /// Whether this node keeps blocks from now on.
    pub fn set_stores(&mut self, stores: bool) {
        self.stores = stores;
    }

    /// Whether new requests of neighbours are refused from now on, as by an overloaded node; what is open goes on.
    pub fn set_resting(&mut self, resting: bool) {
        self.resting = resting;
    }

    /// Whether the node at the other end of a link keeps blocks.
    pub fn set_neighbour_stores(&mut self, link: LinkId, stores: bool) {
        if let Some(neighbour) = self.neighbours.find_mut(link) {
            neighbour.stores = stores;
        }
    }

    /// As an exit (or, with `own`, as a client without circuits), searches for a block. `branches` is capped at
    /// [`MAX_BRANCHES`]. `None` when overloaded; else ends in [`RouterOutput::Answer`], after [`WAIT_TIME`] at the latest when
    /// `wait` asks for a block that is not there yet.
    pub fn fetch(
        &mut self,
        now: Time,
        block: BlockId,
        branches: u8,
        wait: bool,
        own: bool,
    ) -> Option<RequestId> {
        if self.searches_full() {
            self.stats.refused_busy += 1;
            return None;
        }
        let id = self.fresh_id(now);
        self.stats.exit_fetches += 1;
        self.begin_search(
            now,
            id,
            if own { Asker::Own } else { Asker::Exit },
            block,
            branches,
            wait,
        );
        Some(id)
    }

    /// As an exit (or, with `own`, as a client without circuits), inserts a block. `None` when overloaded; else ends in
    /// [`RouterOutput::Answer`].
    pub fn insert(&mut self, now: Time, block: Block, own: bool) -> Option<RequestId> {
        if self.inserts_full() {
            self.stats.refused_busy += 1;
            return None;
        }
        let id = self.fresh_id(now);
        self.stats.exit_inserts += 1;
        self.begin_insert(
            now,
            id,
            if own { Asker::Own } else { Asker::Exit },
            block,
            MAX_HTL,
        );
        Some(id)
    }

    /// Nobody waits for the answer any more: a search ends, an insert goes on.
    pub fn cancel(&mut self, id: RequestId) {
        self.waits.cancel(id);
        self.cancel_search(id);
        self.orphan_insert(id);
    }

    /// A routed message from a neighbour. Blocks in it are verified.
    pub fn routed(&mut self, now: Time, from: LinkId, message: Routed) {
        if self.neighbours.find(from).is_none() {
            return;
        }
        match message {
            Routed::Request {
                id,
                block,
                htl,
                stale,
                branches,
                best,
                wait,
            } => {
                if self.admit(now, from, id, self.searches_full()) {
                    self.stats.requests += 1;
                    let width = Width {
                        htl,
                        stale,
                        branches,
                        wait,
                    };
                    self.passed_search(now, id, from, block, width, best);
                }
            }
            Routed::Insert { id, block, htl } => {
                if self.admit(now, from, id, self.inserts_full()) {
                    self.stats.inserts += 1;
                    self.begin_insert(now, id, Asker::Link(from), block, htl.min(MAX_HTL));
                }
            }
            Routed::Replicate { id, block } => self.replicate(now, from, id, block),
            Routed::Found { id, block, copy } => self.found(now, from, id, block, copy),
            Routed::NotFound { id, branches } => self.not_found(now, from, id, branches),
            Routed::Refused { id, why } => self.refused(now, from, id, why),
            Routed::Stored { id, copies } => self.stored(now, from, id, copies),
            Routed::Collision { id, block } => self.collision(now, from, id, block),
            Routed::Replicated { id, replica } => self.replicated(now, from, id, replica),
            Routed::Arrived { block } => self.pushed(now, from, &block),
            // Not this machine's business: see [`crate::repair`].
            Routed::Repair(_) => self.ignore(),
        }
    }

    /// A block has come here by another way: that it was searched for in vain is no longer true, and who waits for it gets it.
    pub fn arrived(&mut self, now: Time, block: &Block) {
        self.deliver(now, block);
    }

    /// The datastore's answer.
    pub fn store(&mut self, now: Time, ticket: StoreTicket, answer: StoreAnswer) {
        let Some(purpose) = self.tickets.remove(&ticket) else {
            return;
        };
        match purpose {
            TicketUse::Lookup(id) => self.looked_up(now, id, answer),
            TicketUse::Sink(id) => self.kept_at_sink(now, id, answer),
            TicketUse::Replica(link, id) => {
                self.writes -= 1;
                let replica = match answer {
                    StoreAnswer::Kept => Replica::Stored,
                    StoreAnswer::Busy => Replica::Busy,
                    _ => Replica::Declined,
                };
                self.replica_kept(id, ticket, matches!(replica, Replica::Stored));
                // Who pushed the copy may be gone by now.
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.writes = neighbour.writes.saturating_sub(1);
                    self.send(link, Routed::Replicated { id, replica });
                }
            }
            TicketUse::Cache => self.writes -= 1,
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        self.output.pop_front()
    }

    /// When [`Router::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.searches
            .next_wake()
            .into_iter()
            .chain(self.inserts.next_wake())
            .chain(self.waits.next_wake())
            .min()
    }

    /// Looks after everything that is due.
    pub fn handle_timeout(&mut self, now: Time) {
        // Each turn either ends an entry or gives it a later time, so this terminates: a try ends after its wait, and the
        // number of tries is bounded.
        while let Some(id) = self.searches.due(now) {
            self.search_due(now, id);
        }
        while let Some(id) = self.inserts.due(now) {
            self.insert_due(now, id);
        }
        for id in self.waits.expire(now) {
            self.output
                .push_back(RouterOutput::Answer(id, ExitResult::NotFound));
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> RouterStats {
        self.stats
    }

    /// How much is open at present.
    #[must_use]
    pub fn open(&self) -> OpenRequests {
        OpenRequests {
            searches: self.searches.len(),
            joined: self.joined.len(),
            inserts: self.inserts.len(),
            store_questions: self.tickets.len(),
            remembered: self.seen.len() + self.failed.len(),
            waits: self.waits.len(),
        }
    }

    /// Own requests open at a neighbour, and how many may be.
    #[must_use]
    pub fn window(&self, link: LinkId) -> Option<(u32, u32)> {
        self.neighbours
            .find(link)
            .map(|n| (n.window.open(), n.window.size()))
    }

    /// Takes a neighbour's request in, or refuses it.
    fn admit(&mut self, now: Time, from: LinkId, id: RequestId, full: bool) -> bool {
        let Some(neighbour) = self.neighbours.find_mut(from) else {
            return false;
        };
        let known = self.seen.find(now, &id).is_some()
            || self.searches.contains(id)
            || self.inserts.contains(id)
            || self.joined.contains_key(&id);
        if known {
            self.stats.refused_loop += 1;
            self.send(
                from,
                Routed::Refused {
                    id,
                    why: Refusal::Loop,
                },
            );
            return false;
        }
        let most = match self.pressure {
            Pressure::None => self.limits.per_neighbour,
            Pressure::Busy | Pressure::Lean => self.limits.per_neighbour.min(FEW),
        };
        if full || self.resting || neighbour.inbound >= most {
            self.stats.refused_busy += 1;
            self.send(
                from,
                Routed::Refused {
                    id,
                    why: Refusal::Busy,
                },
            );
            return false;
        }
        neighbour.inbound += 1;
        self.seen.insert(now, id, ());
        true
    }

    /// Ends an asker's part in a request: the one place where answers leave.
    fn reply(&mut self, asker: Asker, id: RequestId, end: End) {
        match asker {
            Asker::Link(link) => {
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.inbound = neighbour.inbound.saturating_sub(1);
                    self.send(link, end.for_neighbour(id));
                }
            }
            Asker::Exit | Asker::Own => self.output.push_back(RouterOutput::Answer(id, end.for_client())),
            Asker::Again => {}
        }
    }

    /// A block is here, whatever brought it: all who wait or search for it get it.
    fn deliver(&mut self, now: Time, block: &Block) {
        self.failed.remove(&block.id());
        for waiter in self.waits.take(block.id()) {
            self.stats.pushed += 1;
            match waiter {
                Waiter::Link(link) => self.send(link, Routed::Arrived { block: block.clone() }),
                Waiter::Exit(id) => {
                    let result = ExitResult::Found(block.clone());
                    self.output.push_back(RouterOutput::Answer(id, result));
                }
            }
        }
        self.end_searches_for(now, block);
    }

    /// A neighbour pushes a block: taken only if it was asked to.
    fn pushed(&mut self, now: Time, from: LinkId, block: &Block) {
        if self.waits.unplace(block.id(), from) {
            self.stats.arrived += 1;
            self.deliver(now, block);
        } else {
            self.ignore();
        }
    }

    fn refused(&mut self, now: Time, from: LinkId, id: RequestId, why: Refusal) {
        if why == Refusal::Busy {
            self.stats.busy_received += 1;
        }
        if self.searches.contains(id) {
            self.search_refused(now, from, id, why);
        } else if self.inserts.contains(id) {
            self.insert_refused(now, from, id, why);
        } else {
            self.ignore();
        }
    }

    fn send(&mut self, link: LinkId, message: Routed) {
        self.output.push_back(RouterOutput::Send(link, message));
    }

    fn offence(&mut self, link: LinkId, offence: Offence) {
        self.stats.offences += 1;
        self.output.push_back(RouterOutput::Offence(link, offence));
    }

    /// An answer that fits nothing open: late, or invented. Honest nodes send such answers after a time-out.
    fn ignore(&mut self) {
        self.stats.ignored += 1;
    }

    fn ask_store(&mut self, purpose: TicketUse, question: StoreQuestion) -> StoreTicket {
        self.last_ticket += 1;
        let ticket = StoreTicket(self.last_ticket);
        self.tickets.insert(ticket, purpose);
        self.output.push_back(RouterOutput::Store(ticket, question));
        ticket
    }

    fn fresh_id(&mut self, now: Time) -> RequestId {
        let id = RequestId(self.rng.next_u64());
        self.seen.insert(now, id, ());
        id
    }

    fn searches_full(&self) -> bool {
        self.searches.len() + self.joined.len() >= self.limits.searches
    }

    fn inserts_full(&self) -> bool {
        self.inserts.len() >= self.limits.inserts
    }
}

impl End {
    fn for_neighbour(self, id: RequestId) -> Routed {
        match self {
            Self::Found { block, copy } => Routed::Found { id, block, copy },
            Self::NotFound { left } => Routed::NotFound { id, branches: left },
            Self::Busy => Routed::Refused {
                id,
                why: Refusal::Busy,
            },
            Self::NoWay => Routed::Refused {
                id,
                why: Refusal::Loop,
            },
            Self::Failed => Routed::Refused {
                id,
                why: Refusal::Failed,
            },
            Self::Stored(copies) => Routed::Stored { id, copies },
            Self::Collision(block) => Routed::Collision { id, block },
        }
    }

    fn for_client(self) -> ExitResult {
        match self {
            Self::Found { block, .. } => ExitResult::Found(block),
            Self::NotFound { .. } => ExitResult::NotFound,
            Self::Busy => ExitResult::Busy,
            Self::NoWay | Self::Failed => ExitResult::Failed,
            Self::Stored(copies) => ExitResult::Stored(copies),
            Self::Collision(block) => ExitResult::Collision(block),
        }
    }
}
