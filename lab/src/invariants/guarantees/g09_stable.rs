//! Guarantee 9: "Stable is never scaled down or changed while it carries traffic."
//!
//! Checked at every write of a controller to a Service, a Pod or a workload behind the Service of stable, as its selector
//! says, while stable has weight on a VirtualService of its Rollout: fewer replicas, another template, another spec of the
//! Service, or gone. This version writes none of these; the guarantee is for those to come. Not seen: an image that changes
//! under its tag.

use std::sync::Arc;

use serde_json::Value;

use super::{Found, Guarantee, Seen};
use crate::invariants::objects::{self, Predictor};

pub(super) struct Stable;

/// Kinds with a pod template and replicas.
const WORKLOADS: [&str; 3] = ["deployments", "statefulsets", "replicasets"];

impl Guarantee for Stable {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        let Some(before) = seen.commit.before.as_ref().filter(|_| seen.by_controller) else { return };
        let what = match seen.plural() {
            "services" | "pods" => changed(before, seen.commit.after.as_ref(), "/spec"),
            plural if WORKLOADS.contains(&plural) => scaled(before, seen.commit.after.as_ref())
                .or_else(|| changed(before, seen.commit.after.as_ref(), "/spec/template")),
            _ => None,
        };
        let Some(what) = what else { return };
        for (name, rollout, object) in seen.world.existing() {
            let Some(stable) = Predictor::of(&rollout.status()["stable"]) else { continue };
            if stable.namespace != seen.commit.namespace || !is_behind(seen, before, &stable) {
                continue;
            }
            let carries = objects::routes(object, &name.0).into_iter().any(|(route, names)| {
                let virtual_service = seen.world.virtual_services.get(&route);
                virtual_service.is_some_and(|v| objects::most(&route.0, v, &names, &name.1, &stable) > 0)
            });
            if carries {
                found.add(Some(name), format!("{stable} is stable and carries traffic: {what}"));
            }
        }
    }
}

fn changed(before: &Value, after: Option<&Arc<Value>>, pointer: &str) -> Option<String> {
    match after {
        None => Some("it was deleted".to_owned()),
        Some(after) if after.pointer(pointer) != before.pointer(pointer) => Some("it was changed".to_owned()),
        Some(_) => None,
    }
}

fn scaled(before: &Value, after: Option<&Arc<Value>>) -> Option<String> {
    let replicas = |object: &Value| object["spec"]["replicas"].as_u64().unwrap_or(1);
    let (old, new) = (replicas(before), after.map_or(0, |after| replicas(after)));
    (new < old).then(|| format!("it was scaled from {old} to {new}"))
}

/// Whether an object is the Service of a predictor, or runs its pods.
fn is_behind(seen: &Seen<'_>, object: &Value, predictor: &Predictor) -> bool {
    if seen.plural() == "services" {
        return seen.commit.name == predictor.service;
    }
    let service = seen.world.others.get(&("services".to_owned(), predictor.name()));
    let Some(selector) = service.and_then(|service| service["spec"]["selector"].as_object()) else {
        return false;
    };
    let labels = match seen.plural() {
        "pods" => &object["metadata"]["labels"],
        _ => &object["spec"]["template"]["metadata"]["labels"],
    };
    !selector.is_empty() && selector.iter().all(|(label, value)| labels[label] == *value)
}
