//! Seldon Core's executor, the service orchestrator in every pod of a predictor.
//!
//! One histogram tells everything, with both protocols in one label: `code` is `200` for HTTP and `OK` for gRPC, `service`
//! is `predictions` or the full gRPC method. Feedback, status and metadata are no predictions, a browser's `OPTIONS` neither.
//! Where a `ServiceMonitor` gives targets a `service`, Prometheus calls the executor's own label `exported_service`.

use std::collections::BTreeMap;

use super::{
    ArmLabels, Exposed, Group, Profile, Set,
    codes::{is_5xx, is_server_fault},
};
use crate::metrics::exposition::Labels;

pub(super) fn profile() -> Profile {
    let set = Set {
        requests: "seldon_api_executor_server_requests_seconds_count",
        latency: "seldon_api_executor_server_requests_seconds",
        units_per_second: 1.0,
        counts,
        failed,
    };
    let arms = ArmLabels::Seldon { namespace: "namespace".to_owned() };
    Profile {
        name: "seldon",
        groups: vec![Group { sets: vec![set], fixed: BTreeMap::new(), arms, target_labels: false }],
        exposed: Exposed::ByPredictors,
        needs: "Seldon Core's executor before the model (no annotation seldon.io/no-engine), and a Prometheus that scrapes \
                its port 8000 at /prometheus and says `namespace` of each target",
    }
}

fn counts(labels: &Labels) -> bool {
    let label = |name: &str| labels.get(name).map(String::as_str);
    if label("method") == Some("options") {
        return false;
    }
    let service = label("exported_service").or(label("service")).unwrap_or_default();
    match service.rsplit('/').next().unwrap_or_default() {
        // Old executors say the path, /api/v0.1/predictions.
        "predictions" => true,
        // Full methods of Seldon's own protocol, of the open inference protocol, and of TensorFlow's.
        "Predict" | "ModelInfer" | "Classify" | "Regress" | "MultiInference" => service.starts_with('/'),
        _ => false,
    }
}

fn failed(labels: &Labels) -> bool {
    labels.get("code").is_some_and(|code| is_5xx(code) || is_server_fault(code))
}

#[cfg(test)]
mod tests {
    use sluice_core::target::seldon::service_name;

    use super::super::testing::{Expected, failed, look, look_at, scrape};
    use super::*;
    use crate::metrics::{Arm, SeldonNames};

    const REQUESTS: &str = "seldon_api_executor_server_requests_seconds_count";

    #[test]
    fn predictions_count_and_their_code_is_of_http_or_of_grpc() {
        for (service, code, expected) in [
            ("predictions", "200", Some(false)),
            ("predictions", "400", Some(false)),
            ("predictions", "500", Some(true)),
            ("/api/v0.1/predictions", "503", Some(true)),
            ("/seldon.protos.Seldon/Predict", "OK", Some(false)),
            ("/seldon.protos.Seldon/Predict", "Unavailable", Some(true)),
            ("/inference.GRPCInferenceService/ModelInfer", "Internal", Some(true)),
            ("/inference.GRPCInferenceService/ModelInfer", "InvalidArgument", Some(false)),
            ("/tensorflow.serving.PredictionService/Predict", "DeadlineExceeded", Some(true)),
            ("/seldon.protos.Seldon/SendFeedback", "Internal", None),
            ("/inference.GRPCInferenceService/ModelReady", "Unavailable", None),
            ("feedback", "500", None),
            ("status", "503", None),
            ("metadata", "500", None),
        ] {
            let pairs = [("service", service), ("code", code), ("method", "post")];
            assert_eq!(failed(&profile(), REQUESTS, &pairs), expected, "{service} {code}");
            let renamed = [("service", "iris-main"), ("exported_service", service), ("code", code)];
            assert_eq!(failed(&profile(), REQUESTS, &renamed), expected, "{service} behind a ServiceMonitor");
        }
        let preflight = [("service", "predictions"), ("code", "200"), ("method", "options")];
        assert_eq!(failed(&profile(), REQUESTS, &preflight), None);
    }

