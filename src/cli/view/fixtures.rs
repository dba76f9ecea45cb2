//! Rollouts as a controller leaves them, for the tests of what people see.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice_core::api::Rollout;

use super::{Listed, Screen};

/// When all the tests look.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-03-14T15:09:26Z".parse().unwrap()
}

/// `seconds` before the tests look.
pub(crate) fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

/// A terminal of this width, or a pipe, without colours.
pub(crate) fn screen(width: impl Into<Option<usize>>) -> Screen {
    Screen { width: width.into(), height: None, colour: false, program: "kubectl sluice".into() }
}

/// A Rollout with a status and five steps.
pub(crate) fn rollout(name: &str, created: i64, status: Value) -> Rollout {
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {
            "name": name, "namespace": "models", "uid": format!("uid-{name}"), "generation": 3,
            "creationTimestamp": ago(created).to_rfc3339(),
        },
        "spec": {
            "target": { "service": { "name": format!("{name}-v2"), "port": 8000 } },
            "routes": [{ "virtualService": name, "http": ["primary"] }],
            "steps": [
                { "weight": 5, "for": "5m", "name": "toe in the water" },
                { "ramp": { "from": 10, "to": 30, "by": 10, "every": "2m" } },
                { "weight": 50, "for": "10m", "minRequests": 500, "approve": true },
                { "weight": 100, "for": "10m" },
            ],
            "checks": [
                { "name": "errors", "errors": { "max": "1%" } },
                { "name": "p99", "latency": { "quantile": 0.99, "max": "250ms" } },
                { "name": "accuracy", "query": { "promql": "avg(model_accuracy)", "min": 0.9 } },
            ],
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn predictor(service: &str) -> Value {
    json!({ "namespace": "models", "service": service, "port": 8000 })
}

/// Nothing in flight.
pub(crate) fn healthy(name: &str) -> Rollout {
    let status = json!({
        "observedGeneration": 3, "phase": "Healthy", "reason": "Live", "message": "the wanted revision is live",
        "seq": 4, "stable": predictor(&format!("{name}-v2")), "stage": "healthy",
    });
    rollout(name, 400_000, status)
}

/// Waiting for a person in the gate of step 5.
pub(crate) fn waiting(name: &str) -> Rollout {
    let status = json!({
        "observedGeneration": 3, "phase": "Waiting", "reason": "WaitingForApproval",
        "message": "step 5 of 6 (50%) is over and waits for a person's approval",
        "step": "5/6", "weight": 50,
        "progress": { "number": 5, "of": 6, "name": "5", "needsApproval": true },
        "seq": 9, "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 4, "elapsed": "12m10s" } },
    });
    rollout(name, 3000, status)
}

/// Taken out of traffic because errors were too many.
pub(crate) fn rolled_back(name: &str) -> Rollout {
    let status = json!({
        "observedGeneration": 3, "phase": "RolledBack", "reason": "CheckFailed",
        "message": "errors: 7.5% of 1,204 requests failed, the limit is 1%",
        "weight": 0, "seq": 5,
        "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": "rolledBack",
    });
    rollout(name, 7000, status)
}

/// Not looked at by any controller yet.
pub(crate) fn new(name: &str) -> Rollout {
    let mut rollout = rollout(name, 3, json!({}));
    rollout.status = None;
    rollout
}

/// One as the list holds it.
pub(crate) fn listed(rollout: Rollout) -> Listed {
    Listed::Readable(Box::new(rollout))
}
