//! What neighbours ask of this node: which blocks it keeps, and to take some.
//!
//! Both are bounded for each neighbour. Beyond a bound, questions stay unanswered and blocks are sent back with "busy".

use std::collections::BTreeMap;

use warren_keys::BlockId;

use super::{
    allowance::{Allowance, Rate},
    limits::{
        ASKED_AT_ONCE, ASKED_PER_DAY, BROUGHT_AT_ONCE, BROUGHT_PER_DAY, MAX_ASKING, MAX_WRITING, PUSH_COST,
    },
    view::Standing,
};
use crate::{
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::Holding,
};

const ASKED: Rate = Rate {
    per_day: ASKED_PER_DAY,
    most: ASKED_AT_ONCE,
};
const BROUGHT: Rate = Rate {
    per_day: BROUGHT_PER_DAY,
    most: BROUGHT_AT_ONCE,
};

/// What the neighbours want.
#[derive(Debug, Default)]
pub(super) struct Guests {
    by_link: BTreeMap<LinkId, Guest>,
    questions: BTreeMap<StoreTicket, Question>,
    writes: BTreeMap<StoreTicket, (LinkId, RequestId)>,
}

#[derive(Debug)]
struct Guest {
    asked: Allowance,
    brought: Allowance,
}

/// A question that the datastore works on.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) link: LinkId,
    pub(super) id: RequestId,
    /// What this node is to each block asked about.
    standings: Vec<Standing>,
}

impl Question {
    /// The answer, from what the datastore says about the blocks that it was asked about.
    pub(super) fn holdings(&self, held: &[bool]) -> Option<Vec<Holding>> {
        let mut held = held.iter();
        let answers = self.standings.iter().map(|standing| {
            Some(match (standing, *standing != Standing::Far && *held.next()?) {
                (Standing::Far, _) | (Standing::Near, false) => Holding::Foreign,
                (Standing::Near | Standing::Holder, true) => Holding::Held,
                (Standing::Holder, false) => Holding::Lacking,
            })
        });
        answers.collect()
    }
}

impl Guests {
    pub(super) fn up(&mut self, now: Time, link: LinkId) {
        let guest = Guest {
            asked: Allowance::new(now, ASKED_AT_ONCE),
            brought: Allowance::new(now, BROUGHT_AT_ONCE),
        };
        // A neighbour that changes its services keeps what it has used up.
        self.by_link.entry(link).or_insert(guest);
    }

    /// What the datastore has in hand for the link is finished without an answer.
    pub(super) fn down(&mut self, link: LinkId) {
        self.by_link.remove(&link);
    }

    pub(super) fn known(&self, link: LinkId) -> bool {
        self.by_link.contains_key(&link)
    }

    /// Whether a question about so many blocks is answered.
    pub(super) fn may_ask(&mut self, now: Time, link: LinkId, count: usize) -> bool {
        let asking = self
            .questions
            .values()
            .filter(|question| question.link == link)
            .count();
        asking < MAX_ASKING
            && self
                .by_link
                .get_mut(&link)
                .is_some_and(|guest| guest.asked.take(now, ASKED, count as u64, 0))
    }

    /// Notes a question for the datastore, which was asked about all blocks that are not far.
    pub(super) fn asking(
        &mut self,
        ticket: StoreTicket,
        link: LinkId,
        id: RequestId,
        standings: Vec<Standing>,
    ) {
        self.questions.insert(ticket, Question { link, id, standings });
    }

    pub(super) fn asked(&mut self, ticket: StoreTicket) -> Option<Question> {
        self.questions.remove(&ticket)
    }

    /// Whether a block is taken.
    pub(super) fn may_bring(&mut self, now: Time, link: LinkId) -> bool {
        self.writes.len() < MAX_WRITING
            && self
                .by_link
                .get_mut(&link)
                .is_some_and(|guest| guest.brought.take(now, BROUGHT, PUSH_COST, 0))
    }

    pub(super) fn writing(&mut self, ticket: StoreTicket, link: LinkId, id: RequestId) {
        self.writes.insert(ticket, (link, id));
    }

    pub(super) fn written(&mut self, ticket: StoreTicket) -> Option<(LinkId, RequestId)> {
        self.writes.remove(&ticket)
    }

    /// Questions of neighbours at the datastore.
    pub(super) fn open(&self) -> usize {
        self.questions.len() + self.writes.len()
    }
}

/// Those blocks of a question that are to be looked up.
pub(super) fn selected(blocks: &[BlockId], standings: &[Standing]) -> Vec<BlockId> {
    let pairs = blocks.iter().zip(standings);
    pairs
        .filter(|(_, standing)| **standing != Standing::Far)
        .map(|(block, _)| *block)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_its_own_bounds() {
        let mut guests = Guests::default();
        let (a, b) = (LinkId(1), LinkId(2));
        assert!(!guests.may_ask(Time(0), a, 1) && !guests.may_bring(Time(0), a));
        guests.up(Time(0), a);
        guests.up(Time(0), b);
        let asked = (0..100).filter(|_| guests.may_ask(Time(0), a, 64)).count();
        assert_eq!(asked as u64, ASKED_AT_ONCE / 64);
        assert!(guests.may_ask(Time(0), b, 64));
        for n in 0..MAX_ASKING as u64 {
            guests.asking(StoreTicket(n), b, RequestId(n), vec![Standing::Holder]);
        }
        assert!(!guests.may_ask(Time(0), b, 1));
        assert!(guests.asked(StoreTicket(0)).is_some() && guests.may_ask(Time(0), b, 1));
        let brought = (0..100).filter(|_| guests.may_bring(Time(0), a)).count();
        assert_eq!(brought, 64);
        for n in 0..MAX_WRITING as u64 {
            guests.writing(StoreTicket(n), b, RequestId(n));
        }
        assert!(!guests.may_bring(Time(0), b));
        guests.down(b);
        assert!(!guests.known(b) && guests.written(StoreTicket(3)) == Some((b, RequestId(3))));
    }

    #[test]
    fn only_blocks_that_belong_here_are_looked_up() {
        let question = Question {
            link: LinkId(1),
            id: RequestId(1),
            standings: vec![
                Standing::Holder,
                Standing::Far,
                Standing::Holder,
                Standing::Near,
                Standing::Near,
            ],
        };
        let answer = question.holdings(&[true, false, true, false]).unwrap();
        let (held, foreign) = (Holding::Held, Holding::Foreign);
        assert_eq!(answer, [held, foreign, Holding::Lacking, held, foreign]);
        assert!(question.holdings(&[true]).is_none());
    }
}
