//! `istio_requests_total` as the client's proxy says it: it also sees requests that never reached the predictor.
//!
//! Copies of requests are not counted by the client's proxy but by the predictor's own (`reporter="destination"`), which
//! [`Profile::of_copies`] reads.

use std::collections::BTreeMap;

use super::{
    ArmLabels, Exposed, Group, Profile, REPORTER, Set,
    codes::{is_5xx, is_server_fault},
};
use crate::metrics::exposition::Labels;

pub(super) fn profile() -> Profile {
    let set = Set {
        requests: "istio_requests_total",
        latency: "istio_request_duration_milliseconds",
        units_per_second: 1e3,
        counts: |_| true,
        failed,
    };
    let arms = ArmLabels::Service {
        service: "destination_service_name".to_owned(),
        namespace: "destination_service_namespace".to_owned(),
        subset: None,
    };
    let fixed = BTreeMap::from([(REPORTER.to_owned(), "source".to_owned())]);
    Profile {
        name: "istio",
        groups: vec![Group { sets: vec![set], fixed, arms, target_labels: false }],
        exposed: Exposed::ByProxies,
        needs: "a proxy of Istio's (the ingress gateway or the clients' sidecars) between the users and the predictors, with \
                its telemetry on, and a Prometheus that scrapes it",
    }
}

fn failed(labels: &Labels) -> bool {
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    let code = label("response_code");
    // Code 0: the connection was gone before there was an answer.
    is_5xx(code) || code == "0" || is_server_fault(label("grpc_response_status"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Expected, failed, look};
    use super::*;

    #[test]
    fn errors_are_5xx_lost_connections_and_grpc_server_faults() {
        for (code, grpc, expected) in [
            ("200", "", false),
            ("404", "", false),
            ("429", "", false),
            ("500", "", true),
            ("503", "", true),
            ("0", "", true),
            ("200", "0", false),
            ("200", "5", false),
            ("200", "14", true),
            ("200", "13", true),
            ("200", "4", true),
        ] {
            let pairs = [("response_code", code), ("grpc_response_status", grpc), ("reporter", "source")];
            assert_eq!(failed(&profile(), "istio_requests_total", &pairs), Some(expected), "{code} {grpc}");
        }
    }

    /// As an ingress gateway and a predictor's sidecar expose it: the copies are in the sidecar's alone.
    const TEXT: &str = r#"
istio_requests_total{reporter="source",source_workload="istio-ingressgateway",destination_workload="iris-v1",destination_service="iris-v1.models.svc.cluster.local",destination_service_name="iris-v1",destination_service_namespace="models",destination_version="v1",request_protocol="http",response_code="200",grpc_response_status="",response_flags="-"} 90
istio_requests_total{reporter="source",source_workload="istio-ingressgateway",destination_workload="iris-v1",destination_service="iris-v1.models.svc.cluster.local",destination_service_name="iris-v1",destination_service_namespace="models",destination_version="v1",request_protocol="http",response_code="503",grpc_response_status="",response_flags="UF"} 4
istio_requests_total{reporter="destination",source_workload="istio-ingressgateway",destination_workload="iris-v1",destination_service_name="iris-v1",destination_service_namespace="models",response_code="200",response_flags="-"} 90
istio_requests_total{reporter="destination",source_workload="istio-ingressgateway",destination_workload="iris-v2",destination_service_name="iris-v2",destination_service_namespace="models",response_code="200",response_flags="-"} 80
istio_requests_total{reporter="destination",source_workload="istio-ingressgateway",destination_workload="iris-v2",destination_service_name="iris-v2",destination_service_namespace="models",request_protocol="grpc",response_code="200",grpc_response_status="13",response_flags="-"} 10
"#;

    #[test]
    fn copies_are_read_where_they_are_reported() {
        let arms = ["models/iris-v1:8000", "models/iris-v2:8000"];
        look(&profile(), TEXT, &arms, &[], &[Expected::new(94, 4), Expected::new(0, 0)]);
        look(&profile().of_copies(), TEXT, &arms, &[], &[Expected::new(90, 0), Expected::new(90, 10)]);
    }
}
