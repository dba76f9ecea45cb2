//! `MLServer`'s REST metrics. Its own labels are `method`, `path`, `status_code` and `app_name`; the arms are told apart
//! by the labels that a Prometheus operator's `ServiceMonitor` gives to targets.
//!
//! gRPC is not read. `MLServer` exports `grpc_server_handled_total`, but a call that fails is not in it (seen with 1.7.1),
//! so a canary of which every call fails would look like one without a fault.

use std::collections::BTreeMap;

use super::{ArmLabels, Exposed, Group, Profile, Set, codes::is_5xx};
use crate::metrics::exposition::Labels;

pub(super) fn profile() -> Profile {
    let set = Set {
        requests: "rest_server_requests_total",
        latency: "rest_server_request_duration_seconds",
        units_per_second: 1.0,
        counts: |labels| labels.get("path").is_some_and(|path| is_inference(path)),
        failed,
    };
    let arms =
        ArmLabels::Service { service: "service".to_owned(), namespace: "namespace".to_owned(), subset: None };
    Profile {
        name: "mlserver",
        groups: vec![Group { sets: vec![set], fixed: BTreeMap::new(), arms, target_labels: true }],
        exposed: Exposed::ByPredictors,
        needs: "REST requests to MLServer (its gRPC metrics leave out calls that fail), and a Prometheus that scrapes its \
                metrics port and says `service` and `namespace` of each target, as a ServiceMonitor does",
    }
}

fn failed(labels: &Labels) -> bool {
    labels.get("status_code").is_some_and(|code| is_5xx(code))
}

/// Whether a path asks a model for an answer, and is not about health, metadata or the repository. `MLServer` says the
/// path as it was asked or as its route is written (`/v2/models/{model_name}/infer`), depending on its version.
fn is_inference(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    match segments.next() {
        Some("infer" | "infer_stream" | "generate" | "generate_stream") => {
            matches!(segments.nth(1), Some("models" | "versions"))
        }
        Some("invocations") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Expected, failed, scrape};
    use super::*;

    #[test]
    fn only_what_asks_a_model_counts() {
        for (path, code, expected) in [
            ("/v2/models/iris/infer", "200", Some(false)),
            ("/v2/models/{model_name}/infer", "500", Some(true)),
            ("/v2/models/iris/versions/v1/infer", "400", Some(false)),
            ("/v2/models/iris/infer_stream", "200", Some(false)),
            ("/invocations", "503", Some(true)),
            ("/v2/models/iris/ready", "500", None),
            ("/v2/health/live", "200", None),
            ("/v2/models/infer", "200", None),
            ("/v2/models/infer/infer", "200", Some(false)),
            ("/metrics", "200", None),
            ("/v2/repository/index", "200", None),
        ] {
            let pairs = [("path", path), ("status_code", code)];
            assert_eq!(failed(&profile(), "rest_server_requests_total", &pairs), expected, "{path}");
        }
    }

    /// What `MLServer` 1.7.1 exposed after six REST requests that asked a model (one 500, one 400, one of 0.3 s), one that
    /// asked for a model that is not there, and five gRPC calls, three of which failed.
    const TEXT: &str = include_str!("data/mlserver.txt");

    #[test]
    fn what_a_real_one_exposes_is_read_and_calls_over_grpc_are_not() {
        let slow = Expected::new(7, 1).slower(250_000, 1).slower(500_000, 0);
        scrape(&profile(), TEXT, &[250_000, 500_000], &slow);
        // Why: two of five calls are in it.
        assert!(TEXT.contains(r#"grpc_server_started_total{grpc_method="ModelInfer",grpc_service="inference.GRPCInferenceService",grpc_type="UNARY"} 5.0"#));
        let handled = TEXT
            .lines()
            .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains("ModelInfer"));
        assert_eq!(handled.filter_map(|line| line.rsplit(' ').next()).collect::<Vec<_>>(), ["2.0"]);
    }
}
