//! Repeats, drops or reorders packets of circuits that pass through.

use warren_proto::{
    geometry::PacketSize,
    ids::{CircuitAddr, LinkId},
    link::api::LinkCommand,
};

use super::{Adversary, Step, Tally};

/// What is done to the order of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disorder {
    /// A packet goes out twice.
    Repeat,
    /// A packet is left out.
    Omit,
    /// A packet changes places with the one behind it.
    Swap,
}

/// A relay that brings the packets of passing circuits out of order, once in each circuit and direction.
pub struct Shuffler {
    disorder: Disorder,
    /// Only packets of this size.
    size: PacketSize,
    done: Vec<CircuitAddr>,
    held: Vec<(CircuitAddr, Step)>,
    tally: Tally,
}

impl Shuffler {
    /// One that does this to packets of one size, and counts them.
    #[must_use]
    pub const fn new(disorder: Disorder, size: PacketSize, tally: Tally) -> Self {
        Self {
            disorder,
            size,
            done: Vec::new(),
            held: Vec::new(),
            tally,
        }
    }

    fn disturb(&mut self, circuit: CircuitAddr, step: Step, copy: Step) -> Vec<Step> {
        let swapped = |(held, _): &(CircuitAddr, Step)| *held == circuit;
        if let Some(at) = self.held.iter().position(swapped) {
            let (_, earlier) = self.held.remove(at);
            self.tally.add();
            return vec![step, earlier];
        }
        if self.done.contains(&circuit) {
            return vec![step];
        }
        self.done.push(circuit);
        if self.disorder == Disorder::Swap {
            self.held.push((circuit, step));
            return Vec::new();
        }
        self.tally.add();
        match self.disorder {
            Disorder::Repeat => vec![step, copy],
            _ => Vec::new(),
        }
    }
}

fn packet_of(step: &Step) -> Option<(CircuitAddr, PacketSize, Step)> {
    let Step::Command { from, to, command } = step else {
        return None;
    };
    let (circuit, size, copy) = match command {
        LinkCommand::Forward { circuit, size, body } => {
            let (circuit, size, body) = (*circuit, *size, body.clone());
            (circuit, size, LinkCommand::Forward { circuit, size, body })
        }
        LinkCommand::Backward { circuit, size, body } => {
            let (circuit, size, body) = (*circuit, *size, body.clone());
            (circuit, size, LinkCommand::Backward { circuit, size, body })
        }
        _ => return None,
    };
    let link: LinkId = *to;
    let copy = Step::Command {
        from: *from,
        to: link,
        command: copy,
    };
    Some((CircuitAddr { link, circuit }, size, copy))
}

impl Adversary for Shuffler {
    fn pass(&mut self, step: Step) -> Vec<Step> {
        match packet_of(&step) {
            Some((circuit, size, copy)) if size == self.size => self.disturb(circuit, step, copy),
            _ => vec![step],
        }
    }
}
