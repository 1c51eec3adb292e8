//! The commands' end of the control interface.

use std::{convert::Infallible, io, net::SocketAddr, path::Path, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, StatusCode,
    body::{Frame, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use super::{
    api::{AddPeer, ErrorCode, ErrorReport, FetchRequest, InsertRequest, REQUEST_HEADER},
    frames::{self, Kind},
    token::{ControlFile, Token},
};
use crate::settings::{Change, Document};

/// Largest JSON answer that is read, bytes: a thousand peers take a tenth of it.
const MAX_JSON: usize = 4 << 20;

/// The body of a request: bytes or a stream of them.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running node's control interface.
#[derive(Clone)]
pub struct ControlClient {
    address: SocketAddr,
    token: Token,
}

impl ControlClient {
    /// Finds the node that runs in `data_dir`.
    ///
    /// # Errors
    /// [`ErrorCode::NoNode`] when none does, or its control file cannot be read.
    pub fn find(data_dir: &Path) -> Result<Self, ErrorReport> {
        match ControlFile::read(data_dir) {
            Ok(Some(ControlFile { address, token })) => Ok(Self { address, token }),
            Ok(None) => Err(no_node(format!(
                "no node is running in {}; start one with `warren run`",
                data_dir.display()
            ))),
            Err(error) => Err(no_node(format!(
                "cannot read {}: {error}",
                ControlFile::path(data_dir).display()
            ))),
        }
    }

    /// Fetches a JSON document.
    ///
    /// # Errors
    /// What the node reports, or [`ErrorCode::NoNode`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ErrorReport> {
        let answer = self.send(Method::GET, path, None, empty()).await?;
        let body = limited(answer.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| failed(format!("the node's answer is unreadable: {error}")))
    }

    /// Introduces the node to another one.
    ///
    /// # Errors
    /// As for [`ControlClient::get`].
    pub async fn add_peer(&self, reference: &str) -> Result<(), ErrorReport> {
        let body = json(&AddPeer {
            reference: reference.to_owned(),
        })?;
        self.send(Method::POST, "/v1/peers", None, body).await.map(drop)
    }

    /// Changes settings of the running node; returns all of them.
    ///
    /// # Errors
    /// As for [`ControlClient::get`], and what is wrong with the change.
    pub async fn change(&self, change: &Change) -> Result<Document, ErrorReport> {
        let answer = self
            .send(Method::POST, "/v1/settings", None, json(change)?)
            .await?;
        let body = limited(answer.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| failed(format!("the node's answer is unreadable: {error}")))
    }

    /// Begins to fetch a file, and waits so long for one that is not there yet.
    ///
    /// # Errors
    /// As for [`ControlClient::get`]; later failures come as frames.
    pub async fn fetch(&self, key: &str, wait: Duration) -> Result<Answer, ErrorReport> {
        let body = json(&FetchRequest {
            key: key.to_owned(),
            wait: wait.as_secs(),
        })?;
        Ok(Answer::new(
            self.send(Method::POST, "/v1/fetch", None, body)
                .await?
                .into_body(),
        ))
    }

    /// Begins to insert what `source` yields.
    ///
    /// # Errors
    /// As for [`ControlClient::get`]; later failures come as frames.
    pub async fn insert(
        &self,
        request: &InsertRequest,
        source: impl futures_core::Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Answer, ErrorReport> {
        let header = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
        let body = StreamBody::new(FrameStream(Box::pin(source))).boxed_unsync();
        let answer = self.send(Method::POST, "/v1/insert", Some(&header), body).await?;
        Ok(Answer::new(answer.into_body()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        request_header: Option<&[u8]>,
        body: Body,
    ) -> Result<hyper::Response<Incoming>, ErrorReport> {
        let unreachable = |error: &dyn std::fmt::Display| {
            no_node(format!(
                "the node's control interface does not answer ({error}); is it still running?"
            ))
        };
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).ok();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        // Ends when the answer has been read or dropped; its error then shows as a cut-off body.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, self.token.header());
        if let Some(value) = request_header {
            request = request.header(REQUEST_HEADER, value);
        }
        let request = request.body(body).map_err(|error| failed(error.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status();
        let body = limited(answer.into_body()).await?;
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| failed(format!("the node answers {status}"))))
    }
}

/// A framed answer that is being read.
pub struct Answer {
    body: Incoming,
    buffer: BytesMut,
}

impl Answer {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame. After `Done` or an error there is nothing more to read.
    ///
    /// # Errors
    /// What the node reports in an error frame; [`ErrorCode::Failed`] when the answer was cut off.
    pub async fn next(&mut self) -> Result<(Kind, Bytes), ErrorReport> {
        loop {
            match frames::decode(&mut self.buffer).map_err(|error| failed(error.to_string()))? {
                Some((Kind::Error, body)) => {
                    return Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
                        failed("the node reports an error that cannot be read".to_owned())
                    }));
                }
                Some(frame) => return Ok(frame),
                None => {}
            }
            let cut = || failed("the node ended before the transfer did".to_owned());
            let frame = self.body.frame().await.ok_or_else(cut)?.map_err(|_| cut())?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// A byte stream as the frames of a request body.
struct FrameStream<S>(Pin<Box<S>>);

impl<S: futures_core::Stream<Item = io::Result<Bytes>>> futures_core::Stream for FrameStream<S> {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .as_mut()
            .poll_next(cx)
            .map(|item| item.map(|bytes| bytes.map(Frame::data)))
    }
}

fn empty() -> Body {
    Full::default()
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn json(value: &impl Serialize) -> Result<Body, ErrorReport> {
    let bytes = serde_json::to_vec(value).map_err(|error| failed(error.to_string()))?;
    Ok(Full::from(bytes)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync())
}

async fn limited(body: Incoming) -> Result<Bytes, ErrorReport> {
    http_body_util::Limited::new(body, MAX_JSON)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| failed(format!("the node's answer was cut off: {error}")))
}

fn failed(message: String) -> ErrorReport {
    ErrorReport {
        code: ErrorCode::Failed,
        message,
    }
}

fn no_node(message: String) -> ErrorReport {
    ErrorReport {
        code: ErrorCode::NoNode,
        message,
    }
}
