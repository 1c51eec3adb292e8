//! One node: its core, its links, its datastore, and what moves between them.
//!
//! A node is itself a machine: an input goes in with the time, [`Effect`]s on the world come out. The driving contract of
//! `warren_proto` is kept here: each machine is drained before it gets its next input.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::NodeId;
use warren_proto::{
    core::{
        Core,
        api::{ClientCommand, CoreInput, CoreOutput, DialTarget, StoreAnswer},
    },
    crypto::{Aead, Cipher},
    descriptor::{Descriptor, NodeSecrets},
    ids::{JobId, LinkId, OriginId, StoreTicket},
    link::{
        CloseReason, Established, Initiator, Link, LinkConfig, Remote, ReplayCache, Responder,
        Step as Handshake,
        api::{LinkCommand, LinkEvent, LinkOutput},
    },
    network::Network,
    time::{Time, WallTime},
};

use super::{jobs::Jobs, store::Store};
use crate::{
    adversary::{Adversary, Step},
    watch::{self, Transcript},
};

/// What the driver's clock shows at simulated time 0: some day.
const EPOCH: u64 = 1_900_000_000;
/// Bytes that a link gives to its line at a time.
const BATCH: usize = 64 * 1024;
/// The same where lines have a rate. What is in a socket can no longer be overtaken.
const SOCKET: usize = 32 * 1024;

pub(super) fn wall(now: Time) -> WallTime {
    WallTime(EPOCH + now.0 / 1_000_000)
}

/// Three nodes in four have AES in hardware, so that there are links of both suites.
fn best_cipher(node: NodeId) -> Cipher {
    if node.as_bytes()[0] & 3 == 0 {
        Cipher::ChaCha20Poly1305
    } else {
        Cipher::Aes256Gcm
    }
}

/// What happens to a node.
pub(super) enum Input {
    /// A line to a dialled node stands.
    Connected { link: LinkId, target: Box<DialTarget> },
    /// Somebody dialled.
    Accepted { link: LinkId },
    /// A dial failed.
    DialFailed(NodeId),
    /// Bytes from a line.
    Bytes { link: LinkId, bytes: BytesMut },
    /// The other end of a line is gone.
    Hangup { link: LinkId },
    /// The datastore answers.
    Store(StoreTicket, StoreAnswer),
    /// The local user wants something.
    Client(ClientCommand),
    /// Time has come for one of its machines.
    Wake(Machine),
}

/// What a node does to the world.
pub(super) enum Effect {
    /// Bytes that have left after that time.
    Bytes {
        link: LinkId,
        bytes: BytesMut,
        takes: Duration,
    },
    Hangup {
        link: LinkId,
    },
    Dial(Box<DialTarget>),
    Store(StoreTicket, StoreAnswer),
    Wake(Machine, Time),
}

/// Whatever of a node has a timeout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Machine {
    Core,
    Link(LinkId),
    Job(JobId),
}

enum Phase<A> {
    Initiator(Box<Initiator>),
    Responder(Box<Responder>),
    Link(Box<Link<A>>),
    /// The handshake failed: silence.
    Mute,
}

struct End<A> {
    phase: Phase<A>,
    /// Whom this end dialled.
    dialled: Option<NodeId>,
    up: bool,
    /// When the line has carried all that it was given.
    free: Time,
}

/// A link that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClosedLink {
    /// Its name in this node.
    pub link: LinkId,
    /// Who was at the other end, if the link was ever up.
    pub peer: Option<NodeId>,
    /// Why this end closed it.
    pub reason: CloseReason,
}

/// A node of a simulated network.
pub struct Node<A> {
    pub(super) secrets: Arc<NodeSecrets>,
    pub(super) descriptor: Arc<Descriptor>,
    network: Network,
    pub(super) core: Core,
    ends: BTreeMap<LinkId, End<A>>,
    peers: BTreeMap<LinkId, NodeId>,
    pub(super) store: Store,
    replays: ReplayCache,
    rng: ChaCha20Rng,
    pub(super) jobs: Jobs,
    todo: VecDeque<Todo>,
    touched: BTreeSet<LinkId>,
    wakes: BTreeMap<Machine, Time>,
    effects: Vec<Effect>,
    pub(super) adversary: Option<Box<dyn Adversary>>,
    pub(super) transcript: Option<Transcript>,
    pub(super) closed: Vec<ClosedLink>,
    /// Own circuits that were begun, and their hops.
    pub(super) paths: BTreeMap<OriginId, Vec<NodeId>>,
    /// Own circuits that requests were sent through, in order.
    pub(super) asked: Vec<OriginId>,
    pub(super) alive: bool,
    /// Bytes that a line of this node carries in a second.
    pub(super) rate: Option<u32>,
}

