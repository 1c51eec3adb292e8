//! What the HTTP proxy decides from the text of a request: range, path, accepted forms, conditions, who may ask.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri as Target, header};
use warren_node::proxy::{
    accept, guard, media, path,
    range::{self, Selection},
    validator::{self, ETag, Verdict},
};

use crate::{Input, Seed, fixtures};

/// Headers that are read.
const NAMES: [HeaderName; 8] = [
    header::HOST,
    header::ORIGIN,
    header::REFERER,
    HeaderName::from_static("sec-fetch-site"),
    header::ACCEPT,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_RANGE,
];

/// The first byte chooses what is read.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 5 {
        0 => {
            let size = input.u64() >> (input.u8() % 64);
            match range::parse(&input.text(), size) {
                Selection::Part(range) => assert!(range.start < range.end && range.end <= size),
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }
        1 => request_path(&input.text()),
        2 => headers(&mut input),
        3 => presentation(&mut input),
        _ => {
            let token = guard::Token::new(&[7; 32]);
            let presented = input.rest();
            assert_eq!(token.matches(presented), presented == token.reveal().as_bytes());
        }
    }
}

fn request_path(text: &str) {
    if let Ok(path::Target::File(file)) = path::parse(text) {
        let link = path::link(&file.uri);
        let Ok(path::Target::File(again)) = path::parse(&link) else {
            panic!("{link} is not read back")
        };
        assert!(again == file && link.is_ascii());
        let named = path::with_file_name(file.uri, "a name");
        assert!(matches!(
            path::parse(&path::link(&named)),
            Ok(path::Target::File(_) | path::Target::InFolder)
        ));
    }
    if let Ok(uri) = path::parse_typed(text) {
        assert!(path::parse_typed(&path::link(&uri)[1..]) == Ok(uri));
    }
    if let Ok(path::Destination::Content(Some(name))) = path::parse_destination(text) {
        assert!(!name.as_str().is_empty());
    }
}

/// The headers that the input names, and only valid values, as the HTTP library lets them through.
fn header_map(input: &mut Input<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..input.below(6) {
        let name = NAMES[input.below(NAMES.len())].clone();
        if let Ok(value) = HeaderValue::from_bytes(input.chunk()) {
            headers.append(name, value);
        }
    }
    headers
}

fn headers(input: &mut Input<'_>) {
    let hosts = guard::Hosts::new(([127, 0, 0, 1], 8888).into(), &["warren.example".to_owned()]);
    let headers = header_map(input);
    let target = input.text().parse::<Target>().unwrap_or_default();
    if guard::check_host(&headers, &target, &hosts).is_ok() {
        let host = headers[header::HOST]
            .to_str()
            .expect("it was read")
            .to_ascii_lowercase();
        assert!(
            [
                "localhost:8888",
                "127.0.0.1:8888",
                "[::1]:8888",
                "warren.example:8888"
            ]
            .contains(&host.as_str()),
            "{host}"
        );
    }
    if guard::check_provenance(&headers, &hosts).is_ok() {
        for name in [header::ORIGIN, header::REFERER] {
            let foreign = headers.get(name).and_then(|value| value.to_str().ok());
            assert!(
                foreign.is_none_or(|url| !url.contains("evil.example")),
                "a foreign page"
            );
        }
        let cross = headers
            .get("sec-fetch-site")
            .is_some_and(|value| value == "cross-site");
        assert!(!cross, "a foreign page");
    }
    let _ = accept::form(&headers);
    let tag = ETag::of_hash(&[7; 32]);
    let text = tag.to_string();
    let has = |name: HeaderName| {
        headers
            .get_all(name)
            .iter()
            .any(|value| value.to_str().is_ok_and(|list| list.contains(&text)))
    };
    if validator::holds_already(&headers, &tag) {
        assert!(has(header::IF_NONE_MATCH));
        assert_eq!(validator::evaluate(&headers, &tag), Verdict::NotModified);
    }
    if !headers.contains_key(header::IF_MATCH) && !headers.contains_key(header::IF_NONE_MATCH) {
        assert_eq!(validator::evaluate(&headers, &tag), Verdict::Proceed);
    }
    if validator::range_applies(&headers, &tag) {
        assert!(!headers.contains_key(header::IF_RANGE) || has(header::IF_RANGE));
    }
}

