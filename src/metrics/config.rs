//! Where metrics come from, as the platform configures it: never a tenant, and never a secret in the clear.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use serde::Deserialize;
use sluice_core::api::{self, GoDuration};

use super::{DEFAULT_SOURCE, profiles::Overrides, prometheus::secrets::Secret};
use crate::text::without_values;

/// How long one query may take, where nothing else is configured.
const TIMEOUT: GoDuration = GoDuration::seconds(10);
/// How many queries one server gets at the same time, where nothing else is configured.
const MAX_CONCURRENT: usize = 8;

/// The metrics part of the controller's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Prometheus servers by name. `default` is the one that Rollouts mean when they name none.
    pub(super) sources: BTreeMap<String, Source>,
    /// How pods are scraped.
    pub(super) scrape: Scraping,
    /// Changes to metrics profiles.
    pub(super) profiles: BTreeMap<api::Profile, Overrides>,
}

/// A Prometheus server, or what speaks its HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Source {
    /// Where it is; below it comes `/api/v1/query`.
    pub url: Address,
    /// Sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderValue>,
    /// A bearer token, in a mounted file.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A user and a password.
    #[serde(default)]
    pub basic: Option<Basic>,
    /// The authorities that the server's certificate is checked against, in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate with its key.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificate>,
    /// How long one query may take.
    #[serde(default = "timeout")]
    pub timeout: GoDuration,
    /// How many queries may be under way at the same time.
    #[serde(default = "max_concurrent")]
    pub max_concurrent_queries: usize,
}

fn timeout() -> GoDuration {
    TIMEOUT
}

fn max_concurrent() -> usize {
    MAX_CONCURRENT
}

/// How pods are scraped. A Rollout says the port and the path; how a port is spoken to, and how much at once, is the platform's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Scraping {
    /// Pods that are asked at the same time by all looks together.
    pub max_concurrent_pods: usize,
    /// Pods that one look asks at the same time.
    pub max_concurrent_pods_per_look: usize,
    /// How long one pod may take; a look may leave it less.
    pub timeout: GoDuration,
    /// Ports that speak TLS.
    pub tls: Vec<PortTls>,
}

impl Default for Scraping {
    fn default() -> Self {
        Self { max_concurrent_pods: 64, max_concurrent_pods_per_look: 16, timeout: TIMEOUT, tls: Vec::new() }
    }
}

/// A port of pods that speaks TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PortTls {
    /// The port.
    pub port: u16,
    /// The authorities that the pods' certificates are checked against, in place of the system's. A certificate must be for
    /// the pod's address.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Takes any certificate for a good one, as a pod's that signs its own.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// Our own certificate with its key.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificate>,
}

/// A user and where the password is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Basic {
    /// The user.
    pub username: String,
    /// A mounted file with the password.
    pub password_file: PathBuf,
}

/// A client certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientCertificate {
    /// The certificate with its chain, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// The value of a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or {file: PATH}")]
pub(super) enum HeaderValue {
    /// As it is.
    Literal(Secret),
    /// In a mounted file.
    File(HeaderFile),
}

/// Where the value of a header is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderFile {
    /// The mounted file.
    pub file: PathBuf,
}

/// A URL with the credentials taken out of it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// Without a user and a password, so that it can be shown.
    pub url: Url,
    /// The user and the password that were in it.
    pub userinfo: Option<(String, Secret)>,
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        // What is wrong is said without the text, which may hold a password.
        let mut url = Url::parse(text)
            .map_err(|error| format!("is no URL like http://prometheus.monitoring:9090: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is no URL like http://prometheus.monitoring:9090: expected http or https".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("has a query or a fragment: expected scheme, host and at most a path".to_owned());
        }
        let decode = |text: &str| percent_decode(text);
        let userinfo = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decode(url.username()), Secret::new(decode(url.password().unwrap_or_default()))));
        // Both can only fail for URLs without a host, which http has.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, userinfo })
    }
}

