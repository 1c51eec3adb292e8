//! Every kind of file that the node reads back: key file, sealed state, slots, headers, index and journal.
//!
//! Whoever seizes and returns the disk can have changed anything. Nothing panics, nothing wrong is believed, and a datastore
//! opens with whatever of it is still sound.

use std::sync::{Arc, LazyLock};

use warren_keys::{BLOCK_SIZE, BlockId, RoutingKey, labels};
use warren_storage::{
    HEADER_LEN, KEY_FILE_LEN, KEY_FILE_VERSION, KeyFileContent, Passphrase, Region, SLOT_LEN, SealedFile,
    Slot, Store,
    header::Header,
    medium::{Backend, memory::Memory},
    slot::{SlotCipher, SlotHead},
};

use super::{BLOCKS, master, named, open};
use crate::{Input, Seed};

/// The files of a datastore.
const FILES: [&str; 5] = ["store", "cache", "index", "journal.0", "journal.1"];
/// Blocks in [`DISK`].
const STORED: u8 = 12;

/// A disk with a datastore that was closed once, used again and then killed.
static DISK: LazyLock<Memory> = LazyLock::new(|| {
    let memory = Memory::new();
    let put = |store: &Store, names: std::ops::Range<u8>| {
        names.for_each(|name| {
            let region = if name % 3 == 0 {
                Region::Cache
            } else {
                Region::Store
            };
            store.put(&named(name, 0), region).expect("memory");
        });
    };
    let store = open(Arc::new(memory.clone())).expect("memory");
    put(&store, 0..STORED / 2);
    store.close().expect("memory");
    let store = open(Arc::new(memory.clone())).expect("memory");
    put(&store, STORED / 2..STORED);
    store.sync().expect("memory");
    drop(store);
    memory
});

/// The first byte is the kind of file.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 5 {
        0 => key_file(&mut input),
        1 => sealed_file(&mut input),
        2 => slot(&mut input),
        3 => {
            let region = Region::ALL[input.below(2)];
            let mut page = input.rest().to_vec();
            page.resize(HEADER_LEN, 0);
            assert!(Header::open(&master(), region, &page).is_err(), "forged");
        }
        _ => datastore(&mut input),
    }
}

fn key_file(input: &mut Input<'_>) {
    let mut bytes = input.bytes(KEY_FILE_LEN + 1).to_vec();
    if input.flag() {
        bytes.resize(KEY_FILE_LEN, 0);
    }
    match KeyFileContent::parse(&bytes) {
        Ok(KeyFileContent::Plain(key)) => {
            assert_eq!(key.expose()[..], bytes[64..96]);
            bytes[100] ^= 1;
            assert!(KeyFileContent::parse(&bytes).is_err(), "a damaged key");
        }
        // Bounded by the format, but still up to a GiB and seconds; a small one tells the same.
        Ok(KeyFileContent::Sealed(sealed)) if sealed.cost().memory_kib <= 64 && sealed.cost().passes <= 2 => {
            let passphrase = Passphrase::new("words").expect("not empty");
            assert!(sealed.open(&passphrase).is_ok_and(|key| key.is_none()), "forged");
        }
        Ok(KeyFileContent::Sealed(sealed)) => {
            assert!(sealed.cost().memory_kib <= 1 << 20 && sealed.cost().passes <= 16);
        }
        Err(_) => {}
    }
}

fn sealed_file(input: &mut Input<'_>) {
    let memory = Memory::new();
    let file = SealedFile::new(Arc::new(memory.clone()), "state", &master()).expect("a valid name");
    let (forged, changes) = (input.flag(), input.below(4));
    if forged {
        let medium = memory.create("state").expect("memory");
        medium.write_at(input.rest(), 0).expect("memory");
        return assert!(file.read().is_err(), "forged");
    }
    let changes = input.bytes(3 * changes);
    let content = input.rest();
    file.write(content).expect("memory");
    assert_eq!(file.read().expect("sound").expect("written").as_slice(), content);
    let sound = memory.read("state");
    memory.tamper("state", |bytes| {
        Input::new(changes).flip(bytes, changes.len() / 3);
    });
    match file.read() {
        Ok(read) => {
            assert!(memory.read("state") == sound && read.is_some_and(|read| read.as_slice() == content))
        }
        Err(_) => assert!(memory.read("state") != sound, "damage where there is none"),
    }
}

fn slot(input: &mut Input<'_>) {
    let cipher = SlotCipher::new(&master(), &[9; 32]);
    let (region, number) = (Region::ALL[input.below(2)], Slot::new(input.u32()));
    let mut buffer = [0; SLOT_LEN];
    if input.flag() {
        let bytes = input.rest();
        let bytes = &bytes[..bytes.len().min(SLOT_LEN)];
        buffer[..bytes.len()].copy_from_slice(bytes);
        return assert!(cipher.open(region, number, &mut buffer).is_none(), "forged");
    }
    let head = SlotHead {
        id: BlockId::signed(RoutingKey::from_bytes([7; 32])),
        stamp: input.u64(),
    };
    cipher
        .seal(region, number, head, &[3; BLOCK_SIZE], &mut buffer)
        .expect("randomness");
    let sound = buffer;
    let changes = input.below(3);
    input.flip(&mut buffer, changes);
    let changed = buffer != sound;
    assert_eq!(cipher.open(region, number, &mut buffer).is_none(), changed);
}

