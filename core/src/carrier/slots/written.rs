//! What became of a SeldonDeployment that was shown as a route: its traffic, in one patch.

use std::collections::BTreeMap;

use json_patch::Patch;
use serde_json::{Value, json};

use super::{by_subset, gives_anybody_more};
use crate::{Predictor, api::STAMP, target::SeldonView, traffic};

/// The patch of the SeldonDeployment that says what a patch of its [`as_route`] says; nothing where they say the same. Where
/// nobody gets more by it, `stable` gets all that the others leave of 100: traffic that added up to something else, which
/// nobody but Seldon Core's webhook refuses, must not keep users on the canary.
///
/// # Errors
/// What cannot be said there, by the field.
pub fn written_back(
    deployment: &Value,
    shown: &Value,
    patch: &Patch,
    stable: &Predictor,
) -> Result<Option<Patch>, String> {
    let mut route = shown.clone();
    // The version is the server's to compare.
    let edits = Patch(patch.0.iter().skip(1).cloned().collect());
    json_patch::patch(&mut route, &edits).map_err(|error| format!("the route cannot be edited: {error}"))?;
    let http = route["spec"]["http"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [only] = http else { return Err("spec.predictors: has weights and nothing beside them".to_owned()) };
    if only.get("mirrors").is_some() || only.get("mirror").is_some() {
        return Err("spec.predictors: has weights and no mirrors".to_owned());
    }
    let before = by_subset(&shown["spec"]["http"][0]);
    let stable = stable.subset.as_deref().unwrap_or_default();
    let traffic = adding_up(&before, traffic_of(deployment, only), stable)?;
    let mut after = deployment.clone();
    for predictor in live(&mut after) {
        if let Some(traffic) = predictor["name"].as_str().and_then(|name| traffic.get(name)) {
            predictor["traffic"] = (*traffic).into();
        }
    }
    if let Some(stamp) = route.pointer("/metadata/annotations").and_then(|annotations| annotations.get(STAMP))
    {
        if !after["metadata"]["annotations"].is_object() {
            after["metadata"]["annotations"] = json!({});
        }
        after["metadata"]["annotations"][STAMP] = stamp.clone();
    }
    Ok(traffic::patch(deployment, &after))
}

/// The predictors of a SeldonDeployment that are no shadows.
fn live(deployment: &mut Value) -> impl Iterator<Item = &mut Value> {
    let predictors = deployment["spec"]["predictors"].as_array_mut().into_iter().flatten();
    predictors.filter(|predictor| predictor["shadow"] != true)
}

/// What a route gives to each of the predictors that are no shadows.
fn traffic_of(deployment: &Value, route: &Value) -> BTreeMap<String, i64> {
    let entries = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let weight = |name: &str| {
        let of_it = entries.iter().filter(|entry| entry["destination"]["subset"] == name);
        of_it.map(|entry| entry["weight"].as_i64().unwrap_or(0)).sum()
    };
    let view = SeldonView::read(deployment);
    let live = view.predictors.into_iter().filter(|predictor| !predictor.shadow);
    live.map(|predictor| (predictor.name.clone(), weight(&predictor.name))).collect()
}

/// The traffic, with the rest of 100 for stable where nobody else has more than `before`.
fn adding_up(
    before: &BTreeMap<String, i64>,
    mut traffic: BTreeMap<String, i64>,
    stable: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let sum: i64 = traffic.values().sum();
    if sum == 100 {
        return Ok(traffic);
    }
    let expected = format!("spec.predictors: the traffic would add up to {sum}: 100 is expected");
    if gives_anybody_more(before, &traffic, stable) {
        return Err(expected);
    }
    let Some(rest) = traffic.get_mut(stable) else {
        return Err(format!("{expected}, and {stable}, which is stable, is not there to get the rest"));
    };
    *rest += 100 - sum;
    if *rest < 0 { Err(expected) } else { Ok(traffic) }
}
