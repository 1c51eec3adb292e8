//! Blocks in a network of which a part dies and a part lies.
//!
//! Order of events: hostile nodes are there from the start (with [`Swallow::Never`]: from the end of the inserts on); blocks
//! are inserted; nodes die, noticed, and nothing takes the place of their links or of their copies; blocks are fetched.
//!
//! Exits are honest in the figures without "any exit", as in the targets: what is measured is key routing. With "any exit"
//! each exit is hostile with the network's own share and then simply fails (an insert through it is lost unnoticed).

use warren_keys::BlockId;
use warren_proto::routing::{FETCH_BRANCHES, MAX_BRANCHES};

use super::{Conduct, RouterNet, lookup::describe_links};
use crate::sim::{
    draw::share_of,
    report::Findings,
    scenario::{Fault, Hostile, NetworkSpec, Swallow},
    stats::Sample,
};

/// Exits that search for one block before it counts as not found.
pub(super) const EXITS: usize = 3;
/// Rounds of inserting and reading back.
const READ_BACK_ROUNDS: usize = 3;

/// A network with its faults.
pub(super) struct Faulty {
    pub(super) net: RouterNet,
    fault: Fault,
    hostile: Vec<usize>,
}

/// Through whom a client goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exits {
    /// Honest nodes.
    Honest,
    /// Whoever offers it.
    Any,
}

/// Found by the first exit, or by one of the first three.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tries {
    pub(super) first: bool,
    pub(super) third: bool,
    /// Messages of all tries.
    pub(super) messages: u32,
}

impl Faulty {
    pub(super) fn new(fault: &Fault, network: &NetworkSpec, nodes: usize, seed: u64) -> Self {
        let (mut net, _) = RouterNet::linked_ring(nodes, network, seed);
        let mut hostile = net.draw().distinct(share_of(fault.byzantine, nodes), nodes);
        net.draw().shuffle(&mut hostile);
        let mut faulty = Self {
            net,
            fault: fault.clone(),
            hostile,
        };
        if fault.swallow != Swallow::Never {
            faulty.corrupt();
        }
        faulty
    }

    fn corrupt(&mut self) {
        for (number, node) in self.hostile.iter().enumerate() {
            self.net
                .corrupt(*node, Conduct::hostile(number), self.fault.swallow);
        }
    }

    /// Ends the inserts: now those die who shall.
    pub(super) fn strike(&mut self) {
        self.net.settle();
        if self.fault.swallow == Swallow::Never {
            self.corrupt();
        }
        let nodes = self.net.len();
        let hostile: std::collections::BTreeSet<usize> = self.hostile.iter().copied().collect();
        // The shares are both of the whole network: who dies is not hostile.
        let mut others: Vec<usize> = (0..nodes).filter(|node| !hostile.contains(node)).collect();
        self.net.draw().shuffle(&mut others);
        others.truncate(share_of(self.fault.dead, nodes));
        for node in others {
            self.net.kill(node);
        }
        self.net.settle();
    }

    fn exit(&mut self, exits: Exits) -> usize {
        self.net.someone(exits == Exits::Honest)
    }

    /// Inserts through so many exits, each replaced when it says that it could not.
    pub(super) fn insert(&mut self, block: BlockId, times: usize, exits: Exits) {
        for _ in 0..times {
            for _ in 0..EXITS {
                let exit = self.exit(exits);
                if !self.net.is_honest(exit) || self.net.insert_now(exit, block) {
                    break;
                }
            }
        }
    }

    /// Inserts through two exits and reads back through a third, until it is there (`protocol §8.6`).
    pub(super) fn insert_checked(&mut self, block: BlockId, exits: Exits) {
        for _ in 0..READ_BACK_ROUNDS {
            self.insert(block, 2, exits);
            if (0..2).any(|_| self.fetch(block, FETCH_BRANCHES, exits).0) {
                return;
            }
        }
    }

    /// One exit's search: whether it found, and its messages.
    fn fetch(&mut self, block: BlockId, branches: u8, exits: Exits) -> (bool, u32) {
        let exit = self.exit(exits);
        if !self.net.is_honest(exit) {
            return (false, 0);
        }
        let asked = self.net.fetch_now(exit, block, branches);
        asked.map_or((false, 0), |asked| (asked.found(), asked.messages))
    }

    /// Fetches as a client does: through one exit with few branches, then through others with many.
    pub(super) fn fetch_tries(&mut self, block: BlockId, exits: Exits) -> Tries {
        let (first, mut messages) = self.fetch(block, FETCH_BRANCHES, exits);
        let mut third = first;
        for _ in 1..EXITS {
            if !third {
                let (found, more) = self.fetch(block, MAX_BRANCHES, exits);
                third = found;
                messages += more;
            }
        }
        Tries {
            first,
            third,
            messages,
        }
    }
}

/// Inserts and fetches under faults.
#[must_use]
pub fn hostile(spec: &Hostile, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut faulty = Faulty::new(&spec.fault, network, nodes, seed);
    let mut findings = Findings::default();
    describe_links(&faulty.net, &mut findings);
    let sets = [
        ("", Exits::Honest, false),
        (", read back", Exits::Honest, true),
        (", any exit", Exits::Any, false),
        (", read back, any exit", Exits::Any, true),
    ];
    let mut blocks: Vec<Vec<BlockId>> = Vec::new();
    for (_, exits, checked) in sets {
        let of_set: Vec<BlockId> = (0..spec.blocks).map(|_| faulty.net.draw().block_id()).collect();
        for block in &of_set {
            if checked {
                faulty.insert_checked(*block, exits);
            } else {
                faulty.insert(*block, spec.inserts, exits);
            }
        }
        blocks.push(of_set);
    }
    faulty.strike();
    let holders = faulty.net.holders();
    for ((name, exits, _), blocks) in sets.into_iter().zip(&blocks) {
        let (mut held, mut first, mut third) = (0, 0, 0);
        let mut messages = Sample::default();
        for block in blocks {
            held += usize::from(holders.contains_key(block));
            let tries = faulty.fetch_tries(*block, exits);
            first += usize::from(tries.first);
            third += usize::from(tries.third);
            messages.add(f64::from(tries.messages));
        }
        let share = |count: usize| count as f64 / spec.blocks as f64;
        findings.figure(format!("held by an honest node{name}"), share(held));
        findings.figure(format!("found by one exit{name}"), share(first));
        findings.figure(format!("found by up to three exits{name}"), share(third));
        findings.figure(format!("messages for a fetch, mean{name}"), messages.mean());
    }
    findings.figure("answers noticed as offences", faulty.net.offences() as f64);
    findings.note(match spec.fault.swallow {
        Swallow::Never => "hostile nodes turn hostile after the inserts; the copies that they hold are lost then",
        Swallow::Sink => {
            "hostile nodes say \"stored\" and keep nothing where an insert ends with them or they are pushed a copy; else they pass inserts on, except those that never answer"
        }
        Swallow::Path => "an insert that meets a hostile node ends there as \"stored on five nodes\"",
    });
    findings.trace = faulty.net.trace();
    findings
}