enum Todo {
    Step(Step),
    Core(CoreInput),
}

impl<A: Aead> Node<A> {
    pub(super) fn new(
        core: Core,
        secrets: Arc<NodeSecrets>,
        descriptor: Arc<Descriptor>,
        network: Network,
        rng: ChaCha20Rng,
    ) -> Self {
        Self {
            secrets,
            descriptor,
            network,
            core,
            ends: BTreeMap::new(),
            peers: BTreeMap::new(),
            store: Store::default(),
            replays: ReplayCache::new(),
            rng,
            jobs: Jobs::default(),
            todo: VecDeque::new(),
            touched: BTreeSet::new(),
            wakes: BTreeMap::new(),
            effects: Vec::new(),
            adversary: None,
            transcript: None,
            closed: Vec::new(),
            paths: BTreeMap::new(),
            asked: Vec::new(),
            alive: true,
            rate: None,
        }
    }

    /// Its links that are up, with their peers.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        let up = |(link, end): (&LinkId, &End<A>)| end.up.then_some(*link);
        self.ends
            .iter()
            .filter_map(up)
            .filter_map(|link| Some((link, *self.peers.get(&link)?)))
    }

    /// All links that lead or led to a node.
    #[must_use]
    pub fn links_to(&self, node: &NodeId) -> Vec<LinkId> {
        let to = self.peers.iter().filter(|(_, peer)| *peer == node);
        to.map(|(link, _)| *link).collect()
    }

    pub(super) fn input(&mut self, now: Time, input: Input) -> Vec<Effect> {
        match input {
            Input::Connected { link, target } => self.connected(now, link, &target),
            Input::Accepted { link } => self.accepted(link),
            Input::DialFailed(node) => self.todo.push_back(Todo::Core(CoreInput::DialFailed(node))),
            Input::Bytes { link, bytes } => self.bytes(now, link, bytes),
            Input::Hangup { link } => self.hung_up(link),
            Input::Store(ticket, answer) => {
                self.todo.push_back(Todo::Core(CoreInput::Store(ticket, answer)));
            }
            Input::Client(command) => self.todo.push_back(Todo::Core(CoreInput::Client(command))),
            Input::Wake(machine) => self.wake(now, machine),
        }
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    /// Takes what the world has to hear after the node was touched from outside.
    pub(super) fn start(&mut self, now: Time) -> Vec<Effect> {
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    fn connected(&mut self, now: Time, link: LinkId, target: &DialTarget) {
        let remote = Remote {
            node: target.node,
            link_key: target.link_key,
        };
        let (rng, mut out) = (ChaCha20Rng::from_rng(&mut self.rng), BytesMut::new());
        let (network, best) = (self.network, best_cipher(self.secrets.id()));
        let started = Initiator::start(&self.secrets, remote, network, best, wall(now), rng, &mut out);
        let phase = match started {
            Ok(initiator) => Phase::Initiator(Box::new(initiator)),
            Err(_) => Phase::Mute,
        };
        self.ends.insert(
            link,
            End {
                phase,
                dialled: Some(target.node),
                up: false,
                free: Time(0),
            },
        );
        self.say(link, out);
    }

    fn accepted(&mut self, link: LinkId) {
        let rng = ChaCha20Rng::from_rng(&mut self.rng);
        let best = best_cipher(self.secrets.id());
        let responder = Responder::new(&self.secrets, self.network, best, rng);
        let phase = Phase::Responder(Box::new(responder));
        self.ends.insert(
            link,
            End {
                phase,
                dialled: None,
                up: false,
                free: Time(0),
            },
        );
    }

    /// Handshake bytes for the line.
    fn say(&mut self, link: LinkId, bytes: BytesMut) {
        if bytes.is_empty() {
            return;
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.handshake(link, false, &bytes);
        }
        let takes = Duration::ZERO;
        self.effects.push(Effect::Bytes { link, bytes, takes });
    }

    fn bytes(&mut self, now: Time, link: LinkId, bytes: BytesMut) {
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        let (phase, mut out) = (std::mem::replace(&mut end.phase, Phase::Mute), BytesMut::new());
        if let (Some(transcript), Phase::Initiator(_) | Phase::Responder(_)) = (&mut self.transcript, &phase)
        {
            transcript.handshake(link, true, &bytes);
        }
        let phase = match phase {
            Phase::Mute => Phase::Mute,
            Phase::Initiator(initiator) => match initiator.receive(&bytes, &mut out) {
                Ok(Handshake::More(initiator)) => Phase::Initiator(Box::new(initiator)),
                Ok(Handshake::Done(established)) => self.link(now, link, established),
                Err(_) => Phase::Mute,
            },
            Phase::Responder(responder) => {
                match responder.receive(&bytes, wall(now), &mut self.replays, &mut out) {
                    Ok(Handshake::More(responder)) => Phase::Responder(Box::new(responder)),
                    Ok(Handshake::Done(established)) => self.link(now, link, established),
                    Err(_) => Phase::Mute,
                }
            }
            Phase::Link(mut up) => {
                up.buffer().extend_from_slice(&bytes);
                Phase::Link(up)
            }
        };
        if let Some(end) = self.ends.get_mut(&link) {
            end.phase = phase;
        }
        self.say(link, out);
        self.with_link(link, |up| up.received(now));
    }

    fn link(&mut self, now: Time, id: LinkId, established: Established<A>) -> Phase<A> {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let config = LinkConfig {
            id,
            secrets: Arc::clone(&self.secrets),
            descriptor: Arc::clone(&self.descriptor),
            network: self.network,
            dialled: self.ends.get(&id).and_then(|end| end.dialled),
            remote: None,
            seed,
        };
        Phase::Link(Box::new(Link::new(now, established, config)))
    }

    fn hung_up(&mut self, link: LinkId) {
        let linked = self.with_link(link, Link::disconnected).is_some();
        if !linked && let Some(end) = self.ends.remove(&link) {
            let failed = end.dialled.map(|node| Todo::Core(CoreInput::DialFailed(node)));
            self.todo.extend(failed);
        }
    }

    fn wake(&mut self, now: Time, machine: Machine) {
        self.wakes.remove(&machine);
        match machine {
            Machine::Core => {
                if self.core.poll_timeout().is_some_and(|due| due <= now) {
                    self.core.handle_timeout(now, wall(now));
                    self.drain_core(now);
                }
            }
            Machine::Link(link) => {
                self.with_link(link, |up| {
                    if up.poll_timeout().is_some_and(|due| due <= now) {
                        up.handle_timeout(now);
                    }
                });
                self.touched.insert(link);
            }
            Machine::Job(job) => {
                let commands = self.jobs.wake(now, job);
                self.todo.extend(
                    commands
                        .into_iter()
                        .map(|each| Todo::Core(CoreInput::Client(each))),
                );
            }
        }
    }

    /// Gives a link machine something, and passes on what comes of it.
    fn with_link<R>(&mut self, id: LinkId, run: impl FnOnce(&mut Link<A>) -> R) -> Option<R> {
        let Some(End {
            phase: Phase::Link(link),
            ..
        }) = self.ends.get_mut(&id)
        else {
            return None;
        };
        let result = watch::during(id, &mut self.adversary, self.transcript.as_mut(), || run(link));
        let outputs: Vec<LinkOutput> = std::iter::from_fn(|| link.poll_output()).collect();
        self.touched.insert(id);
        for output in outputs {
            self.step(match output {
                LinkOutput::Core(event) => Step::Event(id, event),
                LinkOutput::Link(to, command) => Step::Command {
                    from: Some(id),
                    to,
                    command,
                },
            });
        }
        Some(result)
    }

    /// Something passes between two machines.
    fn step(&mut self, step: Step) {
        let steps = match &mut self.adversary {
            Some(adversary) => adversary.pass(step),
            None => vec![step],
        };
        for step in steps {
            if let Some(transcript) = &mut self.transcript {
                transcript.step(&step);
            }
            self.todo.push_back(Todo::Step(step));
        }
    }

    fn perform(&mut self, now: Time, todo: Todo) {
        match todo {
            Todo::Core(input) => self.core_input(now, input),
            Todo::Step(Step::Event(link, event)) => {
                if let LinkEvent::Up { peer, .. } = &event {
                    self.peers.insert(link, peer.identity);
                    if let Some(end) = self.ends.get_mut(&link) {
                        end.up = true;
                    }
                }
                self.core_input(now, CoreInput::Link(link, event));
            }
            Todo::Step(Step::Command { from, to, command }) => {
                match &command {
                    LinkCommand::OpenOrigin { origin, path } => {
                        let path = path.iter().map(|hop| hop.identity).collect();
                        self.paths.insert(*origin, path);
                    }
                    LinkCommand::OriginSend { origin, .. } => self.asked.push(*origin),
                    _ => {}
                }
                let taken = self.with_link(to, |link| link.command(now, command));
                if let (None, Some(from)) = (taken, from) {
                    self.with_link(from, |link| link.undeliverable(now, to));
                }
            }
        }
    }

    fn core_input(&mut self, now: Time, input: CoreInput) {
        self.core.input(now, wall(now), input);
        self.drain_core(now);
    }

    fn drain_core(&mut self, now: Time) {
        while let Some(output) = self.core.poll_output() {
            match output {
                CoreOutput::Link(to, command) => self.step(Step::Command {
                    from: None,
                    to,
                    command,
                }),
                CoreOutput::Dial(target) => self.effects.push(Effect::Dial(target)),
                CoreOutput::Store(ticket, question) => {
                    if let Some(transcript) = &mut self.transcript {
                        transcript.asked(ticket, &question);
                    }
                    let answer = self.store.ask(question);
                    if let Some(transcript) = &mut self.transcript {
                        transcript.answered(ticket, &answer);
                    }
                    self.effects.push(Effect::Store(ticket, answer));
                }
                CoreOutput::Client(event) => {
                    let commands = self.jobs.event(now, event);
                    self.todo.extend(
                        commands
                            .into_iter()
                            .map(|each| Todo::Core(CoreInput::Client(each))),
                    );
                }
            }
        }
    }

    /// Moves everything until nothing moves, and asks to be woken.
    fn settle(&mut self, now: Time) {
        loop {
            while let Some(todo) = self.todo.pop_front() {
                self.perform(now, todo);
            }
            if !self.reap() {
                break;
            }
        }
        for link in std::mem::take(&mut self.touched) {
            let busy = self.transmit(now, link);
            let due = match self.ends.get(&link).map(|end| &end.phase) {
                Some(Phase::Link(up)) => up.poll_timeout().into_iter().chain(busy).min(),
                _ => None,
            };
            self.want(now, Machine::Link(link), due);
        }
        self.touched.clear();
        self.want(now, Machine::Core, self.core.poll_timeout());
        for (job, due) in self.jobs.timeouts() {
            self.want(now, Machine::Job(job), Some(due));
        }
    }

    /// Gives a line what it takes now. Gives the time when it takes more, if that is later.
    fn transmit(&mut self, now: Time, link: LinkId) -> Option<Time> {
        let batch = if self.rate.is_some() { SOCKET } else { BATCH };
        while let Some(free) = self.ends.get(&link).map(|end| end.free) {
            if free > now {
                return Some(free);
            }
            let bytes = self
                .with_link(link, |up| up.poll_transmit(now, batch))
                .flatten()?;
            let takes = self.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_secs(bytes.len() as u64) / rate
            });
            if let Some(end) = self.ends.get_mut(&link) {
                end.free = now + takes;
            }
            self.effects.push(Effect::Bytes { link, bytes, takes });
        }
        None
    }

    /// Removes links that are over; whether there were any.
    fn reap(&mut self) -> bool {
        let mut over = Vec::new();
        for link in &self.touched {
            if let Some(End {
                phase: Phase::Link(up),
                ..
            }) = self.ends.get(link)
                && let Some(reason) = up.close_reason()
            {
                over.push((*link, reason));
            }
        }
        for (link, reason) in &over {
            let Some(end) = self.ends.remove(link) else {
                continue;
            };
            self.closed.push(ClosedLink {
                link: *link,
                peer: self.peers.get(link).copied(),
                reason: *reason,
            });
            self.touched.remove(link);
            self.effects.push(Effect::Hangup { link: *link });
            let input = match (end.up, end.dialled) {
                (true, _) => Some(CoreInput::LinkDown {
                    link: *link,
                    misbehaved: reason.misbehaved(),
                }),
                (false, dialled) => dialled.map(CoreInput::DialFailed),
            };
            self.todo.extend(input.map(Todo::Core));
        }
        !over.is_empty()
    }

    fn want(&mut self, now: Time, machine: Machine, due: Option<Time>) {
        let Some(due) = due.map(|due| due.max(now)) else {
            return;
        };
        // An earlier wake-up looks again; one that is moved with each packet would fill the schedule.
        if self.wakes.get(&machine).is_none_or(|known| due < *known) {
            self.wakes.insert(machine, due);
            self.effects.push(Effect::Wake(machine, due));
        }
    }

    /// Whether a wake-up at this time is still wanted.
    pub(super) fn awaits(&self, machine: Machine, time: Time) -> bool {
        self.wakes.get(&machine) == Some(&time)
    }
}
