//! Looks at a real Prometheus that scrapes exporters whose counters the tests set: what was counted comes out, no more and no
//! less, however the scrapes and the looks fall.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy takes for something else")]

mod authority;
mod comparisons;
mod doubles;
mod front;
mod lives;
mod mutual;
mod natives;
mod outage;
mod profiles;
mod replayed;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use chrono::{DateTime, TimeDelta, Utc};
use sluice::metrics::{Arm, Config, For, Memory, Metrics, Query, Question};
use sluice_core::{
    Predictor, api,
    judge::{Bound, Look, Measurement, TroubleKind},
    plan::MetricsPlan,
};
use sluice_lab::real::{Prometheus, Target, wait};
use tokio::net::TcpListener;

/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(1);
/// How often Prometheus scrapes. Far longer than the time between two looks, as on a cluster.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);
const QUARTER: Bound = Bound(250_000);

/// Something that exposes what it is told to.
struct Exporter {
    address: String,
    text: Arc<Mutex<String>>,
}

impl Exporter {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let text = Arc::new(Mutex::new(String::new()));
        let told = text.clone();
        let router =
            Router::new().route("/metrics", get(move || async move { told.lock().unwrap().clone() }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, text }
    }

    fn says(&self, text: String) {
        *self.text.lock().unwrap() = text;
    }
}

