//! Nodes that are on for eight hours and off for eight, and of which a tenth goes for good each week.

use core::time::Duration;

use rand_core::Rng;
use warren_keys::Location;

use super::network::{Network, block};
use crate::random::below;

const CYCLE: u64 = 16 * 60;
const STEP: u64 = 10;

/// What a run came to, in means over samples of all blocks.
#[derive(Debug, Default)]
struct Outcome {
    /// Share of the blocks that an online node had.
    at_once: f64,
    /// Share that a node had that was or will be online within a day.
    within_a_day: f64,
    /// Copies in stores of nodes that are not gone for good.
    copies: f64,
    /// Blocks pushed a day, as a share of those stored.
    pushed: f64,
}

fn churn(nodes: usize, blocks: u64, days: u64, seed: u64) -> Outcome {
    let mut network = Network::new(nodes, seed);
    let all: Vec<_> = (0..blocks).map(block).collect();
    for block in &all {
        network.place(block, 5);
    }
    let mut phases: Vec<u64> = (0..nodes).map(|_| network.rng.next_u64() % CYCLE).collect();
    let mut gone = vec![false; nodes];
    let mut outcome = Outcome::default();
    let mut samples = 0;
    for minute in (0..days * 24 * 60).step_by(usize::try_from(STEP).unwrap()) {
        for node in 0..network.nodes.len() {
            let on = !gone[node] && (minute + phases[node]) % CYCLE < CYCLE / 2;
            match (on, network.online(node)) {
                (true, false) => network.start(node),
                (false, true) => network.stop(node),
                _ => {}
            }
        }
        let alive: Vec<usize> = (0..network.nodes.len()).filter(|node| !gone[*node]).collect();
        // One in ten a week, one at a time.
        let between = 7 * 24 * 60 / STEP * 10 / alive.len() as u64;
        if network.rng.next_u64().is_multiple_of(between) {
            let node = alive[below(&mut network.rng, alive.len())];
            network.stop(node);
            network.nodes[node].store.clear();
            gone[node] = true;
            let place = Location::new(network.rng.next_u64());
            network.join(place);
            phases.push(CYCLE - minute % CYCLE);
            gone.push(false);
        }
        network.run_for(Duration::from_secs(STEP * 60));
        if minute % (6 * 60) == 0 && minute > 24 * 60 {
            for block in &all {
                let holders = network.holders(block.id());
                outcome.at_once += f64::from(u8::from(holders.iter().any(|node| network.online(*node))));
                outcome.within_a_day += f64::from(u8::from(!holders.is_empty()));
                outcome.copies += holders.len() as f64;
                samples += 1;
            }
        }
    }
    for sum in [
        &mut outcome.at_once,
        &mut outcome.within_a_day,
        &mut outcome.copies,
    ] {
        *sum /= f64::from(samples);
    }
    outcome.pushed = network.pushed() as f64 / days as f64 / (outcome.copies * blocks as f64);
    outcome
}

/// The targets of the network, on a small one. (The simulator measures them on a large one.)
#[test]
fn blocks_stay_with_five_copies_and_little_traffic() {
    let outcome = churn(30, 60, 16, 1);
    assert!(outcome.at_once >= 0.94, "{outcome:?}");
    assert!(outcome.within_a_day >= 0.999, "{outcome:?}");
    assert!((4.5..=5.05).contains(&outcome.copies), "{outcome:?}");
    assert!(outcome.pushed <= 0.06, "{outcome:?}");
}
