//! What the raw objects say, by arithmetic of our own.

use serde_json::Value;
use sluice_lab::embedded::{Api, Write};

use crate::world::NAMESPACE;

/// The route that the Rollout moves: the first that is not its own.
pub fn managed(virtual_service: &Value) -> &Value {
    let routes = virtual_service["spec"]["http"].as_array().expect("http routes");
    let is_own = |route: &&Value| route["name"].as_str().is_some_and(|name| name.starts_with("sluice-"));
    routes.iter().find(|route| !is_own(route)).expect("a route")
}

/// The routes that the Rollout put there.
pub fn own(virtual_service: &Value) -> Vec<&Value> {
    let routes = virtual_service["spec"]["http"].as_array().expect("http routes");
    let is_own =
        |route: &&Value| route["name"].as_str().is_some_and(|name| name.starts_with("sluice-models/iris/"));
    routes.iter().filter(is_own).collect()
}

/// What `iris-v1` and `iris-v2` get of the first route, in percent: as Istio reads it, where a destination alone has
/// all and one without a weight among others has none.
pub fn weights(virtual_service: &Value) -> (u64, u64) {
    let route = managed(virtual_service)["route"].as_array().expect("a route");
    let alone = if route.len() == 1 { 100 } else { 0 };
    let weight = |service: &str| {
        let of_it = route.iter().filter(|entry| entry["destination"]["host"] == service);
        of_it.map(|entry| entry["weight"].as_u64().filter(|weight| *weight > 0).unwrap_or(alone)).sum()
    };
    (weight("iris-v1"), weight("iris-v2"))
}

/// Every weight that the route gave to `iris-v2`, each once while it lasted.
pub fn canary_weights(api: &Api) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    for write in routes_written(&api.history()) {
        let Some(after) = &write.after else { continue };
        let (_, canary) = weights(after);
        if seen.last() != Some(&canary) {
            seen.push(canary);
        }
    }
    seen
}

/// Writes of the VirtualService `iris`.
pub fn routes_written(history: &[Write]) -> impl Iterator<Item = &Write> {
    history.iter().filter(|write| write.resource == "virtualservices" && write.name == "iris")
}

/// Kind and canary weight of every decision that was ever recorded, in order.
pub fn decisions(api: &Api) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    let mut last = 0;
    for write in
        api.history().iter().filter(|write| write.resource == "rollouts/status" && write.name == "iris")
    {
        let decisions = write
            .after
            .iter()
            .flat_map(|after| after["status"]["decisions"].as_array().into_iter().flatten());
        for decision in decisions {
            let seq = decision["seq"].as_u64().expect("a number");
            if seq > last {
                last = seq;
                let kind = decision["kind"].as_str().expect("a kind").to_owned();
                seen.push((kind, decision["weight"].as_i64().expect("a weight")));
            }
        }
    }
    seen
}

/// Just the kinds of them.
pub fn kinds(api: &Api) -> Vec<String> {
    decisions(api).into_iter().map(|(kind, _)| kind).collect()
}

/// The number of the decision that a VirtualService shows; 0 where none.
pub fn stamp(virtual_service: &Value) -> u64 {
    let Some(text) = virtual_service["metadata"]["annotations"]["sluice.dev/stamp"].as_str() else {
        return 0;
    };
    let stamps: Value = serde_json::from_str(text).expect("JSON");
    stamps[format!("{NAMESPACE}/iris")]["seq"].as_u64().expect("a number")
}
