//! Blocks travel through circuits, key routing and real stores.

use warren_node::node::NodeHandle;
use warren_proto::core::api::{ClientEvent, FetchFailure};

use crate::helpers::{Network, block, soon};

async fn insert(node: &NodeHandle, seed: u8) -> u8 {
    let mut job = node.jobs().open(false).await.unwrap();
    let op = job.next_op();
    job.insert(op, block(seed), 1, false).await.unwrap();
    let mut events = Vec::new();
    soon("an insert", job.events(&mut events)).await.unwrap();
    match events.pop() {
        Some(ClientEvent::Inserted {
            op: done,
            result: Ok(copies),
            ..
        }) if done == op => copies,
        other => panic!("{other:?}"),
    }
}

async fn fetch(node: &NodeHandle, seed: u8) -> Result<(), FetchFailure> {
    let mut job = node.jobs().open(false).await.unwrap();
    let op = job.next_op();
    job.fetch(op, block(seed).id(), false, std::time::Duration::ZERO)
        .await
        .unwrap();
    let mut events = Vec::new();
    soon("a fetch", job.events(&mut events)).await.unwrap();
    match events.pop() {
        Some(ClientEvent::Fetched { op: done, result, .. }) if done == op => {
            result.map(|found| assert_eq!(found, block(seed)))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_inserted_at_one_node_is_fetched_at_another() {
    let network = Network::linked(8).await;
    assert!(insert(&network.nodes[1], 1).await >= 1);
    assert_eq!(fetch(&network.nodes[6], 1).await, Ok(()));
    assert_eq!(fetch(&network.nodes[3], 2).await, Err(FetchFailure::NotFound));
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_at_once_from_two_jobs() {
    let network = Network::linked(8).await;
    let inserts = (10..40).map(|seed| insert(&network.nodes[usize::from(seed) % 8], seed));
    for copies in futures_join(inserts).await {
        assert!(copies >= 1);
    }
    let fetches = (10..40).map(|seed| fetch(&network.nodes[usize::from(seed + 3) % 8], seed));
    assert!(futures_join(fetches).await.into_iter().all(|found| found.is_ok()));
    network.shutdown().await;
}

/// All of `futures` at once.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, result) in &mut pending {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, result)| result).collect()
}
