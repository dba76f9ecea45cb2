//! What is done with a request: faults first, then the API server.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use kube::Client;
use tokio::sync::watch::Sender;
use tower::Service;

use super::watch::{self, Initial};
use crate::embedded::{Body, refused};
use crate::faults::{Afterwards, Fate, Faults, Path, Target, Verb, When, is_set, resource, struck};

/// What belongs to one connection between the client and the server and has an end there.
const HOP: [HeaderName; 7] = [
    header::HOST,
    header::AUTHORIZATION,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
];

/// What a proxy and the requests that come by it share.
pub(super) struct Shared {
    pub(super) upstream: Client,
    pub(super) faults: Arc<Faults>,
    pub(super) paused: Sender<bool>,
    /// Each request that would write, in the order they came.
    pub(super) written: Mutex<Vec<When>>,
}

/// The service behind the proxy's address.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<Shared>);

impl Endpoint {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Service<Request<Incoming>> for Endpoint {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            if parts.method == Method::GET {
                return shared.answer(parts, body).await;
            }
            // What was sent arrives, whether or not its sender still waits.
            let answer = tokio::spawn(async move { shared.answer(parts, body).await });
            answer.await.map_err(io::Error::other)?
        })
    }
}

impl Shared {
    pub(super) fn new(upstream: Client) -> Self {
        Self {
            upstream,
            faults: Arc::new(Faults::new()),
            paused: Sender::new(false),
            written: Mutex::default(),
        }
    }

    async fn answer(self: Arc<Self>, parts: Parts, body: Bytes) -> io::Result<Response<Body>> {
        self.passable().await;
        let uri = parts.uri.clone();
        let query = url_query(&parts);
        let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let asked = Path::parse(uri.path())
            .and_then(|path| Some((path, path.verb(&parts.method, is_set(parameter("watch")))?)));
        // Such as `/version`.
        let Some((path, verb)) = asked else { return self.pass_on(parts, body).await };
        let (resource, name) = (resource(path.plural, path.subresource), path.name(verb, &body));
        let namespace = path.namespace.unwrap_or_default();
        let target = Target { verb, resource: &resource, namespace, name: &name };
        if verb.writes() {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(When::writes_to(&target));
        }
        let afterwards = match self.faults.fate(&target).await {
            Fate::CarryOut(afterwards) => afterwards,
            Fate::Refused(refusal) => return Ok(refused(&refusal)),
            Fate::Disconnected => {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by a fault"));
            }
        };
        self.passable().await;
        let body = Bytes::from(afterwards.sent(&body).into_owned());
        let answer = match (verb, afterwards.as_of()) {
            (Verb::Watch, _) => {
                let everything = matches!(parameter("resourceVersion"), "" | "0");
                let initial = everything || is_set(parameter("sendInitialEvents"));
                self.clone().watch(parts, path.plural, initial).await
            }
            (Verb::List, Some(version)) => self.pass_on(at_version(parts, &query, version)?, body).await,
            _ => self.pass_on(parts, body).await,
        };
        let answer = if afterwards.lies() && verb != Verb::Watch {
            changed(answer?, &afterwards).await
        } else {
            answer
        };
        self.passable().await;
        let answer = afterwards.pass(&self.faults, answer).await;
        answer.unwrap_or_else(|refusal| Ok(refused(&refusal)))
    }

    /// As long as the client has crashed or nothing passes.
    pub(super) async fn passable(&self) {
        self.faults.while_alive().await;
        // Its sender is here.
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
        self.faults.while_alive().await;
    }

    async fn pass_on(&self, parts: Parts, body: Bytes) -> io::Result<Response<Body>> {
        let (parts, body) = self.send(parts, body).await?.into_parts();
        let body = body.collect_bytes().await.map_err(io::Error::other)?;
        Ok(Response::from_parts(parts, Full::new(body).boxed_unsync()))
    }

    async fn watch(self: Arc<Self>, parts: Parts, plural: &str, initial: bool) -> io::Result<Response<Body>> {
        let initial =
            if initial { Initial::until_now(&self.upstream, parts.uri.path()).await? } else { Initial::None };
        let (parts, body) = self.send(parts, Bytes::new()).await?.into_parts();
        if parts.status != StatusCode::OK {
            let body = body.collect_bytes().await.map_err(io::Error::other)?;
            return Ok(Response::from_parts(parts, Full::new(body).boxed_unsync()));
        }
        let shared = self.clone();
        let lines = watch::lines(body, initial).then(move |line| {
            let shared = shared.clone();
            async move {
                shared.passable().await;
                line
            }
        });
        let lines = struck(&self.faults, plural.to_owned(), lines);
        let body = StreamBody::new(lines.map(|line| Ok::<_, Infallible>(http_body::Frame::data(line))));
        Ok(Response::from_parts(parts, BodyExt::boxed_unsync(body)))
    }

    /// Asks the server; an error where it does not answer.
    async fn send(&self, parts: Parts, body: Bytes) -> io::Result<Response<kube::client::Body>> {
        let mut request = Request::builder().method(parts.method).uri(parts.uri);
        for (name, value) in &parts.headers {
            if !HOP.contains(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(kube::client::Body::from(body)).map_err(io::Error::other)?;
        let (mut parts, body) = self.upstream.send(request).await.map_err(io::Error::other)?.into_parts();
        HOP.iter().for_each(|name| drop(parts.headers.remove(name)));
        Ok(Response::from_parts(parts, body))
    }
}

fn url_query(parts: &Parts) -> Vec<(String, String)> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    query.map(|query| query.0).unwrap_or_default()
}

/// The request for a list as it was at a version.
fn at_version(mut parts: Parts, query: &[(String, String)], version: u64) -> io::Result<Parts> {
    let kept = query.iter().filter(|(key, _)| !key.starts_with("resourceVersion"));
    let mut asked = format!("{}?resourceVersion={version}&resourceVersionMatch=Exact", parts.uri.path());
    for (key, value) in kept {
        asked.extend(["&", key, "=", value]);
    }
    parts.uri = asked.parse().map_err(io::Error::other)?;
    Ok(parts)
}

/// The answer that the client is told.
async fn changed(answer: Response<Body>, afterwards: &Afterwards) -> io::Result<Response<Body>> {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut body = serde_json::from_slice(&body).map_err(io::Error::other)?;
    afterwards.tell(&mut body);
    Ok(Response::from_parts(parts, Full::new(Bytes::from(body.to_string())).boxed_unsync()))
}
