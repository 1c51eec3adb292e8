//! How a node stands in the network, in words for its owner: what is the matter, and what to do about it.
//!
//! Deliberately absent: numbers that need knowledge to read; the status has them too.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use warren_proto::core::CoreStatus;

use crate::node::Allowance;

/// A node with so many links does its part, although the ring would like more: the floor at which paths are measured to stay short.
const ENOUGH_LINKS: usize = 20;

/// How long the first dials may take before a node without links is called alone. Seeds are dialled at once; the slowest dial takes
/// ten seconds, and a second try follows.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a node is on its way into the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has the links that it needs.
    Member,
    /// It has some, or has only just begun.
    Joining,
    /// It has none.
    Alone,
    /// It may have none: the month's volume is used up.
    Paused,
    /// A state that this version of the program does not know.
    #[serde(other)]
    Other,
}

/// How a node stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// In a word.
    pub state: State,
    /// In a sentence or two.
    pub text: String,
}

impl Standing {
    /// How a node stands that has been running for `uptime`.
    #[must_use]
    pub fn of(core: &CoreStatus, allowance: Allowance, uptime: Duration) -> Self {
        let facts = Facts {
            links: core.links.len(),
            missing: core.missing_links,
            known: core.known_nodes,
            seeds: core.seeds,
            allowance,
            uptime,
        };
        facts.standing()
    }
}

struct Facts {
    links: usize,
    missing: usize,
    known: usize,
    seeds: usize,
    allowance: Allowance,
    uptime: Duration,
}

impl Facts {
    fn standing(&self) -> Standing {
        let links = count(self.links, "node");
        let (state, mut text) = match self.links {
            _ if self.allowance == Allowance::Nothing => (
                State::Paused,
                "paused: the month's volume is used up, so there are no links. It goes on when the month ends (UTC), or at once with a \
                 higher limit: warren set monthly 500GiB"
                    .to_owned(),
            ),
            0 => self.without_links(),
            linked if self.missing == 0 || linked >= ENOUGH_LINKS => {
                (State::Member, format!("full member: linked to {links}"))
            }
            _ => (
                State::Joining,
                format!("joining: linked to {links}, and looking for {} more", self.missing),
            ),
        };
        if self.allowance == Allowance::Own {
            text.push_str(
                ". The month's volume is used up but for the part that is kept for you: nothing is done for others until the month ends (UTC), \
                 or the limit is raised: warren set monthly 500GiB",
            );
        }
        Standing { state, text }
    }

    fn without_links(&self) -> (State, String) {
        if self.known == 0 && self.seeds == 0 {
            let text = "alone: it knows no other node. Give it the reference of one that runs (its owner sees it with `warren status`): \
                        warren peers --add warren-node:…";
            return (State::Alone, text.to_owned());
        }
        let known = count(self.known.max(self.seeds), "node");
        if self.uptime < PATIENCE {
            (
                State::Joining,
                format!("joining: it knows {known}, and none has answered yet"),
            )
        } else {
            let text = format!(
                "alone: of {known} that it knows none answers. Is this machine connected, and does its firewall let warren connect to others? \
                 If so, give it another reference: warren peers --add warren-node:…"
            );
            (State::Alone, text)
        }
    }
}

fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(links: usize, missing: usize, known: usize, seeds: usize, seconds: u64) -> (State, String) {
        let facts = Facts {
            links,
            missing,
            known,
            seeds,
            allowance: Allowance::Full,
            uptime: Duration::from_secs(seconds),
        };
        let Standing { state, text } = facts.standing();
        (state, text)
    }

    #[test]
    fn each_stage_has_its_words() {
        for (facts, state, words) in [
            ((0, 0, 0, 0, 0), State::Alone, "knows no other node"),
            ((0, 0, 0, 1, 1), State::Joining, "knows 1 node, and none"),
            (
                (0, 0, 0, 1, 60),
                State::Alone,
                "of 1 node that it knows none answers",
            ),
            ((0, 3, 900, 1, 60), State::Alone, "of 900 nodes"),
            (
                (1, 4, 9, 1, 5),
                State::Joining,
                "linked to 1 node, and looking for 4 more",
            ),
            ((7, 0, 7, 1, 5), State::Member, "full member: linked to 7 nodes"),
            ((25, 3, 900, 1, 5), State::Member, "linked to 25 nodes"),
        ] {
            let (links, missing, known, seeds, seconds) = facts;
            let (found, text) = standing(links, missing, known, seeds, seconds);
            assert_eq!(found, state, "{text}");
            assert!(text.contains(words), "{text}");
        }
        // Whoever is alone is told what to do.
        for seconds in [0, 60] {
            assert!(standing(0, 0, 0, 0, seconds).1.contains("warren peers --add"));
            assert!(standing(0, 0, 0, 1, 60).1.contains("warren peers --add"));
        }
    }

    #[test]
    fn a_month_that_is_used_up_is_said() {
        let facts = |allowance, links| Facts {
            links,
            missing: 0,
            known: 9,
            seeds: 1,
            allowance,
            uptime: Duration::from_secs(60),
        };
        let paused = facts(Allowance::Nothing, 0).standing();
        assert_eq!(paused.state, State::Paused);
        assert!(paused.text.contains("warren set monthly"), "{}", paused.text);
        let reserve = facts(Allowance::Own, 9).standing();
        assert_eq!(reserve.state, State::Member);
        assert!(
            reserve.text.contains("nothing is done for others"),
            "{}",
            reserve.text
        );
    }
}
