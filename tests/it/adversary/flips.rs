//! A relay that changes one bit of a packet, or the order of packets, ends that circuit and no more: the next honest hop sees it,
//! and the request goes out through another circuit.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::Block;
use warren_proto::{
    crypto::Portable,
    geometry::PacketSize,
    ids::{CircuitAddr, OriginId},
};
use warren_tests::{
    adversary::{Disorder, Flip, Flipper, HEADER, Honest, Note, Noted, Notes, Shuffler, Tally},
    net::{BlockEnd, BlockOp, Net, Spec},
    watch::Watched,
};

use crate::network::block;

const NODES: usize = 9;
const CLIENT: usize = 0;
/// For an entry that failed to be tried again.
const RECOVERY: Duration = Duration::from_secs(4);
/// For links that were closed to come back.
const RECONNECTION: Duration = Duration::from_secs(60);

/// Which way the changed packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Forward,
    Backward,
}

/// A change: where on the path it is made, and what is changed.
#[derive(Clone, Copy, Debug)]
struct Case {
    size: PacketSize,
    way: Way,
    /// Place of the hostile hop: 0 is the entry.
    place: usize,
    byte: usize,
    bit: u8,
}

/// All places at which a packet of each size can be changed on its way.
fn places() -> Vec<(PacketSize, Way, usize)> {
    let mut places = Vec::new();
    for size in [PacketSize::Control, PacketSize::Block] {
        // What an exit does to a request is its own affair; what it does to an answer that it has sealed is not.
        places.extend((0..2).map(|place| (size, Way::Forward, place)));
        places.extend((0..3).map(|place| (size, Way::Backward, place)));
    }
    places
}

/// A network whose every node flips a bit when it is told to.
struct Scene {
    net: Net<Watched<Portable>>,
    flippers: Vec<Flipper>,
    notes: Vec<Notes>,
    blocks: u64,
}

/// What came of a case.
struct Outcome {
    origin: OriginId,
    path: Vec<usize>,
    /// Numbers of the notes of all nodes when the packet was changed.
    marks: Vec<usize>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        // Without spare circuits nothing but the request is under way.
        let mut net: Net<Watched<Portable>> = Net::started(Spec {
            spares: 0,
            ..Spec::new(seed, NODES)
        });
        let (mut flippers, mut notes) = (Vec::new(), Vec::new());
        for node in 0..NODES {
            flippers.push(Flipper::new());
            notes.push(Notes::new());
            net.corrupt(node, Noted::new(notes[node].clone(), flippers[node].clone()));
        }
        Self {
            net,
            flippers,
            notes,
            blocks: seed * 10_000,
        }
    }

    /// Begins a fetch or an insert, up to the moment when the request is on its way to the entry.
    fn begin(&mut self, fetch: bool) -> (BlockOp, Block, OriginId) {
        self.blocks += 1;
        let block = block(self.blocks);
        let before = self.net.asked(CLIENT).len();
        let job = self.net.open_job(CLIENT);
        let op = if fetch {
            // Everybody has it, so that any exit answers by itself.
            (1..NODES).for_each(|node| self.net.store_mut(node).put(block.clone()));
            self.net.begin_fetch(CLIENT, job, 1, block.id())
        } else {
            self.net.begin_insert(CLIENT, job, 1, block.clone(), 1)
        };
        let sent = self
            .net
            .run_until(RECONNECTION, |net| net.asked(CLIENT).len() > before);
        assert!(sent, "a circuit comes about");
        (op, block, self.net.asked(CLIENT)[before])
    }

    fn end(&mut self, op: BlockOp, block: &Block) {
        match self.net.wait(op) {
            BlockEnd::Fetched(Ok(got)) => assert_eq!(got, *block),
            BlockEnd::Inserted(Ok(copies)) => assert!(copies > 0),
            failed => panic!("{failed:?}"),
        }
        self.net.close_job(CLIENT, op.job);
    }

    fn run(&mut self, case: Case) -> Outcome {
        // Fetches send a small packet and get a large one; inserts the other way round.
        let fetch = (case.size == PacketSize::Control) == (case.way == Way::Forward);
        let (op, block, origin) = self.begin(fetch);
        let path = self.net.path(CLIENT, origin);
        let marks = self.notes.iter().map(Notes::len).collect();
        let link = self.net.link_between(path[case.place], self.target(case, &path));
        self.flippers[path[case.place]].order(Flip {
            link: link.unwrap(),
            size: case.size,
            byte: case.byte,
            bit: case.bit,
        });
        self.end(op, &block);
        assert!(self.flippers[path[case.place]].is_done(), "{case:?}");
        assert!(
            self.net.asked(CLIENT).last() != Some(&origin),
            "another circuit: {case:?}"
        );
        Outcome { origin, path, marks }
    }

    /// The node that gets the changed packet.
    fn target(&self, case: Case, path: &[usize]) -> usize {
        match (case.way, case.place) {
            (Way::Forward, place) => path[place + 1],
            (Way::Backward, 0) => CLIENT,
            (Way::Backward, place) => path[place - 1],
        }
    }

    fn since(&self, node: usize, outcome: &Outcome) -> Vec<Note> {
        self.notes[node].since(outcome.marks[node])
    }

    /// The circuit of the changed packet, as the node that got it names it.
    fn victim(&self, case: Case, path: &[usize]) -> CircuitAddr {
        let (hostile, next) = (path[case.place], self.target(case, path));
        CircuitAddr {
            link: self.net.link_between(next, hostile).unwrap(),
            circuit: self.flippers[hostile].victim().unwrap(),
        }
    }

    /// Only the circuit ended, at the first honest node behind the change.
    fn check(&self, case: Case, outcome: &Outcome) {
        let client = self.since(CLIENT, outcome);
        let entry = self.net.descriptor(outcome.path[0]).identity;
        let blamed = (case.way == Way::Backward && case.place == 0).then_some(entry);
        assert!(client.contains(&Note::Closed(outcome.origin, blamed)), "{case:?}");
        assert!(!client.contains(&Note::Reply(outcome.origin)), "{case:?}");
        if case.way == Way::Forward {
            let next = self.target(case, &outcome.path);
            let (victim, seen) = (self.victim(case, &outcome.path), self.since(next, outcome));
            assert!(!seen.contains(&Note::Asked(victim)), "{case:?}");
            if case.place == 0 {
                let beyond = self.notes[next].next_of(victim).expect("a circuit that goes on");
                assert!(!seen.contains(&Note::Forward(beyond)), "{case:?}");
                assert!(seen.contains(&Note::Destroy(beyond)), "{case:?}");
            }
        }
        // Nobody is to blame for what passed through.
        let blamed = |node| self.net.closed(node).iter().any(|link| link.reason.misbehaved());
        assert!(!(0..NODES).any(blamed), "{case:?}");
    }
}

