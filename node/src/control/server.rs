//! The node's end of the control interface.

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use warren_keys::{InsertUri, Uri};
use warren_proto::client::MAX_WAIT;

use super::{
    api::{
        AddPeer, ErrorCode, ErrorReport, FetchDone, FetchRequest, FileInfo, InsertDone, InsertRequest,
        ProgressReport, REQUEST_HEADER,
    },
    frames::{self, Kind},
    token::{ControlFile, Token},
};
use crate::{
    client::{
        ByteStream, FetchError, InsertError, InsertKind, InsertOptions, Network, Phase, Progress, Reporter,
        Source,
    },
    http::{self, Refusals},
    node::NodeStopped,
    settings::{Change, Document},
};

/// How often progress is reported: often enough for a bar that moves, far too seldom to cost anything.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Frames that wait for a slow reader before the transfer waits too.
const QUEUE: usize = 16;

/// Connections at once; further ones wait. Each command opens one, and each transfer needs one.
const CONNECTIONS: usize = 128;

/// From the opening of a connection to the end of a request's head. Only programs of this machine connect, but of any user.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest JSON request, bytes.
const MAX_REQUEST: usize = 64 << 10;

/// What the control interface shows and does beside files.
pub trait Overseer: Clone + Send + Sync + 'static {
    /// The document of `GET /v1/status`.
    ///
    /// # Errors
    /// When the node is stopping.
    fn status(&self) -> impl Future<Output = Result<serde_json::Value, NodeStopped>> + Send;
    /// The document of `GET /v1/peers`.
    ///
    /// # Errors
    /// When the node is stopping.
    fn peers(&self) -> impl Future<Output = Result<serde_json::Value, NodeStopped>> + Send;
    /// Introduces the node to another one.
    ///
    /// # Errors
    /// What is wrong with the reference.
    fn add_peer(&self, reference: &str) -> impl Future<Output = Result<(), String>> + Send;
    /// The document of `GET /v1/settings`.
    fn settings(&self) -> Document;
    /// Changes settings; returns all of them.
    ///
    /// # Errors
    /// What is wrong with the change.
    fn change(&self, change: Change) -> impl Future<Output = Result<Document, String>> + Send;
}

/// A bound control interface.
pub struct Control {
    listener: TcpListener,
    token: Token,
    data_dir: PathBuf,
}

struct Shared<N, O> {
    network: N,
    overseer: O,
    token: Token,
}

impl Control {
    /// Binds the interface and writes the control file.
    ///
    /// # Errors
    /// When the address is taken or the file cannot be written.
    pub async fn bind(listen: SocketAddr, data_dir: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let token = Token::generate()?;
        ControlFile {
            address: listener.local_addr()?,
            token: token.clone(),
        }
        .write(&data_dir)?;
        Ok(Self {
            listener,
            token,
            data_dir,
        })
    }

    /// Serves until `stop`, then removes the control file. Transfers under way are cut off.
    pub async fn serve<N: Network, O: Overseer>(
        self,
        network: N,
        overseer: O,
        refusals: Refusals,
        stop: CancellationToken,
    ) {
        let shared = Arc::new(Shared {
            network,
            overseer,
            token: self.token,
        });
        let router = Router::new()
            .route("/v1/status", get(status::<N, O>))
            .route("/v1/peers", get(peers::<N, O>).post(add_peer::<N, O>))
            .route("/v1/settings", get(settings::<N, O>).post(change::<N, O>))
            .route("/v1/fetch", post(fetch::<N, O>))
            .route(
                "/v1/insert",
                post(insert::<N, O>).layer(DefaultBodyLimit::disable()),
            )
            .layer(DefaultBodyLimit::max(MAX_REQUEST))
            .layer(middleware::from_fn_with_state(shared.clone(), authorise::<N, O>))
            .with_state(shared);
        let service = TowerToHyperService::new(router);
        // Dropped, and with it the transfers, when this function ends.
        let mut connections = JoinSet::new();
        let accept = http::accept(&self.listener, CONNECTIONS, &mut connections, |stream| {
            let (service, refusals, stop) = (service.clone(), refusals.clone(), stop.clone());
            async move {
                http::connection(stream, HEAD_TIMEOUT, &refusals, &stop, |request| {
                    let answered = service.call(request);
                    async move {
                        let Ok(response) = answered.await;
                        response
                    }
                })
                .await;
            }
        });
        tokio::select! {
            () = accept => {}
            () = stop.cancelled() => {}
        }
        ControlFile::remove(&self.data_dir);
    }
}

