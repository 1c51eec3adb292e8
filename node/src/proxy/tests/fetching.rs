//! GET and HEAD.

use bytes::Bytes;

use super::{Behaviour, CHK, Fake, file, start};
use crate::client::FetchError;

fn one(bytes: Bytes, mime: Option<&'static str>) -> Fake {
    Fake::default().with("KSK@f", Behaviour::File(bytes, mime))
}

#[tokio::test]
async fn a_whole_file_with_its_headers() {
    let bytes = file(100_000);
    let fake = one(bytes.clone(), Some("image/png"));
    let site = start(&fake).await;
    let get = site.ask("GET /KSK@f/picture.png", &[]).await;
    assert_eq!((get.status, get.body == bytes), (200, true));
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-length", "100000"),
        ("accept-ranges", "bytes"),
        (
            "content-disposition",
            "inline; filename=\"picture.png\"; filename*=UTF-8''picture.png",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("x-dns-prefetch-control", "off"),
    ] {
        assert_eq!(get.header(name), Some(value), "{name}");
    }
    assert!(
        get.header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none';")
    );
    assert!(get.header("etag").unwrap().starts_with('"'));
    assert_eq!(get.header("access-control-allow-origin"), None);

    let head = site.ask("HEAD /KSK@f/picture.png", &["Range: bytes=0-1"]).await;
    let facts = |reply: &super::Reply| {
        let mut headers = reply.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers
    };
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(facts(&head), facts(&get));
    assert_eq!(fake.running(), 0, "HEAD leaves no fetch behind");
}

#[tokio::test]
async fn small_and_empty_files() {
    for len in [0, 1, 32_767, 32_768, 32_769] {
        let site = start(&one(file(len), None)).await;
        let reply = site.ask("GET /KSK@f", &[]).await;
        assert_eq!((reply.status, reply.body == file(len)), (200, true), "{len}");
        assert_eq!(reply.header("content-length"), Some(len.to_string().as_str()));
    }
}

#[tokio::test]
async fn ranges() {
    let bytes = file(50_000);
    let site = start(&one(bytes.clone(), None)).await;
    for (wanted, range) in [
        ("bytes=0-0", 0..1),
        ("bytes=49999-", 49_999..50_000),
        ("bytes=100-40099", 100..40_100),
        ("bytes=-1", 49_999..50_000),
        ("bytes=-99999", 0..50_000),
        ("bytes=1-99999", 1..50_000),
    ] {
        let reply = site.ask("GET /KSK@f", &[&format!("Range: {wanted}")]).await;
        assert_eq!(
            (reply.status, reply.body == bytes[range.clone()]),
            (206, true),
            "{wanted}"
        );
        let content_range = format!("bytes {}-{}/50000", range.start, range.end - 1);
        assert_eq!(
            reply.header("content-range"),
            Some(content_range.as_str()),
            "{wanted}"
        );
        assert!(reply.is_complete());
    }
    for wanted in ["bytes=50000-", "bytes=-0", "bytes=50000-60000,70000-"] {
        let reply = site.ask("GET /KSK@f", &[&format!("Range: {wanted}")]).await;
        assert_eq!(
            (reply.status, reply.header("content-range")),
            (416, Some("bytes */50000")),
            "{wanted}"
        );
    }
    for wanted in ["bytes=0-1,4-5", "bytes=2-1", "lines=1-2", "bytes=x"] {
        let reply = site.ask("GET /KSK@f", &[&format!("Range: {wanted}")]).await;
        assert_eq!((reply.status, reply.body.len()), (200, 50_000), "{wanted}");
    }
}

#[tokio::test]
async fn conditions() {
    let fake = one(file(1000), None);
    let site = start(&fake).await;
    let tag = site
        .ask("GET /KSK@f", &[])
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let unchanged = site
        .ask("GET /KSK@f", &[&format!("If-None-Match: \"x\", {tag}")])
        .await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    assert_eq!(
        site.ask("GET /KSK@f", &["If-None-Match: \"x\""]).await.status,
        200
    );
    assert_eq!(site.ask("GET /KSK@f", &["If-Match: \"x\""]).await.status, 412);
    let range = "Range: bytes=0-9";
    assert_eq!(
        site.ask("GET /KSK@f", &[range, &format!("If-Range: {tag}")])
            .await
            .status,
        206
    );
    assert_eq!(
        site.ask("GET /KSK@f", &[range, "If-Range: \"x\""]).await.status,
        200
    );
    assert_eq!(fake.running(), 0);
}

#[tokio::test]
async fn a_known_chk_is_confirmed_without_the_network() {
    let fake = Fake::default().with(CHK, Behaviour::File(file(10), None));
    let site = start(&fake).await;
    let tag = site
        .ask(&format!("GET /{CHK}/a"), &[])
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let asked = fake.opened();
    let again = site
        .ask(&format!("GET /{CHK}/b"), &[&format!("If-None-Match: {tag}")])
        .await;
    assert_eq!((again.status, fake.opened()), (304, asked));
    assert_eq!(
        site.ask(&format!("GET /{CHK}"), &["If-None-Match: *"])
            .await
            .status,
        304
    );
    assert_eq!(
        fake.opened(),
        asked + 1,
        "a wildcard asks whether there is such a file"
    );
}

