//! What survives the end of a node, and what stops its start.

use warren_node::node::{Node, StartError, StateError};

use crate::helpers::{Network, block, config, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_and_neighbours_survive_a_restart() {
    let mut network = Network::linked(3).await;
    let last = network.nodes.pop().unwrap();
    let (id, folder) = (last.id(), network.folders.pop().unwrap());
    soon("shutdown", last.shutdown()).await.unwrap();
    // Without a seed: only what it remembers leads it back.
    let again = Node::start(config(&folder, &[])).await.unwrap();
    assert_eq!(again.id(), id);
    soon("links", again.wait_for_links(2)).await;
    soon("shutdown", again.shutdown()).await.unwrap();
    network.shutdown().await;
}

#[tokio::test]
async fn a_node_ends_completely_and_frees_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let node = Node::start(config(&folder, &[])).await.unwrap();
        let in_use = Node::start(config(&folder, &[])).await;
        assert!(matches!(
            in_use,
            Err(StartError::State(StateError::Storage(
                warren_storage::Error::InUse { .. }
            )))
        ));
        soon("shutdown", node.shutdown()).await.unwrap();
    }
    let _ = block(0);
}

#[tokio::test]
async fn damaged_state_stops_the_start_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(&folder, &[])).await.unwrap();
    let id = node.id();
    soon("shutdown", node.shutdown()).await.unwrap();

    let identity = folder.path().join("node/state/identity");
    let good = std::fs::read(&identity).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&identity, bad).unwrap();
    let error = Node::start(config(&folder, &[])).await.err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("state/identity is damaged") && text.contains("remove it"),
        "{text}"
    );

    std::fs::write(&identity, good).unwrap();
    let node = Node::start(config(&folder, &[])).await.unwrap();
    assert_eq!(node.id(), id);
    soon("shutdown", node.shutdown()).await.unwrap();

    std::fs::remove_file(folder.path().join("node/node.key")).unwrap();
    let error = Node::start(config(&folder, &[])).await.err().unwrap();
    assert!(
        matches!(error, StartError::State(StateError::KeyMissing { .. })),
        "{error}"
    );
}
