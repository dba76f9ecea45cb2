//! Weights where Seldon Core's operator owns the VirtualService: in the SeldonDeployment's `spec.predictors[].traffic`.
//!
//! The SeldonDeployment is shown as a VirtualService with one http route that lists its predictors, so that whatever reads
//! and edits routes reads and edits this one, and what became of it is written back as one patch of the
//! SeldonDeployment: the traffic adds up to 100 in every state that anybody can see.

mod lowered;
mod written;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::{lowered::lowered, written::written_back};
use super::controllers;
use crate::{
    HostNames,
    api::Reason,
    machine::Refusal,
    plan::Plan,
    target::{SeldonView, seldon::HTTP_PORT},
};

/// The SeldonDeployment that an object belongs to, if it does.
pub fn deployment_of(virtual_service: &Value) -> Option<&str> {
    let owner = controllers(virtual_service).next()?;
    (owner["kind"] == "SeldonDeployment").then(|| owner["name"].as_str()).flatten()
}

/// The SeldonDeployment as a route, under the name of the VirtualService that its operator makes of it. It has the
/// SeldonDeployment's version and stamp.
pub fn as_route(deployment: &Value, virtual_service: &str, names: &HostNames) -> Value {
    let namespace = deployment.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let view = SeldonView::read(deployment);
    let live = view.predictors.iter().filter(|predictor| !predictor.shadow);
    let alone = live.clone().count() == 1;
    let entries: Vec<Value> = live
        .map(|predictor| {
            json!({
                "destination": {
                    "host": names.host(namespace, &predictor.service), "port": {"number": HTTP_PORT},
                    "subset": predictor.name,
                },
                // One alone has all, whatever it says.
                "weight": if alone { 100 } else { predictor.traffic },
            })
        })
        .collect();
    let mut route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {
            "namespace": namespace, "name": virtual_service,
            "resourceVersion": deployment.pointer("/metadata/resourceVersion"),
        },
        "spec": {"http": [{"route": entries}]},
    });
    if let Some(annotations) = deployment.pointer("/metadata/annotations") {
        route["metadata"]["annotations"] = annotations.clone();
    }
    route
}

/// What keeps the operator's VirtualService from being as its SeldonDeployment says, which is shown as a route; nothing where
/// it is. The operator writes none while any of the deployments is unready, as after a predictor stopped being a shadow, when
/// it makes new pods for it.
pub fn not_carried_out(shown: &Value, virtual_service: &Value) -> Option<String> {
    let wanted = shown["spec"]["http"].as_array().into_iter().flatten().map(by_subset).next()?;
    let told = |all: &BTreeMap<String, i64>| {
        let each: Vec<String> = all.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        each.join(", ")
    };
    // Where there is no route at all nobody gets anything, whatever the SeldonDeployment says.
    let there = match weights(virtual_service).as_slice() {
        [] => "no http route".to_owned(),
        routes => told(routes.iter().find(|seen| **seen != wanted)?),
    };
    Some(format!(
        "Seldon Core's operator has not written it to the VirtualService yet ({there} there, {} is wanted), which it does when \
         all deployments are ready",
        told(&wanted)
    ))
}

/// [`by_subset`] of every route that sends requests somewhere.
fn weights(virtual_service: &Value) -> Vec<BTreeMap<String, i64>> {
    let routes = virtual_service["spec"]["http"].as_array().into_iter().flatten();
    routes.filter(|route| route["route"].is_array()).map(by_subset).collect()
}

/// The predictors that a route gives weight, each with its weight.
fn by_subset(route: &Value) -> BTreeMap<String, i64> {
    let entries = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let weights = entries.iter().filter_map(|entry| {
        let subset = entry["destination"]["subset"].as_str()?.to_owned();
        // One alone has all, whatever it says.
        let weight = if entries.len() == 1 { 100 } else { entry["weight"].as_i64().unwrap_or(0) };
        (weight > 0).then_some((subset, weight))
    });
    weights.collect()
}

/// Whether somebody other than stable has more than before.
fn gives_anybody_more(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>, stable: &str) -> bool {
    let had = |name: &String| before.get(name).copied().unwrap_or(0);
    after.iter().any(|(name, weight)| name != stable && *weight > had(name))
}

/// Whether all that a plan asks for can be said by traffic alone.
///
/// # Errors
/// A step that asks for more.
pub fn accept_slots(plan: &Plan, deployment: &Value, wanted: Option<&str>) -> Result<(), Refusal> {
    let name = deployment.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let more = plan.steps.iter().position(|step| !step.beside.is_nothing() || step.sticky.is_some());
    if let Some(index) = more {
        let message = format!(
            "spec.steps[{index}]: the routes belong to SeldonDeployment {name}, whose predictors have traffic and nothing \
             beside it: a weight alone is expected, or expose in place of routes with Seldon Core's own Istio routing off"
        );
        return Err(Refusal::new(Reason::RouteConflict, message));
    }
    let view = SeldonView::read(deployment);
    let shadow = wanted.and_then(|wanted| view.predictor(wanted)).filter(|predictor| predictor.shadow);
    match shadow {
        None => Ok(()),
        Some(shadow) => {
            let message = format!(
                "spec.target.seldonDeployment.predictor: {} is a shadow, and whoever owns the routes of SeldonDeployment {name} \
                 restarts its pods to make it answer: set shadow to false first",
                shadow.name
            );
            Err(Refusal::new(Reason::InvalidTarget, message))
        }
    }
}
