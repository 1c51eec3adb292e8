//! The router among neighbours that say anything, over a datastore that answers anything or nothing.
//!
//! Every request that comes in gets exactly one answer, unless its asker goes away; tables stay within their bounds and
//! are empty in the end, whatever the neighbours do.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{BlockId, Location};
use warren_proto::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    routing::{Limits, MAX_BRANCHES, MAX_HTL, Router, RouterOutput},
    time::Time,
    wire::{ExitResult, Routed},
};

use super::{START, messages, pause};
use crate::{Input, Seed};

/// Small, so that they are reached.
const LIMITS: Limits = Limits {
    searches: 12,
    inserts: 6,
    per_neighbour: 5,
    writes: 4,
};
/// After this time without a message nothing is open.
const PATIENCE: Duration = Duration::from_secs(600);
/// Links at a time.
const MOST_LINKS: usize = 8;

struct World {
    router: Router,
    now: Time,
    next_link: u64,
    links: BTreeSet<LinkId>,
    /// Messages of the router that a neighbour should answer.
    asked: Vec<(LinkId, Routed)>,
    tickets: BTreeMap<StoreTicket, StoreQuestion>,
    /// Answers that the router owes: to neighbours, and to the node itself.
    owed: BTreeMap<(LinkId, RequestId), u32>,
    /// Blocks that neighbours wait for.
    awaited: BTreeSet<(LinkId, BlockId)>,
    own: BTreeSet<RequestId>,
}

