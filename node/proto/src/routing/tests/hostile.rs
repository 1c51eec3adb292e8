//! Neighbours that do not keep to the protocol.

use core::time::Duration;

use super::network::{Conduct, Network, block, link_to, missing};
use crate::{
    core::api::Shelf,
    ids::RequestId,
    routing::{FETCH_BRANCHES, MAX_BRANCHES},
    wire::{ExitResult, Refusal, Replica, Routed},
};

/// Node 0 with neighbours 1 to 3, nearest to the block first; 2 and 3 hold it.
fn star(conduct: Conduct) -> (Network, warren_keys::Block) {
    let mut network = Network::new(4, 1);
    let block = block(1);
    let order = network.nearest(block.key(), 4);
    let (first, second, third, me) = (order[0], order[1], order[2], order[3]);
    // Renamed so that the tests can speak of fixed numbers.
    let places = network.places.clone();
    for (name, node) in [(0, me), (1, first), (2, second), (3, third)] {
        network.places[name] = places[node];
    }
    network.rebuild();
    for other in 1..4 {
        network.link(0, other);
    }
    network.conduct[1] = conduct;
    for holder in [2, 3] {
        network.stores[holder].insert(block.id(), (block.clone(), Shelf::Store));
    }
    (network, block)
}

#[test]
fn each_kind_of_bad_neighbour_is_gone_round() {
    for conduct in [
        Conduct::Liar,
        Conduct::Dropper,
        Conduct::Forger,
        Conduct::Overloaded,
    ] {
        let (mut network, block) = star(conduct);
        let result = network.fetch_now(0, block.id(), FETCH_BRANCHES);
        assert!(
            matches!(result, ExitResult::Found(found) if found == block),
            "{conduct:?}"
        );
        assert_eq!(network.offences, u64::from(conduct == Conduct::Forger));
        network.assert_idle();
    }
}

#[test]
fn a_first_neighbour_that_lies_uses_up_half_of_a_wide_search() {
    let mut network = Network::new(6, 1);
    let order = network.nearest(missing(1).key, 6);
    let (exit, liar) = (order[5], order[0]);
    for other in &order[..5] {
        network.link(exit, *other);
    }
    network.conduct[liar] = Conduct::Liar;
    // Eight branches: four for the liar, who says that all are used up; then two, one and one for the next three.
    assert!(matches!(
        network.fetch_now(exit, missing(1), MAX_BRANCHES),
        ExitResult::NotFound
    ));
    let asked = order.iter().filter(|node| network.load[**node] > 0);
    assert_eq!(asked.count(), 5);
}

#[test]
fn silence_of_all_is_not_taken_for_not_found() {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(0, 2);
    network.conduct[1..].fill(Conduct::Dropper);
    assert!(matches!(
        network.fetch_now(0, missing(1), FETCH_BRANCHES),
        ExitResult::Failed
    ));
    network.conduct[1..].fill(Conduct::Overloaded);
    network.run_for(Duration::from_secs(1));
    assert!(matches!(
        network.fetch_now(0, missing(2), FETCH_BRANCHES),
        ExitResult::Busy
    ));
    network.conduct[1..].fill(Conduct::Honest);
    network.run_for(Duration::from_secs(1));
    assert!(matches!(
        network.fetch_now(0, missing(3), FETCH_BRANCHES),
        ExitResult::NotFound
    ));
    let mut alone = Network::new(1, 1);
    assert!(matches!(
        alone.fetch_now(0, missing(1), FETCH_BRANCHES),
        ExitResult::Failed
    ));
}

#[test]
fn a_late_block_is_taken_and_a_late_denial_is_not() {
    let (mut network, block) = star(Conduct::Dropper);
    network.conduct[2] = Conduct::Dropper;
    let request = network.fetch(0, block.id(), MAX_BRANCHES).unwrap();
    while network.routers[0].stats().timeouts == 0 {
        assert!(network.step());
    }
    network.inject(
        1,
        0,
        Routed::NotFound {
            id: request,
            branches: 0,
        },
    );
    assert_eq!(
        (
            network.routers[0].stats().ignored,
            network.routers[0].open().searches
        ),
        (1, 1)
    );
    network.inject(
        1,
        0,
        Routed::Found {
            id: request,
            block: block.clone(),
            copy: false,
        },
    );
    assert!(matches!(
        network.answers.get(&(0, request)),
        Some(ExitResult::Found(_))
    ));
    network.settle();
    network.assert_idle();
}

#[test]
fn answers_from_others_and_of_the_wrong_kind_change_nothing() {
    let (mut network, wanted) = star(Conduct::Dropper);
    let request = network.fetch(0, wanted.id(), MAX_BRANCHES).unwrap();
    network.run_for(Duration::from_millis(10));
    let foreign = block(9);
    for answer in [
        Routed::NotFound {
            id: request,
            branches: 0,
        },
        Routed::Refused {
            id: request,
            why: Refusal::Busy,
        },
        Routed::Found {
            id: request,
            block: wanted.clone(),
            copy: true,
        },
        Routed::Replicated {
            id: request,
            replica: Replica::Stored,
        },
        Routed::Found {
            id: RequestId(7),
            block: foreign.clone(),
            copy: true,
        },
        Routed::NotFound {
            id: RequestId(7),
            branches: 200,
        },
    ] {
        network.inject(2, 0, answer);
    }
    assert_eq!((network.routers[0].stats().ignored, network.offences), (6, 0));
    network.inject(
        2,
        0,
        Routed::Stored {
            id: request,
            copies: 3,
        },
    );
    network.inject(
        2,
        0,
        Routed::Collision {
            id: request,
            block: foreign,
        },
    );
    assert_eq!((network.offences, network.routers[0].open().searches), (2, 1));
    assert!(matches!(network.fetch_result(0, request), ExitResult::Found(found) if found == wanted));
}

#[test]
fn numbers_beyond_the_rules_are_cut_down() {
    let (mut network, wanted) = star(Conduct::Honest);
    network.stores[3].clear();
    network.unlink(0, 3);
    let (htl, stale, branches, best) = (255, 255, 0, u64::MAX);
    network.inject(
        1,
        0,
        Routed::Request {
            id: RequestId(1),
            block: wanted.id(),
            htl,
            stale,
            branches,
            best,
            wait: false,
        },
    );
    network.settle();
    network.inject(
        1,
        0,
        Routed::Request {
            id: RequestId(2),
            block: wanted.id(),
            htl,
            stale,
            branches: 255,
            best: 0,
            wait: false,
        },
    );
    network.settle();
    network.assert_idle();
}

#[test]
fn a_request_that_comes_back_is_refused_and_served_once() {
    let (mut network, wanted) = star(Conduct::Honest);
    let ask = |id| Routed::Request {
        id: RequestId(id),
        block: wanted.id(),
        htl: 9,
        stale: 0,
        branches: 2,
        best: u64::MAX,
        wait: false,
    };
    network.inject(1, 0, ask(1));
    network.inject(2, 0, ask(1));
    assert_eq!(network.routers[0].stats().refused_loop, 1);
    network.settle();
    network.inject(2, 0, ask(1));
    assert_eq!(network.routers[0].stats().refused_loop, 2);
    // What is not a neighbour is not heard.
    network.unlink(0, 2);
    network.inject(2, 0, ask(2));
    assert_eq!(network.routers[0].stats().requests, 1);
    assert!(network.routers[0].window(link_to(2)).is_none());
}
