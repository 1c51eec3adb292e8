//! What a node may use: memory that is short is taken back in the written order, and the month's volume is kept to.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use warren_keys::{BlockId, BlockKind, Uri};
use warren_proto::descriptor::NodeReference;
use warren_tests::{
    bench::circuit_client::CircuitClient,
    process::{data::RandomFile, http, network::Network, node::Node, wait_for},
};

/// Everything here happens within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// Links are back within this when the limit is raised: seconds, on a busy machine.
const BACK: Duration = Duration::from_secs(60);
/// `limits.memory` of the node that is pressed, bytes.
const MEMORY: u64 = 32 << 20;
/// The most memory that its process may ever have had: as in the chaos tests.
const RESIDENT: u64 = 128 << 20;
/// Requests that one circuit may have open, less a few.
const EACH: u32 = 60;
const CIRCUITS: u64 = 8;

fn number(status: &Value, path: &str) -> u64 {
    status.pointer(path).and_then(Value::as_u64).unwrap()
}

fn insert(node: &Node, seed: u64, len: u64) -> (String, Vec<u8>) {
    let bytes = RandomFile::new(seed, len).bytes();
    let answer = http::request(node.proxy, "PUT", "/?compress=0", &[], &bytes).unwrap();
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    assert_eq!(answer.status, 201, "{text}");
    (text, bytes)
}

fn fetch(proxy: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let answer = http::request(proxy, "GET", &format!("/{key}"), &[], b"").ok()?;
    (answer.status == 200).then_some(answer.body)
}

fn assert_whole(node: &Node, key: &str, bytes: &[u8]) {
    let found = wait_for("a file", PATIENCE, || fetch(node.proxy, key));
    assert!(found == bytes, "{} other bytes", found.len());
}

/// Clients that ask for a megabyte a circuit and never read: first of the node itself as exit, then through it, where it cannot tell
/// anybody to ask for less.
#[test]
fn memory_that_is_short_is_taken_back_in_the_written_order() {
    let network = Network::start("memory", 6, |_, settings| {
        settings.queues = "32 MiB";
        settings.log = "info";
    });
    let (pressed, exit) = (&network[0], &network[1]);
    let mut files = vec![insert(&network[2], 1, 20_000), insert(pressed, 2, 300_000)];
    let Ok(Uri::Chk(chk)) = Uri::parse(&files[0].0) else {
        panic!("{}", files[0].0)
    };
    let block = BlockId {
        kind: BlockKind::Content,
        key: chk.routing,
    };
    let name = "memory".parse().unwrap();
    let reference = |node: &Node| node.reference.parse::<NodeReference>().unwrap();
    let dial = |node: &Node, seed| CircuitClient::dial(name, &reference(node), seed).unwrap();
    let exit_descriptor = dial(exit, 1).peer().unwrap().clone();
    let mut most = 0;
    let mut watch = |what: &str, seen: &dyn Fn(&Value) -> bool| {
        wait_for(what, PATIENCE, || {
            let status = pressed.status();
            most = most.max(number(&status, "/memory_bytes"));
            seen(&status).then_some(status)
        })
    };
    let mut gluttons = Vec::new();
    // So much that it just fits: nobody has to go for it.
    for seed in 10..12 {
        let mut glutton = dial(pressed, seed);
        let entry = glutton.peer().unwrap().clone();
        glutton.open(&[&entry], CIRCUITS).unwrap();
        glutton.ask_and_not_listen(block, CIRCUITS, EACH).unwrap();
        gluttons.push(glutton);
    }
    let status = watch("refusals", &|status| number(status, "/reclaimed/busy") > 0);
    println!("asked too much: {}", status["reclaimed"]);

    assert_eq!(number(&status, "/reclaimed/circuits"), 0, "nobody had to go");

    for seed in 20..24 {
        let mut glutton = dial(pressed, seed);
        let entry = glutton.peer().unwrap().clone();
        glutton.open(&[&entry, &exit_descriptor], CIRCUITS).unwrap();
        glutton.ask_and_not_listen(block, CIRCUITS, EACH).unwrap();
        gluttons.push(glutton);
    }
    let status = watch("the end of circuits", &|status| {
        number(status, "/reclaimed/circuits") > 0
    });
    assert!(number(&status, "/reclaimed/lean") > 0, "{}", status["reclaimed"]);
    // Its own user and everybody else are served meanwhile.
    files.push(insert(&network[3], 3, 300_000));
    files.push(insert(pressed, 4, 100_000));
    let status = watch("its state", &|_| true);
    println!("did not read: {}, at most {most} bytes held", status["reclaimed"]);
    assert!(most <= MEMORY + MEMORY / 8, "{most} bytes");
    drop(gluttons);
    wait_for("room", PATIENCE, || {
        (number(&pressed.status(), "/memory_bytes") < MEMORY / 4).then_some(())
    });
    for (key, bytes) in &files {
        for node in [pressed, &network[5]] {
            assert_whole(node, key, bytes);
        }
    }
    let (_, peak) = pressed.memory();
    println!("{} MiB at most", peak >> 20);
    assert!(peak <= RESIDENT, "{} MiB", peak >> 20);
    network.terminate();
}

