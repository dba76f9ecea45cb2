//! The client against a server that answers what it is told to.

mod clock;
mod compared;
mod counters;
mod credentials;
mod floods;
mod queries;

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use axum::http::{Method, StatusCode};
use sluice_core::{
    Predictor, api,
    judge::{Bound, Look},
    plan::MetricsPlan,
};

use super::{
    fake::{Fake, Seen, VECTOR, json},
    *,
};
use crate::metrics::{Config, Metrics, Pod, http};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn arm(service: &str) -> Arm {
    Arm::of(Predictor::new("models", service, 8000))
}

fn plan(profile: api::Profile) -> MetricsPlan {
    MetricsPlan::Source { name: "default".to_owned(), profile, labels: BTreeMap::new() }
}

/// What is asked in one test.
struct Asker {
    metrics: Metrics,
    plan: MetricsPlan,
    stable: Arm,
    canary: Arm,
    limits: Vec<Bound>,
    queries: Vec<Query>,
    memory: Memory,
}

impl Asker {
    fn new(fake: &Fake) -> Self {
        Self::with(Config::prometheus(&fake.url).unwrap())
    }

    fn with(config: Config) -> Self {
        Self {
            metrics: Metrics::new(config).unwrap(),
            plan: plan(api::Profile::Istio),
            stable: arm("iris-v1"),
            canary: arm("iris-v2"),
            limits: Vec::new(),
            queries: Vec::new(),
            memory: Memory::default(),
        }
    }

    fn querying(mut self, promql: &str) -> Self {
        self.queries = vec![Query {
            check: "accuracy".into(),
            promql: promql.into(),
            window: Duration::from_secs(50),
            compared: None,
        }];
        self
    }

    async fn look(&mut self, second: i64) -> Look {
        let question = Question {
            now: at(second) + TimeDelta::milliseconds(700),
            rollout: "iris",
            namespace: "models",
            metrics: &self.plan,
            stable: &self.stable,
            canary: Some(&self.canary),
            retiring: &[],
            limits: &self.limits,
            shadow: false,
            queries: &self.queries,
            step_start: at(-30),
            timeout: Duration::from_secs(30),
        };
        self.metrics.look(&question, &mut self.memory).await
    }

    /// What the first query answers, while there are no counters.
    async fn ask(&mut self) -> Result<f64, Trouble> {
        self.look(0).await.queries.remove("accuracy").unwrap()
    }
}

fn matrix(series: &[serde_json::Value]) -> String {
    serde_json::json!({"status": "success", "data": {"resultType": "matrix", "result": series}}).to_string()
}

fn config(source: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let indented = source.replace('\n', "\n    ");
    fs::write(&path, format!("sources:\n  default:\n    {indented}\n")).unwrap();
    Config::load(&path).unwrap()
}
