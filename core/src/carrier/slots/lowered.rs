//! The operator's VirtualService, where it gives the canary more than is desired.

use json_patch::Patch;
use serde_json::Value;

use super::{by_subset, gives_anybody_more};
use crate::{
    carrier::{World, expose::on_port},
    target::seldon::GRPC_PORT,
    traffic::{self, Selection, Setting},
};

/// The patch of the operator's VirtualService that takes away what the canary has there beyond what is desired, whether the
/// SeldonDeployment says so already or not: the operator writes nothing while any of its deployments is unready, and until
/// then nobody else would. Nothing where nobody has too much, in whatever form: the operator would write its own again. What
/// the canary has too little of is the operator's to give.
pub fn lowered(world: &World<'_>, virtual_service: &Value, desired: &Setting) -> Option<Patch> {
    let text = |pointer| virtual_service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let selection =
        Selection::every_http(text("/metadata/namespace"), text("/metadata/name"), world.rollout());
    let Setting { stable, canary, weight, retiring, known, .. } = desired.clone();
    // The operator's routes say no more than weights.
    let by_weight = Setting { canary, weight, retiring, known, ..Setting::all_to(stable) };
    let mut edited = virtual_service.clone();
    for setting in [by_weight.clone(), on_port(&by_weight, GRPC_PORT)] {
        edited = traffic::edit_what_can_be(&edited, &selection, &setting, &world.cluster).after;
    }
    let stable = desired.stable.subset.as_deref().unwrap_or_default();
    let mut after = virtual_service.clone();
    let routes = after.pointer_mut("/spec/http").and_then(Value::as_array_mut)?;
    let edited = edited["spec"]["http"].as_array().filter(|edited| edited.len() == routes.len())?;
    for (route, edited) in routes.iter_mut().zip(edited) {
        let (before, less) = (by_subset(route), by_subset(edited));
        let had = |name: &String| less.get(name).copied().unwrap_or(0);
        let loses = before.iter().any(|(name, weight)| name != stable && had(name) < *weight);
        if loses && !gives_anybody_more(&before, &less, stable) {
            route["route"] = edited["route"].clone();
            give_the_rest(&mut route["route"], stable);
        }
    }
    traffic::patch(virtual_service, &after)
}

/// Gives stable what the others of a route leave of 100.
fn give_the_rest(entries: &mut Value, stable: &str) {
    let Some(entries) = entries.as_array_mut().filter(|entries| entries.len() > 1) else { return };
    let is_stable = |entry: &Value| entry["destination"]["subset"] == stable;
    let others = entries.iter().filter(|entry| !is_stable(entry));
    let others: i64 = others.map(|entry| entry["weight"].as_i64().unwrap_or(0)).sum();
    let mut all = entries.iter_mut().filter(|entry| is_stable(entry));
    if let (Some(stable), None) = (all.next(), all.next()) {
        let rest = 100 - others;
        if (0..=100).contains(&rest) && stable["weight"].as_i64().unwrap_or(0) != rest {
            stable["weight"] = rest.into();
        }
    }
}
