//! Every node is restarted, one after the other, while files come and go through the others.

use std::thread;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_tests::process::{
    chaos::{
        fleet::{Fleet, NODES},
        load::{Load, Stopping, choose},
    },
    wait_for,
};

const SEED: u64 = 0x7265_7374;

#[test]
fn all_nodes_restart_in_turn_under_load() {
    let mut fleet = Fleet::start("restarts", SEED, NODES);
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let all: Vec<usize> = (0..NODES).collect();
    let order = choose(&mut rng, &all, NODES);
    let load = Load::default();
    let proxies = fleet.proxies.clone();
    thread::scope(|scope| {
        let _stopping = Stopping(&load);
        for thread in 0..2 {
            let (load, proxies, all) = (&load, &proxies, &all);
            scope.spawn(move || load.run(proxies, all, SEED + thread));
        }
        for number in order {
            // Half of them are told, half are not; the seed that all others know is among either.
            fleet.stop(number, rng.next_u64() % 2 == 0);
            fleet.restart(number);
            fleet.wait_until_whole();
        }
        // A slow machine restarts nodes faster than it inserts files.
        wait_for("files", super::LOAD, || (load.done().0 >= NODES).then_some(()));
    });
    let (files, failures) = load.into_files();
    println!(
        "{} files inserted, {} transfers failed: {failures:?}",
        files.len(),
        failures.len()
    );
    assert!(failures.len() * 20 <= files.len(), "{failures:?}");
    let readers = choose(&mut rng, &all, 3);
    fleet.finish(&files, &readers);
}
