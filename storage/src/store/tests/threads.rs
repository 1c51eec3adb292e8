use super::*;
use std::thread;

/// Few keys, few slots, many threads: every get gives the right block or none, and every put is seen by its writer.
#[test]
fn threads_never_see_a_wrong_block() {
    let store = open(Memory::new());
    let blocks: Vec<Block> = (0..200).map(content).collect();
    thread::scope(|scope| {
        for t in 0..4_usize {
            let (store, blocks) = (&store, &blocks);
            scope.spawn(move || {
                for i in 0..400 {
                    let block = &blocks[(i * (t + 3) + t * 17) % blocks.len()];
                    match i % 4 {
                        0 | 1 => drop(store.put(block, Region::Cache).unwrap()),
                        2 => drop(has(store, block)),
                        _ if i % 8 == 3 => drop(store.remove(&block.id()).unwrap()),
                        _ => drop(store.verify()),
                    }
                }
            });
        }
    });
    let verified = store.verify();
    assert_eq!((verified.damaged, verified.stale, verified.in_flight), (0, 0, 0));
    assert_eq!(verified.sound, store.stats().cache.used);
    assert_eq!(store.stats().damaged, 0);
}

/// Of several signed blocks under one key exactly one is stored, and all losers are told which.
#[test]
fn one_of_many_versions_wins() {
    for round in 0..20 {
        let store = open(Memory::new());
        let outcomes: Vec<Put> = thread::scope(|scope| {
            let put = |version| {
                let (store, block) = (&store, signed(round, 1, version));
                scope.spawn(move || {
                    store.put(
                        &block,
                        if version % 2 == 0 {
                            Region::Store
                        } else {
                            Region::Cache
                        },
                    )
                })
            };
            let threads: Vec<_> = (0..4).map(put).collect();
            threads.into_iter().map(|t| t.join().unwrap().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|o| **o == Put::Stored).count(), 1);
        let (winner, _) = store.get(&signed(round, 1, 0).id()).unwrap().unwrap();
        assert!(
            outcomes
                .iter()
                .all(|o| *o == Put::Stored || *o == Put::Collision(winner.clone()))
        );
    }
}

#[test]
fn syncs_and_snapshots_go_on_beside_puts() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let blocks: Vec<Block> = (0..50).map(content).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            blocks
                .iter()
                .for_each(|b| drop(store.put(b, Region::Store).unwrap()))
        });
        scope.spawn(|| {
            for _ in 0..10 {
                store.sync().unwrap();
                store.rotate(&mut store.lock_journal()).unwrap();
            }
        });
    });
    drop(store);
    let store = open(memory);
    assert!(blocks.iter().all(|b| has(&store, b)));
}
