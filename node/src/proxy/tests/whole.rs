//! The proxy on the node's real client, against a network that is a map of blocks.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use warren_keys::{BLOCK_SIZE, splitfile::SEGMENT_DATA};

use super::{Reply, file, read_all, start};
use crate::client::testing::TestNet;

const SEGMENT: usize = SEGMENT_DATA as usize * BLOCK_SIZE;

#[tokio::test]
async fn what_is_put_can_be_got() {
    let net = TestNet::start();
    let site = start(&net.client).await;
    for len in [
        0,
        1,
        32_767,
        32_768,
        32_769,
        SEGMENT - BLOCK_SIZE,
        SEGMENT + BLOCK_SIZE,
    ] {
        let bytes = file(len);
        let put = site.send("PUT /a.bin", &["Content-Type: x/y"], &bytes).await;
        assert_eq!(put.status, 201, "{len}: {}", put.text());
        let path = put.header("location").unwrap();
        assert_eq!(format!("/{}", put.text().trim_end()), path);
        let get = site.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(
            (get.status, get.header("content-type")),
            (200, Some("x/y")),
            "{len}"
        );
        assert!(get.body == bytes, "{len}: {} bytes came", get.body.len());
        let head = site.ask(&format!("HEAD {path}"), &[]).await;
        assert_eq!(head.header("content-length"), Some(len.to_string().as_str()));
        if len > 1 {
            let part = site
                .ask(&format!("GET {path}"), &[&format!("Range: bytes={}-", len / 2)])
                .await;
            assert_eq!((part.status, part.body == bytes[len / 2..]), (206, true), "{len}");
        }
    }
    assert_eq!(site.ask("GET /KSK@nothing", &[]).await.status, 404);
}

#[tokio::test]
async fn what_is_lost_in_the_middle_breaks_the_answer() {
    let net = TestNet::start();
    let site = start(&net.client).await;
    // More than the download and the sockets hold while the reader waits.
    let bytes = file(20 * SEGMENT);
    let key = site.send("PUT /?compress=0&unpredictable=1", &[], &bytes).await;
    let path = key.header("location").unwrap().to_owned();

    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        site.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut raw = vec![0; SEGMENT];
    stream.read_exact(&mut raw).await.unwrap();
    net.ways.lock().unwrap().spare = Some(0);
    raw.extend_from_slice(&read_all(&mut stream).await);

    let broken = Reply::parse(&raw);
    assert_eq!(broken.status, 200);
    assert!(!broken.is_complete() && bytes.starts_with(&broken.body));
}
