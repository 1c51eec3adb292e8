use super::*;
use std::collections::BTreeSet;

#[test]
fn blocks_come_back_from_their_region() {
    let store = open(Memory::new());
    let (a, b, c) = (content(1), content(2), signed(5, 6, 7));
    assert_eq!(store.put(&a, Region::Store).unwrap(), Put::Stored);
    assert_eq!(store.put(&b, Region::Cache).unwrap(), Put::Stored);
    assert_eq!(store.put(&c, Region::Store).unwrap(), Put::Stored);
    assert_eq!(store.get(&a.id()).unwrap(), Some((a.clone(), Region::Store)));
    assert_eq!(store.get(&b.id()).unwrap(), Some((b.clone(), Region::Cache)));
    assert_eq!(store.get(&c.id()).unwrap(), Some((c.clone(), Region::Store)));
    assert_eq!(store.get(&content(3).id()).unwrap(), None);
    assert!(store.contains(&a.id()) && !store.contains(&content(3).id()));
    // The same key as another kind is another block.
    assert_eq!(store.get(&BlockId::content(c.key())).unwrap(), None);
    let stats = store.stats();
    assert_eq!((stats.store.used, stats.cache.used, stats.misses), (2, 1, 2));
    assert_eq!((stats.store.hits, stats.cache.hits, stats.store.puts), (2, 1, 2));
}

#[test]
fn content_is_stored_once_a_region() {
    let store = open(Memory::new());
    let block = content(1);
    store.put(&block, Region::Cache).unwrap();
    assert_eq!(store.put(&block, Region::Cache).unwrap(), Put::AlreadyStored);
    // What is only cached may vanish: the store region takes its own copy.
    assert_eq!(store.put(&block, Region::Store).unwrap(), Put::Stored);
    assert_eq!(store.put(&block, Region::Store).unwrap(), Put::AlreadyStored);
    assert_eq!(store.put(&block, Region::Cache).unwrap(), Put::AlreadyStored);
    assert_eq!(store.get(&block.id()).unwrap().unwrap().1, Region::Store);
}

#[test]
fn the_first_signed_block_stays() {
    let store = open(Memory::new());
    let (first, second) = (signed(1, 2, 3), signed(1, 2, 4));
    for (region, other) in [(Region::Store, Region::Cache), (Region::Cache, Region::Store)] {
        assert_eq!(store.put(&first, region).unwrap(), Put::Stored);
        assert_eq!(store.put(&second, region).unwrap(), Put::Collision(first.clone()));
        assert_eq!(store.put(&second, other).unwrap(), Put::Collision(first.clone()));
        assert!(has(&store, &first));
        assert!(store.remove(&first.id()).unwrap());
    }
    assert_eq!(store.stats().collisions, 4);
    assert_eq!(store.put(&second, Region::Store).unwrap(), Put::Stored);
}

#[test]
fn a_removed_block_is_gone_from_the_disk_too() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let (a, b) = (content(1), content(2));
    for region in Region::ALL.into_iter().rev() {
        store.put(&a, region).unwrap();
        store.put(&b, region).unwrap();
    }
    assert!(store.remove(&a.id()).unwrap());
    assert!(!store.remove(&a.id()).unwrap());
    assert!(!has(&store, &a) && has(&store, &b));
    store.close().unwrap();
    // Without the index all slots are read: the block must not rise again.
    memory.tamper("index", |bytes| bytes[100] ^= 1);
    let store = open(memory);
    assert!(matches!(
        store.opened().index,
        IndexSource::Rebuilt(Rebuilt {
            blocks: 2,
            unusable: 2
        })
    ));
    assert!(!has(&store, &a) && has(&store, &b));
}

#[test]
fn a_full_cache_loses_what_was_not_used_the_longest() {
    let store = open(Memory::new());
    let blocks: Vec<Block> = (0..64).map(content).collect();
    for block in &blocks {
        store.put(block, Region::Cache).unwrap();
    }
    for block in &blocks[..10] {
        assert!(has(&store, block));
    }
    for number in 100..130 {
        store.put(&content(number), Region::Cache).unwrap();
    }
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(store.contains(&block.id()), !(10..40).contains(&i), "block {i}");
    }
    assert_eq!(store.stats().cache.evictions, 30);
}

