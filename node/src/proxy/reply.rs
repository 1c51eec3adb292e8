//! Answers that are not content: every refusal and failure, as page, text or JSON, and the headers that all answers carry.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde_json::json;

use super::{
    accept::Form,
    guard::Refusal,
    html::{self, Escaped},
};
use crate::client::{FetchError, InsertError};

/// Seconds after which a client may try again when the node or the network could not answer.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// For programs: stable, one word.
    code: &'static str,
    /// What happened, in a few words.
    title: &'static str,
    /// What happened, and what can be done about it.
    message: Box<str>,
    /// A link on the page, and what it is called. Always a path on this proxy.
    link: Option<(String, &'static str)>,
    /// A header beside those of every answer.
    extra: Extra,
}

/// A header that goes with some statuses.
#[derive(Debug)]
enum Extra {
    None,
    Allow(&'static str),
    RetryAfter,
    /// `Content-Range` of a file of so many bytes, none of which were asked for.
    Size(u64),
}

impl Extra {
    fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::None => None,
            Self::Allow(methods) => Some((header::ALLOW, HeaderValue::from_static(methods))),
            Self::RetryAfter => Some((header::RETRY_AFTER, RETRY_AFTER)),
            Self::Size(size) => Some((
                header::CONTENT_RANGE,
                HeaderValue::try_from(format!("bytes */{size}")).ok()?,
            )),
        }
    }
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        message: impl Into<Box<str>>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            message: message.into(),
            link: None,
            extra: Extra::None,
        }
    }

    /// Offers to try the same path again.
    pub(super) fn retry(mut self, path: &str) -> Self {
        self.link = Some((path.to_owned(), "Try again"));
        self
    }

    pub(super) fn link(mut self, path: &str, label: &'static str) -> Self {
        self.link = Some((path.to_owned(), label));
        self
    }

    fn with(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    pub(super) fn bad_key(error: &warren_keys::UriError) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_key",
            "This is not a valid key",
            format!("What is wrong: {error}."),
        )
    }

    pub(super) fn in_folder() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_a_folder",
            "There is no folder under this key",
            "The path has more than one element after the key. A key names one file; one element after it may give the file a \
             name. Nothing was searched for.",
        )
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This cannot be done here",
            format!("Allowed here: {allow}."),
        )
        .with(Extra::Allow(allow))
    }

    pub(super) fn refused(refusal: Refusal, safe_path: Option<&str>) -> Self {
        match (refusal, safe_path) {
            (Refusal::NoHost, _) => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_host",
                "The request does not say whom it is for",
                "Exactly one Host header is needed.",
            ),
            (Refusal::WrongHost, _) => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "The request is for another host",
                "The Host header names none of this node's names. Further names can be allowed in the configuration (proxy.hosts).",
            ),
            (Refusal::Foreign, None) => Self::new(
                StatusCode::FORBIDDEN,
                "foreign_request",
                "Another site caused this request",
                "A page from elsewhere tried to insert something through this node. Nothing was done.",
            ),
            (Refusal::Foreign, Some(path)) => Self::new(
                StatusCode::FORBIDDEN,
                "foreign_request",
                "Another site sent you here",
                "Nothing has been fetched. Whoever put the link there could be watching for this key: open it only if you want to.",
            )
            .link(path, "Open it"),
        }
    }

    pub(super) fn timed_out(path: &str) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "The network did not answer in time",
            "The search was not finished. The file may be there; try again.",
        )
        .with(Extra::RetryAfter)
        .retry(path)
    }

    pub(super) fn unsatisfiable(size: u64) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range",
            "There are no such bytes",
            format!("The file has {size} bytes; the range that was asked for lies outside."),
        )
        .with(Extra::Size(size))
    }

    pub(super) fn too_large(limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "The file is too large",
            format!(
                "This node takes uploads of at most {limit} bytes. Nothing was inserted under a key that you have."
            ),
        )
    }

    pub(super) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "The node is busy",
            "It has as many fetches and inserts under way as it may have. Try again when some have ended.",
        )
        .with(Extra::RetryAfter)
    }

    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "The node is stopping",
            "Start it again and retry.",
        )
    }

    pub(super) fn fetch(error: &FetchError, path: &str) -> Self {
        match error {
            FetchError::NotFound => Self::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "Not found",
                "The network was searched through several exits and does not have this file, or has lost too much of it. The key \
                 itself is well formed. Nodes that are offline now may have it later.",
            ),
            FetchError::Unreachable => Self::new(
                StatusCode::BAD_GATEWAY,
                "unreachable",
                "The network could not answer",
                "No circuit could be built, or no node answered through it. This says nothing about the file.",
            )
            .with(Extra::RetryAfter),
            FetchError::NoLinks => Self::no_links(),
            FetchError::BadData(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "bad_data",
                "There is no readable file under this key",
                format!("{error}. It was stored that way; trying again gives the same."),
            ),
            FetchError::BadKey(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad_key", "This key cannot be fetched", format!("{error}."))
            }
            FetchError::Busy => Self::busy(),
            FetchError::Cancelled => Self::stopping(),
            FetchError::Internal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The node has a fault", format!("{error}. Please report it.")),
        }
        .retry(path)
    }

    fn no_links() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "no_links",
            "This node is linked to no other",
            "It needs the reference of a node that runs: warren peers --add, or a seed in warren.toml.",
        )
        .with(Extra::RetryAfter)
    }

    pub(super) fn insert(error: &InsertError) -> Self {
        let (status, code, title) = match error {
            InsertError::Collision => (StatusCode::CONFLICT, "collision", "The key is taken"),
            InsertError::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "unreachable",
                "The network could not take it",
            ),
            InsertError::BadType(_) => (StatusCode::BAD_REQUEST, "bad_type", "The type is not valid"),
            InsertError::Changed => (StatusCode::CONFLICT, "changed", "The file changed"),
            InsertError::Source(_) => (StatusCode::BAD_REQUEST, "incomplete", "The upload ended early"),
            InsertError::Spool(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "disk_full", "The disk is full")
            }
            InsertError::Spool(_) => (StatusCode::INTERNAL_SERVER_ERROR, "io", "The node's disk failed"),
            InsertError::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The node has a fault",
            ),
            InsertError::NoLinks => return Self::no_links(),
            InsertError::Cancelled => return Self::stopping(),
        };
        Self::new(
            status,
            code,
            title,
            format!("Nothing was inserted under a key that you have: {error}."),
        )
    }

    pub(super) fn respond(self, form: Form) -> Response<Body> {
        let body = match form {
            Form::Html => self.page(),
            Form::Json => {
                let retry = self.link.as_ref().map(|(path, _)| path);
                let body = json!({
                    "status": self.status.as_u16(),
                    "error": self.code,
                    "title": self.title,
                    "message": self.message,
                    "retry": retry,
                });
                format!("{body}\n")
            }
            Form::Text => format!("{}\n{}\n", self.title, self.message),
        };
        let mut response = answer(self.status, form, body);
        if let Some((name, value)) = self.extra.header() {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn page(&self) -> String {
        let link = self.link.as_ref().map_or(String::new(), |(path, label)| {
            format!(
                "<p><a class=\"button\" href=\"{}\">{label}</a></p>\n",
                Escaped(path)
            )
        });
        let body = format!(
            "<section class=\"bad\">\n<h1>{}</h1>\n<p>{}</p>\n{link}<p class=\"dim\">{}</p>\n</section>\n",
            Escaped(self.title),
            Escaped(&*self.message),
            Escaped(self.status),
        );
        html::page(self.title, &body)
    }
}

/// A short answer in one of the three forms.
pub(super) fn answer(status: StatusCode, form: Form, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = match form {
        Form::Html => "text/html; charset=utf-8",
        Form::Json => "application/json",
        Form::Text => "text/plain; charset=utf-8",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if form == Form::Html {
        headers.insert(header::CONTENT_SECURITY_POLICY, html::policy());
        // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    response
}

/// Puts the headers on that every answer carries, unless the answer has its own.
pub(super) fn harden(headers: &mut HeaderMap) {
    let always = [
        // What was fetched must not stay in a browser's cache on disk.
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_DNS_PREFETCH_CONTROL, "off"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in always {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, header};
    use http_body_util::BodyExt;

    use super::{Form, Problem, harden};
    use crate::client::FetchError;

    async fn body(problem: Problem, form: Form) -> String {
        let body = problem
            .respond(form)
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn three_forms() {
        let problem = || Problem::fetch(&FetchError::NotFound, "/KSK@<a>");
        let page = body(problem(), Form::Html).await;
        assert!(
            page.contains("href=\"/KSK@&lt;a&gt;\"") && page.contains("404 Not Found"),
            "{page}"
        );
        let json: serde_json::Value = serde_json::from_str(&body(problem(), Form::Json).await).unwrap();
        assert_eq!(
            (json["status"].as_u64(), json["error"].as_str()),
            (Some(404), Some("not_found"))
        );
        assert_eq!(json["retry"], "/KSK@<a>");
        assert!(body(problem(), Form::Text).await.starts_with("Not found\n"));
    }

    #[test]
    fn own_headers_win() {
        let mut headers = HeaderMap::new();
        headers.insert(header::REFERRER_POLICY, "same-origin".parse().unwrap());
        harden(&mut headers);
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    }
}