#[test]
fn a_month_that_is_used_up_ends_what_is_done_for_others_then_all_and_a_higher_limit_brings_it_back() {
    const LIMIT: u64 = 64 << 20;
    let network = Network::start("month", 6, |_, settings| settings.log = "info");
    let (limited, others) = (&network[0], &network[1..]);
    let set = |limit: &str| limited.home.run(&["set", "monthly", limit]).success();
    let used = |status: &Value| number(status, "/month/up_bytes") + number(status, "/month/down_bytes");
    set("64MiB");
    let mut files = vec![insert(&others[0], 1, 20_000)];
    // Everybody's files, so that it carries others' circuits and blocks too.
    let words = |status: &Value| status["standing"]["text"].as_str().unwrap().to_owned();
    let mut seed = 10;
    let reserve = wait_for("the last part of the month", PATIENCE, || {
        let status = limited.status();
        if words(&status).contains("nothing is done for others") {
            return Some(status);
        }
        // Near the edge in small steps, to stop within it.
        let step = if used(&status) < LIMIT * 8 / 10 {
            400_000
        } else {
            20_000
        };
        let from = [limited, &others[1]][usize::from(seed % 2 == 0)];
        files.push(insert(from, seed, step));
        seed += 1;
        None
    });
    assert!(
        (LIMIT - LIMIT / 20..LIMIT).contains(&used(&reserve)),
        "{}",
        reserve["month"]
    );
    for service in ["relay", "exit", "store"] {
        assert_eq!(reserve["services"][service], false, "{service}");
    }
    assert_eq!(reserve["links"], 5, "its links stay, for its own user");
    assert_whole(limited, &files[0].0, &files[0].1);

    // The rest is used up.
    let mut fetching: Option<JoinHandle<_>> = None;
    let mut turns = files.iter().cycle();
    let paused = wait_for("the end of the volume", PATIENCE, || {
        let status = limited.status();
        if status["standing"]["state"] == "paused" {
            return (status["links"] == 0).then_some(status);
        }
        if fetching.as_ref().is_none_or(JoinHandle::is_finished) {
            let next = turns.next().map(|(key, _)| (limited.proxy, key.clone()));
            // One that is cut off ends with the test's process.
            fetching = next.map(|(proxy, key)| thread::spawn(move || fetch(proxy, &key)));
        }
        None
    });
    println!("paused after {} of {LIMIT} bytes", used(&paused));
    assert!(
        (LIMIT..LIMIT + LIMIT / 8).contains(&used(&paused)),
        "{}",
        paused["month"]
    );
    let of_others = || others.iter().all(|node| node.status()["links"] == 4);
    wait_for("the others without it", PATIENCE, || of_others().then_some(()));

    set("unlimited");
    wait_for("all links, and all services", BACK, || {
        let status = limited.status();
        (status["links"] == 5 && status["services"]["relay"] == true).then_some(())
    });
    for (key, bytes) in &files {
        for node in [limited, &others[3]] {
            assert_whole(node, key, bytes);
        }
    }
    network.terminate();
}
