//! The same key asked for several times, at once and in a row.

use core::time::Duration;

use warren_keys::Block;

use super::network::{Conduct, Network, block, missing};
use crate::{
    core::api::Shelf,
    ids::RequestId,
    routing::{FETCH_BRANCHES, MAX_BRANCHES, limits::FAILED_TIME},
    wire::{ExitResult, Routed},
};

/// 0 - 1 - 2: node 1 is where requests meet.
fn line() -> Network {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(1, 2);
    network
}

/// 0 - 1, and a block that node 1 has.
fn pair() -> (Network, Block) {
    let mut network = Network::new(2, 1);
    network.link(0, 1);
    network.stores[1].insert(block(1).id(), (block(1), Shelf::Store));
    (network, block(1))
}

fn ask(id: u64, number: u64, htl: u8, branches: u8) -> Routed {
    Routed::Request {
        id: RequestId(id),
        block: missing(number),
        htl,
        stale: 0,
        branches,
        best: u64::MAX,
        wait: false,
    }
}

#[test]
fn requests_join_an_open_one_with_a_smaller_number_only() {
    let mut network = Network::new(5, 1);
    for other in 1..5 {
        network.link(0, other);
    }
    network.inject(1, 0, ask(50, 1, 5, 3));
    network.inject(2, 0, ask(60, 1, 5, 3));
    network.inject(3, 0, ask(40, 1, 5, 3));
    network.inject(4, 0, ask(45, 2, 5, 3));
    assert_eq!(network.routers[0].stats().joined, 1);
    assert_eq!(network.routers[0].open().searches, 3);
    network.settle();
    network.assert_idle();
}

#[test]
fn all_who_joined_get_the_block() {
    let (mut network, block) = pair();
    let requests: Vec<_> = (0..20)
        .map(|_| network.fetch(0, block.id(), FETCH_BRANCHES).unwrap())
        .collect();
    assert!(network.routers[0].stats().joined > 0);
    network.settle();
    for request in requests {
        assert!(
            matches!(network.answers.remove(&(0, request)), Some(ExitResult::Found(found)) if found == block)
        );
    }
    network.assert_idle();
}

#[test]
fn a_wider_request_searches_on_when_the_one_it_joined_fails() {
    let mut network = line();
    let block = block(1);
    network.stores[2].insert(block.id(), (block.clone(), Shelf::Store));
    // The first may not go beyond node 1; the second joins it and must still find what node 2 has.
    let request = |id, htl| Routed::Request {
        id: RequestId(id),
        block: block.id(),
        htl,
        stale: 0,
        branches: 1,
        best: u64::MAX,
        wait: false,
    };
    network.inject(0, 1, request(1, 0));
    network.inject(0, 1, request(2, 5));
    assert_eq!(network.routers[1].stats().joined, 1);
    network.settle();
    assert_eq!(network.routers[1].stats().found_beyond, 1);
    network.assert_idle();
}

#[test]
fn leaving_does_not_harm_those_who_stay() {
    let (mut network, block) = pair();
    let [a, b, c] = [(); 3].map(|()| network.fetch(0, block.id(), FETCH_BRANCHES).unwrap());
    network.cancel(0, a);
    network.cancel(0, b);
    assert!(matches!(network.fetch_result(0, c), ExitResult::Found(_)));
    assert!(!network.answers.contains_key(&(0, a)) && !network.answers.contains_key(&(0, b)));
    network.assert_idle();
    let last = network.fetch(0, missing(1), FETCH_BRANCHES).unwrap();
    network.cancel(0, last);
    assert_eq!(network.routers[0].open().searches, 0);
    network.settle();
    network.assert_idle();
}

#[test]
fn a_key_that_failed_is_not_searched_again_for_a_while_unless_wider() {
    let mut network = line();
    assert!(matches!(
        network.fetch_now(0, missing(1), FETCH_BRANCHES),
        ExitResult::NotFound
    ));
    let before = network.searches;
    network.fetch_now(0, missing(1), FETCH_BRANCHES);
    assert_eq!(
        (network.searches, network.routers[0].stats().failed_lately),
        (before, 1)
    );
    network.fetch_now(0, missing(1), MAX_BRANCHES);
    assert!(network.searches > before);
    let before = network.searches;
    network.run_for(FAILED_TIME + Duration::from_secs(1));
    network.fetch_now(0, missing(1), FETCH_BRANCHES);
    assert!(network.searches > before);
}

#[test]
fn an_insert_that_passes_by_ends_the_memory_of_failure() {
    let mut network = line();
    let block = block(1);
    assert!(matches!(
        network.fetch_now(0, block.id(), FETCH_BRANCHES),
        ExitResult::NotFound
    ));
    assert!(matches!(
        network.insert_now(0, block.clone()),
        ExitResult::Stored(_)
    ));
    assert!(matches!(
        network.fetch_now(0, block.id(), FETCH_BRANCHES),
        ExitResult::Found(_)
    ));
}

#[test]
fn a_search_hampered_by_silence_is_not_remembered_as_failed() {
    let mut network = line();
    network.conduct[1] = Conduct::Dropper;
    network.fetch_now(0, missing(1), FETCH_BRANCHES);
    network.conduct[1] = Conduct::Honest;
    network.fetch_now(0, missing(1), FETCH_BRANCHES);
    assert_eq!(network.routers[0].stats().failed_lately, 0);
}

#[test]
fn searches_that_wait_for_each_other_end() {
    // Two nodes that each search for the same key and are each other's only way.
    for swap in [false, true] {
        let mut network = Network::new(2, u64::from(swap));
        network.link(0, 1);
        let a = network.fetch(0, missing(1), FETCH_BRANCHES).unwrap();
        let b = network.fetch(1, missing(1), FETCH_BRANCHES).unwrap();
        network.settle();
        assert!(network.answers.contains_key(&(0, a)) && network.answers.contains_key(&(1, b)));
        assert!(
            network.routers.iter().all(|router| router.stats().timeouts == 0),
            "they waited for each other"
        );
        network.assert_idle();
    }
}
