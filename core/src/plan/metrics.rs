//! Where numbers come from.

use std::collections::BTreeMap;

use super::{PlanErrors, PlannedCheck, Rule};
use crate::api::{Metrics, Profile};

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsPlan {
    /// A source of the controller's configuration.
    Source {
        /// Its name.
        name: String,
        /// Which series tell requests, errors and latencies.
        profile: Profile,
        /// Labels that the series must carry besides.
        labels: BTreeMap<String, String>,
    },
    /// The `/metrics` of the ready pods behind both Services.
    Scrape {
        /// Port of the pods.
        port: u16,
        /// Path of the metrics.
        path: String,
        /// Which series tell requests, errors and latencies.
        profile: Profile,
        /// Labels that the series must carry besides.
        labels: BTreeMap<String, String>,
    },
}

pub(super) fn plan(metrics: Option<&Metrics>, needed: bool, errors: &mut PlanErrors) -> Option<MetricsPlan> {
    if metrics.is_none() && !needed {
        return None;
    }
    let metrics = metrics.cloned().unwrap_or_default();
    match (metrics.source, metrics.scrape) {
        (Some(_), Some(_)) => {
            errors.invalid("spec.metrics", "source and scrape exclude each other");
            None
        }
        (source, None) => Some(MetricsPlan::Source {
            name: source.unwrap_or_else(|| "default".to_owned()),
            profile: metrics.profile.unwrap_or(Profile::Istio),
            labels: metrics.labels,
        }),
        (None, Some(scrape)) => {
            let profile = metrics.profile.unwrap_or(Profile::Mlserver);
            if let Profile::Istio | Profile::Envoy = profile {
                let problem = format!(
                    "{} is reported by proxies, not by the predictors' own pods: use mlserver, seldon or kserve, or a source",
                    if profile == Profile::Istio { "istio" } else { "envoy" }
                );
                errors.invalid("spec.metrics.profile", problem);
            }
            let path = scrape.path.unwrap_or_else(|| default_path(profile).to_owned());
            if !path.starts_with('/') {
                errors.invalid("spec.metrics.scrape.path", format!("{path:?} does not begin with a slash"));
            }
            Some(MetricsPlan::Scrape { port: scrape.port, path, profile, labels: metrics.labels })
        }
    }
}

/// Where the programs of a profile serve their metrics.
fn default_path(profile: Profile) -> &'static str {
    match profile {
        // The operator starts the executor with it.
        Profile::Seldon => "/prometheus",
        Profile::Istio | Profile::Mlserver | Profile::Kserve | Profile::Envoy => "/metrics",
    }
}

pub(super) fn refuse_queries_without_a_source(
    checks: &[PlannedCheck],
    metrics: Option<&MetricsPlan>,
    errors: &mut PlanErrors,
) {
    let Some(MetricsPlan::Scrape { .. }) = metrics else { return };
    for (index, check) in checks.iter().enumerate() {
        if let Rule::Query { .. } = check.rule {
            errors.invalid(
                &format!("spec.checks[{index}].query"),
                "asks a metrics source, but spec.metrics says scrape",
            );
        }
    }
}
