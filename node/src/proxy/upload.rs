//! POST of the start page's form, and PUT.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use futures_core::Stream;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde_json::json;
use warren_keys::Uri;

use super::{
    Proxy,
    accept::Form,
    guard::TOKEN_LEN,
    home::{FILE_FIELD, TOKEN_FIELD, UNPREDICTABLE_FIELD},
    html::{self, Escaped},
    limits::{Limits, Upload},
    media,
    path::{self, Destination},
    query_value,
    reply::{self, Problem},
};
use crate::client::{ByteStream, InsertError, InsertKind, InsertOptions, Network, Reporter, Source};

/// A header that no page can send to another site without asking first, so its presence proves a program. Stands for the
/// form's secret in a POST.
const PROGRAM_HEADER: HeaderName = HeaderName::from_static("x-requested-with");
/// Most bytes of a field that is not the file.
const MAX_SMALL_FIELD: u64 = 256;
/// Most fields that are looked at before the file.
const MAX_FIELDS: usize = 8;

/// Inserts the body under the path's key, or as a CHK.
pub(super) async fn put<N: Network>(
    proxy: &Proxy<N>,
    head: &Parts,
    form: Form,
    body: Body,
) -> Result<Response<Body>, Problem> {
    let destination = path::parse_destination(head.uri.path()).map_err(|error| Problem::bad_key(&error))?;
    check_length(proxy, &head.headers)?;
    let flag = |name| {
        query_value(head.uri.query(), name).map(|value| !matches!(value.as_str(), "0" | "no" | "false"))
    };
    let (kind, name) = match destination {
        Destination::Content(name) => (InsertKind::Chk, name.map(|name| name.as_str().to_owned())),
        Destination::Key(key) => {
            let name = path::file_name(&key.to_uri());
            (InsertKind::Key(key), name)
        }
    };
    let declared = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let options = InsertOptions {
        kind,
        mime: media_type(declared, name.as_deref()),
        unpredictable: flag("unpredictable").unwrap_or(false),
        compress: flag("compress").unwrap_or(true),
    };
    let stream = ByteStream::new(Upload::new(body, proxy.limits()));
    insert(proxy, form, stream, options, name.as_deref()).await
}

/// Inserts the file of a multipart form.
pub(super) async fn post<N: Network>(
    proxy: &Proxy<N>,
    head: &Parts,
    form: Form,
    body: Body,
) -> Result<Response<Body>, Problem> {
    let declared = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let boundary = declared.and_then(|value| multer::parse_boundary(value).ok()).ok_or_else(|| {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_a_form",
            "This is not a form",
            "POST takes multipart/form-data with the file in the field \"file\". To send a file as it is, use PUT.",
        )
    })?;
    check_length(proxy, &head.headers)?;
    let small = SizeLimit::new()
        .per_field(MAX_SMALL_FIELD)
        .for_field(FILE_FIELD, u64::MAX);
    let constraints = Constraints::new().size_limit(small);
    let mut fields = Multipart::with_constraints(Upload::new(body, proxy.limits()), boundary, constraints);
    let mut trusted = head.headers.contains_key(PROGRAM_HEADER);
    let mut options = InsertOptions::default();
    for _ in 0..MAX_FIELDS {
        let Some(field) = fields
            .next_field()
            .await
            .map_err(|error| bad_form(&error, proxy.limits()))?
        else {
            break;
        };
        match field.name() {
            Some(TOKEN_FIELD) => {
                let presented = field
                    .bytes()
                    .await
                    .map_err(|error| bad_form(&error, proxy.limits()))?;
                trusted |= presented.len() == TOKEN_LEN && proxy.token.matches(&presented);
            }
            Some(UNPREDICTABLE_FIELD) => options.unpredictable = true,
            Some(FILE_FIELD) if !trusted => return Err(untrusted()),
            Some(FILE_FIELD) => {
                let name = field
                    .file_name()
                    .map(str::to_owned)
                    .filter(|name| !name.is_empty());
                let declared = field.content_type().map(|mime| mime.as_ref().to_owned());
                options.mime = media_type(declared.as_deref(), name.as_deref());
                return insert(
                    proxy,
                    form,
                    ByteStream::new(FileField(field)),
                    options,
                    name.as_deref(),
                )
                .await;
            }
            _ => {}
        }
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "no_file",
        "There is no file in the form",
        "The field \"file\" is missing.",
    ))
}

