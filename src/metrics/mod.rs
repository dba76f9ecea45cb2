//! What the predictors are doing: one look at both arms, in whole numbers.
//!
//! A look is asked of a Prometheus server over its HTTP API, or of the ready pods themselves. Either way raw counters come
//! in, are differenced here, series by series, and go to the core as counts since the previous look. A look never fails: trouble
//! is part of it, and is neither a Pass nor a Fail.

mod config;
mod counters;
mod doubles;
pub mod exposition;
pub(crate) mod fuzzing;
mod history;
mod http;
mod memory;
mod native;
mod profiles;
mod prometheus;
mod queries;
mod reading;
mod scrape;
mod survey;
mod tally;
mod telemetry;
mod tls;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sluice_core::{
    Predictor,
    judge::{Bound, Look, Measurement, Trouble, TroubleKind},
    plan::MetricsPlan,
    target::SeldonView,
};
use tokio::time::Instant;

pub use self::{
    config::{Config, ConfigError},
    history::{History, Past},
    memory::Memory,
    prometheus::template::check_template,
    queries::{Compared, For, Query},
    survey::{Answered, Gap, Seen, Survey},
    telemetry::Telemetry,
};
use self::{
    counters::Reading,
    memory::Shape,
    profiles::{Exposed, Profile},
    prometheus::Server,
    scrape::Scraper,
    tally::Arms,
};

/// Name of the source that a Rollout means when it names none.
pub const DEFAULT_SOURCE: &str = "default";
/// What direct scraping is called where sources are named.
const SCRAPE: &str = "scrape";

/// All configured sources, with their connections and limits. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    servers: BTreeMap<String, Arc<Server>>,
    config: Config,
    scraper: Scraper,
    telemetry: Telemetry,
}

/// What one look is to find out.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The time of the look; both arms are evaluated at it.
    pub now: DateTime<Utc>,
    /// Name of the Rollout.
    pub rollout: &'a str,
    /// Namespace of the Rollout.
    pub namespace: &'a str,
    /// Where the Rollout wants its numbers from.
    pub metrics: &'a MetricsPlan,
    /// The predictor that users have.
    pub stable: &'a Arm,
    /// The one that wants to replace it, if one is in flight.
    pub canary: Option<&'a Arm>,
    /// Predictors that have lost their traffic: were they asked anything? Stable may be among them, when all traffic is the
    /// canary's: its count of 0 is then a fact only where [`Measurement::retiring`] says so.
    pub retiring: &'a [Arm],
    /// Latency limits that checks have, and bounds that comparisons look for.
    pub limits: &'a [Bound],
    /// Query checks.
    pub queries: &'a [Query],
    /// Whether the canary only gets copies, which some sources count elsewhere than requests.
    pub shadow: bool,
    /// When the step's traffic was in place. What was counted before is no evidence.
    pub step_start: DateTime<Utc>,
    /// How long the whole look may take.
    pub timeout: Duration,
}

/// A predictor and who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// The predictor.
    pub predictor: Predictor,
    /// Its ready pods. Only scraping needs them; to Prometheus they say how old a reporter is.
    pub pods: Vec<Pod>,
    /// What Seldon Core calls it, where that is known: its Service may have a name that does not say so.
    pub seldon: Option<SeldonNames>,
}

/// A predictor as Seldon Core's own metrics name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeldonNames {
    /// Name of the `SeldonDeployment`.
    pub deployment: String,
    /// Name of the predictor in it.
    pub predictor: String,
}

impl Arm {
    /// A predictor of which nothing else is known.
    pub fn of(predictor: Predictor) -> Self {
        Self { predictor, pods: Vec::new(), seldon: None }
    }
}

impl SeldonNames {
    /// Those of the predictor behind a Service, if it is one of this `SeldonDeployment`.
    pub fn behind(service: &str, deployment: &SeldonView) -> Option<Self> {
        let predictor = deployment.behind(service)?.name.clone();
        Some(Self { deployment: deployment.name.clone(), predictor })
    }
}

/// A ready pod behind a predictor's Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// When its container started (not when it became ready: what it answered before would count as news).
    pub started: Option<DateTime<Utc>>,
}

impl Metrics {
    /// Sources as configured. Credential files must be readable; they are read again when they change.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        // reqwest panics where no TLS provider was chosen. Choosing ours again is an error without consequence.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let telemetry = Telemetry::default();
        let scraper = Scraper::new(&config.scrape).map_err(ConfigError::Scrape)?;
        let servers = config
            .sources
            .iter()
            .map(|(name, source)| {
                Ok((name.clone(), Arc::new(Server::new(name, source.clone(), telemetry.clone())?)))
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { inner: Arc::new(Inner { servers, config, scraper, telemetry }) })
    }

    /// Whether a source of this name is configured.
    pub fn has_source(&self, name: &str) -> bool {
        self.inner.servers.contains_key(name)
    }

    /// Counters and durations of the questions asked, to be registered for the controller's own `/metrics`.
    pub fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// Why a Rollout with these settings could never be measured, if so: an unknown source, a profile that no pod
    /// exposes, a label that is none.
    pub fn check(&self, metrics: &MetricsPlan) -> Result<(), Trouble> {
        self.profile(metrics)?;
        match metrics {
            MetricsPlan::Source { .. } => self.server(metrics).map(drop),
            MetricsPlan::Scrape { .. } => Ok(()),
        }
    }

    /// Whether the server can read what is `asked` with a query, in its own words if not: [`TroubleKind::BadQuery`] is about
    /// the query, every other kind about the server. The template's variables are filled in with names that stand for any.
    pub async fn validate(
        &self,
        metrics: &MetricsPlan,
        asked: For,
        promql: &str,
        timeout: Duration,
    ) -> Result<(), Trouble> {
        let server = self.server(metrics)?;
        prometheus::validate(server, asked, promql, Instant::now() + timeout).await
    }

