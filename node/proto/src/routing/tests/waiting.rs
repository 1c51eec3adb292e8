//! Waiting for a key: what is inserted later reaches those who asked before, once, and nothing else does.

use core::time::Duration;

use super::network::{Conduct, Network, block, link_to};
use crate::{
    ids::RequestId,
    random::below,
    routing::{FETCH_BRANCHES, MAX_BRANCHES, WAIT_TIME},
    wire::{ExitResult, Routed},
};

const NODES: usize = 250;
/// Longer than any search or insert takes here.
const LONG: Duration = Duration::from_secs(20);
/// What a reader may have to wait after the insert has ended: far below the minutes of polling.
const PROMPT: Duration = Duration::from_secs(2);

fn is_found(result: Option<&ExitResult>, number: u64) -> bool {
    matches!(result, Some(ExitResult::Found(found)) if *found == block(number))
}

/// A node that is honest and has links.
fn someone(network: &mut Network) -> usize {
    loop {
        let node = below(&mut network.rng, network.routers.len());
        let lives = (0..network.routers.len()).any(|other| network.linked(node, other));
        if network.conduct[node] == Conduct::Honest && lives {
            return node;
        }
    }
}

/// Inserts through two exits, as clients do with what matters, and gives the moment when both have ended.
fn publish(network: &mut Network, number: u64) -> crate::time::Time {
    let inserts = [(); 2].map(|()| {
        let at = someone(network);
        (at, network.insert(at, block(number)).unwrap())
    });
    while !inserts
        .iter()
        .all(|insert| network.answered_at.contains_key(insert))
    {
        network.run_for(Duration::from_secs(1));
    }
    network.run_for(PROMPT);
    inserts
        .map(|insert| network.answered_at[&insert])
        .into_iter()
        .max()
        .unwrap()
}

#[test]
fn a_reader_who_waits_has_the_block_before_its_insert_has_ended() {
    let mut network = Network::ring(NODES, 1);
    let mut worst = Duration::ZERO;
    for number in 0..60 {
        let reader = someone(&mut network);
        let request = network.await_block(reader, block(number).id(), FETCH_BRANCHES);
        network.run_for(LONG);
        assert!(network.waiting.contains(&(reader, request)));
        let ended = publish(&mut network, number);
        assert!(is_found(network.answers.get(&(reader, request)), number));
        worst = worst.max(network.answered_at[&(reader, request)].since(ended));
    }
    assert!(worst < Duration::from_millis(200), "{worst:?} after the insert");
    // All rows were used up or expire; nobody is pushed to again.
    network.settle();
    network.assert_idle();
    let pushed: u64 = network.routers.iter().map(|router| router.stats().pushed).sum();
    assert!(
        pushed < 60 * 16,
        "{pushed} blocks were sent for 60 that were waited for"
    );
}

#[test]
fn many_readers_of_one_key_are_all_told() {
    let mut network = Network::ring(NODES, 2);
    let readers: Vec<usize> = (0..40).map(|_| someone(&mut network)).collect();
    let mut requests = Vec::new();
    for reader in readers {
        requests.push((reader, network.await_block(reader, block(1).id(), FETCH_BRANCHES)));
        network.run_for(Duration::from_millis(300));
    }
    network.run_for(LONG);
    let ended = publish(&mut network, 1);
    for request in requests {
        assert!(is_found(network.answers.get(&request), 1));
        assert!(network.answered_at[&request].since(ended) < PROMPT);
    }
    network.settle();
    network.assert_idle();
}

#[test]
fn a_block_that_comes_during_the_search_ends_it() {
    let mut network = Network::ring(NODES, 3);
    let (reader, writer) = (3, 100);
    network.insert(writer, block(1)).unwrap();
    let request = network.await_block(reader, block(1).id(), FETCH_BRANCHES);
    network.run_for(PROMPT);
    assert!(is_found(network.answers.get(&(reader, request)), 1));
    network.settle();
    network.assert_idle();
    assert!(!network.answered_twice);
}

#[test]
fn a_wait_ends_when_its_time_is_over_or_its_circuit_is() {
    let mut network = Network::ring(NODES, 4);
    let kept = network.await_block(3, block(1).id(), FETCH_BRANCHES);
    let left = network.await_block(9, block(1).id(), FETCH_BRANCHES);
    network.run_for(LONG);
    network.cancel(9, left);
    network.run_for(WAIT_TIME);
    assert!(matches!(
        network.answers.get(&(3, kept)),
        Some(ExitResult::NotFound)
    ));
    assert!(!network.answers.contains_key(&(9, left)));
    network.run_for(LONG);
    network.assert_idle();
    publish(&mut network, 1);
    let pushed: u64 = network.routers.iter().map(|router| router.stats().pushed).sum();
    assert_eq!(pushed, 0);
}