/// Nothing from the network is shown by a browser as an active page.
fn presentation(input: &mut Input<'_>) {
    let declared = String::from_utf8_lossy(input.chunk()).into_owned();
    let name = input.text();
    let shown = media::present(input_or_none(&declared), input_or_none(&name));
    let disposition = shown.disposition.to_str().expect("ASCII");
    let policy = shown.policy.to_str().expect("ASCII");
    assert!(policy.contains("default-src 'none'"));
    if disposition.starts_with("inline") {
        let kind = shown.content_type.to_str().expect("ASCII").to_ascii_lowercase();
        assert!(
            [
                "text/plain",
                "text/csv",
                "text/markdown",
                "application/json",
                "image/",
                "audio/",
                "video/"
            ]
            .iter()
            .any(|safe| kind.starts_with(safe)),
            "{kind} is shown"
        );
        assert!(!kind.starts_with("image/svg"));
    } else {
        assert!(disposition.starts_with("attachment") && policy.starts_with("sandbox"));
    }
}

fn input_or_none(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Ranges, paths with each kind of key, requests of browsers and programs, media types.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let ranges = [
        "bytes=0-0",
        "bytes=-500",
        "bytes=500-",
        "bytes=0-1,5-9",
        "bytes = , 2-3",
        "lines=1-2",
        "bytes=9-1",
        "bytes=99999999999999999999-",
    ];
    let ranges = ranges
        .iter()
        .map(|text| Seed::new("").u8(0).u64(1000).u8(0).bytes(text.as_bytes()).bytes);
    let uris = fixtures::json(fixtures::URIS);
    let uris = uris["valid"].as_array().cloned().unwrap_or_default();
    let uris = uris
        .iter()
        .filter_map(|vector| Some(format!("/{}", vector["text"].as_str()?)))
        .filter(|path| path.len() < 300);
    let paths = [
        "/",
        "/CHK@",
        "/CHK@/name.txt",
        "/file.txt",
        "http://127.0.0.1:8888/KSK@words",
        "/KSK@words/a/b",
    ];
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).chain(uris).collect();
    let paths = paths
        .iter()
        .map(|text| Seed::new("").u8(1).bytes(text.as_bytes()).bytes);
    let tag = ETag::of_hash(&[7; 32]).to_string();
    let request = |name: &str, headers: &[(u8, &str)], target: &str| {
        let start = Seed::new(name).u8(2).u8(u8::try_from(headers.len()).unwrap_or(0));
        headers
            .iter()
            .fold(start, |seed, (name, value)| {
                seed.u8(*name).chunk(value.as_bytes())
            })
            .bytes(target.as_bytes())
    };
    let requests = [
        request("program", &[(0, "127.0.0.1:8888"), (4, "*/*")], "/KSK@words"),
        request(
            "browser",
            &[
                (0, "localhost:8888"),
                (1, "http://localhost:8888"),
                (3, "same-origin"),
                (4, "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
            ],
            "/",
        ),
        request("rebound", &[(0, "evil.example:8888")], "/"),
        request(
            "foreign",
            &[
                (0, "localhost:8888"),
                (1, "https://evil.example"),
                (2, "https://evil.example/page"),
                (3, "cross-site"),
            ],
            "/",
        ),
        request(
            "proxied",
            &[(0, "localhost:8888")],
            "http://localhost:8888/KSK@words",
        ),
        request(
            "conditions",
            &[(5, &format!("W/{tag}, \"other\"")), (6, &tag), (7, &tag)],
            "/",
        ),
        request("conditions-any", &[(5, "*"), (6, "*"), (7, "W/\"x\"")], "/"),
    ];
    let media = [
        ("text/html", "page.html"),
        ("image/png", ""),
        ("", "film.mp4"),
        ("image/svg+xml", "a.svg"),
        ("TEXT/PLAIN; charset=x", "a\"b\u{e9}.txt"),
    ];
    let media = media.iter().map(|(declared, name)| {
        Seed::new("")
            .u8(3)
            .chunk(declared.as_bytes())
            .bytes(name.as_bytes())
            .bytes
    });
    let token = Seed::new("token")
        .u8(4)
        .bytes(guard::Token::new(&[7; 32]).reveal().as_bytes());
    crate::seed::numbered("range", ranges)
        .chain(crate::seed::numbered("path", paths))
        .chain(requests)
        .chain(crate::seed::numbered("media", media))
        .chain([token])
        .collect()
}
