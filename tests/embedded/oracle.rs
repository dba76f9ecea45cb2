//! What the raw objects say, by arithmetic of our own.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_lab::embedded::{Api, Write};

use crate::world::{CONTROLLER, NAMESPACE};

/// What `iris-v1` and `iris-v2` get of the first route, in percent: as Istio reads it, where a destination alone has
/// all and one without a weight among others has none.
pub fn weights(virtual_service: &Value) -> (u64, u64) {
    let route = virtual_service["spec"]["http"][0]["route"].as_array().expect("a route");
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

/// Fails unless, in every version that anybody could have seen,
/// - the weights of the pair add up to all traffic,
/// - the canary got more only after a decision with just that weight was recorded,
/// - the number in the stamp never fell,
/// - and a write of the controller changed nothing on the VirtualService but the route and the stamp.
pub fn check_history(api: &Api) {
    let history = api.history();
    let mut recorded = Vec::new();
    let mut stamps: BTreeMap<&str, u64> = BTreeMap::new();
    for write in &history {
        let Some(after) = &write.after else { continue };
        if write.resource == "rollouts/status" {
            let decisions = after["status"]["decisions"].as_array().into_iter().flatten();
            recorded
                .extend(decisions.map(|decision| (decision["seq"].as_u64(), decision["weight"].as_u64())));
        }
        if write.resource != "virtualservices" || write.user != CONTROLLER {
            continue;
        }
        let object = write.before.as_ref().expect("the controller creates none");
        let (before, now) = (weights(object), weights(after));
        assert_eq!(now.0 + now.1, 100, "the pair's weights in version {}: {now:?}", write.version);
        let stamp = stamp(after);
        let newest = stamps.insert(&write.name, stamp).unwrap_or_default();
        assert!(stamp >= newest, "stamp {stamp} after {newest} in version {}", write.version);
        if now.1 > before.1 {
            assert!(
                recorded.contains(&(Some(stamp), Some(now.1))),
                "version {} gives the canary {} with stamp {stamp}, and no such decision was recorded before",
                write.version,
                now.1
            );
        }
        assert_eq!(
            unmanaged(after),
            unmanaged(object),
            "what Sluice does not manage, in version {}",
            write.version
        );
    }
}

/// The number of the decision that a VirtualService shows; 0 where none.
pub fn stamp(virtual_service: &Value) -> u64 {
    let Some(text) = virtual_service["metadata"]["annotations"]["sluice.dev/stamp"].as_str() else {
        return 0;
    };
    let stamps: Value = serde_json::from_str(text).expect("JSON");
    stamps[format!("{NAMESPACE}/iris")]["seq"].as_u64().expect("a number")
}

fn unmanaged(virtual_service: &Value) -> Value {
    let mut rest = virtual_service.clone();
    rest["spec"]["http"][0]["route"] = Value::Null;
    if let Some(metadata) = rest["metadata"].as_object_mut() {
        metadata
            .retain(|field, _| !matches!(field.as_str(), "resourceVersion" | "generation" | "annotations"));
    }
    let annotations = &virtual_service["metadata"]["annotations"];
    let mut annotations = annotations.as_object().cloned().unwrap_or_default();
    annotations.remove("sluice.dev/stamp");
    rest["metadata"]["annotations"] = annotations.into();
    rest
}