/// The first bytes are the router's location and whether it stores.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (here, stores) = (Location::new(input.u64()), input.flag());
    let mut world = World {
        router: Router::new(here, stores, LIMITS, ChaCha20Rng::seed_from_u64(1)),
        now: START,
        next_link: 1,
        links: BTreeSet::new(),
        asked: Vec::new(),
        tickets: BTreeMap::new(),
        owed: BTreeMap::new(),
        awaited: BTreeSet::new(),
        own: BTreeSet::new(),
    };
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.drain();
    }
    world.end();
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let links: Vec<LinkId> = self.links.iter().copied().collect();
        match op % 14 {
            0 | 1 if links.len() < MOST_LINKS => {
                let link = LinkId(self.next_link);
                self.next_link += 1;
                self.links.insert(link);
                self.router
                    .neighbour_up(link, Location::new(input.u64()), input.flag());
            }
            2 if input.u8() > 128 => {
                if let Some(link) = input.pick(&links) {
                    self.links.remove(&link);
                    self.owed.retain(|(asker, _), _| *asker != link);
                    self.awaited.retain(|(asker, _)| *asker != link);
                    self.asked.retain(|(to, _)| *to != link);
                    self.router.neighbour_down(self.now, link);
                }
            }
            3 | 4 => {
                if let Some(link) = input.pick(&links) {
                    let message = self.request(input);
                    self.owe(link, &message);
                    self.router.routed(self.now, link, message);
                }
            }
            5 | 6 => self.answer(input),
            7 => {
                if let Some(link) = input.pick(&links) {
                    let id = RequestId(u64::from(input.u8()));
                    let message = messages::routed(input, id);
                    self.owe(link, &message);
                    self.router.routed(self.now, link, message);
                }
            }
            8 | 9 => {
                let tickets: Vec<StoreTicket> = self.tickets.keys().copied().collect();
                if let Some(ticket) = input.pick(&tickets) {
                    let answer = self.store_answer(ticket, input);
                    self.router.store(self.now, ticket, answer);
                }
            }
            10 => {
                let request = if input.flag() {
                    self.router.insert(self.now, messages::block(input), input.flag())
                } else {
                    self.router.fetch(
                        self.now,
                        messages::block_id(input),
                        input.u8(),
                        input.flag(),
                        input.flag(),
                    )
                };
                if let Some(id) = request {
                    assert!(self.own.insert(id), "a number that is in use");
                }
            }
            11 => {
                let own: Vec<RequestId> = self.own.iter().copied().collect();
                if let Some(id) = input.pick(&own) {
                    // What was cancelled is not answered any more, but for what is in the queue already.
                    self.drain();
                    self.own.remove(&id);
                    self.router.cancel(id);
                }
            }
            12 => self.wait(pause(input)),
            _ => self.router.set_stores(input.flag()),
        }
    }

    /// A neighbour says something: what it may expect for it.
    fn owe(&mut self, link: LinkId, message: &Routed) {
        if let (true, Some(id)) = (is_question(message), message.id()) {
            *self.owed.entry((link, id)).or_default() += 1;
        }
        if let Routed::Request {
            block, wait: true, ..
        } = message
        {
            self.awaited.insert((link, *block));
        }
    }

    /// A question, new or one that is on its way through here already.
    fn request(&mut self, input: &mut Input<'_>) -> Routed {
        let known: Vec<RequestId> = self
            .asked
            .iter()
            .filter_map(|(_, message)| message.id())
            .collect();
        let fresh = RequestId(u64::from(input.u8()));
        let id = if input.u8() > 230 {
            input.pick(&known).unwrap_or(fresh)
        } else {
            fresh
        };
        match input.u8() % 4 {
            0 | 1 => Routed::Request {
                id,
                block: messages::block_id(input),
                htl: input.u8() % 24,
                stale: input.u8() % 6,
                branches: input.u8() % 10,
                best: input.u64(),
                wait: input.u8() > 180,
            },
            2 => Routed::Insert {
                id,
                block: messages::block(input),
                htl: input.u8() % 24,
            },
            _ => Routed::Replicate {
                id,
                block: messages::block(input),
            },
        }
    }

    /// A neighbour answers, fittingly or not.
    fn answer(&mut self, input: &mut Input<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let index = input.below(self.asked.len().min(256));
        let (link, question) = if input.u8() < 200 {
            self.asked.remove(index)
        } else {
            self.asked[index].clone()
        };
        let Some(id) = question.id() else { return };
        let choice = input.u8();
        let answer = match (&question, choice % 8) {
            (Routed::Request { wait: true, .. }, 7) => Routed::Arrived {
                block: messages::block(input),
            },
            (_, 0) => Routed::Refused {
                id,
                why: messages::refusal(input),
            },
            (_, 1) => messages::routed(input, id),
            (Routed::Request { .. }, 2..=4) => Routed::NotFound {
                id,
                branches: input.u8(),
            },
            (Routed::Request { block, .. }, _) => {
                let wanted = (0..=255).find_map(|byte| {
                    let found = messages::block(&mut Input::new(&[byte]));
                    (found.id() == *block).then_some(found)
                });
                Routed::Found {
                    id,
                    block: wanted.unwrap_or_else(|| messages::block(input)),
                    copy: input.flag(),
                }
            }
            (Routed::Insert { .. }, 2) => Routed::Collision {
                id,
                block: messages::block(input),
            },
            (Routed::Insert { .. }, _) => Routed::Stored {
                id,
                copies: input.u8(),
            },
            (_, _) => Routed::Replicated {
                id,
                replica: messages::replica(input),
            },
        };
        self.owe(link, &answer);
        self.router.routed(self.now, link, answer);
    }

    fn store_answer(&mut self, ticket: StoreTicket, input: &mut Input<'_>) -> StoreAnswer {
        let question = self.tickets.remove(&ticket);
        let shelf = if input.flag() { Shelf::Store } else { Shelf::Cache };
        match (question, input.u8() % 6) {
            (_, 0) => StoreAnswer::Failed,
            (_, 1) => StoreAnswer::Collision(messages::block(input)),
            (Some(StoreQuestion::Find(_)), 2 | 3) => StoreAnswer::Missing,
            (Some(StoreQuestion::Find(_)), _) => StoreAnswer::Found(messages::block(input), shelf),
            (_, _) => StoreAnswer::Kept,
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.router.poll_timeout().is_some_and(|due| due <= self.now) {
            self.router.handle_timeout(self.now);
            assert!(
                self.router.poll_timeout().is_none_or(|due| due > self.now),
                "something is due for ever"
            );
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.router.poll_output() {
            match output {
                RouterOutput::Send(link, message) => self.sent(link, message),
                RouterOutput::Store(ticket, question) => {
                    assert!(self.tickets.insert(ticket, question).is_none(), "a ticket twice");
                }
                RouterOutput::Answer(id, ExitResult::Waiting) => {
                    assert!(self.own.contains(&id), "an answer to nobody");
                }
                RouterOutput::Answer(id, _) => assert!(self.own.remove(&id), "an answer to nobody"),
                RouterOutput::Offence(link, _) => assert!(self.links.contains(&link)),
            }
        }
        let open = self.router.open();
        assert!(
            open.searches + open.joined <= LIMITS.searches && open.inserts <= LIMITS.inserts,
            "{open:?}"
        );
        assert!(open.store_questions <= self.tickets.len(), "{open:?}");
    }

    fn sent(&mut self, link: LinkId, message: Routed) {
        assert!(self.links.contains(&link), "to a link that is gone");
        if let Routed::Request { htl, branches, .. } = message {
            assert!(htl <= MAX_HTL && branches <= MAX_BRANCHES);
        }
        if let Routed::Insert { htl, .. } = message {
            assert!(htl <= MAX_HTL);
        }
        if is_question(&message) {
            return self.asked.push((link, message));
        }
        let Some(id) = message.id() else {
            if let Routed::Arrived { block } = message {
                assert!(
                    self.awaited.remove(&(link, block.id())),
                    "a push that nobody waits for"
                );
            }
            return;
        };
        let owed = self.owed.get_mut(&(link, id)).filter(|owed| **owed > 0);
        *owed.expect("an answer that is not owed") -= 1;
    }

    fn answer_all(&mut self) {
        while let Some((ticket, _)) = self.tickets.pop_first() {
            let answer = if ticket.0 % 2 == 0 {
                StoreAnswer::Missing
            } else {
                StoreAnswer::Failed
            };
            self.router.store(self.now, ticket, answer);
            self.drain();
        }
    }

    /// Nobody says anything any more, and the datastore answers at last.
    fn end(mut self) {
        self.drain();
        self.answer_all();
        let until = self.now + PATIENCE;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= until) {
            self.wait(due.since(self.now).max(Duration::from_micros(1)));
            self.drain();
            self.answer_all();
        }
        let open = self.router.open();
        assert_eq!(
            (open.searches, open.joined, open.inserts, open.store_questions),
            (0, 0, 0, 0)
        );
        assert!(self.own.is_empty(), "own requests without an answer");
        let waiting: Vec<_> = self.owed.iter().filter(|(_, owed)| **owed > 0).collect();
        assert!(waiting.is_empty(), "neighbours without an answer: {waiting:?}");
        for link in self.links {
            assert_eq!(
                self.router.window(link).map(|(open, _)| open),
                Some(0),
                "a window that stays narrow"
            );
        }
    }
}

