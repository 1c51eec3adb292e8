//! On a ring of some hundred nodes: blocks land where they should, are found from everywhere, and what is not there costs
//! little.

use super::network::{Conduct, Network, block, missing};
use crate::{
    core::api::Shelf,
    random::below,
    routing::{FETCH_BRANCHES, MAX_BRANCHES},
    wire::ExitResult,
};

const NODES: usize = 250;

fn is_found(result: &ExitResult) -> bool {
    matches!(result, ExitResult::Found(_))
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

#[test]
fn blocks_land_on_the_five_nearest_nodes() {
    let (mut network, mut copies, mut placed) = (Network::ring(NODES, 1), 0, 0);
    for number in 0..60 {
        let at = someone(&mut network);
        let block = block(number);
        assert!(matches!(
            network.insert_now(at, block.clone()),
            ExitResult::Stored(5)
        ));
        let holders = network.holders(block.id(), Shelf::Store);
        let nearest = network.nearest(block.key(), 5);
        assert!(nearest[..2].iter().all(|node| holders.contains(node)));
        placed += nearest.iter().filter(|node| holders.contains(node)).count();
        copies += holders.len();
        assert!(network.holders(block.id(), Shelf::Cache).is_empty());
    }
    // A sink on one side of the key need not be linked with the last of the five on the other.
    assert!(placed >= 295, "{placed} of 300 places");
    // The others are nodes near the key that the insert came by.
    assert!(copies <= 60 * 6, "{copies} copies of 60 blocks");
    network.assert_idle();
}

#[test]
fn inserts_of_one_block_end_at_different_nodes_near_it() {
    let mut network = Network::ring(NODES, 6);
    let block = block(1);
    let nearest = network.nearest(block.key(), 8);
    for _ in 0..60 {
        let at = someone(&mut network);
        network.insert_now(at, block.clone());
    }
    let sinks = |node: usize| network.routers[node].stats().sinks;
    let ended: Vec<u64> = nearest.iter().map(|node| sinks(*node)).collect();
    assert_eq!(ended.iter().sum::<u64>(), 60, "{ended:?}");
    // Who is not one of the five nearest to the key, and nearest to an aim, does not take the others for overloaded.
    for number in 2..200 {
        let at = someone(&mut network);
        network.insert_now(at, super::network::block(number));
    }
    let refused = network.routers.iter().map(|router| router.stats().busy_received);
    assert_eq!(refused.sum::<u64>(), 0);
    assert!(
        ended.iter().all(|count| *count < 40) && ended[5..].iter().sum::<u64>() < 10,
        "{ended:?}"
    );
}

#[test]
fn of_two_inserts_one_gets_past_a_liar_that_is_nearest() {
    let (mut network, mut held) = (Network::ring(NODES, 7), [0, 0]);
    for number in 0..40 {
        let liar = network.nearest(block(number).key(), 1)[0];
        network.conduct[liar] = Conduct::Liar;
        for held in &mut held {
            let at = someone(&mut network);
            network.insert_now(at, block(number));
            let holders = network.holders(block(number).id(), Shelf::Store);
            *held += usize::from(holders.iter().any(|node| *node != liar));
        }
        network.conduct[liar] = Conduct::Honest;
    }
    assert!(held[0] >= 28 && held[1] >= 36, "{held:?} of 40 held");
}

#[test]
fn every_node_finds_what_any_node_inserted_in_few_hops() {
    let mut network = Network::ring(NODES, 2);
    for number in 0..5 {
        let at = someone(&mut network);
        network.insert_now(at, block(number));
    }
    network.searches = 0;
    for node in 0..NODES {
        let block = block(node as u64 % 5);
        match network.fetch_now(node, block.id(), FETCH_BRANCHES) {
            ExitResult::Found(found) => assert_eq!(found, block),
            other => panic!("node {node}: {other:?}"),
        }
    }
    let hops = network.searches as f64 / NODES as f64;
    assert!(hops < 2.5, "{hops} hops on average");
    network.assert_idle();
}

#[test]
fn a_missing_key_costs_few_messages() {
    let mut network = Network::ring(NODES, 3);
    let (rounds, mut worst) = (200, 0);
    for number in 0..rounds {
        let before = network.messages;
        let at = someone(&mut network);
        assert!(matches!(
            network.fetch_now(at, missing(number), FETCH_BRANCHES),
            ExitResult::NotFound
        ));
        worst = worst.max(network.messages - before);
    }
    let mean = network.messages as f64 / rounds as f64;
    assert!(
        mean <= 32.0 && worst <= 64,
        "{mean} messages on average, {worst} at worst"
    );
    network.assert_idle();
}

#[test]
fn one_copy_is_left_one_hop_before_the_holder() {
    let mut network = Network::ring(NODES, 4);
    let block = block(1);
    let far = (network.nearest(block.key(), 1)[0] + NODES / 2) % NODES;
    network.insert_now(far, block.clone());
    let reader = (far + 7) % NODES;
    network.searches = 0;
    assert!(is_found(&network.fetch_now(reader, block.id(), FETCH_BRANCHES)));
    let first_hops = network.searches;
    let cached = network.holders(block.id(), Shelf::Cache);
    assert_eq!(cached.len(), 1);
    let holders = network.holders(block.id(), Shelf::Store);
    assert!(holders.iter().any(|holder| network.linked(cached[0], *holder)));
    // The cached copy answers the same reader one hop earlier, and leaves one of its own another hop earlier.
    network.searches = 0;
    assert!(is_found(&network.fetch_now(reader, block.id(), FETCH_BRANCHES)));
    assert_eq!(network.searches, first_hops - 1);
    let spread = network.holders(block.id(), Shelf::Cache);
    assert!(spread.len() == 2 && spread.contains(&cached[0]));
}

#[test]
fn a_hot_key_does_not_load_one_node() {
    let mut network = Network::ring(NODES, 5);
    let block = block(1);
    network.insert_now(0, block.clone());
    network.load.fill(0);
    for _ in 0..1000 {
        let at = someone(&mut network);
        assert!(is_found(&network.fetch_now(at, block.id(), FETCH_BRANCHES)));
    }
    let (busiest, total) = (
        network.load.iter().max().unwrap(),
        network.load.iter().sum::<u64>(),
    );
    assert!(
        *busiest < 60 && total < 1000,
        "the busiest of {total} took {busiest}"
    );
}

#[test]
fn dead_nodes_that_are_noticed_cost_nothing() {
    let mut network = Network::ring(NODES, 6);
    for number in 0..60 {
        let at = someone(&mut network);
        network.insert_now(at, block(number));
    }
    for node in 0..NODES {
        if below(&mut network.rng, 100) < 30 {
            network.kill(node);
        }
    }
    let mut found = 0;
    for number in 0..60 {
        let at = someone(&mut network);
        found += u32::from(is_found(&network.fetch_now(
            at,
            block(number).id(),
            FETCH_BRANCHES,
        )));
    }
    assert!(found >= 58, "{found} of 60");
    network.assert_idle();
}

#[test]
fn liars_and_droppers_are_gone_round() {
    // Inserts run while all are honest: what a hostile sink swallows is the client's to notice, by reading back.
    for (conduct, once, thrice) in [(Conduct::Liar, 65, 76), (Conduct::Dropper, 62, 76)] {
        let mut network = Network::ring(NODES, 7);
        for number in 0..80 {
            let at = someone(&mut network);
            network.insert_now(at, block(number));
        }
        for node in 0..NODES {
            match below(&mut network.rng, 100) {
                0..20 => network.kill(node),
                20..30 => network.conduct[node] = conduct,
                _ => {}
            }
        }
        let (mut first, mut all) = (0, 0);
        for number in 0..80 {
            let id = block(number).id();
            let at = someone(&mut network);
            if is_found(&network.fetch_now(at, id, FETCH_BRANCHES)) {
                first += 1;
                all += 1;
                continue;
            }
            for _ in 0..2 {
                let at = someone(&mut network);
                if is_found(&network.fetch_now(at, id, MAX_BRANCHES)) {
                    all += 1;
                    break;
                }
            }
        }
        assert!(
            first >= once && all >= thrice,
            "{conduct:?}: {first} by one exit, {all} by three"
        );
        network.assert_idle();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = Network::ring(60, seed);
        for number in 0..10 {
            let at = someone(&mut network);
            network.insert(at, block(number));
            let at = someone(&mut network);
            network.fetch(at, block(number / 2).id(), FETCH_BRANCHES);
        }
        network.settle();
        network.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