#[test]
fn a_full_store_keeps_what_is_nearest() {
    let store = open(Memory::new());
    // Distances 1..=64 from location 0, on both sides of the ring.
    let near = |i: u64| {
        signed(
            if i.is_multiple_of(2) {
                i << 48
            } else {
                (i << 48).wrapping_neg()
            },
            1,
            1,
        )
    };
    for i in 1..=64 {
        assert_eq!(store.put(&near(i), Region::Store).unwrap(), Put::Stored);
    }
    assert_eq!(store.put(&near(65), Region::Store).unwrap(), Put::Nearer);
    // Older blocks of one distance give way to newer ones, so a node that moves its data does not freeze.
    assert_eq!(
        store.put(&signed(64 << 48, 2, 1), Region::Store).unwrap(),
        Put::Stored
    );
    assert!(!has(&store, &near(64)));
    assert_eq!(store.put(&signed(0, 3, 1), Region::Store).unwrap(), Put::Stored);
    assert!(!has(&store, &signed(64 << 48, 2, 1)) && has(&store, &near(63)));
    assert_eq!(store.stats().nearer, 1);
}

#[test]
fn distance_follows_the_location_of_this_open() {
    let memory = Memory::new();
    let store = open(memory.clone());
    for i in 0..64 {
        store.put(&signed(i << 48, 1, 1), Region::Store).unwrap();
    }
    store.close().unwrap();
    let moved = Options {
        location: Location::new(63 << 48),
        ..options()
    };
    let store = Store::open_on(Arc::new(memory), &master(), &moved).unwrap();
    assert_eq!(
        store.put(&signed(70 << 48, 1, 1), Region::Store).unwrap(),
        Put::Stored
    );
    assert!(!has(&store, &signed(0, 1, 1)) && has(&store, &signed(63 << 48, 1, 1)));
}

#[test]
fn a_walk_sees_every_block() {
    let store = open(Memory::new());
    let mut expected = Vec::new();
    for i in 0..40 {
        store.put(&content(i), Region::Store).unwrap();
        store.put(&content(100 + i), Region::Cache).unwrap();
        expected.push(content(i).id());
    }
    let (mut seen, mut cursor) = (Vec::new(), Cursor::default());
    while let Some((block, next)) = store.next_block(Region::Store, cursor).unwrap() {
        seen.push(block.id());
        cursor = next;
    }
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn a_clean_close_leaves_nothing_to_replay() {
    let memory = Memory::new();
    let store = open(memory.clone());
    assert_eq!(store.opened().index, IndexSource::Created);
    store.put(&content(1), Region::Store).unwrap();
    store.close().unwrap();
    let store = open(memory.clone());
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 0 });
    assert!(has(&store, &content(1)));
    store.put(&content(2), Region::Store).unwrap();
    drop(store);
    let store = open(memory);
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 1 });
    assert!(has(&store, &content(1)) && has(&store, &content(2)));
}

#[test]
fn the_journal_gives_way_to_a_snapshot_at_its_bound() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let bound = store.inspect().journal_bound;
    let (a, b) = (content(1), content(2));
    store.put(&a, Region::Store).unwrap();
    // Records stand for puts and removals; these go to the journal alone, to be quick.
    let slot = store.index.find(store.placer.place(&a.id()))[0].1;
    let entry = Entry::live(store.placer.place(&a.id()).tag);
    for _ in 0..bound {
        store.log(Record::Written(Region::Store, slot, entry)).unwrap();
    }
    let before = store.inspect();
    store.sync().unwrap();
    let after = store.inspect();
    assert_eq!(
        (after.generation, after.journal_records),
        (before.generation + 1, 0)
    );
    store.put(&b, Region::Store).unwrap();
    drop(store);
    let store = open(memory);
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 1 });
    assert!(has(&store, &a) && has(&store, &b));
}

