//! Census and repair among neighbours that say anything, over a datastore that answers anything, late or never, for days.
//!
//! Nobody is named a key who does not keep blocks; each question and each block of a neighbour is answered once at most, and a block
//! exactly once when the datastore answers; one own question to the datastore is open at a time; and with everybody gone nothing stays open.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{BlockId, Location};
use warren_proto::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    repair::{FIRST_TICKET, Repair, RepairLimits, RepairMemory, RepairOutput},
    time::Time,
    wire::{Holding, MAX_CENSUS, Receipt, RepairMessage},
};

use super::{START, messages, wall};
use crate::{Input, Seed};

/// Links at a time.
const MOST_LINKS: usize = 12;
/// Longer than repair waits for anybody, the datastore included.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bounds of the tables (protocol §9).
const MOST_QUEUED: usize = 256;
const MOST_PUSHING: usize = 4;
const MOST_SERVED: usize = 16 + 4 * MOST_LINKS;

struct Neighbour {
    place: Location,
    stores: bool,
}

struct World {
    repair: Repair,
    now: Time,
    next_link: u64,
    links: BTreeMap<LinkId, Neighbour>,
    /// Questions that repair has asked neighbours, and blocks that it has brought them.
    asked: Vec<(LinkId, RepairMessage)>,
    tickets: BTreeMap<StoreTicket, StoreQuestion>,
    /// What neighbours have asked: the number of blocks.
    questions: BTreeMap<(LinkId, RequestId), usize>,
    /// What they have brought.
    brought: BTreeSet<(LinkId, RequestId)>,
}