/// A disk on which files were changed, cut, swapped or removed.
fn datastore(input: &mut Input<'_>) {
    let memory = DISK.after_kill();
    let mut touched = false;
    while let Some(op) = input.op() {
        let name = FILES[input.below(FILES.len())];
        touched = true;
        match op % 7 {
            0 => memory.tamper(name, |bytes| {
                let (at, bits) = (input.u32() as usize, input.u8());
                if let Some(at) = at.checked_rem(bytes.len()) {
                    bytes[at] ^= bits;
                }
            }),
            1 => memory.tamper(name, |bytes| bytes.truncate(usize::from(input.u16()))),
            2 => memory.tamper(name, |bytes| bytes.extend_from_slice(input.chunk())),
            3 => memory.tamper(name, |bytes| *bytes = input.long_chunk().to_vec()),
            4 => {
                let other = FILES[input.below(FILES.len())];
                drop(Backend::rename(&memory, name, other));
            }
            5 => Backend::remove(&memory, name).expect("memory"),
            _ => {
                // A piece of one file over a piece of another: slots, records and pages in foreign places.
                let other = memory.read(FILES[input.below(FILES.len())]);
                let (from, to, len) = (
                    input.u32() as usize,
                    input.u32() as usize,
                    usize::from(input.u16()),
                );
                memory.tamper(name, |bytes| {
                    let from = from % (other.len() + 1);
                    let to = to % (bytes.len() + 1);
                    let len = len.min(other.len() - from).min(bytes.len() - to);
                    bytes[to..to + len].copy_from_slice(&other[from..from + len]);
                });
            }
        }
    }
    let Ok(store) = open(Arc::new(memory)) else {
        return assert!(touched, "a sound disk does not open");
    };
    for name in 0..BLOCKS {
        match store.get(&named(name, 0).id()).expect("reading does not fail") {
            Some((block, _)) => assert!(
                name < STORED && block == named(name, 0),
                "a block that was never put"
            ),
            None => assert!(touched || name >= STORED, "lost"),
        }
    }
    let verified = store.verify();
    assert!(touched || (verified.damaged, verified.stale) == (0, 0));
    store
        .put(&named(30, 0), Region::Store)
        .expect("a disk without faults");
    assert!(
        store
            .get(&named(30, 0).id())
            .expect("reading does not fail")
            .is_some()
    );
    let _ = store.inspect();
}

/// Sound files of every kind, and each kind of change.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let key = master();
    let head = |form| {
        let mut head = [0; 64];
        head[..8].copy_from_slice(b"WRNMASTR");
        head[8..10].copy_from_slice(&KEY_FILE_VERSION.to_le_bytes());
        head[10] = form;
        head
    };
    let plain = [
        &head(0)[..],
        key.expose(),
        key.subkey(labels::STORAGE_KEY_CHECK).as_slice(),
    ]
    .concat();
    let mut sealed = head(1);
    for (at, value) in [(12, 32), (16, 1), (20, 1)] {
        sealed[at] = value;
    }
    let mut seeds = vec![
        Seed::new("key-plain").u8(0).bytes(&plain).u8(0),
        Seed::new("key-sealed")
            .u8(0)
            .bytes(&sealed)
            .bytes(&[1; 48])
            .bytes(&[0; 16])
            .u8(0),
        Seed::new("key-short").u8(0).bytes(b"WRNMASTR").u8(0),
        Seed::new("state-forged").u8(1).u8(1).u8(0).bytes(&[5; 100]),
        Seed::new("state-sound").u8(1).u8(0).u8(0).bytes(b"some state"),
        Seed::new("state-changed")
            .u8(1)
            .u8(0)
            .u8(1)
            .u16(40)
            .u8(1)
            .bytes(b"some state"),
        Seed::new("slot-forged").u8(2).u8(0).u32(5).u8(1).bytes(&[5; 100]),
        Seed::new("slot-sound").u8(2).u8(1).u32(5).u8(0).u64(7).u8(0),
        Seed::new("slot-changed")
            .u8(2)
            .u8(1)
            .u32(5)
            .u8(0)
            .u64(7)
            .u8(1)
            .u16(40)
            .u8(1),
        Seed::new("header").u8(3).u8(0).bytes(&[9; 64]),
        Seed::new("disk-sound").u8(4),
        Seed::new("disk-swapped").u8(4).u8(4).u8(0).u8(1),
        Seed::new("slot-elsewhere")
            .u8(4)
            .u8(6)
            .u8(0)
            .u8(0)
            .u32(4096)
            .u32(4096 + 33_280)
            .u16(33_280),
    ];
    for file in 0..5 {
        let disk = |name: &str, op| Seed::new(format!("disk-{name}-{file}")).u8(4).u8(op).u8(file);
        seeds.push(disk("changed", 0).u32(70).u8(1));
        seeds.push(disk("cut", 1).u16(100));
        seeds.push(disk("longer", 2).chunk(&[1; 40]));
        seeds.push(disk("replaced", 3).long_chunk(&[1; 100]));
        seeds.push(disk("removed", 5));
    }
    seeds
}
