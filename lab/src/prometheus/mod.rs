//! A Prometheus that does what it is told, in the test's own runtime and in its virtual time.
//!
//! It scrapes live counters at an interval and keeps the samples, as a real one does, so that what was counted before and
//! after an outage is there or missing as it would be. Of `PromQL` it knows one thing, a selector with a range, and beside it
//! (also over a range of times) the queries that it was given the answers of. And it can be told to misbehave in every way that real ones, and what stands
//! before them, do.

mod misbehaviour;
mod samples;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub use self::misbehaviour::Misbehaviour;
use self::samples::Samples;
use crate::http::Server;

type Clock = Box<dyn Fn() -> DateTime<Utc> + Send + Sync>;
type Exposition = Box<dyn Fn() -> String + Send + Sync>;

/// The server. Dropping it ends it.
pub struct Prometheus {
    inner: Arc<Inner>,
    address: SocketAddr,
    server: Mutex<Option<Server>>,
    scraping: JoinHandle<()>,
}

struct Inner {
    clock: Clock,
    state: Mutex<Scripted>,
}

#[derive(Default)]
struct Scripted {
    targets: Vec<Target>,
    samples: Samples,
    /// What instant queries answer, by a text that is in them.
    answers: Vec<(String, f64)>,
    misbehaviour: Option<Misbehaviour>,
    asked: u64,
    /// Whether it is there at all: one that is gone scrapes nothing.
    gone: bool,
}

struct Target {
    labels: BTreeMap<String, String>,
    exposition: Exposition,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Prometheus {
    /// Starts one that scrapes every `interval` (tokio's time), whose samples are of the time that `clock` shows.
    pub fn start(
        interval: Duration,
        clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let inner = Arc::new(Inner { clock: Box::new(clock), state: Mutex::default() });
        let server = Server::bind(([127, 0, 0, 1], 0).into(), router(&inner))?;
        let address = server.address();
        let scraping = tokio::spawn(scrape(inner.clone(), interval));
        Ok(Self { inner, address, server: Mutex::new(Some(server)), scraping })
    }

    /// Where its API is, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Scrapes this from now on; every series gets the labels, and `job` and `instance`.
    pub fn scrapes(&self, labels: &[(&str, &str)], exposition: impl Fn() -> String + Send + Sync + 'static) {
        let mut state = lock(&self.inner.state);
        let mut labels: BTreeMap<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.insert("job".to_owned(), "lab".to_owned());
        labels.insert("instance".to_owned(), format!("target-{}:80", state.targets.len()));
        state.targets.push(Target { labels, exposition: Box::new(exposition) });
    }

    /// A query in which this text stands is answered with this number from now on.
    pub fn answers(&self, text: &str, value: f64) {
        let mut state = lock(&self.inner.state);
        state.answers.retain(|(known, _)| known != text);
        state.answers.push((text.to_owned(), value));
    }

    /// Misbehaves from now on.
    pub fn misbehaves(&self, how: Misbehaviour) {
        let gone = how == Misbehaviour::Gone;
        let mut state = lock(&self.inner.state);
        (state.gone, state.misbehaviour) = (gone, Some(how));
        drop(state);
        if gone && let Some(server) = lock(&self.server).take() {
            server.kill();
        }
    }

    /// Does its work again.
    pub fn behaves(&self) -> io::Result<()> {
        let mut server = lock(&self.server);
        if server.is_none() {
            *server = Some(Server::bind(self.address, router(&self.inner))?);
        }
        let mut state = lock(&self.inner.state);
        (state.gone, state.misbehaviour) = (false, None);
        Ok(())
    }

    /// All counters of all targets begin again at 0, as after a restart of everything at once.
    pub fn reset_counters(&self) {
        let mut state = lock(&self.inner.state);
        let Scripted { targets, samples, .. } = &mut *state;
        for target in targets {
            samples.reset(&target.labels, &(target.exposition)());
        }
    }

    /// Scrapes once more, now, whatever the interval says: history is made as fast as the clock is set.
    pub fn scrape(&self) {
        self.inner.scrape();
    }

    /// How many questions arrived so far.
    pub fn asked(&self) -> u64 {
        lock(&self.inner.state).asked
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.scraping.abort();
    }
}

async fn scrape(inner: Arc<Inner>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        inner.scrape();
    }
}

fn router(inner: &Arc<Inner>) -> Router {
    Router::new().fallback(handle).with_state(inner.clone())
}

async fn handle(State(inner): State<Arc<Inner>>, uri: Uri, body: Bytes) -> Response {
    let misbehaviour = {
        let mut state = lock(&inner.state);
        state.asked += 1;
        state.misbehaviour.clone().and_then(|how| how.at(state.asked))
    };
    let answer = || inner.answer(&uri, &body);
    let mut response = match misbehaviour {
        None => json_response(StatusCode::OK, &answer()),
        Some(how) => how.respond(answer).await,
    };
    // Without one of ours the server would send the machine's, and the samples are not of that time.
    if let Ok(date) = HeaderValue::from_str(&(inner.clock)().to_rfc2822()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

impl Inner {
    fn scrape(&self) {
        let mut state = lock(&self.state);
        if state.gone {
            return;
        }
        let at = (self.clock)().timestamp_millis();
        let Scripted { targets, samples, .. } = &mut *state;
        for target in targets {
            samples.take(at, &target.labels, &(target.exposition)());
        }
    }

    /// What a Prometheus that is well answers.
    fn answer(&self, uri: &Uri, body: &Bytes) -> Value {
        let text = if body.is_empty() { uri.query().unwrap_or("") } else { &String::from_utf8_lossy(body) };
        let Some(form) = reqwest::Url::parse(&format!("http://form/?{text}")).ok() else {
            return bad_data("no form");
        };
        let field = |wanted: &str| {
            form.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let Some(query) = field("query") else { return bad_data("no query") };
        let state = lock(&self.state);
        let number = |name: &str| field(name).and_then(|number| number.parse::<f64>().ok());
        let seconds = number("time").unwrap_or(0.0);
        if let Some((_, value)) = state.answers.iter().find(|(text, _)| query.contains(text.as_str())) {
            if let Some((start, end)) = number("start").zip(number("end")) {
                let step = field("step").and_then(|step| step.strip_suffix("ms")?.parse::<f64>().ok());
                return at_each(start, end, step.unwrap_or(1e3) / 1e3, *value);
            }
            return json!({"status": "success", "data": {"resultType": "vector", "result": [
                {"metric": {}, "value": [seconds, value.to_string()]},
            ]}});
        }
        #[allow(clippy::cast_possible_truncation)] // milliseconds of our age
        let at = (seconds * 1e3).round() as i64;
        match state.samples.select(&query, at) {
            Some(series) => {
                json!({"status": "success", "data": {"resultType": "matrix", "result": series}})
            }
            None => bad_data(&format!("the laboratory does not know the answer of {query}")),
        }
    }
}

/// The same number at each step of a range.
fn at_each(start: f64, end: f64, step: f64, value: f64) -> Value {
    let times = (0..11_000).map(|n| start + f64::from(n) * step).take_while(|at| *at <= end + 1e-6);
    let values: Vec<Value> = times.map(|at| json!([(at * 1e3).round() / 1e3, value.to_string()])).collect();
    json!({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}})
}

fn bad_data(words: &str) -> Value {
    json!({"status": "error", "errorType": "bad_data", "error": words})
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