#[tokio::test]
async fn forms_of_keys() {
    let fake = Fake::default()
        .with(CHK, Behaviour::File(file(10), None))
        .with("KSK@a%20b", Behaviour::File(file(5), None));
    let site = start(&fake).await;
    for path in [
        CHK.to_owned(),
        CHK.replace('@', "%40").replace(',', "%2C"),
        format!("freenet:{CHK}"),
        format!("warren:{CHK}/name"),
        format!("{CHK}/"),
    ] {
        assert_eq!(site.ask(&format!("GET /{path}"), &[]).await.status, 200, "{path}");
    }
    assert_eq!(site.ask("GET /KSK@a%20b", &[]).await.body, file(5));
    let typed = site.ask("GET /?key=freenet%3AKSK%40a+b", &[]).await;
    assert_eq!(
        (typed.status, typed.header("location")),
        (303, Some("/KSK@a%20b"))
    );
    let too_deep = site.ask("GET /KSK@a%20b/x/y", &[]).await;
    assert_eq!(too_deep.status, 404);
    assert!(
        too_deep.text().contains("more than one element"),
        "{}",
        too_deep.text()
    );
}

#[tokio::test]
async fn failures_have_their_status_and_say_what_happened() {
    let fake = Fake::default()
        .with("KSK@far", Behaviour::Fails(|| FetchError::Unreachable))
        .with(
            "KSK@bad",
            Behaviour::Fails(|| FetchError::BadData("the root is cut short".into())),
        )
        .with("KSK@busy", Behaviour::Fails(|| FetchError::Busy));
    let site = start(&fake).await;
    for (path, status, word) in [
        ("/CHK@abc", 400, "crypto key (second part) is missing"),
        ("/nonsense", 400, "no '@'"),
        ("/?key=SSK%40", 400, "missing"),
        ("/KSK@missing", 404, "searched"),
        ("/KSK@far", 502, "could not answer"),
        ("/KSK@bad", 502, "cut short"),
        ("/KSK@busy", 503, "busy"),
    ] {
        let text = site.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(text.status, status, "{path}");
        assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(text.text().contains(word), "{path}: {}", text.text());
        let json = site
            .ask(&format!("GET {path}"), &["Accept: application/json"])
            .await;
        let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(json["status"], status);
        let page = site
            .ask(&format!("GET {path}"), &["Accept: text/html,*/*;q=0.8"])
            .await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (status, Some("text/html; charset=utf-8"))
        );
        assert!(
            page.text().contains("<a class=\"button\""),
            "{path} offers a way on"
        );
        let head = site.ask(&format!("HEAD {path}"), &[]).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    let page = site.ask("GET /KSK@%3Cb%3E", &["Accept: text/html"]).await;
    assert!(page.text().contains("href=\"/KSK@%3Cb%3E\""), "{}", page.text());
}

#[tokio::test]
async fn a_failure_in_the_middle_breaks_the_connection() {
    let site = start(&Fake::default().with("KSK@f", Behaviour::Breaks(file(100_000)))).await;
    let reply = site.ask("GET /KSK@f", &[]).await;
    assert_eq!(reply.status, 200);
    assert!(
        !reply.is_complete() && reply.body.len() <= 50_000,
        "{} bytes",
        reply.body.len()
    );
    let early = site.ask("GET /KSK@f", &["Range: bytes=60000-"]).await;
    assert_eq!(early.status, 404, "a failure before the first byte is told");
}

#[tokio::test]
async fn active_content_is_saved_under_the_strict_policy() {
    let site = start(&one(Bytes::from_static(b"<script>"), Some("text/html"))).await;
    let reply = site.ask("GET /KSK@f/index.html", &["Accept: text/html"]).await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/html"))
    );
    assert!(
        reply
            .header("content-disposition")
            .unwrap()
            .starts_with("attachment;")
    );
    let policy = reply.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("sandbox; default-src 'none'; style-src 'unsafe-inline';"),
        "{policy}"
    );
}

#[tokio::test]
async fn the_start_page() {
    let fake = Fake::default();
    let site = start(&fake).await;
    let page = site.ask("GET /", &["Accept: text/html"]).await;
    assert_eq!(page.status, 200);
    for part in [
        "name=\"key\"",
        "name=\"file\"",
        "name=\"token\"",
        "<dd>7</dd>",
        "<dd>33</dd>",
        "&lt;test&gt;",
        "the disk is &gt; full",
    ] {
        assert!(page.text().contains(part), "{part}");
    }
    assert!(
        page.text().find("name=\"token\"") < page.text().find("name=\"file\""),
        "the secret comes first"
    );
    assert!(page.text().find("name=\"unpredictable\"") < page.text().find("name=\"file\""));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("form-action 'self'")
    );
    assert_eq!(fake.opened(), 0);
}

#[tokio::test]
async fn a_request_can_wait_for_a_file() {
    let fake = one(file(10), None);
    let site = start(&fake).await;
    let get = site.ask("GET /KSK@f", &["prefer: wait=30"]).await;
    assert_eq!(
        (get.status, get.header("preference-applied")),
        (200, Some("wait=30"))
    );
    let get = site.ask("GET /KSK@f?wait=5", &[]).await;
    assert_eq!(
        (get.status, get.header("preference-applied")),
        (200, Some("wait=5"))
    );
    let get = site.ask("GET /KSK@f", &[]).await;
    assert_eq!((get.status, get.header("preference-applied")), (200, None));
    assert_eq!(site.ask("GET /KSK@none?wait=1", &[]).await.status, 404);
    assert_eq!(fake.waits(), [30, 5, 0, 1]);
}
