//! One configured server, and how much it is asked at once.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use reqwest::{Client, StatusCode, Url};
use sluice_core::judge::{Trouble, TroubleKind};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    access::Credentials,
    answer::{self, Answer},
    clock::SourceClock,
    secrets::{Secret, redact},
};
use crate::metrics::{
    ConfigError, Telemetry,
    config::Source,
    http::{self, unavailable},
    tls::{Connection, Tls},
};

/// How far apart evaluation times are at least, in milliseconds. Questions that are asked within it share an answer; a
/// breach is seen so much later at most, so it is little beside the shortest interval.
const GRAIN_MILLIS: i64 = 20;
/// How long after its time a number may still be asked for: the longest look.
const NUMBERS_KEPT_MILLIS: i64 = 5000;

type Asked = BoxFuture<'static, Result<Arc<Answer>, Trouble>>;
/// A query and its evaluation time in milliseconds.
type Key = (String, i64);

/// A server that answers `PromQL`.
pub struct Server {
    name: String,
    endpoint: Url,
    ranges: Url,
    timeout: Duration,
    credentials: Credentials,
    connection: Connection,
    slots: Semaphore,
    room: http::Room,
    underway: Mutex<HashMap<Key, WeakShared<Asked>>>,
    answered: Mutex<Answered>,
    get_only: AtomicBool,
    clock: SourceClock,
    telemetry: Telemetry,
}

/// What was answered lately.
#[derive(Default)]
struct Answered {
    newest: i64,
    answers: HashMap<Key, Arc<Answer>>,
}

impl Answered {
    fn keep(&mut self, key: Key, answer: Arc<Answer>) {
        self.newest = self.newest.max(key.1);
        self.answers.insert(key, answer);
        let newest = self.newest;
        // Numbers are asked for when the counters of the same look have been read, a while after its time. Counters are
        // asked for at once, and are not small.
        self.answers.retain(|(_, at), answer| {
            let kept = if answer.is_one_number() { NUMBERS_KEPT_MILLIS } else { 0 };
            *at >= newest - kept
        });
    }
}

/// The time that a question asked `now` is evaluated at.
pub fn evaluated_at(now: DateTime<Utc>) -> DateTime<Utc> {
    let millis = now.timestamp_millis();
    DateTime::from_timestamp_millis(millis - millis.rem_euclid(GRAIN_MILLIS)).unwrap_or(now)
}

