//! Files travel from one node's HTTP proxy to another's: everything there is between two users, on one machine.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use warren_node::{
    client::Client,
    node::NodeHandle,
    proxy::{NodeStatus, Proxy, Settings, serve},
};

use crate::helpers::{Network, soon};

/// A proxy on a node, until `stop`.
async fn proxy(node: &Arc<NodeHandle>, folder: &tempfile::TempDir, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let weak = Arc::downgrade(node);
    let status = move || {
        let node = weak.upgrade();
        async move { Some(NodeStatus::of_node(&node?.status().await.ok()?, "test")) }
    };
    let client = Client::new(node.jobs(), folder.path());
    let proxy = Proxy::new(client, status, Settings::default(), &[1; 32]);
    tokio::spawn(serve(listener, proxy, stop.clone()));
    address
}

/// Sends a request; gives status line and headers, and the body.
async fn ask(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (
        String::from_utf8(raw[..end].to_vec()).unwrap(),
        raw[end + 4..].to_vec(),
    )
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&len.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_put_at_one_node_is_got_at_another() {
    let network = Network::linked(8).await;
    let Network { nodes, folders } = network;
    let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
    let stop = CancellationToken::new();
    let giver = proxy(&nodes[2], &folders[2], &stop).await;
    let taker = proxy(&nodes[5], &folders[5], &stop).await;
    for len in [0, 1, 32_769, 5_000_000] {
        let bytes = noise(len);
        let (head, key) = soon("an insert", ask(giver, "PUT /a.bin", "", &bytes)).await;
        assert!(head.starts_with("HTTP/1.1 201 "), "{len}: {head}");
        let key = String::from_utf8(key).unwrap();
        let get = format!("GET /{}", key.trim_end());
        let (head, got) = soon("a fetch", ask(taker, &get, "", b"")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{len}: {head}");
        assert!(got == bytes, "{len}: {} bytes came", got.len());
        if len > 1 {
            let (head, got) = soon("a range", ask(taker, &get, "Range: bytes=-100\r\n", b"")).await;
            assert!(
                head.starts_with("HTTP/1.1 206 ") && got == bytes[len - 100..],
                "{len}: {head}"
            );
        }
    }
    let (head, _) = soon("a search", ask(taker, "GET /KSK@nothing-here", "", b"")).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (_, page) = soon("the start page", ask(taker, "GET /", "", b"")).await;
    assert!(
        String::from_utf8(page)
            .unwrap()
            .contains("<dt>Links</dt><dd>7</dd>")
    );
    stop.cancel();
    for node in nodes {
        let node = Arc::into_inner(node).expect("the proxies hold no node");
        soon("shutdown", node.shutdown()).await.unwrap();
    }
}
