//! Users over the wire: requests in a steady stream to a proxy, each answer kept with its time.
//!
//! What a test says about failed requests is about all that were sent, so none is left out: one without an answer has the
//! status 0 and the reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::tls::Identity;
use super::wire::Way;
use crate::predictor::{ANSWERED_BY, MODEL_INFER, frame};

/// A request without an answer after so long has failed.
const LIMIT: Duration = Duration::from_secs(15);
/// How much of an answer that is an error is kept.
const KEPT: usize = 200;

type Http = Client<Way, Full<Bytes>>;

/// Who asks what, where, how often.
#[derive(Clone)]
pub struct Users {
    way: Way,
    speech: Speech,
    host: String,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    rate: f64,
    keep: usize,
}

/// How they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// HTTP/1.1, over connections that are used again.
    Http,
    /// HTTP/1.1, each request over a connection of its own.
    Connections,
    /// gRPC, over HTTP/2 without TLS.
    Grpc,
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was sent.
    pub sent: Instant,
    /// How long the answer took.
    pub took: Duration,
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// gRPC's own status, where there is one; an answer to gRPC users without it has not come whole.
    pub grpc: Option<u16>,
    /// The predictor that answered, `<model>-<version>`; empty where none did.
    pub by: String,
    /// Of an error, the beginning of its text.
    pub error: String,
}

/// The answers so far. Dropping it ends the users.
#[derive(Debug)]
pub struct Answers {
    kept: Arc<Mutex<Vec<Answer>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Users {
    /// Inference requests for a model at a host, by way of a proxy: a gateway, or a client's own.
    pub fn infer(proxy: SocketAddr, host: &str, model: &str) -> Self {
        let input = json!({"name": "input", "datatype": "FP64", "shape": [3], "data": [1.0, 2.0, 5.0]});
        Self {
            way: Way::to(proxy),
            speech: Speech::Http,
            host: host.to_owned(),
            method: Method::POST,
            path: format!("/v2/models/{model}/infer"),
            headers: HeaderMap::new(),
            body: json!({"inputs": [input]}).to_string().into(),
            rate: 100.0,
            keep: usize::MAX,
        }
    }

    /// The same by gRPC: over one connection, whose requests a proxy divides one by one.
    pub fn grpc(proxy: SocketAddr, host: &str, model: &str) -> Self {
        let users = Self::infer(proxy, host, model).path(MODEL_INFER).body(frame(model, ""));
        let users = users.header("content-type", "application/grpc").header("te", "trailers");
        Self { speech: Speech::Grpc, ..users }
    }

    /// Each request over a connection of its own, for proxies that divide connections.
    #[must_use]
    pub fn by_connection(self) -> Self {
        Self { speech: Speech::Connections, ..self }
    }

    /// By TLS, which ends at whoever has this identity.
    ///
    /// # Errors
    /// A certificate that cannot be trusted.
    pub fn secured(self, identity: &Identity) -> Result<Self, rustls::Error> {
        Ok(Self { way: self.way.secured(identity)?, ..self })
    }

    /// With another path, which begins with a slash.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// With another method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// With another body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With a header; one that is none is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// So many requests a second, 100 unless told otherwise, however long the answers take.
    #[must_use]
    pub fn rate(self, per_second: f64) -> Self {
        Self { rate: per_second, ..self }
    }

    /// Keeps at least so many of the last answers, and in the end forgets older ones: for those who stay.
    #[must_use]
    pub fn keep(self, answers: usize) -> Self {
        Self { keep: answers, ..self }
    }

    /// Sends them from now on.
    pub fn start(self) -> Answers {
        let (kept, stop) = (Arc::default(), CancellationToken::new());
        let task = tokio::spawn(self.send(Arc::clone(&kept), stop.clone()));
        Answers { kept, stop, task }
    }

    /// Sends so many, one after the other, and returns the answers.
    pub async fn ask(&self, count: usize) -> Vec<Answer> {
        let http = self.client();
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(one(http.clone(), self.request(), self.speech).await);
        }
        answers
    }

