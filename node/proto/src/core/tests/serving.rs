//! Clients insert and fetch over circuits of three hops, while nodes come and go.

use core::time::Duration;

use warren_keys::NodeId;

use super::network::{Network, block};
use crate::core::api::{ClientCommand, ClientEvent, Shelf};
use crate::ids::OpId;

#[test]
fn what_one_client_inserts_another_fetches() {
    let mut network = Network::new(8, 1, 3);
    network.run_for(Duration::from_secs(2));
    for number in 0..8 {
        let block = block(number);
        assert_eq!(network.insert(usize::try_from(number).unwrap(), block.clone()), 5);
        // The nearest five, and whoever near the key passed it on to them.
        let holders = network.holders(block.id(), Shelf::Store);
        let nearest = network.nearest(block.id(), 5);
        assert!(nearest.iter().all(|node| holders.contains(node)), "{holders:?}");
        assert!(holders.len() <= 7, "{holders:?}");
        let reader = usize::try_from(7 - number).unwrap();
        assert_eq!(network.fetch(reader, block.id()), Some(block));
    }
    assert_eq!(network.fetch(2, block(99).id()), None);
    network.run_for(Duration::from_secs(60));
    for core in &network.cores {
        let status = core.status(network.now);
        let open = (
            status.open.searches,
            status.open.inserts,
            status.exit_requests,
            status.waiting_circuits,
        );
        assert_eq!(open, (0, 0, 0, 0));
        assert_eq!((status.open.joined, status.open.store_questions), (0, 0));
    }
}

#[test]
fn a_larger_network_serves_everybody_in_few_hops() {
    let mut network = Network::new(120, 2, 3);
    network.run_for(Duration::from_secs(20));
    for number in 0..10 {
        let at = usize::try_from(number * 11).unwrap();
        assert_eq!(network.insert(at, block(number)), 5);
    }
    for reader in 0..40 {
        let block = block(reader as u64 % 10);
        assert_eq!(network.fetch(reader * 3, block.id()), Some(block));
    }
    let (mut forwarded, mut fetches) = (0, 0);
    for core in &network.cores {
        let router = core.status(network.now).router;
        forwarded += router.forwarded;
        fetches += router.exit_fetches;
    }
    let hops = forwarded as f64 / fetches as f64;
    assert!(hops < 2.5, "{hops} hops on average");
}

#[test]
fn three_of_eight_nodes_die_during_fetches() {
    let mut network = Network::new(8, 3, 3);
    network.run_for(Duration::from_secs(2));
    for number in 0..20 {
        network.insert(1, block(number));
    }
    let job = network.open_job(0);
    for number in 0..20 {
        let (op, block) = (OpId(number), block(number).id());
        network.command(
            0,
            ClientCommand::Fetch {
                job,
                op,
                block,
                expendable: false,
                wait: Duration::ZERO,
            },
        );
    }
    network.run_for(Duration::from_millis(60));
    assert!(network.events.len() < 20);
    for node in [2, 4, 6] {
        network.kill(node);
    }
    network.run_until(|network| network.events.len() == 20);
    for (_, event) in &network.events {
        assert!(
            matches!(event, ClientEvent::Fetched { result: Ok(_), .. }),
            "{event:?}"
        );
    }
}

#[test]
fn without_hops_the_node_is_its_own_exit_and_leaves_its_store_alone() {
    let mut network = Network::new(6, 4, 0);
    network.run_for(Duration::from_secs(2));
    network.insert(0, block(1));
    let reader = (0..6)
        .find(|node| !network.holders(block(1).id(), Shelf::Store).contains(node))
        .unwrap();
    assert_eq!(network.fetch(reader, block(1).id()), Some(block(1)));
    assert!(network.holders(block(1).id(), Shelf::Cache).is_empty());
    assert_eq!(network.cores[reader].status(network.now).router.found_here, 0);
}

/// A line that is cut for a while makes everybody fail; nobody must be given up for that, least of all a pinned entry.
#[test]
fn pinned_entries_survive_an_outage() {
    let mut network = Network::new(40, 21, 3);
    network.run_for(Duration::from_secs(20));
    let content = block(7);
    let id = content.id();
    assert!(network.insert(5, content) >= 1);
    let before: Vec<NodeId> = network.cores[5]
        .entries()
        .iter()
        .map(|entry| entry.node)
        .collect();
    assert_eq!(before.len(), 1);
    for outage in 0..8 {
        network.kill(5);
        network.run_for(Duration::from_secs(30));
        network.revive(5);
        // Its dials fail for a while yet.
        network.walled.extend(0..40);
        network.run_for(Duration::from_secs(30));
        network.walled.clear();
        network.run_for(Duration::from_secs(120));
        assert!(network.fetch(5, id).is_some(), "after outage {outage}");
        let entries: Vec<NodeId> = network.cores[5]
            .entries()
            .iter()
            .map(|entry| entry.node)
            .collect();
        assert_eq!(entries, before, "after outage {outage}");
    }
}