/// Bytes of a body to change: its first ones, which are the header of whatever is inside; those where the layers' tags and the
/// zeros behind them are; and some others.
fn sampled(size: PacketSize, rng: &mut ChaCha20Rng) -> Vec<usize> {
    let body = size.body();
    let edge = (body - 84..body).step_by(5);
    let inside = (0..6).map(|_| 16 + rng.next_u32() as usize % (body - 100));
    (0..16).chain(edge).chain(inside).collect()
}

#[test]
fn a_flipped_bit_ends_the_circuit_at_the_next_honest_hop() {
    let mut rng = ChaCha20Rng::seed_from_u64(40);
    let mut scene = Scene::new(41);
    for (size, way, place) in places() {
        for byte in sampled(size, &mut rng) {
            let case = Case {
                size,
                way,
                place,
                byte: HEADER + byte,
                bit: (rng.next_u32() % 8) as u8,
            };
            let outcome = scene.run(case);
            scene.check(case, &outcome);
            scene.net.run_for(RECOVERY);
        }
    }
}

#[test]
fn a_flipped_bit_of_a_frames_header_is_the_neighbours_offence() {
    let mut rng = ChaCha20Rng::seed_from_u64(42);
    let mut scene = Scene::new(43);
    for (size, way, place) in places() {
        // Type, length, circuit.
        for byte in [
            0,
            1 + rng.next_u32() as usize % 3,
            4 + rng.next_u32() as usize % 4,
        ] {
            let case = Case {
                size,
                way,
                place,
                byte,
                bit: (rng.next_u32() % 8) as u8,
            };
            let outcome = scene.run(case);
            let (hostile, next) = (outcome.path[place], scene.target(case, &outcome.path));
            let hostile = scene.net.descriptor(hostile).identity;
            let closed = scene.net.closed(next).iter();
            let caught = closed.filter(|link| link.peer == Some(hostile) && link.reason.misbehaved());
            // Another circuit's number may be one that is over; then the packet is lost, and its circuit with it.
            assert!(caught.count() > 0 || byte >= 4, "{case:?}");
            scene.net.run_for(RECONNECTION);
            if (0..NODES).any(|node| scene.net.status(node).banned_nodes > 0) {
                scene = Scene::new(u64::from(rng.next_u32()));
            }
        }
    }
}

#[test]
fn packets_out_of_order_end_the_circuit() {
    for disorder in [Disorder::Repeat, Disorder::Omit, Disorder::Swap] {
        let mut net: Net<Watched<Portable>> = Net::started(Spec::new(44, NODES));
        let tally = Tally::default();
        let notes = Notes::new();
        net.corrupt(CLIENT, Noted::new(notes.clone(), Honest));
        // Half of the nodes that can be relays.
        for node in (1..NODES).step_by(2) {
            net.corrupt(node, Shuffler::new(disorder, PacketSize::Block, tally.clone()));
        }
        let blocks: Vec<Block> = (0..16).map(|number| block(500 + number)).collect();
        for block in &blocks {
            (1..NODES).for_each(|node| net.store_mut(node).put(block.clone()));
        }
        // Several on their way at once, so that there is something to swap.
        let job = net.open_job(CLIENT);
        let fetches = (1..).zip(&blocks);
        let fetches: Vec<BlockOp> = fetches
            .map(|(op, block)| net.begin_fetch(CLIENT, job, op, block.id()))
            .collect();
        for (op, block) in fetches.into_iter().zip(&blocks) {
            match net.wait(op) {
                BlockEnd::Fetched(Ok(got)) => assert_eq!(got, *block),
                failed => panic!("{disorder:?}: {failed:?}"),
            }
        }
        let ended = notes
            .since(0)
            .iter()
            .filter(|note| matches!(note, Note::Closed(..)))
            .count();
        assert!(tally.count() > 0 && ended > 0, "{disorder:?}");
    }
}