#[test]
fn a_put_writes_the_snapshot_if_nobody_syncs() {
    let store = open(Memory::new());
    let bound = store.journal_bound().hard;
    for _ in 0..bound {
        store.log(Record::Emptied(Region::Cache, Slot::new(0))).unwrap();
    }
    assert_eq!(store.inspect().journal_records, bound);
    store.put(&content(1), Region::Store).unwrap();
    assert_eq!(store.inspect().journal_records, 1);
}

#[test]
fn one_read_a_get_and_two_writes_a_put() {
    let faulty = crate::medium::faulty::Faulty::new(Arc::new(Memory::new()));
    let store = open(faulty.clone());
    store.put(&content(0), Region::Store).unwrap();
    let before = faulty.calls();
    store.put(&content(1), Region::Store).unwrap();
    let put = faulty.calls();
    assert_eq!(
        (
            put.reads - before.reads,
            put.writes - before.writes,
            put.syncs - before.syncs
        ),
        (0, 2, 0)
    );
    assert!(has(&store, &content(1)));
    let hit = faulty.calls();
    assert_eq!((hit.reads - put.reads, hit.writes - put.writes), (1, 0));
    assert!(!has(&store, &content(2)));
    assert_eq!(faulty.calls(), hit, "a miss asks no disk");
}

#[test]
fn nothing_on_the_disk_can_be_recognised() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let blocks: Vec<Block> = (0..20)
        .map(|i| {
            if i % 2 == 0 {
                content(i)
            } else {
                signed(i << 40, 9, 0x77)
            }
        })
        .collect();
    for block in &blocks {
        store.put(block, Region::Store).unwrap();
        store.put(block, Region::Cache).unwrap();
    }
    store.sync().unwrap();
    store.close().unwrap();
    for name in memory.names() {
        let bytes = memory.read(&name);
        // Beginnings and ends of routing keys, and a stretch of plaintext.
        let mut forbidden: BTreeSet<[u8; 8]> = BTreeSet::from([[0x77; 8]]);
        for block in &blocks {
            let key = block.key();
            forbidden.extend([
                *key.as_bytes().first_chunk().unwrap(),
                *key.as_bytes().last_chunk().unwrap(),
            ]);
        }
        assert!(
            bytes.windows(8).all(|w| w[0] == 0 || !forbidden.contains(w)),
            "{name}"
        );
        // Everything written is evenly spread; unwritten slots are zeros.
        let mut counts = [0_usize; 256];
        bytes.iter().for_each(|&b| counts[usize::from(b)] += 1);
        let written: usize = counts[1..].iter().sum();
        let mean = written / 255;
        if mean > 400 {
            assert!(counts[1..].iter().all(|&c| c.abs_diff(mean) < mean / 3), "{name}");
        }
    }
}

#[test]
fn inspection_names_sizes_and_no_keys() {
    let store = open(Memory::new());
    store.put(&content(1), Region::Store).unwrap();
    let inspection = store.inspect();
    assert_eq!(inspection.regions[0].used, 1);
    assert_eq!(inspection.index_bytes, 128 * 8);
    assert_eq!(inspection.puts, 1);
    assert!(format!("{inspection:?}").len() < 1000);
}