/// What a gateway exposes about a Service: requests by code, and how many of all took at most 250 ms.
fn istio(service: &str, codes: &[(u16, u32)], quick: u32) -> String {
    let to = format!(
        r#"reporter="source",destination_service_name="{service}",destination_service_namespace="models""#
    );
    let mut text = String::new();
    for (code, count) in codes {
        writeln!(text, r#"istio_requests_total{{{to},response_code="{code}"}} {count}"#).unwrap();
    }
    let all: u32 = codes.iter().map(|(_, count)| count).sum();
    for (le, count) in [("100", quick), ("250", quick), ("500", all), ("+Inf", all)] {
        writeln!(text, r#"istio_request_duration_milliseconds_bucket{{{to},le="{le}"}} {count}"#).unwrap();
    }
    writeln!(text, "istio_request_duration_milliseconds_count{{{to}}} {all}").unwrap();
    text
}

/// What an `MLServer` exposes.
fn mlserver(ok: u32, failed: u32) -> String {
    let path = "/v2/models/{model_name}/infer";
    format!(
        "rest_server_requests_total{{path=\"{path}\",status_code=\"200\"}} {ok}.0\n\
         rest_server_requests_total{{path=\"{path}\",status_code=\"500\"}} {failed}.0\n"
    )
}

/// Looks as a controller does, one after the other, and what they counted in all.
struct Looker {
    metrics: Metrics,
    plan: MetricsPlan,
    stable: Arm,
    canary: Arm,
    memory: Memory,
    began: DateTime<Utc>,
    shadow: bool,
    limit: [Bound; 1],
    sum: Measurement,
}

impl Looker {
    fn new(prometheus: &Prometheus, profile: api::Profile) -> Self {
        Self::with(Config::prometheus(prometheus.url()).unwrap(), profile)
    }

    fn with(config: Config, profile: api::Profile) -> Self {
        let arm = |service: &str| Arm::of(Predictor::new("models", service, 8000));
        Self {
            metrics: Metrics::new(config).unwrap(),
            plan: MetricsPlan::Source { name: "default".to_owned(), profile, labels: BTreeMap::new() },
            stable: arm("iris-v1"),
            canary: arm("iris-v2"),
            memory: Memory::default(),
            began: Utc::now(),
            shadow: false,
            limit: [QUARTER],
            sum: Measurement::default(),
        }
    }

    async fn look(&mut self, queries: &[Query]) -> Look {
        let mut memory = std::mem::take(&mut self.memory);
        let look = self.metrics.look(&self.question(queries), &mut memory).await;
        self.memory = memory;
        let [limit] = self.limit;
        if let Ok(seen) = &look.counts {
            for (sum, more) in [(&mut self.sum.stable, &seen.stable), (&mut self.sum.canary, &seen.canary)] {
                sum.requests += more.requests;
                sum.errors += more.errors;
                *sum.slower.entry(limit).or_default() += more.slower.get(&limit).copied().unwrap_or(0);
            }
        }
        look
    }

    fn question<'a>(&'a self, queries: &'a [Query]) -> Question<'a> {
        Question {
            now: Utc::now(),
            rollout: "iris",
            namespace: "models",
            metrics: &self.plan,
            stable: &self.stable,
            canary: Some(&self.canary),
            retiring: &[],
            limits: &self.limit,
            shadow: self.shadow,
            queries,
            step_start: self.began - TimeDelta::minutes(5),
            timeout: LIMIT,
        }
    }

    /// A first look.
    async fn baseline(&mut self) {
        assert_eq!(self.look(&[]).await.counts.unwrap_err().kind, TroubleKind::Baseline);
    }

    /// Looks until requests, errors and slow requests of both arms add up to this.
    async fn until(&mut self, stable: (u64, u64, u64), canary: (u64, u64, u64)) {
        let end = tokio::time::Instant::now() + LIMIT;
        let [limit] = self.limit;
        loop {
            let look = self.look(&[]).await;
            let counts = |of: &sluice_core::judge::Counts| {
                (of.requests, of.errors, of.slower.get(&limit).copied().unwrap_or(0))
            };
            let seen = (counts(&self.sum.stable), counts(&self.sum.canary));
            if seen == (stable, canary) {
                return;
            }
            assert!(
                seen.0.0 <= stable.0 && seen.1.0 <= canary.0 && tokio::time::Instant::now() < end,
                "{seen:?}, expected {stable:?} and {canary:?}; last look {look:?}"
            );
            tokio::time::sleep(wait::EVERY).await;
        }
    }
}

/// Waits until a metric has been there for a second: the time of a look is in whole seconds.
async fn scraped(prometheus: &Prometheus, metric: &str) {
    let promql = format!("{metric} offset 1s");
    wait::until(LIMIT, format!("{promql} is there"), || async {
        let samples = prometheus.query(&promql).await.map_err(|error| error.to_string())?;
        if samples.is_empty() { Err("an empty vector".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_gateways_counters_come_out_as_they_were_counted() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(istio("iris-v1", &[(200, 1000)], 1000) + &istio("iris-v9", &[(500, 77)], 0));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;

    gateway.says(istio("iris-v1", &[(200, 1100), (503, 3)], 1090));
    looker.until((103, 3, 13), (0, 0, 0)).await;
    // The canary's first series appear: a burst of errors, all of which count.
    gateway.says(istio("iris-v1", &[(200, 1100), (503, 3)], 1090) + &istio("iris-v2", &[(500, 40)], 35));
    looker.until((103, 3, 13), (40, 40, 5)).await;
    // The gateway restarts.
    gateway.says(istio("iris-v1", &[(200, 7)], 7) + &istio("iris-v2", &[(200, 2), (500, 1)], 3));
    looker.until((110, 3, 13), (43, 41, 5)).await;
}

#[tokio::test]
async fn pods_are_told_apart_by_the_labels_of_their_targets() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (one, two) = (Exporter::start().await, Exporter::start().await);
    one.says(mlserver(500, 5));
    // It serves, and has answered nothing yet.
    two.says("process_start_time_seconds 1.7e9\n".to_owned());
    let target = |exporter: &Exporter, service: &str| {
        Target::new(&exporter.address).label("namespace", "models").label("service", service)
    };
    prometheus.set_targets([target(&one, "iris-v1"), target(&two, "iris-v2")]).await.unwrap();
    scraped(&prometheus, "rest_server_requests_total").await;
    scraped(&prometheus, "process_start_time_seconds").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Mlserver);
    looker.baseline().await;
    one.says(mlserver(520, 5));
    two.says(mlserver(3, 2));
    looker.until((20, 0, 0), (5, 2, 0)).await;
}

#[tokio::test]
async fn queries_are_answered_refused_and_told_apart() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let exporter = Exporter::start().await;
    let text = "model_accuracy{service=\"iris-v2\"} 0.95\nmodel_accuracy{service=\"iris-v1\"} 0.9\n";
    exporter.says(text.to_owned());
    prometheus.set_targets([Target::new(&exporter.address)]).await.unwrap();
    scraped(&prometheus, "model_accuracy").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    let one = |promql: &str| {
        vec![Query {
            check: "it".to_owned(),
            promql: promql.to_owned(),
            window: Duration::from_secs(30),
            compared: None,
        }]
    };
    let accuracy = one(r#"avg(model_accuracy{service="{{canary.service}}"})"#);
    assert_eq!(looker.look(&accuracy).await.queries["it"], Ok(0.95));
    for (promql, kind, words) in [
        ("model_accuracy", TroubleKind::BadQuery, "2 series"),
        ("model_accuracy[{{window}}]", TroubleKind::BadQuery, "a range of samples"),
        ("no_such_metric", TroubleKind::NoData, "an empty vector"),
        ("vector(0) / vector(0)", TroubleKind::NoData, "NaN"),
        ("vector(1) / vector(0)", TroubleKind::NoData, "+inf"),
        ("sum(", TroubleKind::BadQuery, "parse error"),
        ("model_accuracy * on() model_accuracy", TroubleKind::BadQuery, "many-to-many"),
    ] {
        let trouble = looker.look(&one(promql)).await.queries["it"].clone().unwrap_err();
        assert!(trouble.kind == kind && trouble.message.contains(words), "{promql}: {trouble:?}");
    }
    let scalar = looker.look(&one("scalar(vector(2)) + 0 * {{step.start}}")).await;
    assert_eq!(scalar.queries["it"], Ok(2.0));

    let (metrics, plan) = (&looker.metrics, &looker.plan);
    let valid = r#"avg(rate(a{s=~"{{canary.service}}|{{stable.service}}"}[{{window}}]))"#;
    assert_eq!(metrics.validate(plan, For::Number, valid, LIMIT).await, Ok(()));
    for (promql, words) in [
        ("avg(a", "unclosed left parenthesis"),
        ("a[5m]", "range"),
        ("rate(a)", "expected type range vector"),
    ] {
        let trouble = metrics.validate(plan, For::Number, promql, LIMIT).await.unwrap_err();
        assert!(trouble.kind == TroubleKind::BadQuery && trouble.message.contains(words), "{trouble:?}");
    }
}
