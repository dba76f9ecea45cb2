//! The DestinationRules of generated routes: subsets of Services, and how the proxies speak to them, as Seldon Core's
//! operator makes them. Where neither is wanted there are none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Generated, Kind, ObjectName, World, Write,
    expose::{self, is_ours, taken},
};
use crate::{
    HostNames, Predictor,
    api::Reason,
    machine::Refusal,
    plan::{Plan, PlannedExpose},
    traffic::{self, Setting},
};

/// How long an idle connection stays open, as Seldon Core has it.
const IDLE: &str = "60s";

/// A DestinationRule of one of the arms.
struct Rule {
    /// Its spec.
    spec: Value,
    /// Whether there must be one: for a subset, or for a TLS mode.
    needed: bool,
}

/// The DestinationRules of the arms of a traffic, by name: named after their Services.
fn of_arms(world: &World<'_>, expose: &PlannedExpose, desired: &Setting) -> BTreeMap<ObjectName, Rule> {
    let arms = [&desired.stable].into_iter().chain(&desired.canary).chain(&desired.retiring);
    let mut subsets: BTreeMap<ObjectName, BTreeSet<&str>> = BTreeMap::new();
    for predictor in arms {
        let name = (predictor.namespace.clone(), predictor.service.clone());
        let of_service = subsets.entry(name).or_default();
        of_service.extend(predictor.subset.as_deref());
    }
    let rule = |(name, subsets): (ObjectName, BTreeSet<&str>)| {
        let policy = match expose.tls {
            Some(mode) => json!({"tls": {"mode": mode.word()}}),
            None => json!({"connectionPool": {"http": {"idleTimeout": IDLE}}}),
        };
        let mut spec = json!({"host": world.cluster.names.host(&name.0, &name.1), "trafficPolicy": policy});
        let needed = expose.tls.is_some() || !subsets.is_empty();
        if !subsets.is_empty() {
            let subset = |name: &str| json!({"name": name, "labels": labels_of(name)});
            spec["subsets"] = subsets.into_iter().map(subset).collect();
        }
        (name, Rule { spec, needed })
    };
    subsets.into_iter().map(rule).collect()
}

/// The names of the DestinationRules that a traffic needs, or may have from when it needed them, so that they can be read.
pub fn rule_names(world: &World<'_>, plan: &Plan, desired: &Setting) -> Vec<ObjectName> {
    let Some(expose) = &plan.expose else { return Vec::new() };
    of_arms(world, expose, desired).into_keys().collect()
}

/// What is to be written so that the DestinationRules of generated routes are what a traffic needs. `there` are those
/// that exist; what of them is not the Rollout's with this `uid` is left alone.
pub fn rules(
    world: &World<'_>,
    plan: &Plan,
    desired: &Setting,
    uid: &str,
    there: &BTreeMap<ObjectName, Value>,
) -> Vec<Generated> {
    let Some(expose) = &plan.expose else { return Vec::new() };
    let mut writes = Vec::new();
    for (name, Rule { mut spec, needed }) in of_arms(world, expose, desired) {
        let write = match there.get(&name) {
            None => {
                needed.then(|| Write::Create(expose::object(world, Kind::DestinationRule, &name, uid, &spec)))
            }
            Some(before) if is_ours(before, uid) => {
                let mut after = before.clone();
                if needed {
                    keep_subsets(before, &mut spec);
                    after["spec"] = spec;
                } else if before.pointer("/spec/trafficPolicy/tls").is_some() {
                    // A mode that is not asked for any more must not stay. What else there is harms nobody.
                    after["spec"]["trafficPolicy"] = spec["trafficPolicy"].take();
                }
                traffic::patch(before, &after).map(Write::Patch)
            }
            Some(_) => None,
        };
        writes.extend(write.map(|write| Generated { kind: Kind::DestinationRule, object: name, write }));
    }
    writes
}

/// A subset that the routes named until now stays: proxies hear of the routes a moment later than of the rules.
fn keep_subsets(before: &Value, spec: &mut Value) {
    let old = before.pointer("/spec/subsets").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(subsets) = spec.get_mut("subsets").and_then(Value::as_array_mut) else { return };
    for subset in old {
        if !subsets.iter().any(|new| new["name"] == subset["name"]) {
            subsets.push(subset);
        }
    }
    subsets.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
}

