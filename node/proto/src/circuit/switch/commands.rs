//! What the core and the node's other links want of a switch.

use bytes::BytesMut;

use super::{EndedBy, Entry, Outlet, Role, Switch, Through};
use crate::{
    circuit::{
        CIRCUIT_IDLE, EXTEND_TIMEOUT, HOP_TIMEOUT,
        origin::{Blame, OriginCircuit},
    },
    crypto::Aead,
    descriptor::{Descriptor, Services},
    geometry::PacketSize,
    ids::{CircuitAddr, CircuitId, OriginId},
    link::api::{LinkCommand, LinkEvent},
    time::Time,
    wire::{Create, Created, ExitReply, ExitRequest, ExitResult, Frame},
};

impl<A: Aead> Switch<A> {
    /// Carries out a command that is about circuits.
    pub(crate) fn command(&mut self, now: Time, command: LinkCommand, out: &mut Outlet) {
        match command {
            LinkCommand::OpenOrigin { origin, path } => self.open_origin(now, origin, path, out),
            LinkCommand::OriginSend { origin, request } => self.origin_send(now, origin, request, out),
            LinkCommand::CloseOrigin(origin) => self.close_origin(origin, out),
            LinkCommand::OpenThrough { from, create } => self.open_through(now, from, create, out),
            LinkCommand::ExtendFailed(circuit) => self.extend_failed(circuit, out),
            LinkCommand::ExitReply { circuit, reply } => self.exit_reply(now, circuit, reply, out),
            LinkCommand::Extended {
                circuit,
                next,
                created,
            } => {
                self.extended(now, circuit, next, created, out);
            }
            LinkCommand::Forward { circuit, size, body } => self.forward(now, circuit, size, body, out),
            LinkCommand::Backward { circuit, size, body } => self.backward(now, circuit, size, body, out),
            LinkCommand::Destroy(circuit) => self.destroy(circuit, out),
            LinkCommand::Services(services) => self.set_services(services, out),
            LinkCommand::Send(_) | LinkCommand::Close => {}
        }
    }

