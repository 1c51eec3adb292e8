//! A seed that lies about everyone, beside one that does not: the node becomes a full member, and what the lies cost it is bounded.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use warren_keys::NodeId;
use warren_proto::descriptor::NodeReference;
use warren_tests::process::{
    liar::Liar,
    network::Network,
    node::{Home, Node, Settings},
    wait_for,
};

/// Honest nodes.
const NODES: usize = 5;
/// Identities that are invented before it is over: more than fit into a directory.
const INVENTED: u64 = 6000;
/// Everything here happens within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most memory that the node may ever have had, bytes: as in the chaos tests, with 32 MiB for what waits.
const MEMORY: u64 = 128 << 20;
/// Where the node's own connections come from, so that they can be told from others'.
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 77));

fn neighbours(node: &Node) -> Vec<NodeId> {
    let peers = node.control.get("/v1/peers").unwrap();
    let peers = peers.as_array().unwrap().iter();
    peers
        .map(|peer| peer["identity"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_seed_that_lies_about_everyone_costs_little_and_keeps_nobody_out() {
    let network = Network::start("liar", NODES, |_, _| {});
    let liar = Liar::start("liar");
    let honest: Vec<NodeId> = network
        .iter()
        .map(|node| node.reference.parse::<NodeReference>().unwrap().node)
        .collect();
    let mut settings = Settings::new("liar");
    settings.queues = "32 MiB";
    settings.log = "info";
    settings.dial_from = Some(OWN);
    settings.seeds = vec![liar.reference(), network[0].reference.clone()];
    let begun = Instant::now();
    let node = Home::make(network.folder().join("misled"), &settings).start();
    let is_member = || {
        let all = neighbours(&node);
        honest.iter().all(|other| all.contains(other))
    };
    wait_for("links to all honest nodes", PATIENCE, || {
        is_member().then_some(())
    });

    // It goes on lying for as long as it likes.
    wait_for("thousands of inventions", PATIENCE, || {
        (liar.invented() >= INVENTED).then_some(())
    });
    assert!(is_member() && liar.links() > 0);
    let (_, peak) = node.memory();
    assert!(peak <= MEMORY, "{} MiB", peak >> 20);
    // For the ring 48 dials at once and two a second (protocol §7.7), three quarters of which can be seen; own circuits try a few.
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let knocks = liar.knocks(OWN);
    println!(
        "{} inventions, {knocks} dials in {seconds} s, memory at most {} MiB, known {}",
        liar.invented(),
        peak >> 20,
        node.status()["known_nodes"]
    );
    assert!(knocks > 0, "nobody believes anything");
    assert!(knocks <= 48 + 4 * seconds, "{knocks} dials in {seconds} s");
    assert!(node.status()["known_nodes"].as_u64().unwrap() <= 4096);

    // What no honest node says ends its link, and is the end of it.
    let rejected = node.rejected();
    liar.forge();
    wait_for("the end of the liar's link", PATIENCE, || {
        (!neighbours(&node).contains(&liar.node()) && node.rejected() > rejected).then_some(())
    });
    wait_for("links to all honest nodes", PATIENCE, || {
        is_member().then_some(())
    });
    let (code, home) = node.terminate();
    assert_eq!(code, Some(0), "{}", home.log());
    assert!(!home.log().contains("panicked"), "{}", home.log());
    network.terminate();
}
