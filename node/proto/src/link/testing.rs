//! A network of link machines in memory, with a clock that jumps to the next wake-up.
//!
//! Nodes have a stand-in for the core that does what a core must do for circuits: it joins extensions to links, and answers
//! requests as an exit. Bytes are delivered in random pieces. A relay can be made hostile: a hook sees, and may change, all that
//! passes between two links of one node.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BLOCK_SIZE, Block, BlockKind, NodeId};

use super::{
    CloseReason, Established, Link, LinkConfig,
    api::{LinkCommand, LinkEvent, LinkOutput},
    frames::{FrameReceiver, FrameSender},
    record::{Opener, Sealer},
};
use crate::{
    circuit::testing::identity,
    crypto::{Cipher, Portable},
    descriptor::{Descriptor, NodeSecrets, Services, Statement},
    ids::{CircuitAddr, LinkId, OriginId},
    network::Network,
    time::Time,
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult},
};

pub(crate) fn network() -> Network {
    "test".parse().unwrap()
}

/// A block whose content is told by a number.
pub(crate) fn block(number: u8) -> Block {
    Block::identify(BlockKind::Content, Bytes::from(vec![number; BLOCK_SIZE])).unwrap()
}

pub(crate) fn fetch(id: u32, block: &Block) -> ExitRequest {
    ExitRequest {
        id,
        op: ExitOp::Fetch {
            block: block.id(),
            branches: 3,
            wait: false,
        },
    }
}

/// The secrets and descriptor of node number `seed`.
pub(crate) fn node(seed: u8, services: Services) -> (Arc<NodeSecrets>, Arc<Descriptor>) {
    let secrets = NodeSecrets::new(identity(seed));
    let statement = Statement {
        services,
        published: 1,
        ..secrets.statement()
    };
    let descriptor = secrets.sign(statement, &network());
    (Arc::new(secrets), Arc::new(descriptor))
}

pub(crate) type TestLink = Link<Portable>;

/// One end of a link as a handshake would leave it; `send` and `receive` name the keys.
pub(crate) fn established(
    send: u8,
    receive: u8,
    peer_link_key: [u8; 32],
    dialler: bool,
) -> Established<Portable> {
    // Both, by turns.
    let cipher = if (send ^ receive) & 1 == 0 {
        Cipher::ChaCha20Poly1305
    } else {
        Cipher::Aes256Gcm
    };
    Established {
        sender: FrameSender::new(Sealer::new(cipher, &[send; 32])),
        receiver: FrameReceiver::new(Opener::new(cipher, &[receive; 32], BytesMut::new()), network()),
        peer_link_key,
        dialler,
        handshake_hash: [0; 32],
        version: 1,
        cipher,
    }
}

/// What a relay's hook does with a command that passes between two of its links.
pub(crate) type Hook = Box<dyn FnMut(LinkCommand) -> Vec<LinkCommand>>;
/// What an exit answers; `None` for silence.
pub(crate) type Exit = Box<dyn FnMut(&ExitRequest) -> Option<ExitReply>>;

pub(crate) struct Node {
    pub(crate) descriptor: Arc<Descriptor>,
    secrets: Arc<NodeSecrets>,
    links: BTreeMap<LinkId, End>,
    /// What links told the core, except what the stand-in dealt with.
    pub(crate) events: Vec<(LinkId, LinkEvent)>,
    pub(crate) closed: BTreeMap<LinkId, CloseReason>,
    pub(crate) hook: Option<Hook>,
    pub(crate) exit: Exit,
}

struct End {
    link: TestLink,
    peer: NodeId,
    /// Node and link at the other end.
    other: (usize, LinkId),
}

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    rng: ChaCha20Rng,
    next_link: u64,
    /// Whether sockets take bytes.
    pub(crate) flowing: bool,
}

impl Net {
    /// `count` nodes that offer everything, not linked.
    pub(crate) fn new(count: u8) -> Self {
        let nodes = (0..count)
            .map(|seed| {
                let (secrets, descriptor) = node(seed, Services::ALL);
                Node {
                    descriptor,
                    secrets,
                    links: BTreeMap::new(),
                    events: Vec::new(),
                    closed: BTreeMap::new(),
                    hook: None,
                    exit: Box::new(|_| None),
                }
            })
            .collect();
        Self {
            now: Time(1_000_000),
            nodes,
            rng: ChaCha20Rng::from_seed([42; 32]),
            next_link: 1,
            flowing: true,
        }
    }

