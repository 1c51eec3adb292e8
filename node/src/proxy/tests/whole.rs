//! The proxy on the node's real client, against a network that is a map of blocks.

use warren_keys::{BLOCK_SIZE, splitfile::SEGMENT_DATA};

use super::{file, start};
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
    let bytes = file(10 * SEGMENT);
    let key = site.send("PUT /?compress=0&unpredictable=1", &[], &bytes).await;
    let path = key.header("location").unwrap().to_owned();
    // Enough for the root, the lists and the first segments.
    net.ways.lock().unwrap().spare = Some(600);
    let broken = site.ask(&format!("GET {path}"), &[]).await;
    assert_eq!(broken.status, 200, "{}", broken.text());
    assert!(!broken.is_complete() && bytes.starts_with(&broken.body));
}
