//! Users: requests in a steady stream, or as fast as they are answered, and who answered them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use serde_json::json;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Gateway, lock};
use crate::predictor::ANSWERED_BY;

/// Which requests to send, and how many. Without a bound it goes on until it is stopped.
#[derive(Clone, Debug)]
pub struct Load {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    rate: Option<f64>,
    in_turn: bool,
    count: Option<u64>,
    time: Option<Duration>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Answers by status code.
    pub by_code: BTreeMap<u16, u64>,
    /// Answers by who gave them, `<model>-<version>`; empty where no predictor did.
    pub by_predictor: BTreeMap<String, u64>,
}

impl Report {
    /// All answers.
    pub fn total(&self) -> u64 {
        self.by_code.values().sum()
    }

    /// Answers of one predictor.
    pub fn by(&self, predictor: &str) -> u64 {
        self.by_predictor.get(predictor).copied().unwrap_or_default()
    }
}

/// A load that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    /// Inference requests for a model at a host: `POST http://<host>/v2/models/<model>/infer`.
    pub fn infer(host: &str, model: &str) -> Self {
        let uri = format!("http://{host}/v2/models/{model}/infer").parse().unwrap_or_default();
        let input = json!({"name": "input", "datatype": "FP64", "shape": [3], "data": [1.0, 2.0, 5.0]});
        Self::post(uri, json!({"inputs": [input]}).to_string())
    }

    /// POST requests of any kind; the host is the URI's.
    pub fn post(uri: Uri, body: impl Into<Bytes>) -> Self {
        Self {
            uri,
            headers: HeaderMap::new(),
            body: body.into(),
            rate: None,
            in_turn: false,
            count: None,
            time: None,
        }
    }

    /// With a header; one that is none is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// So many requests a second, however long the answers take. Without a rate each follows the answer before it.
    #[must_use]
    pub fn rate(self, per_second: f64) -> Self {
        Self { rate: Some(per_second), ..self }
    }

    /// Each follows the answer before it, also where there is a rate, which a busy machine then does not reach: for those who
    /// need many requests and not just so many a second.
    #[must_use]
    pub fn in_turn(self) -> Self {
        Self { in_turn: true, ..self }
    }

    /// So many requests in all.
    #[must_use]
    pub fn count(self, requests: u64) -> Self {
        Self { count: Some(requests), ..self }
    }

    /// For so long (tokio time).
    #[must_use]
    pub fn time(self, time: Duration) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Sends all of them and waits for the answers. Needs a count or a time to end.
    pub async fn run(self, gateway: &Gateway) -> Report {
        let report: Arc<Mutex<Report>> = Arc::default();
        self.send(gateway.clone(), report.clone(), CancellationToken::new()).await;
        let seen = lock(&report);
        seen.clone()
    }

    /// Sends them in the background.
    pub fn start(self, gateway: &Gateway) -> Running {
        let (report, stop) = (Arc::default(), CancellationToken::new());
        let task = tokio::spawn(self.send(gateway.clone(), Arc::clone(&report), stop.clone()));
        Running { report, stop, task }
    }

    async fn send(self, gateway: Gateway, report: Arc<Mutex<Report>>, stop: CancellationToken) {
        let deadline = self.time.map(|time| Instant::now() + time);
        let mut ticks = self.rate.filter(|r| *r > 0.0).map(|rate| {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
            // A busy machine sends late, but never fewer.
            let late = if self.in_turn { MissedTickBehavior::Delay } else { MissedTickBehavior::Burst };
            ticks.set_missed_tick_behavior(late);
            ticks
        });
        let mut under_way = JoinSet::new();
        let mut sent = 0;
        while self.count.is_none_or(|count| sent < count) && !stop.is_cancelled() {
            if let Some(ticks) = &mut ticks {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = stop.cancelled() => break,
                }
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            sent += 1;
            let one = one(gateway.clone(), self.request(), report.clone());
            if ticks.is_some() && !self.in_turn {
                under_way.spawn(one);
                while under_way.try_join_next().is_some() {}
            } else {
                one.await;
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    fn request(&self) -> Request<Bytes> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

async fn one(gateway: Gateway, request: Request<Bytes>, report: Arc<Mutex<Report>>) {
    let answer = gateway.send(request).await;
    let predictor = answer.headers().get(ANSWERED_BY).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut report = lock(&report);
    *report.by_code.entry(answer.status().as_u16()).or_default() += 1;
    *report.by_predictor.entry(predictor.into()).or_default() += 1;
}

impl Running {
    /// What came back so far.
    pub fn report(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Sends no more, waits for what is under way, and says what came back in all.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        // It ends by itself once told to.
        let _ = (&mut self.task).await;
        self.report()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
