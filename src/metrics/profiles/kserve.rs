//! `KServe`'s serverless `InferenceServices`: Knative's queue proxy, in every pod of a revision. A revision's Service has the
//! revision's name (`iris-predictor-00002`).
//!
//! Knative's metrics changed their names when it went over to OpenTelemetry, and once more soon after:
//!
//! | until then | since |
//! |---|---|
//! | `revision_request_count`, with the revision's name in labels of its own | the count of `kn_serving_invocation_duration_seconds`, which says no revision: the pod's name does |
//! | milliseconds | seconds |
//! | `response_code` | `http_response_status_code` |
//!
//! Both are read. gRPC's status is in neither. `KServe`'s own model servers export `request_predict_seconds` and no errors, so
//! raw deployments are measured by another profile.

use std::collections::BTreeMap;

use super::{ArmLabels, Exposed, Group, Profile, Set, codes::is_5xx};
use crate::metrics::exposition::Labels;

pub(super) fn profile() -> Profile {
    let since = |name: [&'static str; 2]| Set {
        requests: name[0],
        latency: name[1],
        units_per_second: 1.0,
        counts: |_| true,
        failed: |labels| fails(labels, "http_response_status_code"),
    };
    let new = Group {
        sets: vec![
            since(["kn_serving_invocation_duration_seconds_count", "kn_serving_invocation_duration_seconds"]),
            since(["kn_queueproxy_app_duration_seconds_count", "kn_queueproxy_app_duration_seconds"]),
        ],
        fixed: BTreeMap::new(),
        arms: ArmLabels::RevisionPods { namespace: "namespace".to_owned(), pod: "pod".to_owned() },
        target_labels: true,
    };
    let old = Group {
        sets: vec![Set {
            // What came to the queue proxy: beside what the model answered, what found the queue full.
            requests: "revision_request_count",
            latency: "revision_request_latencies",
            units_per_second: 1e3,
            counts: |_| true,
            failed: |labels| fails(labels, "response_code"),
        }],
        fixed: BTreeMap::new(),
        arms: ArmLabels::Service {
            service: "revision_name".to_owned(),
            namespace: "namespace_name".to_owned(),
            subset: None,
        },
        target_labels: false,
    };
    Profile {
        name: "kserve",
        groups: vec![new, old],
        exposed: Exposed::ByPredictors,
        needs: "a serverless InferenceService whose queue proxies export request metrics (request-metrics-protocol: \
                prometheus, or request-metrics-backend-destination in older versions, in Knative's config-observability), \
                and a Prometheus that scrapes their port 9091 and says `namespace` and `pod` of each target",
    }
}

fn fails(labels: &Labels, code: &str) -> bool {
    // Code 0: nobody was there to take the answer, or none came.
    labels.get(code).is_some_and(|code| is_5xx(code) || code == "0")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Expected, failed, look, scrape};
    use super::*;

    #[test]
    fn codes_are_read_in_both_generations() {
        for (code, expected) in
            [("200", false), ("404", false), ("429", false), ("500", true), ("502", true), ("0", true)]
        {
            let old = [("response_code", code)];
            assert_eq!(failed(&profile(), "revision_request_count", &old), Some(expected), "{code}");
            let new = [("http_response_status_code", code)];
            let name = "kn_serving_invocation_duration_seconds_count";
            assert_eq!(failed(&profile(), name, &new), Some(expected), "{code}");
        }
        // What the model itself answered is in the other as well.
        assert_eq!(failed(&profile(), "revision_app_request_count", &[("response_code", "500")]), None);
    }

    fn old(revision: &str, ok: u32, failed: u32) -> String {
        let labels = |code: u32| {
            format!(
                r#"configuration_name="iris-predictor",container_name="queue-proxy",namespace_name="models",pod_name="{revision}-deployment-1",response_code="{code}",response_code_class="{}xx",revision_name="{revision}",route_tag="DEFAULT",service_name="iris-predictor""#,
                code / 100
            )
        };
        let mut text = String::new();
        for (code, count) in [(200, ok), (503, failed)] {
            let labels = labels(code);
            text += &format!(
                "revision_request_count{{{labels}}} {count}\nrevision_app_request_count{{{labels}}} {count}\n\
                 revision_request_latencies_bucket{{{labels},le=\"250\"}} {}\nrevision_request_latencies_bucket{{{labels},le=\"+Inf\"}} {count}\n\
                 revision_request_latencies_sum{{{labels}}} 1000\nrevision_request_latencies_count{{{labels}}} {count}\n",
                count / 2
            );
        }
        text
    }

    fn new(pod: &str, ok: u32, failed: u32, target: &str) -> String {
        let name = "kn_serving_invocation_duration_seconds";
        let mut text =
            format!("target_info{{k8s_namespace_name=\"models\",kn_revision_name=\"x\"{target}}} 1\n");
        for (code, count) in [(200, ok), (503, failed)] {
            let labels = format!(
                r#"http_response_status_code="{code}",otel_scope_name="knative.dev/serving/pkg/queue"{}"#,
                target.replace("POD", pod)
            );
            text += &format!(
                "{name}_bucket{{{labels},le=\"0.25\"}} {}\n{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n\
                 {name}_sum{{{labels}}} 1\n{name}_count{{{labels}}} {count}\n",
                count / 2
            );
        }
        text
    }

    #[test]
    fn revisions_are_told_apart_by_their_own_labels_or_by_their_pods() {
        let arms = ["models/iris-predictor-00001:80", "models/iris-predictor-00002:80"];
        let expected = [Expected::new(94, 4).slower(250_000, 47), Expected::new(20, 20).slower(250_000, 10)];
        let text = old("iris-predictor-00001", 90, 4) + &old("iris-predictor-00002", 0, 20);
        look(&profile(), &text, &arms, &[250_000], &expected);
        let target = r#",namespace="models",pod="POD""#;
        let text = new("iris-predictor-00001-deployment-6f7-x", 90, 4, target)
            + &new("iris-predictor-00002-deployment-8c9-y", 0, 20, target);
        look(&profile(), &text, &arms, &[250_000], &expected);
        for text in [old("iris-predictor-00001", 90, 4), new("p", 90, 4, "")] {
            scrape(&profile(), &text, &[250_000], &expected[0]);
        }
    }
}
