//! Two links with the real cipher over a wire that cuts as it likes, and perhaps changes, loses, repeats or swaps bytes.
//!
//! As long as the wire is honest everything arrives, in order. Once it is not, the end that received the change closes the
//! link, and nothing of it gets through.

use ::core::time::Duration;
use warren_proto::{
    crypto::Portable,
    geometry::RECORD_LEN,
    ids::LinkId,
    link::CloseReason,
    link::api::LinkCommand,
    wire::{ExitResult, Frame, Routed},
};

use super::{
    messages,
    net::{self, Net},
    pause,
};
use crate::{Input, Seed};

/// The two ends; link 1 is node 0's.
const LINKS: [(usize, LinkId); 2] = [(0, LinkId(1)), (1, LinkId(2))];

/// Operations on both ends and on the wire.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut net: Net<Portable> = Net::new(2);
    net.connect(0, 1);
    net.run();
    let (mut sent, mut number, mut honest, mut closed) =
        ([Vec::<Routed>::new(), Vec::new()], 0_u64, true, false);
    while let Some(op) = input.op() {
        let (node, link) = LINKS[usize::from(op >> 7)];
        match op % 16 {
            0 | 1 => {
                number += 1;
                let frame = net::routed(&mut input, number);
                if net.nodes[node]
                    .links
                    .get(&link)
                    .is_some_and(|end| end.link.queued_bytes() < 1 << 20)
                {
                    if let Frame::Routed(message) = &frame {
                        sent[node].push(message.clone());
                    }
                    net.command(node, link, LinkCommand::Send(frame));
                }
            }
            2 => {
                let gossip = messages::gossip(&mut input);
                net.command(node, link, LinkCommand::Send(gossip));
            }
            3 => {
                let number = input.u64();
                net.command(node, link, LinkCommand::Send(Frame::Ping(number)));
            }
            4 => net.open(node, &[1 - node]),
            5 => {
                let origins: Vec<_> = net.nodes[node].origins.keys().copied().collect();
                let request = messages::exit_request(&mut input);
                if let Some(origin) = input.pick(&origins) {
                    net.ask(node, origin, request);
                }
            }
            6 => {
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
                let origins: Vec<_> = net.nodes[node].origins.keys().copied().collect();
                if let Some(origin) = input.pick(&origins) {
                    net.close_origin(node, origin);
                }
            }
            8..=10 => {
                net.transmit(node, link, usize::from(input.u16()));
                let len = usize::from(input.u16());
                net.deliver(node, link, len);
            }
            11 => net.run(),
            12 => {
                let time = pause(&mut input);
                // Shorter than what makes a link give up.
                net.sleep(time.min(Duration::from_secs(5)));
                net.run();
            }
            13 if input.u8() > 200 => {
                closed = true;
                net.command(node, link, LinkCommand::Close);
            }
            14 | 15 => honest &= !tamper(&mut net, node, link, &mut input),
            _ => {}
        }
    }
    net.run();
    let reasons: Vec<CloseReason> = net.nodes.iter().flat_map(|node| node.closed.clone()).collect();
    let accused = reasons.iter().any(CloseReason::misbehaved);
    assert!(!(honest && accused), "an honest peer is accused");
    for (node, sent) in sent.iter().enumerate() {
        // Each flow keeps its order.
        for wanted in 0..3 {
            let numbers = |messages: &mut dyn Iterator<Item = &Routed>| -> Vec<u64> {
                messages
                    .filter(|message| flow(message) == wanted)
                    .map(|message| message.id().map_or(0, |id| id.0))
                    .collect()
            };
            let sent = numbers(&mut sent.iter());
            let arrived = numbers(&mut net.nodes[1 - node].routed.iter().map(|(_, message)| message));
            assert!(sent.starts_with(&arrived), "out of order, or invented");
            if honest && !closed {
                assert_eq!(
                    arrived.len(),
                    sent.len(),
                    "lost, though nothing went wrong: {reasons:?}"
                );
            }
        }
    }
    for (node, link) in LINKS {
        net.cut(node, link);
    }
    assert!(
        net.nodes
            .iter()
            .all(|node| node.links.is_empty() && node.origins.is_empty() && node.exits.is_empty())
    );
}

/// Which of the link's three flows of routed messages it belongs to: short ones, blocks, repair.
fn flow(message: &Routed) -> u8 {
    match message {
        Routed::Repair(_) => 2,
        Routed::Found { .. }
        | Routed::Insert { .. }
        | Routed::Collision { .. }
        | Routed::Replicate { .. }
        | Routed::Arrived { .. } => 1,
        _ => 0,
    }
}

/// Changes what is on the wire. Whether it did.
fn tamper(net: &mut Net<Portable>, node: usize, link: LinkId, input: &mut Input<'_>) -> bool {
    let how = input.u8();
    let Some(end) = net.nodes[node].links.get_mut(&link) else {
        return false;
    };
    // Of a record whose beginning was delivered, the end is on the wire; both halves count.
    match how % 4 {
        0 => input.flip(&mut end.wire, 1),
        1 if end.wire.len() >= RECORD_LEN => {
            end.wire.drain(..RECORD_LEN);
            true
        }
        2 if end.wire.len() >= RECORD_LEN => {
            end.wire.extend_from_within(..RECORD_LEN);
            true
        }
        3 if end.wire.len() >= 2 * RECORD_LEN => {
            end.wire.rotate_left(RECORD_LEN);
            true
        }
        _ => false,
    }
}

/// Traffic of each kind over an honest wire, and each kind of dishonesty.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let traffic = |name: &str| {
        let start = Seed::new(name)
            .u8(11)
            .u8(0)
            .u8(0)
            .u8(3)
            .u8(18)
            .u8(0)
            .u8(3)
            .u64(5)
            .u8(0x80)
            .u8(4)
            .u8(2)
            .u8(9);
        start
            .u8(2)
            .u8(0)
            .u8(2)
            .u8(1)
            .u8(2)
            .u8(3)
            .u64(7)
            .u8(8)
            .u16(60_000)
            .u16(5000)
            .u8(0x88)
            .u16(60_000)
            .u16(999)
    };
    let mut seeds = vec![
        traffic("routed").u8(11),
        traffic("circuits")
            .u8(4)
            .u8(11)
            .u8(5)
            .u8(1)
            .u8(1)
            .u8(3)
            .u8(0)
            .u8(11)
            .u8(0x86)
            .u8(0)
            .u8(0)
            .u8(11)
            .u8(7)
            .u8(0)
            .u8(11),
        traffic("silence").u8(12).u8(25).u8(2).u8(12).u8(25).u8(3).u8(11),
        traffic("closed").u8(13).u8(255).u8(11),
    ];
    for (number, name) in ["flip", "lose", "repeat", "swap"].iter().enumerate() {
        let how = u8::try_from(number).unwrap_or(0);
        let seed = traffic(name)
            .u8(0)
            .u8(4)
            .u8(1)
            .u8(9)
            .u8(8)
            .u16(9000)
            .u16(0)
            .u8(14)
            .u8(how);
        seeds.push(seed.u16(77).u8(4).u8(11));
    }
    seeds
}
