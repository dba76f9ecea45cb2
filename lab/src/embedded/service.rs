//! The tower service behind a client: faults first, then the API.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request as HttpRequest, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use tower::Service;

use super::{Shared, discovery, record::Asked, refusal::Refusal, request::Request, verbs, watch};
use crate::faults::{Afterwards, Fate, Faults, Path, Target, Verb, When, struck};

/// The body of an answer: one JSON document or a watch's lines.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One client's way to the API. A [`tower::Service`]; clones share faults and name.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) shared: Arc<Shared>,
    pub(super) faults: Arc<Faults>,
    pub(super) user: Arc<str>,
}

impl<B> Service<HttpRequest<B>> for Endpoint
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            if parts.method == Method::GET {
                return endpoint.answer(&parts, &body).await;
            }
            // What was sent arrives, whether or not its sender still waits.
            let answer = tokio::spawn(async move { endpoint.answer(&parts, &body).await });
            answer.await.map_err(io::Error::other)?
        })
    }
}

impl Endpoint {
    async fn answer(&self, parts: &Parts, body: &[u8]) -> io::Result<Response<Body>> {
        self.faults.while_alive().await;
        if let Some(found) = discovery::answer(&self.shared.store(), parts) {
            return Ok(json(StatusCode::OK, &found));
        }
        let request = match Request::parse(&self.shared.store(), parts) {
            Ok(request) => request,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let asked = Asked { user: self.user.to_string(), verb: request.verb, resource: request.resource() };
        let name = name(parts, request.verb, body);
        let target = target(&request, &asked.resource, &name);
        if request.verb.writes() {
            self.shared.store().written.push((self.user.clone(), When::writes_to(&target)));
        }
        let afterwards = match self.faults.fate(&target).await {
            Fate::CarryOut(afterwards) => afterwards,
            Fate::Refused(refusal) => {
                self.count(asked, true);
                return Ok(refused(&refusal));
            }
            Fate::Disconnected => {
                self.count(asked, true);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by a fault"));
            }
        };
        let answer = match request.verb {
            Verb::Watch => self.watch(request),
            _ => self.perform(&request, &afterwards.sent(body), &afterwards),
        };
        self.count(asked, answer.is_err());
        let answer = afterwards.pass(&self.faults, answer).await.and_then(|answer| answer);
        Ok(answer.unwrap_or_else(|refusal| refused(&refusal)))
    }

    fn perform(
        &self,
        request: &Request,
        body: &[u8],
        afterwards: &Afterwards,
    ) -> Result<Response<Body>, Refusal> {
        let mut store = self.shared.store();
        let before = store.version();
        let answer = match afterwards.as_of() {
            Some(version) if request.verb == Verb::List => verbs::list_as_of(&store, request, version),
            Some(_) | None => verbs::perform(&mut store, &self.user, request, body),
        };
        let after = store.version();
        drop(store);
        if after != before {
            self.shared.changed.send_replace(after);
        }
        answer.map(|(code, mut body)| {
            afterwards.tell(&mut body);
            json(code, &body)
        })
    }

    fn watch(&self, request: Request) -> Result<Response<Body>, Refusal> {
        let resource = request.kind.plural.clone();
        let lines = struck(&self.faults, resource, watch::start(&self.shared, request)?);
        let body = StreamBody::new(lines.map(|line| Ok(http_body::Frame::data(line))));
        Ok(response(StatusCode::OK, BodyExt::boxed_unsync(body)))
    }

    fn count(&self, asked: Asked, refused: bool) {
        let mut store = self.shared.store();
        let count = store.requests.entry(asked).or_default();
        count.total += 1;
        count.refused += u64::from(refused);
    }
}

fn target<'a>(request: &'a Request, resource: &'a str, name: &'a str) -> Target<'a> {
    Target { verb: request.verb, resource, namespace: request.namespace.as_deref().unwrap_or_default(), name }
}

/// The name of the object.
fn name(parts: &Parts, verb: Verb, body: &[u8]) -> String {
    Path::parse(parts.uri.path()).map_or_else(String::new, |path| path.name(verb, body))
}

/// A refusal, answered.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    json(refusal.http_code(), &refusal.body())
}

fn json(code: StatusCode, body: &Value) -> Response<Body> {
    response(code, Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

fn response(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
