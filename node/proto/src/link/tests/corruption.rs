//! Relays that change packets: the next honest hop notices, whatever was changed.

use std::{cell::Cell, rc::Rc};

use bytes::BytesMut;

use crate::{
    geometry::PacketSize,
    ids::OriginId,
    link::{
        api::{LinkCommand, LinkEvent},
        testing::{Hook, Net, block, exit_with, fetch},
    },
    wire::{ExitOp, ExitRequest},
};

const HOPS: usize = 3;

/// Which way the changed packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Forward,
    Backward,
}

/// What a hostile relay makes of one packet.
type Change = Rc<dyn Fn(PacketSize, BytesMut) -> Vec<(PacketSize, BytesMut)>>;

/// Acts on the first packet of `size` that goes `way`, then is honest again. `done` tells that it has acted.
fn change(way: Way, size: PacketSize, done: Rc<Cell<bool>>, change: Change) -> Hook {
    Box::new(move |command| match command {
        LinkCommand::Forward {
            circuit,
            size: actual,
            body,
        } if way == Way::Forward && actual == size && !done.replace(true) => change(size, body)
            .into_iter()
            .map(|(size, body)| LinkCommand::Forward { circuit, size, body })
            .collect(),
        LinkCommand::Backward {
            circuit,
            size: actual,
            body,
        } if way == Way::Backward && actual == size && !done.replace(true) => change(size, body)
            .into_iter()
            .map(|(size, body)| LinkCommand::Backward { circuit, size, body })
            .collect(),
        other => vec![other],
    })
}

/// What was left of a circuit after an attack on it.
struct Outcome {
    /// Answers that reached the client.
    replies: usize,
    /// Requests that reached the exit.
    asked: usize,
    /// Packets that the relay behind the hostile one passed on after the attack.
    passed_on: usize,
}

/// A circuit over three hops whose relay number `relay` (1 or 2) changes one packet. The circuit has to die, all of it.
fn attack(relay: usize, way: Way, size: PacketSize, act: Change) -> Outcome {
    let mut net = Net::chain(4);
    net.nodes[HOPS].exit = exit_with(vec![block(1)]);
    net.open(7, &[0, 1, 2, 3]);
    net.told(0);
    let done = Rc::new(Cell::new(false));
    net.nodes[relay].hook = Some(change(way, size, Rc::clone(&done), act));
    let passed_on = Rc::new(Cell::new(0));
    if way == Way::Forward && relay + 1 < HOPS {
        let (done, passed_on) = (Rc::clone(&done), Rc::clone(&passed_on));
        net.nodes[relay + 1].hook = Some(Box::new(move |command| {
            if done.get() && matches!(command, LinkCommand::Forward { .. }) {
                passed_on.set(passed_on.get() + 1);
            }
            vec![command]
        }));
    }
    let request = match (way, size) {
        // The answer to an insert is a control packet, the answer to a fetch a block packet.
        (Way::Forward, PacketSize::Control) | (Way::Backward, PacketSize::Block) => fetch(1, &block(1)),
        (Way::Forward, PacketSize::Block) | (Way::Backward, PacketSize::Control) => ExitRequest {
            id: 1,
            op: ExitOp::Insert(block(2)),
        },
    };
    net.ask(0, 1, 7, request);
    // Something that follows, for attacks that hold a packet back.
    net.ask(0, 1, 7, fetch(2, &block(2)));
    assert!(done.get(), "the attack took place");
    let told = net.told(0);
    let closed = |event: &LinkEvent| {
        matches!(
            event,
            LinkEvent::OriginClosed {
                origin: OriginId(7),
                ..
            }
        )
    };
    assert!(told.iter().any(closed), "{told:?}");
    assert_eq!(net.circuits(), 0, "all of the circuit is gone");
    assert!(
        net.nodes.iter().all(|node| node.closed.is_empty()),
        "no link is closed for it"
    );
    let at_exit = net.told(HOPS);
    Outcome {
        replies: told
            .iter()
            .filter(|event| matches!(event, LinkEvent::OriginReply { .. }))
            .count(),
        asked: at_exit
            .iter()
            .filter(|event| matches!(event, LinkEvent::ExitRequest { .. }))
            .count(),
        passed_on: passed_on.get(),
    }
}

