//! The network falls into two parts, both go on, and grow together again: once by lines that stop, and once by packets that vanish.

use std::thread;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_tests::process::{
    chaos::{
        fleet::{Fleet, NODES},
        lines::Flow,
        load::{Load, Stopping, choose},
        spaces::Spaces,
    },
    wait_for,
};

const SEED: u64 = 0x7061_7274;
/// Files before, bytes.
const BEFORE: [u64; 6] = [20_000, 50_000, 100_000, 200_000, 300_000, 900_000];

/// `part` makes the smaller part unreachable for the others, without an end or an answer: as a cable that is cut, not as a machine that
/// says that the other one is gone; or makes it reachable again. The numbers are those of all nodes, of the smaller part's, and of the
/// files that each part inserts meanwhile, and fetches.
#[expect(clippy::print_stdout, reason = "part of a test")]
fn two_parts(fleet: Fleet, [count, smaller, meanwhile]: [usize; 3], part: impl Fn(&Fleet, &[usize], bool)) {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let all: Vec<usize> = (0..count).collect();
    let smaller = choose(&mut rng, &all, smaller);
    let larger: Vec<usize> = all.iter().copied().filter(|n| !smaller.contains(n)).collect();
    let mut files = fleet.insert(&all, &BEFORE);

    part(&fleet, &smaller, true);
    let load = [Load::default(), Load::default()];
    thread::scope(|scope| {
        let _stopping = load.each_ref().map(Stopping);
        for (number, (load, part)) in load.iter().zip([&smaller, &larger]).enumerate() {
            let proxies = &fleet.proxies;
            scope.spawn(move || load.run(proxies, part, SEED + number as u64));
        }
        // Who is asked and does not answer is given up soon; nobody asks much of an idle neighbour.
        for (own, others) in [(&smaller, &larger), (&larger, &smaller)] {
            for number in own {
                wait_for("the end of the links to the other part", super::LINKS_END, || {
                    let links = fleet.links(*number);
                    (!links.iter().any(|link| others.contains(link))).then_some(())
                });
            }
            fleet.wait_until_one(own);
        }
        let before = load.each_ref().map(Load::done);
        for (load, (inserted_before, fetched_before)) in load.iter().zip(before) {
            wait_for("files in both parts", super::LOAD, || {
                let (inserted, fetched) = load.done();
                let (inserted, fetched) = (inserted - inserted_before, fetched - fetched_before);
                (inserted >= meanwhile && fetched >= meanwhile as u64).then_some(())
            });
        }
    });
    for (load, part) in load.into_iter().zip(["smaller", "larger"]) {
        let (inserted, failures) = load.into_files();
        println!(
            "{} files inserted in the {part} part, failures: {failures:?}",
            inserted.len()
        );
        files.extend(inserted);
    }

    part(&fleet, &smaller, false);
    fleet.wait_until_whole();
    let mut readers = choose(&mut rng, &smaller, 2);
    readers.extend(choose(&mut rng, &larger, 2));
    fleet.finish(&files, &readers);
}

#[test]
fn two_parts_go_on_and_grow_together() {
    let fleet = Fleet::start("partition", SEED, NODES);
    two_parts(fleet, [NODES, 8, 8], |fleet, smaller, apart| {
        fleet.lines.set_all(NODES, |one, other, line| {
            let between = smaller.contains(&one) != smaller.contains(&other);
            line.flow = if apart && between {
                Flow::Stalled
            } else {
                Flow::Open
            };
        });
    });
}

#[test]
fn so_they_do_when_packets_vanish() {
    /// Fewer than elsewhere: it is about what TCP does when nothing comes back, and that takes its time.
    const COUNT: usize = 10;
    let Some(spaces) = Spaces::make(COUNT) else {
        println!("network namespaces need root; the same over loopback is tested beside this");
        return;
    };
    let fleet = Fleet::start_in(&spaces, "vanish", SEED, COUNT);
    two_parts(fleet, [COUNT, 4, 4], |_, smaller, apart| {
        for number in smaller {
            spaces.set_apart(*number, apart);
        }
    });
}
