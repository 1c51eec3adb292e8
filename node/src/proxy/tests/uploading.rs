//! PUT and POST.

use super::{Behaviour, CHK, Fake, Limits, file, ksk, start, start_with};
use crate::client::InsertKind;

/// The secret of the proxies made for these tests.
fn token() -> String {
    super::super::guard::Token::new(&[5; 32]).reveal().to_owned()
}

fn multipart(fields: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, kind, value) in fields {
        body.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; {disposition}\r\n").as_bytes(),
        );
        if !kind.is_empty() {
            body.extend_from_slice(format!("Content-Type: {kind}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=XX";

#[tokio::test]
async fn put_gives_the_key() {
    let fake = Fake::default();
    let site = start(&fake).await;
    let bytes = file(300_000);
    let reply = site.send("PUT /", &[], &bytes).await;
    assert_eq!((reply.status, reply.text()), (201, format!("{CHK}\n").as_str()));
    assert_eq!(reply.header("location"), Some(format!("/{CHK}").as_str()));
    let (inserted, options) = fake.inserted().remove(0);
    assert!(inserted == bytes && options.mime.is_none() && options.compress && !options.unpredictable);

    let named = site
        .send(
            "PUT /a%20b.png?unpredictable=1&compress=no",
            &["Accept: application/json"],
            b"x",
        )
        .await;
    let json: serde_json::Value = serde_json::from_slice(&named.body).unwrap();
    assert_eq!(json["uri"], format!("{CHK}/a%20b.png"));
    assert_eq!(
        (json["size"].as_u64(), named.header("location")),
        (Some(1), json["path"].as_str())
    );
    let (_, options) = fake.inserted().remove(1);
    assert_eq!(
        (options.mime.as_deref(), options.unpredictable, options.compress),
        (Some("image/png"), true, false)
    );

    let page = site
        .send(
            "PUT /CHK@/x.html",
            &["Accept: text/html", "Content-Type: text/plain"],
            b"x",
        )
        .await;
    assert!(
        page.text().contains(&format!("href=\"/{CHK}/x.html\"")),
        "{}",
        page.text()
    );
    assert_eq!(fake.inserted().remove(2).1.mime.as_deref(), Some("text/plain"));
    assert_eq!(
        site.send("PUT /", &["Content-Length: 0"], b"").await.status,
        201,
        "an empty file is a file"
    );
}

#[tokio::test]
async fn put_under_a_key() {
    let fake = Fake::default().with("KSK@taken", Behaviour::File(file(1), None));
    let site = start(&fake).await;
    let reply = site.send("PUT /KSK@words.txt", &[], b"x").await;
    assert_eq!((reply.status, reply.text()), (201, "KSK@words.txt\n"));
    let (_, options) = fake.inserted().remove(0);
    assert_eq!(options.mime.as_deref(), Some("text/plain"));
    assert!(matches!(options.kind, InsertKind::Key(key) if key.to_uri() == ksk("words.txt")));
    assert_eq!(site.send("PUT /KSK@taken", &[], b"x").await.status, 409);
    for path in [format!("/{CHK}"), "/SSK@a,b,c/d".to_owned(), "/a/b".to_owned()] {
        assert_eq!(
            site.send(&format!("PUT {path}"), &[], b"x").await.status,
            400,
            "{path}"
        );
    }
    assert_eq!(fake.inserted().len(), 1);
}

#[tokio::test]
async fn the_form() {
    let fake = Fake::default();
    let site = start(&fake).await;
    let token = token();
    let bytes = file(200_000);
    let secret = ("name=\"token\"", "", token.as_bytes());
    let upload = ("name=\"file\"; filename=\"p.jpg\"", "image/jpeg", &bytes[..]);
    let good = multipart(&[secret, ("name=\"unpredictable\"", "", b"1"), upload]);
    let reply = site.send("POST /", &[FORM, "Accept: text/html"], &good).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert!(
        reply.text().contains(&format!("<code>{CHK}/p.jpg</code>")),
        "{}",
        reply.text()
    );
    let (inserted, options) = fake.inserted().remove(0);
    assert!(inserted == bytes && options.unpredictable);
    assert_eq!(options.mime.as_deref(), Some("image/jpeg"));

    let wrong = "A".repeat(token.len());
    let long = vec![b'A'; 1000];
    for (fields, status) in [
        (vec![upload], 403),
        (vec![("name=\"token\"", "", wrong.as_bytes()), upload], 403),
        (vec![("name=\"token\"", "", b""), upload], 403),
        (vec![upload, secret], 403),
        (vec![("name=\"token\"", "", &long), upload], 400),
        (vec![secret], 400),
        (vec![], 400),
    ] {
        let body = multipart(&fields);
        assert_eq!(
            site.send("POST /", &[FORM], &body).await.status,
            status,
            "{} fields",
            fields.len()
        );
    }
    assert_eq!(
        site.send("POST /", &[FORM], b"--XX\r\nnonsense").await.status,
        400
    );
    assert_eq!(
        site.send("POST /", &["Content-Type: text/plain"], b"x")
            .await
            .status,
        415
    );
    assert_eq!(fake.inserted().len(), 1);
    let program = site
        .send("POST /", &[FORM, "X-Requested-With: curl"], &multipart(&[upload]))
        .await;
    assert_eq!(program.status, 201);
}

#[tokio::test]
async fn too_large() {
    let fake = Fake::default();
    let site = start_with(
        &fake,
        Limits {
            upload_bytes: 1000,
            ..Limits::default()
        },
    )
    .await;
    let large = site.ask("PUT /", &["Content-Length: 1001"]).await;
    assert_eq!(large.status, 413, "known before a byte is read");
    let chunked = b"200\r\n"
        .iter()
        .chain(&[b'x'; 0x200])
        .chain(b"\r\n")
        .copied()
        .collect::<Vec<u8>>()
        .repeat(2);
    let reply = site.ask_chunked("PUT /", &[], &chunked).await;
    assert_eq!(reply.status, 413);
    let upload = [("name=\"file\"; filename=\"x\"", "", &[7; 2000][..])];
    let form = multipart(&upload);
    let chunked = [
        format!("{:x}\r\n", form.len()).as_bytes(),
        &form,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let reply = site
        .ask_chunked("POST /", &[FORM, "X-Requested-With: x"], &chunked)
        .await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(fake.inserted().is_empty());
}

#[tokio::test]
async fn an_upload_that_ends_early_is_not_a_file() {
    let fake = Fake::default();
    let site = start(&fake).await;
    {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
        let head = format!(
            "PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nabc",
            site.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        super::read_all(&mut stream).await;
    }
    assert!(fake.inserted().is_empty());
}

impl super::Site {
    async fn ask_chunked(&self, line: &str, headers: &[&str], chunks: &[u8]) -> super::Reply {
        let mut all = vec!["Transfer-Encoding: chunked", "Connection: close"];
        all.extend(headers);
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n",
            self.address,
            all.join("\r\n")
        );
        self.raw(head.as_bytes(), chunks).await
    }
}
