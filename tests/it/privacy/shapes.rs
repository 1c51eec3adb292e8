//! Numbers, sizes and order of what an entry and a relay see are the same whatever block is asked for or inserted.
//!
//! Two networks of one seed do the same up to a request; then one asks for one block and one for another.

use std::{collections::BTreeMap, time::Duration};

use warren_keys::Block;
use warren_proto::{crypto::Portable, ids::CircuitAddr, wire::FrameType};
use warren_tests::{
    net::{Net, Spec},
    watch::{Name, Place, Watched},
};

use crate::network::block;

/// A frame of a circuit without its contents.
#[derive(PartialEq, Eq, Debug)]
struct Shape {
    incoming: bool,
    kind: FrameType,
    len: usize,
}

/// All frames of each circuit, in order.
#[derive(PartialEq, Eq, Debug, Default)]
struct Shapes(BTreeMap<CircuitAddr, Vec<Shape>>);

const CLIENT: usize = 3;
/// More than any exchange between nodes takes.
const QUIET: Duration = Duration::from_secs(3);

/// What entry and relay of the client's circuit see of circuits while `ask` runs.
fn shapes(seed: u64, ask: impl FnOnce(&mut Net<Watched<Portable>>, [Block; 2])) -> [Shapes; 2] {
    let mut net: Net<Watched<Portable>> = Net::started(Spec {
        watched: true,
        ..Spec::new(seed, 12)
    });
    let blocks = [block(seed), block(seed + 1000)];
    for block in &blocks {
        net.insert(5, block.clone(), 1).unwrap();
    }
    // What the inserts began (new spare circuits) comes to its end, and so does what the request begins.
    net.run_for(QUIET);
    let before: Vec<usize> = (0..net.len())
        .map(|node| net.transcript(node).sights.len())
        .collect();
    ask(&mut net, blocks);
    net.run_for(QUIET);
    let path = net.path(CLIENT, net.asked(CLIENT)[0]);
    [path[0], path[1]].map(|node| {
        let mut shapes = Shapes::default();
        for sight in &net.transcript(node).sights[before[node]..] {
            if let (
                Place::Frame {
                    incoming, kind, len, ..
                },
                [Name::Circuit(circuit)],
            ) = (sight.place, &sight.names[..])
            {
                let shape = Shape { incoming, kind, len };
                shapes.0.entry(*circuit).or_default().push(shape);
            }
        }
        shapes
    })
}

#[test]
fn fetches_of_two_blocks_look_the_same() {
    for seed in [11, 12, 13] {
        let fetch = |which: usize| {
            shapes(seed, move |net, blocks| {
                assert_eq!(net.fetch(CLIENT, blocks[which].id()).unwrap(), blocks[which]);
            })
        };
        let first = fetch(0);
        assert!(first.iter().all(|shapes| !shapes.0.is_empty()));
        assert_eq!(first, fetch(1));
    }
}

#[test]
fn inserts_of_two_blocks_look_the_same() {
    for seed in [14, 15, 16] {
        let insert = |number: u64| {
            shapes(seed, move |net, _| {
                net.insert(CLIENT, block(number), 1).unwrap();
            })
        };
        let first = insert(21);
        assert!(first.iter().all(|shapes| !shapes.0.is_empty()));
        assert_eq!(first, insert(22));
    }
}
