//! The tower service behind a client: faults first, then the API.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::State, response::IntoResponse};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request as HttpRequest, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use tower::Service;

use super::{
    Shared, discovery,
    faults::{Faults, Tamper, Target, Then, When},
    record::Asked,
    refusal::Refusal,
    request::{Request, Verb},
    verbs, watch,
};

/// The body of an answer: one JSON document or a watch's lines.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

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
            if parts.method == http::Method::GET {
                return endpoint.answer(&parts, &body).await;
            }
            // What was sent arrives, however late, also when the client does not wait for the answer any more.
            let sent = tokio::spawn(async move { endpoint.answer(&parts, &body).await });
            sent.await.map_err(io::Error::other)?
        })
    }
}

/// The same over HTTP; a connection that breaks by a fault is then a gateway's 502.
pub(super) async fn serve(
    State(mut endpoint): State<Endpoint>,
    request: axum::extract::Request,
) -> axum::response::Response {
    match endpoint.call(request).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(e) => (StatusCode::BAD_GATEWAY, e.to_string()).into_response(),
    }
}

/// What is left to do to an answer after the request was carried out.
#[derive(Default)]
struct Afterwards {
    delay: std::time::Duration,
    lose: bool,
    crash: bool,
    crash_answered: bool,
    tamper: Vec<Tamper>,
}

impl Endpoint {
    async fn answer(&self, parts: &Parts, body: &[u8]) -> io::Result<Response<Body>> {
        self.while_alive().await;
        if let Some(found) = discovery::answer(&self.shared.store(), parts) {
            return Ok(json(StatusCode::OK, &found));
        }
        let request = match Request::parse(&self.shared.store(), parts) {
            Ok(request) => request,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let asked = Asked { user: self.user.to_string(), verb: request.verb, resource: request.resource() };
        let mut afterwards = Afterwards::default();
        let mut body = std::borrow::Cow::Borrowed(body);
        let mut as_of = None;
        let name = name(&request, &body);
        let target = target(&request, &asked.resource, &name);
        if request.verb.writes() {
            self.shared.store().written.push((self.user.clone(), When::writes_to(&target)));
        }
        for fault in self.faults.strike(&target) {
            match fault {
                Then::Delay(time) => tokio::time::sleep(time).await,
                Then::DelayAnswer(time) => afterwards.delay += time,
                Then::LoseAnswer => afterwards.lose = true,
                Then::CrashAfter => afterwards.crash = true,
                Then::CrashAnswered => afterwards.crash_answered = true,
                Then::TamperAnswer(tamper) => afterwards.tamper.push(tamper),
                Then::Old(version) => as_of = Some(version),
                Then::Tamper(tamper) => {
                    let mut changed: Value = serde_json::from_slice(&body).unwrap_or_default();
                    tamper.change(&mut changed);
                    body = changed.to_string().into_bytes().into();
                }
                Then::CrashBefore => self.faults.crash(),
                Then::Hang => return std::future::pending().await,
                Then::Refuse(refusal) => {
                    self.count(asked, true);
                    return Ok(refused(&refusal));
                }
                Then::Disconnect => {
                    self.count(asked, true);
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "connection reset by a fault",
                    ));
                }
            }
            self.while_alive().await;
        }
        let answer = match request.verb {
            Verb::Watch => self.watch(request),
            _ => self.perform(&request, &body, as_of, &afterwards.tamper),
        };
        self.count(asked, answer.is_err());
        if afterwards.crash {
            self.faults.crash();
        }
        if !afterwards.delay.is_zero() {
            tokio::time::sleep(afterwards.delay).await;
        }
        self.while_alive().await;
        if afterwards.lose {
            return Ok(refused(&Refusal::new(504, "Timeout", "the answer was lost on its way")));
        }
        if afterwards.crash_answered {
            // The answer is on its way already; whatever the client does with it comes to nothing.
            self.faults.crash();
        }
        Ok(answer.unwrap_or_else(|refusal| refused(&refusal)))
    }

    /// For ever, once the client has crashed.
    async fn while_alive(&self) {
        if self.faults.has_crashed() {
            std::future::pending::<()>().await;
        }
    }

    fn perform(
        &self,
        request: &Request,
        body: &[u8],
        as_of: Option<u64>,
        tamper: &[Tamper],
    ) -> Result<Response<Body>, Refusal> {
        let mut store = self.shared.store();
        let before = store.version();
        let answer = match as_of {
            Some(version) if request.verb == Verb::List => verbs::list_as_of(&store, request, version),
            Some(_) | None => verbs::perform(&mut store, &self.user, request, body),
        };
        let after = store.version();
        drop(store);
        if after != before {
            self.shared.changed.send_replace(after);
        }
        answer.map(|(code, mut body)| {
            tamper.iter().for_each(|tamper| tamper.change(&mut body));
            json(code, &body)
        })
    }

    fn watch(&self, request: Request) -> Result<Response<Body>, Refusal> {
        let lines = watch::start(&self.shared, &self.faults, request)?;
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

/// The name of the object, for a create from its body.
fn name(request: &Request, body: &[u8]) -> String {
    if request.verb != Verb::Create {
        return request.name.clone();
    }
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    super::object::meta(&object, "name").into()
}

fn refused(refusal: &Refusal) -> Response<Body> {
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
