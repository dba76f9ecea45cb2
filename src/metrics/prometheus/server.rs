//! One configured server, and how much it is asked at once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
use sluice_core::judge::Trouble;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    access::{Credentials, Identities, Tls},
    answer::{self, Answer},
    secrets::{Secret, redact},
};
use crate::metrics::{
    ConfigError, Telemetry,
    config::Source,
    http::{self, unavailable},
};

type Asked = BoxFuture<'static, Result<Arc<Answer>, Trouble>>;
/// Answers that are remembered.
const REMEMBERED: usize = 16;

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
    underway: Mutex<HashMap<Key, WeakShared<Asked>>>,
    /// What was answered last: whoever comes a moment later with the same question need not ask again.
    answered: Mutex<VecDeque<(Key, Arc<Answer>)>>,
    get_only: AtomicBool,
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
            underway: Mutex::default(),
            answered: Mutex::default(),
            get_only: AtomicBool::new(false),
            telemetry,
        };
        server.client().map_err(wrong)?;
        server.credentials.check().map_err(wrong)?;
        Ok(server)
    }

    /// What the server answers to a query, evaluated at `at`. The same question goes out once, whoever asks it.
    pub async fn query(
        self: &Arc<Self>,
        promql: &str,
        at: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Trouble> {
        let begun = Instant::now();
        let asked = self.join(promql, at);
        let answer = tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| {
            let waited = http::seconds(begun.elapsed());
            Err(self.in_words(&unavailable(format!("gave no answer within {waited}"))))
        });
        self.telemetry.record(&self.name, begun.elapsed(), answer.as_ref().err());
        answer
    }

    fn join(self: &Arc<Self>, promql: &str, at: DateTime<Utc>) -> Shared<Asked> {
        let key = (promql.to_owned(), at.timestamp_millis());
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        let answered =
            self.answered().iter().find(|(known, _)| *known == key).map(|(_, answer)| answer.clone());
        if let Some(answer) = answered {
            return async move { Ok(answer) }.boxed().shared();
        }
        if let Some(asked) = underway.get(&key).and_then(WeakShared::upgrade) {
            return asked;
        }
        // Those that everybody has turned away from are gone.
        underway.retain(|_, asked| asked.upgrade().is_some());
        let (server, promql) = (self.clone(), promql.to_owned());
        let of = key.clone();
        let asked = async move {
            let answer = server.ask(&promql, at).await.map(Arc::new)?;
            server.remember(of, answer.clone());
            Ok(answer)
        };
        let asked = asked.boxed().shared();
        if let Some(weak) = asked.downgrade() {
            underway.insert(key, weak);
        }
        asked
    }

    fn remember(&self, key: Key, answer: Arc<Answer>) {
        let mut answered = self.answered();
        answered.push_back((key, answer));
        while answered.len() > REMEMBERED {
            answered.pop_front();
        }
    }

    fn answered(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Answer>)>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, promql: &str, at: DateTime<Utc>) -> Result<Answer, Trouble> {
        let fail = |message: String| self.in_words(&unavailable(format!("cannot be asked: {message}")));
        let _slot = self.slots.acquire().await.map_err(|error| fail(error.to_string()))?;
        let client = self.client().map_err(fail)?;
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
        let answer = response
            .map_err(|message| unavailable(format!("cannot be asked: {message}")))
            .and_then(|response| answer::read(&response));
        answer.map_err(|trouble| {
            self.in_words(&Trouble { message: redact(&trouble.message, &secrets), ..trouble })
        })
    }

    async fn send(
        &self,
        client: &Client,
        form: &[(&str, &str); 3],
        get: bool,
        secrets: &mut Vec<Secret>,
    ) -> Result<http::Response, String> {
        let request = if get {
            client.get(self.endpoint.clone()).query(form)
        } else {
            client.post(self.endpoint.clone()).form(form)
        };
        let request = self.credentials.add(request, secrets)?;
        http::send(request, self.timeout).await
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