/// The first bytes are this node's place and whether it stores.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (here, stores) = (Location::new(input.u64()), input.flag());
    let repair = Repair::new(
        START,
        wall(START),
        here,
        stores,
        RepairLimits::default(),
        ChaCha20Rng::seed_from_u64(5),
    );
    let mut world = World {
        repair,
        now: START,
        next_link: 1,
        links: BTreeMap::new(),
        asked: Vec::new(),
        tickets: BTreeMap::new(),
        questions: BTreeMap::new(),
        brought: BTreeSet::new(),
    };
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.drain();
    }
    world.end();
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let (now, wall) = (self.now, wall(self.now));
        match op % 12 {
            0 | 1 if self.links.len() < MOST_LINKS => {
                let link = LinkId(self.next_link);
                self.next_link += 1;
                let (place, stores) = (place(input), input.u8() > 20);
                self.links.insert(link, Neighbour { place, stores });
                self.repair.neighbour_up(now, wall, link, place, stores);
            }
            2 => {
                if let Some(link) = input.pick(&links) {
                    self.lose(link);
                }
            }
            3 => {
                let stores = input.flag();
                if let Some((link, neighbour)) = input
                    .pick(&links)
                    .and_then(|link| Some((link, self.links.get_mut(&link)?)))
                {
                    neighbour.stores = stores;
                    let place = neighbour.place;
                    self.repair.set_neighbour_stores(now, wall, link, place, stores);
                }
            }
            4 => self.repair.set_stores(input.u8() > 50),
            5 | 6 => {
                let message = self.message(input);
                if let Some(link) = input.pick(&links) {
                    match &message {
                        RepairMessage::Census { id, blocks } => {
                            self.questions.insert((link, *id), blocks.len());
                        }
                        RepairMessage::HandOver { id, .. } => drop(self.brought.insert((link, *id))),
                        RepairMessage::Holdings { .. } | RepairMessage::HandedOver { .. } => {}
                    }
                    self.repair.message(now, wall, link, message);
                }
            }
            7 => self.answer(input),
            8 | 9 => {
                let tickets: Vec<StoreTicket> = self.tickets.keys().copied().collect();
                if let Some(ticket) = input.pick(&tickets) {
                    self.store(ticket, input);
                }
            }
            10 => {
                // A restart: what is remembered reads as it was written.
                let memory = self.repair.memory(now, wall);
                let read = RepairMemory::from_bytes(&memory.to_bytes());
                assert!(read.is_ok_and(|read| read == memory), "another memory");
            }
            _ => {
                let length = u64::from(input.u8());
                let unit = [1, 60, 3600, 4 * 3600][input.below(4)];
                self.wait(Duration::from_secs(length * unit));
            }
        }
    }

    fn message(&mut self, input: &mut Input<'_>) -> RepairMessage {
        self.next_link += 1;
        // An own number for each question, and any for an answer.
        let id = RequestId(1 << 32 | self.next_link);
        match input.u8() % 4 {
            0 | 1 => RepairMessage::Census {
                id,
                blocks: (0..=input.below(MAX_CENSUS))
                    .map(|_| messages::block_id(input))
                    .collect(),
            },
            2 => RepairMessage::HandOver {
                id,
                block: messages::block(input),
            },
            _ => RepairMessage::HandedOver {
                id: RequestId(input.u8().into()),
                receipt: receipt(input),
            },
        }
    }

    /// A neighbour answers what it was asked, or with another number of answers, or another neighbour does.
    fn answer(&mut self, input: &mut Input<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let (mut link, message) = self.asked.swap_remove(input.below(self.asked.len()));
        let answer = match message {
            RepairMessage::Census { id, blocks } => {
                let count = if input.u8() > 240 {
                    input.below(MAX_CENSUS)
                } else {
                    blocks.len()
                };
                let holding = |input: &mut Input<'_>| {
                    [Holding::Lacking, Holding::Held, Holding::Foreign][input.below(3)]
                };
                let holdings = (0..count).map(|_| holding(input)).collect();
                RepairMessage::Holdings { id, holdings }
            }
            RepairMessage::HandOver { id, .. } => RepairMessage::HandedOver {
                id,
                receipt: receipt(input),
            },
            RepairMessage::Holdings { .. } | RepairMessage::HandedOver { .. } => return,
        };
        if input.u8() > 240 {
            let links: Vec<LinkId> = self.links.keys().copied().collect();
            link = input.pick(&links).unwrap_or(link);
        }
        if self.links.contains_key(&link) {
            self.repair.message(self.now, wall(self.now), link, answer);
        }
    }

    fn store(&mut self, ticket: StoreTicket, input: &mut Input<'_>) {
        let Some(question) = self.tickets.remove(&ticket) else {
            return;
        };
        let answer = match (question, input.u8() % 8) {
            (_, 0) => StoreAnswer::Failed,
            (_, 1) => StoreAnswer::Busy,
            (StoreQuestion::Find(_), 2) => StoreAnswer::Missing,
            (StoreQuestion::Find(id), _) => find(id).map_or(StoreAnswer::Missing, |block| {
                StoreAnswer::Found(block, if input.flag() { Shelf::Store } else { Shelf::Cache })
            }),
            (StoreQuestion::Keep(block, _), 2) => StoreAnswer::Collision(block),
            (StoreQuestion::Keep(..) | StoreQuestion::Demote(_), _) => StoreAnswer::Kept,
            (StoreQuestion::Holds(blocks), _) => {
                StoreAnswer::Holdings(blocks.iter().map(|_| input.flag()).collect())
            }
            (StoreQuestion::Survey { most, .. }, _) => StoreAnswer::Surveyed {
                blocks: (0..input.below(most.min(40) + 1))
                    .map(|_| messages::block_id(input))
                    .collect(),
                next: input.flag().then(|| input.u64()),
                held: input.u16().into(),
            },
        };
        self.repair.store(self.now, wall(self.now), ticket, answer);
    }

    fn lose(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.repair.neighbour_down(self.now, wall(self.now), link);
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(due) = self.repair.poll_timeout().filter(|due| *due <= until) {
            let later = due > self.now;
            self.now = self.now.max(due);
            self.repair.handle_timeout(self.now, wall(self.now));
            self.drain();
            calls = if later { 0 } else { calls + 1 };
            assert!(calls < 1000, "a timeout that never passes");
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(output) = self.repair.poll_output() {
            match output {
                RepairOutput::Send(link, message) => self.sent(link, message),
                RepairOutput::Store(ticket, question) => {
                    assert!(ticket >= FIRST_TICKET);
                    assert!(self.tickets.insert(ticket, question).is_none(), "a ticket twice");
                }
                RepairOutput::Arrived(_) => {}
                RepairOutput::Offence(link) => self.lose(link),
            }
        }
        let open = self.repair.open();
        assert!(open.queued <= MOST_QUEUED && open.pushing <= MOST_PUSHING);
        assert!(open.serving <= MOST_SERVED, "{open:?}");
    }

    fn sent(&mut self, link: LinkId, message: RepairMessage) {
        let neighbour = self.links.get(&link).expect("to a link that is gone");
        match &message {
            RepairMessage::Census { blocks, .. } => {
                assert!(neighbour.stores, "a key is named to who keeps nothing");
                assert!((1..=MAX_CENSUS).contains(&blocks.len()));
                self.asked.push((link, message));
            }
            RepairMessage::HandOver { .. } => {
                assert!(neighbour.stores, "a block is brought to who keeps nothing");
                self.asked.push((link, message));
            }
            RepairMessage::Holdings { id, holdings } => {
                let asked = self.questions.remove(&(link, *id));
                assert_eq!(asked, Some(holdings.len()), "an answer to something else");
            }
            RepairMessage::HandedOver { id, .. } => {
                assert!(self.brought.remove(&(link, *id)), "an answer to nothing");
            }
        }
    }

    /// The datastore answers all that is open, then everybody goes.
    fn end(mut self) {
        while let Some(ticket) = self.tickets.keys().next().copied() {
            self.store(ticket, &mut Input::new(&[]));
            self.drain();
            // Walks go on as long as they are answered.
            self.repair.set_stores(false);
        }
        let links = &self.links;
        self.brought.retain(|(link, _)| links.contains_key(link));
        assert!(
            self.brought.is_empty(),
            "blocks without an answer: {:?}",
            self.brought
        );
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.lose(link);
            self.drain();
        }
        self.wait(PATIENCE);
        let open = self.repair.open();
        assert_eq!((open.pushing, open.serving), (0, 0), "{open:?}");
    }
}

