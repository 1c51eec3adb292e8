//! Circuits over a network of four nodes, with whatever a relay may do to what passes.
//!
//! The cipher is [`NoSecurity`], so that changed packets get as deep as a colluding exit could bring them. Even then a client
//! sees only answers to its questions, and only blocks that verify.

use ::core::time::Duration;
use warren_proto::{
    ids::{CircuitAddr, OriginId},
    link::api::LinkCommand,
    wire::ExitResult,
};

use super::{
    messages,
    net::{self, Net},
    pause,
};
use crate::{Input, Seed, cipher::NoSecurity};

/// Longer than any circuit stays without packets.
const IDLE: Duration = Duration::from_secs(31 * 60);

/// Operations of clients, exits, relays and wires.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut net: Net<NoSecurity> = Net::new(4);
    for (a, b) in [(0, 1), (0, 2), (1, 2), (1, 3), (3, 2)] {
        net.connect(a, b);
    }
    net.run();
    let mut honest = true;
    while let Some(op) = input.op() {
        honest &= step(&mut net, op, &mut input);
    }
    net.run();
    if honest {
        assert!(
            net.nodes.iter().all(|node| node.closed.is_empty()),
            "a link died of honest traffic"
        );
    }
    // Everybody lets go; then nothing may be left of any circuit.
    for node in 0..net.nodes.len() {
        let origins: Vec<OriginId> = net.nodes[node].origins.keys().copied().collect();
        origins
            .into_iter()
            .for_each(|origin| net.close_origin(node, origin));
    }
    net.run();
    if honest {
        assert!(
            net.nodes.iter().all(|node| node.exits.is_empty()),
            "an exit still waits for a circuit that is closed"
        );
    } else if net.nodes.iter().any(|node| !node.exits.is_empty()) {
        net.advance(IDLE);
        assert!(
            net.nodes.iter().all(|node| node.exits.is_empty()),
            "a circuit that never ends"
        );
    }
}

/// Carries one operation out. Whether all nodes kept to the protocol.
fn step(net: &mut Net<NoSecurity>, op: u8, input: &mut Input<'_>) -> bool {
    let node = usize::from(op >> 4) % net.nodes.len();
    match op % 16 {
        0 | 1 => {
            let hops = 1 + input.below(4);
            let path: Vec<usize> = (0..hops).map(|_| input.below(net.nodes.len())).collect();
            net.open(node, &path);
        }
        2..=4 => {
            let origins: Vec<OriginId> = net.nodes[node].origins.keys().copied().collect();
            let request = messages::exit_request(input);
            if let Some(origin) = input.pick(&origins)
                && net.nodes[node].origins[&origin].ready
            {
                net.ask(node, origin, request);
            }
        }
        5 | 6 => {
            let exits = net::exits(&net.nodes[node]);
            if let Some(at) = input.pick(&exits) {
                net.answer(
                    node,
                    at,
                    [ExitResult::Busy, ExitResult::Failed][input.below(2)].clone(),
                );
            }
        }
        7 => {
            // An answer that the question may not be able to have.
            let exits = net::exits(&net.nodes[node]);
            let result = messages::exit_result(input);
            if let Some(at) = input.pick(&exits) {
                net.answer(node, at, result);
                return false;
            }
        }
        8 => {
            let origins: Vec<OriginId> = net.nodes[node].origins.keys().copied().collect();
            if let Some(origin) = input.pick(&origins) {
                net.close_origin(node, origin);
            }
        }
        9 | 10 => net.run(),
        11 => {
            if let Some((node, link)) = net.any_link(input) {
                net.transmit(node, link, usize::from(input.u16()));
                net.deliver(node, link, usize::from(input.u16()));
            }
        }
        12 => {
            let time = pause(input);
            // Circuits and links may well give up meanwhile.
            net.advance(time);
        }
        13 => {
            if let Some((node, link)) = net.any_link(input)
                && input.u8() > 128
            {
                net.cut(node, link);
                return false;
            }
        }
        14 => {
            if let Some((node, link)) = net.any_link(input) {
                let command = forged(input);
                net.command(node, link, command);
                return false;
            }
        }
        _ => {
            if let Some((node, link)) = net.any_link(input)
                && let Some(end) = net.nodes[node].links.get_mut(&link)
            {
                return !input.flip(&mut end.wire, 2);
            }
        }
    }
    true
}

/// What a hostile relay tells one of its own links.
fn forged(input: &mut Input<'_>) -> LinkCommand {
    let circuit = net::circuit(input);
    match input.u8() % 6 {
        0 => LinkCommand::Destroy(circuit),
        1 => {
            let (size, body) = messages::packet(input);
            LinkCommand::Forward { circuit, size, body }
        }
        2 => {
            let (size, body) = messages::packet(input);
            LinkCommand::Backward { circuit, size, body }
        }
        3 => LinkCommand::ExtendFailed(circuit),
        4 => {
            let from = CircuitAddr {
                link: warren_proto::ids::LinkId(u64::from(input.u8() % 16)),
                circuit,
            };
            LinkCommand::OpenThrough {
                from,
                create: messages::create(input),
            }
        }
        _ => {
            let next = CircuitAddr {
                link: warren_proto::ids::LinkId(u64::from(input.u8() % 16)),
                circuit,
            };
            LinkCommand::Extended {
                circuit,
                next,
                created: messages::created(input),
            }
        }
    }
}

/// Circuits of each length, used, closed, cut and forged.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let three = |name: &str| Seed::new(name).u8(0).u8(2).u8(1).u8(2).u8(3).u8(9);
    let asked = |name: &str| three(name).u8(2).u8(1).u8(0).u8(4).u8(3).u8(0).u8(9);
    vec![
        Seed::new("one-hop")
            .u8(0)
            .u8(0)
            .u8(1)
            .u8(9)
            .u8(2)
            .u8(1)
            .u8(1)
            .u8(4)
            .u8(0)
            .u8(9)
            .u8(0x15)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(8)
            .u8(0),
        asked("three-hops").u8(0x35).u8(0).u8(1).u8(9).u8(8).u8(0).u8(9),
        asked("found").u8(0x37).u8(0).u8(4).u8(0).u8(9),
        asked("wrong-block").u8(0x37).u8(0).u8(6).u8(0).u8(9),
        asked("cut").u8(13).u8(3).u8(200).u8(9),
        asked("destroyed").u8(14).u8(2).u8(1).u8(0).u8(9),
        asked("forged-forward")
            .u8(14)
            .u8(2)
            .u8(1)
            .u8(1)
            .u8(0)
            .u8(4)
            .u8(0)
            .u8(9),
        asked("forged-backward")
            .u8(14)
            .u8(1)
            .u8(1)
            .u8(2)
            .u8(0)
            .u8(3)
            .u8(1)
            .u8(1)
            .u8(9),
        three("no-way").u8(0).u8(2).u8(1).u8(4).u8(2).u8(9),
        asked("idle").u8(12).u8(190).u8(3).u8(12).u8(190).u8(3),
        three("broken")
            .u8(2)
            .u8(1)
            .u8(0)
            .u8(4)
            .u8(3)
            .u8(0)
            .u8(11)
            .u8(0)
            .u16(9000)
            .u16(100)
            .u8(15)
            .u8(0)
            .u16(20)
            .u8(9)
            .u16(0)
            .u8(0)
            .u8(9),
    ]
}
