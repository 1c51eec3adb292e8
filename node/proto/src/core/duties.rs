//! What the core does between its machines: for circuits that pass or end here, for own circuits, and when links go.

use super::{
    Core, Fit,
    api::CoreOutput,
    exits::{Admission, Client},
    waiting::Waiter,
};
use crate::{
    client::PoolOutput,
    descriptor::Descriptor,
    ids::{CircuitAddr, CircuitId, LinkId, OriginId, RequestId},
    link::api::LinkCommand,
    repair::RepairOutput,
    routing::RouterOutput,
    time::{Time, WallTime},
    topology::{Reach, TopologyOutput},
    wire::{Create, ExitOp, ExitReply, ExitRequest, ExitResult, Frame, Routed},
};
use warren_keys::NodeId;

impl Core {
    pub(super) fn drain_router(&mut self, now: Time) -> bool {
        let mut moved = false;
        while let Some(output) = self.router.poll_output() {
            moved = true;
            match output {
                RouterOutput::Send(link, message) => {
                    if message.wants_answer() {
                        self.topology.asked(now, link);
                    }
                    self.send(link, LinkCommand::Send(Frame::Routed(message)));
                }
                RouterOutput::Store(ticket, question) => {
                    self.output.push_back(CoreOutput::Store(ticket, question));
                }
                RouterOutput::Answer(request, result) => self.exit_answer(now, request, result),
                RouterOutput::Offence(link, _) => self.topology.offence(now, link),
            }
        }
        moved
    }

    pub(super) fn drain_repair(&mut self, now: Time) -> bool {
        let mut moved = false;
        while let Some(output) = self.repair.poll_output() {
            moved = true;
            match output {
                RepairOutput::Send(link, message) => {
                    let message = Routed::Repair(message);
                    if message.wants_answer() {
                        self.topology.asked(now, link);
                    }
                    self.send(link, LinkCommand::Send(Frame::Routed(message)));
                }
                RepairOutput::Store(ticket, question) => {
                    self.output.push_back(CoreOutput::Store(ticket, question));
                }
                RepairOutput::Arrived(block) => self.router.arrived(now, &block),
                RepairOutput::Offence(link) => self.topology.offence(now, link),
            }
        }
        moved
    }

    pub(super) fn drain_topology(&mut self, now: Time, wall: WallTime) -> bool {
        let mut moved = false;
        while let Some(output) = self.topology.poll_output() {
            moved = true;
            match output {
                TopologyOutput::Send(link, frame) => self.send(link, LinkCommand::Send(frame)),
                TopologyOutput::Close(link) => {
                    self.send(link, LinkCommand::Close);
                    self.lost_link(now, wall, link);
                }
                TopologyOutput::Dial(target) => self.output.push_back(CoreOutput::Dial(target)),
                TopologyOutput::DialLost(node) => self.unreachable(now, &node),
                TopologyOutput::Grown => self.pool.directory_changed(),
            }
        }
        moved
    }

    pub(super) fn drain_pool(&mut self, now: Time, wall: WallTime) -> bool {
        let mut moved = false;
        loop {
            let view = Fit {
                topology: &self.topology,
                now,
            };
            let Some(output) = self.pool.poll(now, wall, &view) else {
                return moved;
            };
            moved = true;
            match output {
                PoolOutput::Open { origin, path } => self.open_origin(now, wall, origin, path),
                PoolOutput::Send { origin, request } => {
                    if let Some(link) = self.origins.get(&origin) {
                        self.send(*link, LinkCommand::OriginSend { origin, request });
                    }
                }
                PoolOutput::Close(origin) => self.close_origin(origin),
                PoolOutput::LocalExit { origin, request } => {
                    self.serve(now, Client::Own(origin), request);
                }
                PoolOutput::Entries(entries) => {
                    self.entries = entries;
                    self.keep_entries();
                }
                PoolOutput::Client(event) => self.output.push_back(CoreOutput::Client(event)),
            }
        }
    }

    /// A link does not exist any more, for whatever reason.
    pub(super) fn lost_link(&mut self, now: Time, wall: WallTime, link: LinkId) {
        self.router.neighbour_down(now, link);
        self.repair.neighbour_down(now, wall, link);
        for request in self.exits.link_gone(link) {
            self.router.cancel(request);
        }
        self.waiting.drop_link(link);
        let lost = self
            .origins
            .iter()
            .filter(|(_, on)| **on == link)
            .map(|(origin, _)| *origin);
        for origin in lost.collect::<Vec<_>>() {
            self.origins.remove(&origin);
            self.pool.origin_closed(now, origin, None);
        }
    }

    /// A node could not be linked to: nobody need wait for it.
    pub(super) fn unreachable(&mut self, now: Time, node: &NodeId) {
        for waiter in self.waiting.take(node) {
            self.give_up(now, waiter);
        }
    }

