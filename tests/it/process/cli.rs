//! The commands as a person or a script uses them.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use warren_tests::process::{
    command,
    data::RandomFile,
    free_address,
    network::{Network, turn},
    node::{Home, Settings},
    scratch, wait_for,
};

/// Fewest nodes of which every one can build circuits of three hops to more than two different exits.
const FEW: usize = 5;

/// A key under which nothing is.
const NOTHING: &str = "KSK@nobody-has-inserted-anything-here";

fn error(ended: &command::Ended) -> Value {
    let line = ended.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{ended:?}"))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn files_keys_and_exit_codes() {
    let network = Network::start("cli", FEW, |_, _| ());
    let (here, there) = (&network[1].home, &network[3].home);
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().join("out").to_str().unwrap().to_owned();

    // A file by its name, and back under the name in the key.
    let content = RandomFile::new(1, 50_000).bytes();
    let file = write(outside.path(), "holiday.jpg", &content);
    let put = here.run(&["put", &file]).success().json();
    let key = put["key"].as_str().unwrap();
    assert!(key.starts_with("CHK@") && key.ends_with("/holiday.jpg"), "{key}");
    assert_eq!(put["size"], 50_000);
    let got = there.run(&["get", key, "-o", &out]).success().json();
    assert_eq!(
        (&got["size"], &got["mime"]),
        (&Value::from(50_000), &Value::from("image/jpeg"))
    );
    assert!(fs::read(&out).unwrap() == content);
    let folder = outside.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let got = command::run(there.warren(&["get", key]).current_dir(&folder), b"").success();
    assert_eq!(got.json()["file"], "holiday.jpg");
    assert!(fs::read(folder.join("holiday.jpg")).unwrap() == content);

    // An existing file stays unless told otherwise.
    let refused = there.run(&["get", key, "-o", &file]).code(2);
    assert_eq!(error(&refused)["error"]["code"], "usage");
    there.run(&["get", key, "-o", &file, "--force"]).success();

    // put - and get -o - in a pipe, with progress on standard error.
    let put = command::run(&mut here.warren(&["put", "-"]), &content).success();
    assert!(
        put.stderr.lines().all(|line| line.starts_with("{\"progress\"")),
        "{}",
        put.stderr
    );
    let piped = put.json()["key"].as_str().unwrap().to_owned();
    let got = there.run(&["get", &piped, "-o", "-"]).success();
    assert!(got.stdout == content);
    let hidden = command::run(&mut here.warren(&["put", "-", "--unpredictable"]), &content).success();
    assert_ne!(hidden.json()["key"], put.json()["key"]);

    // A signed document.
    let pair = there.run(&["keygen"]).success().json();
    let (insert, request) = (
        pair["insert"].as_str().unwrap(),
        pair["request"].as_str().unwrap(),
    );
    let key_file = write(outside.path(), "key", format!("{insert}notes.txt\n").as_bytes());
    let put = command::run(&mut here.warren(&["put", "-", "--key-file", &key_file]), b"notes").success();
    let signed = format!("{request}notes.txt");
    assert_eq!(put.json()["key"], signed);
    assert_eq!(there.run(&["get", &signed, "-o", "-"]).success().stdout, b"notes");
    // A public key is none to insert by.
    let refused = command::run(&mut here.warren(&["put", "-", "--key", &signed]), b"x").code(6);
    assert_eq!(error(&refused)["error"]["code"], "bad_key");

    // Words that are taken.
    let ksk = ["put", "-", "--key", "KSK@the-same-words"];
    command::run(&mut here.warren(&ksk), b"first").success();
    command::run(&mut here.warren(&ksk), b"first").success();
    let refused = command::run(&mut there.warren(&ksk), b"second").code(7);
    assert_eq!(error(&refused)["error"]["code"], "collision");
    assert_eq!(there.run(&["get", ksk[3], "-o", "-"]).success().stdout, b"first");

    // What goes wrong, by its code; nothing is left of it.
    let missing = outside.path().join("missing").to_str().unwrap().to_owned();
    let lost = there.run(&["get", NOTHING, "-o", &missing]).code(3);
    assert_eq!(error(&lost)["error"]["code"], "not_found");
    assert!(!Path::new(&missing).exists() && !Path::new(&format!("{missing}.part")).exists());
    let bad = there.run(&["get", "CHK@nonsense", "-o", "-"]).code(6);
    assert_eq!(error(&bad)["error"]["code"], "bad_key");
    there.run(&["get"]).code(2);
    there.run(&["frobnicate"]).code(2);
    here.run(&["put", outside.path().to_str().unwrap()]).code(2);
    here.run(&["put", &missing]).code(1);

    // What the node says of itself.
    let status = there.run(&["status"]).success().json();
    assert_eq!(
        (&status["network"], &status["links"]),
        (&Value::from("cli"), &Value::from(FEW - 1))
    );
    assert_eq!(status["references"][0], network[3].reference);
    assert!(status["store"]["used_bytes"].as_u64() > Some(0), "{status}");
    let peers = there.run(&["peers"]).success().json();
    assert_eq!(peers.as_array().unwrap().len(), FEW - 1, "{peers}");
    let bad = there.run(&["peers", "--add", "nonsense"]).code(1);
    assert!(bad.stderr.contains("nonsense"), "{}", bad.stderr);
    // A datastore in use is not opened by anybody else.
    let busy = there.run(&["store", "inspect"]).code(1);
    assert!(busy.stderr.contains("in use"), "{}", busy.stderr);

    let (code, home) = network_node(network);
    assert_eq!(code, Some(0), "{}", home.log());
}

/// Stops one of a network's nodes.
fn network_node(mut network: Network) -> (Option<i32>, Home) {
    network.remove(3).terminate()
}

