//! Which type a file is served as, and whether a browser may show it.
//!
//! A publisher chooses both the bytes and the type, so neither is trusted. Types on a short list of passive formats may
//! be shown in place. Everything else (HTML, SVG, PDF, playlists, unknown types) is *active*: it could run scripts or make
//! the browser contact somebody, which would tell them that this address reads this file. A policy header does not
//! prevent that by itself (browsers resolve and connect to hosts that a page names in hints, whatever the policy says), so
//! active files carry the strict policy and are saved instead of shown.

use axum::http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest type that is believed, bytes; registered ones are far shorter.
const MAX_TYPE_LEN: usize = 127;
/// Longest file name that is passed on, bytes: what common file systems take.
const MAX_NAME_LEN: usize = 255;
/// What a file is when nothing tells.
const UNKNOWN: &str = "application/octet-stream";

/// Policy for passive files: a browser wraps an image, a film or a text into a page of its own, which may load the file
/// again, with its own inline style.
const PASSIVE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self'; form-action 'none'; \
     base-uri 'none'; frame-ancestors 'none'",
);
/// Policy for active files: as above, and in a sandbox without scripts, forms, or our origin.
const ACTIVE_POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
);

/// Formats that browsers show without running or loading anything else.
const PASSIVE: &[&str] = &[
    "application/json",
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/wav",
    "audio/webm",
    "audio/x-flac",
    "audio/x-m4a",
    "audio/x-wav",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/vnd.microsoft.icon",
    "image/webp",
    "image/x-icon",
    "text/csv",
    "text/markdown",
    "text/plain",
    "video/mp4",
    "video/mpeg",
    "video/ogg",
    "video/quicktime",
    "video/webm",
    "video/x-m4v",
    "video/x-matroska",
];

/// How a file is presented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presentation {
    /// `Content-Type`.
    pub content_type: HeaderValue,
    /// `Content-Disposition`.
    pub disposition: HeaderValue,
    /// `Content-Security-Policy`.
    pub policy: HeaderValue,
}

/// Decides from the type in the file's root block, if any, else from the file name.
#[must_use]
pub fn present(declared: Option<&str>, name: Option<&str>) -> Presentation {
    let declared = declared.filter(|text| is_media_type(text));
    let by_name = || name.and_then(guess).unwrap_or_else(|| UNKNOWN.to_owned());
    let mut full = declared.map_or_else(by_name, str::to_owned);
    let essence = full.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let passive = PASSIVE.contains(&essence.as_str());
    if passive && essence.starts_with("text/") && !full.contains(';') {
        full.push_str("; charset=utf-8");
    }
    Presentation {
        content_type: HeaderValue::from_str(&full).unwrap_or(HeaderValue::from_static(UNKNOWN)),
        disposition: disposition(if passive { "inline" } else { "attachment" }, name),
        policy: if passive { PASSIVE_POLICY } else { ACTIVE_POLICY },
    }
}

/// The type that a file name's extension stands for.
#[must_use]
pub fn guess(name: &str) -> Option<String> {
    mime_guess::from_path(name).first_raw().map(str::to_owned)
}

