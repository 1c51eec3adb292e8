//! Whatever happened: once all stay online, each block that is left is on its five nearest nodes.

use proptest::prelude::*;
use warren_keys::{Block, Location};

use super::network::{HOUR, Network, block};

#[derive(Clone, Debug)]
enum Op {
    Stop(usize),
    Start(usize),
    Join(u64),
    /// A disk is lost.
    Empty(usize),
    Wait(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..12_usize).prop_map(Op::Stop),
        4 => (0..12_usize).prop_map(Op::Start),
        1 => any::<u64>().prop_map(Op::Join),
        1 => (0..12_usize).prop_map(Op::Empty),
        4 => (1..60_u32).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn blocks_end_up_in_place(ops in prop::collection::vec(op(), 1..25), seed in 0..1000_u64) {
        let mut network = Network::new(12, seed);
        let blocks: Vec<Block> = (0..12).map(block).collect();
        for block in &blocks {
            network.place(block, 5);
        }
        for op in ops {
            match op {
                Op::Stop(node) => network.stop(node),
                Op::Start(node) if !network.online(node) => network.start(node),
                Op::Start(_) => {}
                Op::Join(place) => {
                    network.join(Location::new(place));
                }
                Op::Empty(node) => network.nodes[node].store.clear(),
                Op::Wait(hours) => network.run_for(hours * HOUR),
            }
        }
        for node in 0..network.nodes.len() {
            if !network.online(node) {
                network.start(node);
            }
        }
        network.run_for(12 * 24 * HOUR);
        for block in &blocks {
            let holders = network.holders(block.id());
            if !holders.is_empty() {
                let mut nearest = network.nearest(block.key().location(), 5);
                nearest.sort_unstable();
                prop_assert_eq!(holders, nearest);
            }
        }
    }
}
