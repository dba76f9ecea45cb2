//! Guarantee 6: "Every field of the VirtualService that Sluice does not manage stays as it was, order and unknown fields
//! included."
//!
//! Checked at every write of a controller: the object without the managed destinations of the routes that are moved,
//! Sluice's own routes and mirrors and the Rollout's stamp is what it was; a managed destination that was there keeps all
//! but its weight; one that is new is a copy of another with a different host, port and subset. The order of fields in an
//! object means nothing in JSON and is not kept by the recording.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Found, Guarantee, RouteChange, Seen};
use crate::invariants::{
    objects::{self, MIRRORS, Predictor, STAMP},
    report::difference,
    world::key,
};

pub(super) struct Foreign;

impl Guarantee for Foreign {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if seen.plural() == "virtualservices" && seen.by_controller && seen.commit.after.is_none() {
            found.add(None, "a controller deleted a VirtualService");
        }
        for change in seen.routes() {
            if is_generated(change.before, &change.rollout.1) {
                continue;
            }
            let managed = seen.world.managed(&change.rollout, &[change.before, change.after]);
            let namespace = &seen.commit.namespace;
            let rest = [change.before, change.after].map(|object| rest(namespace, &change, &managed, object));
            if rest[0] != rest[1] {
                let differ = difference(Some(&rest[0]), Some(&rest[1])).join("; ");
                found.add(Some(&change.rollout), format!("what is not managed was changed: {differ}"));
            }
            for (at, before, after) in change.moved() {
                for entry in changed_entries(namespace, &managed, before, after) {
                    let what = format!("spec.http[{at}]: {entry} is neither as it was nor a copy of another");
                    found.add(Some(&change.rollout), what);
                }
            }
        }
    }
}

/// Whether a VirtualService is the Rollout's own: all of it is managed.
fn is_generated(object: &Value, rollout: &str) -> bool {
    let owners = objects::list(&object["metadata"]["ownerReferences"]);
    let mut ours = owners.filter(|owner| owner["kind"] == "Rollout" && owner["name"] == rollout);
    ours.any(|owner| owner["controller"] == true)
}

/// The object without what is managed.
fn rest(namespace: &str, change: &RouteChange<'_>, managed: &BTreeSet<Predictor>, object: &Value) -> Value {
    let mut rest = object.clone();
    let stamps = objects::stamps(object);
    if let Some(metadata) = rest["metadata"].as_object_mut() {
        metadata
            .retain(|field, _| !["resourceVersion", "generation", "managedFields"].contains(&field.as_str()));
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_some_and(|annotations| {
            annotations.remove(STAMP);
            annotations.remove(MIRRORS);
            annotations.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    let others = stamps.into_iter().filter(|(rollout, _)| *rollout != key(&change.rollout));
    rest["the stamps of others"] = others.collect::<serde_json::Map<_, _>>().into();
    let Some(routes) = rest["spec"]["http"].as_array_mut() else { return rest };
    routes.retain(|route| !objects::is_own(route, &change.rollout.1));
    for route in routes {
        let name = route["name"].as_str().map(str::to_owned);
        if !change.names.is_empty() && !name.is_some_and(|name| change.names.contains(&name)) {
            continue;
        }
        let kept: Vec<Value> = objects::destinations(namespace, route)
            .iter()
            .filter(|destination| !destination.is_any(managed))
            .map(|destination| destination.entry.clone())
            .collect();
        route["route"] = kept.into();
        one_of_several(route);
        let mirrors = route.get_mut("mirrors").and_then(Value::as_array_mut);
        let none_left = mirrors.is_some_and(|mirrors| {
            mirrors.retain(|mirror| !is_managed_host(namespace, managed, &mirror["destination"]["host"]));
            mirrors.is_empty()
        });
        if none_left && let Some(fields) = route.as_object_mut() {
            fields.remove("mirrors");
        }
    }
    rest
}

/// Writes a single mirror as Sluice does while one of its own is beside it: Istio takes either one or a list.
fn one_of_several(route: &mut Value) {
    let Some(fields) = route.as_object_mut() else { return };
    let Some(single) = fields.remove("mirror").filter(Value::is_object) else { return };
    let mut entry = serde_json::json!({ "destination": single });
    let percentage = fields.remove("mirrorPercentage").filter(Value::is_object);
    let whole = ["mirrorPercent", "mirror_percent"].into_iter().find_map(|field| fields.remove(field));
    if let Some(percentage) = percentage.or(whole.map(|whole| serde_json::json!({ "value": whole }))) {
        entry["percentage"] = percentage;
    }
    let rest = fields.remove("mirrors").and_then(|mirrors| mirrors.as_array().cloned()).unwrap_or_default();
    let all: Vec<Value> = std::iter::once(entry).chain(rest).collect();
    fields.insert("mirrors".to_owned(), all.into());
}

/// Takes off the cookie that tells an arm.
fn remove_cookie(entry: &mut Value) {
    let mark = |value: &Value| [".canary.", ".stable."].iter().any(|arm| objects::text(value).contains(arm));
    let added = entry.pointer_mut("/headers/response/add").and_then(Value::as_object_mut);
    let emptied = added.is_some_and(|added| {
        let before = added.len();
        added.retain(|name, value| !(name.eq_ignore_ascii_case("set-cookie") && mark(value)));
        added.len() < before && added.is_empty()
    });
    let holders = [("/headers/response", "add"), ("/headers", "response"), ("", "headers")];
    for (holder, field) in holders.into_iter().filter(|_| emptied) {
        if let Some(fields) = entry.pointer_mut(holder).and_then(Value::as_object_mut)
            && fields.get(field).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
        {
            fields.remove(field);
        }
    }
}

fn is_managed_host(namespace: &str, managed: &BTreeSet<Predictor>, host: &Value) -> bool {
    let service = objects::service_of(objects::text(host), namespace);
    service.is_some_and(|service| managed.iter().any(|predictor| predictor.name() == service))
}

/// Entries of managed predictors that are not what they should be.
fn changed_entries(
    namespace: &str,
    managed: &BTreeSet<Predictor>,
    before: &Value,
    after: &Value,
) -> Vec<String> {
    let [old, new] = [before, after].map(|route| objects::destinations(namespace, route));
    let without = |entry: &Value, fields: &[&str]| {
        let mut entry = entry.clone();
        remove_cookie(&mut entry);
        if let Some(all) = entry.as_object_mut() {
            all.retain(|field, _| !fields.contains(&field.as_str()));
        }
        entry
    };
    let elsewhere = |entry: &Value| {
        let mut entry = without(entry, &["weight"]);
        if let Some(at) = entry["destination"].as_object_mut() {
            at.retain(|field, _| !["host", "port", "subset"].contains(&field.as_str()));
        }
        entry
    };
    let mut found = Vec::new();
    for predictor in managed {
        for entry in new.iter().filter(|destination| destination.is(predictor)) {
            let mut same = old.iter().filter(|destination| destination.is(predictor)).peekable();
            let fine = if same.peek().is_some() {
                same.any(|old| without(old.entry, &["weight"]) == without(entry.entry, &["weight"]))
            } else {
                let mut pair = old.iter().filter(|destination| destination.is_any(managed));
                pair.any(|old| elsewhere(old.entry) == elsewhere(entry.entry))
            };
            if !fine {
                found.push(entry.entry.to_string());
            }
        }
    }
    found
}
