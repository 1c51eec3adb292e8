//! The core of a node, router, topology, exits and own circuits together, among links and a datastore that do anything.
//!
//! The model knows what the core owes to each link, circuit and local operation, and that everything ends.

use std::collections::{BTreeMap, BTreeSet};

use ::core::time::Duration;
use warren_keys::NodeId;
use warren_proto::{
    client::PoolSettings,
    core::{
        Core, CoreConfig,
        api::{
            ClientCommand, ClientEvent, CoreInput, CoreOutput, DialTarget, Shelf, StoreAnswer, StoreQuestion,
        },
    },
    ids::{CircuitAddr, CircuitId, JobId, LinkId, OpId, OriginId, RequestId, StoreTicket},
    link::api::{LinkCommand, LinkEvent},
    routing::Limits,
    time::Time,
    topology::TopologySettings,
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult, Frame, Routed},
};

use super::{START, messages, pause, wall};
use crate::{Input, Seed, fixtures};

/// Small, so that they are reached.
const LIMITS: Limits = Limits {
    searches: 12,
    inserts: 6,
    per_neighbour: 5,
    writes: 4,
};
const MAX_LINKS: usize = 12;
/// After this time the core counts a dial as failed by itself.
const DIAL_TIME: Duration = Duration::from_secs(60);
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(3600);

struct World {
    core: Core,
    now: Time,
    next_link: u64,
    next_circuit: u32,
    next_op: u64,
    links: BTreeMap<LinkId, NodeId>,
    /// Dials that have not ended, and when they began.
    dials: BTreeMap<NodeId, Time>,
    tickets: BTreeMap<StoreTicket, StoreQuestion>,
    /// Own circuits: the link, whether they stand, what is open.
    origins: BTreeMap<OriginId, (LinkId, bool, BTreeMap<u32, ExitRequest>)>,
    ops: BTreeSet<(JobId, OpId)>,
    /// What circuits of others wait for.
    extensions: BTreeSet<CircuitAddr>,
    /// Numbers that clients wait for; a client may use one twice.
    exits: BTreeMap<CircuitAddr, Vec<u32>>,
    /// Answers owed to neighbours.
    owed: BTreeMap<(LinkId, RequestId), u32>,
    asked: Vec<(LinkId, Routed)>,
}

/// The first bytes say how own circuits are built, what is dialled, and whom the node knows.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let start = input.u8();
    let own = fixtures::node(0).descriptor.as_ref().clone();
    let seed = &fixtures::node(1).descriptor;
    let pool = PoolSettings {
        hops: usize::from(start % 4),
        spares: 1,
        ..PoolSettings::new(own.identity)
    };
    let seed = DialTarget {
        node: seed.identity,
        link_key: seed.link_key,
        addresses: seed.addresses.clone(),
    };
    let topology = TopologySettings {
        max_links: MAX_LINKS,
        allow_private: start & 4 != 0,
        seeds: vec![seed],
        ..TopologySettings::default()
    };
    let known =
        (2..usize::from(input.u8() % 64)).map(|number| fixtures::node(number).descriptor.as_ref().clone());
    let config = CoreConfig {
        descriptor: own,
        topology,
        limits: LIMITS,
        pool,
        known: known.collect(),
        entries: Vec::new(),
    };
    let mut world = World {
        core: Core::new(START, wall(START), config, [4; 32]),
        now: START,
        next_link: 1,
        next_circuit: 1000,
        next_op: 1,
        links: BTreeMap::new(),
        dials: BTreeMap::new(),
        tickets: BTreeMap::new(),
        origins: BTreeMap::new(),
        ops: BTreeSet::new(),
        extensions: BTreeSet::new(),
        exits: BTreeMap::new(),
        owed: BTreeMap::new(),
        asked: Vec::new(),
    };
    world.drain();
    while let Some(op) = input.op() {
        world.step(op, &mut input);
        world.check();
    }
    world.end();
}

impl World {
    fn input(&mut self, input: CoreInput) {
        self.core.input(self.now, wall(self.now), input);
        self.drain();
    }

