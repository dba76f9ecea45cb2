//! A real Prometheus that scrapes what it is told to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::binaries::Component;
use super::folder::Folder;
use super::process::{Process, free_ports, start_anew};
use super::{Error, Result, use_ring, wait};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// It takes a few tenths of a second, unless targets change all the time (then up to 5 s) or the machine is busy.
const TARGETS_WITHIN: Duration = Duration::from_mins(1);

/// A running Prometheus. Dropping it ends it and removes its data; with `SLUICE_LAB_KEEP` in the environment they stay.
pub struct Prometheus {
    process: Option<Process>,
    args: Vec<String>,
    http: reqwest::Client,
    url: String,
    user: Option<[String; 3]>,
    folder: Folder,
}

/// How a Prometheus is to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// The key to it, in PEM.
    pub key: String,
    /// Who may ask, with which password, and the password's bcrypt hash.
    pub user: Option<[String; 3]>,
    /// Who signs the certificates of those who may ask, and such a certificate with its key for the laboratory, in PEM.
    pub clients: Option<[String; 2]>,
}

/// What becomes of histograms that are scraped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Histograms {
    /// They stay what they are in the text format: a series for each bucket.
    #[default]
    Classic,
    /// Classic ones become native ones with the same bounds.
    Converted,
    /// Native ones are asked for, in the protocol that has them.
    Native,
}

/// Something that Prometheus scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port.
    pub address: String,
    /// What every series of it is labelled with, such as `namespace`, `pod` and `service`. `__metrics_path__` changes the
    /// path from `/metrics`.
    pub labels: BTreeMap<String, String>,
}

