//! A disk that others fill under a node's hands: the node says so and goes on with everything else, other nodes take its blocks, and it
//! stores again when there is space.

use std::{fs, thread, time::Duration};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_tests::process::{
    chaos::{
        fleet::{Fleet, NODES},
        load::{Load, Stopping, choose},
    },
    wait_for,
};

const SEED: u64 = 0x6675_6c6c;
/// The node with the small disk.
const FULL: usize = 7;
/// Its disk: all of the datastore, the state, and some MiB.
const DISK: u64 = 100 << 20;
/// What the node does for others under load, it does within this.
const DOES: Duration = Duration::from_secs(120);

/// Mounts a small file system where the data directory is, seen by the node alone, and copies the configuration there. It is gone
/// when the node is.
const MOUNT: &str = r#"folder=$1; shift
config=$(cat "$folder/warren.toml")
mount -t tmpfs -o size=$SIZE,mode=0700 chaos "$folder"
printf '%s\n' "$config" > "$folder/warren.toml"
exec "$@""#;

/// The words that start a node whose data directory is on a small disk.
fn on_small_disk(folder: &str) -> Vec<String> {
    let mut words = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    let mount = MOUNT.replace("$SIZE", &DISK.to_string());
    words.extend(["sh", "-ec", &mount, "sh", folder]);
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_full_disk_is_said_and_others_take_the_blocks() {
    let mut fleet = Fleet::start_with(
        "disk",
        SEED,
        NODES,
        |_| {},
        |number, home| match number {
            FULL => {
                let folder = home.folder().to_str().unwrap().to_owned();
                home.with_launcher(on_small_disk(&folder))
            }
            _ => home,
        },
    );
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let all: Vec<usize> = (0..NODES).collect();
    let mut files = fleet.insert(&all, &[300_000; 4]);
    let node = fleet.node(FULL);
    assert_eq!(node.problems(), [""; 0]);

    // Whoever else has files on this disk fills it to the last byte.
    let ballast = node.seen(node.home.folder()).join("ballast");
    let wrote = fs::write(&ballast, vec![0; usize::try_from(DISK).unwrap()]);
    assert!(wrote.is_err(), "all of it");
    let load = Load::default();
    thread::scope(|scope| {
        let _stopping = Stopping(&load);
        for thread in 0..2 {
            let (load, proxies, all) = (&load, &fleet.proxies, &all);
            scope.spawn(move || load.run(proxies, all, SEED + thread));
        }
        let said = wait_for("a word about the disk", DOES, || node.problems().pop());
        assert!(said.contains("No space left"), "{said}");
        // It relays and routes as before, and its own user is served (the load goes through it too).
        let before = node.status()["routed"].as_u64().unwrap();
        wait_for("routing with a full disk", DOES, || {
            (node.status()["routed"].as_u64().unwrap() > before + 50).then_some(())
        });
        let (inserted, _) = load.done();
        wait_for("files on other disks", DOES, || {
            (load.done().0 >= inserted + 10).then_some(())
        });
        assert!(fs::metadata(&ballast).unwrap().len() > 0 && !node.problems().is_empty());

        let used = node.status()["store"]["used_bytes"].as_u64().unwrap();
        fs::remove_file(&ballast).unwrap();
        wait_for("blocks on the disk again", DOES, || {
            let now = node.status()["store"]["used_bytes"].as_u64().unwrap();
            (now > used).then_some(())
        });
        wait_for("no more words about the disk", DOES, || {
            node.problems().is_empty().then_some(())
        });
    });
    let log = node.home.log();
    let said = log.lines().filter(|line| line.contains("datastore")).count();
    assert!((2..=8).contains(&said), "{log}");
    let (inserted, failures) = load.into_files();
    assert!(failures.is_empty(), "{failures:?}");
    println!("{} files inserted meanwhile", inserted.len());
    files.extend(inserted);
    fleet.check();
    let mut readers = choose(&mut rng, &all, 2);
    readers.push(FULL);
    fleet.finish(&files, &readers);
}
