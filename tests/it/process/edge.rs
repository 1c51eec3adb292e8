//! A node's edges: how it joins and comes back, and what its owner can switch and limit.

use std::{fs, time::Duration};

use serde_json::Value;
use warren_tests::process::{
    network::turn,
    node::{Home, Node, Settings},
    scratch, wait_for,
};

/// Nodes find each other, or give each other up, within this.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for_links(node: &Node, links: u64) {
    wait_for("links", PATIENCE, || {
        (node.status()["links"].as_u64() == Some(links)).then_some(())
    });
}

fn standing(node: &Node) -> (String, String) {
    let status = node.status();
    let text = |field: &str| status["standing"][field].as_str().unwrap().to_owned();
    (text("state"), text("text"))
}

/// Adds lines to the `[node]` section of a configuration.
fn add_to_node(home: &Home, lines: &str) {
    let path = home.folder().join("warren.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replacen("[node]\n", &format!("[node]\n{lines}\n"), 1)).unwrap();
}

#[test]
fn a_node_comes_back_without_its_seed() {
    let _turn = turn();
    let folder = scratch();
    let settings = Settings::new("back");
    let make = |name: &str| Home::make(folder.path().join(name), &settings);

    // Alone, and told what to do.
    let seed = make("seed").start();
    let (state, text) = standing(&seed);
    assert_eq!(state, "alone");
    assert!(text.contains("warren peers --add"), "{text}");

    // The others know the seed only, from a file and from the command line's file.
    let nodes: Vec<Node> = (0..3)
        .map(|number| {
            let home = make(&format!("node-{number}"));
            fs::write(
                home.folder().join("friends"),
                format!("# friends\n\n{}  # the first\n", seed.reference),
            )
            .unwrap();
            add_to_node(&home, "seeds_file = \"friends\"");
            home.start()
        })
        .collect();
    for node in nodes.iter().chain([&seed]) {
        wait_for_links(node, 3);
        wait_for("membership", PATIENCE, || {
            (standing(node).0 == "member").then_some(())
        });
    }

    // The seed is gone for good, and so is its reference; one node stops and starts.
    assert_eq!(seed.terminate().0, Some(0));
    let mut nodes = nodes.into_iter();
    let (code, home) = nodes.next().unwrap().terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    let others: Vec<Node> = nodes.collect();
    for node in &others {
        wait_for_links(node, 1);
    }
    home.configure(&settings);
    let node = home.start();
    wait_for_links(&node, 2);
    for other in &others {
        wait_for_links(other, 2);
    }
    // And still when it was killed.
    let home = node.kill();
    let node = home.start();
    wait_for_links(&node, 2);

    // A mistake in a seed file is named with its line.
    let (_, home) = node.terminate();
    let file = home.folder().join("bad");
    fs::write(&file, "# nothing here\nwarren-node:nonsense\n").unwrap();
    let refused = home.run(&["run", "--seeds", file.to_str().unwrap()]).code(2);
    assert!(refused.stderr.contains("line 2"), "{}", refused.stderr);
}

#[test]
fn settings_change_while_the_node_runs_and_last_when_saved() {
    let _turn = turn();
    let folder = scratch();
    let settings = Settings::new("settings");
    let node = Home::make(folder.path().join("node"), &settings).start();
    let set = |arguments: &[&str]| node.home.run(&[&["set"], arguments].concat());

    let shown = set(&[]).success().json();
    assert_eq!(
        (&shown["relay"], &shown["up"]),
        (&true.into(), &"unlimited".into())
    );
    let shown = set(&["relay", "off"]).success().json();
    assert_eq!((&shown["relay"], &shown["exit"]), (&false.into(), &true.into()));
    set(&["up", "100", "KiB/s", "--save"]).success();
    set(&["monthly", "5GiB"]).success();
    let status = node.status();
    assert_eq!(status["services"]["relay"], false);
    assert_eq!(status["limits"]["up"], 102_400);
    assert_eq!(status["limits"]["monthly"], 5_u64 << 30);

    // What makes no sense changes nothing, and says what would.
    for (arguments, code, words) in [
        (&["relay", "perhaps"][..], 2, "on or off"),
        (&["frobnicate", "on"], 2, "warren set --help"),
        (&["up", "1KiB/s", "--save"], 1, "32 KiB/s"),
        (&["links", "2"], 1, "at least 8"),
    ] {
        let refused = set(arguments).code(code);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert_eq!(node.status()["limits"]["up"], 102_400);

    // Saved is saved; the rest was for this run. The month's count goes on.
    let (code, home) = node.terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    let text = fs::read_to_string(home.folder().join("warren.toml")).unwrap();
    assert!(
        text.contains("up = \"100 KiB/s\"") && !text.contains("monthly"),
        "{text}"
    );
    let node = home.start();
    let status = node.status();
    assert_eq!(status["services"]["relay"], true);
    assert_eq!(status["limits"]["up"], 102_400);
    assert_eq!(status["limits"]["monthly"], Value::from("unlimited"));
}
