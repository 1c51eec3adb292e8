//! One slice of a walk: some blocks, whom to ask about each, and what follows from the answers. Decisions only.
//!
//! A node looks after a block as one of its two *wardens* if fewer than [`WARDENS`] online holders are nearer to the key: it
//! asks all other online holders, and pushes to those that lack the block. Every other node asks up to three nearer ones, who
//! have the block in all ordinary cases and are its wardens. So only wardens push, no single liar can keep a block from being looked
//! after, and a nearer node that has come without its blocks is filled by those behind it.

use std::collections::BTreeMap;

use warren_keys::{BlockId, Location};

use super::{
    limits::{RELIEF, WARDENS},
    view::{Online, View},
};
use crate::{
    ids::{LinkId, RequestId},
    time::Time,
    wire::{Holding, MAX_CENSUS},
};

/// Blocks of a slice and what is known about them so far.
#[derive(Debug)]
pub(super) struct Slice {
    items: Vec<Item>,
    awaited: BTreeMap<RequestId, Question>,
    /// When the answers that have not come are given up.
    pub(super) until: Time,
}

#[derive(Debug)]
struct Item {
    block: BlockId,
    /// Whether the copy here may go when the holders have theirs.
    relieved: bool,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    who: Online,
    said: Option<Holding>,
}

#[derive(Debug)]
struct Question {
    link: LinkId,
    /// Which answer each block of the question belongs to: item, and place among its asked.
    slots: Vec<(usize, usize)>,
}

/// What follows from a slice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) pushes: Vec<Wish>,
    pub(super) demotions: Vec<BlockId>,
}

/// A block that somebody lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    pub(super) block: BlockId,
    pub(super) place: Location,
    pub(super) link: LinkId,
    /// Copies in sight, the one here included.
    pub(super) copies: usize,
}

impl Slice {
    /// Plans the questions for `blocks`; with `newcomers`, only for what those are nearest to.
    pub(super) fn new(
        view: &View,
        blocks: &[BlockId],
        newcomers: Option<Newcomers<'_>>,
        until: Time,
    ) -> Self {
        let items = blocks.iter().filter_map(|block| {
            let holders = view.holders(block.key.location());
            let asked = match newcomers {
                Some(newcomers) => for_newcomers(&holders.online, newcomers),
                None => to_ask(holders.me, &holders.online),
            };
            let asked: Vec<Asked> = asked.into_iter().map(|who| Asked { who, said: None }).collect();
            (!asked.is_empty()).then_some(Item {
                block: *block,
                relieved: holders.relieved && newcomers.is_none(),
                asked,
            })
        });
        Self {
            items: items.collect(),
            awaited: BTreeMap::new(),
            until,
        }
    }

    /// The questions to send, for each link as few as possible. `fresh` gives their numbers.
    pub(super) fn questions(
        &mut self,
        mut fresh: impl FnMut() -> RequestId,
    ) -> Vec<(LinkId, RequestId, Vec<BlockId>)> {
        let mut by_link: BTreeMap<LinkId, Vec<(usize, usize)>> = BTreeMap::new();
        for (at, item) in self.items.iter().enumerate() {
            for (place, asked) in item.asked.iter().enumerate() {
                by_link.entry(asked.who.link).or_default().push((at, place));
            }
        }
        let mut questions = Vec::new();
        for (link, slots) in by_link {
            for slots in slots.chunks(MAX_CENSUS) {
                let id = fresh();
                let blocks = slots.iter().filter_map(|(item, _)| self.items.get(*item));
                questions.push((link, id, blocks.map(|item| item.block).collect()));
                let slots = slots.to_vec();
                self.awaited.insert(id, Question { link, slots });
            }
        }
        questions
    }

    /// Takes an answer. False if it is none: nobody asked, or not for so many blocks.
    pub(super) fn answer(&mut self, from: LinkId, id: RequestId, holdings: &[Holding]) -> Answer {
        let Some(question) = self.awaited.get(&id).filter(|question| question.link == from) else {
            return Answer::Unasked;
        };
        if question.slots.len() != holdings.len() {
            return Answer::Wrong;
        }
        for ((item, place), said) in question.slots.iter().zip(holdings) {
            let asked = self
                .items
                .get_mut(*item)
                .and_then(|item| item.asked.get_mut(*place));
            if let Some(asked) = asked {
                asked.said = Some(*said);
            }
        }
        self.awaited.remove(&id);
        Answer::Taken
    }

