//! Overload: refused at once, routed elsewhere, and the sender slows down.

use super::network::{Conduct, Network, block, link_to, missing};
use crate::{
    core::api::{Pressure, Shelf},
    ids::RequestId,
    routing::{FETCH_BRANCHES, Limits, limits::FIRST_WINDOW},
    wire::{ExitResult, Routed},
};

fn ask(id: u64) -> Routed {
    let (htl, stale, branches, best) = (9, 0, 1, u64::MAX);
    Routed::Request {
        id: RequestId(id),
        block: missing(id),
        htl,
        stale,
        branches,
        best,
        wait: false,
    }
}

#[test]
fn one_neighbour_cannot_take_the_whole_table() {
    let limits = Limits {
        per_neighbour: 10,
        ..Limits::default()
    };
    let mut network = Network::with_limits(3, 1, limits);
    network.link(0, 1);
    network.link(0, 2);
    for id in 0..15 {
        network.inject(1, 0, ask(id));
    }
    assert_eq!(network.routers[0].stats().refused_busy, 5);
    network.inject(2, 0, ask(100));
    assert_eq!(
        (
            network.routers[0].stats().refused_busy,
            network.routers[0].open().searches
        ),
        (5, 11)
    );
    network.settle();
    network.inject(1, 0, ask(200));
    assert_eq!(network.routers[0].stats().refused_busy, 5);
    network.settle();
    network.assert_idle();
}

#[test]
fn who_asks_ten_times_as_much_takes_nothing_from_the_others() {
    // Room for 40 searches; of one neighbour, for 10.
    let limits = Limits {
        searches: 40,
        per_neighbour: 10,
        ..Limits::default()
    };
    let mut network = Network::with_limits(5, 1, limits);
    for other in 1..5 {
        network.link(0, other);
    }
    let (mut taken, mut id) = ([0; 5], 0);
    for round in 0..20 {
        for peer in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4] {
            for _ in 0..5 {
                id += 1;
                let refused = network.routers[0].stats().refused_busy;
                network.inject(peer, 0, ask(1000 * round + id));
                taken[peer] += u32::from(network.routers[0].stats().refused_busy == refused);
            }
        }
        network.settle();
    }
    assert_eq!(taken[2..], [100, 100, 100], "all that the modest asked");
    assert_eq!(taken[1], 200, "its own bound, not its appetite");
    network.assert_idle();
}

#[test]
fn one_sink_cannot_fill_the_datastores_queue() {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(0, 2);
    for number in 0..200 {
        let (id, block) = (RequestId(number), block(number));
        network.routers[0].routed(network.now, link_to(1), Routed::Replicate { id, block });
    }
    assert_eq!(network.routers[0].stats().replicas, 64);
    let (id, block) = (RequestId(900), block(900));
    network.inject(2, 0, Routed::Replicate { id, block });
    assert_eq!(network.routers[0].stats().replicas, 65);
    network.settle();
    network.assert_idle();
    let (id, block) = (RequestId(901), super::network::block(901));
    network.inject(1, 0, Routed::Replicate { id, block });
    assert_eq!(
        network.routers[0].stats().replicas,
        66,
        "what was written makes room"
    );
}

#[test]
fn while_memory_is_short_only_who_asks_for_much_is_refused() {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(0, 2);
    network.routers[0].set_pressure(Pressure::Busy);
    for id in 0..20 {
        network.inject(1, 0, ask(id));
    }
    assert_eq!(network.routers[0].stats().refused_busy, 12);
    network.inject(2, 0, ask(100));
    assert_eq!(network.routers[0].stats().refused_busy, 12);
    network.settle();
    network.routers[0].set_pressure(Pressure::None);
    for id in 200..220 {
        network.inject(1, 0, ask(id));
    }
    assert_eq!(network.routers[0].stats().refused_busy, 12);
    network.settle();
    network.assert_idle();
}

#[test]
fn while_memory_is_shorter_traffic_leaves_no_copies() {
    for (pressure, copies) in [(Pressure::Busy, 1), (Pressure::Lean, 0)] {
        let mut network = Network::new(2, 1);
        network.link(0, 1);
        network.stores[1].insert(block(1).id(), (block(1), Shelf::Store));
        network.routers[0].set_pressure(pressure);
        assert!(matches!(
            network.fetch_now(0, block(1).id(), FETCH_BRANCHES),
            ExitResult::Found(_)
        ));
        assert_eq!(network.holders(block(1).id(), Shelf::Cache).len(), copies);
    }
}

#[test]
fn full_tables_refuse_and_what_is_open_goes_on() {
    let limits = Limits {
        searches: 4,
        inserts: 2,
        ..Limits::default()
    };
    let mut network = Network::with_limits(2, 1, limits);
    network.link(0, 1);
    let requests: Vec<_> = (0..8)
        .map(|id| network.fetch(0, missing(id), FETCH_BRANCHES))
        .collect();
    assert_eq!(requests.iter().flatten().count(), 4);
    let inserts: Vec<_> = (0..4).map(|id| network.insert(0, block(id))).collect();
    assert_eq!(inserts.iter().flatten().count(), 2);
    network.inject(
        1,
        0,
        Routed::Insert {
            id: RequestId(1),
            block: block(9),
            htl: 3,
        },
    );
    assert_eq!(network.routers[0].stats().refused_busy, 7);
    network.settle();
    assert_eq!(network.answers.len(), 6);
    network.assert_idle();
}

#[test]
fn refusals_shrink_the_window_and_searches_go_elsewhere() {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(0, 2);
    network.conduct[1] = Conduct::Overloaded;
    for id in 0..200 {
        assert!(matches!(
            network.fetch_now(0, missing(id), FETCH_BRANCHES),
            ExitResult::NotFound | ExitResult::Busy
        ));
        network.run_for(core::time::Duration::from_millis(200));
    }
    let (open, window) = network.routers[0].window(link_to(1)).unwrap();
    assert_eq!((open, window), (0, 1));
    assert!(network.routers[0].window(link_to(2)).unwrap().1 > FIRST_WINDOW);
    network.assert_idle();
}

#[test]
fn an_insert_does_not_settle_far_from_a_crowded_key() {
    // Twelve nodes nearer to the key than the asker, all overloaded: it must not be the sink.
    let mut network = Network::new(13, 1);
    let order = network.nearest(block(1).key(), 13);
    for node in &order[..12] {
        network.link(order[12], *node);
        network.conduct[*node] = Conduct::Overloaded;
    }
    assert!(matches!(
        network.insert_now(order[12], block(1)),
        ExitResult::Busy
    ));
    // Among the five nearest it may be.
    let mut network = Network::new(4, 1);
    let order = network.nearest(block(1).key(), 4);
    for node in &order[..3] {
        network.link(order[3], *node);
        network.conduct[*node] = Conduct::Overloaded;
    }
    assert!(matches!(
        network.insert_now(order[3], block(1)),
        ExitResult::Stored(1)
    ));
}

#[test]
fn a_burst_beyond_the_window_is_spread_or_refused_and_all_are_answered() {
    let mut network = Network::new(3, 1);
    network.link(0, 1);
    network.link(0, 2);
    let requests: Vec<_> = (0..500)
        .map(|id| network.fetch(0, missing(id), FETCH_BRANCHES).unwrap())
        .collect();
    network.settle();
    let busy = requests
        .iter()
        .filter(|id| matches!(network.answers[&(0, **id)], ExitResult::Busy))
        .count();
    assert!(busy > 0 && busy < 500);
    assert_eq!(network.answers.len(), 500);
    network.assert_idle();
}