    fn event(&mut self, link: LinkId, event: LinkEvent) {
        self.input(CoreInput::Link(link, event));
    }

    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let dials: Vec<NodeId> = self.dials.keys().copied().collect();
        match op % 16 {
            0 => self.up(input.u8().into(), false),
            1 | 2 => {
                let chosen = input.pick(&dials);
                let number = chosen
                    .and_then(|node| (0..fixtures::NODES).find(|n| fixtures::node(*n).secrets.id() == node));
                match number {
                    Some(number) if input.u8() < 200 => self.up(number, true),
                    Some(_) => self.dial_failed(chosen),
                    None => {}
                }
            }
            3 => {
                if let Some(link) = input.pick(&links) {
                    self.lost(link);
                    self.input(CoreInput::LinkDown {
                        link,
                        misbehaved: input.u8() > 200,
                    });
                }
            }
            4 => {
                let gossip = messages::gossip(input);
                if let Some(link) = input.pick(&links) {
                    self.event(link, LinkEvent::Gossip(gossip));
                }
            }
            5 | 6 => {
                if let Some(link) = input.pick(&links) {
                    let id = RequestId(u64::from(input.u8()));
                    let message = messages::routed(input, id);
                    if is_question(&message) {
                        *self.owed.entry((link, id)).or_default() += 1;
                    }
                    self.event(link, LinkEvent::Routed(message));
                }
            }
            7 => {
                if !self.asked.is_empty() {
                    let (link, question) = self.asked.remove(input.below(self.asked.len().min(256)));
                    let answer = answer(&question, input);
                    self.event(link, LinkEvent::Routed(answer));
                }
            }
            8 => {
                let tickets: Vec<StoreTicket> = self.tickets.keys().copied().collect();
                if let Some(ticket) = input.pick(&tickets) {
                    let question = self.tickets.remove(&ticket);
                    self.input(CoreInput::Store(ticket, store_answer(question, input)));
                }
            }
            9 => self.client(input),
            10 => {
                if let Some(link) = input.pick(&links) {
                    let target = Box::new(messages::descriptor(input));
                    let circuit = CircuitId(self.next_circuit);
                    self.next_circuit += 1;
                    self.extensions.insert(CircuitAddr { link, circuit });
                    self.event(
                        link,
                        LinkEvent::ExtendWanted {
                            circuit,
                            target,
                            create: messages::create(input),
                        },
                    );
                }
            }
            11 => {
                if let Some(link) = input.pick(&links) {
                    let circuit = CircuitId(u32::from(input.u8() % 4));
                    let request = messages::exit_request(input);
                    self.exits
                        .entry(CircuitAddr { link, circuit })
                        .or_default()
                        .push(request.id);
                    self.event(link, LinkEvent::ExitRequest { circuit, request });
                }
            }
            12 => {
                let circuits: Vec<CircuitAddr> = self.exits.keys().chain(&self.extensions).copied().collect();
                if let Some(gone) = input.pick(&circuits) {
                    self.exits.remove(&gone);
                    self.extensions.remove(&gone);
                    self.event(gone.link, LinkEvent::CircuitGone(gone.circuit));
                }
            }
            13 => self.own_circuit(input),
            14 => self.wait(pause(input)),
            _ => {
                let mut own = (**fixtures::node(0).descriptor).clone();
                own.services.exit = input.flag();
                own.services.store = input.flag();
                let own = fixtures::node(0).secrets.sign(own, &fixtures::network());
                self.core.set_descriptor(self.now, wall(self.now), own);
                self.drain();
            }
        }
    }

    fn up(&mut self, number: usize, dialled: bool) {
        let peer = Box::new(fixtures::node(number).descriptor.as_ref().clone());
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.dials.remove(&peer.identity);
        self.links.insert(link, peer.identity);
        self.event(
            link,
            LinkEvent::Up {
                peer,
                dialled,
                remote: None,
            },
        );
    }

    fn dial_failed(&mut self, node: Option<NodeId>) {
        if let Some(node) = node {
            self.dials.remove(&node);
            self.input(CoreInput::DialFailed(node));
        }
    }

    /// A link is gone, and with it all that was owed to it.
    fn lost(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.owed.retain(|(asker, _), _| *asker != link);
        self.asked.retain(|(to, _)| *to != link);
        self.extensions.retain(|at| at.link != link);
        self.exits.retain(|at, _| at.link != link);
        self.origins.retain(|_, (on, _, _)| *on != link);
    }

    fn client(&mut self, input: &mut Input<'_>) {
        let job = JobId(u64::from(input.u8() % 3));
        let op = OpId(self.next_op);
        let command = match input.u8() % 8 {
            0 => ClientCommand::OpenJob {
                job,
                bulk: input.flag(),
            },
            1 => ClientCommand::SetBulk(job),
            2 => {
                self.ops.retain(|(owner, _)| *owner != job);
                ClientCommand::CloseJob(job)
            }
            3..=5 => {
                self.ops.insert((job, op));
                ClientCommand::Fetch {
                    job,
                    op,
                    block: messages::block_id(input),
                    expendable: input.flag(),
                    wait: Duration::from_secs(u64::from(input.u8() / 64) * 100),
                }
            }
            _ => {
                self.ops.insert((job, op));
                ClientCommand::Insert {
                    job,
                    op,
                    block: messages::block(input),
                    exits: input.u8() % 3,
                    read_back: input.flag(),
                }
            }
        };
        self.next_op += 1;
        self.input(CoreInput::Client(command));
    }

    /// Something happens to an own circuit.
    fn own_circuit(&mut self, input: &mut Input<'_>) {
        let all: Vec<OriginId> = self.origins.keys().copied().collect();
        let Some(origin) = input.pick(&all) else { return };
        let Some((link, ready, open)) = self.origins.get_mut(&origin) else {
            return;
        };
        let link = *link;
        let event = if !*ready && input.u8() < 200 {
            *ready = true;
            LinkEvent::OriginReady(origin)
        } else if let Some((id, request)) = open.pop_first()
            && input.u8() < 230
        {
            let result = match (input.u8() % 4, request.op) {
                (0, _) => messages::exit_result(input),
                (1, ExitOp::Insert(_)) => ExitResult::Stored(5),
                (1, ExitOp::Fetch { .. }) => ExitResult::NotFound,
                _ => ExitResult::Busy,
            };
            LinkEvent::OriginReply {
                origin,
                reply: ExitReply { id, result },
            }
        } else {
            self.origins.remove(&origin);
            LinkEvent::OriginClosed { origin, blame: None }
        };
        self.event(link, event);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut calls = 0;
        while self.core.poll_timeout().is_some_and(|due| due <= self.now) {
            self.core.handle_timeout(self.now, wall(self.now));
            self.drain();
            calls += 1;
            assert!(calls < 1000, "a timeout that never passes");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                CoreOutput::Link(link, command) => {
                    assert!(
                        self.links.contains_key(&link),
                        "{command:?} to a link that is gone"
                    );
                    self.command(link, command);
                }
                CoreOutput::Dial(target) => {
                    let before = self.dials.insert(target.node, self.now);
                    assert!(
                        before.is_none_or(|before| self.now.since(before) >= DIAL_TIME),
                        "two dials of one node"
                    );
                }
                CoreOutput::Store(ticket, question) => {
                    assert!(self.tickets.insert(ticket, question).is_none(), "a ticket twice");
                }
                CoreOutput::Client(
                    ClientEvent::Fetched { job, op, .. } | ClientEvent::Inserted { job, op, .. },
                ) => {
                    assert!(self.ops.remove(&(job, op)), "an end of nothing");
                }
            }
        }
    }

    fn command(&mut self, link: LinkId, command: LinkCommand) {
        match command {
            LinkCommand::Close => self.lost(link),
            LinkCommand::Send(Frame::Routed(message)) if is_question(&message) => {
                self.asked.push((link, message))
            }
            LinkCommand::Send(Frame::Routed(message)) => {
                if let Some(id) = message.id() {
                    let owed = self.owed.get_mut(&(link, id)).filter(|owed| **owed > 0);
                    *owed.expect("an answer that is not owed") -= 1;
                }
            }
            LinkCommand::Send(_) | LinkCommand::Services(_) => {}
            LinkCommand::OpenOrigin { origin, path } => {
                assert_eq!(
                    path.first().map(|entry| entry.identity),
                    self.links.get(&link).copied()
                );
                let state = (link, false, BTreeMap::new());
                assert!(self.origins.insert(origin, state).is_none(), "a name twice");
            }
            LinkCommand::OriginSend { origin, request } => {
                let (_, ready, open) = self
                    .origins
                    .get_mut(&origin)
                    .expect("through a circuit that is gone");
                assert!(*ready && open.insert(request.id, request).is_none());
            }
            LinkCommand::CloseOrigin(origin) => {
                assert!(
                    self.origins.remove(&origin).is_some(),
                    "a circuit that is gone is closed"
                );
            }
            LinkCommand::OpenThrough { from, .. } => {
                assert!(from.link != link, "back to where it came from");
                assert!(self.extensions.remove(&from), "an extension that nobody wants");
            }
            LinkCommand::ExtendFailed(circuit) => {
                assert!(
                    self.extensions.remove(&CircuitAddr { link, circuit }),
                    "an extension that nobody wants"
                );
            }
            LinkCommand::ExitReply { circuit, reply } => {
                let open = self
                    .exits
                    .get_mut(&CircuitAddr { link, circuit })
                    .expect("to a circuit that is gone");
                let place = open.iter().position(|number| *number == reply.id);
                let place = place.expect("an answer to nothing");
                if !matches!(reply.result, ExitResult::Waiting) {
                    open.swap_remove(place);
                }
            }
            // The client used a number twice.
            LinkCommand::Destroy(circuit) => drop(self.exits.remove(&CircuitAddr { link, circuit })),
            other => panic!("{other:?} is not the core's"),
        }
    }

    fn check(&self) {
        let status = self.core.status(self.now);
        let reported: BTreeSet<LinkId> = status.links.iter().map(|link| link.link.link).collect();
        assert!(reported.iter().eq(self.links.keys()), "another view of the links");
        assert!(
            status.open.searches + status.open.joined <= LIMITS.searches
                && status.open.inserts <= LIMITS.inserts
        );
        assert!(reported.len() <= MAX_LINKS);
    }

    /// Dials fail, the datastore answers at last, nobody says anything any more.
    fn end(mut self) {
        let until = self.now + PATIENCE;
        loop {
            for ticket in std::mem::take(&mut self.tickets).into_keys() {
                self.input(CoreInput::Store(ticket, StoreAnswer::Failed));
            }
            for node in std::mem::take(&mut self.dials).into_keys() {
                self.input(CoreInput::DialFailed(node));
            }
            let status = self.core.status(self.now);
            let open =
                status.open.searches + status.open.joined + status.open.inserts + status.open.store_questions;
            let waiting = status.exit_requests + status.waiting_circuits;
            let idle = open + waiting == 0 && self.ops.is_empty();
            if idle {
                break;
            }
            assert!(self.now < until, "it never ends: {status:?}, {:?}", self.ops);
            let due = self.core.poll_timeout().unwrap_or(until);
            self.wait(due.since(self.now).max(Duration::from_millis(50)));
        }
        assert!(self.extensions.is_empty(), "extensions without an end");
        assert!(
            self.exits.values().all(Vec::is_empty),
            "clients without an answer"
        );
        assert!(
            self.owed.values().all(|owed| *owed == 0),
            "neighbours without an answer"
        );
    }
}