    /// One look at both arms. Never fails: trouble is in the look.
    pub async fn look(&self, question: &Question<'_>, memory: &mut Memory) -> Look {
        let deadline = Instant::now() + question.timeout;
        let mut kept = std::mem::take(&mut memory.queries);
        let (counts, answers) = tokio::join!(
            self.counts(question, memory, deadline),
            queries::ask(self.server(question.metrics), question, &mut kept, deadline)
        );
        memory.queries = kept;
        answers.into_look(Look::new(question.now, counts))
    }

    async fn counts(
        &self,
        question: &Question<'_>,
        memory: &mut Memory,
        deadline: Instant,
    ) -> Result<Measurement, Trouble> {
        let profile = self.profile(question.metrics)?;
        let profile = if question.shadow { profile.of_copies() } else { profile };
        let arms = arms(question, &profile)?;
        let shape = Shape::of(question, &arms);
        memory.prepare(&shape, question.now);
        let reading = self.read(question, &profile, memory, deadline).await;
        if reading.is_err() {
            memory.missed(question.now);
        }
        memory.take(shape, &reading?, question, &arms)
    }

    async fn read(
        &self,
        question: &Question<'_>,
        profile: &Profile,
        memory: &Memory,
        deadline: Instant,
    ) -> Result<Reading, Trouble> {
        let named = named(question);
        let (port, path) = match question.metrics {
            MetricsPlan::Source { .. } => {
                let server = self.server(question.metrics)?;
                return prometheus::read(server, question, profile, &named, memory, deadline).await;
            }
            MetricsPlan::Scrape { port, path, .. } => (*port, path),
        };
        let request = scrape::Request {
            port,
            path,
            profile,
            labels: question.labels(),
            arms: &named,
            now: question.now,
            limits: question.limits,
            // A little less than the whole look, so that the message can name the pod.
            timeout: question.timeout.mul_f64(0.9),
        };
        let asked = Instant::now();
        let reading = match tokio::time::timeout_at(deadline, self.inner.scraper.read(&request)).await {
            Ok(reading) => reading,
            Err(_) => Err(http::unavailable(format!(
                "the pods did not all answer within {}",
                http::seconds(question.timeout)
            ))),
        };
        self.inner.telemetry.record(SCRAPE, asked.elapsed(), reading.as_ref().err());
        reading
    }

    fn server(&self, metrics: &MetricsPlan) -> Result<&Arc<Server>, Trouble> {
        let MetricsPlan::Source { name, .. } = metrics else {
            return Err(misconfigured(
                "a query needs a metrics source, and spec.metrics says scrape".to_owned(),
            ));
        };
        self.inner.servers.get(name).ok_or_else(|| {
            let known: Vec<_> = self.inner.servers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            misconfigured(format!(
                "no metrics source {name:?} is configured on the controller: it knows {known}"
            ))
        })
    }

    fn profile(&self, metrics: &MetricsPlan) -> Result<Profile, Trouble> {
        let (MetricsPlan::Source { profile: which, labels, .. }
        | MetricsPlan::Scrape { profile: which, labels, .. }) = metrics;
        if let Some(label) = labels.keys().find(|label| !prometheus::is_label_name(label)) {
            return Err(misconfigured(format!("spec.metrics.labels: {label:?} is not the name of a label")));
        }
        let profile = Profile::of(*which);
        if matches!(metrics, MetricsPlan::Scrape { .. }) && profile.exposed == Exposed::ByProxies {
            return Err(misconfigured(format!(
                "metrics profile {} cannot be scraped from the predictors' pods, because proxies expose it: expected a \
                 source, or one of mlserver, seldon and kserve",
                profile.name
            )));
        }
        Ok(match self.inner.config.profiles.get(which) {
            Some(overrides) => profile.with(overrides),
            None => profile,
        })
    }
}

impl Question<'_> {
    /// Labels that the profile's series must carry besides.
    fn labels(&self) -> &BTreeMap<String, String> {
        let (MetricsPlan::Source { labels, .. } | MetricsPlan::Scrape { labels, .. }) = self.metrics;
        labels
    }

    fn scrapes(&self) -> bool {
        matches!(self.metrics, MetricsPlan::Scrape { .. })
    }
}

fn misconfigured(message: String) -> Trouble {
    Trouble { kind: TroubleKind::Misconfigured, message }
}

/// The arms by revision, if the metrics can tell them apart.
fn arms(question: &Question<'_>, profile: &Profile) -> Result<Arms, Trouble> {
    if !question.scrapes()
        && let Some(canary) = question.canary
        && let Some(confusion) = profile.confuses(&question.stable.predictor, &canary.predictor)
    {
        return Err(misconfigured(confusion));
    }
    let revision = |arm: &Arm| Arc::<str>::from(arm.predictor.revision());
    let (stable, canary) = (revision(question.stable), question.canary.map(revision));
    let retiring = question.retiring.iter().map(revision).collect();
    Ok(Arms { stable, canary, retiring })
}

/// The arms with their revisions, and whether each is a retiring one.
fn named<'a>(question: &Question<'a>) -> Vec<(Arc<str>, &'a Arm, bool)> {
    let judged = [Some(question.stable), question.canary].into_iter().flatten();
    let mut named: Vec<_> = judged.map(|arm| (arm.predictor.revision().into(), arm, false)).collect();
    for arm in question.retiring {
        let revision: Arc<str> = arm.predictor.revision().into();
        if named.iter().all(|(known, _, _)| *known != revision) {
            named.push((revision, arm, true));
        }
    }
    named
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
