//! A predictor that answers inference requests as badly as it is told to, and exports what a real one would.
//!
//! It speaks the open inference protocol (v2) over HTTP as far as a demo needs, and exports MLServer's metric names:
//! `rest_server_requests_total`, `rest_server_request_duration_seconds`, `rest_server_requests_in_progress` with the
//! labels of MLServer's middleware (`method`, `path`, `status_code`, `app_name`), `model_infer_request_success_total`
//! and `_failure_total` with `model` and `version`. As in MLServer the `rest_server_*` metrics count every request but
//! `/metrics`, `/v2/health/live` and `/v2/health/ready`, so also metadata and `.../ready` of a model; `version` is the
//! version in the URL, and `None` (Python's word) where the URL has none. As MLServer with one port for both,
//! `/metrics` is on the port of the model.
//!
//! The same port takes inference requests by gRPC ([`MODEL_INFER`]), over HTTP/2 without TLS. As in MLServer they are in
//! `model_infer_request_*`, and not in `rest_server_*`.
//!
//! Nothing is left to chance: an error share of 5% fails every 20th request, and the durations that are exported are
//! the latencies that were set, not what a busy machine made of them.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{http::Server, prometheus::Misbehaviour, share::Share};

mod grpc;
mod inference;
mod metrics;
mod program;

pub use grpc::{MODEL_INFER, frame};
pub use program::{ServeArgs, serve};

/// The answer's header that says who answered: the predictor's name, `<model>-<version>`.
pub const ANSWERED_BY: &str = "x-predictor";

/// What a predictor has served itself: the oracle of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Inference requests by answered status code.
    pub by_code: BTreeMap<u16, u64>,
    /// Inference requests that were made slow.
    pub slow: u64,
}

impl Served {
    /// All inference requests.
    pub fn total(&self) -> u64 {
        self.by_code.values().sum()
    }

    /// Those answered with 500 or more.
    pub fn errors(&self) -> u64 {
        self.by_code.iter().filter(|(code, _)| **code >= 500).map(|(_, n)| n).sum()
    }
}

#[derive(Debug)]
struct Behaviour {
    errors: Share,
    latency: Duration,
    slow: Share,
    slow_latency: Duration,
    ready: bool,
    gauges: BTreeMap<String, f64>,
    metrics: Option<Misbehaviour>,
}

#[derive(Debug)]
struct Inner {
    model: String,
    version: String,
    behaviour: Mutex<Behaviour>,
    metrics: Mutex<metrics::Metrics>,
    served: Mutex<Served>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running predictor. Dropping it kills it.
#[derive(Debug)]
pub struct Predictor {
    inner: Arc<Inner>,
    server: Server,
}

impl Predictor {
    /// Starts one that serves `model` in `version`, ready, without errors and as fast as it can.
    pub fn start(address: SocketAddr, model: &str, version: &str) -> io::Result<Self> {
        Self::on(std::net::TcpListener::bind(address)?, model, version)
    }

    /// Starts one on a listener that is bound already.
    pub fn on(listener: std::net::TcpListener, model: &str, version: &str) -> io::Result<Self> {
        let behaviour = Behaviour {
            errors: Share::default(),
            latency: Duration::ZERO,
            slow: Share::default(),
            slow_latency: Duration::ZERO,
            ready: true,
            gauges: BTreeMap::new(),
            metrics: None,
        };
        let inner = Arc::new(Inner {
            model: model.into(),
            version: version.into(),
            behaviour: Mutex::new(behaviour),
            metrics: Mutex::default(),
            served: Mutex::default(),
        });
        let server = Server::start(listener, inference::router(inner.clone()))?;
        Ok(Self { inner, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `<model>-<version>`, as the header [`ANSWERED_BY`] says it.
    pub fn name(&self) -> String {
        self.inner.name()
    }

    /// From now on this share (0 to 1) of inference requests is answered with 500, evenly spread.
    pub fn set_errors(&self, share: f64) {
        lock(&self.inner.behaviour).errors = Share::new(share);
    }

    /// From now on every inference request takes this long (tokio time).
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.inner.behaviour).latency = latency;
    }

    /// From now on this share (0 to 1) of inference requests takes this long instead, evenly spread.
    pub fn set_slow(&self, share: f64, latency: Duration) {
        let mut behaviour = lock(&self.inner.behaviour);
        behaviour.slow = Share::new(share);
        behaviour.slow_latency = latency;
    }

    /// What `/v2/health/ready` says from now on. Requests that come all the same are answered.
    pub fn set_ready(&self, ready: bool) {
        lock(&self.inner.behaviour).ready = ready;
    }

    /// Exports a gauge of this name, labelled with `model` and `version`, until another value is set.
    pub fn set_gauge(&self, name: &str, value: f64) {
        lock(&self.inner.behaviour).gauges.insert(name.into(), value);
    }

    /// What `/metrics` does from now on instead of its work; it answers requests all the same. Of the ways there are, those that
    /// change an answer of Prometheus make an answer that is no exposition.
    pub fn set_metrics(&self, how: Option<Misbehaviour>) {
        lock(&self.inner.behaviour).metrics = how;
    }

    /// What it has served so far.
    pub fn served(&self) -> Served {
        lock(&self.inner.served).clone()
    }

    /// What `/metrics` says now.
    pub fn metrics(&self) -> String {
        self.inner.exposition()
    }

    /// Answers what it has and ends.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// Ends at once, connections break.
    pub fn kill(&self) {
        self.server.kill();
    }
}

/// What one inference request gets.
struct Turn {
    fails: bool,
    slow: bool,
    latency: Duration,
}

impl Inner {
    fn name(&self) -> String {
        format!("{}-{}", self.model, self.version)
    }

    /// What the next request gets.
    fn turn(&self) -> Turn {
        let mut behaviour = lock(&self.behaviour);
        let (fails, slow) = (behaviour.errors.next(), behaviour.slow.next());
        Turn { fails, slow, latency: if slow { behaviour.slow_latency } else { behaviour.latency } }
    }

    /// A request was answered with this HTTP status.
    fn answered(&self, version: Option<&str>, code: u16, turn: &Turn) {
        lock(&self.metrics).inferred(version.unwrap_or("None"), code < 400);
        let mut served = lock(&self.served);
        *served.by_code.entry(code).or_default() += 1;
        served.slow += u64::from(turn.slow);
    }
}
