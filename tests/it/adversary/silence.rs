//! Nodes that find nothing, store nothing or pass nothing on cost time, not blocks.

use std::collections::BTreeSet;

use warren_keys::Block;
use warren_proto::{core::api::FetchFailure, crypto::Portable};
use warren_tests::{
    adversary::{Dropper, Liar},
    net::{Net, Spec},
};

use crate::network::block;

const NODES: usize = 16;
/// A quarter of all nodes: often two of the five that hold a block.
const LIARS: [usize; 4] = [2, 6, 10, 14];
/// An eighth: of circuits of three hops, a third does not work.
const DROPPERS: [usize; 2] = [6, 10];
const CLIENTS: [usize; 3] = [1, 5, 11];

fn inserted(net: &mut Net<Portable>, from: u64) -> Vec<Block> {
    let blocks: Vec<Block> = (from..from + 8).map(block).collect();
    for (number, block) in blocks.iter().enumerate() {
        net.insert(CLIENTS[number % 3], block.clone(), 1).unwrap();
    }
    blocks
}

#[test]
fn liars_do_not_hide_a_block() {
    let mut net: Net<Portable> = Net::started(Spec::new(70, NODES));
    let blocks = inserted(&mut net, 700);
    let liar = Liar::default();
    LIARS.into_iter().for_each(|node| net.corrupt(node, liar.clone()));
    for (number, block) in blocks.iter().enumerate() {
        assert_eq!(
            net.fetch(CLIENTS[(number + 1) % 3], block.id()).as_ref(),
            Ok(block)
        );
    }
    assert!(liar.tally.count() > 0);
    // Nobody believes them that there is something, either.
    assert_eq!(
        net.fetch(CLIENTS[0], block(7_000).id()),
        Err(FetchFailure::NotFound)
    );
}

/// The node nearest to a block's key: where every insert of it ends.
fn sink(net: &Net<Portable>, block: &Block) -> usize {
    let key = block.key().location();
    let distance = |node: &usize| net.descriptor(*node).location().distance(key);
    (0..NODES).min_by_key(distance).unwrap()
}

#[test]
fn an_insert_that_is_read_back_is_in_or_has_failed() {
    let mut net: Net<Portable> = Net::started(Spec::new(71, NODES));
    let liar = Liar::default();
    LIARS.into_iter().for_each(|node| net.corrupt(node, liar.clone()));
    let blocks: Vec<Block> = (710..726).map(block).collect();
    let mut stored = 0;
    for (number, block) in blocks.iter().enumerate() {
        // Who is the sink of a block can keep it out of the network, but not unnoticed.
        if net.insert(CLIENTS[number % 3], block.clone(), 2).is_err() {
            assert!(LIARS.contains(&sink(&net, block)));
            continue;
        }
        stored += 1;
        assert_eq!(
            net.fetch(CLIENTS[(number + 1) % 3], block.id()).as_ref(),
            Ok(block)
        );
    }
    assert!(stored > blocks.len() / 2 && liar.tally.count() > 0);
}

#[test]
fn droppers_do_not_hide_a_block() {
    let mut net: Net<Portable> = Net::started(Spec::new(72, NODES));
    let blocks = inserted(&mut net, 730);
    let dropper = Dropper::default();
    DROPPERS
        .into_iter()
        .for_each(|node| net.corrupt(node, dropper.clone()));
    let mut entries = BTreeSet::new();
    for (number, block) in blocks.iter().enumerate() {
        let client = CLIENTS[(number + 1) % 3];
        assert_eq!(net.fetch(client, block.id()).as_ref(), Ok(block));
        let circuits = net.asked(client).iter();
        entries.extend(circuits.map(|origin| net.path(client, *origin)[0]));
    }
    // A dropper was the pinned entry of one of them, and did not cut it off.
    assert!(DROPPERS.iter().any(|node| entries.contains(node)));
    for block in (740..748).map(block) {
        assert!(net.insert(CLIENTS[0], block.clone(), 2).unwrap() > 0);
        assert_eq!(net.fetch(CLIENTS[1], block.id()), Ok(block));
    }
    assert!(dropper.tally.count() > 0);
}