#[test]
fn a_lost_node_on_the_way_is_gone_round_at_once() {
    let mut network = Network::ring(NODES, 5);
    let (mut prompt, rounds) = (0, 40);
    for number in 0..rounds {
        let reader = someone(&mut network);
        let request = network.await_block(reader, block(number).id(), FETCH_BRANCHES);
        network.run_for(LONG);
        // The two nodes nearest to the key, where the wait has ended up.
        for node in network.nearest(block(number).key(), 2) {
            if node != reader {
                network.kill(node);
            }
        }
        network.run_for(LONG);
        let ended = publish(&mut network, number);
        let found = is_found(network.answers.get(&(reader, request)), number);
        prompt += u64::from(found && network.answered_at[&(reader, request)].since(ended) < PROMPT);
    }
    assert!(prompt >= rounds - 1, "{prompt} of {rounds}");
}

#[test]
fn hostile_nodes_do_not_keep_three_waits_from_a_block() {
    for (conduct, once, thrice) in [(Conduct::Liar, 48, 57), (Conduct::Dropper, 48, 58)] {
        let mut network = Network::ring(NODES, 7);
        for node in 0..NODES {
            match below(&mut network.rng, 100) {
                0..20 => network.kill(node),
                20..30 => network.conduct[node] = conduct,
                _ => {}
            }
        }
        let (mut by_one, mut by_three) = (0, 0);
        for number in 0..60 {
            // As a client does: three exits that wait, the later ones searching more widely.
            let mut requests: Vec<(usize, RequestId)> = Vec::new();
            for branches in [FETCH_BRANCHES, MAX_BRANCHES, MAX_BRANCHES] {
                let reader = someone(&mut network);
                let request = network.await_block(reader, block(number).id(), branches);
                let request = (reader, request);
                for _ in 0..30 {
                    if network.waiting.contains(&request) {
                        break;
                    }
                    network.run_for(Duration::from_secs(1));
                }
                requests.push(request);
            }
            let ended = publish(&mut network, number);
            let told: Vec<bool> = requests
                .iter()
                .map(|request| {
                    let found = is_found(network.answers.get(request), number);
                    found && network.answered_at[request].since(ended) < PROMPT
                })
                .collect();
            by_one += u32::from(told.first() == Some(&true));
            by_three += u32::from(told.contains(&true));
        }
        assert!(
            by_one >= once && by_three >= thrice,
            "{conduct:?}: {by_one} by one exit, {by_three} by three, of 60"
        );
    }
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let mut network = Network::new(4, 1);
    for other in 1..4 {
        network.link(0, other);
    }
    network.inject(1, 0, Routed::Arrived { block: block(1) });
    let request = network.await_block(0, block(1).id(), FETCH_BRANCHES);
    network.run_for(LONG);
    assert!(
        network.waiting.contains(&(0, request)),
        "a push from before is forgotten"
    );
    network.inject(1, 0, Routed::Arrived { block: block(2) });
    assert_eq!(network.routers[0].stats().ignored, 2);
    assert!(network.stores[0].is_empty());
    // Who was never asked cannot push it either.
    network.unlink(0, 3);
    network.link(0, 3);
    network.inject(3, 0, Routed::Arrived { block: block(1) });
    assert!(network.waiting.contains(&(0, request)));
    // Who was asked can, once.
    network.inject(1, 0, Routed::Arrived { block: block(1) });
    assert!(is_found(network.answers.get(&(0, request)), 1));
    network.inject(1, 0, Routed::Arrived { block: block(1) });
    network.inject(2, 0, Routed::Arrived { block: block(1) });
    assert_eq!(network.routers[0].stats().ignored, 5);
    assert_eq!(network.routers[0].stats().arrived, 1);
    network.settle();
    assert!(!network.answered_twice);
}

#[test]
fn who_floods_with_waits_keeps_no_other_from_waiting() {
    let mut network = Network::new(4, 1);
    network.link(0, 1);
    network.link(0, 2);
    network.link(1, 3);
    let ask = |id, number| Routed::Request {
        id: RequestId(id),
        block: block(number).id(),
        htl: 5,
        stale: 0,
        branches: 1,
        best: u64::MAX,
        wait: true,
    };
    // Node 2 floods node 0, whose only other way is node 1.
    for number in 0..3000 {
        network.inject(2, 0, ask(1000 + number, 100 + number));
        network.run_for(Duration::from_millis(20));
    }
    assert_eq!(network.routers[0].open().waits, 1024, "its own rows are all used");
    assert!(
        network.routers[1].open().waits < 1024,
        "and a share of the next node's"
    );
    let request = network.await_block(0, block(1).id(), FETCH_BRANCHES);
    network.run_for(LONG);
    network.insert(3, block(1)).unwrap();
    network.run_for(PROMPT);
    assert!(is_found(network.answers.get(&(0, request)), 1));
    assert_eq!(network.routers[0].window(link_to(1)).unwrap().0, 0);
}
