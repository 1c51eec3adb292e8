use super::*;
use crate::geometry::HEADER_LEN;
use crate::medium::replace;

/// A closed store with blocks 0..20 in the store region.
fn filled() -> Memory {
    let memory = Memory::new();
    let store = open(memory.clone());
    (0..20).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
    store.close().unwrap();
    memory
}

/// Where a slot begins in its file.
fn start(slot: u32) -> usize {
    usize::try_from(Slot::new(slot).offset()).unwrap()
}

fn rebuilt(memory: &Memory) -> Store {
    let store = open(memory.after_kill());
    assert_eq!(
        store.opened().index,
        IndexSource::Rebuilt(Rebuilt {
            blocks: 20,
            unusable: 0
        })
    );
    assert!((0..20).all(|i| has(&store, &content(i))));
    store
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt_from_the_slots() {
    for name in ["index", "journal.0", "journal.1"] {
        let memory = filled();
        let len = memory.read(name).len();
        for at in (0..len).step_by(len / 16 + 1) {
            let damaged = memory.after_kill();
            damaged.tamper(name, |bytes| bytes[at] ^= 0x20);
            if open(damaged.after_kill()).opened().index == (IndexSource::Loaded { replayed: 0 }) {
                // The journal that the snapshot does not name.
                continue;
            }
            rebuilt(&damaged);
        }
    }
    let memory = filled();
    Backend::remove(&memory, "index").unwrap();
    // What was rebuilt stays so.
    let store = rebuilt(&memory);
    store.close().unwrap();
    for cut in [0, 1, 500] {
        let memory = filled();
        memory.tamper("index", |bytes| bytes.truncate(cut));
        rebuilt(&memory);
    }
}

#[test]
fn an_index_of_another_time_or_store_is_not_taken() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let old = memory.read("index");
    (0..20).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
    // Twice, for the journal that follows the old snapshot to be overwritten.
    store.rotate(&mut store.lock_journal()).unwrap();
    store.rotate(&mut store.lock_journal()).unwrap();
    store.close().unwrap();
    replace(&memory, "index", &old).unwrap();
    rebuilt(&memory);
    let other = filled();
    replace(&memory, "index", &other.read("index")).unwrap();
    rebuilt(&memory);
}

#[test]
fn a_rebuilt_index_keeps_the_order_of_age() {
    let memory = Memory::new();
    let store = open(memory.clone());
    (0..64).for_each(|i| drop(store.put(&content(i), Region::Cache).unwrap()));
    (64..70).for_each(|i| drop(store.put(&content(i), Region::Cache).unwrap()));
    drop(store);
    memory.tamper("index", |bytes| bytes[50] ^= 1);
    let store = open(memory);
    (70..80).for_each(|i| drop(store.put(&content(i), Region::Cache).unwrap()));
    for i in 0..80 {
        assert_eq!(store.contains(&content(i).id()), i >= 16, "block {i}");
    }
}

#[test]
fn either_header_restores_the_other() {
    for region in Region::ALL {
        for whole in [false, true] {
            let memory = filled();
            memory.tamper(region.file_name(), |bytes| {
                if whole {
                    bytes[..HEADER_LEN].fill(0)
                } else {
                    bytes[7] ^= 1
                }
            });
            assert_eq!(rebuilt(&memory).opened().restored, Some(region));
        }
    }
    let memory = filled();
    Backend::remove(&memory, "cache").unwrap();
    let store = rebuilt(&memory);
    assert_eq!(store.put(&content(50), Region::Cache).unwrap(), Put::Stored);
    store.close().unwrap();
}

#[test]
fn a_wrong_key_and_mixed_files_are_refused() {
    let memory = filled();
    let other = MasterKey::from_bytes(Zeroizing::new([1; 32]));
    let refused = Store::open_on(Arc::new(memory.clone()), &other, &options())
        .err()
        .unwrap();
    assert!(matches!(refused, Error::WrongKey { .. }));
    // The right key still opens it, and nothing was touched.
    assert_eq!(
        open(memory.after_kill()).opened().index,
        IndexSource::Loaded { replayed: 0 }
    );
    let stranger = filled().read("cache");
    memory.tamper("cache", |bytes| *bytes = stranger);
    let refused = Store::open_on(Arc::new(memory.clone()), &master(), &options())
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Damaged { .. }));
    let both = filled();
    for region in Region::ALL {
        both.tamper(region.file_name(), |bytes| bytes[..HEADER_LEN].fill(0));
    }
    let refused = Store::open_on(Arc::new(both), &master(), &options())
        .err()
        .unwrap();
    assert!(
        matches!(refused, Error::WrongKey { .. }),
        "a store full of blocks must not be made anew"
    );
}

#[test]
fn a_damaged_slot_is_a_missing_block() {
    let memory = filled();
    let store = open(memory.clone());
    memory.tamper("store", |bytes| {
        let slot = start(3);
        bytes[slot + 1000] ^= 1;
        let (a, b) = (start(5), start(6));
        bytes.copy_within(a..a + SLOT_LEN, b);
    });
    let there = (0..20).filter(|&i| has(&store, &content(i))).count();
    assert_eq!(
        (there, store.stats().damaged, store.stats().store.used),
        (18, 2, 18)
    );
    // The slots are free again.
    (20..22).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
    assert_eq!(store.stats().store.used, 20);
}

#[test]
fn verify_finds_what_nobody_asked_for() {
    let memory = filled();
    let store = open(memory.clone());
    assert_eq!(store.verify().sound, 20);
    memory.tamper("store", |bytes| bytes[start(3)] ^= 1);
    let found = store.verify();
    assert_eq!(
        (found.sound, found.damaged, found.stale, found.free),
        (19, 1, 0, 128 - 20)
    );
    assert_eq!((store.verify().damaged, store.verify().sound), (0, 19));
    // A cut file is damage, not a failure.
    memory.tamper("store", |bytes| bytes.truncate(start(10)));
    assert_eq!((store.verify().damaged, store.verify().sound), (10, 9));
}

/// The slot says something else than the index: after a power cut, when the slot's write arrived and the journal's did not.
#[test]
fn a_stale_entry_is_put_right() {
    let memory = Memory::new();
    let store = open(memory.clone());
    store.put(&content(1), Region::Store).unwrap();
    store.close().unwrap();
    let before = [
        memory.read("index"),
        memory.read("journal.0"),
        memory.read("journal.1"),
    ];
    let store = open(memory.clone());
    store.remove(&content(1).id()).unwrap();
    store.put(&content(2), Region::Store).unwrap();
    store.close().unwrap();
    for (name, bytes) in ["index", "journal.0", "journal.1"].into_iter().zip(before) {
        memory.tamper(name, |now| *now = bytes);
    }
    let store = open(memory.clone());
    assert!(!has(&store, &content(2)), "the index does not know yet");
    assert!(!has(&store, &content(1)), "the slot holds another block");
    assert!(has(&store, &content(2)));
    assert_eq!(store.stats().stale, 1);
    // What a put was told is there survives a kill, too.
    assert!(has(&open(memory.after_kill()), &content(2)));
}