async fn authorise<N: Network, O: Overseer>(
    State(shared): State<Arc<Shared<N, O>>>,
    request: Request,
    next: Next,
) -> Response {
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if presented.is_some_and(|token| shared.token.matches(token)) {
        return next.run(request).await;
    }
    let message = "this interface needs the token from the node's control file".to_owned();
    (
        StatusCode::UNAUTHORIZED,
        axum_json(&ErrorReport {
            code: ErrorCode::Failed,
            message,
        }),
    )
        .into_response()
}

fn axum_json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refuse(status: StatusCode, report: &ErrorReport) -> Response {
    (status, axum_json(report)).into_response()
}

fn bad_request(message: String) -> Response {
    refuse(
        StatusCode::BAD_REQUEST,
        &ErrorReport {
            code: ErrorCode::Failed,
            message,
        },
    )
}

fn document(value: Result<serde_json::Value, NodeStopped>) -> Response {
    match value {
        Ok(value) => axum_json(&value),
        Err(stopped) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            &ErrorReport {
                code: ErrorCode::NoNode,
                message: stopped.to_string(),
            },
        ),
    }
}

async fn status<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>) -> Response {
    document(shared.overseer.status().await)
}

async fn peers<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>) -> Response {
    document(shared.overseer.peers().await)
}

async fn add_peer<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>, body: Bytes) -> Response {
    let request: AddPeer = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return bad_request(format!("the request is not what this interface takes: {error}")),
    };
    match shared.overseer.add_peer(&request.reference).await {
        Ok(()) => axum_json(&serde_json::json!({})),
        Err(message) => bad_request(message),
    }
}

async fn settings<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>) -> Response {
    axum_json(&shared.overseer.settings())
}

async fn change<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>, body: Bytes) -> Response {
    let change: Change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return bad_request(format!("the request is not what this interface takes: {error}")),
    };
    match shared.overseer.change(change).await {
        Ok(settings) => axum_json(&settings),
        Err(message) => bad_request(message),
    }
}

async fn fetch<N: Network, O: Overseer>(State(shared): State<Arc<Shared<N, O>>>, body: Bytes) -> Response {
    let request: FetchRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return bad_request(format!("the request is not what this interface takes: {error}")),
    };
    let uri: Uri = match request.key.parse() {
        Ok(uri) => uri,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &bad_key(&error)),
    };
    let network = shared.network.clone();
    framed(|out| async move {
        let wait = Duration::from_secs(request.wait).min(MAX_WAIT);
        let content = network
            .open(&uri, wait)
            .await
            .map_err(|error| fetch_report(&error))?;
        let info = content.info().clone();
        let size = info.size;
        out.json(
            Kind::Info,
            &FileInfo {
                size,
                mime: info.mime,
            },
        )
        .await?;
        let progress = content.progress();
        let mut stream = content.stream(0..size);
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            let piece = tokio::select! {
                piece = std::future::poll_fn(|cx| futures_core::Stream::poll_next(Pin::new(&mut stream), cx)) => piece,
                _ = ticks.tick() => {
                    let report = progress_report(&progress.borrow());
                    out.json(Kind::Progress, &report).await?;
                    continue;
                }
            };
            match piece {
                Some(Ok(mut bytes)) => {
                    while !bytes.is_empty() {
                        let part = bytes.split_to(bytes.len().min(frames::MAX_BODY));
                        out.frame(frames::header(Kind::Data, part.len())).await?;
                        out.frame(part).await?;
                    }
                }
                Some(Err(error)) => return Err(fetch_report(&error)),
                None => break,
            }
        }
        let last = progress_report(&progress.borrow());
        out.json(Kind::Progress, &last).await?;
        out.json(Kind::Done, &FetchDone { size }).await
    })
}

