//! GET and HEAD of a key.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::timeout;
use warren_keys::Uri;

use super::{
    Proxy, media,
    path::{self, FileTarget},
    range::{self, Selection},
    reply::Problem,
    validator::{self, ETag, Verdict},
    wait,
};
use crate::client::{ContentInfo, ContentStream, FetchError, Network};

pub(super) async fn fetch<N: Network>(
    proxy: &Proxy<N>,
    head: &Parts,
    target: &FileTarget,
) -> Result<Response<Body>, Problem> {
    let uri = &target.uri;
    let from_key = tag_of_key(uri);
    if let Some(tag) = &from_key
        && validator::holds_already(&head.headers, tag)
    {
        return Ok(not_modified(tag));
    }
    let link = path::link(uri);
    let wait = wait::wanted(&head.headers, head.uri.query());
    let transfer = async {
        let content = proxy
            .network
            .open(uri, wait)
            .await
            .map_err(|error| Problem::fetch(&error, &link))?;
        let tag = from_key.unwrap_or_else(|| ETag::of_hash(&content.info().hash));
        let answer = plan(&head.method, &head.headers, target, content.info(), &tag, &link)?;
        let Some(range) = answer.range else {
            return Ok((answer.head, Body::empty()));
        };
        let mut stream = content.stream(range);
        // The status is sent only when there is a first byte to follow it: until then failures can be told properly.
        let first = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await;
        let first = first.transpose().map_err(|error| Problem::fetch(&error, &link))?;
        Ok((answer.head, Body::from_stream(Resumed { first, stream })))
    };
    let (mut response, body) = timeout(proxy.limits().first_byte_timeout + wait, transfer)
        .await
        .map_err(|_| Problem::timed_out(&link))??;
    *response.body_mut() = body;
    if !wait.is_zero() {
        wait::applied(response.headers_mut(), wait);
    }
    Ok(response)
}

/// A CHK names its content for ever, so its tag is known beforehand. File names are no part of it.
fn tag_of_key(uri: &Uri) -> Option<ETag> {
    match uri {
        Uri::Chk(chk) => {
            let mut hasher = blake3::Hasher::new_derive_key("warren 2026 http etag of a CHK");
            hasher.update(chk.routing.as_bytes()).update(chk.crypto.expose());
            Some(ETag::of_hash(hasher.finalize().as_bytes()))
        }
        Uri::Ssk(_) | Uri::Usk(_) | Uri::Ksk(_) => None,
    }
}

/// The head of an answer, and the bytes that go with it.
struct Answer {
    head: Response<Body>,
    range: Option<std::ops::Range<u64>>,
}

/// Decides status and headers from the request and the facts about the file.
fn plan(
    method: &Method,
    request: &HeaderMap,
    target: &FileTarget,
    info: &ContentInfo,
    tag: &ETag,
    link: &str,
) -> Result<Answer, Problem> {
    match validator::evaluate(request, tag) {
        Verdict::Proceed => {}
        Verdict::NotModified => {
            return Ok(Answer {
                head: not_modified(tag),
                range: None,
            });
        }
        Verdict::Failed => {
            return Err(Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition",
                "Another version is stored here",
                "The request is for another version of the file (If-Match).",
            ));
        }
    }
    let wanted = (method == Method::GET && validator::range_applies(request, tag))
        .then(|| request.get(header::RANGE)?.to_str().ok())
        .flatten();
    let selection = wanted.map_or(Selection::Whole, |wanted| range::parse(wanted, info.size));
    let (status, range) = match selection {
        Selection::Whole => (StatusCode::OK, 0..info.size),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Selection::Unsatisfiable => {
            return Err(Problem::unsatisfiable(info.size).retry(link));
        }
    };
    let presentation = media::present(info.mime.as_deref(), target.name.as_deref());
    let mut head = Response::new(Body::empty());
    *head.status_mut() = status;
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, presentation.content_type);
    headers.insert(header::CONTENT_DISPOSITION, presentation.disposition);
    headers.insert(header::CONTENT_SECURITY_POLICY, presentation.policy);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, tag.header());
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{}", range.start, range.end - 1, info.size);
        headers.insert(
            header::CONTENT_RANGE,
            HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("")),
        );
    }
    let range = (method == Method::GET).then_some(range);
    Ok(Answer { head, range })
}

fn not_modified(tag: &ETag) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(header::ETAG, tag.header());
    response
}

/// A stream whose first piece was taken out already. An error in it breaks the connection.
struct Resumed {
    first: Option<Bytes>,
    stream: ContentStream,
}

impl Stream for Resumed {
    type Item = Result<Bytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.stream).poll_next(cx),
        }
    }
}
