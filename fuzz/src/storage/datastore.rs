//! The datastore against a map, with kills, power cuts, failing disks and changed bits in between.
//!
//! What was acknowledged is there after a kill, what a sync covered is there after a power cut, and nothing is ever given out
//! that was not put.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc};

use std::sync::LazyLock;

use warren_storage::{
    Cursor, HEADER_LEN, IndexSource, Put, Region, Store,
    medium::{faulty::Faulty, memory::Memory},
};

use super::{BLOCKS, named, open};
use crate::{Input, Seed};

/// Names of the region files.
const FILES: [&str; 2] = ["store", "cache"];
/// A new datastore.
static NEW: LazyLock<Memory> = LazyLock::new(|| {
    let memory = Memory::new();
    open(Arc::new(memory.clone()))
        .and_then(Store::close)
        .expect("memory");
    memory
});

/// What the model knows of a block.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    /// There, with this version; whether a sync has covered it.
    There { version: u8, durable: bool },
    /// An operation on it failed, or damage may have hit it.
    Unclear,
}

struct World {
    memory: Memory,
    faulty: Faulty,
    store: Option<Store>,
    model: BTreeMap<u8, Known>,
    /// Whether the journal still has the mark of the last sync.
    marked: bool,
}

/// Operations of the node, the disk, and the power supply.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = NEW.after_kill();
    let mut world = World {
        faulty: Faulty::new(Arc::new(memory.clone())),
        memory: memory.clone(),
        store: None,
        model: BTreeMap::new(),
        marked: false,
    };
    world.start(memory);
    // Each restart copies the disk; a few dozen tell what hundreds would.
    for _ in 0..60 {
        let Some(op) = input.op() else { break };
        world.step(op, &mut input);
    }
    let memory = world.memory.after_kill();
    world.restart(memory);
}

impl World {
    fn start(&mut self, memory: Memory) {
        self.store = None;
        self.faulty = Faulty::new(Arc::new(memory.clone()));
        self.memory = memory;
        self.store = Some(open(Arc::new(self.faulty.clone())).expect("a disk without faults"));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open between operations")
    }

