//! Random sequences of operations with kills, power cuts, faults and bit flips in between, against a map.

use super::*;
use crate::medium::faulty::Faulty;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// Fewer blocks than a set has slots: nothing is evicted, so all that was acknowledged must be there.
const BLOCKS: u8 = 40;

#[derive(Clone, Debug)]
enum Op {
    Put {
        name: u8,
        version: u8,
        cache: bool,
    },
    Get(u8),
    Remove(u8),
    Sync,
    Snapshot,
    /// From the n-th change on the disk fails, until the next restart.
    FailFrom(u8),
    /// The disk is full for some changes, and then no longer.
    FullFor {
        after: u8,
        changes: u8,
    },
    Close,
    Kill,
    PowerCut(u64),
    FlipSlot {
        cache: bool,
        at: u32,
    },
    FlipAndKill {
        file: &'static str,
        at: u32,
    },
    FlipJournalAndKill(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..BLOCKS;
    prop_oneof![
        20 => (name.clone(), 0..2_u8, any::<bool>()).prop_map(|(name, version, cache)| Op::Put { name, version, cache }),
        5 => name.clone().prop_map(Op::Get),
        5 => name.prop_map(Op::Remove),
        3 => Just(Op::Sync),
        1 => Just(Op::Snapshot),
        1 => (0..12_u8).prop_map(Op::FailFrom),
        1 => (0..12_u8, 1..4_u8).prop_map(|(after, changes)| Op::FullFor { after, changes }),
        1 => Just(Op::Close),
        2 => Just(Op::Kill),
        3 => any::<u64>().prop_map(Op::PowerCut),
        1 => (any::<bool>(), any::<u32>()).prop_map(|(cache, at)| Op::FlipSlot { cache, at }),
        1 => (prop::sample::select(vec!["index", "header"]), any::<u32>())
            .prop_map(|(file, at)| Op::FlipAndKill { file, at }),
        1 => any::<u32>().prop_map(Op::FlipJournalAndKill),
    ]
}

fn named(name: u8, version: u8) -> Block {
    if name.is_multiple_of(2) {
        content(u64::from(name))
    } else {
        signed(u64::from(name) << 56, name, version)
    }
}

/// What the model knows of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// There with this version; whether a sync has covered it.
    There { version: u8, durable: bool },
    /// An operation on it failed, or damage may have hit it.
    Unclear,
}