/// One series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels, the metric's name as `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Target {
    /// A target without labels.
    pub fn new(address: impl fmt::Display) -> Self {
        Self { address: address.to_string(), labels: BTreeMap::new() }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Prometheus {
    /// Starts one that scrapes every `interval` (in whole milliseconds, at least 1), without targets yet, and waits until
    /// it is ready.
    pub async fn start(interval: Duration) -> Result<Self> {
        Self::start_with(interval, Histograms::Classic).await
    }

    /// The same, with histograms of some sort.
    pub async fn start_with(interval: Duration, histograms: Histograms) -> Result<Self> {
        use_ring();
        start_anew(|| Self::try_start(interval, Setting { histograms, ..Setting::default() })).await
    }

    /// The same behind TLS.
    pub async fn start_guarded(interval: Duration, guard: &Guard) -> Result<Self> {
        use_ring();
        start_anew(|| Self::try_start(interval, Setting { guard: Some(guard), ..Setting::default() })).await
    }

    /// The same with these rules, a rule file's content, which are evaluated as often as it scrapes.
    pub async fn start_with_rules(interval: Duration, rules: &Value) -> Result<Self> {
        use_ring();
        start_anew(|| Self::try_start(interval, Setting { rules: Some(rules), ..Setting::default() })).await
    }

    /// The same, which looks for series at another server as well, by its URL for remote reads. Where that one does not answer
    /// there is a warning beside what it has itself, as of a store that is down.
    pub async fn start_beside(interval: Duration, remote: &str) -> Result<Self> {
        use_ring();
        start_anew(|| Self::try_start(interval, Setting { remote: Some(remote), ..Setting::default() })).await
    }

    /// Kills it: nobody listens any more. What it has scraped stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = None;
        self.spawn().await
    }

    async fn try_start(interval: Duration, setting: Setting<'_>) -> Result<Self> {
        let guard = setting.guard;
        let folder = Folder::new()?;
        write(folder.path(), "prometheus.yaml", &configuration(interval, &setting))?;
        if let Some(rules) = setting.rules {
            write(folder.path(), RULES, rules)?;
        }
        write(folder.path(), TARGETS, &json!([]))?;
        let [port] = free_ports()?;
        let mut args = vec![
            "--config.file=prometheus.yaml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--scrape.discovery-reload-interval=100ms".to_owned(),
        ];
        let mut http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let mut url = format!("http://127.0.0.1:{port}");
        if let Some(guard) = guard {
            args.push("--web.config.file=web.yaml".to_owned());
            guard.write(folder.path())?;
            // Whatever is wrong with the certificate is for those who are tested to find.
            http = http.danger_accept_invalid_certs(true);
            if let Some([_, own]) = &guard.clients {
                http = http.identity(reqwest::Identity::from_pem(own.as_bytes()).map_err(failed)?);
            }
            url = format!("https://127.0.0.1:{port}");
        }
        let http = http.build().map_err(failed)?;
        let mut prometheus =
            Self { process: None, args, http, url, user: guard.and_then(|guard| guard.user.clone()), folder };
        prometheus.spawn().await?;
        Ok(prometheus)
    }

    async fn spawn(&mut self) -> Result<()> {
        let program = Component::Prometheus;
        let args = self.args.clone();
        let mut process = Process::spawn(program.program(), &program.locate()?, args, self.folder.path())?;
        let ready = format!("{}/-/ready", self.url);
        process
            .ready(|| async {
                let answer = self.asks(&ready).send().await.map_err(|error| error.to_string())?;
                if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Where its API is, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Replaces all targets and returns when Prometheus scrapes just these. The first scrape of a new one comes within an
    /// interval.
    pub async fn set_targets(&self, targets: impl IntoIterator<Item = Target>) -> Result<()> {
        let targets: Vec<Target> = targets.into_iter().collect();
        let groups: Vec<Value> = targets
            .iter()
            .map(|target| json!({"targets": [target.address], "labels": target.labels}))
            .collect();
        write(self.folder.path(), TARGETS, &Value::from(groups))?;
        wait::until(TARGETS_WITHIN, "Prometheus has the targets it was given", || self.has(&targets)).await
    }

    /// Evaluates an instant query whose result is a vector, now.
    pub async fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let data: Queried = self.get("/api/v1/query", &[("query", promql)]).await?;
        Ok(data.result.into_iter().map(Series::sample).collect())
    }

    /// Whether the active targets are these. Prometheus adds the labels `job` and `instance` and hides `__metrics_path__`.
    async fn has(&self, wanted: &[Target]) -> Result<(), String> {
        let active: Targets =
            self.get("/api/v1/targets", &[("state", "active")]).await.map_err(|error| error.to_string())?;
        let mut active: Vec<_> =
            active.active_targets.into_iter().map(|target| target.discovered_labels).collect();
        let mut wanted: Vec<_> = wanted
            .iter()
            .map(|target| {
                let mut labels = target.labels.clone();
                labels.insert("__address__".to_owned(), target.address.clone());
                labels
            })
            .collect();
        for labels in &mut active {
            labels.retain(|name, _| wanted.iter().any(|target| target.contains_key(name)));
        }
        active.sort();
        wanted.sort();
        if active == wanted { Ok(()) } else { Err(format!("it has {active:?}")) }
    }

    fn asks(&self, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.get(url);
        match &self.user {
            Some([name, password, _]) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    pub(super) async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T> {
        let request = self.asks(&format!("{}{path}", self.url)).query(query);
        let answer: Answer<T> = request.send().await.map_err(failed)?.json().await.map_err(failed)?;
        match answer {
            Answer::Success { data } => Ok(data),
            Answer::Error { error } => Err(Error::Prometheus(error)),
        }
    }
}

impl Guard {
    fn write(&self, folder: &Path) -> Result<()> {
        for (name, content) in [("server.crt", &self.certificate), ("server.key", &self.key)] {
            let path = folder.join(name);
            fs::write(&path, content).map_err(Error::path("write", &path))?;
        }
        let users: BTreeMap<_, _> = self.user.iter().map(|[name, _, hash]| (name, hash)).collect();
        let mut tls = json!({"cert_file": "server.crt", "key_file": "server.key"});
        if let Some([authority, _]) = &self.clients {
            let path = folder.join("clients.crt");
            fs::write(&path, authority).map_err(Error::path("write", &path))?;
            tls["client_ca_file"] = json!("clients.crt");
            tls["client_auth_type"] = json!("RequireAndVerifyClientCert");
        }
        write(folder, "web.yaml", &json!({"tls_server_config": tls, "basic_auth_users": users}))
    }
}

const TARGETS: &str = "targets.json";
const RULES: &str = "rules.json";

/// What may be otherwise about one.
#[derive(Default)]
struct Setting<'a> {
    histograms: Histograms,
    guard: Option<&'a Guard>,
    rules: Option<&'a Value>,
    remote: Option<&'a str>,
}

fn configuration(interval: Duration, setting: &Setting<'_>) -> Value {
    let interval = format!("{}ms", interval.as_millis());
    let remote = |url: &str| json!({"url": url, "read_recent": true, "remote_timeout": "1s"});
    json!({
        "global": {
            "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval,
            "convert_classic_histograms_to_nhcb": setting.histograms == Histograms::Converted,
            "scrape_native_histograms": setting.histograms != Histograms::Classic,
        },
        "remote_read": setting.remote.map(remote).into_iter().collect::<Vec<_>>(),
        "rule_files": if setting.rules.is_some() { vec![RULES] } else { Vec::new() },
        "scrape_configs": [{"job_name": "lab", "file_sd_configs": [{"files": [TARGETS]}]}],
    })
}

/// Writes a file in one step, for Prometheus watches it. JSON is YAML too.
fn write(folder: &Path, name: &str, content: &Value) -> Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, content.to_string()).map_err(Error::path("write", &new))?;
    fs::rename(&new, &path).map_err(Error::path("write", &path))
}

/// With the causes, which reqwest leaves out of its message.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn failed(error: reqwest::Error) -> Error {
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    Error::Prometheus(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
}

// === its API ===

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer<T> {
    Success { data: T },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<ActiveTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget {
    discovered_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Queried {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Series {
    /// Values come as text, because JSON has no infinity.
    fn sample(self) -> Sample {
        Sample { labels: self.metric, value: self.value.1.parse().unwrap_or(f64::NAN) }
    }
}