/// Undoes `%XX`, as a URL's user and password are written.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|message| serde::de::Error::custom(format!("url {message}")))
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file is not what was expected.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected where.
        message: String,
    },
    /// The URL of `--prometheus` is none.
    #[error("--prometheus: {0}")]
    Url(String),
    /// A source cannot be used.
    #[error("metrics source {name:?}: {message}")]
    Source {
        /// Name of the source.
        name: String,
        /// The field, and what is wrong with it.
        message: String,
    },
    /// Pods cannot be scraped as configured.
    #[error("scraping pods: {0}")]
    Scrape(String),
}

impl Scraping {
    fn check(&self) -> Result<(), String> {
        let limits = [
            ("maxConcurrentPods", self.max_concurrent_pods),
            ("maxConcurrentPodsPerLook", self.max_concurrent_pods_per_look),
        ];
        if let Some((field, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(format!("scrape.{field}: is 0: expected at least 1"));
        }
        if self.timeout.0 < Duration::from_millis(1) {
            return Err("scrape.timeout: is 0: expected a duration above it".to_owned());
        }
        for (index, tls) in self.tls.iter().enumerate() {
            if tls.port == 0 || self.tls[..index].iter().any(|other| other.port == tls.port) {
                return Err(format!(
                    "scrape.tls[{index}].port: is {}: expected 1 to 65535, each once",
                    tls.port
                ));
            }
            if tls.insecure_skip_verify && tls.ca_file.is_some() {
                return Err(format!("scrape.tls[{index}]: expected caFile or insecureSkipVerify, not both"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// One server, the `default` one.
    pub fn prometheus(url: &str) -> Result<Self, ConfigError> {
        Self::given(None, Some(url))
    }

    /// What a command line names: a file, and a `default` server beside it.
    ///
    /// # Errors
    /// The file or the URL is wrong.
    pub fn given(file: Option<&Path>, prometheus: Option<&str>) -> Result<Self, ConfigError> {
        let mut config = file.map(Self::load).transpose()?.unwrap_or_default();
        prometheus.map_or(Ok(()), |url| config.add_prometheus(url))?;
        Ok(config)
    }

    /// Adds or replaces the `default` server.
    fn add_prometheus(&mut self, url: &str) -> Result<(), ConfigError> {
        let url = Address::parse(url).map_err(|message| ConfigError::Url(format!("the URL {message}")))?;
        let source = Source {
            url,
            headers: BTreeMap::new(),
            bearer_token_file: None,
            basic: None,
            ca_file: None,
            client_certificate: None,
            timeout: TIMEOUT,
            max_concurrent_queries: MAX_CONCURRENT,
        };
        self.sources.insert(DEFAULT_SOURCE.to_owned(), source);
        Ok(())
    }

    /// What the file says.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        Self::read(&text).map_err(|message| ConfigError::Content { path: path.to_owned(), message })
    }

    fn read(text: &str) -> Result<Self, String> {
        // Without the lines around the error: there may be a password in them.
        let config: Self = serde_saphyr::from_str(text)
            .map_err(|error| without_values(&error.without_snippet().to_string()))?;
        config.scrape.check()?;
        for (name, source) in &config.sources {
            let wrong = |field: &str, what: &str| Err(format!("sources.{name}.{field}: {what}"));
            if name.is_empty() || name.len() > 63 {
                return wrong("", "expected a name of 1 to 63 characters");
            }
            if source.max_concurrent_queries == 0 {
                return wrong("maxConcurrentQueries", "is 0: expected at least 1");
            }
            if source.timeout.0 < Duration::from_millis(1) {
                return wrong("timeout", "is 0: expected a duration above it");
            }
            let ways =
                [source.bearer_token_file.is_some(), source.basic.is_some(), source.url.userinfo.is_some()];
            if ways.iter().filter(|given| **given).count() > 1 {
                return wrong(
                    "basic",
                    "expected at most one of bearerTokenFile, basic and a user in the url",
                );
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
