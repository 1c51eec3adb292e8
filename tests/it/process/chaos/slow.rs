//! Lines as between continents, some of which stand still for seconds: transfers take longer, and end well.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_tests::process::{
    chaos::{
        fleet::{Fleet, NODES},
        lines::Flow,
        load::{Load, Stopping, choose},
    },
    wait_for,
};

const SEED: u64 = 0x736c_6f77;
/// Every line takes so long at least and at most, milliseconds one way.
const LATENCY: (u64, u64) = (25, 150);
/// Lines that stand still at the same time, of 190.
const STALLED: usize = 12;
/// How long a line stands still: the retransmissions of a bad line, and less than what makes a node give a link up.
const STALL: Duration = Duration::from_secs(4);
/// Rounds of such stalls.
const ROUNDS: usize = 5;

#[test]
fn transfers_end_well_over_long_lines_that_stall() {
    let fleet = Fleet::start("slow", SEED, NODES);
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    fleet.lines.set_all(NODES, |_, _, line| {
        let milliseconds = LATENCY.0 + rng.next_u64() % (LATENCY.1 - LATENCY.0 + 1);
        line.latency = Duration::from_millis(milliseconds);
        line.jitter = Duration::from_millis(milliseconds / 4);
    });
    let all: Vec<usize> = (0..NODES).collect();
    let load = Load::default();
    thread::scope(|scope| {
        let _stopping = Stopping(&load);
        for thread in 0..4 {
            let (load, proxies, all) = (&load, &fleet.proxies, &all);
            scope.spawn(move || load.run(proxies, all, SEED + thread));
        }
        for _ in 0..ROUNDS {
            let pairs: Vec<Vec<usize>> = (0..STALLED).map(|_| choose(&mut rng, &all, 2)).collect();
            for pair in &pairs {
                fleet
                    .lines
                    .set(pair[0], pair[1], |line| line.flow = Flow::Stalled);
            }
            // The length of the stall is what is done to the nodes, and no condition.
            let until = Instant::now() + STALL;
            wait_for("the end of the stall", 2 * STALL, || {
                (Instant::now() >= until).then_some(())
            });
            for pair in &pairs {
                fleet.lines.set(pair[0], pair[1], |line| line.flow = Flow::Open);
            }
        }
    });
    let (files, failures) = load.into_files();
    println!(
        "{} files inserted, {} transfers failed",
        files.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:?}");
    let readers = choose(&mut rng, &all, 3);
    fleet.wait_until_whole();
    fleet.finish(&files, &readers);
}
