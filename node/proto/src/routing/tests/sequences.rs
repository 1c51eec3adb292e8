//! Random sequences of everything that can happen: no panic, every request ends once, nothing is left behind.

use core::time::Duration;

use proptest::prelude::*;

use super::network::{Conduct, Network, block, missing};
use crate::{
    ids::RequestId,
    wire::{ExitResult, Refusal, Replica, Routed},
};

const NODES: usize = 7;

#[derive(Clone, Debug)]
enum Act {
    Fetch(usize, u64, u8),
    Insert(usize, u64),
    Cancel(usize),
    Link(usize, usize),
    Unlink(usize, usize),
    Conduct(usize, Conduct),
    Wait(u16),
    /// Any message, about a request that is open or an invented one.
    Inject(usize, usize, usize, u8, u64),
}

fn conduct() -> impl Strategy<Value = Conduct> {
    prop_oneof![
        3 => Just(Conduct::Honest),
        1 => Just(Conduct::Liar),
        1 => Just(Conduct::Dropper),
        1 => Just(Conduct::Forger),
        1 => Just(Conduct::Overloaded),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    prop_oneof![
        6 => (node.clone(), 0..6u64, 0..10u8).prop_map(|(node, number, branches)| Act::Fetch(node, number, branches)),
        3 => (node.clone(), 0..4u64).prop_map(|(node, number)| Act::Insert(node, number)),
        1 => (0..40usize).prop_map(Act::Cancel),
        3 => (node.clone(), node.clone()).prop_map(|(a, b)| Act::Link(a, b)),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Act::Unlink(a, b)),
        1 => (node.clone(), conduct()).prop_map(|(node, conduct)| Act::Conduct(node, conduct)),
        4 => (0..3000u16).prop_map(Act::Wait),
        4 => (node.clone(), node, 0..40usize, 0..11u8, 0..6u64)
            .prop_map(|(from, to, request, kind, number)| Act::Inject(from, to, request, kind, number)),
    ]
}

fn message(id: RequestId, kind: u8, number: u64) -> Routed {
    let block = block(number);
    let (htl, stale, branches, best) = (kind.wrapping_mul(37), 1, 3, number << 40);
    match kind {
        0 => Routed::Request {
            id,
            block: block.id(),
            htl,
            stale,
            branches,
            best,
            wait: number.is_multiple_of(3),
        },
        1 => Routed::Found {
            id,
            block,
            copy: true,
        },
        2 => Routed::NotFound { id, branches: 255 },
        3 => Routed::Refused {
            id,
            why: Refusal::Busy,
        },
        4 => Routed::Refused {
            id,
            why: Refusal::Loop,
        },
        5 => Routed::Refused {
            id,
            why: Refusal::Failed,
        },
        6 => Routed::Insert { id, block, htl },
        7 => Routed::Stored { id, copies: 255 },
        8 => Routed::Collision { id, block },
        9 => Routed::Replicate { id, block },
        _ => Routed::Replicated {
            id,
            replica: Replica::Stored,
        },
    }
}

fn run(acts: &[Act], seed: u64) -> Network {
    let mut network = Network::new(NODES, seed);
    for node in 1..NODES {
        network.link(node, node / 2);
    }
    let mut requests = Vec::new();
    let mut cancelled = Vec::new();
    for act in acts {
        match *act {
            // Numbers 4 and 5 are never inserted.
            Act::Fetch(node, number, branches) => {
                let id = if number < 4 {
                    block(number).id()
                } else {
                    missing(number)
                };
                requests.extend(network.fetch(node, id, branches).map(|request| (node, request)));
            }
            Act::Insert(node, number) => {
                requests.extend(network.insert(node, block(number)).map(|request| (node, request)));
            }
            Act::Cancel(which) => {
                if let Some((node, request)) = requests.get(which).copied() {
                    network.cancel(node, request);
                    cancelled.push((node, request));
                }
            }
            Act::Link(a, b) => {
                if a != b && !network.linked(a, b) {
                    network.link(a, b);
                }
            }
            Act::Unlink(a, b) => network.unlink(a, b),
            Act::Conduct(node, conduct) => network.conduct[node] = conduct,
            Act::Wait(millis) => network.run_for(Duration::from_millis(millis.into())),
            Act::Inject(from, to, which, kind, number) => {
                let id = requests
                    .get(which)
                    .map_or(RequestId(which as u64), |(_, request)| *request);
                network.inject(from, to, message(id, kind, number));
            }
        }
    }
    network.settle();
    for request in requests {
        let answered = network.answers.get(&request);
        assert!(answered.is_some() || cancelled.contains(&request), "no answer");
        if let Some(ExitResult::Stored(copies)) = answered {
            assert!((1..=5).contains(copies));
        }
    }
    network
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everything_ends_and_nothing_is_left(
        acts in proptest::collection::vec(act(), 1..60),
        seed in 0..1000u64,
    ) {
        let network = run(&acts, seed);
        network.assert_idle();
        prop_assert_eq!(network.trace(), run(&acts, seed).trace());
    }
}
