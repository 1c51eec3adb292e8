//! Fetching one block (protocol §8.5).
//!
//! One exit's NotFound is never the final word: with 10 % liars, believing it cuts the share of found blocks from .88 to
//! .50. Up to three different exits search, the later ones more widely. Invariant: the result is NotFound only when two
//! different exits said so (one, for expendable blocks); otherwise a failure is Unreachable.
//!
//! A fetch that *waits* lets each of its searches leave a wait (protocol §7.13): three exits, for the same reason. It renews
//! them before they expire and replaces those whose circuit went, until the block comes or its time is over.

use std::time::Duration;

use warren_keys::{Block, BlockId, NodeId};

use crate::{
    client::op::{FIRST_BRANCHES, FURTHER_BRANCHES, MAX_FAILURES, Next, Outcome},
    core::api::FetchFailure,
    routing::WAIT_TIME,
    time::Time,
    wire::{ExitOp, ExitResult},
};

/// Searches in vain before a block counts as missing.
pub(crate) const SEARCHES: usize = 3;
/// Different exits that must have searched for a NotFound.
pub(crate) const WITNESSES: usize = 2;
/// Total time of a fetch: three searches that all run to their time limit, nearly.
const TIME: Duration = Duration::from_secs(45);
/// Total time of an expendable fetch. Siblings are asked long before; it is what a file survives of silence on all circuits at once, and
/// more than the link to an entry that is gone takes to be found dead.
const TIME_EXPENDABLE: Duration = Duration::from_secs(60);
/// Failing exits before an expendable fetch is given up.
const FAILURES_EXPENDABLE: u8 = 3;
/// Exits through which a fetch waits: as many as search for a block before it counts as missing.
pub(crate) const WAITERS: usize = SEARCHES;
/// A wait is renewed at this age. The network forgets it after `WAIT_TIME`; in between a renewal may fail a few times.
pub(crate) const RENEW_AFTER: Duration = Duration::from_secs(120);
/// Attempts of a waiting fetch that may come to nothing…
const WAIT_TRIES: u8 = 8;
/// …in this time: somebody waits for minutes, and nothing is gained by asking faster.
const WAIT_ROUND: Duration = Duration::from_secs(15);

const _: () = assert!(RENEW_AFTER.as_secs() + 2 * WAIT_ROUND.as_secs() < WAIT_TIME.as_secs());

type Ended = Result<Block, FetchFailure>;

#[derive(Debug)]
pub(crate) struct FetchOp {
    block: BlockId,
    expendable: bool,
    /// Exits that searched in vain, in order; one appears twice only when there is no other.
    searched: Vec<NodeId>,
    failures: u8,
    /// Every exit that could be asked has been.
    alone: bool,
    /// This node is its own exit: its own word counts.
    local: bool,
    wait: Option<Wait>,
}

/// What a fetch that waits has in mind.
#[derive(Debug)]
struct Wait {
    until: Time,
    /// Attempts that may still come to nothing in this round.
    tries: u8,
    /// Exits that came to nothing in this round.
    round: Vec<NodeId>,
    round_ends: Time,
}

impl FetchOp {
    pub(crate) fn new(block: BlockId, expendable: bool, local: bool) -> Self {
        Self {
            block,
            expendable,
            searched: Vec::new(),
            failures: 0,
            alone: local,
            local,
            wait: None,
        }
    }

    /// The same, but a block that is not there is waited for until then.
    pub(crate) fn waiting(self, now: Time, until: Time) -> Self {
        let wait = Wait {
            until,
            tries: WAIT_TRIES,
            round: Vec::new(),
            round_ends: now + WAIT_ROUND,
        };
        Self {
            wait: (until > now && !self.expendable).then_some(wait),
            ..self
        }
    }