fn is_question(message: &Routed) -> bool {
    matches!(
        message,
        Routed::Request { .. } | Routed::Insert { .. } | Routed::Replicate { .. }
    )
}

/// What a neighbour could answer.
fn answer(question: &Routed, input: &mut Input<'_>) -> Routed {
    // Only questions come here, and each has a number.
    let id = question.id().unwrap_or(RequestId(0));
    match (question, input.u8() % 4) {
        (_, 0) => Routed::Refused {
            id,
            why: messages::refusal(input),
        },
        (Routed::Request { .. }, 1) => Routed::NotFound {
            id,
            branches: input.u8(),
        },
        (Routed::Request { .. }, _) => Routed::Found {
            id,
            block: messages::block(input),
            copy: input.flag(),
        },
        (Routed::Insert { .. }, 1) => Routed::Collision {
            id,
            block: messages::block(input),
        },
        (Routed::Insert { .. }, _) => Routed::Stored {
            id,
            copies: input.u8(),
        },
        _ => Routed::Replicated {
            id,
            replica: messages::replica(input),
        },
    }
}

fn store_answer(question: Option<StoreQuestion>, input: &mut Input<'_>) -> StoreAnswer {
    match (question, input.u8() % 4) {
        (_, 0) => StoreAnswer::Failed,
        (Some(StoreQuestion::Find(_)), 1) => StoreAnswer::Missing,
        (Some(StoreQuestion::Find(_)), _) => StoreAnswer::Found(messages::block(input), Shelf::Store),
        (_, 1) => StoreAnswer::Collision(messages::block(input)),
        _ => StoreAnswer::Kept,
    }
}