    /// Offers other services from now on.
    fn set_services(&mut self, services: Services, out: &mut Outlet) {
        self.ends.services = services;
        let over = |role: &Role<A>| match role {
            Role::Relay(relay) if relay.next().is_some() || relay.extending() => !services.relay,
            Role::Relay(_) => !services.relay && !services.exit,
            // Ended from the link on which they arrived; the own client's are nobody else's business.
            Role::Through(_) | Role::Origin(_) => false,
        };
        let ended = self.circuits.iter().filter(|(_, entry)| over(&entry.role));
        for id in ended.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id, EndedBy::Switch, Blame(None), out);
        }
    }

    /// Builds a client circuit.
    fn open_origin(&mut self, now: Time, name: OriginId, path: Vec<Descriptor>, out: &mut Outlet) {
        let starts_here = path.first().is_some_and(|first| first.identity == self.ends.peer);
        let started = if starts_here && self.may_open(out) {
            OriginCircuit::start(&mut self.rng, name, path)
        } else {
            None
        };
        let number = if started.is_some() { self.number() } else { None };
        let (Some((origin, create)), Some(circuit)) = (started, number) else {
            out.core(LinkEvent::OriginClosed {
                origin: name,
                blame: None,
            });
            return;
        };
        out.queue.push_control(Frame::Create { circuit, create });
        self.origins.insert(name, circuit);
        self.enter_onward(circuit, Role::Origin(origin), now + HOP_TIMEOUT, out);
    }

    /// Sends a request through a client circuit.
    fn origin_send(&mut self, now: Time, name: OriginId, request: ExitRequest, out: &mut Outlet) {
        let Some(id) = self.origins.get(&name).copied() else {
            return; // `OriginClosed` is on its way to the core.
        };
        let Some(Entry {
            role: Role::Origin(origin),
            ..
        }) = self.circuits.get_mut(&id)
        else {
            return;
        };
        let number = request.id;
        match origin.request(request) {
            Some((size, body)) => self.send(now, id, size, body, out),
            // The pool is over the window: as if the exit had said so.
            None => out.core(LinkEvent::OriginReply {
                origin: name,
                reply: ExitReply {
                    id: number,
                    result: ExitResult::Busy,
                },
            }),
        }
    }

    /// Ends a client circuit.
    fn close_origin(&mut self, name: OriginId, out: &mut Outlet) {
        if let Some(id) = self.origins.get(&name).copied() {
            self.end(id, EndedBy::Inside, Blame(None), out);
        }
    }

    /// Ends a circuit whose other half has ended. A client circuit has none: should one be named, its owner is told.
    fn destroy(&mut self, id: CircuitId, out: &mut Outlet) {
        let own = matches!(
            self.circuits.get(&id).map(|entry| &entry.role),
            Some(Role::Origin(_))
        );
        let by = if own { EndedBy::Switch } else { EndedBy::Inside };
        self.end(id, by, Blame(None), out);
    }

    /// Opens a circuit to the peer on behalf of another link's circuit.
    fn open_through(&mut self, now: Time, from: CircuitAddr, create: Create, out: &mut Outlet) {
        if from.link == self.ends.link {
            return self.extend_failed(from.circuit, out);
        }
        let number = if self.may_open(out) { self.number() } else { None };
        let Some(circuit) = number else {
            return out.link(from.link, LinkCommand::ExtendFailed(from.circuit));
        };
        out.queue.push_control(Frame::Create { circuit, create });
        let through = Through {
            from,
            open: false,
            used: now,
        };
        self.enter_onward(circuit, Role::Through(through), now + EXTEND_TIMEOUT, out);
    }

    /// An extension cannot be made.
    fn extend_failed(&mut self, id: CircuitId, out: &mut Outlet) {
        if let Some(Entry {
            role: Role::Relay(relay),
            ..
        }) = self.circuits.get(&id)
            && relay.extending()
        {
            self.end(id, EndedBy::Switch, Blame(None), out);
        }
    }

    /// Answers the client of a circuit that ends here.
    fn exit_reply(&mut self, now: Time, id: CircuitId, reply: ExitReply, out: &mut Outlet) {
        let Some(Entry {
            role: Role::Relay(relay),
            ..
        }) = self.circuits.get_mut(&id)
        else {
            return;
        };
        match relay.reply(now, reply) {
            Ok((size, body)) => self.send(now, id, size, body, out),
            Err(_) => self.end(id, EndedBy::Switch, Blame(None), out),
        }
    }

    /// An extension stands.
    fn extended(&mut self, now: Time, id: CircuitId, next: CircuitAddr, created: Created, out: &mut Outlet) {
        let told = match self.circuits.get_mut(&id) {
            Some(Entry {
                role: Role::Relay(relay),
                ..
            }) if relay.extending() => relay.extended(next, created),
            _ => {
                // It died meanwhile, when it did not know yet whom to tell.
                out.link(next.link, LinkCommand::Destroy(next.circuit));
                return;
            }
        };
        match told {
            Ok((size, body)) => {
                self.set_deadline(id, Some(now + CIRCUIT_IDLE));
                self.send(now, id, size, body, out);
            }
            Err(_) => self.end(id, EndedBy::Switch, Blame(None), out),
        }
    }

    /// A packet goes on to the peer as it is.
    fn forward(&mut self, now: Time, id: CircuitId, size: PacketSize, body: BytesMut, out: &mut Outlet) {
        if let Some(Entry {
            role: Role::Through(through),
            ..
        }) = self.circuits.get_mut(&id)
        {
            through.used = now;
            self.send(now, id, size, body, out);
        }
    }

    /// A packet goes back to the peer with this node's layer.
    fn backward(&mut self, now: Time, id: CircuitId, size: PacketSize, mut body: BytesMut, out: &mut Outlet) {
        let Some(Entry {
            role: Role::Relay(relay),
            ..
        }) = self.circuits.get_mut(&id)
        else {
            return;
        };
        match relay.backward(now, size, &mut body) {
            Ok(()) => self.send(now, id, size, body, out),
            Err(_) => self.end(id, EndedBy::Switch, Blame(None), out),
        }
    }
}
