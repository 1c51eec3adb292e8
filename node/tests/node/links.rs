//! Nodes find and keep each other.

use crate::helpers::{Network, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_shake_hands_and_introduce_themselves() {
    let network = Network::linked(2).await;
    let [a, b] = &network.nodes[..] else {
        unreachable!()
    };
    let (seen_by_a, seen_by_b) = (a.status().await.unwrap(), b.status().await.unwrap());
    assert_eq!(seen_by_a.links[0].node, b.id());
    assert_eq!(seen_by_b.links[0].node, a.id());
    assert!(seen_by_b.links[0].dialled && !seen_by_a.links[0].dialled);
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_with_one_seed_all_link() {
    let network = Network::linked(8).await;
    for node in &network.nodes {
        let mut peers: Vec<_> = node
            .status()
            .await
            .unwrap()
            .links
            .iter()
            .map(|link| link.node)
            .collect();
        peers.sort();
        peers.dedup();
        assert_eq!(peers.len(), 7);
    }
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_node_is_noticed() {
    let mut network = Network::linked(2).await;
    let b = network.nodes.pop().unwrap();
    b.abort();
    soon("the end of the link", network.nodes[0].wait_for_links_below(1)).await;
    network.shutdown().await;
}