/// The node as a hop, as an exit, as a client, as a neighbour.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let node = |name: &str| Seed::new(name).u8(2).u8(20);
    let linked = |name: &str| (1..6).fold(node(name), |seed, peer| seed.u8(0).u8(peer));
    let exit = |name: &str| linked(name).u8(11).u8(0).u8(1).u8(7).u8(0).u8(2).u8(3);
    vec![
        exit("exit").u8(8).u8(0).u8(1).u8(7).u8(0).u8(1).u8(2),
        exit("exit-number-twice")
            .u8(11)
            .u8(0)
            .u8(1)
            .u8(7)
            .u8(0)
            .u8(2)
            .u8(3),
        exit("exit-circuit-gone").u8(12).u8(0),
        exit("exit-link-down").u8(3).u8(0).u8(0),
        linked("extend").u8(10).u8(0).u8(3).u8(1).u8(9),
        linked("extend-by-dial")
            .u8(10)
            .u8(0)
            .u8(33)
            .u8(1)
            .u8(9)
            .u8(1)
            .u8(0)
            .u8(0),
        linked("extend-in-vain")
            .u8(10)
            .u8(0)
            .u8(33)
            .u8(1)
            .u8(9)
            .u8(1)
            .u8(0)
            .u8(255),
        linked("client")
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(3)
            .u8(2)
            .u8(0)
            .u8(13)
            .u8(0)
            .u8(0)
            .u8(13)
            .u8(1)
            .u8(0)
            .u8(13)
            .u8(0)
            .u8(0)
            .u8(1),
        linked("client-insert")
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(6)
            .u8(2)
            .u8(2)
            .u8(1)
            .u8(13)
            .u8(0)
            .u8(0)
            .u8(13)
            .u8(1)
            .u8(0),
        Seed::new("client-without-hops")
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(1)
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(3)
            .u8(2)
            .u8(0)
            .u8(7)
            .u8(0)
            .u8(1)
            .u8(3),
        linked("routed")
            .u8(5)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(2)
            .u8(18)
            .u8(0)
            .u8(3)
            .u64(u64::MAX)
            .u8(8)
            .u8(0)
            .u8(1)
            .u8(7)
            .u8(0)
            .u8(2)
            .u8(2)
            .u8(1),
        linked("gossip")
            .u8(4)
            .u8(7)
            .u8(3)
            .u8(40)
            .u8(41)
            .u8(42)
            .u8(0)
            .u8(14)
            .u8(200)
            .u8(2)
            .u8(15)
            .u8(0)
            .u8(1),
        node("dials")
            .u8(14)
            .u8(100)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(0)
            .u8(1)
            .u8(0)
            .u8(255)
            .u8(14)
            .u8(250)
            .u8(3),
    ]
}
