//! The demonstration works twice at once, and for a user without rights.

use std::{fs, process::Command, thread};

use warren_tests::process::{
    binary,
    command::{self, Ended},
    network::turn,
};

fn check(ended: Ended) -> String {
    let report = ended.success().json();
    assert_eq!(report["identical"], true, "{report}");
    assert_eq!(report["circuit_hops"], 3, "{report}");
    report["key"].as_str().unwrap().to_owned()
}

#[test]
fn two_at_once() {
    let _turn = turn();
    let demo = || command::run(Command::new(binary()).args(["--json", "demo", "--exit"]), b"");
    thread::scope(|scope| {
        let other = scope.spawn(demo);
        // The same document has the same key in both networks.
        assert_eq!(check(demo()), check(other.join().unwrap()));
    });
}

#[test]
fn a_file_of_the_users_without_rights() {
    /// `nobody` on Debian, Ubuntu and most others.
    const NOBODY: u32 = 65_534;
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("warren");
    let file = folder.path().join("holiday.jpg");
    fs::copy(binary(), &copy).unwrap();
    fs::write(&file, [0x5a; 100_000]).unwrap();
    let mut demo = if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut demo = Command::new("setpriv");
        demo.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()]);
        demo.arg("--clear-groups").arg(&copy);
        demo
    } else {
        Command::new(&copy)
    };
    demo.current_dir(folder.path())
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path());
    let key = check(command::run(
        demo.args(["--json", "demo", "--exit"]).arg(&file),
        b"",
    ));
    assert!(key.ends_with("/holiday.jpg"), "{key}");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(
        left, 2,
        "the program and the file; the network's folders are gone"
    );
}
