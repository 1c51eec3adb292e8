//! The HTTP proxy: the network's files at `http://127.0.0.1:8888/<key>`, an upload form, and the node's status.
//!
//! `docs/http.md` is its reference. The pure parts ([`path`], [`range`], [`accept`], [`validator`], [`guard`], [`media`])
//! decide everything that can be decided from the text of a request; [`fetch`] and [`upload`] talk to the network;
//! [`limits`] and [`server`] hold the connections.
//!
//! Invariants: nothing is fetched or inserted for a request that another site caused; no byte is sent that was not
//! verified; an answer that cannot be completed ends in a broken connection, never in a clean end; nothing that comes from the
//! network is shown by a browser as an active page; no request is logged.
//!
//! Deliberately not here: folders and sites, the filter for web pages, queues. This is HTTP/1.1 without TLS, for loopback.

pub mod accept;
mod fetch;
pub mod guard;
mod home;
mod html;
pub mod limits;
pub mod media;
pub mod path;
pub mod range;
mod reply;
mod server;
mod status;
#[cfg(test)]
mod tests;
mod upload;
pub mod validator;
mod wait;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
};
use tokio::sync::Semaphore;

pub use limits::Limits;
pub use server::serve;
pub use status::NodeStatus;

use self::{
    accept::Form,
    guard::{Hosts, Refusal, Token},
    limits::MAX_TARGET,
    path::Target,
    reply::Problem,
    status::StatusSource,
};
use crate::{client::Network, http::Refusals};

/// What the proxy is made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names that a `Host` may have beside the loopback ones: `name` or `name:port`.
    pub hosts: Vec<String>,
    /// Bounds.
    pub limits: Limits,
    /// Where refusals are counted.
    pub refusals: Refusals,
}

/// The proxy: answers requests out of a [`Network`].
pub struct Proxy<N> {
    network: N,
    status: StatusSource,
    settings: Settings,
    token: Token,
    uploads: Arc<Semaphore>,
}

impl<N: Network> Proxy<N> {
    /// Makes a proxy; [`serve`] puts it on a listener. `status` is asked for each view of the start page; none means that the node is stopping.
    /// `token_seed`: 32 fresh random bytes.
    #[must_use]
    pub fn new<F>(
        network: N,
        status: impl Fn() -> F + Send + Sync + 'static,
        settings: Settings,
        token_seed: &[u8; 32],
    ) -> Arc<Self>
    where
        F: Future<Output = Option<NodeStatus>> + Send + 'static,
    {
        let uploads = Arc::new(Semaphore::new(settings.limits.uploads));
        Arc::new(Self {
            network,
            status: StatusSource::new(status),
            settings,
            token: Token::new(token_seed),
            uploads,
        })
    }

    fn hosts(&self) -> &[String] {
        &self.settings.hosts
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Body>, hosts: &Hosts) -> Response<Body> {
        let (head, body) = request.into_parts();
        let form = accept::form(&head.headers);
        let mut response = match self.route(&head, form, body, hosts).await {
            Ok(response) => response,
            Err(problem) => problem.respond(form),
        };
        if head.method == Method::HEAD {
            // The length that GET would have stays; hyper sends no body after HEAD.
            *response.body_mut() = Body::empty();
        }
        reply::harden(response.headers_mut());
        response
    }

    async fn route(
        &self,
        head: &Parts,
        form: Form,
        body: Body,
        hosts: &Hosts,
    ) -> Result<Response<Body>, Problem> {
        guard::check_host(&head.headers, &head.uri, hosts)
            .map_err(|refusal| Problem::refused(refusal, None))?;
        let path = head.uri.path();
        if path.len() + head.uri.query().map_or(0, str::len) > MAX_TARGET {
            return Err(Problem::new(
                StatusCode::URI_TOO_LONG,
                "too_long",
                "The address is too long",
                format!("At most {MAX_TARGET} bytes are read; no key is longer."),
            ));
        }
        let foreign = guard::check_provenance(&head.headers, hosts);
        match head.method {
            Method::GET | Method::HEAD => self.get(head, foreign).await,
            Method::POST if path == "/" => {
                foreign.map_err(|refusal| Problem::refused(refusal, None))?;
                upload::post(self, head, form, body).await
            }
            Method::PUT => {
                foreign.map_err(|refusal| Problem::refused(refusal, None))?;
                upload::put(self, head, form, body).await
            }
            _ if path == "/" => Err(Problem::method("GET, HEAD, POST, PUT")),
            _ => Err(Problem::method("GET, HEAD, PUT")),
        }
    }

    async fn get(&self, head: &Parts, foreign: Result<(), Refusal>) -> Result<Response<Body>, Problem> {
        let typed = query_value(head.uri.query(), "key");
        let target = match &typed {
            Some(_) => Ok(Target::Home),
            None => path::parse(head.uri.path()),
        };
        // The bare start page may be linked to from anywhere: it does nothing.
        if let Err(refusal) = foreign
            && !matches!((&target, &typed), (Ok(Target::Home), None))
        {
            let link = match &target {
                Ok(Target::File(file)) => path::link(&file.uri),
                _ => "/".to_owned(),
            };
            return Err(Problem::refused(refusal, Some(&link)));
        }
        if let Some(typed) = typed {
            let uri =
                path::parse_typed(&typed).map_err(|error| Problem::bad_key(&error).link("/", "Back"))?;
            return Ok(redirect(&path::link(&uri)));
        }
        match target.map_err(|error| Problem::bad_key(&error).link("/", "Start page"))? {
            Target::Home => {
                let status = self.status.ask().await.ok_or_else(Problem::stopping)?;
                let page = home::page(&status, &self.token);
                Ok(reply::answer(StatusCode::OK, Form::Html, page))
            }
            Target::InFolder => Err(Problem::in_folder()),
            Target::File(file) => fetch::fetch(self, head, &file).await,
        }
    }
}

/// Sends the browser to another path of this proxy.
fn redirect(path: &str) -> Response<Body> {
    let mut response = reply::answer(StatusCode::SEE_OTHER, Form::Text, format!("{path}\n"));
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The value of a query's first field of that name.
fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.into_owned())
}