/// Seconds since the epoch, as the API wants them.
fn unix(at: DateTime<Utc>) -> String {
    format!("{}.{:03}", at.timestamp(), at.timestamp_subsec_millis())
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// The server as configured, its files read once so that a missing one is found at the start.
    pub fn new(name: &str, source: Source, telemetry: Telemetry) -> Result<Self, ConfigError> {
        let wrong = |message: String| ConfigError::Source { name: name.to_owned(), message };
        let below = |path: &str| {
            let mut url = source.url.url.clone();
            url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
            url
        };
        let (endpoint, ranges) = (below("api/v1/query"), below("api/v1/query_range"));
        let (timeout, slots) = (source.timeout.0, Semaphore::new(source.max_concurrent_queries));
        let needed = source.url.url.scheme() == "https";
        let tls = Tls::new("", needed, source.ca_file.as_deref(), source.client_certificate.as_ref());
        let credentials = Credentials::new(source).map_err(wrong)?;
        let server = Self {
            name: name.to_owned(),
            endpoint,
            ranges,
            timeout,
            credentials,
            connection: Connection::new(tls, http::client),
            slots,
            room: http::Room::default(),
            underway: Mutex::default(),
            answered: Mutex::default(),
            get_only: AtomicBool::new(false),
            clock: SourceClock::default(),
            telemetry,
        };
        server.connection.client().map_err(wrong)?;
        server.credentials.check().map_err(wrong)?;
        Ok(server)
    }

    /// What the server answers to a query, evaluated at `at`. A question goes out once for one time, however many ask it.
    pub async fn query(
        self: &Arc<Self>,
        promql: &str,
        at: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Trouble> {
        self.within(deadline, self.join(promql, at)).await
    }

    /// The same for whoever is the only one to ask it: an answer about hours is not kept for others, and takes no place of
    /// those that are.
    pub async fn query_alone(
        &self,
        promql: &str,
        at: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Trouble> {
        let asked = async { self.ask(promql, at).await.map(Arc::new) };
        self.within(deadline, asked).await
    }

    async fn within(
        &self,
        deadline: Instant,
        asked: impl Future<Output = Result<Arc<Answer>, Trouble>>,
    ) -> Result<Arc<Answer>, Trouble> {
        let begun = Instant::now();
        let answer = tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| {
            // To a tenth of a second: a message that is another one at every look is read as news.
            let waited = (deadline.saturating_duration_since(begun)).as_secs_f64();
            let waited = format!("{} s", (waited * 10.0).round() / 10.0);
            Err(self.in_words(&unavailable(format!("gave no answer within {waited}"))))
        });
        self.telemetry.record(&self.name, begun.elapsed(), answer.as_ref().err());
        answer
    }

    fn join(self: &Arc<Self>, promql: &str, at: DateTime<Utc>) -> Shared<Asked> {
        let key = (promql.to_owned(), at.timestamp_millis());
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = underway.get(&key).and_then(WeakShared::upgrade) {
            return asked;
        }
        // Looked for behind the lock: an answer is kept before its question is no longer under way.
        let answered =
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).answers.get(&key).cloned();
        if let Some(answer) = answered {
            return futures::future::ready(Ok(answer)).boxed().shared();
        }
        // Those that everybody has turned away from are gone.
        underway.retain(|_, asked| asked.upgrade().is_some());
        let (server, asking) = (self.clone(), key.clone());
        let asked = async move {
            let answer = Arc::new(server.ask(&asking.0, at).await?);
            let mut answered = server.answered.lock().unwrap_or_else(PoisonError::into_inner);
            answered.keep(asking, answer.clone());
            Ok(answer)
        };
        let asked = asked.boxed().shared();
        if let Some(weak) = asked.downgrade() {
            underway.insert(key, weak);
        }
        asked
    }

    /// What the server answers to a query at every `step` from one time to another: the answers of as many instant
    /// queries.
    pub async fn range(
        &self,
        promql: &str,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        step: Duration,
    ) -> Result<Answer, Trouble> {
        let begun = Instant::now();
        let step = format!("{}ms", step.as_millis());
        let (start, end) = (unix(from), unix(until));
        let form = [("query", promql), ("start", &start), ("end", &end), ("step", &step)];
        let answer = self.exchange(&self.ranges, &form).await;
        self.telemetry.record(&self.name, begun.elapsed(), answer.as_ref().err());
        answer
    }

    async fn ask(&self, promql: &str, at: DateTime<Utc>) -> Result<Answer, Trouble> {
        let time = unix(at);
        self.exchange(&self.endpoint, &[("query", promql), ("time", &time)]).await
    }

    async fn exchange(&self, endpoint: &Url, question: &[(&str, &str)]) -> Result<Answer, Trouble> {
        let fail = |kind, message: String| {
            self.in_words(&Trouble { kind, message: format!("cannot be asked: {message}") })
        };
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|error| fail(TroubleKind::Unavailable, error.to_string()))?;
        let client = self.connection.client().map_err(|message| fail(TroubleKind::Untrusted, message))?;
        let limit = format!("{}ms", self.timeout.as_millis());
        let form = [question, &[("timeout", &limit)]].concat();

        let mut secrets = Vec::new();
        let known_get_only = self.get_only.load(Ordering::Relaxed);
        let mut response = self.send(&client, endpoint, &form, known_get_only, &mut secrets).await;
        if !known_get_only
            && response.as_ref().is_ok_and(|response| response.status == StatusCode::METHOD_NOT_ALLOWED)
        {
            // Some gateways let only reads through, and take a GET for one.
            self.get_only.store(true, Ordering::Relaxed);
            response = self.send(&client, endpoint, &form, true, &mut secrets).await;
        }
        if let Ok(response) = &response {
            self.clock.said(response.date.as_deref());
        }
        let answer = response
            .map_err(|trouble| Trouble { message: format!("cannot be asked: {trouble}"), ..trouble })
            .and_then(|response| answer::read(&response));
        answer.map_err(|trouble| {
            self.in_words(&Trouble { message: redact(trouble.message, &secrets), ..trouble })
        })
    }

    async fn send(
        &self,
        client: &Client,
        endpoint: &Url,
        form: &[(&str, &str)],
        get: bool,
        secrets: &mut Vec<Secret>,
    ) -> Result<http::Response, Trouble> {
        let request = if get {
            client.get(endpoint.clone()).query(form)
        } else {
            client.post(endpoint.clone()).form(form)
        };
        let lacking = |message| Trouble { kind: TroubleKind::Refused, message };
        let request = self.credentials.add(request, secrets).map_err(lacking)?;
        let mut answer = http::send(request, self.timeout, &self.room).await?;
        // Before anything is taken from it, or half a secret could be left at the end of a message.
        answer.body = redact(answer.body, secrets);
        Ok(answer)
    }

    /// Trouble if the server and we do not agree on the time, which was `now` at the instant `when`.
    pub fn agrees(&self, now: DateTime<Utc>, when: Instant) -> Result<(), Trouble> {
        self.clock.wrong(now, when).map_or(Ok(()), |wrong| Err(self.in_words(&unavailable(wrong))))
    }

    /// A message says which source it is about: people know its name, not its URL.
    pub fn in_words(&self, trouble: &Trouble) -> Trouble {
        Trouble { message: format!("metrics source {} {}", self.name, trouble.message), kind: trouble.kind }
    }
}
