//! Inserting one block (protocol §8.6).
//!
//! Through one exit or two different ones, and, where asked, fetched again through a further exit before it counts: two
//! exits make .975 of the blocks fetchable under 20 % dead and 10 % hostile nodes, exits among them, and reading back, which
//! shows who only says "stored", .993. Inserting twice is harmless, so whatever is in doubt is done again.

use std::time::Duration;

use warren_keys::{Block, NodeId};

use crate::{
    client::op::{FIRST_BRANCHES, FURTHER_BRANCHES, MAX_FAILURES, Next, Outcome},
    core::api::InsertFailure,
    wire::{ExitOp, ExitResult},
};

/// Exits that must miss the block before it is inserted again.
const READERS: usize = 2;
/// Times that a block is inserted before its reading back counts as failed for good.
const ROUNDS: u8 = 3;
/// Total time: long enough for three rounds of insert and search over slow links.
const TIME: Duration = Duration::from_secs(120);

type Ended = Result<u8, InsertFailure>;

#[derive(Debug)]
pub(crate) struct InsertOp {
    block: Block,
    exits: usize,
    read_back: bool,
    /// Exits that said "stored" in this round.
    stored: Vec<NodeId>,
    /// Exits of earlier rounds, whose word was not worth much.
    doubtful: Vec<NodeId>,
    copies: u8,
    /// Exits that missed the block when it was read back; `Some` while reading.
    missed: Option<Vec<NodeId>>,
    round: u8,
    failures: u8,
    alone: bool,
}

impl InsertOp {
    pub(crate) fn new(block: Block, exits: u8, read_back: bool, local: bool) -> Self {
        Self {
            block,
            exits: usize::from(exits).max(1),
            read_back,
            stored: Vec::new(),
            doubtful: Vec::new(),
            copies: 0,
            missed: None,
            round: 0,
            failures: 0,
            alone: local,
        }
    }

    pub(crate) fn request(&self) -> ExitOp {
        match &self.missed {
            None => ExitOp::Insert(self.block.clone()),
            Some(missed) => {
                let branches = if missed.is_empty() {
                    FIRST_BRANCHES
                } else {
                    FURTHER_BRANCHES
                };
                ExitOp::Fetch {
                    block: self.block.id(),
                    branches,
                    wait: false,
                }
            }
        }
    }

    pub(crate) fn stage(&self) -> u8 {
        self.round * 2 + u8::from(self.missed.is_some())
    }

    pub(crate) fn desired(&self) -> usize {
        if self.missed.is_some() {
            1
        } else {
            self.wanted().saturating_sub(self.stored.len())
        }
    }

    fn wanted(&self) -> usize {
        if self.alone { 1 } else { self.exits }
    }

    pub(crate) fn refuses(&self, exit: &NodeId) -> bool {
        !self.alone
            && (self.stored.contains(exit)
                || self.doubtful.contains(exit)
                || self.missed.as_ref().is_some_and(|missed| missed.contains(exit)))
    }

    pub(crate) fn time_allowed(&self) -> Duration {
        TIME
    }

    pub(crate) fn outcome(&mut self, exit: NodeId, outcome: Outcome) -> Next<Ended> {
        match (outcome, &mut self.missed) {
            (Outcome::Lost | Outcome::Answer(ExitResult::Busy), _) => Next::Continue,
            (Outcome::TimedOut | Outcome::Answer(ExitResult::Failed), _) => self.failed(),
            (Outcome::Answer(ExitResult::Stored(0)), None) => self.failed(),
            (Outcome::Answer(ExitResult::Stored(copies)), None) => self.stored(exit, copies),
            (Outcome::Answer(ExitResult::Collision(other)), None) if other == self.block => {
                self.stored(exit, 1)
            }
            (Outcome::Answer(ExitResult::Collision(other)), None) => self.met(&other),
            (Outcome::Answer(ExitResult::Found(found)), Some(_)) if found == self.block => {
                Next::Done(Ok(self.copies))
            }
            (Outcome::Answer(ExitResult::Found(found)), Some(_)) => self.met(&found),
            (Outcome::Answer(ExitResult::NotFound), Some(missed)) => {
                missed.push(exit);
                if missed.len() >= READERS {
                    self.again()
                } else {
                    Next::Continue
                }
            }
            (Outcome::Answer(_), _) => Next::Lie,
        }
    }

    pub(crate) fn no_other_exit(&mut self) -> Next<Ended> {
        self.alone = true;
        if self.missed.is_none() {
            self.stored_enough()
        } else {
            Next::Continue
        }
    }

    fn stored(&mut self, exit: NodeId, copies: u8) -> Next<Ended> {
        self.stored.push(exit);
        self.copies = self.copies.max(copies);
        self.stored_enough()
    }

    fn stored_enough(&mut self) -> Next<Ended> {
        if self.stored.len() < self.wanted() {
            Next::Continue
        } else if self.read_back {
            self.missed = Some(Vec::new());
            Next::Continue
        } else {
            Next::Done(Ok(self.copies))
        }
    }

