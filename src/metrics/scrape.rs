//! Reads `/metrics` of the ready pods behind the predictors: no Prometheus, no lag.
//!
//! A ready pod that does not answer is trouble for the whole look, and nothing of the look is kept: the next one that
//! succeeds counts the whole time since the last good one. So no request is lost and none is counted as zero. A pod that
//! is no longer ready is no longer asked; when it comes back while it is still remembered, what it counted on top counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use reqwest::{ClientBuilder, Url, header};
use sluice_core::judge::{Bound, Trouble, TroubleKind};
use tokio::sync::Semaphore;

use super::{
    Arm, Pod,
    config::{PortTls, Scraping},
    counters::Reading,
    exposition::{self, Dialect, Sample},
    http::{self, Room, bad_answer, unavailable},
    profiles::Profile,
    reading::{Gatherer, Observed},
    tls::{Connection, Tls},
};

/// The most series of the profile that one pod may have: hundreds of models with a histogram each.
const MOST_SERIES: usize = 20_000;
/// What we can read. Prometheus' own protocol with native histograms is not among it.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

/// Asks pods for their metrics.
pub struct Scraper {
    plain: Connection,
    /// By port: the platform says which ones speak TLS.
    tls: BTreeMap<u16, Connection>,
    slots: Semaphore,
    at_once: usize,
    timeout: Duration,
    room: Room,
}

/// A proxy of the environment is for the world outside, never for pods.
fn client() -> ClientBuilder {
    http::client().no_proxy()
}

/// A pod to be asked, and for whom.
struct Target<'a> {
    revision: &'a Arc<str>,
    retiring: bool,
    pod: &'a Pod,
}

/// What one scrape is about.
pub struct Request<'a> {
    /// Port of the pods that serves the metrics.
    pub port: u16,
    /// Path of the metrics; begins with a slash.
    pub path: &'a str,
    /// What the metrics are.
    pub profile: &'a Profile,
    /// Labels that the profile's series must carry besides.
    pub labels: &'a BTreeMap<String, String>,
    /// The predictors with their revisions, and whether each is a retiring one.
    pub arms: &'a [(Arc<str>, &'a Arm, bool)],
    /// When the look is.
    pub now: DateTime<Utc>,
    /// Latency limits that checks have.
    pub limits: &'a [Bound],
    /// How long one pod may take.
    pub timeout: Duration,
}

impl Scraper {
    /// A scraper as configured; `Err` where a file is missing or holds nonsense.
    pub fn new(config: &Scraping) -> Result<Self, String> {
        let plain = Connection::new(Tls::new("", false, None, None), client);
        let tls = |port: &PortTls| {
            let place = format!("scrape.tls.{}.", port.port);
            let tls = Tls::new(&place, true, port.ca_file.as_deref(), port.client_certificate.as_ref());
            (port.port, Connection::new(tls.insecure(port.insecure_skip_verify), client))
        };
        let scraper = Self {
            plain,
            tls: config.tls.iter().map(tls).collect(),
            slots: Semaphore::new(config.max_concurrent_pods),
            at_once: config.max_concurrent_pods_per_look,
            timeout: config.timeout.0,
            room: Room::default(),
        };
        for connection in scraper.tls.values().chain([&scraper.plain]) {
            connection.client()?;
        }
        Ok(scraper)
    }