/// Whether a DestinationRule that is not ours does what generated routes need.
///
/// # Errors
/// It has not the subset, or another TLS mode was asked for.
pub fn accept_rules(
    world: &World<'_>,
    plan: &Plan,
    desired: &Setting,
    uid: &str,
    there: &BTreeMap<ObjectName, Value>,
) -> Result<(), Refusal> {
    let Some(expose) = &plan.expose else { return Ok(()) };
    let needed = of_arms(world, expose, desired).into_iter().filter(|(_, rule)| rule.needed);
    for (name, Rule { spec, .. }) in needed {
        let Some(other) = there.get(&name).filter(|rule| !is_ours(rule, uid)) else { continue };
        let subsets = spec["subsets"].as_array().cloned().unwrap_or_default();
        let lacks =
            subsets.iter().any(|subset| !has_subset(other, subset["name"].as_str().unwrap_or_default()));
        let mode = |rule: &Value| rule.pointer("/trafficPolicy/tls/mode").cloned();
        let speaks_otherwise = expose.tls.is_some() && mode(&other["spec"]) != mode(&spec);
        if lacks || speaks_otherwise {
            return Err(taken(other, Kind::DestinationRule, &name));
        }
    }
    Ok(())
}

/// Whether routes may name the subset of a predictor: some DestinationRule has it. `rules` are those that count for the
/// Rollout's namespace, with their own namespaces.
///
/// # Errors
/// None has it: requests to a subset that nobody has fail.
pub fn accept_subset(names: &HostNames, predictor: &Predictor, rules: &[Value]) -> Result<(), Refusal> {
    let Some(subset) = &predictor.subset else { return Ok(()) };
    let mut found: Vec<&Value> = of_service(names, predictor, rules).collect();
    if found.iter().any(|rule| has_subset(rule, subset)) {
        return Ok(());
    }
    found.truncate(3);
    let seen: Vec<String> = found
        .iter()
        .map(|rule| rule.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?").to_owned())
        .collect();
    let seen = if seen.is_empty() {
        "there is none for that host".to_owned()
    } else {
        format!("not in {}", seen.join(", "))
    };
    let message = format!(
        "subset {subset:?} of Service {}/{} is in no DestinationRule ({seen}): requests to it would fail",
        predictor.namespace, predictor.service
    );
    Err(Refusal::new(Reason::SubsetNotFound, message))
}

/// The labels by which a predictor's subset is told from the rest of its Service, as the first of `rules` that has it says;
/// nothing where none has. `rules` are as for [`accept_subset`].
pub fn subset_labels(
    names: &HostNames,
    predictor: &Predictor,
    rules: &[Value],
) -> Option<BTreeMap<String, String>> {
    let name = predictor.subset.as_deref()?;
    let mut subsets = of_service(names, predictor, rules)
        .filter_map(|rule| rule.pointer("/spec/subsets").and_then(Value::as_array))
        .flatten();
    let subset = subsets.find(|subset| subset["name"] == name)?;
    let labels = subset["labels"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(labels.map(|(label, value)| (label.clone(), text(value))).collect())
}

/// The same in the rule that is generated for it.
pub fn generated_labels(predictor: &Predictor) -> BTreeMap<String, String> {
    predictor.subset.iter().flat_map(|name| labels_of(name)).collect()
}

/// The labels of a subset in generated rules.
fn labels_of(subset: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("version".to_owned(), subset.to_owned())])
}

/// The rules for a predictor's Service.
fn of_service<'r>(
    names: &HostNames,
    predictor: &Predictor,
    rules: &'r [Value],
) -> impl Iterator<Item = &'r Value> {
    let host = names.host(&predictor.namespace, &predictor.service);
    rules.iter().filter(move |rule| {
        let text = |pointer| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        names.resolve(text("/spec/host"), text("/metadata/namespace")) == host
    })
}

fn has_subset(rule: &Value, name: &str) -> bool {
    let subsets = rule.pointer("/spec/subsets").and_then(Value::as_array);
    subsets.into_iter().flatten().any(|subset| subset["name"] == name)
}
