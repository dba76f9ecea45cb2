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
    access::{Credentials, Identities, Tls},
    answer::{self, Answer},
    clock::SourceClock,
    secrets::{Secret, redact},
};
use crate::metrics::{
    ConfigError, Telemetry,
    config::Source,
    http::{self, unavailable},
};

type Asked = BoxFuture<'static, Result<Arc<Answer>, Trouble>>;
/// A query and its evaluation time in milliseconds.
type Key = (String, i64);

/// A server that answers `PromQL`.
pub struct Server {
    name: String,
    endpoint: Url,
    timeout: Duration,
    credentials: Credentials,
    tls: Tls,
    connection: Mutex<Option<(Client, Identities)>>,
    slots: Semaphore,
    room: http::Room,
    underway: Mutex<HashMap<Key, WeakShared<Asked>>>,
    get_only: AtomicBool,
    clock: SourceClock,
    telemetry: Telemetry,
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
        let mut endpoint = source.url.url.clone();
        let path = format!("{}/api/v1/query", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        let (timeout, slots) = (source.timeout.0, Semaphore::new(source.max_concurrent_queries));
        let tls = Tls::new(&source);
        let credentials = Credentials::new(source).map_err(wrong)?;
        let server = Self {
            name: name.to_owned(),
            endpoint,
            timeout,
            credentials,
            tls,
            connection: Mutex::new(None),
            slots,
            room: http::Room::default(),
            underway: Mutex::default(),
            get_only: AtomicBool::new(false),
            clock: SourceClock::default(),
            telemetry,
        };
        server.client().map_err(wrong)?;
        server.credentials.check().map_err(wrong)?;
        Ok(server)
    }

    /// What the server answers to a query, evaluated at `at`. The same question asked twice at the same time goes out once.
    pub async fn query(
        self: &Arc<Self>,
        promql: &str,
        at: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Trouble> {
        let begun = Instant::now();
        let asked = self.join(promql, at);
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
        // Those that everybody has turned away from are gone.
        underway.retain(|_, asked| asked.upgrade().is_some());
        let (server, promql) = (self.clone(), promql.to_owned());
        let asked = async move { server.ask(&promql, at).await.map(Arc::new) }.boxed().shared();
        if let Some(weak) = asked.downgrade() {
            underway.insert(key, weak);
        }
        asked
    }

    async fn ask(&self, promql: &str, at: DateTime<Utc>) -> Result<Answer, Trouble> {
        let fail = |kind, message: String| {
            self.in_words(&Trouble { kind, message: format!("cannot be asked: {message}") })
        };
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|error| fail(TroubleKind::Unavailable, error.to_string()))?;
        let client = self.client().map_err(|message| fail(TroubleKind::Untrusted, message))?;
        let time = format!("{}.{:03}", at.timestamp(), at.timestamp_subsec_millis());
        let limit = format!("{}ms", self.timeout.as_millis());
        let form = [("query", promql), ("time", &time), ("timeout", &limit)];

        let mut secrets = Vec::new();
        let known_get_only = self.get_only.load(Ordering::Relaxed);
        let mut response = self.send(&client, &form, known_get_only, &mut secrets).await;
        if !known_get_only
            && response.as_ref().is_ok_and(|response| response.status == StatusCode::METHOD_NOT_ALLOWED)
        {
            // Some gateways let only reads through, and take a GET for one.
            self.get_only.store(true, Ordering::Relaxed);
            response = self.send(&client, &form, true, &mut secrets).await;
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
        form: &[(&str, &str); 3],
        get: bool,
        secrets: &mut Vec<Secret>,
    ) -> Result<http::Response, Trouble> {
        let request = if get {
            client.get(self.endpoint.clone()).query(form)
        } else {
            client.post(self.endpoint.clone()).form(form)
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

    /// The client, made anew when certificates were rotated.
    fn client(&self) -> Result<Client, String> {
        let identities = self.tls.read()?;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, with)) = &*connection
            && *with == identities
        {
            return Ok(client.clone());
        }
        let client = self.tls.client(&identities)?;
        *connection = Some((client.clone(), identities));
        Ok(client)
    }
}
