//! Istio's metrics, as the proxies at both ends of requests report them.

use std::{collections::BTreeMap, time::Duration};

use crate::exposition::{Bounds, Histogram, Text};

/// Istio's default bounds, in milliseconds, as Envoy writes them.
const MILLISECONDS: Bounds = &[
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (10.0, "10"),
    (25.0, "25"),
    (50.0, "50"),
    (100.0, "100"),
    (250.0, "250"),
    (500.0, "500"),
    (1000.0, "1000"),
    (2500.0, "2500"),
    (5000.0, "5000"),
    (10000.0, "10000"),
    (30000.0, "30000"),
    (60000.0, "60000"),
    (300_000.0, "300000"),
    (600_000.0, "600000"),
    (1_800_000.0, "1800000"),
    (3_600_000.0, "3600000"),
];

/// What a request is reported by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    /// Which proxy counted it: the client's, which sends no copies on its own account, or the predictor's.
    pub(super) reporter: &'static str,
    /// Name and namespace of the Service, `unknown` where there was none.
    pub(super) name: String,
    pub(super) namespace: String,
    /// The host in full.
    pub(super) host: String,
    pub(super) code: u16,
    /// Envoy's: `-` for none, `NR` no route, `NC` no cluster, `UH` no healthy endpoint, `UF` connection failed.
    pub(super) flags: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Metrics(BTreeMap<Labels, (u64, Option<Histogram>)>);

impl Metrics {
    pub(super) fn served(&mut self, labels: Labels, took: Duration) {
        let (count, histogram) = self.0.entry(labels).or_default();
        *count += 1;
        histogram.get_or_insert_with(|| Histogram::new(MILLISECONDS)).observe(took.as_secs_f64() * 1000.0);
    }

    #[allow(clippy::cast_precision_loss)] // counts of a laboratory stay far below 2^52
    pub(super) fn exposition(&self) -> String {
        let mut text = Text::default();
        text.family("istio_requests_total", "counter", "Requests");
        self.each(|labels, count, _| text.sample("istio_requests_total", labels, count as f64));
        let name = "istio_request_duration_milliseconds";
        text.family(name, "histogram", "Duration of requests");
        self.each(|labels, _, histogram| text.histogram(name, labels, histogram));
        text.finish()
    }

    fn each(&self, mut show: impl FnMut(&[(&str, &str)], u64, &Histogram)) {
        for (labels, (count, histogram)) in &self.0 {
            let Some(histogram) = histogram else { continue };
            let code = labels.code.to_string();
            let labels = [
                ("reporter", labels.reporter),
                ("source_workload", "sluice-lab-gateway"),
                ("destination_service", labels.host.as_str()),
                ("destination_service_name", &labels.name),
                ("destination_service_namespace", &labels.namespace),
                ("request_protocol", "http"),
                ("response_code", &code),
                ("response_flags", labels.flags),
                ("grpc_response_status", ""),
            ];
            show(&labels, *count, histogram);
        }
    }
}
