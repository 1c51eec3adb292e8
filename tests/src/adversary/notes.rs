//! Writes down, without contents, what a node does with circuits.

use std::{cell::RefCell, rc::Rc};

use warren_keys::NodeId;
use warren_proto::{
    ids::{CircuitAddr, LinkId, OriginId},
    link::api::{LinkCommand, LinkEvent},
};

use super::{Adversary, Step};

/// Something that a node did, or noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A circuit goes on.
    Extended {
        /// As which circuit it came.
        from: CircuitAddr,
        /// As which it goes on.
        next: CircuitAddr,
    },
    /// A packet goes on to this circuit, towards the exit.
    Forward(CircuitAddr),
    /// A packet goes back to this circuit, towards the client.
    Backward(CircuitAddr),
    /// This circuit, on another link than the one that noticed, has to end.
    Destroy(CircuitAddr),
    /// A client asks this node as the exit of this circuit.
    Asked(CircuitAddr),
    /// An own circuit brought an answer.
    Reply(OriginId),
    /// An own circuit ended, and whom this node suspects.
    Closed(OriginId, Option<NodeId>),
}

/// The notes of one node.
#[derive(Clone, Default)]
pub struct Notes(Rc<RefCell<Vec<Note>>>);

impl Notes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of notes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Notes from number `from` on.
    #[must_use]
    pub fn since(&self, from: usize) -> Vec<Note> {
        self.0.borrow()[from..].to_vec()
    }

    /// As what a circuit goes on.
    #[must_use]
    pub fn next_of(&self, circuit: CircuitAddr) -> Option<CircuitAddr> {
        self.0.borrow().iter().find_map(|note| match note {
            Note::Extended { from, next } if *from == circuit => Some(*next),
            _ => None,
        })
    }
}

/// An adversary whose node is written about.
pub struct Noted<A> {
    notes: Notes,
    inner: A,
}

impl<A> Noted<A> {
    /// Writes to `notes` what the node of `inner` does.
    pub const fn new(notes: Notes, inner: A) -> Self {
        Self { notes, inner }
    }
}

fn note(step: &Step) -> Option<Note> {
    let at = |link: &LinkId, circuit| CircuitAddr { link: *link, circuit };
    Some(match step {
        Step::Event(link, LinkEvent::ExitRequest { circuit, .. }) => Note::Asked(at(link, *circuit)),
        Step::Event(_, LinkEvent::OriginReply { origin, .. }) => Note::Reply(*origin),
        Step::Event(_, LinkEvent::OriginClosed { origin, blame }) => Note::Closed(*origin, *blame),
        Step::Event(..) => return None,
        Step::Command { to, command, .. } => match command {
            LinkCommand::Extended { circuit, next, .. } => Note::Extended {
                from: at(to, *circuit),
                next: *next,
            },
            LinkCommand::Forward { circuit, .. } => Note::Forward(at(to, *circuit)),
            LinkCommand::Backward { circuit, .. } => Note::Backward(at(to, *circuit)),
            LinkCommand::Destroy(circuit) => Note::Destroy(at(to, *circuit)),
            _ => return None,
        },
    })
}

impl<A: Adversary> Adversary for Noted<A> {
    fn pass(&mut self, step: Step) -> Vec<Step> {
        let steps = self.inner.pass(step);
        self.notes.0.borrow_mut().extend(steps.iter().filter_map(note));
        steps
    }

    fn sealing(&mut self, link: LinkId, record: &mut [u8]) {
        self.inner.sealing(link, record);
    }
}
