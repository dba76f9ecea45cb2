//! What a copy says: the spec of the original with the target and the annotations of a SeldonDeployment.

use serde_json::{Value, json};
use sluice_core::{
    api::{FROM, PREDICTOR, PredictorTarget, Reason},
    plan::{GATEWAY, HOST},
    target,
};

use super::{Trouble, refused};
use crate::controller::{stores::Seldon, subject::RolloutObject};

/// The spec of a Rollout as it is.
pub(super) fn spec_of(rollout: &RolloutObject) -> Result<Value, Trouble> {
    let (spec, _) = rollout.texts();
    Ok(serde_json::from_str(spec.as_deref().unwrap_or("{}"))?)
}

/// The spec of the original with the SeldonDeployment as its target.
pub(super) fn copy(original: &RolloutObject, seldon: &Seldon) -> Result<Value, Trouble> {
    let mut spec = spec_of(original)?;
    if spec.get("expose").is_none() {
        return Err(refused(format!(
            "Rollout {} has routes: a copy of it would move the same ones. One with expose is expected",
            original.display()
        )));
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("paused");
    }
    spec["target"] = json!({"seldonDeployment": own_target(seldon)?});
    // What the SeldonDeployment says of itself goes before what the original says of all.
    for (key, field) in [(HOST, "hosts"), (GATEWAY, "gateways")] {
        if seldon.annotations.contains_key(key)
            && let Some(expose) = spec["expose"].as_object_mut()
        {
            expose.remove(field);
        }
    }
    for (key, value) in &seldon.annotations {
        spec["annotations"][key.as_str()] = value.as_str().into();
    }
    Ok(spec)
}

fn own_target(seldon: &Seldon) -> Result<Value, Trouble> {
    let view = &seldon.view;
    let wanted = seldon.wants.clone().or_else(|| view.newest().map(|newest| newest.name.clone()));
    let Some(wanted) = wanted else {
        return Err(refused(format!(
            "it has no predictor that is no shadow, and no annotation {PREDICTOR} names one: either is expected"
        )));
    };
    let mut target = json!({"name": view.name, "predictor": wanted});
    if let Some(from) = &seldon.from {
        target["from"] = from.as_str().into();
    }
    Ok(target)
}

/// Refuses predictors of which nobody knows who is stable. `there` is the copy, which waits for it like any Rollout; but what
/// a hand writes into it is put back, so it is the annotation that has to say it.
pub(super) fn tells_its_stable(
    namespace: &str,
    seldon: &Seldon,
    spec: &Value,
    there: Option<&RolloutObject>,
) -> Result<(), Trouble> {
    let view = &seldon.view;
    let target: PredictorTarget = serde_json::from_value(spec["target"]["seldonDeployment"].clone())?;
    let first = target::seldon::first(&target, namespace, view);
    let waits = |copy: &RolloutObject| copy.raw_status()["reason"] == Reason::AmbiguousStable.to_string();
    if first.len() == 1 || !there.is_none_or(waits) {
        return Ok(());
    }
    match &target.from {
        Some(from) => Err(refused(format!(
            "the annotation {FROM} names {from}: it has no such predictor, only {}",
            listed(view.predictors.iter().map(|predictor| predictor.name.as_str()), ", ")
        ))),
        None if first.is_empty() => Ok(()),
        None => Err(refused(format!(
            "its predictors {} have traffic: the name of the one that is stable is expected in its annotation {FROM}",
            listed(first.iter().filter_map(|predictor| predictor.subset.as_deref()), " and ")
        ))),
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n str>, and: &str) -> String {
    names.collect::<Vec<_>>().join(and)
}
