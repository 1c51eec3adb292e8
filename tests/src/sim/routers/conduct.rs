//! What hostile nodes answer.
//!
//! They are hostile to requests that come to them from others; requests of their own are not simulated. What they answer is
//! what hurts most for its kind: a denial uses up all branches that it was given, a false "stored" claims all five copies.
//!
//! With [`Swallow::Sink`] a hostile node routes an insert like any other, but what it says that it keeps it does not keep, and
//! what it says that it has pushed it has not sent ([`Conduct::keeps`]).

use warren_keys::{BlockId, RoutingKey};
use warren_proto::wire::{Replica, Routed};

use crate::sim::{scenario::Swallow, shelves::Zeros};

/// How a node treats what others ask of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// By the protocol.
    Honest,
    /// Never answers.
    Dropper,
    /// Says of every block that it was searched for and not found.
    Liar,
    /// Answers every search with another block.
    Forger,
}

/// What comes of a message.
pub(super) enum Reaction {
    /// What the router makes of it.
    Honest,
    /// Nothing.
    Silence,
    /// This.
    Answer(Routed),
}

impl Conduct {
    /// The three kinds in equal shares.
    #[must_use]
    pub const fn hostile(number: usize) -> Self {
        match number % 3 {
            0 => Self::Dropper,
            1 => Self::Liar,
            _ => Self::Forger,
        }
    }

    /// Whether a node of this kind keeps and pushes what it says.
    pub(super) fn keeps(self, swallow: Swallow) -> bool {
        self == Self::Honest || swallow != Swallow::Sink
    }

    /// What a node of this kind makes of a request.
    pub(super) fn react(self, swallow: Swallow, message: &Routed, zeros: &Zeros) -> Reaction {
        if self == Self::Honest {
            return Reaction::Honest;
        }
        match (self, message) {
            (_, Routed::Insert { .. } | Routed::Replicate { .. }) if swallow == Swallow::Never => {
                Reaction::Honest
            }
            (_, Routed::Insert { id, .. }) if swallow == Swallow::Path => {
                Reaction::Answer(Routed::Stored { id: *id, copies: 5 })
            }
            (Self::Dropper, _) => Reaction::Silence,
            (_, Routed::Insert { .. }) => Reaction::Honest,
            (_, Routed::Replicate { id, .. }) => Reaction::Answer(Routed::Replicated {
                id: *id,
                replica: Replica::Stored,
            }),
            (Self::Forger, Routed::Request { id, .. }) => {
                let other = BlockId::content(RoutingKey::from_bytes([0xff; 32]));
                Reaction::Answer(Routed::Found {
                    id: *id,
                    block: zeros.block(other),
                    copy: true,
                })
            }
            (_, Routed::Request { id, .. }) => Reaction::Answer(Routed::NotFound { id: *id, branches: 0 }),
            _ => Reaction::Honest,
        }
    }
}
