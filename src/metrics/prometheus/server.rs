//! One configured server: its connection, its credentials, and how much it is asked at once.

use std::{
    collections::HashMap,
    fmt, io,
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
use reqwest::{
    Certificate, Client, Identity, RequestBuilder, StatusCode, Url,
    header::{HeaderName, HeaderValue},
};
use sluice_core::judge::Trouble;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    answer::{self, Answer},
    secrets::{Mounted, Secret, redact},
};
use crate::metrics::{
    ConfigError, Telemetry,
    config::{self, Source},
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
    underway: Mutex<HashMap<Key, WeakShared<Asked>>>,
    get_only: AtomicBool,
    telemetry: Telemetry,
}

/// What is sent to say who asks.
#[derive(Debug)]
struct Credentials {
    headers: Vec<(HeaderName, Text)>,
    bearer: Option<Text>,
    basic: Option<(String, Text)>,
}

/// A secret, or where it is.
#[derive(Debug)]
enum Text {
    Given(Secret),
    File(Mounted),
}

impl Text {
    fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(file) => file.secret().map_err(|error| unreadable(file, &error)),
        }
    }
}

/// Who is trusted, and who we are.
#[derive(Debug)]
struct Tls {
    needed: bool,
    ca: Option<Mounted>,
    client: Option<(Mounted, Mounted)>,
}

/// The contents that a connection was made with.
type Identities = Vec<Arc<[u8]>>;

fn unreadable(file: &Mounted, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", file.path().display())
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
        let wrong = |field: &str, message: String| ConfigError::Source {
            name: name.to_owned(),
            field: field.to_owned(),
            message,
        };
        let mut endpoint = source.url.url;
        let path = format!("{}/api/v1/query", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        let headers = source
            .headers
            .into_iter()
            .map(|(header, value)| {
                let parsed = header.parse::<HeaderName>();
                let parsed = parsed
                    .map_err(|_| wrong("headers", format!("{header:?} is not the name of a header")))?;
                let text = match value {
                    config::HeaderValue::Literal(secret) => Text::Given(secret),
                    config::HeaderValue::File(from) => Text::File(Mounted::new(from.file)),
                };
                Ok((parsed, text))
            })
            .collect::<Result<_, ConfigError>>()?;
        let from_file = |path| Text::File(Mounted::new(path));
        let basic = match (source.basic, source.url.userinfo) {
            (Some(basic), _) => Some((basic.username, from_file(basic.password_file))),
            (None, Some((user, password))) => Some((user, Text::Given(password))),
            (None, None) => None,
        };
        let credentials = Credentials { headers, bearer: source.bearer_token_file.map(from_file), basic };
        let tls = Tls {
            needed: endpoint.scheme() == "https",
            ca: source.ca_file.map(Mounted::new),
            client: source
                .client_certificate
                .map(|client| (Mounted::new(client.cert_file), Mounted::new(client.key_file))),
        };
        let server = Self {
            name: name.to_owned(),
            endpoint,
            timeout: source.timeout.0,
            credentials,
            tls,
            connection: Mutex::new(None),
            slots: Semaphore::new(source.max_concurrent_queries),
            underway: Mutex::default(),
            get_only: AtomicBool::new(false),
            telemetry,
        };
        server.client().map_err(|message| wrong("TLS", message))?;
        server.credentials.check().map_err(|message| wrong("credentials", message))?;
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
            let waited = http::seconds(begun.elapsed());
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

impl Credentials {
    fn check(&self) -> Result<(), String> {
        for (header, text) in &self.headers {
            header_value(header, &text.read()?)?;
        }
        for text in self.bearer.iter().chain(self.basic.as_ref().map(|(_, password)| password)) {
            text.read()?;
        }
        Ok(())
    }

    fn add(&self, mut request: RequestBuilder, secrets: &mut Vec<Secret>) -> Result<RequestBuilder, String> {
        for (header, text) in &self.headers {
            let secret = text.read()?;
            request = request.header(header, header_value(header, &secret)?);
            secrets.push(secret);
        }
        if let Some(bearer) = &self.bearer {
            let token = bearer.read()?;
            request = request.bearer_auth(token.expose());
            secrets.push(token);
        }
        if let Some((user, password)) = &self.basic {
            let password = password.read()?;
            request = request.basic_auth(user, Some(password.expose()));
            secrets.push(password);
        }
        Ok(request)
    }
}

fn header_value(header: &HeaderName, secret: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(secret.expose())
        .map_err(|_| format!("header {header}: its value has characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Tls {
    fn read(&self) -> Result<Identities, String> {
        self.ca
            .iter()
            .chain(self.client.iter().flat_map(|(cert, key)| [cert, key]))
            .map(|file| file.content().map_err(|error| unreadable(file, &error)))
            .collect()
    }

    /// A client with the contents that [`Tls::read`] has read, in its order.
    fn client(&self, identities: &[Arc<[u8]>]) -> Result<Client, String> {
        let mut builder = http::client();
        let (authorities, own) = identities.split_at(usize::from(self.ca.is_some()));
        if let (Some(file), [bundle]) = (&self.ca, authorities) {
            let wrong = || format!("{} holds no PEM certificate", file.path().display());
            let certificates = Certificate::from_pem_bundle(bundle).map_err(|_| wrong())?;
            if certificates.is_empty() {
                return Err(wrong());
            }
            builder = builder.tls_certs_only(certificates);
        } else if !self.needed {
            // No certificate is ever checked, so a machine without any does not matter.
            builder = builder.tls_certs_only([]);
        }
        if let (Some((cert_file, _)), [cert, key]) = (&self.client, own) {
            let pem = [&cert[..], b"\n", &key[..]].concat();
            let identity = Identity::from_pem(&pem).map_err(|_| {
                format!("{} and its key are no PEM certificate and key", cert_file.path().display())
            })?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| http::describe(&error))
    }
}