    /// Whether it waits.
    pub(crate) fn waits(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether one that waits, through `standing` exits at present, wants another.
    pub(crate) fn wants_waiter(&self, standing: usize) -> bool {
        let most = if self.alone { 1 } else { WAITERS };
        standing < most && self.wait.as_ref().is_some_and(|wait| wait.tries > 0)
    }

    /// An exit searched in vain, and the network remembers that this client waits.
    pub(crate) fn placed(&mut self, exit: NodeId) {
        self.searched_by(exit);
    }

    /// Time has passed. The end, if it has come: the time is over and the block was searched for.
    pub(crate) fn age(&mut self, now: Time) -> Option<FetchFailure> {
        let wait = self.wait.as_mut()?;
        if now >= wait.round_ends {
            wait.round.clear();
            (wait.tries, wait.round_ends) = (WAIT_TRIES, now + WAIT_ROUND);
            self.alone = self.local;
        }
        let over = now >= wait.until && self.conclusion() == FetchFailure::NotFound;
        over.then_some(FetchFailure::NotFound)
    }

    /// Whether it must be kept although nothing can be sent.
    pub(crate) fn patient(&self, now: Time) -> bool {
        self.wait.as_ref().is_some_and(|wait| now < wait.until)
    }

    pub(crate) fn expendable(&self) -> bool {
        self.expendable
    }

    pub(crate) fn request(&self) -> ExitOp {
        let branches = if self.searched.is_empty() {
            FIRST_BRANCHES
        } else {
            FURTHER_BRANCHES
        };
        ExitOp::Fetch {
            block: self.block,
            branches,
            wait: self.waits(),
        }
    }

    pub(crate) fn refuses(&self, exit: &NodeId) -> bool {
        let done = self.wait.as_ref().map_or(&self.searched, |wait| &wait.round);
        !self.alone && done.contains(exit)
    }

    pub(crate) fn time_allowed(&self, now: Time) -> Duration {
        match &self.wait {
            Some(wait) => wait.until.since(now).max(TIME),
            None if self.expendable => TIME_EXPENDABLE,
            None => TIME,
        }
    }

    pub(crate) fn outcome(&mut self, exit: NodeId, outcome: Outcome) -> Next<Ended> {
        let lie = match &outcome {
            Outcome::Answer(ExitResult::Found(block)) => block.id() != self.block,
            Outcome::Answer(ExitResult::Stored(_) | ExitResult::Collision(_) | ExitResult::Waiting) => true,
            _ => false,
        };
        if let (Some(wait), false) = (&mut self.wait, lie) {
            wait.tries = wait.tries.saturating_sub(1);
            return match outcome {
                Outcome::Answer(ExitResult::Found(block)) => Next::Done(Ok(block)),
                Outcome::Answer(ExitResult::NotFound) => {
                    wait.round.push(exit);
                    self.searched_by(exit);
                    Next::Continue
                }
                _ => Next::Continue,
            };
        }
        match outcome {
            Outcome::Answer(ExitResult::Found(block)) if block.id() == self.block => Next::Done(Ok(block)),
            Outcome::Answer(ExitResult::NotFound) => {
                self.searched.push(exit);
                if self.expendable {
                    return Next::Done(Err(FetchFailure::NotFound));
                }
                let enough = self.searched.len() >= SEARCHES || self.alone && self.witnesses() >= WITNESSES;
                if enough {
                    Next::Done(Err(self.conclusion()))
                } else {
                    Next::Continue
                }
            }
            Outcome::Answer(ExitResult::Failed) | Outcome::TimedOut => {
                self.failures += 1;
                let most = if self.expendable {
                    FAILURES_EXPENDABLE
                } else {
                    MAX_FAILURES
                };
                if self.failures >= most {
                    Next::Done(Err(self.conclusion()))
                } else {
                    Next::Continue
                }
            }
            Outcome::Answer(ExitResult::Busy) | Outcome::Lost => Next::Continue,
            Outcome::Answer(
                ExitResult::Found(_) | ExitResult::Stored(_) | ExitResult::Collision(_) | ExitResult::Waiting,
            ) => Next::Lie,
        }
    }

    pub(crate) fn no_other_exit(&mut self) -> Next<Ended> {
        self.alone = true;
        if self.witnesses() >= WITNESSES && self.wait.is_none() {
            Next::Done(Err(FetchFailure::NotFound))
        } else {
            Next::Continue
        }
    }

    /// What can be said of the block now.
    pub(crate) fn conclusion(&self) -> FetchFailure {
        let searched = self.witnesses() >= WITNESSES || self.local && !self.searched.is_empty();
        if searched {
            FetchFailure::NotFound
        } else {
            FetchFailure::Unreachable
        }
    }

    fn searched_by(&mut self, exit: NodeId) {
        if !self.searched.contains(&exit) && self.searched.len() < SEARCHES {
            self.searched.push(exit);
        }
    }

    fn witnesses(&self) -> usize {
        let first_time = |(index, exit): &(usize, &NodeId)| !self.searched[..*index].contains(*exit);
        self.searched.iter().enumerate().filter(first_time).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{block, node};

    fn not_found() -> Outcome {
        Outcome::Answer(ExitResult::NotFound)
    }

    fn branches(op: &FetchOp) -> u8 {
        match op.request() {
            ExitOp::Fetch { branches, .. } => branches,
            ExitOp::Insert(_) => 0,
        }
    }

    #[test]
    fn three_exits_search_the_later_ones_more_widely() {
        let mut op = FetchOp::new(block(1).id(), false, false);
        assert_eq!(branches(&op), 3);
        assert!(matches!(op.outcome(node(1), not_found()), Next::Continue));
        assert!(op.refuses(&node(1)) && !op.refuses(&node(2)));
        assert_eq!(branches(&op), 8);
        assert!(matches!(op.outcome(node(2), not_found()), Next::Continue));
        assert!(matches!(
            op.outcome(node(3), not_found()),
            Next::Done(Err(FetchFailure::NotFound))
        ));
    }

    #[test]
    fn a_lone_exit_is_asked_again_and_its_word_is_not_enough() {
        let mut op = FetchOp::new(block(1).id(), false, false);
        let _ = op.outcome(node(1), not_found());
        assert!(matches!(op.no_other_exit(), Next::Continue));
        assert!(!op.refuses(&node(1)));
        let _ = op.outcome(node(1), not_found());
        assert!(matches!(
            op.outcome(node(1), not_found()),
            Next::Done(Err(FetchFailure::Unreachable))
        ));

        let mut of_two = FetchOp::new(block(1).id(), false, false);
        let _ = of_two.outcome(node(1), not_found());
        let _ = of_two.outcome(node(2), not_found());
        assert!(matches!(
            of_two.no_other_exit(),
            Next::Done(Err(FetchFailure::NotFound))
        ));
    }

    #[test]
    fn expendable_blocks_are_given_up_at_the_first_word() {
        let mut op = FetchOp::new(block(1).id(), true, false);
        assert!(matches!(
            op.outcome(node(1), not_found()),
            Next::Done(Err(FetchFailure::NotFound))
        ));
    }

    #[test]
    fn another_block_is_a_lie() {
        let mut op = FetchOp::new(block(1).id(), false, false);
        let other = Outcome::Answer(ExitResult::Found(block(2)));
        assert!(matches!(op.outcome(node(1), other), Next::Lie));
        assert!(matches!(
            op.outcome(node(1), Outcome::Answer(ExitResult::Stored(5))),
            Next::Lie
        ));
        let right = Outcome::Answer(ExitResult::Found(block(1)));
        assert!(matches!(op.outcome(node(2), right), Next::Done(Ok(found)) if found == block(1)));
    }

    #[test]
    fn failures_are_bounded_and_never_become_not_found() {
        let mut op = FetchOp::new(block(1).id(), false, false);
        for _ in 0..100 {
            assert!(
                matches!(op.outcome(node(1), Outcome::Lost), Next::Continue),
                "uncharged"
            );
        }
        for _ in 1..MAX_FAILURES {
            assert!(matches!(op.outcome(node(1), Outcome::TimedOut), Next::Continue));
        }
        assert!(matches!(
            op.outcome(node(1), Outcome::TimedOut),
            Next::Done(Err(FetchFailure::Unreachable))
        ));
    }
}