struct World {
    memory: Memory,
    faulty: Faulty,
    store: Option<Store>,
    model: BTreeMap<u8, Known>,
    /// Whether the journal still has the mark of the last sync, which a power cut may take.
    marked: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            memory: Memory::new(),
            faulty: Faulty::new(Arc::new(Memory::new())),
            store: None,
            model: BTreeMap::new(),
            marked: false,
        };
        world.start(Memory::new());
        world
    }

    fn start(&mut self, memory: Memory) {
        self.store = None;
        self.faulty = Faulty::new(Arc::new(memory.clone()));
        self.memory = memory;
        self.store = Some(open(self.faulty.clone()));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Which version of a block the store gives out. Anything but a version of that very block fails.
    fn seen(&self, name: u8) -> Option<u8> {
        let (block, _) = self.store().get(&named(name, 0).id()).unwrap()?;
        let version = (0..2).find(|&v| named(name, v) == block);
        Some(version.expect("the store gave out a block that was never put"))
    }

    /// Compares everything. `trusted` says which blocks must be there; of the others the model learns.
    ///
    /// Where all slots were read again, another version of a signed block may turn up, one that a power cut had taken
    /// from the index and not from the disk.
    fn check(&mut self, trusted: impl Fn(Known) -> bool) {
        let rebuilt = matches!(self.store().opened().index, IndexSource::Rebuilt(_));
        for name in 0..BLOCKS {
            let seen = self.seen(name);
            match (self.model.get(&name).copied(), seen) {
                (None, seen) => assert_eq!(seen, None, "block {name} rose from the dead"),
                (Some(known @ Known::There { version, durable }), seen) if trusted(known) => {
                    let Some(seen) = seen else {
                        panic!("block {name} was acknowledged and is lost")
                    };
                    assert!(seen == version || rebuilt, "block {name} changed");
                    self.model.insert(
                        name,
                        Known::There {
                            version: seen,
                            durable,
                        },
                    );
                }
                (Some(_), seen) => self.learn(name, seen),
            }
        }
    }

    fn learn(&mut self, name: u8, seen: Option<u8>) {
        match seen {
            Some(version) => drop(self.model.insert(
                name,
                Known::There {
                    version,
                    durable: false,
                },
            )),
            // It may still be on the disk, unknown to the index, and be found by a later reading of all slots.
            None => drop(self.model.insert(name, Known::Unclear)),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { name, version, cache } => self.put(name, version, cache),
            Op::Get(name) => {
                let seen = self.seen(name);
                match self.model.get(&name) {
                    None => assert_eq!(seen, None),
                    Some(Known::There { version, .. }) => assert_eq!(seen, Some(*version)),
                    Some(Known::Unclear) => {}
                }
            }
            Op::Remove(name) => match (self.store().remove(&named(name, 0).id()), self.model.get(&name)) {
                (Ok(removed), known) => {
                    assert!(removed || !matches!(known, Some(Known::There { .. })));
                    // Until a sync a power cut may bring it back.
                    if known.is_some() {
                        self.model.insert(name, Known::Unclear);
                    }
                }
                (Err(_), None) => panic!("nothing to remove, nothing to fail"),
                (Err(_), Some(_)) => drop(self.model.insert(name, Known::Unclear)),
            },
            Op::Sync => {
                if self.store().sync().is_ok() {
                    self.marked = true;
                    for known in self.model.values_mut() {
                        if let Known::There { durable, .. } = known {
                            *durable = true;
                        }
                    }
                }
            }
            Op::Snapshot => drop(self.store().rotate(&mut self.store().lock_journal())),
            Op::FailFrom(n) => self.faulty.fail_after(n.into(), u64::MAX, ErrorKind::Other),
            Op::FullFor { after, changes } => {
                self.faulty
                    .fail_after(after.into(), changes.into(), ErrorKind::StorageFull);
            }
            Op::Close => {
                drop(self.store.take().unwrap().close());
                self.restart(self.memory.after_kill());
            }
            Op::Kill => self.restart(self.memory.after_kill()),
            Op::PowerCut(seed) => {
                let disk = self.memory.after_power_cut(seed);
                self.start(disk);
                self.marked = false;
                self.check(|known| matches!(known, Known::There { durable: true, .. }));
            }
            Op::FlipSlot { cache, at } => {
                let region = if cache { Region::Cache } else { Region::Store };
                self.memory.tamper(region.file_name(), |bytes| {
                    let at = HEADER + at as usize % (bytes.len() - HEADER);
                    bytes[at] ^= 1;
                });
                let mut lost = 0;
                for name in 0..BLOCKS {
                    if let Some(Known::There { version, .. }) = self.model.get(&name).copied() {
                        match self.seen(name) {
                            Some(seen) => assert_eq!(seen, version),
                            None => {
                                lost += 1;
                                self.model.insert(name, Known::Unclear);
                            }
                        }
                    }
                }
                assert!(lost <= 1, "one flipped bit cost {lost} blocks");
            }
            Op::FlipAndKill { file, at } => {
                let memory = self.memory.after_kill();
                let (name, len) = if file == "header" {
                    ("cache", HEADER)
                } else {
                    (file, usize::MAX)
                };
                memory.tamper(name, |bytes| {
                    let at = at as usize % bytes.len().min(len);
                    bytes[at] ^= 1;
                });
                self.restart(memory);
                assert!(matches!(self.store().opened().index, IndexSource::Rebuilt(_)));
            }
            Op::FlipJournalAndKill(at) => {
                let memory = self.memory.after_kill();
                for name in ["journal.0", "journal.1"] {
                    memory.tamper(name, |bytes| {
                        if let Some(at) = (at as usize).checked_rem(bytes.len()) {
                            bytes[at] ^= 1;
                        }
                    });
                }
                // A bad end of the journal cannot be told from a torn one: what no mark covers may go with it.
                self.start(memory);
                let marked = self.marked;
                self.check(|known| matches!(known, Known::There { durable: true, .. }) && marked);
            }
        }
    }

    fn restart(&mut self, memory: Memory) {
        self.start(memory);
        self.check(|known| matches!(known, Known::There { .. }));
    }

    fn put(&mut self, name: u8, version: u8, cache: bool) {
        let block = named(name, version);
        let region = if cache { Region::Cache } else { Region::Store };
        let known = self.model.get(&name).copied();
        // Content has one version.
        let version = if name.is_multiple_of(2) { 0 } else { version };
        match self.store().put(&block, region) {
            Ok(Put::Stored | Put::AlreadyStored) => {
                let durable = match known {
                    Some(Known::There {
                        version: before,
                        durable,
                    }) => {
                        assert_eq!(before, version, "two versions of one block");
                        durable
                    }
                    _ => false,
                };
                self.model.insert(name, Known::There { version, durable });
            }
            Ok(Put::Collision(existing)) => {
                let kept = u8::from(version == 0);
                assert_eq!(existing, named(name, kept));
                match known {
                    Some(Known::There { version: before, .. }) => assert_eq!(before, kept),
                    Some(Known::Unclear) => self.learn(name, Some(kept)),
                    None => panic!("collision with nothing"),
                }
            }
            Ok(Put::Nearer) => panic!("the set is never full here"),
            Err(_) if matches!(known, Some(Known::There { .. })) => {}
            Err(_) => drop(self.model.insert(name, Known::Unclear)),
        }
    }
}

const HEADER: usize = crate::geometry::HEADER_LEN;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_wrong_is_given_out(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.restart(world.memory.after_kill());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// With evictions the model cannot know what stays; but a kill changes nothing at all.
    #[test]
    fn a_kill_leaves_a_full_store_as_it_was(
        puts in prop::collection::vec((0..150_u64, any::<bool>()), 60..140),
        snapshot_at in 0..60_usize,
        seed: u64,
    ) {
        let memory = Memory::new();
        let store = open(memory.clone());
        for (i, &(number, cache)) in puts.iter().enumerate() {
            store.put(&content(number), if cache { Region::Cache } else { Region::Store }).unwrap();
            if i == snapshot_at {
                store.sync().unwrap();
                store.rotate(&mut store.lock_journal()).unwrap();
            }
        }
        let there = |store: &Store| -> Vec<bool> { (0..150).map(|n| has(store, &content(n))).collect() };
        let before = there(&store);
        prop_assert_eq!(&there(&open(memory.after_kill())), &before);
        // After a power cut some are gone, none is wrong, and the store goes on.
        let cut = open(memory.after_power_cut(seed));
        there(&cut);
        cut.put(&content(999), Region::Cache).unwrap();
        prop_assert!(has(&cut, &content(999)));
    }
}