    /// In the executor's form; its own target labels are added by Prometheus.
    fn text(predictor: &str, more: &str) -> String {
        let mut text = String::from("# TYPE seldon_api_executor_server_requests_seconds histogram\n");
        for (service, method, code, quick, all) in [
            ("predictions", "post", "200", 90, 95),
            ("predictions", "post", "500", 3, 5),
            ("feedback", "post", "200", 40, 40),
            ("/seldon.protos.Seldon/Predict", "unary", "OK", 10, 10),
            ("/seldon.protos.Seldon/Predict", "unary", "Internal", 0, 2),
        ] {
            let labels = format!(
                r#"code="{code}",deployment_name="my-iris",method="{method}",predictor_name="{predictor}",predictor_version="",service="{service}"{more}"#
            );
            let name = "seldon_api_executor_server_requests_seconds";
            text += &format!(
                "{name}_bucket{{{labels},le=\"0.25\"}} {quick}\n{name}_bucket{{{labels},le=\"10\"}} {all}\n\
                 {name}_bucket{{{labels},le=\"+Inf\"}} {all}\n{name}_sum{{{labels}}} 1.5\n{name}_count{{{labels}}} {all}\n\
                 {name}_summary{{{labels},quantile=\"0.5\"}} 0.01\n{name}_summary_count{{{labels}}} {all}\n"
            );
        }
        text
    }

    #[test]
    fn both_protocols_are_counted_once_and_predictors_are_told_by_their_names() {
        let expected = Expected::new(112, 7).slower(250_000, 9);
        scrape(&profile(), &text("main", ""), &[250_000], &expected);
        let both = text("main", r#",namespace="models""#) + &text("canary", r#",namespace="other""#);
        // The dash in the deployment's name says nothing: my + iris-main is not there.
        let arms = ["models/my-iris-main:8000", "models/my-iris-canary:8000", "other/my-iris-canary:8000"];
        look(
            &profile(),
            &both,
            &arms,
            &[250_000],
            &[expected.clone(), Expected::new(0, 0).slower(250_000, 0), expected],
        );
    }

    /// Of more than 63 characters with the name of a predictor: the Service is called by a hash of both.
    const LONG: &str = "iris-classifier-for-the-garden-of-the-botanical-institute-of-the-university-of-bern";

    #[test]
    fn predictors_whose_services_have_other_names_are_told_by_what_the_executor_calls_them() {
        let long = |predictor: &str| text(predictor, r#",namespace="models""#).replace("my-iris", LONG);
        let ours = text("canary", r#",namespace="models""#);
        let all = long("green") + &long("blue") + &long("red") + &ours;
        // By Python's `hashlib.md5`.
        let hashed = Arm::of("models/seldon-978c480118b2a87ebc26733c8f9cd54d:8000".parse().unwrap());
        let blue = service_name(LONG, "blue");
        let blue = Arm::of(format!("models/{blue}:8000").parse().unwrap());
        let known = |predictor: &str| {
            Some(SeldonNames { deployment: "my-iris".to_owned(), predictor: predictor.to_owned() })
        };
        // By the annotation seldon.io/svc-name, one of them as another predictor would be called.
        let named = |service: &str, predictor: &str| Arm {
            seldon: known(predictor),
            ..Arm::of(format!("models/{service}:8000").parse().unwrap())
        };
        let arms = [hashed, blue, named("the-iris", "canary"), named("my-iris-canary", "other")];
        let expected = Expected::new(112, 7).slower(250_000, 9);
        let none = Expected::new(0, 0).slower(250_000, 0);
        let expected = [expected.clone(), expected.clone(), expected, none];
        look_at(&profile(), &all, &arms, &[250_000], &expected);
    }
}