    /// A circuit of somebody wants to go on to `target`.
    pub(super) fn extend(
        &mut self,
        now: Time,
        wall: WallTime,
        link: LinkId,
        circuit: CircuitId,
        target: &Descriptor,
        create: Create,
    ) {
        let from = CircuitAddr { link, circuit };
        let waiter = Waiter::Extension { from, create };
        // Back to where it came from would tell nobody anything new, and only costs.
        let sensible =
            self.topology.own().services.relay && self.topology.node_of(link) != Some(target.identity);
        let reach = if sensible {
            self.topology.reach(now, wall, target, Some(link))
        } else {
            Reach::No
        };
        self.wait_or_go(now, target.identity, reach, waiter);
    }

    fn open_origin(&mut self, now: Time, wall: WallTime, origin: OriginId, path: Vec<Descriptor>) {
        let Some(entry) = path.first().cloned() else {
            self.pool.origin_closed(now, origin, None);
            return;
        };
        let reach = self.topology.reach(now, wall, &entry, None);
        self.wait_or_go(now, entry.identity, reach, Waiter::Origin { origin, path });
    }

    fn wait_or_go(&mut self, now: Time, node: NodeId, reach: Reach, waiter: Waiter) {
        match reach {
            Reach::Linked(link) => self.go_on(link, waiter),
            Reach::Dialling => {
                if let Some(waiter) = self.waiting.push(now, node, waiter) {
                    self.give_up(now, waiter);
                }
            }
            Reach::No => self.give_up(now, waiter),
        }
    }

    /// The link that somebody needs is there.
    pub(super) fn go_on(&mut self, link: LinkId, waiter: Waiter) {
        match waiter {
            Waiter::Extension { from, create } => self.send(link, LinkCommand::OpenThrough { from, create }),
            Waiter::Origin { origin, path } => {
                self.origins.insert(origin, link);
                self.send(link, LinkCommand::OpenOrigin { origin, path });
            }
        }
    }

    /// The link that somebody needs will not come.
    pub(super) fn give_up(&mut self, now: Time, waiter: Waiter) {
        match waiter {
            Waiter::Extension { from, .. } => self.send(from.link, LinkCommand::ExtendFailed(from.circuit)),
            Waiter::Origin { origin, path } => {
                self.pool
                    .origin_closed(now, origin, path.first().map(|entry| entry.identity));
            }
        }
    }

    fn close_origin(&mut self, origin: OriginId) {
        self.waiting.drop_origin(origin);
        if let Some(link) = self.origins.remove(&origin) {
            self.send(link, LinkCommand::CloseOrigin(origin));
        }
        for request in self.exits.gone(Client::Own(origin)) {
            self.router.cancel(request);
        }
    }

    /// A client whose circuit ends here asks.
    pub(super) fn exit_request(&mut self, now: Time, link: LinkId, circuit: CircuitId, request: ExitRequest) {
        self.serve(now, Client::Circuit(CircuitAddr { link, circuit }), request);
    }

    fn serve(&mut self, now: Time, client: Client, request: ExitRequest) {
        let ExitRequest { id: number, op } = request;
        let own = matches!(client, Client::Own(_));
        if !own && !self.topology.own().services.exit {
            self.reply(
                now,
                client,
                ExitReply {
                    id: number,
                    result: ExitResult::Failed,
                },
            );
            return;
        }
        match self.exits.admit(now, client, number, self.pressure) {
            Admission::Welcome => {
                let (opened, waits) = match op {
                    ExitOp::Fetch {
                        block,
                        branches,
                        wait,
                    } => {
                        let wait = wait && self.exits.may_wait(client);
                        (self.router.fetch(now, block, branches, wait, own), wait)
                    }
                    ExitOp::Insert(block) => (self.router.insert(now, block, own), false),
                };
                match opened {
                    Some(request) => self.exits.opened(client, number, request, waits),
                    None => self.reply(
                        now,
                        client,
                        ExitReply {
                            id: number,
                            result: ExitResult::Busy,
                        },
                    ),
                }
            }
            Admission::Busy => self.reply(
                now,
                client,
                ExitReply {
                    id: number,
                    result: ExitResult::Busy,
                },
            ),
            Admission::Duplicate => {
                if let Client::Circuit(addr) = client {
                    self.send(addr.link, LinkCommand::Destroy(addr.circuit));
                    self.circuit_gone(addr.link, addr.circuit);
                }
            }
        }
    }

    /// The router has an answer for a client.
    fn exit_answer(&mut self, now: Time, request: RequestId, result: ExitResult) {
        let whose = match result {
            // The last answer is still to come.
            ExitResult::Waiting => self.exits.of(request),
            _ => self.exits.answered(request),
        };
        if let Some((client, id)) = whose {
            self.reply(now, client, ExitReply { id, result });
        }
    }

    fn reply(&mut self, now: Time, client: Client, reply: ExitReply) {
        match client {
            Client::Circuit(CircuitAddr { link, circuit }) => {
                self.send(link, LinkCommand::ExitReply { circuit, reply });
            }
            Client::Own(origin) => self.pool.origin_reply(now, origin, reply),
        }
    }

    /// A circuit that ended here, or wanted to go on from here, is gone.
    pub(super) fn circuit_gone(&mut self, link: LinkId, circuit: CircuitId) {
        self.waiting.drop_circuit(link, circuit);
        for request in self.exits.gone(Client::Circuit(CircuitAddr { link, circuit })) {
            self.router.cancel(request);
        }
    }
}
