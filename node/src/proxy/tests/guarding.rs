//! Requests that come from elsewhere.

use super::{Behaviour, Fake, file, start};

fn fake() -> Fake {
    Fake::default().with("KSK@f", Behaviour::File(file(10), None))
}

#[tokio::test]
async fn a_rebound_name_gets_nothing() {
    let fake = fake();
    let site = start(&fake).await;
    let port = site.address.port();
    for (host, status) in [
        (format!("localhost:{port}"), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("evil.example:{port}"), 421),
        ("evil.example".to_owned(), 421),
        ("localhost".to_owned(), 421),
        (format!("localhost:{}", port ^ 1), 421),
    ] {
        let before = fake.opened();
        let head = format!("GET /KSK@f HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let reply = site.raw(head.as_bytes(), b"").await;
        assert_eq!(reply.status, status, "{host}");
        assert_eq!(fake.opened() - before, usize::from(status == 200), "{host}");
    }
    let absolute = format!(
        "GET http://evil.example/KSK@f HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(site.raw(absolute.as_bytes(), b"").await.status, 421);
    assert_eq!(site.raw(b"GET /KSK@f HTTP/1.0\r\n\r\n", b"").await.status, 400);
}

#[tokio::test]
async fn other_sites_cannot_make_the_node_fetch() {
    let fake = fake();
    let site = start(&fake).await;
    let foreign: &[&[&str]] = &[
        &[
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: no-cors",
            "Sec-Fetch-Dest: image",
        ],
        &[
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
            "Sec-Fetch-User: ?1",
        ],
        &["Sec-Fetch-Site: same-site"],
        &["Origin: http://evil.example"],
        &["Origin: null"],
        &["Referer: http://evil.example/page"],
    ];
    for headers in foreign {
        for path in ["/KSK@f", "/KSK@missing", "/?key=KSK@f"] {
            for method in ["GET", "HEAD"] {
                let reply = site.ask(&format!("{method} {path}"), headers).await;
                assert_eq!(
                    (reply.status, fake.opened()),
                    (403, 0),
                    "{method} {path} {headers:?}"
                );
            }
        }
        assert_eq!(
            site.ask("GET /", headers).await.status,
            200,
            "the start page may be linked to"
        );
    }
    let mut page = foreign[1].to_vec();
    page.push("Accept: text/html");
    let page = site.ask("GET /KSK@f", &page).await;
    assert!(
        page.text().contains("href=\"/KSK@f\""),
        "a reader may go on: {}",
        page.text()
    );
    for headers in [
        &["Sec-Fetch-Site: same-origin"][..],
        &["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"],
    ] {
        assert_eq!(site.ask("GET /KSK@f", headers).await.status, 200);
    }
}

#[tokio::test]
async fn links_stay_on_this_proxy() {
    let site = start(&fake()).await;
    for path in ["//evil.example/KSK@f", "//evil.example", "/\\evil.example/KSK@f"] {
        for headers in [
            &["Accept: text/html"][..],
            &["Accept: text/html", "Sec-Fetch-Site: cross-site"],
        ] {
            let reply = site.ask(&format!("GET {path}"), headers).await;
            assert!(reply.status == 400 || reply.status == 403, "{path}");
            assert!(!reply.text().contains("evil.example"), "{path}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn other_sites_cannot_insert() {
    let fake = fake();
    let site = start(&fake).await;
    for headers in [
        &["Sec-Fetch-Site: cross-site"][..],
        &["Origin: http://evil.example"],
        &["Origin: null"],
    ] {
        for line in ["PUT /", "PUT /KSK@new", "POST /"] {
            let reply = site.send(line, headers, b"data").await;
            assert_eq!(reply.status, 403, "{line} {headers:?}");
        }
    }
    assert!(fake.inserted().is_empty());
    let own = format!("Origin: http://{}", site.address);
    assert_eq!(
        site.send("PUT /", &[&own, "Sec-Fetch-Site: same-origin"], b"data")
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn what_is_not_offered() {
    let site = start(&fake()).await;
    for (line, allow) in [
        ("DELETE /", "GET, HEAD, POST, PUT"),
        ("OPTIONS /", "GET, HEAD, POST, PUT"),
        ("POST /KSK@f", "GET, HEAD, PUT"),
        ("PATCH /KSK@f", "GET, HEAD, PUT"),
    ] {
        let reply = site.ask(line, &["Content-Length: 0"]).await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some(allow)),
            "{line}"
        );
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}
