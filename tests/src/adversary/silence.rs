//! Says that there is nothing, or says nothing.

use warren_proto::{
    link::api::{LinkCommand, LinkEvent},
    wire::{ExitReply, ExitResult, Frame, Replica, Routed},
};

use super::{Adversary, Step, Tally};

/// A node that finds nothing, for neighbours and for the clients whose exit it is, and stores nothing, but says that it has.
#[derive(Clone, Default)]
pub struct Liar {
    /// Lies.
    pub tally: Tally,
}

impl Adversary for Liar {
    fn pass(&mut self, step: Step) -> Vec<Step> {
        let (to, command) = match step {
            Step::Event(link, LinkEvent::Routed(Routed::Request { id, branches, .. })) => {
                let answer = Routed::NotFound { id, branches };
                (link, LinkCommand::Send(Frame::Routed(answer)))
            }
            Step::Event(link, LinkEvent::Routed(Routed::Insert { id, .. })) => {
                let answer = Routed::Stored { id, copies: 5 };
                (link, LinkCommand::Send(Frame::Routed(answer)))
            }
            Step::Event(link, LinkEvent::Routed(Routed::Replicate { id, .. })) => {
                let answer = Routed::Replicated {
                    id,
                    replica: Replica::Stored,
                };
                (link, LinkCommand::Send(Frame::Routed(answer)))
            }
            Step::Event(link, LinkEvent::ExitRequest { circuit, request }) => {
                let result = match request.op {
                    warren_proto::wire::ExitOp::Fetch { .. } => ExitResult::NotFound,
                    warren_proto::wire::ExitOp::Insert(_) => ExitResult::Stored(5),
                };
                let reply = ExitReply {
                    id: request.id,
                    result,
                };
                (link, LinkCommand::ExitReply { circuit, reply })
            }
            other => return vec![other],
        };
        self.tally.add();
        vec![Step::Command {
            from: None,
            to,
            command,
        }]
    }
}

/// A node that takes everything and passes nothing on: it joins circuits and then drops their packets, and leaves
/// neighbours without an answer.
#[derive(Clone, Default)]
pub struct Dropper {
    /// Messages dropped.
    pub tally: Tally,
}

impl Adversary for Dropper {
    fn pass(&mut self, step: Step) -> Vec<Step> {
        let dropped = match &step {
            Step::Event(_, LinkEvent::Routed(_) | LinkEvent::ExitRequest { .. }) => true,
            // The packets that build a circuit's next hops are passed on, or clients would not come back.
            Step::Command { command, .. } => matches!(
                command,
                LinkCommand::Forward {
                    size: warren_proto::geometry::PacketSize::Block,
                    ..
                } | LinkCommand::Backward {
                    size: warren_proto::geometry::PacketSize::Block,
                    ..
                }
            ),
            Step::Event(..) => false,
        };
        if dropped {
            self.tally.add();
            return Vec::new();
        }
        vec![step]
    }
}