    /// A chain of `count` nodes, each linked to the next, and the links up.
    pub(crate) fn chain(count: u8) -> Self {
        let mut net = Self::new(count);
        (1..usize::from(count)).for_each(|node| net.connect(node - 1, node));
        net.run();
        net
    }

    /// Links two nodes; `a` dials.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let ids = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        for (end, (me, other)) in [(a, b), (b, a)].into_iter().enumerate() {
            let (send, receive) = if end == 0 { (1, 2) } else { (2, 1) };
            let config = self.config(me, ids[end], (end == 0).then_some(other));
            let link_key = self.nodes[other].descriptor.link_key;
            let link = Link::new(self.now, established(send, receive, link_key, end == 0), config);
            let peer = self.nodes[other].descriptor.identity;
            self.nodes[me].links.insert(
                ids[end],
                End {
                    link,
                    peer,
                    other: (other, ids[1 - end]),
                },
            );
        }
    }

    fn config(&mut self, me: usize, id: LinkId, dialled: Option<usize>) -> LinkConfig {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        LinkConfig {
            id,
            secrets: Arc::clone(&self.nodes[me].secrets),
            descriptor: Arc::clone(&self.nodes[me].descriptor),
            network: network(),
            dialled: dialled.map(|other| self.nodes[other].descriptor.identity),
            remote: None,
            seed,
        }
    }

    /// The link of `a` to `b`.
    pub(crate) fn link_id(&self, a: usize, b: usize) -> LinkId {
        let found = self.nodes[a].links.iter().find(|(_, end)| end.other.0 == b);
        *found.unwrap_or_else(|| panic!("{a} has no link to {b}")).0
    }

    pub(crate) fn link(&mut self, a: usize, b: usize) -> &mut TestLink {
        let id = self.link_id(a, b);
        &mut self.nodes[a].links.get_mut(&id).unwrap().link
    }

    /// Gives a command to the link of `a` to `b`; call [`Net::run`] afterwards.
    pub(crate) fn command(&mut self, a: usize, b: usize, command: LinkCommand) {
        let now = self.now;
        self.link(a, b).command(now, command);
    }

    /// Starts a circuit from the first node of `path` over the others.
    pub(crate) fn open(&mut self, origin: u64, path: &[usize]) {
        let descriptors = path[1..]
            .iter()
            .map(|hop| Descriptor::clone(&self.nodes[*hop].descriptor))
            .collect();
        self.command(
            path[0],
            path[1],
            LinkCommand::OpenOrigin {
                origin: OriginId(origin),
                path: descriptors,
            },
        );
        self.run();
    }

    pub(crate) fn ask(&mut self, a: usize, b: usize, origin: u64, request: ExitRequest) {
        self.command(
            a,
            b,
            LinkCommand::OriginSend {
                origin: OriginId(origin),
                request,
            },
        );
        self.run();
    }

    /// Ends the link between two nodes as if the connection broke.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.link(a, b).disconnected();
        self.run();
    }

    /// Moves everything until nothing moves.
    pub(crate) fn run(&mut self) {
        while (0..self.nodes.len()).fold(false, |moved, node| {
            self.drain(node) | self.transmit(node) | moved
        }) {}
    }

    /// Lets time pass, from wake-up to wake-up.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        self.run();
        loop {
            let wake = self
                .nodes
                .iter()
                .flat_map(|node| node.links.values())
                .filter_map(|end| end.link.poll_timeout());
            let Some(wake) = wake.min().filter(|wake| *wake <= until) else {
                break;
            };
            self.now = self.now.max(wake);
            let now = self.now;
            for end in self.nodes.iter_mut().flat_map(|node| node.links.values_mut()) {
                if end.link.poll_timeout().is_some_and(|at| at <= now) {
                    end.link.handle_timeout(now);
                }
            }
            self.run();
        }
        self.now = until;
    }

    /// Circuits of all nodes on all links.
    pub(crate) fn circuits(&self) -> usize {
        self.nodes
            .iter()
            .flat_map(|node| node.links.values())
            .map(|end| end.link.circuits())
            .sum()
    }

    /// Takes what the core of `node` was told.
    pub(crate) fn told(&mut self, node: usize) -> Vec<LinkEvent> {
        let told = core::mem::take(&mut self.nodes[node].events);
        told.into_iter().map(|(_, event)| event).collect()
    }

    /// Passes on the outputs of a node's links, and removes links that are over.
    fn drain(&mut self, node: usize) -> bool {
        let now = self.now;
        let mut work = VecDeque::new();
        for (id, end) in &mut self.nodes[node].links {
            while let Some(output) = end.link.poll_output() {
                work.push_back((*id, output));
            }
        }
        let mut moved = !work.is_empty();
        for (id, output) in work {
            match output {
                LinkOutput::Core(event) => self.core(node, id, event),
                LinkOutput::Link(to, command) => {
                    let commands = match self.nodes[node].hook.as_mut() {
                        Some(hook) => hook(command),
                        None => vec![command],
                    };
                    for command in commands {
                        match self.nodes[node].links.get_mut(&to) {
                            Some(end) => end.link.command(now, command),
                            None => {
                                if let Some(end) = self.nodes[node].links.get_mut(&id) {
                                    end.link.undeliverable(now, to);
                                }
                            }
                        }
                    }
                }
            }
        }
        let over: Vec<(LinkId, CloseReason, (usize, LinkId))> = self.nodes[node]
            .links
            .iter_mut()
            .filter_map(|(id, end)| end.link.close_reason().map(|reason| (*id, reason, end.other)))
            .collect();
        for (id, reason, (other, other_id)) in over {
            // Outputs of its end go first.
            let end = self.nodes[node].links.get_mut(&id).unwrap();
            if let Some(output) = end.link.poll_output() {
                let mut rest = vec![output];
                while let Some(output) = end.link.poll_output() {
                    rest.push(output);
                }
                for output in rest {
                    match output {
                        LinkOutput::Core(event) => self.core(node, id, event),
                        LinkOutput::Link(to, command) => {
                            if let Some(end) = self.nodes[node].links.get_mut(&to) {
                                end.link.command(now, command);
                            }
                        }
                    }
                }
            }
            self.nodes[node].links.remove(&id);
            self.nodes[node].closed.insert(id, reason);
            if let Some(end) = self.nodes[other].links.get_mut(&other_id) {
                end.link.disconnected();
            }
            moved = true;
        }
        moved
    }

    /// What the core does for circuits.
    fn core(&mut self, node: usize, link: LinkId, event: LinkEvent) {
        let now = self.now;
        let here = &mut self.nodes[node];
        match event {
            LinkEvent::ExtendWanted {
                circuit,
                target,
                create,
            } => {
                let next = here
                    .links
                    .iter()
                    .find(|(_, end)| end.peer == target.identity)
                    .map(|(id, _)| *id);
                let (to, command) = match next {
                    Some(next) => {
                        let from = CircuitAddr { link, circuit };
                        (next, LinkCommand::OpenThrough { from, create })
                    }
                    None => (link, LinkCommand::ExtendFailed(circuit)),
                };
                here.links.get_mut(&to).unwrap().link.command(now, command);
            }
            LinkEvent::ExitRequest { circuit, request } => {
                if let Some(reply) = (here.exit)(&request) {
                    let command = LinkCommand::ExitReply { circuit, reply };
                    here.links.get_mut(&link).unwrap().link.command(now, command);
                }
                here.events
                    .push((link, LinkEvent::ExitRequest { circuit, request }));
            }
            other => here.events.push((link, other)),
        }
    }

    /// Carries the bytes of a node's links to the other ends, in pieces.
    fn transmit(&mut self, node: usize) -> bool {
        if !self.flowing {
            return false;
        }
        let now = self.now;
        let mut sent = Vec::new();
        for end in self.nodes[node].links.values_mut() {
            if let Some(bytes) = end.link.poll_transmit(now, 64 * 1024) {
                assert!(bytes.len().is_multiple_of(crate::geometry::RECORD_LEN));
                sent.push((end.other, bytes));
            }
        }
        let moved = !sent.is_empty();
        for ((other, id), bytes) in sent {
            let Some(end) = self.nodes[other].links.get_mut(&id) else {
                continue;
            };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let piece = 1 + self.rng.next_u32() as usize % 20_000;
                let (now_comes, later) = rest.split_at(piece.min(rest.len()));
                end.link.buffer().extend_from_slice(now_comes);
                end.link.received(now);
                rest = later;
            }
        }
        moved
    }
}

/// An exit that has some blocks and accepts all others.
pub(crate) fn exit_with(blocks: Vec<Block>) -> Exit {
    Box::new(move |request| {
        let result = match &request.op {
            ExitOp::Fetch { block, .. } => blocks
                .iter()
                .find(|held| held.id() == *block)
                .map_or(ExitResult::NotFound, |held| ExitResult::Found(held.clone())),
            ExitOp::Insert(_) => ExitResult::Stored(5),
        };
        Some(ExitReply {
            id: request.id,
            result,
        })
    })
}
