//! A clock that jumps by hours and by weeks, forwards and backwards, while the node runs and while it does not.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_tests::process::{
    chaos::{
        fleet::{Fleet, NODES},
        load::choose,
    },
    wait_for,
};

const SEED: u64 = 0x636c_6f63;
/// The node whose clock jumps.
const WRONG: usize = 5;
/// A node says what it finds wrong, or right again, within this.
const SAYS: Duration = Duration::from_secs(60);
/// Others dial a node that they miss within this.
const DIALLED: Duration = Duration::from_secs(180);

/// Debian's `libfaketime`, which `tests/run` installs.
fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").unwrap();
    let mut found = libraries.filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    found
        .next()
        .expect("libfaketime is installed (Debian's package faketime)")
}

/// Sets the clock of whoever reads this file, relative to the real one.
fn set(file: &Path, offset: &str) {
    // At once, so that nobody reads half of it.
    let new = file.with_extension("new");
    fs::write(&new, format!("{offset}\n")).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn jumps_are_borne_or_said_and_got_over() {
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    set(&offset, "+0");
    let library = faketime();
    let mut fleet = Fleet::start_with(
        "clock",
        SEED,
        NODES,
        |_| {},
        |number, home| match number {
            // Only the time of day: no clock that counts from the start of the machine jumps.
            WRONG => home
                .with_variable("LD_PRELOAD", library.to_str().unwrap())
                .with_variable("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap())
                .with_variable("FAKETIME_NO_CACHE", "1")
                .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            _ => home,
        },
    );
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let all: Vec<usize> = (0..NODES).collect();
    let mut files = fleet.insert(&all, &[100_000; 4]);

    for jump in ["+20h", "-20h"] {
        set(&offset, jump);
        // Within what the protocol bears, also for a node that comes back with it.
        fleet.stop(WRONG, false);
        fleet.restart(WRONG);
        fleet.wait_until_whole();
        assert_eq!(fleet.node(WRONG).problems(), [""; 0], "{jump}");
        files.extend(fleet.insert(&[WRONG], &[50_000]));
    }
    set(&offset, "+0");

    for (jump, words) in [("+40d", "days ahead of"), ("-40d", "days behind")] {
        set(&offset, jump);
        let said = wait_for("a word about the clock", SAYS, || {
            fleet.node(WRONG).problems().pop()
        });
        assert!(said.contains(words), "{jump}: {said}");
        // Its links stand, so files come and go as before.
        files.extend(fleet.insert(&[WRONG, 0], &[70_000, 70_000]));
        set(&offset, "+0");
        wait_for("no more words about the clock", SAYS, || {
            fleet.node(WRONG).problems().is_empty().then_some(())
        });
    }

    // Started with a clock that is wrong by weeks, it finds nobody who answers. Those who look for it show it the time.
    fleet.stop(WRONG, true);
    set(&offset, "-40d");
    fleet.restart(WRONG);
    let said = wait_for("a word about the clock", DIALLED, || {
        fleet.node(WRONG).problems().pop()
    });
    assert!(said.contains("days behind"), "{said}");
    assert_eq!(fleet.links(WRONG), [0; 0]);
    set(&offset, "+0");
    fleet.wait_until_whole();
    wait_for("no more words about the clock", SAYS, || {
        fleet.node(WRONG).problems().is_empty().then_some(())
    });
    files.extend(fleet.insert(&[WRONG], &[90_000]));
    let mut readers = choose(&mut rng, &all, 2);
    readers.push(WRONG);
    fleet.finish(&files, &readers);
}
