//! What strangers get: nothing. And what they cost: little.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use warren_node::node::{GateSettings, Node};

use crate::helpers::{Network, config, soon};

/// Bytes that look like nothing in particular, without a generator.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prober_gets_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(&folder, &[])).await.unwrap();
    let address = node.listening()[0];
    for input in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        noise(100, 1),
        noise(200_000, 2),
        vec![0; 4096],
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The node may close before all is written.
        let _ = stream.write_all(&input).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("the end of a probe", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty());
    }
    soon("shutdown", node.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_is_counted_and_leaves_the_links_alone() {
    let network = Network::linked(2).await;
    let address = network.nodes[0].listening()[0];
    let mut open = Vec::new();
    for round in 0..500 {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            continue;
        };
        let _ = stream.write_all(&noise(3000, round)).await;
        // Half of them stay open.
        if round % 2 == 0 {
            open.push(stream);
        }
    }
    let node = &network.nodes[0];
    let counted = async {
        loop {
            let seen = node.status().await.unwrap().rejections;
            if seen.bad_handshakes + seen.crowded + seen.crowded_source >= 250 {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = soon("the count of rejected connections", counted).await;
    let settings = GateSettings::default();
    assert!(node.half_open() <= settings.half_open);
    assert!(seen.bad_links == 0);
    assert_eq!(node.status().await.unwrap().links.len(), 1);
    network.shutdown().await;
}
