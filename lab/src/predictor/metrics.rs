//! What the predictor exports, under MLServer's names.

use std::{collections::BTreeMap, time::Duration};

use super::{Inner, lock};
use crate::exposition::{Bounds, Histogram, Text};

/// The default buckets of Python's client, in seconds, written as it writes them.
const SECONDS: Bounds = &[
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.075, "0.075"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (0.75, "0.75"),
    (1.0, "1.0"),
    (2.5, "2.5"),
    (5.0, "5.0"),
    (7.5, "7.5"),
    (10.0, "10.0"),
];

const APP: (&str, &str) = ("app_name", "mlserver");

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    method: String,
    path: String,
    code: String,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: BTreeMap<Endpoint, (u64, Option<Histogram>)>,
    in_progress: BTreeMap<String, i64>,
    /// By version in the URL.
    successes: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
}

impl Metrics {
    pub(super) fn begun(&mut self, method: &str) {
        *self.in_progress.entry(method.into()).or_default() += 1;
    }

    pub(super) fn ended(&mut self, method: &str, path: &str, code: u16, took: Duration) {
        *self.in_progress.entry(method.into()).or_default() -= 1;
        let endpoint = Endpoint { method: method.into(), path: path.into(), code: code.to_string() };
        let (count, histogram) = self.requests.entry(endpoint).or_default();
        *count += 1;
        histogram.get_or_insert_with(|| Histogram::new(SECONDS)).observe(took.as_secs_f64());
    }

    pub(super) fn inferred(&mut self, version: &str, well: bool) {
        // Both series are there as soon as one request came, as in MLServer.
        *self.successes.entry(version.into()).or_default() += u64::from(well);
        *self.failures.entry(version.into()).or_default() += u64::from(!well);
    }
}

impl Inner {
    #[allow(clippy::cast_precision_loss)] // counts of a laboratory stay far below 2^52
    pub(super) fn exposition(&self) -> String {
        let mut text = Text::default();
        let metrics = lock(&self.metrics);
        let model = ("model", self.model.as_str());
        for (name, help, counts) in [
            ("model_infer_request_success_total", "Model infer request success count", &metrics.successes),
            ("model_infer_request_failure_total", "Model infer request failure count", &metrics.failures),
        ] {
            text.family(name, "counter", help);
            for (version, count) in counts {
                text.sample(name, &[model, ("version", version)], *count as f64);
            }
        }
        text.family("rest_server_requests_total", "counter", "Total HTTP requests");
        for (at, (count, _)) in &metrics.requests {
            text.sample("rest_server_requests_total", &at.labels(), *count as f64);
        }
        let name = "rest_server_request_duration_seconds";
        text.family(name, "histogram", "HTTP request duration, in seconds");
        for (at, (_, histogram)) in &metrics.requests {
            if let Some(histogram) = histogram {
                text.histogram(name, &at.labels(), histogram);
            }
        }
        text.family("rest_server_requests_in_progress", "gauge", "Total HTTP requests currently in progress");
        for (method, count) in &metrics.in_progress {
            text.sample("rest_server_requests_in_progress", &[("method", method), APP], *count as f64);
        }
        drop(metrics);
        for (name, value) in &lock(&self.behaviour).gauges {
            text.family(name, "gauge", "Set by the laboratory");
            text.sample(name, &[model, ("version", &self.version)], *value);
        }
        text.finish()
    }
}

impl Endpoint {
    fn labels(&self) -> [(&str, &str); 4] {
        [("method", &self.method), ("path", &self.path), ("status_code", &self.code), APP]
    }
}