fn everywhere(mut attack_at: impl FnMut(usize, Way, PacketSize)) {
    for relay in 1..HOPS {
        for way in [Way::Forward, Way::Backward] {
            for size in [PacketSize::Control, PacketSize::Block] {
                attack_at(relay, way, size);
            }
        }
    }
}

/// Bits at the start, in the middle, at both edges of each tag, and at both ends of the filler.
fn telling_bits(size: PacketSize) -> impl Iterator<Item = usize> {
    let edges = (1..=HOPS).flat_map(move |layer| [size.layer(layer) - 1, size.layer(layer)]);
    let ends = [0, size.body() / 2, size.layer(5), size.body() - 1];
    ends.into_iter().chain(edges).map(|byte| byte * 8 + byte % 8)
}

#[test]
fn a_flipped_bit_kills_the_circuit() {
    everywhere(|relay, way, size| {
        for bit in telling_bits(size) {
            let flip = move |size, mut body: BytesMut| {
                body[bit / 8] ^= 1 << (bit % 8);
                vec![(size, body)]
            };
            let outcome = attack(relay, way, size, Rc::new(flip));
            assert_eq!(outcome.replies, 0, "bit {bit}");
            assert_eq!(outcome.passed_on, 0, "bit {bit}: the next hop has to notice");
            assert_eq!(outcome.asked, usize::from(way == Way::Backward), "bit {bit}");
        }
    });
}

#[test]
fn a_replayed_packet_kills_the_circuit() {
    everywhere(|relay, way, size| {
        let twice = |size, body: BytesMut| vec![(size, body.clone()), (size, body)];
        assert!(attack(relay, way, size, Rc::new(twice)).asked <= 1);
    });
}

#[test]
fn a_dropped_packet_kills_the_circuit_with_the_next() {
    everywhere(|relay, way, size| {
        let outcome = attack(relay, way, size, Rc::new(|_, _| vec![]));
        assert_eq!(outcome.replies, 0);
    });
}

#[test]
fn a_packet_of_the_other_size_or_a_wrong_length_kills_the_circuit() {
    everywhere(|relay, way, size| {
        let other = if size == PacketSize::Control {
            PacketSize::Block
        } else {
            PacketSize::Control
        };
        let swap = move |_, mut body: BytesMut| {
            body.resize(other.body(), 0);
            vec![(other, body)]
        };
        let outcome = attack(relay, way, size, Rc::new(swap));
        assert_eq!(
            (outcome.replies, outcome.asked),
            (0, usize::from(way == Way::Backward))
        );
    });
}

#[test]
fn reordered_packets_kill_the_circuit() {
    for relay in 1..HOPS {
        let mut net = Net::chain(4);
        net.nodes[HOPS].exit = exit_with(vec![block(1)]);
        net.open(7, &[0, 1, 2, 3]);
        let mut held = None;
        net.nodes[relay].hook = Some(Box::new(move |command| match command {
            LinkCommand::Forward { .. } if held.is_none() => {
                held = Some(command);
                vec![]
            }
            LinkCommand::Forward { .. } => [Some(command), held.take()].into_iter().flatten().collect(),
            other => vec![other],
        }));
        net.ask(0, 1, 7, fetch(1, &block(1)));
        net.ask(0, 1, 7, fetch(2, &block(1)));
        assert_eq!(net.circuits(), 0);
        assert!(
            !net.told(HOPS)
                .iter()
                .any(|event| matches!(event, LinkEvent::ExitRequest { .. }))
        );
    }
}
