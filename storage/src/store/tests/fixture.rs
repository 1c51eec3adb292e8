//! Files written by format version 1, which every later program must open. The region files end behind their last
//! written slot; opening extends them. Written once by `write_fixture`; never to be written again for version 1.

use super::*;
use crate::keyfile::{KeyFile, Passphrase, PassphraseCost};
use crate::sealed_file::SealedFile;
use std::fs;
use std::path::PathBuf;

const FILES: [&str; 5] = ["store", "cache", "index", "journal.1", "peers"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn passphrase() -> Passphrase {
    Passphrase::new("the passphrase of the fixture").unwrap()
}

#[test]
fn version_1_opens() {
    let memory = Memory::new();
    for name in FILES {
        let bytes = fs::read(folder().join(name)).unwrap();
        crate::medium::replace(&memory, name, &bytes).unwrap();
    }
    let parse = |name: &str| crate::KeyFileContent::parse(&fs::read(folder().join(name)).unwrap()).unwrap();
    let crate::KeyFileContent::Plain(key) = parse("plain.key") else {
        panic!("sealed")
    };
    let crate::KeyFileContent::Sealed(sealed) = parse("sealed.key") else {
        panic!("plain")
    };
    assert!(sealed.open(&passphrase()).unwrap().unwrap() == key);

    let state = SealedFile::new(Arc::new(memory.clone()), "peers", &key).unwrap();
    assert_eq!(state.read().unwrap().unwrap().as_slice(), b"state of version 1");

    let store = Store::open_on(Arc::new(memory), &key, &options()).unwrap();
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 3 });
    assert_eq!(store.geometry(), options().geometry);
    for (block, region) in [
        (content(1), Region::Store),
        (signed(5, 6, 7), Region::Store),
        (content(2), Region::Cache),
    ] {
        assert_eq!(store.get(&block.id()).unwrap(), Some((block, region)));
    }
    assert_eq!(store.get(&content(3).id()).unwrap(), None);
    assert_eq!((store.inspect().puts, store.inspect().generation), (4, 1));
    assert_eq!(store.verify().damaged, 0);
}

#[test]
#[ignore = "writes the fixture of a new format version"]
fn write_fixture() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let plain = KeyFile::at(folder.join("plain.key"));
    let key = plain.create(None).unwrap();
    let cheap = PassphraseCost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    fs::copy(folder.join("plain.key"), folder.join("sealed.key")).unwrap();
    let sealed = KeyFile::at(folder.join("sealed.key")).with_cost(cheap);
    sealed.set_passphrase(None, Some(&passphrase())).unwrap();
    let memory = Memory::new();
    let store = Store::open_on(Arc::new(memory.clone()), &key, &options()).unwrap();
    store.put(&content(1), Region::Store).unwrap();
    store.put(&content(2), Region::Cache).unwrap();
    drop(store);
    Backend::remove(&memory, "index").unwrap();
    let store = Store::open_on(Arc::new(memory.clone()), &key, &options()).unwrap();
    store.put(&signed(5, 6, 7), Region::Store).unwrap();
    store.put(&content(3), Region::Cache).unwrap();
    store.remove(&content(3).id()).unwrap();
    SealedFile::new(Arc::new(memory.clone()), "peers", &key)
        .unwrap()
        .write(b"state of version 1")
        .unwrap();
    for name in FILES {
        let mut bytes = memory.read(name);
        let written = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        bytes.truncate(written);
        fs::write(folder.join(name), bytes).unwrap();
    }
}
