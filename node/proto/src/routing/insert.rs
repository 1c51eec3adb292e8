//! The way of a block to the node nearest to its key (protocol §7.4).
//!
//! Greedy and strict: a node passes the block only to neighbours that are nearer to its aim than itself, nearest first.
//! Where there is none, the block has reached its sink (see `sink`). The aim lies beside the key, on this side or that by the
//! insert's number, so that two inserts of a block end at different sinks, of which one may lie (decision 0010). An insert goes on when whoever sent it goes away,
//! because a client that leaves early must not leave half an insert behind.

use warren_keys::{Block, BlockKind, Location};

use super::{
    Asker, End, Offence, Router,
    limits::{AIM_FROM, AIM_REACH, MAX_TRIES, REPLICAS, USEFUL_WAIT},
    sink::Sink,
    table::Timed,
};
use crate::{
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::{Refusal, Routed},
};

/// An open insert.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) block: Block,
    pub(super) asker: Asker,
    /// Whether the asker still waits.
    pub(super) wanted: bool,
    /// The copy that the sink has pushed here.
    pub(super) pushed: Pushed,
    pub(super) htl: u8,
    pub(super) tried: Vec<LinkId>,
    /// A nearer neighbour was passed over or refused, for overload.
    pub(super) crowded: bool,
    pub(super) step: Step,
    /// When the insert must have ended, unless this node is its sink.
    pub(super) deadline: Time,
    /// When the step has taken too long.
    pub(super) until: Time,
}

/// What became of a copy that the sink of an insert pushes to a node that the insert came by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// It has not come, or could not be kept.
    Missing,
    /// It is on its way to the datastore.
    Keeping(StoreTicket),
    /// The datastore has it.
    Kept,
}

#[derive(Debug)]
pub(super) enum Step {
    Waiting {
        link: LinkId,
        since: Time,
    },
    Sink(Sink),
    /// Between two steps, inside one call.
    Deciding,
}

impl Timed for Insert {
    fn wake(&self) -> Time {
        self.until
    }
}

impl Insert {
    pub(super) fn location(&self) -> Location {
        self.block.key().location()
    }
}

impl Router {
    pub(super) fn begin_insert(&mut self, now: Time, id: RequestId, asker: Asker, block: Block, htl: u8) {
        self.deliver(now, &block);
        let deadline = now + self.insert_pace.allowance(htl);
        let insert = Insert {
            block,
            asker,
            wanted: true,
            pushed: Pushed::Missing,
            htl,
            tried: Vec::new(),
            crowded: false,
            step: Step::Deciding,
            deadline,
            until: deadline,
        };
        self.forward_insert(now, id, insert);
    }

    /// Passes the block to the next nearer neighbour; without one, this node is the sink.
    fn forward_insert(&mut self, now: Time, id: RequestId, mut insert: Insert) {
        let key = insert.location();
        let aim = self.aim(id, key);
        let distance = self.me.distance(aim);
        if insert.htl == 0 || insert.tried.len() >= MAX_TRIES || insert.deadline.since(now) < USEFUL_WAIT {
            self.become_sink(now, id, insert);
            return;
        }
        let choice = self.neighbours.choose(now, aim, Some(distance), |link| {
            insert.asker.is_link(link) || insert.tried.contains(&link)
        });
        insert.crowded |= choice.crowded;
        let Some(link) = choice.link else {
            // All nearer nodes are overloaded. If they alone are the ones that should hold it, the asker waits its turn;
            // if this node is among the nearest too, it serves as well as they.
            if insert.crowded && self.neighbours.stores_within(aim, distance) > REPLICAS {
                self.end_insert(id, insert, End::Busy);
            } else {
                self.become_sink(now, id, insert);
            }
            return;
        };
        let htl = insert.htl - 1;
        insert.tried.push(link);
        insert.step = Step::Waiting { link, since: now };
        insert.until = insert.deadline.min(now + self.insert_pace.allowance(htl));
        if let Some(neighbour) = self.neighbours.find_mut(link) {
            neighbour.window.opened();
        }
        self.stats.inserts_forwarded += 1;
        self.send(
            link,
            Routed::Insert {
                id,
                block: insert.block.clone(),
                htl,
            },
        );
        self.inserts.put(id, insert);
    }

    /// The point that an insert goes to: the number, random and the same along the whole path, says on which side of the key and
    /// how far from it, as a share of how far this node's own nearest neighbours are.
    fn aim(&self, id: RequestId, key: Location) -> Location {
        let reach = self.neighbours.reach(self.me, AIM_REACH, AIM_FROM).unwrap_or(0);
        let share = u128::from(reach) * u128::from(id.0 >> 1);
        let beside = u64::try_from(share >> 63).unwrap_or(0);
        Location::new(if id.0 & 1 == 0 {
            key.as_u64().wrapping_add(beside)
        } else {
            key.as_u64().wrapping_sub(beside)
        })
    }