fn is_question(message: &Routed) -> bool {
    matches!(
        message,
        Routed::Request { .. } | Routed::Insert { .. } | Routed::Replicate { .. }
    )
}

/// Searches and inserts with each end.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    // Three neighbours around the node, which stores.
    let among = |name: &str| {
        let start = Seed::new(name).u64(1 << 60).u8(1);
        (0..3_u64).fold(start, |seed, place| seed.u8(0).u64(place << 61).u8(1))
    };
    let search = |name: &str| {
        among(name)
            .u8(3)
            .u8(0)
            .u8(7)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(18)
            .u8(0)
            .u8(3)
            .u64(u64::MAX)
            .u8(0)
    };
    let insert = |name: &str| among(name).u8(3).u8(0).u8(7).u8(0).u8(2).u8(3).u8(18);
    vec![
        search("found-here").u8(8).u8(0).u8(1).u8(5).u8(2),
        search("found-beyond")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(7)
            .u8(1),
        search("not-found")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(3)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(0),
        search("refused")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(1),
        search("silence")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(12)
            .u8(50)
            .u8(2)
            .u8(12)
            .u8(250)
            .u8(2),
        search("joined")
            .u8(3)
            .u8(1)
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(18)
            .u8(0)
            .u8(3)
            .u64(u64::MAX)
            .u8(8)
            .u8(0)
            .u8(1)
            .u8(5)
            .u8(2),
        search("link-down")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(2)
            .u8(200)
            .u8(1)
            .u8(2)
            .u8(200)
            .u8(0),
        insert("insert")
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(3)
            .u8(6)
            .u8(0)
            .u8(0)
            .u8(3)
            .u8(1),
        insert("insert-passed-on").u8(6).u8(0).u8(0).u8(3).u8(5),
        insert("collision").u8(6).u8(0).u8(0).u8(2).u8(0x13),
        among("replicate")
            .u8(3)
            .u8(1)
            .u8(5)
            .u8(0)
            .u8(3)
            .u8(4)
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(5),
        among("own-fetch")
            .u8(10)
            .u8(0)
            .u8(2)
            .u8(3)
            .u8(0)
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(5)
            .u8(0)
            .u8(0)
            .u8(7)
            .u8(0),
        among("own-insert")
            .u8(10)
            .u8(1)
            .u8(2)
            .u8(0)
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(5)
            .u8(6)
            .u8(0)
            .u8(0)
            .u8(3)
            .u8(1),
        among("cancelled").u8(10).u8(0).u8(2).u8(3).u8(0).u8(11).u8(0),
        among("unasked")
            .u8(7)
            .u8(0)
            .u8(9)
            .u8(1)
            .u8(2)
            .u8(0)
            .u8(7)
            .u8(1)
            .u8(9)
            .u8(5)
            .u8(3),
    ]
}
