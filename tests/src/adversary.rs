//! Nodes that break the protocol.
//!
//! An [`Adversary`] sits inside a node of a [`crate::net::Net`] whose machines are otherwise the real ones. It sees all that passes between
//! them, and all that is about to be sealed for a neighbour, and changes what it likes. So it has the node's keys and
//! place in every circuit and route, and still speaks well enough to be believed until it lies.

mod flip;
mod forge;
mod notes;
mod replay;
mod silence;

pub use self::{
    flip::{Flip, Flipper, HEADER},
    forge::{Forger, Forgery},
    notes::{Note, Noted, Notes},
    replay::{Disorder, Shuffler},
    silence::{Dropper, Liar},
};

use std::{cell::Cell, rc::Rc};

use warren_proto::{
    ids::LinkId,
    link::api::{LinkCommand, LinkEvent},
};

/// What passes from one machine of a node to another.
#[derive(Debug)]
pub enum Step {
    /// From a link to the core.
    Event(LinkId, LinkEvent),
    /// From the core, or from another link, to a link.
    Command {
        /// The link that it comes from; `None` for the core.
        from: Option<LinkId>,
        /// The link that it goes to.
        to: LinkId,
        /// What it is.
        command: LinkCommand,
    },
}

/// A node's bad intentions.
pub trait Adversary {
    /// Something passes between two machines of the node. What is returned takes its place, in order.
    fn pass(&mut self, step: Step) -> Vec<Step> {
        vec![step]
    }

    /// A record is about to be sealed for a link: the frame stream, zeros, and the count of used bytes in the last two.
    fn sealing(&mut self, link: LinkId, record: &mut [u8]) {
        let _ = (link, record);
    }
}

/// None at all.
pub struct Honest;

impl Adversary for Honest {}

/// A count that an adversary and its test share.
#[derive(Clone, Default)]
pub struct Tally(Rc<Cell<usize>>);

impl Tally {
    /// What has been counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.get()
    }

    fn add(&self) {
        self.0.set(self.0.get() + 1);
    }
}
