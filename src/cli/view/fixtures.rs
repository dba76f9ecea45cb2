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
pub(crate) fn rollout(name: &str, created: i64, status: &Value) -> Rollout {
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

fn check(name: &str, verdict: &str, message: &str, canary: (u64, u64), stable: (u64, u64)) -> Value {
    let arm = |(bad, requests)| json!({ "requests": requests, "bad": bad });
    json!({ "name": name, "verdict": verdict, "message": message, "canary": arm(canary), "stable": arm(stable) })
}

/// Both checks on requests pass, and the query has said this.
fn checks(accuracy: &Value) -> Value {
    let errors =
        "0.24% (3 of 1240) of the canary's requests failed, at most 1% may; stable: 0.16% (2 of 1233)";
    let p99 = "0.4% (5 of 1240) of the canary's requests took longer than 250ms, at most 1% may";
    json!([
        check("errors", "Pass", errors, (3, 1240), (2, 1233)),
        check("p99", "Pass", p99, (5, 1240), (4, 1233)),
        accuracy,
    ])
}

fn decision(seq: u64, ago_: i64, kind: &str, weights: (i32, i32), message: &str) -> Value {
    json!({
        "seq": seq, "at": ago(ago_), "kind": kind, "reason": "StepsPassed", "message": message,
        "fromWeight": weights.0, "weight": weights.1,
    })
}

/// Nothing in flight.
pub(crate) fn healthy(name: &str) -> Rollout {
    let status = json!({
        "observedGeneration": 3, "phase": "Healthy", "reason": "Live",
        "message": format!("models/{name}-v2:8000 is live"),
        "seq": 4, "stable": predictor(&format!("{name}-v2")), "stage": "idle",
        "decisions": [decision(4, 300_000, "Promoted", (100, 100), "the old stable has left the route")],
    });
    rollout(name, 400_000, &status)
}

/// Waiting for a person in the gate of step 5.
pub(crate) fn waiting(name: &str) -> Rollout {
    let accuracy = json!({
        "name": "accuracy", "verdict": "Inconclusive", "failures": 0,
        "message": "the source answered that there is nothing: an empty vector",
    });
    let mut approved =
        decision(3, 2400, "Resumed", (5, 5), "ann@example.com resumed the rollout: \"looks fine\"");
    approved["by"] = json!("ann@example.com");
    let status = json!({
        "observedGeneration": 3, "phase": "Waiting", "reason": "WaitingForApproval",
        "message": "step 5 waits for approval",
        "step": "5/6", "weight": 50,
        "progress": { "number": 5, "of": 6, "name": "5", "needsApproval": true },
        "seq": 9, "checks": checks(&accuracy), "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 4, "elapsed": "12m10.25s", "evidence": { "requests": 12_402 } } },
        "decisions": [
            decision(1, 3000, "Started", (0, 0), "models/iris-v2:8000 is wanted"),
            approved,
            decision(8, 872, "Entered", (20, 30), "step 3 passed: 3 checks, 2m in place"),
            decision(9, 751, "Entered", (30, 50), "step 4 passed: 3 checks, 2m in place"),
        ],
    });
    rollout(name, 3000, &status)
}

/// Taken out of traffic because errors were too many.
pub(crate) fn rolled_back(name: &str) -> Rollout {
    let why = "7.5% (90 of 1204) of the canary's requests failed, at most 1% may; stable: 0.16% (2 of 1233)";
    let message = format!("errors: {why}");
    let mut end = decision(5, 5100, "RolledBack", (20, 0), &message);
    end["checks"] = json!([check("errors", "Fail", why, (90, 1204), (2, 1233))]);
    let status = json!({
        "observedGeneration": 3, "phase": "RolledBack", "reason": "CheckFailed", "message": message,
        "weight": 0, "seq": 5,
        "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "retiring": [{ "predictor": predictor(&format!("{name}-v2")) }],
        "stage": "idle",
        "decisions": [decision(4, 5300, "Entered", (10, 20), "step 2 passed"), end],
    });
    rollout(name, 7000, &status)
}

/// What is written into the VirtualService for these weights: index and version of the destination, before and after.
fn written(weights: [(usize, &str, u8, u8); 2]) -> Value {
    let change = |(at, version, from, to): (usize, &str, u8, u8)| {
        json!({
            "field": format!("spec.http[0].route[{at}].weight"), "of": format!("iris-{version}"),
            "from": from.to_string(), "to": to.to_string(),
        })
    };
    json!({ "kind": "VirtualService", "namespace": "models", "name": "iris", "changes": weights.map(change) })
}

/// Taken out of traffic because it failed more often than stable.
pub(crate) fn explained() -> Rollout {
    let mut one = rolled_back("iris");
    let status = one.status.as_mut().unwrap();
    let last = status.decisions.last_mut().unwrap();
    last.revision = Some("models/iris-v2:8000".into());
    last.reason = sluice_core::api::Reason::CheckFailed;
    last.step = Some(3);
    let effect = json!({ "ratio": 46.08, "from": 10.0, "to": 212.0, "worse": 1e9, "better": 0.0, "needed": 100.0, "maxRatio": 1.0, "clearRatio": 2.0 });
    last.checks[0].effect = Some(serde_json::from_value(effect).unwrap());
    last.checks[0].rule =
        "at most 1% of the requests fail; no evidence that it fails more often than stable".into();
    last.checks[0].failures = 1;
    last.writes = vec![serde_json::from_value(written([(0, "v1", 80, 100), (1, "v2", 20, 0)])).unwrap()];
    one
}

/// In step 3, with all that a step can give beside a weight; the first only copied, the second only matched.
pub(crate) fn beside(name: &str) -> Rollout {
    let words = ["parameter preview is 1", "x-group is beta and uri begins with /v2/models/iris-large/infer"];
    let matched = json!({ "match": words });
    let all = json!({ "match": words, "mirror": 100 });
    let given = |mut decision: Value, from: Value, to: &Value| {
        (decision["fromBeside"], decision["beside"]) = (from, to.clone());
        decision["revision"] = json!(format!("models/{name}-v2:8000"));
        decision
    };
    let started = decision(1, 3000, "Started", (0, 0), &format!("models/{name}-v2:8000 is wanted"));
    let copies = json!({ "mirror": 12.5 });
    let status = json!({
        "observedGeneration": 3, "phase": "Progressing", "reason": "StepInProgress",
        "message": "step few: weight 5%, match and mirror for 10m", "step": "3/5", "weight": 5, "beside": all,
        "progress": { "number": 3, "of": 5, "name": "few" },
        "seq": 4, "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 2, "elapsed": "130s", "evidence": { "requests": 402 } } },
        "decisions": [
            started,
            given(decision(2, 2900, "Entered", (0, 0), "the canary has a ready endpoint"), json!({}), &copies),
            given(decision(3, 2200, "Entered", (0, 0), "step 1 passed: 1 check, 10m in place"), copies, &matched),
            given(decision(4, 130, "Entered", (0, 5), "step 2 passed: 1 check, 30m in place"), matched, &all),
        ],
    });
    let matches = json!([
        { "headers": { "x-group": { "exact": "beta" } }, "uri": { "prefix": "/v2/models/iris-large/infer" } },
        { "queryParams": { "preview": { "exact": "1" } } },
    ]);
    let hash = json!({ "header": "x-user-hash" });
    let steps = json!([
        { "name": "shadow", "mirror": 12.5, "for": "10m", "minRequests": 500 },
        { "match": matches, "for": "30m", "approve": true },
        { "name": "few", "weight": 5, "match": matches, "mirror": 100, "sticky": hash, "for": "10m" },
        { "weight": 50, "sticky": { "cookie": { "name": "iris-version", "ttl": "1h" } }, "for": "10m" },
    ]);
    let mut one = rollout(name, 3000, &status);
    one.spec.steps = serde_json::from_value(steps).unwrap();
    one.spec.checks.truncate(1);
    one
}

/// On its way through step 1, with a spec that was edited and is wrong now.
pub(crate) fn edited(name: &str) -> Rollout {
    let mut one = waiting(name);
    let problem = "spec.steps[3].weight: 101 is out of range: 1 to 100 is expected";
    let status = json!({
        "observedGeneration": 2, "phase": "Progressing", "reason": "StepInProgress",
        "message": "step toe in the water: weight 5% for 5m", "step": "1/6", "weight": 5,
        "progress": { "number": 1, "of": 6, "name": "toe in the water" },
        "seq": 2, "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 0, "elapsed": "70s" } },
        "conditions": [
            { "type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": problem,
              "lastTransitionTime": ago(30) },
            { "type": "Ready", "status": "False", "reason": "StepInProgress", "message": "",
              "lastTransitionTime": ago(130) },
        ],
        "pinned": one.spec,
    });
    one.status = Some(serde_json::from_value(status).unwrap());
    one.spec.steps[3].weight = Some(101);
    one
}

/// In step 2, and nobody can say how the canary does.
pub(crate) fn without_metrics(name: &str) -> Rollout {
    let message = "requests of both arms: metrics source default refused the credentials with status 401 Unauthorized \
        (Unauthorized): expected the credentials that the source is configured with to be good";
    let status = json!({
        "observedGeneration": 3, "phase": "Waiting", "reason": "NoEvidence",
        "message": "step 2 waits for evidence of errors", "step": "2/6", "weight": 10,
        "progress": { "number": 2, "of": 6, "name": "2" },
        "seq": 3, "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 1, "elapsed": "310s" } },
        "conditions": [
            { "type": "MetricsAvailable", "status": "False", "reason": "SourceRefused", "message": message,
              "lastTransitionTime": ago(190) },
        ],
    });
    rollout(name, 900, &status)
}

/// At rest, and what users have was changed past every check.
pub(crate) fn unguarded(name: &str) -> Rollout {
    let message = "predictor main was changed in place while it is stable (b31f65d9 before, 48eaf314 now): its users got the \
        new one without steps and checks. Put the old one back, add a predictor beside it, and make that the wanted one";
    let mut one = healthy(name);
    let condition = json!({
        "type": "Guarded", "status": "False", "reason": "ChangedInPlace", "message": message,
        "lastTransitionTime": ago(420),
    });
    if let Some(status) = &mut one.status {
        status.conditions.push(serde_json::from_value(condition).unwrap());
    }
    one
}

/// Never accepted.
pub(crate) fn refused(name: &str) -> Rollout {
    let mut one = rollout(name, 60, &json!({}));
    one.spec.steps[0].weight = Some(101);
    one.spec.steps[2].mirror = Some(500.0);
    let message = "spec.steps[0].weight: 101 is out of range";
    let status = json!({
        "observedGeneration": 3, "phase": "Pending", "reason": "InvalidSpec", "message": message, "stage": "pending",
        "conditions": [{ "type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": message,
                         "lastTransitionTime": ago(60) }],
    });
    one.status = Some(serde_json::from_value(status).unwrap());
    one
}

/// Not looked at by any controller yet.
pub(crate) fn new(name: &str) -> Rollout {
    let mut rollout = rollout(name, 3, &json!({}));
    rollout.status = None;
    rollout
}

/// One as the list holds it.
pub(crate) fn listed(rollout: Rollout) -> Listed {
    Listed::Readable(Box::new(rollout))
}
