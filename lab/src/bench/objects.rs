//! The objects of a Rollout's world, as people and controllers write them: of real sizes, with what `kubectl apply`
//! leaves on them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// How many Rollouts share a namespace, as the models of one team would.
const PER_NAMESPACE: usize = 100;
/// The port of every Service.
const PORT: u16 = 8000;
/// Decisions that a status keeps.
const KEPT: u64 = 20;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Names of one Rollout and of what is around it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Names {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which is that of its VirtualService too.
    pub name: String,
}

impl Names {
    /// Those of the Rollout with this number.
    pub fn number(number: usize) -> Self {
        Self { namespace: format!("team-{}", number / PER_NAMESPACE), name: format!("model-{number}") }
    }

    /// The Service that users have.
    pub fn stable(&self) -> String {
        format!("{}-v1", self.name)
    }

    /// The Service that is to replace it.
    pub fn canary(&self) -> String {
        format!("{}-v2", self.name)
    }

    fn predictor(&self, service: &str) -> Value {
        json!({"namespace": self.namespace, "service": service, "port": PORT})
    }

    fn revision(&self, service: &str) -> String {
        format!("{}/{service}:{PORT}", self.namespace)
    }

    /// The Service of a predictor.
    pub fn service(&self, service: &str) -> Value {
        let labels = json!({"app": service, "app.kubernetes.io/part-of": self.name});
        applied(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": self.namespace, "labels": labels},
            // Without a selector nobody else writes its EndpointSlices.
            "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}]},
        }))
    }

    /// The EndpointSlice of a predictor's Service, with one ready pod.
    pub fn slice(&self, service: &str, number: usize) -> Value {
        let address = format!("10.244.{}.{}", 1 + number / 250 % 250, 1 + number % 250);
        let pod = format!("{service}-7d9c5b6f4-x2x7k");
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-h7q2m"), "namespace": self.namespace,
                "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "sluice-lab"},
            },
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "name": pod, "namespace": self.namespace, "uid": "9b8b0c1e-5d5c-4a53-a9a5-2f5f3a2d7c11"},
            }],
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        })
    }

    /// The VirtualService: the canary has so many percent.
    pub fn virtual_service(&self, canary: u8, stamp: Option<&Value>) -> Value {
        let to = |service: String, weight: u8| json!({"destination": {"host": service, "port": {"number": PORT}}, "weight": weight});
        let mut route = vec![to(self.stable(), 100 - canary)];
        if canary > 0 {
            route.push(to(self.canary(), canary));
        }
        let mut object = applied(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": {"app.kubernetes.io/part-of": self.name}},
            "spec": {
                "hosts": [format!("{}.{}.example.com", self.name, self.namespace)],
                "gateways": ["istio-system/models"],
                "http": [{
                    "name": "primary",
                    "match": [{"uri": {"prefix": "/v2/"}}],
                    "timeout": "10s",
                    "retries": {"attempts": 2, "perTryTimeout": "3s", "retryOn": "5xx,reset"},
                    "headers": {"request": {"set": {"x-forwarded-proto": "https"}}},
                    "route": route,
                }],
            },
        }));
        if let Some(stamp) = stamp {
            let entry = json!({format!("{}/{}", self.namespace, self.name): stamp});
            object["metadata"]["annotations"]["sluice.dev/stamp"] = entry.to_string().into();
        }
        object
    }

    /// A Rollout that wants this Service, with these parts of the spec besides.
    pub fn rollout(&self, wanted: &str, more: &Value) -> Value {
        let mut spec = json!({
            "target": {"service": {"name": wanted}},
            "routes": [{"virtualService": self.name, "http": ["primary"]}],
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        applied(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
            "metadata": {
                "name": self.name, "namespace": self.namespace,
                "labels": {"app.kubernetes.io/part-of": self.name},
            },
            "spec": spec,
        }))
    }

    /// What the VirtualService shows of the last decision of a [`Past`].
    pub fn stamp(&self, past: &Past, uid: &str) -> Value {
        match past {
            Past::Rested => json!({
                "uid": uid, "seq": KEPT, "revision": self.revision("old"),
                "stable": self.revision(&self.stable()), "setting": 0,
                "outcomes": {self.revision("old"): "RolledBack"},
            }),
            Past::Held { weight, .. } => json!({
                "uid": uid, "seq": KEPT, "revision": self.revision(&self.canary()),
                "stable": self.revision(&self.stable()), "setting": weight,
                "outcomes": {self.revision("old"): "RolledBack"},
            }),
        }
    }

    /// A status with as many decisions as it keeps, each with its measurements.
    pub fn status(&self, past: &Past, spec: &Value, now: DateTime<Utc>) -> Value {
        let (stable, canary) = (self.predictor(&self.stable()), self.predictor(&self.canary()));
        let at =
            |seq: u64| now - TimeDelta::minutes(60) + TimeDelta::minutes(i64::try_from(seq).unwrap_or(0));
        let decisions: Vec<Value> = (1..=KEPT).map(|seq| self.decision(seq, at(seq))).collect();
        let outcome = json!({
            "predictor": self.predictor("old"), "outcome": "RolledBack", "reason": "CheckFailed", "seq": 9, "at": at(9),
        });
        let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
            let status = if holds { "True" } else { "False" };
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": at(KEPT), "observedGeneration": 1,
            })
        };
        let conditions = |ready: bool, reason: &str, message: &str| {
            json!([
                condition("Accepted", true, "Accepted", "the spec can be acted on"),
                condition("Ready", ready, reason, message),
                condition("Reconciling", false, reason, message),
                condition("Stalled", !ready, reason, message),
            ])
        };
        let common = json!({
            "observedGeneration": 1, "decisions": decisions, "seq": KEPT, "stable": stable,
            "known": [self.predictor("old"), stable, canary], "outcomes": [outcome],
        });
        let rest = match past {
            Past::Rested => {
                let message = format!("{} is live", self.revision(&self.stable()));
                json!({
                    "phase": "Healthy", "reason": "Live", "message": message, "weight": 0,
                    "conditions": conditions(true, "Live", &message), "canary": self.predictor("old"), "stage": "idle",
                })
            }
            Past::Held { step, of, weight } => {
                let message = format!("step {step} waits for approval");
                let mut pinned = spec.clone();
                pinned["paused"] = json!(false);
                json!({
                    "phase": "Waiting", "reason": "WaitingForApproval", "message": message, "weight": weight,
                    "step": format!("{step}/{of}"),
                    "progress": {"number": step, "of": of, "name": step.to_string(), "needsApproval": true},
                    "conditions": conditions(false, "WaitingForApproval", &message), "canary": canary,
                    "stage": {"step": {
                        "index": step - 1, "losses": 0, "age": "1h", "settledAt": "1h", "settled": true,
                        "elapsed": "1h", "inPlace": "1h", "shortOfEvidence": "0s",
                        "evidence": {"blocks": [], "requests": 12345},
                    }},
                    "pinned": pinned,
                })
            }
        };
        let mut status = common;
        if let (Some(status), Value::Object(rest)) = (status.as_object_mut(), rest) {
            status.extend(rest);
        }
        status
    }

    /// One of two rollouts' decisions, as they read in a status.
    fn decision(&self, seq: u64, at: DateTime<Utc>) -> Value {
        let canary = self.revision(&self.canary());
        let (kind, reason, from, to, message) = match seq % 10 {
            1 => ("Started", "New", 0, 0, format!("{canary} is to replace {} step by step, once it is ready", self.stable())),
            2 => ("Entered", "StepsPassed", 0, 5, "step 1 begins: weight 5%".to_owned()),
            9 => ("RolledBack", "CheckFailed", 40, 0, "errors: 61 of 1204 (5.066%) of the canary's requests failed, at most 1% may; stable: 3 of 4816 (0.062%)".to_owned()),
            0 => ("Retired", "Live", 0, 0, format!("{canary} left the route")),
            step => ("Entered", "StepsPassed", 5 * (step - 2), 5 * (step - 1), format!("step {} passed: weight {}%", step - 2, 5 * (step - 1))),
        };
        let check = |name: &str, bad: u64, message: &str| {
            json!({
                "name": name, "verdict": "Pass", "message": message, "failures": 0,
                "canary": {"requests": 1204, "bad": bad}, "stable": {"requests": 4816, "bad": 3},
            })
        };
        let checks = [
            check(
                "errors",
                2,
                "2 of 1204 (0.166%) of the canary's requests failed, at most 1% may; stable: 3 of 4816 (0.062%)",
            ),
            check(
                "p99",
                4,
                "4 of 1204 (0.332%) of the canary's requests took longer than 250ms, at most 1% may take longer than 250ms; stable: 9 of 4816 (0.187%)",
            ),
        ];
        let change = |index: usize, of: String, weights: [u64; 2]| {
            let [from, to] = weights.map(|weight| weight.to_string());
            json!({"field": format!("spec.http[0].route[{index}].weight"), "of": of, "from": from, "to": to})
        };
        let changes =
            [change(0, self.stable(), [100 - from, 100 - to]), change(1, self.canary(), [from, to])];
        let write = json!({
            "kind": "VirtualService", "namespace": self.namespace, "name": self.name, "changes": changes,
        });
        json!({
            "seq": seq, "at": at, "kind": kind, "reason": reason, "message": message, "revision": canary,
            "step": (2..9).contains(&(seq % 10)).then(|| seq % 10 - 1), "fromWeight": from, "weight": to, "checks": checks,
            "writes": [write],
        })
    }
}

