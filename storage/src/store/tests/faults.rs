use super::*;
use crate::medium::faulty::Faulty;
use std::io::ErrorKind;

fn faulty_store() -> (Memory, Faulty, Store) {
    let memory = Memory::new();
    let faulty = Faulty::new(Arc::new(memory.clone()));
    let store = open(faulty.clone());
    (memory, faulty, store)
}

/// A put makes two writes; whichever meets the full disk, the put fails, says so, and costs nothing.
#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::Other] {
        for budget in 0..2 {
            let (memory, faulty, store) = faulty_store();
            for i in 0..10 {
                store.put(&content(i), Region::Store).unwrap();
            }
            faulty.fail_after(budget, u64::MAX, kind);
            let error = store.put(&content(10), Region::Store).unwrap_err();
            assert_eq!(error.is_disk_full(), kind != ErrorKind::Other, "{error}");
            assert!(!has(&store, &content(10)));
            assert!((0..10).all(|i| has(&store, &content(i))));
            faulty.heal();
            store.put(&content(10), Region::Store).unwrap();
            let store = open(memory.after_kill());
            assert!((0..=10).all(|i| has(&store, &content(i))));
        }
    }
}

#[test]
fn a_failed_overwrite_keeps_the_old_block_if_the_disk_did() {
    let cases = [
        // The journal fails before the slot is touched.
        (0, ErrorKind::Other, true),
        // The slot's write is refused, or torn.
        (1, ErrorKind::StorageFull, true),
        (1, ErrorKind::Other, false),
    ];
    for (budget, kind, survives) in cases {
        let (memory, faulty, store) = faulty_store();
        let old: Vec<Block> = (0..64).map(content).collect();
        old.iter()
            .for_each(|b| drop(store.put(b, Region::Cache).unwrap()));
        faulty.fail_after(budget, 1, kind);
        store.put(&content(100), Region::Cache).unwrap_err();
        let killed = open(memory.after_kill());
        assert_eq!(
            old.iter().filter(|b| has(&killed, b)).count(),
            if survives { 64 } else { 63 }
        );
        let kept = old.iter().filter(|b| has(&store, b)).count();
        assert_eq!(kept, if survives { 64 } else { 63 });
        assert!(!has(&store, &content(100)));
        store.put(&content(100), Region::Cache).unwrap();
        assert!(has(&store, &content(100)));
        assert_eq!(store.verify().damaged, 0);
    }
}

#[test]
fn a_failed_removal_can_be_repeated() {
    for budget in 0..2 {
        let (memory, faulty, store) = faulty_store();
        store.put(&content(1), Region::Store).unwrap();
        faulty.fail_after(budget, 1, ErrorKind::Other);
        store.remove(&content(1).id()).unwrap_err();
        store.remove(&content(1).id()).unwrap();
        assert!(!has(&store, &content(1)));
        assert!(!has(&open(memory.after_kill()), &content(1)));
    }
}

/// Every step of a snapshot fails once; nothing is lost, and the next try works.
#[test]
fn a_failed_snapshot_changes_nothing() {
    let mut failures = 0;
    for budget in 0.. {
        let (memory, faulty, store) = faulty_store();
        (0..5).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
        faulty.fail_after(budget, 1, ErrorKind::StorageFull);
        let failed = store.rotate(&mut store.lock_journal()).is_err();
        faulty.heal();
        assert!(!memory.names().contains(&"index.tmp".to_owned()));
        store.put(&content(5), Region::Store).unwrap();
        let killed = open(memory.after_kill());
        assert!(
            (0..=5).all(|i| has(&killed, &content(i))),
            "after failure {budget}"
        );
        assert!(matches!(killed.opened().index, IndexSource::Loaded { .. }));
        store.sync().unwrap();
        assert!(store.rotate(&mut store.lock_journal()).is_ok());
        for seed in 0..8 {
            let cut = open(memory.after_power_cut(seed));
            assert!((0..=5).all(|i| has(&cut, &content(i))));
        }
        if !failed {
            break;
        }
        failures += 1;
    }
    assert!(failures >= 8, "only {failures} steps can fail");
}

#[test]
fn a_failed_sync_is_repeated_by_the_next() {
    for budget in 0..4 {
        let (memory, faulty, store) = faulty_store();
        store.put(&content(1), Region::Store).unwrap();
        faulty.fail_after(budget, 1, ErrorKind::Other);
        assert!(store.sync().is_err());
        store.sync().unwrap();
        for seed in 0..8 {
            assert!(has(&open(memory.after_power_cut(seed)), &content(1)));
        }
    }
}

/// Creation is stopped at every step, by a fault and by a power cut; the next open makes a sound store.
#[test]
fn an_interrupted_creation_is_repeated() {
    for budget in 0.. {
        let memory = Memory::new();
        let faulty = Faulty::new(Arc::new(memory.clone()));
        faulty.fail_after(budget, u64::MAX, ErrorKind::Other);
        let done = Store::open_on(Arc::new(faulty), &master(), &options()).is_ok();
        for disk in [
            memory.after_kill(),
            memory.after_power_cut(1),
            memory.after_power_cut(2),
        ] {
            let store = open(disk);
            assert_eq!(store.put(&content(1), Region::Store).unwrap(), Put::Stored);
            assert!(has(&store, &content(1)));
        }
        if done {
            assert!(budget > 10);
            break;
        }
    }
}