    /// How a port of pods is spoken to.
    pub fn scheme(&self, port: u16) -> &'static str {
        if self.tls.contains_key(&port) { "https" } else { "http" }
    }

    /// The counters of all pods of the arms.
    pub async fn read(&self, request: &Request<'_>) -> Result<Reading, Trouble> {
        let targets: Vec<_> = request
            .arms
            .iter()
            .flat_map(|(revision, arm, retiring)| {
                arm.pods.iter().map(move |pod| Target { revision, retiring: *retiring, pod })
            })
            .collect();
        // Collected first: a stream that holds the closure is a future that the compiler cannot show to be `Send`.
        let asks: Vec<_> = targets
            .iter()
            .map(|target| async move { (target, self.ask(target.pod, request).await) })
            .collect();
        let answers: Vec<_> = stream::iter(asks).buffered(self.at_once).collect().await;

        let mut gatherer = Gatherer::new(request.profile, request.labels);
        let mut unknown = BTreeSet::new();
        for (target, answer) in answers {
            match answer {
                Ok(samples) => take(&mut gatherer, target, &samples, request.now)?,
                Err(_) if target.retiring => {
                    unknown.insert(target.revision.clone());
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let mut reading = gatherer.finish(request.limits);
        reading.unknown = unknown;
        Ok(reading)
    }

    async fn ask(&self, pod: &Pod, request: &Request<'_>) -> Result<Vec<Sample>, Trouble> {
        let Request { port, path, timeout, .. } = request;
        let what = format!("pod {} (port {port}{path}) cannot be read", pod.name);
        let fail = |trouble: Trouble| Trouble { message: format!("{what}: {trouble}"), ..trouble };
        let url =
            url(self.scheme(*port), pod.address, *port, path).map_err(|error| fail(bad_answer(error)))?;
        let connection = self.tls.get(port).unwrap_or(&self.plain);
        let untrusted = |message| fail(Trouble { kind: TroubleKind::Untrusted, message });
        let client = connection.client().map_err(untrusted)?;
        let timeout = self.timeout.min(*timeout);
        let asked = async {
            // A closed semaphore is impossible: nobody closes it.
            let _slot = self.slots.acquire().await.map_err(|error| unavailable(error.to_string()))?;
            http::send(client.get(url).header(header::ACCEPT, ACCEPT), timeout, &self.room).await
        };
        let response = asked.await.map_err(fail)?;
        if response.status != reqwest::StatusCode::OK {
            // Not what it says: whoever writes a Rollout sees this, and may not be one who may ask that pod.
            let message = format!("status {}: expected a metrics exposition", response.status);
            return Err(fail(Trouble { kind: http::kind_of(response.status), message }));
        }
        samples(&response, request).map_err(|message| fail(bad_answer(message)))
    }
}

/// The samples that the profile can have use for. A predictor's author decides what is in the text, so no more is kept than a
/// predictor needs.
fn samples(response: &http::Response, request: &Request<'_>) -> Result<Vec<Sample>, String> {
    let dialect = Dialect::of(response.content_type.as_deref());
    let profile = request.profile;
    let names = profile.names(!request.limits.is_empty());
    let mut samples = Vec::new();
    let wanted = |name: &str| names.iter().any(|known| known == name);
    for sample in exposition::read_only(&response.body, dialect, wanted) {
        samples.push(sample.map_err(|error| error.to_string())?);
        if samples.len() > MOST_SERIES {
            return Err(format!("more than {MOST_SERIES} series of {}: expected fewer", profile.name));
        }
    }
    let mut seen = BTreeSet::new();
    for Sample { name, labels, .. } in &samples {
        if !seen.insert((name, labels)) {
            return Err(format!("a series of {name} is there twice"));
        }
    }
    Ok(samples)
}

/// The pod's own address and nothing else, whatever the path says: a path that begins with `//` is still a path.
fn url(scheme: &str, address: IpAddr, port: u16, path: &str) -> Result<Url, String> {
    let base = format!("{scheme}://{}/", SocketAddr::new(address, port));
    let mut url = Url::parse(&base).map_err(|error| error.to_string())?;
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(path);
    url.set_query(query);
    Ok(url)
}

fn take(
    gatherer: &mut Gatherer<'_>,
    target: &Target<'_>,
    samples: &[Sample],
    now: DateTime<Utc>,
) -> Result<(), Trouble> {
    let Target { pod, revision, .. } = target;
    let reporter: Arc<str> = format!("{}/{}", pod.name, pod.address).into();
    // Some expositions say when they were made. That counts: what was made before the step is none of it, however late it is
    // read. But a pod's clock may be ahead, and what it has counted it has counted by now.
    let made = |sample: &Sample| Some(sample.millis.and_then(DateTime::from_timestamp_millis)?.min(now));
    let newest = samples.iter().filter_map(made).max();
    gatherer.reading().saw(&reporter, newest.unwrap_or(now));
    gatherer.started(&reporter, pod.started);
    for sample in samples {
        let at = made(sample).unwrap_or(now);
        gatherer
            .add(&Observed {
                arm: revision,
                reporter: &reporter,
                name: &sample.name,
                labels: &sample.labels,
                at,
                value: sample.value,
            })
            .map_err(|trouble| Trouble {
                message: format!("pod {} {}", pod.name, trouble.message),
                ..trouble
            })?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "scrape_tests.rs"]
mod tests;
