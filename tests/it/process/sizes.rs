//! Files of every size that has an edge come back as they were, through the HTTP proxy and through `put -` and `get -o -`.

use std::{
    io::Read,
    process::Command,
    time::{Duration, Instant},
};

use warren_tests::process::{
    command::{self, pipe},
    data::{RandomFile, hash},
    network::{NODES, Network},
    node::Node,
};

/// Plaintext of a block, and of a segment.
const BLOCK: u64 = 32_768;
const SEGMENT: u64 = 128 * BLOCK;

/// Memory of a node while a file passes that is many times as large. What it holds is bounded by the windows of its transfers, not by
/// the file; the rest is for the allocator.
const MEMORY: u64 = 320 << 20;

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*"]);
    command
}

/// Inserts by `curl -T` at one node's proxy; returns the key.
fn upload(node: &Node, file: &[u8]) -> String {
    let url = node.url("");
    let ended = command::run(curl().args(["-T", "-", &url]), file).success();
    ended.text().to_owned()
}

#[test]
fn edges_of_blocks_and_segments() {
    let network = Network::start("sizes", NODES, |_, settings| settings.store = "128 MiB");
    let (publisher, reader) = (&network[1], &network[6]);
    for (seed, len) in [
        0,
        1,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        SEGMENT - BLOCK,
        SEGMENT,
        SEGMENT + BLOCK,
    ]
    .into_iter()
    .enumerate()
    {
        let file = RandomFile::new(seed as u64, len).bytes();
        let key = upload(publisher, &file);
        assert!(key.starts_with("CHK@"), "{key}");
        let fetched = command::run(curl().arg(reader.url(&key)), b"").success();
        assert!(fetched.stdout == file, "{len} bytes through the proxy");
        let fetched = reader.home.run(&["get", &key, "-o", "-"]).success();
        assert!(fetched.stdout == file, "{len} bytes by get -o -");

        // Another file of the same size the other way round.
        let file = RandomFile::new(100 + seed as u64, len).bytes();
        let ended = command::run(&mut reader.home.warren(&["put", "-"]), &file).success();
        let key = ended.json()["key"].as_str().unwrap().to_owned();
        let fetched = publisher.home.run(&["get", &key, "-o", "-"]).success();
        assert!(fetched.stdout == file, "{len} bytes by put - and get -o -");
        let fetched = command::run(curl().arg(publisher.url(&key)), b"").success();
        assert!(fetched.stdout == file, "{len} bytes by put - and the proxy");
    }
}

#[test]
fn a_gibibyte_in_bounded_memory() {
    const LEN: u64 = 1 << 30;
    const LIMIT: Duration = Duration::from_secs(3600);
    // Five copies of one and a half times the file, over all nodes, fill less than two thirds of each.
    let network = Network::start("gibibyte", NODES, |_, settings| settings.store = "1.5 GiB");
    let (publisher, reader) = (&network[1], &network[6]);
    let file = || RandomFile::new(42, LEN);
    let expected = hash(file());
    let transfer = |what: &str, node: &Node, command: &mut Command, input: Option<RandomFile>| {
        let started = Instant::now();
        let mut key = String::new();
        let mut came = None;
        let inserts = input.is_some();
        let input: Box<dyn Read + Send> = match input {
            Some(file) => Box::new(file),
            None => Box::new(std::io::empty()),
        };
        let (code, stderr) = pipe(command, LIMIT, input, |output| {
            if inserts {
                output.read_to_string(&mut key).unwrap();
            } else {
                came = Some(hash(output));
            }
        });
        assert_eq!(code, Some(0), "{what}: {stderr}");
        let (now, peak) = node.memory();
        println!(
            "{what}: {:.1} s, node's memory {} MiB, at most {} MiB",
            started.elapsed().as_secs_f64(),
            now >> 20,
            peak >> 20
        );
        assert!(peak < MEMORY, "{what}: {peak} bytes of memory");
        if !inserts {
            assert_eq!(came, Some(expected), "{what}");
        }
        key.trim().to_owned()
    };

    let url = publisher.url("");
    let key = transfer(
        "insert by the proxy",
        publisher,
        curl().args(["-T", "-", &url]),
        Some(file()),
    );
    transfer("fetch by the proxy", reader, curl().arg(reader.url(&key)), None);
    transfer(
        "fetch by get -o -",
        reader,
        &mut reader.home.warren(&["get", &key, "-o", "-"]),
        None,
    );
    let again = transfer(
        "insert by put -",
        reader,
        &mut reader.home.warren(&["put", "-"]),
        Some(file()),
    );
    assert!(again.contains(&format!("{key:?}")), "{again} is not {key}");
}