/// Where a Rollout of some history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Its stable is live, an earlier canary was rolled back.
    Rested,
    /// It waits at the gate of a step, its plan pinned.
    Held {
        /// Number of the step, from 1.
        step: u32,
        /// How many steps there are.
        of: u32,
        /// The canary's share there in percent.
        weight: u8,
    },
}

/// The object with the annotation that `kubectl apply` leaves: itself.
fn applied(mut object: Value) -> Value {
    let text = object.to_string();
    object["metadata"]["annotations"] = json!({LAST_APPLIED: text});
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_the_stamp_is_beside_what_was_applied() {
        let names = Names::number(7);
        let stamp = names.stamp(&Past::Held { step: 3, of: 3, weight: 20 }, "uid");
        let route = names.virtual_service(20, Some(&stamp));
        let weights: u64 = route["spec"]["http"][0]["route"]
            .as_array()
            .unwrap()
            .iter()
            .map(|to| to["weight"].as_u64().unwrap())
            .sum();
        assert_eq!(weights, 100);
        let annotations = route["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 2);
        assert!(annotations["sluice.dev/stamp"].as_str().unwrap().contains("team-0/model-7"));
    }

    #[test]
    fn a_status_has_twenty_decisions_and_the_pinned_plan_where_one_is_held() {
        let (names, spec) = (Names::number(7), json!({"steps": []}));
        let held = names.status(&Past::Held { step: 3, of: 3, weight: 20 }, &spec, DateTime::UNIX_EPOCH);
        let rested = names.status(&Past::Rested, &spec, DateTime::UNIX_EPOCH);
        for status in [&held, &rested] {
            assert_eq!(status["decisions"].as_array().unwrap().len(), 20);
            assert_eq!(status["seq"], 20);
        }
        assert!(held["pinned"].is_object() && rested.get("pinned").is_none());
    }
}