async fn insert<N: Network, O: Overseer>(
    State(shared): State<Arc<Shared<N, O>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = headers
        .get(REQUEST_HEADER)
        .map_or(Ok(InsertRequest::default()), |value| {
            serde_json::from_slice(value.as_bytes())
        });
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            return bad_request(format!(
                "{REQUEST_HEADER} is not what this interface takes: {error}"
            ));
        }
    };
    let kind = match request.key.as_deref().map(InsertUri::parse).transpose() {
        Ok(key) => key.map_or(InsertKind::Chk, |key| InsertKind::Key(Box::new(key))),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &bad_key(&error)),
    };
    let options = InsertOptions {
        kind,
        mime: request.mime,
        unpredictable: request.unpredictable,
        compress: !request.no_compress,
    };
    let name = request.name;
    let network = shared.network.clone();
    framed(|out| async move {
        let (reporter, progress) = Reporter::new();
        let source = Source::Stream(ByteStream::new(BodyBytes(body)));
        let inserting = network.insert(source, options, reporter);
        tokio::pin!(inserting);
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let inserted = loop {
            tokio::select! {
                inserted = &mut inserting => break inserted.map_err(|error| insert_report(&error))?,
                _ = ticks.tick() => {
                    let report = progress_report(&progress.borrow());
                    out.json(Kind::Progress, &report).await?;
                }
            }
        };
        // Only a CHK says nothing of what it holds; the other kinds carry a name of their own. A file name that no key can carry is left out.
        let path = name.and_then(|name| warren_keys::Path::new([name]).ok());
        let uri = match (inserted.uri, path) {
            (uri @ Uri::Chk(_), Some(path)) => uri.with_path(path),
            (uri, _) => uri,
        };
        out.json(
            Kind::Done,
            &InsertDone {
                key: uri.to_string(),
                size: inserted.size,
            },
        )
        .await
    })
}

/// Where a framed answer's producer writes.
#[derive(Clone)]
struct FrameSink(mpsc::Sender<Bytes>);

impl FrameSink {
    async fn frame(&self, frame: Bytes) -> Result<(), ErrorReport> {
        // The report goes nowhere: the reader has gone. It only ends the producer.
        let gone = || ErrorReport {
            code: ErrorCode::Failed,
            message: "the reader has gone".to_owned(),
        };
        self.0.send(frame).await.map_err(|_| gone())
    }

    async fn json(&self, kind: Kind, value: &impl Serialize) -> Result<(), ErrorReport> {
        let body = serde_json::to_vec(value).map_err(|error| ErrorReport {
            code: ErrorCode::Failed,
            message: error.to_string(),
        })?;
        self.frame(frames::encode(kind, &body)).await
    }
}

/// An answer made of the frames that `produce` writes; its error becomes the last frame. Dropped with the connection, and `produce` with it.
fn framed<F>(produce: impl FnOnce(FrameSink) -> F) -> Response
where
    F: Future<Output = Result<(), ErrorReport>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sink = FrameSink(sender);
    let producing = produce(sink.clone());
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = producing => outcome,
            () = sink.0.closed() => return,
        };
        if let Err(report) = outcome {
            sink.json(Kind::Error, &report).await.ok();
        }
    });
    Body::new(Receiver(receiver)).into_response()
}

/// A channel as a body.
struct Receiver(mpsc::Receiver<Bytes>);

impl HttpBody for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|item| item.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

/// A request body as a stream of bytes.
struct BodyBytes(Body);

impl futures_core::Stream for BodyBytes {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| match frame? {
            Ok(frame) => Some(Ok(frame.into_data().unwrap_or_default())),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    }
}

fn progress_report(progress: &Progress) -> ProgressReport {
    let phase = match progress.phase {
        Phase::Starting => "starting",
        Phase::Hashing => "hashing",
        Phase::Transferring => "transferring",
        Phase::Done => "done",
    };
    ProgressReport {
        phase: phase.to_owned(),
        bytes: progress.bytes,
        total_bytes: progress.total_bytes,
        blocks: progress.blocks,
        total_blocks: progress.total_blocks,
        failed_blocks: progress.failed_blocks,
    }
}

fn bad_key(error: &impl std::fmt::Display) -> ErrorReport {
    ErrorReport {
        code: ErrorCode::BadKey,
        message: format!("not a valid key: {error}"),
    }
}

fn fetch_report(error: &FetchError) -> ErrorReport {
    let code = match error {
        FetchError::NotFound => ErrorCode::NotFound,
        FetchError::Unreachable | FetchError::NoLinks => ErrorCode::Unreachable,
        FetchError::BadKey(_) => ErrorCode::BadKey,
        FetchError::BadData(_) | FetchError::Busy | FetchError::Cancelled | FetchError::Internal(_) => {
            ErrorCode::Failed
        }
    };
    ErrorReport {
        code,
        message: error.to_string(),
    }
}

fn insert_report(error: &InsertError) -> ErrorReport {
    let code = match error {
        InsertError::Collision => ErrorCode::Collision,
        InsertError::Unreachable | InsertError::NoLinks => ErrorCode::Unreachable,
        _ => ErrorCode::Failed,
    };
    ErrorReport {
        code,
        message: error.to_string(),
    }
}
