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
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::predictor::ANSWERED_BY;

/// A request without an answer after so long has failed.
const LIMIT: Duration = Duration::from_secs(15);
/// How much of an answer that is an error is kept.
const KEPT: usize = 200;

type Http = Client<HttpConnector, Full<Bytes>>;

/// Who asks what, where, how often.
#[derive(Clone, Debug)]
pub struct Users {
    proxy: SocketAddr,
    host: String,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    rate: f64,
    keep: usize,
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
            proxy,
            host: host.to_owned(),
            method: Method::POST,
            path: format!("/v2/models/{model}/infer"),
            headers: HeaderMap::new(),
            body: json!({"inputs": [input]}).to_string().into(),
            rate: 100.0,
            keep: usize::MAX,
        }
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
        let http = client();
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(one(http.clone(), self.request()).await);
        }
        answers
    }

    /// Sends one, and returns the whole answer: of a request without one, why.
    pub async fn ask_once(&self) -> Result<http::Response<Bytes>, String> {
        let sent = timeout(LIMIT, async {
            let answer = client().request(self.request()).await.map_err(|error| causes(&error))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| causes(&error))?.to_bytes();
            Ok(http::Response::from_parts(head, body))
        });
        sent.await.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")))
    }

    async fn send(self, kept: Arc<Mutex<Vec<Answer>>>, stop: CancellationToken) {
        let http = client();
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.rate.max(0.001)));
        // A busy machine sends late, but never fewer.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            let (http, request, kept, keep) = (http.clone(), self.request(), Arc::clone(&kept), self.keep);
            under_way.spawn(async move {
                let answer = one(http, request).await;
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
        *request.uri_mut() = format!("http://{}{}", self.proxy, self.path).parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        if let Ok(host) = self.host.parse() {
            request.headers_mut().insert(http::header::HOST, host);
        }
        request
    }
}

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn one(http: Http, request: Request<Full<Bytes>>) -> Answer {
    let sent = Instant::now();
    let answered = timeout(LIMIT, async {
        let answer = http.request(request).await.map_err(|error| causes(&error))?;
        let status = answer.status().as_u16();
        let by = answer.headers().get(ANSWERED_BY).and_then(|by| by.to_str().ok()).unwrap_or_default();
        let mut by = by.to_owned();
        let body = answer.into_body().collect().await.map_err(|error| causes(&error))?.to_bytes();
        if by.is_empty() {
            by = named(&body);
        }
        let error = if status < 400 { String::new() } else { String::from_utf8_lossy(&body).into_owned() };
        Ok((status, by, error))
    });
    let answered = answered.await.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")));
    let (status, by, mut error) = answered.unwrap_or_else(|error: String| (0, String::new(), error));
    if let Some((cut, _)) = error.char_indices().nth(KEPT) {
        error.truncate(cut);
    }
    Answer { sent, took: sent.elapsed(), status, by, error }
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
        self.status == 0 || self.status >= 400
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
