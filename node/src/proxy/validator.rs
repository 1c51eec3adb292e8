//! Entity tags and the conditions on them (RFC 9110 §8.8.3 and §13).
//!
//! All our tags are strong: the bytes of a file are known by their hash. There is no modification time, so conditions
//! on dates never hold.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};

/// A strong entity tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ETag(String);

impl ETag {
    /// The tag of the bytes with this hash.
    #[must_use]
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        // 18 bytes are more than enough to tell versions apart, and base64url of them has no padding.
        Self(format!(
            "\"{}\"",
            data_encoding::BASE64URL_NOPAD.encode(&hash[..18])
        ))
    }

    /// As the header's value.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("\"\""))
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the conditions of a GET or HEAD say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send it.
    Proceed,
    /// The client has it already, status 304.
    NotModified,
    /// `If-Match` names other versions only, status 412.
    Failed,
}

/// Evaluates `If-Match` and `If-None-Match` in the order of RFC 9110 §13.2.2, for a file that exists.
#[must_use]
pub fn evaluate(headers: &HeaderMap, tag: &ETag) -> Verdict {
    if headers.contains_key(header::IF_MATCH) && !lists(headers, header::IF_MATCH, tag, Comparison::Strong) {
        return Verdict::Failed;
    }
    if lists(headers, header::IF_NONE_MATCH, tag, Comparison::Weak) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether `If-None-Match` names exactly this tag: true only when the client has had these very bytes, which can be said of
/// an immutable key without asking the network.
#[must_use]
pub fn holds_already(headers: &HeaderMap, tag: &ETag) -> bool {
    !headers.contains_key(header::IF_MATCH)
        && members(headers, header::IF_NONE_MATCH).any(|member| member.trim_start_matches("W/") == tag.0)
}

/// Whether a `Range` counts: there is no `If-Range`, or it is exactly this tag.
#[must_use]
pub fn range_applies(headers: &HeaderMap, tag: &ETag) -> bool {
    headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == tag.0.as_bytes())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn lists(headers: &HeaderMap, name: header::HeaderName, tag: &ETag, comparison: Comparison) -> bool {
    members(headers, name).any(|member| {
        let opaque = match comparison {
            Comparison::Strong => member,
            Comparison::Weak => member.strip_prefix("W/").unwrap_or(member),
        };
        member == "*" || opaque == tag.0
    })
}

/// The members of a list of tags. Our own tags hold no comma, so a foreign tag that is cut at one still differs.
fn members(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

    use super::{ETag, Verdict, evaluate, holds_already, range_applies};

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn conditions() {
        let tag = ETag::of_hash(&[7; 32]);
        let other = ETag::of_hash(&[8; 32]);
        assert_eq!(evaluate(&HeaderMap::new(), &tag), Verdict::Proceed);
        for (value, verdict) in [
            (tag.to_string(), Verdict::NotModified),
            (format!("W/{tag}"), Verdict::NotModified),
            (format!("{other}, {tag}"), Verdict::NotModified),
            ("*".into(), Verdict::NotModified),
            (other.to_string(), Verdict::Proceed),
            (String::new(), Verdict::Proceed),
            (tag.to_string().replace('"', ""), Verdict::Proceed),
        ] {
            assert_eq!(
                evaluate(&with(header::IF_NONE_MATCH, &value), &tag),
                verdict,
                "{value}"
            );
        }
        for (value, verdict) in [
            (tag.to_string(), Verdict::Proceed),
            ("*".into(), Verdict::Proceed),
            (format!("W/{tag}"), Verdict::Failed),
            (other.to_string(), Verdict::Failed),
        ] {
            assert_eq!(
                evaluate(&with(header::IF_MATCH, &value), &tag),
                verdict,
                "{value}"
            );
        }
    }

    #[test]
    fn a_wildcard_does_not_mean_that_the_client_has_it() {
        let tag = ETag::of_hash(&[7; 32]);
        assert!(holds_already(
            &with(header::IF_NONE_MATCH, &format!("\"x\", W/{tag}")),
            &tag
        ));
        assert!(!holds_already(&with(header::IF_NONE_MATCH, "*"), &tag));
        assert!(!holds_already(&HeaderMap::new(), &tag));
    }

    #[test]
    fn if_range_is_strong() {
        let tag = ETag::of_hash(&[7; 32]);
        assert!(range_applies(&HeaderMap::new(), &tag));
        assert!(range_applies(&with(header::IF_RANGE, &tag.to_string()), &tag));
        assert!(!range_applies(&with(header::IF_RANGE, &format!("W/{tag}")), &tag));
        assert!(!range_applies(
            &with(header::IF_RANGE, "Sat, 29 Oct 1994 19:43:31 GMT"),
            &tag
        ));
    }
}