/// Whether a text is `type/subtype` with optional parameters, in printable ASCII.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let token = |t: &str| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let essence = text.split(';').next().unwrap_or("").trim_end();
    text.len() <= MAX_TYPE_LEN
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// What RFC 8187 leaves as it is.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `Content-Disposition` (RFC 6266) with the name in plain form for old agents and in full.
fn disposition(kind: &'static str, name: Option<&str>) -> HeaderValue {
    let Some(name) = name.map(harmless).filter(|name| !name.is_empty()) else {
        return HeaderValue::from_static(kind);
    };
    let plain: String = name
        .chars()
        .map(|c| {
            if (' '..='~').contains(&c) && !"\"\\%".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let full = utf8_percent_encode(&name, ATTR_CHAR);
    HeaderValue::from_str(&format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{full}"))
        .unwrap_or(HeaderValue::from_static(kind))
}

/// A file name that cannot leave the folder it is saved to, hide, or turn its extension round by bidirectional marks.
fn harmless(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .map(|c| {
            if c.is_control() || "/\\:*?\"<>|".contains(c) || is_bidi_mark(c) {
                '_'
            } else {
                c
            }
        })
        .collect();
    while clean.len() > MAX_NAME_LEN {
        clean.pop();
    }
    clean.trim_matches([' ', '.']).to_owned()
}

fn is_bidi_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_media_type, present};

    fn shown(declared: Option<&str>, name: Option<&str>) -> (String, String, bool) {
        let presentation = present(declared, name);
        (
            presentation.content_type.to_str().unwrap().to_owned(),
            presentation.disposition.to_str().unwrap().to_owned(),
            presentation.policy.to_str().unwrap().starts_with("sandbox;"),
        )
    }

    #[test]
    fn passive_types_are_shown() {
        assert_eq!(
            shown(Some("image/png"), None),
            ("image/png".into(), "inline".into(), false)
        );
        assert_eq!(shown(Some("text/plain"), None).0, "text/plain; charset=utf-8");
        assert_eq!(
            shown(Some("text/plain;charset=latin1"), None).0,
            "text/plain;charset=latin1"
        );
        let (kind, disposition, sandboxed) = shown(None, Some("film.mp4"));
        assert_eq!(kind, "video/mp4");
        assert_eq!(
            disposition,
            "inline; filename=\"film.mp4\"; filename*=UTF-8''film.mp4"
        );
        assert!(!sandboxed);
    }

    #[test]
    fn active_types_are_saved_under_the_strict_policy() {
        for kind in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "application/xhtml+xml",
            "image/svg+xml",
            "text/xml",
            "application/pdf",
            "application/javascript",
            "audio/x-mpegurl",
            "application/octet-stream",
            "x/y",
        ] {
            let (_, disposition, sandboxed) = shown(Some(kind), Some("a.png"));
            assert!(disposition.starts_with("attachment;") && sandboxed, "{kind}");
        }
    }

    #[test]
    fn what_is_not_a_type_is_not_believed() {
        for bad in [
            "",
            "html",
            "text/",
            "/html",
            "text/ html",
            "text/html\r\nX: y",
            "té/xt",
            &"x/".repeat(70),
        ] {
            assert!(!is_media_type(bad), "{bad:?}");
            assert_eq!(shown(Some(bad), None).0, "application/octet-stream");
        }
        assert_eq!(shown(Some("nonsense"), Some("a.png")).0, "image/png");
        assert_eq!(shown(None, Some("a.unknownext")).0, "application/octet-stream");
    }

    #[test]
    fn names_are_made_harmless() {
        let name = |n| shown(None, Some(n)).1;
        assert_eq!(
            name("../../etc/passwd"),
            "attachment; filename=\"_.._etc_passwd\"; filename*=UTF-8''_.._etc_passwd"
        );
        assert_eq!(name(".."), "attachment");
        assert_eq!(
            name("a\"b\r\nc"),
            "attachment; filename=\"a_b__c\"; filename*=UTF-8''a_b__c"
        );
        assert_eq!(
            name("été"),
            "attachment; filename=\"_t_\"; filename*=UTF-8''%C3%A9t%C3%A9"
        );
        assert_eq!(
            name("a\u{202e}gpj.exe"),
            "attachment; filename=\"a_gpj.exe\"; filename*=UTF-8''a_gpj.exe"
        );
    }

    proptest! {
        #[test]
        fn any_name_and_type_give_valid_headers(declared in ".{0,150}", name in ".{0,300}") {
            let presentation = present(Some(&declared), Some(&name));
            prop_assert!(presentation.content_type.to_str().is_ok());
            prop_assert!(presentation.disposition.to_str().is_ok());
        }
    }
}
