//! What asking for metrics costs, for the controller's own `/metrics`.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use sluice_core::judge::{Trouble, TroubleKind};

/// Upper bounds of the durations, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    source: String,
    kind: &'static str,
}

/// Questions that were asked of the sources: how long they took, and what was wrong. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    errors: Family<Failed, Counter>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let inner = Inner { durations: Family::new_with_constructor(histogram), errors: Family::default() };
        Self { inner: Arc::new(inner) }
    }
}

impl Telemetry {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_query_duration_seconds",
            "How long questions to a metrics source took, waiting included",
            self.inner.durations.clone(),
        );
        registry.register(
            "metrics_query_errors",
            "Questions to a metrics source that gave no number, by sort of trouble",
            self.inner.errors.clone(),
        );
    }

    /// A question was answered, or not.
    pub(super) fn record(&self, source: &str, took: Duration, trouble: Option<&Trouble>) {
        let asked = Asked { source: source.to_owned() };
        if self.inner.durations.get(&asked).is_none() {
            // From 0 on, or the first trouble of each sort would be no increase.
            for kind in TroubleKind::ALL {
                drop(self.failed(source, kind));
            }
        }
        self.inner.durations.get_or_create(&asked).observe(took.as_secs_f64());
        if let Some(trouble) = trouble {
            self.failed(source, trouble.kind).inc();
        }
    }

    fn failed(&self, source: &str, kind: TroubleKind) -> Counter {
        self.inner.errors.get_or_create(&Failed { source: source.to_owned(), kind: word(kind) }).clone()
    }
}

fn word(kind: TroubleKind) -> &'static str {
    match kind {
        TroubleKind::Baseline => "Baseline",
        TroubleKind::NoData => "NoData",
        TroubleKind::Unavailable => "Unavailable",
        TroubleKind::Refused => "Refused",
        TroubleKind::Untrusted => "Untrusted",
        TroubleKind::BadAnswer => "BadAnswer",
        TroubleKind::Partial => "Partial",
        TroubleKind::BadQuery => "BadQuery",
        TroubleKind::Misconfigured => "Misconfigured",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_counted_by_source_and_sort_of_trouble() {
        let telemetry = Telemetry::default();
        let mut registry = Registry::with_prefix("sluice");
        telemetry.register(&mut registry);
        let trouble = Trouble { kind: TroubleKind::Unavailable, message: String::new() };
        telemetry.record("default", Duration::from_millis(20), None);
        telemetry.record("default", Duration::from_millis(20), Some(&trouble));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"sluice_metrics_query_duration_seconds_count{source="default"} 2"#,
            r#"sluice_metrics_query_errors_total{source="default",kind="Unavailable"} 1"#,
            r#"sluice_metrics_query_errors_total{source="default",kind="Refused"} 0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