fn place(input: &mut Input<'_>) -> Location {
    // Few places, so that neighbours come back; and next to the blocks.
    match input.u8() {
        near @ 0..128 => messages::block_id(&mut Input::new(&[near])).key.location(),
        far => Location::new(u64::from(far) << 56),
    }
}

fn receipt(input: &mut Input<'_>) -> Receipt {
    [Receipt::Kept, Receipt::Refused, Receipt::Busy][input.below(3)]
}

fn find(id: BlockId) -> Option<warren_keys::Block> {
    (0..=u8::MAX)
        .map(|byte| messages::block(&mut Input::new(&[byte])))
        .find(|block| block.id() == id)
}

/// A day's census, hand-overs, questions of neighbours, services that change.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let node = |name: &str| Seed::new(name).u64(1 << 40).u8(1);
    let among = |name: &str, count: u8| {
        (0..count).fold(node(name), |seed, number| seed.u8(0).u8(number * 20).u8(255))
    };
    // A day, and the slice that is then due.
    let day = |seed: Seed| seed.bytes(&[11, 48, 2]);
    let survey = |seed: Seed| seed.bytes(&[8, 0, 7, 12, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 0, 0, 40]);
    vec![
        survey(day(among("census", 10)))
            .bytes(&[7, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0])
            .bytes(&[8, 0, 7, 1, 8, 0, 7, 1, 7, 0, 0, 7, 0, 0]),
        day(among("unanswered", 10)).bytes(&[11, 200, 1, 11, 200, 1]),
        among("asked", 8).bytes(&[5, 0, 4, 0, 2, 4, 6, 8, 1, 8, 0, 7, 1, 0, 1, 0, 1]),
        among("brought", 8).bytes(&[5, 2, 4, 1, 8, 0, 7, 5, 2, 6, 2, 8, 0, 2, 5, 2, 8, 3]),
        day(survey(day(among("newcomer", 6)))).bytes(&[0, 100, 255, 11, 30, 1, 8, 0, 7, 10, 0, 2, 4, 6]),
        among("services", 8).bytes(&[
            3, 0, 1, 3, 1, 1, 4, 0, 5, 0, 3, 0, 2, 4, 2, 4, 255, 11, 100, 2, 10,
        ]),
        survey(day(among("lost", 10))).bytes(&[2, 0, 2, 0, 2, 0, 11, 90, 2, 11, 90, 2, 0, 0, 255, 11, 20, 2]),
        node("alone").bytes(&[11, 100, 2, 8, 0, 7, 5, 0, 2, 4, 6, 8, 0, 0, 9]),
    ]
}