/// Names in slices of any size are those of the blocks in the region, and a name costs one small read.
#[test]
fn names_are_those_of_the_blocks() {
    let store = open(Memory::new());
    let mut expected = Vec::new();
    for i in 0..40 {
        store.put(&content(i), Region::Store).unwrap();
        store.put(&content(100 + i), Region::Cache).unwrap();
        expected.push(content(i).id());
    }
    store.remove(&expected.swap_remove(7)).unwrap();
    expected.sort_unstable();
    for most in [1, 7, 39, 40, 64] {
        let (mut seen, mut cursor) = (Vec::new(), Cursor::default());
        loop {
            let names = store.names(Region::Store, cursor, most).unwrap();
            assert!(names.blocks.len() <= most);
            seen.extend(names.blocks);
            let Some(next) = names.next else { break };
            cursor = Cursor::from_u64(next.as_u64());
        }
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
    assert_eq!(store.occupied(Region::Store), 39);
    let end = Cursor::from_u64(u64::MAX);
    assert_eq!(store.names(Region::Store, end, 5).unwrap().next, None);
}

#[test]
fn a_demoted_block_is_in_the_cache_and_nowhere_else() {
    let memory = Memory::new();
    let store = open(memory.clone());
    let (a, b) = (content(1).id(), content(2).id());
    store.put(&content(1), Region::Store).unwrap();
    store.put(&content(2), Region::Cache).unwrap();
    assert!(store.holds(&a) && !store.holds(&b));
    assert!(store.demote(&a).unwrap() && !store.demote(&a).unwrap());
    assert!(!store.demote(&b).unwrap() && !store.demote(&content(3).id()).unwrap());
    assert!(!store.holds(&a));
    assert_eq!(store.get(&a).unwrap(), Some((content(1), Region::Cache)));
    // Wanted again.
    assert_eq!(store.put(&content(1), Region::Store).unwrap(), Put::Stored);
    assert!(store.holds(&a) && store.demote(&a).unwrap());
    drop(store);
    let store = open(memory);
    assert!(!store.holds(&a));
    assert_eq!(store.get(&a).unwrap(), Some((content(1), Region::Cache)));
}

#[test]
fn the_cached_copy_of_a_block_that_is_stored_too_ages_out() {
    let store = open(Memory::new());
    let block = content(1);
    store.put(&block, Region::Cache).unwrap();
    for number in 100..163 {
        store.put(&content(number), Region::Cache).unwrap();
    }
    assert_eq!(store.put(&block, Region::Store).unwrap(), Put::Stored);
    let used = |store: &Store| (store.occupied(Region::Store), store.occupied(Region::Cache));
    assert_eq!(used(&store), (1, 64));
    // Lookups find it in the store and do not keep the other one young.
    assert_eq!(store.get(&block.id()).unwrap(), Some((content(1), Region::Store)));
    store.put(&content(200), Region::Cache).unwrap();
    assert!((100..163).all(|number| has(&store, &content(number))));
    assert!(store.remove(&block.id()).unwrap() && store.get(&block.id()).unwrap().is_none());
}

#[test]
fn storing_a_cached_block_once_more_does_not_put_it_at_risk() {
    let memory = Memory::new();
    let store = open(memory.clone());
    store.put(&content(1), Region::Cache).unwrap();
    store.sync().unwrap();
    store.put(&content(1), Region::Store).unwrap();
    for seed in 0..100 {
        let store = open(memory.after_power_cut(seed));
        assert!(has(&store, &content(1)), "power cut {seed}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Against a plain list: the store region of one set keeps the 64 nearest of what it was offered, whatever the order, and
    /// of equally near ones the newest; a block never displaces a nearer one.
    #[test]
    fn a_full_set_keeps_the_nearest(offers in proptest::collection::vec((0..200_u64, 0..3_u8), 60..160)) {
        let store = open(Memory::new());
        let mut model: Vec<(u64, u8)> = Vec::new();
        for (distance, name) in offers {
            let block = signed(distance << 48, name, 1);
            let known = model.contains(&(distance, name));
            let farthest = model.iter().map(|(distance, _)| *distance).max();
            let put = store.put(&block, Region::Store).unwrap();
            if known {
                assert_eq!(put, Put::AlreadyStored);
            } else if model.len() == 64 && farthest.is_some_and(|farthest| farthest < distance) {
                assert_eq!(put, Put::Nearer);
            } else {
                assert_eq!(put, Put::Stored);
                if model.len() == 64 {
                    // The oldest of the farthest.
                    let victim = model.iter().position(|(distance, _)| Some(*distance) == farthest);
                    model.remove(victim.unwrap());
                }
                model.push((distance, name));
            }
        }
        for distance in 0..200 {
            for name in 0..3 {
                let held = store.holds(&signed(distance << 48, name, 1).id());
                assert_eq!(held, model.contains(&(distance, name)));
            }
        }
    }
}