    /// Sends one, and returns the whole answer: of a request without one, why.
    pub async fn ask_once(&self) -> Result<http::Response<Bytes>, String> {
        let sent = timeout(LIMIT, async {
            let answer = self.client().request(self.request()).await.map_err(|error| causes(&error))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| causes(&error))?.to_bytes();
            Ok(http::Response::from_parts(head, body))
        });
        sent.await.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")))
    }

    async fn send(self, kept: Arc<Mutex<Vec<Answer>>>, stop: CancellationToken) {
        let http = self.client();
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.rate.max(0.001)));
        // A busy machine sends late, but never fewer.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            let (http, request, speech) = (http.clone(), self.request(), self.speech);
            let (kept, keep) = (Arc::clone(&kept), self.keep);
            under_way.spawn(async move {
                let answer = one(http, request, speech).await;
                let mut kept = lock(&kept);
                if kept.len() >= keep.saturating_mul(2) {
                    kept.drain(..keep);
                }
                kept.push(answer);
            });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        // The host is what is asked for; where it is, the way knows.
        *request.uri_mut() = format!("http://{}{}", self.host, self.path).parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn client(&self) -> Http {
        let mut builder = Client::builder(TokioExecutor::new());
        match self.speech {
            Speech::Http => {}
            Speech::Connections => _ = builder.pool_max_idle_per_host(0),
            Speech::Grpc => _ = builder.http2_only(true),
        }
        builder.build(self.way.clone())
    }
}

async fn one(http: Http, request: Request<Full<Bytes>>, speech: Speech) -> Answer {
    let sent = Instant::now();
    let answered = timeout(LIMIT, async {
        let answer = http.request(request).await.map_err(|error| causes(&error))?;
        let status = answer.status().as_u16();
        let by = answer.headers().get(ANSWERED_BY).and_then(|by| by.to_str().ok()).unwrap_or_default();
        let mut by = by.to_owned();
        // A call that failed at once has its status in the head.
        let early = grpc_status(answer.headers());
        let body = answer.into_body().collect().await.map_err(|error| causes(&error))?;
        let grpc = body.trailers().and_then(grpc_status).or(early);
        if speech == Speech::Grpc && grpc.is_none() {
            return Err(format!("HTTP status {status} and no grpc-status"));
        }
        let body = body.to_bytes();
        if by.is_empty() {
            by = named(&body);
        }
        let error = if status < 400 { String::new() } else { String::from_utf8_lossy(&body).into_owned() };
        Ok((status, grpc, by, error))
    });
    let answered = answered.await.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")));
    let (status, grpc, by, mut error) =
        answered.unwrap_or_else(|error: String| (0, None, String::new(), error));
    if let Some((cut, _)) = error.char_indices().nth(KEPT) {
        error.truncate(cut);
    }
    Answer { sent, took: sent.elapsed(), status, grpc, by, error }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Who a model server says it is, in an answer of the open inference protocol.
fn named(body: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match (answer["model_name"].as_str(), answer["model_version"].as_str()) {
        (Some(model), Some(version)) => format!("{model}-{version}"),
        _ => String::new(),
    }
}

/// With the causes, which the client leaves out of its message.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    /// Whether it is none, or an error.
    pub fn failed(&self) -> bool {
        self.status == 0 || self.status >= 400 || self.grpc.is_some_and(|status| status != 0)
    }

    /// Answers by who gave them; those that failed without a predictor count for the empty name.
    pub fn by_predictor(answers: &[Self]) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for answer in answers {
            *counts.entry(answer.by.clone()).or_default() += 1;
        }
        counts
    }
}

impl Answers {
    /// What was answered so far, in the order of the answers.
    pub fn so_far(&self) -> Vec<Answer> {
        lock(&self.kept).clone()
    }

    /// What was sent from one moment to just before another, and has been answered.
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Answer> {
        lock(&self.kept).iter().filter(|answer| (from..to).contains(&answer.sent)).cloned().collect()
    }

    /// Sends no more, waits for what is under way, and returns all.
    pub async fn stop(mut self) -> Vec<Answer> {
        self.stop.cancel();
        // It ends by itself once told to.
        let _ = (&mut self.task).await;
        self.so_far()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}