    /// A link is gone: it will not answer.
    pub(super) fn lost_link(&mut self, link: LinkId) {
        self.awaited.retain(|_, question| question.link != link);
    }

    /// Whether nothing is awaited any more.
    pub(super) fn complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// What the answers mean.
    pub(super) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for item in &self.items {
            let said = |holding| item.asked.iter().filter(move |asked| asked.said == Some(holding));
            let held = said(Holding::Held).count();
            let wardens = said(Holding::Held).filter(|asked| asked.who.nearer).count();
            let lacking = said(Holding::Lacking).count();
            if wardens < WARDENS {
                verdict.pushes.extend(said(Holding::Lacking).map(|asked| Wish {
                    block: item.block,
                    place: asked.who.place,
                    link: asked.who.link,
                    copies: held + 1,
                }));
            }
            if item.relieved && lacking == 0 && held >= RELIEF {
                verdict.demotions.push(item.block);
            }
        }
        verdict
    }
}

/// Whom a hand-over serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomers<'a> {
    pub(super) places: &'a [Location],
    /// Only with blocks to which fewer than so many are nearer.
    pub(super) rank: usize,
}

/// What became of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Taken,
    /// Nothing of that number is awaited from there.
    Unasked,
    /// Not for as many blocks as were asked about.
    Wrong,
}

/// Whom a census asks about a block.
fn to_ask(holder: bool, online: &[Online]) -> Vec<Online> {
    let nearer = online.iter().filter(|who| who.nearer).count();
    if holder && nearer >= WARDENS {
        // One more than is needed, in case one of them lies.
        online
            .iter()
            .filter(|who| who.nearer)
            .take(WARDENS + 1)
            .copied()
            .collect()
    } else {
        online.to_vec()
    }
}