    /// Another block is said to lie under the key: only signed blocks have others.
    fn met(&self, other: &Block) -> Next<Ended> {
        if other.id() == self.block.id() {
            Next::Done(Err(InsertFailure::Collision(other.clone())))
        } else {
            Next::Lie
        }
    }

    fn again(&mut self) -> Next<Ended> {
        self.round += 1;
        if self.round >= ROUNDS {
            return Next::Done(Err(InsertFailure::Unreachable));
        }
        self.doubtful.append(&mut self.stored);
        self.missed = None;
        self.copies = 0;
        Next::Continue
    }

    fn failed(&mut self) -> Next<Ended> {
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            Next::Done(Err(InsertFailure::Unreachable))
        } else {
            Next::Continue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{block, node, signed_block};

    fn answer(result: ExitResult) -> Outcome {
        Outcome::Answer(result)
    }

    #[test]
    fn two_exits_then_a_third_reads_back() {
        let mut op = InsertOp::new(block(1), 2, true, false);
        assert_eq!(op.desired(), 2);
        assert!(matches!(
            op.outcome(node(1), answer(ExitResult::Stored(4))),
            Next::Continue
        ));
        assert_eq!(op.desired(), 1);
        assert!(op.refuses(&node(1)));
        assert!(matches!(
            op.outcome(node(2), answer(ExitResult::Stored(5))),
            Next::Continue
        ));
        assert!(matches!(op.request(), ExitOp::Fetch { .. }));
        assert!(op.refuses(&node(1)) && op.refuses(&node(2)) && !op.refuses(&node(3)));
        assert!(matches!(
            op.outcome(node(3), answer(ExitResult::Found(block(1)))),
            Next::Done(Ok(5))
        ));
    }

    #[test]
    fn a_block_that_cannot_be_read_back_is_inserted_again_a_few_times() {
        let mut op = InsertOp::new(block(1), 1, true, false);
        for round in 0..ROUNDS {
            assert_eq!(op.stage(), round * 2);
            assert!(matches!(op.request(), ExitOp::Insert(_)));
            let exit = node(u64::from(round));
            assert!(!op.refuses(&exit));
            assert!(matches!(
                op.outcome(exit, answer(ExitResult::Stored(5))),
                Next::Continue
            ));
            assert!(matches!(
                op.outcome(node(10), answer(ExitResult::NotFound)),
                Next::Continue
            ));
            let last = op.outcome(node(11), answer(ExitResult::NotFound));
            assert_eq!(
                matches!(last, Next::Done(Err(InsertFailure::Unreachable))),
                round + 1 == ROUNDS
            );
        }
    }

    #[test]
    fn a_collision_is_told_apart_from_the_same_block() {
        let (mine, theirs) = (signed_block("mine"), signed_block("theirs"));
        assert_eq!(mine.id(), theirs.id());
        let mut op = InsertOp::new(mine.clone(), 1, false, false);
        assert!(matches!(
            op.outcome(node(1), answer(ExitResult::Collision(mine.clone()))),
            Next::Done(Ok(1))
        ));
        let mut op = InsertOp::new(mine.clone(), 2, true, false);
        let ended = op.outcome(node(1), answer(ExitResult::Collision(theirs.clone())));
        assert!(matches!(ended, Next::Done(Err(InsertFailure::Collision(other))) if other == theirs));
        let mut op = InsertOp::new(mine, 1, true, false);
        let _ = op.outcome(node(1), answer(ExitResult::Stored(5)));
        let ended = op.outcome(node(2), answer(ExitResult::Found(theirs.clone())));
        assert!(matches!(ended, Next::Done(Err(InsertFailure::Collision(other))) if other == theirs));
        let mut op = InsertOp::new(block(1), 1, false, false);
        assert!(matches!(
            op.outcome(node(1), answer(ExitResult::Collision(theirs))),
            Next::Lie
        ));
    }

    #[test]
    fn one_exit_must_do_when_there_is_no_other() {
        let mut op = InsertOp::new(block(1), 2, true, false);
        let _ = op.outcome(node(1), answer(ExitResult::Stored(2)));
        assert!(matches!(op.no_other_exit(), Next::Continue));
        assert!(matches!(op.request(), ExitOp::Fetch { .. }));
        assert!(!op.refuses(&node(1)));
        assert!(matches!(
            op.outcome(node(1), answer(ExitResult::Found(block(1)))),
            Next::Done(Ok(2))
        ));
    }

    #[test]
    fn stored_on_no_node_is_a_failure() {
        let mut op = InsertOp::new(block(1), 1, false, false);
        for _ in 1..MAX_FAILURES {
            assert!(matches!(
                op.outcome(node(1), answer(ExitResult::Stored(0))),
                Next::Continue
            ));
        }
        let ended = op.outcome(node(1), answer(ExitResult::Failed));
        assert!(matches!(ended, Next::Done(Err(InsertFailure::Unreachable))));
    }
}
