//! The same on real files.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn blocks_live_in_private_files_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datastore");
    let reserve = Options {
        space: Space::Reserve,
        ..options()
    };
    let store = Store::open(&path, &master(), &reserve).unwrap();
    assert!(matches!(
        Store::open(&path, &master(), &reserve),
        Err(Error::InUse { .. })
    ));
    (0..20).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
    store.sync().unwrap();
    if store.inspect().regions[0].allocation == Allocation::Reserved {
        let blocks = fs::metadata(path.join("store")).unwrap().blocks();
        assert!(blocks * 512 >= store.inspect().regions[0].file_len);
    }
    drop(store);
    let store = Store::open(&path, &master(), &reserve).unwrap();
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 21 });
    assert!((0..20).all(|i| has(&store, &content(i))));
    store.close().unwrap();
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(
            file.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let store = Store::open(&path, &master(), &reserve).unwrap();
    assert_eq!(store.opened().index, IndexSource::Loaded { replayed: 0 });
    assert_eq!(store.verify().sound, 20);
}

#[test]
fn a_rebuild_steps_over_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datastore");
    // 4 GiB of nothing: reading it all would take seconds, and this takes none.
    let geometry = Geometry::for_quota(2 << 30, 2 << 30).unwrap();
    let large = Options {
        geometry,
        ..options()
    };
    let store = Store::open(&path, &master(), &large).unwrap();
    (0..20).for_each(|i| drop(store.put(&content(i), Region::Store).unwrap()));
    drop(store);
    fs::remove_file(path.join("index")).unwrap();
    let store = Store::open(&path, &master(), &large).unwrap();
    assert!(matches!(
        store.opened().index,
        IndexSource::Rebuilt(Rebuilt { blocks: 20, .. })
    ));
    assert!((0..20).all(|i| has(&store, &content(i))));
    assert_eq!(store.geometry(), geometry);
}

#[test]
fn a_disk_too_small_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datastore");
    let geometry = Geometry::for_quota(20 << 40, 3 << 20).unwrap();
    let huge = Options {
        geometry,
        space: Space::Reserve,
        ..options()
    };
    match Store::open(&path, &master(), &huge) {
        // A file system that cannot reserve gives a sparse file.
        Ok(store) => assert_eq!(store.inspect().regions[0].allocation, Allocation::Sparse),
        Err(error) => {
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert_eq!(
                fs::read_dir(&path).unwrap().count(),
                1,
                "only the lock file stays"
            );
        }
    }
}