/// Which newcomers a hand-over asks about a block: the nearest, to whom requests come first. None if there are wardens enough who are nearer than this node.
fn for_newcomers(online: &[Online], newcomers: Newcomers<'_>) -> Vec<Online> {
    let (new, old): (Vec<Online>, Vec<Online>) = online
        .iter()
        .partition(|who| newcomers.places.contains(&who.place));
    if old.iter().filter(|who| who.nearer).count() < WARDENS {
        new.into_iter().filter(|who| who.rank < newcomers.rank).collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn online(nearer: &[bool]) -> Vec<Online> {
        (0..)
            .zip(nearer)
            .map(|(n, nearer)| Online {
                place: Location::new(n),
                link: LinkId(n),
                nearer: *nearer,
                rank: usize::try_from(n).unwrap(),
            })
            .collect()
    }

    fn block(n: u8) -> BlockId {
        BlockId::content(warren_keys::RoutingKey::from_bytes([n; 32]))
    }

    /// A slice of one block, with the answers of those asked.
    fn verdict(relieved: bool, asked: &[(bool, Option<Holding>)]) -> (Vec<u64>, usize) {
        let nearer: Vec<bool> = asked.iter().map(|(nearer, _)| *nearer).collect();
        let asked = online(&nearer).into_iter().zip(asked);
        let item = Item {
            block: block(1),
            relieved,
            asked: asked.map(|(who, (_, said))| Asked { who, said: *said }).collect(),
        };
        let slice = Slice {
            items: vec![item],
            awaited: BTreeMap::new(),
            until: Time(0),
        };
        let verdict = slice.verdict();
        (
            verdict.pushes.iter().map(|wish| wish.link.0).collect(),
            verdict.demotions.len(),
        )
    }

    const HELD: Option<Holding> = Some(Holding::Held);
    const LACKING: Option<Holding> = Some(Holding::Lacking);
    const FOREIGN: Option<Holding> = Some(Holding::Foreign);

    #[test]
    fn wardens_ask_all_and_others_the_nearest() {
        assert_eq!(to_ask(true, &online(&[false, false, false])).len(), 3);
        assert_eq!(to_ask(true, &online(&[true, false, false])).len(), 3);
        assert_eq!(to_ask(true, &online(&[true, true, false, false])).len(), 2);
        assert_eq!(to_ask(true, &online(&[true, true, true, true])).len(), 3);
        // Who is not among the holders must know of all before it gives up its copy.
        assert_eq!(to_ask(false, &online(&[true, true, true, true])).len(), 4);
    }

    #[test]
    fn what_is_lacking_is_pushed_unless_two_nearer_ones_see_to_it() {
        assert_eq!(verdict(false, &[(false, LACKING), (false, HELD)]).0, [0]);
        assert_eq!(verdict(false, &[(true, HELD), (false, LACKING)]).0, [1]);
        assert_eq!(verdict(false, &[(true, LACKING), (true, HELD)]).0, [0]);
        assert_eq!(verdict(false, &[(true, LACKING), (true, LACKING)]).0, [0, 1]);
        assert_eq!(
            verdict(false, &[(true, HELD), (true, HELD), (true, LACKING)]).0,
            [0; 0]
        );
        assert_eq!(
            verdict(false, &[(true, FOREIGN), (true, None), (false, LACKING)]).0,
            [2]
        );
    }

    #[test]
    fn a_copy_goes_only_when_two_have_theirs_and_nobody_lacks_one() {
        assert_eq!(verdict(true, &[(true, HELD), (true, HELD)]).1, 1);
        assert_eq!(verdict(false, &[(true, HELD), (true, HELD)]).1, 0);
        assert_eq!(verdict(true, &[(true, HELD), (true, FOREIGN)]).1, 0);
        assert_eq!(verdict(true, &[(true, HELD), (true, HELD), (true, LACKING)]).1, 0);
        assert_eq!(verdict(true, &[(true, HELD), (true, HELD), (true, None)]).1, 1);
    }

    #[test]
    fn newcomers_are_filled_by_the_two_nearest_others() {
        let all = online(&[true, true, false]);
        let new = |n: u64| vec![Location::new(n)];
        let asked = |places: &[Location]| -> Vec<u64> {
            let newcomers = Newcomers { places, rank: 2 };
            for_newcomers(&all, newcomers)
                .iter()
                .map(|who| who.link.0)
                .collect()
        };
        assert_eq!(asked(&new(0)), [0]);
        assert_eq!(asked(&new(2)), [0; 0]);
        assert_eq!(asked(&[Location::new(0), Location::new(1)]), [0, 1]);
        assert_eq!(asked(&[Location::new(0), Location::new(2)]), [0]);
    }

    #[test]
    fn answers_are_taken_once_from_whom_was_asked_and_in_full() {
        let asked = online(&[true, false]);
        let items = (0..100).map(|n| Item {
            block: block(n),
            relieved: false,
            asked: asked
                .iter()
                .map(|who| Asked {
                    who: *who,
                    said: None,
                })
                .collect(),
        });
        let mut slice = Slice {
            items: items.collect(),
            awaited: BTreeMap::new(),
            until: Time(0),
        };
        let mut number = 0;
        let questions = slice.questions(|| {
            number += 1;
            RequestId(number)
        });
        // 100 blocks for each of two links, 64 at a time.
        assert_eq!(
            questions
                .iter()
                .map(|(_, _, blocks)| blocks.len())
                .collect::<Vec<_>>(),
            [64, 36, 64, 36]
        );
        assert_eq!(
            slice.answer(LinkId(1), RequestId(1), &[Holding::Held; 64]),
            Answer::Unasked
        );
        assert_eq!(
            slice.answer(LinkId(0), RequestId(1), &[Holding::Held; 63]),
            Answer::Wrong
        );
        assert_eq!(
            slice.answer(LinkId(0), RequestId(1), &[Holding::Lacking; 64]),
            Answer::Taken
        );
        assert_eq!(
            slice.answer(LinkId(0), RequestId(1), &[Holding::Held; 64]),
            Answer::Unasked
        );
        slice.lost_link(LinkId(1));
        assert!(!slice.complete());
        assert_eq!(
            slice.answer(LinkId(0), RequestId(2), &[Holding::Held; 36]),
            Answer::Taken
        );
        assert!(slice.complete());
        assert_eq!(slice.verdict().pushes.len(), 64);
    }
}