async fn insert<N: Network>(
    proxy: &Proxy<N>,
    form: Form,
    stream: ByteStream,
    options: InsertOptions,
    name: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let _slot = proxy.uploads.try_acquire().map_err(|_| Problem::busy())?;
    let inserted = proxy
        .network
        .insert(Source::Stream(stream), options, Reporter::ignored())
        .await;
    let inserted = inserted.map_err(|error| failed(&error, proxy.limits()))?;
    // Only a CHK has room for a name: the others are named by their key.
    let uri = match (inserted.uri, name) {
        (uri @ Uri::Chk(_), Some(name)) => path::with_file_name(uri, name),
        (uri, _) => uri,
    };
    let link = path::link(&uri);
    let body = match form {
        Form::Html => inserted_page(&uri, &link, inserted.size),
        Form::Json => format!(
            "{}\n",
            json!({ "uri": uri.to_string(), "path": link, "size": inserted.size })
        ),
        Form::Text => format!("{uri}\n"),
    };
    let mut response = reply::answer(StatusCode::CREATED, form, body);
    if let Ok(location) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn inserted_page(uri: &Uri, link: &str, size: u64) -> String {
    let body = format!(
        "<section>\n<h1>Inserted</h1>\n<p>The network holds the file ({}). Its key:</p>\n\
         <p><code>{}</code></p>\n<p><a class=\"button\" href=\"{}\">Open it</a></p>\n\
         <p class=\"dim\">Keep the key: nobody can look it up for you.</p>\n</section>\n",
        super::status::size(size),
        Escaped(uri),
        Escaped(link),
    );
    html::page("Inserted", &body)
}

/// Refuses at once what says that it is too large.
fn check_length<N: Network>(proxy: &Proxy<N>, headers: &HeaderMap) -> Result<(), Problem> {
    let limit = proxy.limits().upload_bytes;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match declared {
        Some(length) if length > limit => Err(Problem::too_large(limit)),
        _ => Ok(()),
    }
}

/// The type to record: what the sender says, unless that is a program's way to say nothing, else by the name.
fn media_type(declared: Option<&str>, name: Option<&str>) -> Option<String> {
    let declared = declared.filter(|text| {
        let essence = text.split(';').next().unwrap_or("").trim();
        let says_nothing = ["application/octet-stream", "application/x-www-form-urlencoded"];
        media::is_media_type(text) && !says_nothing.iter().any(|kind| essence.eq_ignore_ascii_case(kind))
    });
    declared.map(str::to_owned).or_else(|| media::guess(name?))
}

fn failed(error: &InsertError, limits: &Limits) -> Problem {
    match error {
        InsertError::Source(cause) => bounded(cause, limits).unwrap_or_else(|| Problem::insert(error)),
        error => Problem::insert(error),
    }
}

fn bad_form(error: &multer::Error, limits: &Limits) -> Problem {
    bounded(error, limits).unwrap_or_else(|| {
        let message = format!("What is wrong: {error}.");
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_form",
            "The form cannot be read",
            message,
        )
    })
}

/// The answer when one of our own limits ended the upload.
fn bounded(error: &(dyn Error + 'static), limits: &Limits) -> Option<Problem> {
    match source_kind(error)? {
        io::ErrorKind::FileTooLarge => Some(Problem::too_large(limits.upload_bytes)),
        io::ErrorKind::TimedOut => Some(too_slow()),
        _ => None,
    }
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "too_slow",
        "The upload was too slow",
        "For a minute hardly anything came. Nothing was inserted under a key that you have.",
    )
}

fn untrusted() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "no_token",
        "The form is out of date",
        "The node was restarted since the page was loaded, or the form is not ours. Programs send the header X-Requested-With, \
         or use PUT. Nothing was inserted.",
    )
    .link("/", "Load the page again")
}

/// The kind of the io error that an error stems from.
fn source_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    let mut kind = None;
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(io_error) => {
                kind = Some(io_error.kind());
                // An io error hides the one that it wraps from `source`.
                cause = io_error.get_ref().map(|inner| inner as &(dyn Error + 'static));
            }
            None => cause = error.source(),
        }
    }
    kind
}

/// The file of a form as a stream.
struct FileField(Field<'static>);

impl Stream for FileField {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_err(io::Error::other)
    }
}