    /// Opens what is on the disk, and expects all that was acknowledged.
    fn restart(&mut self, memory: Memory) {
        self.start(memory);
        self.compare(|_| true);
    }

    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let name = input.u8() % BLOCKS;
        match op % 20 {
            0..=6 => self.put(
                name,
                input.u8() % 2,
                if input.flag() {
                    Region::Cache
                } else {
                    Region::Store
                },
            ),
            7 => {
                let seen = self.seen(name);
                match self.model.get(&name) {
                    None => assert_eq!(seen, None),
                    Some(Known::There { version, .. }) => assert_eq!(seen, Some(*version)),
                    Some(Known::Unclear) => {}
                }
                assert!(seen.is_none() || self.store().contains(&named(name, 0).id()));
            }
            8 => self.remove(name),
            9 => self.sync(),
            10 => self
                .faulty
                .fail_after(u64::from(input.u8() % 12), u64::MAX, ErrorKind::Other),
            11 => self.faulty.fail_after(
                u64::from(input.u8() % 12),
                u64::from(input.u8() % 4),
                ErrorKind::StorageFull,
            ),
            12 => {
                drop(self.store.take().expect("open").close());
                let memory = self.memory.after_kill();
                self.restart(memory);
            }
            13 | 14 => {
                let memory = self.memory.after_kill();
                self.restart(memory);
            }
            15 | 16 => {
                let memory = self.memory.after_power_cut(input.u64());
                self.start(memory);
                self.marked = false;
                self.compare(|durable| durable);
            }
            17 => self.flip_slot(usize::from(input.u8() % 2), input.u32() as usize),
            18 => self.flip_and_kill(input),
            _ => self.walk(),
        }
    }

    /// Which version of a block the store gives out.
    fn seen(&self, name: u8) -> Option<u8> {
        let (block, _) = self
            .store()
            .get(&named(name, 0).id())
            .expect("reading does not fail")?;
        let version = (0..2).find(|version| named(name, *version) == block);
        Some(version.expect("a block that was never put"))
    }

    /// Compares everything with the model; `trusted` says whether a block must be there, from whether it was synced.
    fn compare(&mut self, trusted: impl Fn(bool) -> bool) {
        let rebuilt = matches!(self.store().opened().index, IndexSource::Rebuilt(_));
        for name in 0..BLOCKS {
            let seen = self.seen(name);
            match (self.model.get(&name).copied(), seen) {
                (None, seen) => assert_eq!(seen, None, "block {name} rose from the dead"),
                (Some(Known::There { version, durable }), seen) if trusted(durable) => {
                    let Some(seen) = seen else {
                        panic!("block {name} was acknowledged and is lost")
                    };
                    // Where all slots were read again, a version may turn up that a power cut had taken from the index only.
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
        let known = seen.map_or(Known::Unclear, |version| Known::There {
            version,
            durable: false,
        });
        self.model.insert(name, known);
    }

    fn put(&mut self, name: u8, version: u8, region: Region) {
        // Content has one version.
        let version = if name.is_multiple_of(2) { 0 } else { version };
        let known = self.model.get(&name).copied();
        match self.store().put(&named(name, version), region) {
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
                let kept = 1 - version;
                assert_eq!(existing, named(name, kept));
                match known {
                    Some(Known::There { version, .. }) => assert_eq!(version, kept),
                    Some(Known::Unclear) => self.learn(name, Some(kept)),
                    None => panic!("a collision with nothing"),
                }
            }
            Ok(Put::Nearer) => panic!("the set is never full"),
            Err(_) if matches!(known, Some(Known::There { .. })) => {}
            Err(_) => drop(self.model.insert(name, Known::Unclear)),
        }
    }

    fn remove(&mut self, name: u8) {
        let known = self.model.get(&name).copied();
        match (self.store().remove(&named(name, 0).id()), known) {
            (Ok(removed), _) => assert!(removed || !matches!(known, Some(Known::There { .. }))),
            (Err(_), known) => assert!(known.is_some(), "nothing to remove, nothing to fail"),
        }
        // Until a sync a power cut may bring it back.
        if known.is_some() {
            self.model.insert(name, Known::Unclear);
        }
    }

    fn sync(&mut self) {
        if self.store().sync().is_ok() {
            self.marked = true;
            for known in self.model.values_mut() {
                if let Known::There { durable, .. } = known {
                    *durable = true;
                }
            }
        }
    }

    /// One flipped bit costs one block at the most, and never gives a wrong one.
    fn flip_slot(&mut self, file: usize, at: usize) {
        self.memory.tamper(FILES[file], |bytes| {
            let at = HEADER_LEN + at % (bytes.len() - HEADER_LEN);
            bytes[at] ^= 1;
        });
        let mut lost = 0;
        for name in 0..BLOCKS {
            let Some(Known::There { version, .. }) = self.model.get(&name).copied() else {
                continue;
            };
            match self.seen(name) {
                Some(seen) => assert_eq!(seen, version),
                None => {
                    lost += 1;
                    self.model.insert(name, Known::Unclear);
                }
            }
        }
        assert!(lost <= 1, "one flipped bit cost {lost} blocks");
    }

    /// A bit of a file other than the slots is flipped while the node is off.
    fn flip_and_kill(&mut self, input: &mut Input<'_>) {
        let memory = self.memory.after_kill();
        let (which, at) = (input.u8() % 3, input.u32() as usize);
        let flip = |name: &str, longest: usize| {
            memory.tamper(name, |bytes| {
                if let Some(at) = at.checked_rem(bytes.len().min(longest)) {
                    bytes[at] ^= 1;
                }
            });
        };
        match which {
            0 => flip("index", usize::MAX),
            1 => flip("cache", HEADER_LEN),
            _ => {
                flip("journal.0", usize::MAX);
                flip("journal.1", usize::MAX);
                // A bad end of the journal looks like a torn one: what no mark covers may go with it.
                self.start(memory);
                let marked = self.marked;
                return self.compare(|durable| durable && marked);
            }
        }
        self.restart(memory);
        assert!(
            matches!(self.store().opened().index, IndexSource::Rebuilt(_)),
            "damage that nobody noticed"
        );
    }

    /// A walk sees all that is there, and so does a verification.
    fn walk(&mut self) {
        let mut seen = BTreeMap::new();
        for region in Region::ALL {
            let mut cursor = Cursor::default();
            while let Some((block, next)) = self
                .store()
                .next_block(region, cursor)
                .expect("reading does not fail")
            {
                seen.insert(block.id(), block);
                cursor = next;
            }
        }
        for (name, known) in &self.model {
            if let Known::There { version, .. } = known {
                assert_eq!(seen.get(&named(*name, 0).id()), Some(&named(*name, *version)));
            }
        }
        let verified = self.store().verify();
        assert_eq!((verified.unreadable, verified.in_flight), (0, 0));
    }
}

/// Puts with each fate.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let some = |name: &str| {
        (0..6).fold(Seed::new(name), |seed, block| {
            seed.u8(0).u8(block).u8(block / 2).u8(block)
        })
    };
    vec![
        some("kill").u8(13).u8(0).u8(8).u8(2).u8(13).u8(0),
        some("power-cut")
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(15)
            .u8(0)
            .u64(7),
        some("power-cut-without-sync").u8(15).u8(0).u64(99).u8(7).u8(1),
        some("close").u8(12).u8(0).u8(7).u8(3).u8(19).u8(0),
        some("collision").u8(0).u8(1).u8(1).u8(0).u8(0).u8(1).u8(0).u8(1),
        some("full")
            .u8(11)
            .u8(0)
            .u8(1)
            .u8(2)
            .u8(0)
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(13)
            .u8(0),
        some("failing")
            .u8(10)
            .u8(0)
            .u8(2)
            .u8(0)
            .u8(8)
            .u8(0)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(0)
            .u8(9)
            .u8(0)
            .u8(13)
            .u8(0),
        some("slot-damage")
            .u8(17)
            .u8(0)
            .u8(0)
            .u32(100)
            .u8(17)
            .u8(0)
            .u8(1)
            .u32(40_000)
            .u8(19)
            .u8(0),
        some("index-damage").u8(12).u8(0).u8(18).u8(0).u8(0).u32(50),
        some("header-damage").u8(18).u8(0).u8(1).u32(50),
        some("journal-damage").u8(9).u8(0).u8(18).u8(0).u8(2).u32(200),
    ]
}
