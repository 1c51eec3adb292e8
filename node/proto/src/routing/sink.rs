//! The sink of an insert: it keeps the block and pushes it to the neighbours nearest to the key (protocol §7.5).
//!
//! The own copy comes first: a signed block that collides here is not pushed to others. The insert counts as stored when
//! the own copy is durable and the neighbours have answered or had their time; without an own copy (full disk, a node
//! that does not store) the neighbours' copies count alone.
//!
//! Nodes near the key that the insert came by keep it too, once it is said to be stored: a sink may lie.
//!
//! Who is too busy to write, this node's datastore included, is asked again after a pause: an insert must not lose copies to a
//! disk that is behind for a moment. When nobody keeps a copy and somebody was only busy, the asker hears so at once and comes again:
//! what is too much for all of them must not be pushed about.
//!
//! A pushed copy is taken only by a node that is plausibly among the nearest: see [`REPLICA_RANK`].

use core::time::Duration;

use warren_keys::{Block, BlockKind};

use super::{
    End, Router, TicketUse,
    insert::{Insert, Pushed, Step},
    limits::{BUSY_PAUSE, BUSY_WAIT, KEEP_WAIT, REPLICA_RANK, REPLICA_WAIT, REPLICAS, WRITES_OF_LINK},
};
use crate::{
    core::api::{Pressure, Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::{Replica, Routed},
};

#[derive(Debug)]
pub(super) enum Sink {
    /// The datastore is asked, or is to be asked again.
    Keeping {
        ticket: Option<StoreTicket>,
        /// When to go on without it.
        end: Time,
        /// Until when it is asked again.
        again_until: Time,
    },
    Pushing(Push),
}

/// Copies for neighbours.
#[derive(Debug)]
pub(super) struct Push {
    /// Who has not answered.
    awaited: Vec<LinkId>,
    /// Who was busy and is to be asked again.
    again: Vec<LinkId>,
    copies: u8,
    /// Whether somebody could not keep a copy only because of too much else.
    busy: bool,
    /// Before who was busy is asked again; doubles each time, so that who is always busy gets the block a few times and not more.
    pause: Duration,
    /// When to go on without them.
    end: Time,
}

impl Sink {
    pub(super) fn lost_link(&mut self, link: LinkId) {
        if let Self::Pushing(push) = self {
            push.awaited.retain(|known| *known != link);
            push.again.retain(|known| *known != link);
        }
    }
}

/// Whether two verified blocks are one. The key of a content block says it.
fn is_same(one: &Block, other: &Block) -> bool {
    one.id() == other.id() && (one.id().kind == BlockKind::Content || one == other)
}

impl Router {
    pub(super) fn become_sink(&mut self, now: Time, id: RequestId, insert: Insert) {
        self.stats.sinks += 1;
        if self.stores {
            self.keep_at_sink(id, insert, now + KEEP_WAIT, now + BUSY_WAIT);
        } else {
            self.push(now, id, insert, 0, false);
        }
    }

    fn keep_at_sink(&mut self, id: RequestId, mut insert: Insert, end: Time, again_until: Time) {
        let question = StoreQuestion::Keep(insert.block.clone(), Shelf::Store);
        let ticket = Some(self.ask_store(TicketUse::Sink(id), question));
        insert.step = Step::Sink(Sink::Keeping {
            ticket,
            end,
            again_until,
        });
        insert.until = end;
        self.inserts.put(id, insert);
    }

    pub(super) fn kept_at_sink(&mut self, now: Time, id: RequestId, answer: StoreAnswer) {
        let Some(mut insert) = self.inserts.take(id) else {
            return;
        };
        match (answer, &mut insert.step) {
            (StoreAnswer::Collision(block), _) => self.end_insert(id, insert, End::Collision(block)),
            (
                StoreAnswer::Busy,
                Step::Sink(Sink::Keeping {
                    ticket, again_until, ..
                }),
            ) if now < *again_until => {
                *ticket = None;
                insert.until = now + BUSY_PAUSE;
                self.inserts.put(id, insert);
            }
            (StoreAnswer::Busy, _) => self.push(now, id, insert, 0, true),
            (StoreAnswer::Kept, _) => self.push(now, id, insert, 1, false),
            _ => self.push(now, id, insert, 0, false),
        }
    }

    fn push(&mut self, now: Time, id: RequestId, mut insert: Insert, copies: u8, busy: bool) {
        let end = now + REPLICA_WAIT;
        let key = insert.location();
        let outside = self.neighbours.stores_within(key, self.me.distance(key)) > REPLICAS;
        let count = REPLICAS + usize::from(outside);
        let nearest = self.neighbours.nearest_stores(key, count);
        self.send_copies(id, &insert.block, &nearest);
        insert.step = Step::Sink(Sink::Pushing(Push {
            awaited: nearest,
            again: Vec::new(),
            copies,
            busy,
            pause: BUSY_PAUSE,
            end,
        }));
        insert.until = end;
        self.settle_sink(id, insert);
    }

    fn send_copies(&mut self, id: RequestId, block: &Block, links: &[LinkId]) {
        for link in links {
            if let Some(neighbour) = self.neighbours.find_mut(*link) {
                neighbour.window.opened();
            }
            let block = block.clone();
            self.send(*link, Routed::Replicate { id, block });
        }
    }

    pub(super) fn replicated(&mut self, now: Time, from: LinkId, id: RequestId, replica: Replica) {
        let Some(mut insert) = self.inserts.take(id) else {
            self.ignore();
            return;
        };
        match &mut insert.step {
            Step::Sink(Sink::Pushing(push)) if push.awaited.contains(&from) => {
                push.awaited.retain(|link| *link != from);
                push.copies += u8::from(replica == Replica::Stored);
                if replica == Replica::Busy {
                    push.busy = true;
                    push.again.push(from);
                    insert.until = insert.until.min(now + push.pause);
                }
                if let Some(neighbour) = self.neighbours.find_mut(from) {
                    match replica {
                        Replica::Busy => neighbour.window.refused(now),
                        Replica::Stored | Replica::Declined => neighbour.window.answered(),
                    }
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
            Step::Sink(Sink::Pushing(push))
                if push.awaited.is_empty() && (push.again.is_empty() || push.copies == 0) =>
            {
                let end = match push {
                    Push {
                        copies: 0,
                        busy: true,
                        ..
                    } => End::Busy,
                    Push { copies: 0, .. } => End::Failed,
                    Push { copies, .. } => End::Stored(*copies),
                };
                self.end_insert(id, insert, end);
            }
            _ => self.inserts.put(id, insert),
        }
    }

    /// Who was busy is asked again; who takes too long, the datastore or a neighbour, is gone on without.
    pub(super) fn sink_due(&mut self, now: Time, id: RequestId, mut insert: Insert) {
        match &mut insert.step {
            Step::Sink(Sink::Keeping {
                ticket: Some(ticket), ..
            }) => {
                self.tickets.remove(ticket);
                self.push(now, id, insert, 0, false);
            }
            Step::Sink(Sink::Keeping { end, again_until, .. }) => {
                let (end, again_until) = (*end, *again_until);
                self.keep_at_sink(id, insert, end, again_until);
            }
            Step::Sink(Sink::Pushing(push)) if now >= push.end => {
                push.again.clear();
                for link in push.awaited.drain(..) {
                    self.stats.timeouts += 1;
                    if let Some(neighbour) = self.neighbours.find_mut(link) {
                        neighbour.window.abandoned();
                    }
                }
                self.settle_sink(id, insert);
            }
            Step::Sink(Sink::Pushing(push)) => {
                let again = std::mem::take(&mut push.again);
                push.pause *= 2;
                push.awaited.extend_from_slice(&again);
                insert.until = push.end;
                self.send_copies(id, &insert.block, &again);
                self.inserts.put(id, insert);
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
            let replica = match self.stores && near {
                true => Replica::Busy,
                false => Replica::Declined,
            };
            self.send(from, Routed::Replicated { id, replica });
            return;
        }
        if let Some(own) = writes {
            *own += 1;
        }
        self.writes += 1;
        self.stats.replicas += 1;
        let passed_by = self
            .inserts
            .get(id)
            .is_some_and(|insert| is_same(&insert.block, &block));
        let ticket = self.ask_store(
            TicketUse::Replica(from, id),
            StoreQuestion::Keep(block, Shelf::Store),
        );
        if passed_by {
            self.note_pushed(id, Pushed::Keeping(ticket));
        }
    }

    /// The datastore has, or could not take, a copy that a sink pushed.
    pub(super) fn replica_kept(&mut self, id: RequestId, ticket: StoreTicket, stored: bool) {
        if self
            .inserts
            .get(id)
            .is_some_and(|insert| insert.pushed == Pushed::Keeping(ticket))
        {
            self.note_pushed(id, if stored { Pushed::Kept } else { Pushed::Missing });
        }
    }

    fn note_pushed(&mut self, id: RequestId, pushed: Pushed) {
        if let Some(mut insert) = self.inserts.take(id) {
            insert.pushed = pushed;
            self.inserts.put(id, insert);
        }
    }

    /// Keeps a block that was stored beyond this node if this node is plausibly among the nearest (protocol §7.4). An honest
    /// sink has pushed it to most such nodes; one that only says "stored" has not (decision 0009). Not called when it was pushed
    /// here in the course of the same insert and the datastore has it: the second copy would be read and compared for nothing.
    pub(super) fn keep_near(&mut self, block: &Block) {
        let key = block.key().location();
        let near = self.neighbours.stores_within(key, self.me.distance(key)) < REPLICA_RANK;
        if near && self.stores && self.writes < self.limits.writes {
            self.writes += 1;
            self.stats.near += 1;
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
