//! Builders for the tests of this module.

use serde_json::{Value, json};

use super::{Cluster, RouteError, Selection, Setting, edit};
use crate::{HostNames, Predictor};

/// The Rollout that the selections are of.
pub(super) const ROLLOUT: &str = "models/wine";

/// The `VirtualService` `models/iris` with one route that lists `entries`.
pub(super) fn virtual_service(entries: &Value) -> Value {
    with_http(&json!([{ "name": "primary", "timeout": "5s", "route": entries }]))
}

/// The `VirtualService` `models/iris` with these http routes.
pub(super) fn with_http(http: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "name": "iris", "namespace": "models", "resourceVersion": "7" },
        "spec": { "hosts": ["iris.example.com"], "http": http },
    })
}

/// Its routes of these names; none for all.
pub(super) fn selection(http: &[&str]) -> Selection {
    let http = http.iter().map(|name| (*name).to_owned()).collect();
    Selection {
        namespace: "models".into(),
        name: "iris".into(),
        rollout: ROLLOUT.into(),
        http,
        tcp: Vec::new(),
        tls: Vec::new(),
    }
}

/// Version `version` of the model: the Service `models/iris-v<version>` on port 8000.
pub(super) fn iris(version: u8) -> Predictor {
    Predictor::new("models", format!("iris-v{version}"), 8000)
}

/// An entry for `service`, short host and no port.
pub(super) fn to(service: &str, weight: impl Into<Option<u32>>) -> Value {
    let entry = json!({ "destination": { "host": service } });
    match weight.into() {
        Some(weight) => with(entry, "weight", &json!(weight)),
        None => entry,
    }
}

/// `value` with one field more.
pub(super) fn with(mut value: Value, field: &str, content: &Value) -> Value {
    value[field] = content.clone();
    value
}

/// Stable is version 1, the canary version 2 with `weight` percent.
pub(super) fn canary(weight: u8) -> Setting {
    Setting { canary: Some(iris(2)), weight, ..Setting::all_to(iris(1)) }
}

/// Runs `test` with a cluster in which Services of `models` have port 8000 alone, those named `two-ports` have 8000
/// and 9000, and those named `gone` do not exist.
pub(super) fn in_cluster<T>(test: impl FnOnce(&Cluster<'_>) -> T) -> T {
    let ports = |_: &str, service: &str| match service {
        "two-ports" => Some(vec![8000, 9000]),
        "gone" => None,
        _ => Some(vec![8000]),
    };
    test(&Cluster { names: &HostNames::default(), ports: &ports })
}

/// Edits all routes.
pub(super) fn edited(before: &Value, setting: &Setting) -> Result<Value, RouteError> {
    in_cluster(|cluster| edit(before, &selection(&[]), setting, cluster))
}

/// The destinations of the first route.
pub(super) fn entries(virtual_service: &Value) -> Value {
    virtual_service["spec"]["http"][0]["route"].clone()
}
