//! The sink of an insert: it keeps the block and pushes it to the neighbours nearest to the key (protocol §7.5).
//!
//! The own copy comes first: a signed block that collides here is not pushed to others. The insert counts as stored when
//! the own copy is durable and the neighbours have answered or had their time; without an own copy (full disk, a node
//! that does not store) the neighbours' copies count alone.
//!
//! Nodes near the key that the insert came by keep it too, once it is said to be stored: a sink may lie.
//!
//! A pushed copy is taken only by a node that is plausibly among the nearest: see [`REPLICA_RANK`].

use warren_keys::Block;

use super::{
    End, Router, TicketUse,
    insert::{Insert, Step},
    limits::{KEEP_WAIT, REPLICA_RANK, REPLICA_WAIT, REPLICAS, WRITES_OF_LINK},
};
use crate::{
    core::api::{Pressure, Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::Routed,
};

#[derive(Debug)]
pub(super) enum Sink {
    Keeping(StoreTicket),
    Pushing { awaited: Vec<LinkId>, copies: u8 },
}

impl Sink {
    pub(super) fn lost_link(&mut self, link: LinkId) {
        if let Self::Pushing { awaited, .. } = self {
            awaited.retain(|known| *known != link);
        }
    }
}

impl Router {
    pub(super) fn become_sink(&mut self, now: Time, id: RequestId, mut insert: Insert) {
        self.stats.sinks += 1;
        if self.stores {
            let question = StoreQuestion::Keep(insert.block.clone(), Shelf::Store);
            insert.step = Step::Sink(Sink::Keeping(self.ask_store(TicketUse::Sink(id), question)));
            insert.until = now + KEEP_WAIT;
            self.inserts.put(id, insert);
        } else {
            self.push(now, id, insert, 0);
        }
    }

    pub(super) fn kept_at_sink(&mut self, now: Time, id: RequestId, answer: StoreAnswer) {
        let Some(insert) = self.inserts.take(id) else {
            return;
        };
        match answer {
            StoreAnswer::Collision(block) => self.end_insert(id, insert, End::Collision(block)),
            StoreAnswer::Kept => self.push(now, id, insert, 1),
            _ => self.push(now, id, insert, 0),
        }
    }

    fn push(&mut self, now: Time, id: RequestId, mut insert: Insert, copies: u8) {
        let awaited = self.neighbours.nearest_stores(insert.location(), REPLICAS);
        for link in &awaited {
            if let Some(neighbour) = self.neighbours.find_mut(*link) {
                neighbour.window.opened();
            }
            self.send(
                *link,
                Routed::Replicate {
                    id,
                    block: insert.block.clone(),
                },
            );
        }
        insert.step = Step::Sink(Sink::Pushing { awaited, copies });
        insert.until = now + REPLICA_WAIT;
        self.settle_sink(id, insert);
    }

    pub(super) fn replicated(&mut self, from: LinkId, id: RequestId, stored: bool) {
        let Some(mut insert) = self.inserts.take(id) else {
            self.ignore();
            return;
        };
        match &mut insert.step {
            Step::Sink(Sink::Pushing { awaited, copies }) if awaited.contains(&from) => {
                awaited.retain(|link| *link != from);
                *copies += u8::from(stored);
                if let Some(neighbour) = self.neighbours.find_mut(from) {
                    neighbour.window.answered();
                }
                self.settle_sink(id, insert);
            }
            _ => {
                self.ignore();
                self.inserts.put(id, insert);
            }
        }
    }

    /// Ends the insert when nothing is awaited any more, else keeps it.
    pub(super) fn settle_sink(&mut self, id: RequestId, insert: Insert) {
        match &insert.step {
            Step::Sink(Sink::Pushing { awaited, copies }) if awaited.is_empty() => {
                let end = if *copies > 0 {
                    End::Stored(*copies)
                } else {
                    End::Failed
                };
                self.end_insert(id, insert, end);
            }
            _ => self.inserts.put(id, insert),
        }
    }

    /// The datastore or a neighbour takes too long: go on without it.
    pub(super) fn sink_due(&mut self, now: Time, id: RequestId, mut insert: Insert) {
        match &mut insert.step {
            Step::Sink(Sink::Keeping(ticket)) => {
                self.tickets.remove(ticket);
                self.push(now, id, insert, 0);
            }
            Step::Sink(Sink::Pushing { awaited, .. }) => {
                for link in awaited.drain(..) {
                    self.stats.timeouts += 1;
                    if let Some(neighbour) = self.neighbours.find_mut(link) {
                        neighbour.window.abandoned();
                    }
                }
                self.settle_sink(id, insert);
            }
            _ => self.inserts.put(id, insert),
        }
    }

    /// A sink pushes a copy to this node.
    pub(super) fn replicate(&mut self, now: Time, from: LinkId, id: RequestId, block: Block) {
        self.deliver(now, &block);
        let key = block.key().location();
        let near = self.neighbours.stores_within(key, self.me.distance(key)) < REPLICA_RANK;
        let writes = self
            .neighbours
            .find_mut(from)
            .map(|neighbour| &mut neighbour.writes);
        let room =
            self.writes < self.limits.writes && writes.as_ref().is_some_and(|own| **own < WRITES_OF_LINK);
        if !self.stores || !near || !room {
            self.send(from, Routed::Replicated { id, stored: false });
            return;
        }
        if let Some(own) = writes {
            *own += 1;
        }
        self.writes += 1;
        self.stats.replicas += 1;
        self.ask_store(
            TicketUse::Replica(from, id),
            StoreQuestion::Keep(block, Shelf::Store),
        );
    }

    /// Keeps a block that was stored beyond this node if this node is plausibly among the nearest (protocol §7.4). An honest
    /// sink has pushed it to most such nodes; one that only says "stored" has not (decision 0009).
    pub(super) fn keep_near(&mut self, block: &Block) {
        let key = block.key().location();
        let near = self.neighbours.stores_within(key, self.me.distance(key)) < REPLICA_RANK;
        if near && self.stores && self.writes < self.limits.writes {
            self.writes += 1;
            self.ask_store(TicketUse::Cache, StoreQuestion::Keep(block.clone(), Shelf::Store));
        }
    }

    /// Leaves a copy of a block that passes by. Skipped when the datastore is behind: it is only a cache.
    pub(super) fn cache(&mut self, block: Block) {
        let lean = self.pressure >= Pressure::Lean;
        if self.stores && !lean && self.writes < self.limits.writes {
            self.writes += 1;
            self.stats.cached += 1;
            self.ask_store(TicketUse::Cache, StoreQuestion::Keep(block, Shelf::Cache));
        }
    }
}
