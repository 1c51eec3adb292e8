//! Answers with blocks that are not what was asked for.

use bytes::BytesMut;
use warren_keys::Block;
use warren_proto::{
    ids::LinkId,
    link::api::LinkCommand,
    wire::{ExitReply, ExitResult, FRAME_HEADER, Frame, FrameType, Routed, RoutedType, decode_header},
};

use super::{Adversary, Step, Tally};

/// What is wrong with the blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Forgery {
    /// This one instead: a valid block, of another key.
    Other(Block),
    /// One bit of the right block is changed.
    Changed {
        /// The byte.
        byte: usize,
    },
    /// The block is announced as found for an insert, or as a collision for a fetch.
    OtherKind,
    /// The frame ends before the block does.
    Truncated,
}

/// A node whose found blocks are all forged: those that it routes, and those that it answers with as an exit.
#[derive(Clone)]
pub struct Forger {
    forgery: Forgery,
    /// Forged answers.
    pub tally: Tally,
}

impl Forger {
    /// One that forges in this way.
    #[must_use]
    pub fn new(forgery: Forgery) -> Self {
        Self {
            forgery,
            tally: Tally::default(),
        }
    }

    fn forge(&self, block: Block) -> Block {
        match &self.forgery {
            Forgery::Other(other) => other.clone(),
            Forgery::Changed { byte } => {
                let mut bytes = BytesMut::from(&block.bytes()[..]);
                bytes[*byte] ^= 1;
                // The one way to a block that is not verified. Only kind and bytes go on the wire.
                Block::from_store(block.id(), bytes.freeze()).expect("as long as a block")
            }
            Forgery::OtherKind | Forgery::Truncated => block,
        }
    }
}

impl Adversary for Forger {
    fn pass(&mut self, step: Step) -> Vec<Step> {
        let Step::Command { from, to, command } = step else {
            return vec![step];
        };
        let command = match command {
            LinkCommand::Send(Frame::Routed(Routed::Found { id, block, copy })) => {
                self.tally.add();
                let block = self.forge(block);
                LinkCommand::Send(Frame::Routed(match self.forgery {
                    Forgery::OtherKind => Routed::Collision { id, block },
                    _ => Routed::Found { id, block, copy },
                }))
            }
            LinkCommand::ExitReply {
                circuit,
                reply:
                    ExitReply {
                        id,
                        result: ExitResult::Found(block),
                    },
            } => {
                let block = self.forge(block);
                let result = match self.forgery {
                    Forgery::OtherKind => ExitResult::Collision(block),
                    _ => ExitResult::Found(block),
                };
                if self.forgery != Forgery::Truncated {
                    self.tally.add();
                }
                LinkCommand::ExitReply {
                    circuit,
                    reply: ExitReply { id, result },
                }
            }
            other => other,
        };
        vec![Step::Command { from, to, command }]
    }

    fn sealing(&mut self, _: LinkId, record: &mut [u8]) {
        let Some(header) = record.first_chunk_mut::<FRAME_HEADER>() else {
            return;
        };
        // A lone answer begins its record.
        let begins = matches!(
            decode_header(*header),
            Ok((FrameType::Routed(RoutedType::Found), _))
        );
        if self.forgery == Forgery::Truncated && begins {
            header[FRAME_HEADER - 1] -= 1;
        }
    }
}
