//! How long a request is ready to wait for a file that is not there yet: `Prefer: wait=SECONDS` (RFC 7240 §4.3), or `?wait=`
//! where a program cannot set headers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::query_value;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest that a request waits: what programs and the proxies between them keep a connection open for. Who wants more asks again.
const MOST: Duration = Duration::from_secs(600);

/// What the request asks for. A preference that is malformed or beyond the bound is no error (RFC 7240 §2): it is ignored, or met in part.
pub(super) fn wanted(headers: &HeaderMap, query: Option<&str>) -> Duration {
    let preferred = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(preference);
    let asked = query_value(query, "wait").and_then(|value| value.parse::<u64>().ok());
    let seconds = preferred.or(asked).unwrap_or(0);
    Duration::from_secs(seconds).min(MOST)
}

/// The seconds of a preference, if it is this one: the first of a name counts, and parameters behind it mean nothing here.
fn preference(text: &str) -> Option<u64> {
    let (name, value) = text.split(';').next()?.split_once('=')?;
    let named = name.trim().eq_ignore_ascii_case("wait");
    named
        .then(|| value.trim().trim_matches('"').parse().ok())
        .flatten()
}

/// Says that the preference was met.
pub(super) fn applied(headers: &mut HeaderMap, wait: Duration) {
    if let Ok(value) = HeaderValue::from_str(&format!("wait={}", wait.as_secs())) {
        headers.insert(PREFERENCE_APPLIED, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(prefer: &[&str], query: &str) -> u64 {
        let mut headers = HeaderMap::new();
        for value in prefer {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        wanted(&headers, Some(query)).as_secs()
    }

    #[test]
    fn the_forms_that_programs_send() {
        assert_eq!(seconds(&[], ""), 0);
        assert_eq!(seconds(&["wait=30"], ""), 30);
        assert_eq!(seconds(&["respond-async, Wait = \"10\""], ""), 10);
        assert_eq!(seconds(&["respond-async", "wait=20;x=1"], ""), 20);
        assert_eq!(seconds(&[], "a=1&wait=40"), 40);
        assert_eq!(seconds(&["wait=5"], "wait=40"), 5);
        assert_eq!(seconds(&["wait=100000"], ""), 600);
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for text in [
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=x",
            "waiting=9",
            "=9",
            ";",
            ",,,",
        ] {
            assert_eq!(seconds(&[text], text), 0, "{text}");
        }
    }
}