    pub(super) fn stored(&mut self, now: Time, from: LinkId, id: RequestId, copies: u8) {
        if let Some(insert) = self.insert_answered(now, from, id) {
            if insert.pushed != Pushed::Kept {
                self.keep_near(&insert.block);
            }
            let most = u8::try_from(REPLICAS + 1).unwrap_or(u8::MAX);
            self.end_insert(id, insert, End::Stored(copies.clamp(1, most)));
        }
    }

    pub(super) fn collision(&mut self, now: Time, from: LinkId, id: RequestId, block: Block) {
        if let Some(insert) = self.insert_answered(now, from, id) {
            let collides = block.id() == insert.block.id()
                && block.id().kind == BlockKind::Signed
                && block != insert.block;
            if collides {
                self.end_insert(id, insert, End::Collision(block));
            } else {
                self.offence(from, Offence::WrongBlock);
                self.forward_insert(now, id, insert);
            }
        }
    }

    /// Takes out the insert that `from` has answered, if it is waited for or was given up and nobody has answered since.
    fn insert_answered(&mut self, now: Time, from: LinkId, id: RequestId) -> Option<Insert> {
        if self.searches.contains(id) {
            self.offence(from, Offence::WrongAnswer);
            return None;
        }
        let Some(mut insert) = self.inserts.take(id) else {
            if self.seen.find(now, &id).is_some() {
                self.insert_pace.late();
            }
            self.ignore();
            return None;
        };
        match insert.step {
            Step::Waiting { link, since } if link == from => {
                self.insert_pace.sample(now.since(since));
                if let Some(neighbour) = self.neighbours.find_mut(from) {
                    neighbour.window.answered();
                }
            }
            Step::Waiting { link, .. } if insert.tried.contains(&from) => {
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.window.abandoned();
                }
            }
            _ => {
                self.ignore();
                self.inserts.put(id, insert);
                return None;
            }
        }
        insert.step = Step::Deciding;
        Some(insert)
    }

    pub(super) fn insert_refused(&mut self, now: Time, from: LinkId, id: RequestId, why: Refusal) {
        let Some(mut insert) = self.inserts.take(id) else {
            return;
        };
        match insert.step {
            Step::Waiting { link, .. } if link == from => {}
            _ => {
                self.ignore();
                self.inserts.put(id, insert);
                return;
            }
        }
        insert.step = Step::Deciding;
        insert.crowded |= why == Refusal::Busy;
        if let Some(neighbour) = self.neighbours.find_mut(from) {
            match why {
                Refusal::Busy => neighbour.window.refused(now),
                Refusal::Loop | Refusal::Failed => neighbour.window.answered(),
            }
        }
        self.forward_insert(now, id, insert);
    }

    pub(super) fn insert_due(&mut self, now: Time, id: RequestId) {
        let Some(mut insert) = self.inserts.take(id) else {
            return;
        };
        match insert.step {
            Step::Sink(_) => self.sink_due(now, id, insert),
            Step::Waiting { link, .. } => {
                self.stats.timeouts += 1;
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.window.refused(now);
                }
                insert.step = Step::Deciding;
                self.forward_insert(now, id, insert);
            }
            Step::Deciding => self.forward_insert(now, id, insert),
        }
    }

    pub(super) fn insert_lost_link(&mut self, now: Time, id: RequestId, link: LinkId) {
        let Some(mut insert) = self.inserts.take(id) else {
            return;
        };
        insert.wanted &= !insert.asker.is_link(link);
        match &mut insert.step {
            Step::Waiting { link: asked, .. } if *asked == link => {
                insert.step = Step::Deciding;
                self.forward_insert(now, id, insert);
            }
            Step::Sink(sink) => {
                sink.lost_link(link);
                self.settle_sink(id, insert);
            }
            _ => self.inserts.put(id, insert),
        }
    }

    pub(super) fn orphan_insert(&mut self, id: RequestId) {
        if let Some(mut insert) = self.inserts.take(id) {
            // See `cancel_search`: not this node's own.
            insert.wanted &= matches!(insert.asker, Asker::Link(_));
            self.inserts.put(id, insert);
        }
    }

    pub(super) fn end_insert(&mut self, id: RequestId, insert: Insert, end: End) {
        if insert.wanted {
            self.reply(insert.asker, id, end);
        }
    }
}