#[test]
fn a_node_by_hand_from_set_up_to_wipe() {
    let _turn = turn();
    let folder = scratch();
    let mut settings = Settings::new("by-hand");
    settings.hops = 1;
    // Somebody to be a network with, who is the exit of what the node by hand wants.
    let other = Home::make(folder.path().join("other"), &settings).start();
    settings.listen = free_address();
    settings.seeds = vec![other.reference.clone()];

    // Set up as the documentation says; then smaller.
    let data = folder.path().join("data");
    let arguments = ["init", "--yes", "--listen", "127.0.0.1:0", "--passphrase"];
    let home = Home::at(data.clone(), &settings);
    let init = |home: &Home| {
        command::run(
            home.warren(&arguments).env("WARREN_PASSPHRASE", "correct horse"),
            b"",
        )
    };
    let made = init(&home).success().json();
    assert_eq!(made["data_dir"], data.to_str().unwrap());
    assert_eq!(mode(&data), 0o700);
    for secret in ["node.key", "warren.toml"] {
        assert_eq!(mode(&data.join(secret)), 0o600, "{secret}");
    }
    let again = init(&home).code(2);
    assert!(again.stderr.contains("already set up"), "{}", again.stderr);
    fs::remove_dir_all(data.join("store")).unwrap();
    home.configure(&settings);

    // Sealed: not without the passphrase, nor with another.
    let run = |passphrase: Option<&str>| {
        let mut command = home.warren(&["run"]);
        command.env_remove("WARREN_PASSPHRASE");
        command.envs(passphrase.map(|text| ("WARREN_PASSPHRASE", text)));
        command::run(&mut command, b"")
    };
    let asked = run(None).code(1);
    assert!(asked.stderr.contains("WARREN_PASSPHRASE"), "{}", asked.stderr);
    let wrong = run(Some("battery staple")).code(1);
    assert!(wrong.stderr.contains("passphrase"), "{}", wrong.stderr);

    // Runs, ends cleanly, and is the same node with the same blocks afterwards.
    let home = home.with_variable("WARREN_PASSPHRASE", "correct horse");
    let node = home.start();
    let reference = node.reference.clone();
    let put = command::run(&mut node.home.warren(&["put", "-"]), b"kept")
        .success()
        .json();
    let key = put["key"].as_str().unwrap().to_owned();
    let (code, home) = node.terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    assert!(!data.join("control.json").exists());
    let gone = home.run(&["status"]).code(5);
    assert_eq!(error(&gone)["error"]["code"], "no_node");
    let inspected = home.run(&["store", "inspect"]).success().json();
    let used = inspected["regions"][0]["used"].as_u64();
    assert!(used > Some(0), "{inspected}");
    let verified = home.run(&["store", "verify"]).success().json();
    assert_eq!(
        (&verified["damaged"], &verified["unreadable"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(verified["sound"].as_u64(), used, "{verified}");
    let node = home.start();
    assert_eq!(node.reference, reference);
    assert_eq!(node.home.run(&["get", &key, "-o", "-"]).success().stdout, b"kept");

    // Two nodes cannot share a data directory.
    let second = node.home.run(&["run"]).code(1);
    assert!(second.stderr.contains("in use"), "{}", second.stderr);

    // SIGINT is Ctrl-C.
    let (code, home) = node.stop(warren_tests::process::node::Signal::INT);
    assert_eq!(code, Some(0), "{}", home.log());

    // A mistake in the configuration is named with its place.
    let text = fs::read_to_string(data.join("warren.toml")).unwrap();
    fs::write(data.join("warren.toml"), format!("{text}\n[links]\nmost = 5\n")).unwrap();
    let line = text.lines().count() + 2;
    let wrong = home.run(&["run"]).code(1);
    let message = error(&wrong)["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(&format!("line {line}")) && message.contains("links"),
        "{message}"
    );
    fs::write(data.join("warren.toml"), text).unwrap();

    // Wiped is wiped.
    let kept = home.run(&["wipe"]).code(2);
    assert!(kept.stderr.contains("--yes"), "{}", kept.stderr);
    home.run(&["wipe", "--yes"]).success().json();
    assert!(!data.join("node.key").exists());
    let ended = home.run(&["run"]);
    assert_ne!(ended.code, Some(0));
    let message = error(&ended)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("key"), "{message}");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_without_others_says_that_the_network_does_not_answer() {
    let _turn = turn();
    let folder = scratch();
    let node = Home::make(folder.path().join("node"), &Settings::new("alone")).start();
    let ended = node.home.run(&["get", NOTHING, "-o", "-"]).code(4);
    assert_eq!(error(&ended)["error"]["code"], "unreachable");
    let ended = command::run(&mut node.home.warren(&["put", "-"]), b"x").code(4);
    assert_eq!(error(&ended)["error"]["code"], "unreachable");
}

#[test]
fn nodes_meet_by_a_reference_given_while_they_run() {
    let _turn = turn();
    let folder = scratch();
    let make = |name: &str| Home::make(folder.path().join(name), &Settings::new("meeting")).start();
    let (one, other) = (make("one"), make("other"));
    assert_eq!(one.status()["links"], 0);
    one.home
        .run(&["peers", "--add", &other.reference])
        .success()
        .json();
    for node in [&one, &other] {
        wait_for("a link", Duration::from_secs(30), || {
            (node.status()["links"] == 1).then_some(())
        });
    }
    let (code, home) = one.terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    // Known from then on, without a word in the configuration.
    let one = home.start();
    wait_for("the link again", Duration::from_secs(60), || {
        (one.status()["links"] == 1).then_some(())
    });
}
