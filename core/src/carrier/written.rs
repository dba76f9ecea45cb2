//! What a write changes in an object, in a form that a person reads and a status has room for.

use json_patch::{
    AddOperation, Patch, PatchOperation, ReplaceOperation,
    jsonptr::{Pointer, Token},
};
use serde_json::Value;

use super::ObjectName;
use crate::{
    api::{FieldChange, MOST_CHANGES, STAMP, WriteRecord, WrittenKind},
    text::fit,
};

/// What the API takes for each text of a change, in characters.
const LONGEST: usize = 96;
/// What it takes for the names of an object.
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_NAME: usize = 253;

/// What a patch changes in an object as it was read. What is no news is left out: the version that is compared, and the
/// stamp, which is of every decision.
pub fn changed(kind: WrittenKind, object: &ObjectName, before: &Value, patch: &Patch) -> WriteRecord {
    let mut now = before.clone();
    let mut all = Vec::new();
    for operation in &patch.0 {
        let path = operation.path();
        let (old, owner_of_old) = (now.pointer(path.as_str()).cloned(), owner(&now, path));
        // The server refuses a patch that does not fit its object, too.
        if json_patch::patch(&mut now, std::slice::from_ref(operation)).is_err() {
            break;
        }
        all.extend(match operation {
            PatchOperation::Add(AddOperation { value, .. }) => {
                change(path, owner(&now, path), None, Some(value.clone()))
            }
            PatchOperation::Replace(ReplaceOperation { value, .. }) => {
                change(path, owner(&now, path), old, Some(value.clone()))
            }
            PatchOperation::Remove(_) => change(path, owner_of_old, old, None),
            PatchOperation::Move(_) | PatchOperation::Copy(_) | PatchOperation::Test(_) => None,
        });
    }
    record(kind, object, false, all)
}

/// What is created: of its fields the weights, because who gets what is what a decision is about.
pub fn created(kind: WrittenKind, object: &ObjectName, whole: &Value) -> WriteRecord {
    let mut all = Vec::new();
    weights(whole, "", &mut all);
    record(kind, object, true, all)
}

fn record(
    kind: WrittenKind,
    object: &ObjectName,
    created: bool,
    mut changes: Vec<FieldChange>,
) -> WriteRecord {
    let more_changes = u32::try_from(changes.len().saturating_sub(MOST_CHANGES)).unwrap_or(u32::MAX);
    changes.truncate(MOST_CHANGES);
    WriteRecord {
        kind,
        namespace: fit(object.0.as_str(), LONGEST_NAMESPACE),
        name: fit(object.1.as_str(), LONGEST_NAME),
        created,
        changes,
        more_changes,
    }
}

fn change(path: &Pointer, of: Option<String>, from: Option<Value>, to: Option<Value>) -> Option<FieldChange> {
    let tokens: Vec<String> = path.tokens().map(|token| token.decoded().into_owned()).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let (mut from, mut to) = (from, to);
    match tokens.as_slice() {
        ["metadata", "resourceVersion"] | ["metadata", "annotations", STAMP] => return None,
        ["metadata", "annotations"] => {
            for annotations in [&mut from, &mut to] {
                *annotations = annotations.take().and_then(without_stamp);
            }
            if from == to {
                return None;
            }
        }
        _ => {}
    }
    Some(FieldChange {
        field: fit(spelled(&tokens), LONGEST),
        of: of.map(|of| fit(of, LONGEST)),
        from: from.map(|value| told(&value)),
        to: to.map(|value| told(&value)),
    })
}

/// Annotations without the stamp; nothing where they are nothing else.
fn without_stamp(mut annotations: Value) -> Option<Value> {
    annotations.as_object_mut()?.remove(STAMP);
    annotations.as_object().is_some_and(|rest| !rest.is_empty()).then_some(annotations)
}

/// A path as people write it: `spec.http[0].route[1].weight`.
fn spelled(tokens: &[&str]) -> String {
    let mut path = String::new();
    for token in tokens {
        let is_index = token.bytes().all(|byte| byte.is_ascii_digit());
        if is_index || token.contains(['.', '/']) {
            path.extend(["[", token, "]"]);
        } else {
            path.extend([if path.is_empty() { "" } else { "." }, token]);
        }
    }
    path
}

/// A value in short. Of what has fields itself only who gets what is told: a route that is copied for a match has all that
/// its owner wrote into it, and whoever reads a Rollout need not know it.
fn told(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match (fields.get("destination"), fields.get("route")) {
            (Some(_), _) => share(value),
            (None, Some(route)) => format!("route to {}", each(route)),
            (None, None) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("{{{}}}", names.join(", "))
            }
        },
        Value::Array(_) => each(value),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    fit(text, LONGEST)
}

/// What a destination gets.
fn share(entry: &Value) -> String {
    match (&entry["weight"], &entry["percentage"]["value"]) {
        (Value::Null, Value::Null) => "all".to_owned(),
        (Value::Null, percent) => format!("{percent}%"),
        (weight, _) => format!("weight {weight}"),
    }
}

/// The items of a list, with their names.
fn each(list: &Value) -> String {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let item = |item: &Value| match name(item) {
        Some(name) => format!("{name} {}", told(item)),
        None => told(item),
    };
    items.iter().map(item).collect::<Vec<_>>().join(", ")
}

/// Whose a field is: of what is around it, the nearest that names a destination or has a name.
fn owner(object: &Value, path: &Pointer) -> Option<String> {
    let mut at = Some(path);
    while let Some(here) = at.filter(|here| here.tokens().next() != Some(Token::new("metadata"))) {
        if let Some(named) = object.pointer(here.as_str()).and_then(name) {
            return Some(named);
        }
        at = here.parent();
    }
    None
}

fn name(value: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match text(&value["destination"]["host"]) {
        Some(host) => Some(match text(&value["destination"]["subset"]) {
            Some(subset) => format!("{host}#{subset}"),
            None => host,
        }),
        None => text(&value["name"]),
    }
}

/// All weights of a route's destinations below `path`. One alone has all, whatever it says.
fn weights(value: &Value, path: &str, all: &mut Vec<FieldChange>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let below = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                weights(value, &below, all);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let below = format!("{path}[{index}]");
                if item.get("destination").is_some() && path.rsplit('.').next() == Some("route") {
                    let alone = items.len() == 1;
                    let weight = if alone { 100 } else { item["weight"].as_i64().unwrap_or(0) };
                    all.push(FieldChange {
                        field: fit(format!("{below}.weight"), LONGEST),
                        of: name(item).map(|of| fit(of, LONGEST)),
                        from: None,
                        to: Some(weight.to_string()),
                    });
                } else {
                    weights(item, &below, all);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::traffic;

    fn iris() -> ObjectName {
        ("models".to_owned(), "iris".to_owned())
    }

    fn entry(host: &str, weight: u64) -> Value {
        json!({"destination": {"host": host}, "weight": weight})
    }

    #[allow(clippy::needless_pass_by_value)] // parts of the result
    fn virtual_service(http: Value, annotations: Value) -> Value {
        json!({
            "metadata": {"name": "iris", "namespace": "models", "resourceVersion": "7", "annotations": annotations},
            "spec": {"http": http},
        })
    }

    /// What is told of the difference between two objects.
    fn told_of(before: &Value, after: &Value) -> Vec<String> {
        let patch = traffic::patch(before, after).unwrap();
        let write = changed(WrittenKind::VirtualService, &iris(), before, &patch);
        assert_eq!((write.to_string().as_str(), write.created), ("VirtualService models/iris", false));
        write.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn weights_are_told_by_destination_and_the_stamp_is_not() {
        let route = |one, other| json!([{"name": "primary", "route": [entry("iris-v1", one), entry("iris-v2", other)]}]);
        let before = virtual_service(route(95, 5), json!({}));
        let after = virtual_service(route(75, 25), json!({STAMP: "{}"}));
        assert_eq!(
            told_of(&before, &after),
            [
                "spec.http[0].route[0].weight of iris-v1: 95 before, 75 after",
                "spec.http[0].route[1].weight of iris-v2: 5 before, 25 after",
            ]
        );
        let stamped = virtual_service(route(95, 5), json!({STAMP: "{}"}));
        assert_eq!(told_of(&before, &stamped), [""; 0]);
        let mut bare = before.clone();
        bare["metadata"]["annotations"] = Value::Null;
        assert_eq!(told_of(&bare, &stamped), [""; 0], "annotations that are the stamp alone");
    }

    #[test]
    fn what_comes_and_goes_is_told_where_it_is_at_that_moment() {
        let plain = json!({"name": "primary", "route": [entry("iris-v1", 100)]});
        let matched = json!({"name": "sluice-iris-primary", "match": [{"uri": {"prefix": "/"}}], "route": [entry("iris-v2", 100)]});
        let before = virtual_service(json!([plain]), json!({}));
        let both = json!({"name": "primary", "route": [entry("iris-v1", 100), entry("iris-v2", 0)]});
        let after = virtual_service(json!([matched, both]), json!({"sluice.dev/mirrors": "{}"}));
        let there = told_of(&before, &after);
        assert_eq!(there[0], "metadata.annotations[sluice.dev/mirrors]: added, {}");
        assert_eq!(there[1], "spec.http[0] of sluice-iris-primary: added, route to iris-v2 weight 100");
        assert_eq!(there[2], "spec.http[1].route[1] of iris-v2: added, weight 0");
        let back = told_of(&after, &before);
        let gone = "spec.http[0] of sluice-iris-primary: taken off, route to iris-v2 weight 100 before";
        assert_eq!(back[1], gone);
        assert_eq!(back[2], "spec.http[0].route[1] of iris-v2: taken off, weight 0 before");
    }

    #[test]
    fn what_the_owner_of_a_route_wrote_into_it_is_not_told() {
        for (value, expected) in [
            (
                json!({"headers": {"request": {"set": {"authorization": "secret"}}}, "match": []}),
                "{headers, match}",
            ),
            (json!({"destination": {"host": "iris-v2"}, "percentage": {"value": 12.5}}), "12.5%"),
            (json!({"destination": {"host": "iris-v2"}}), "all"),
            (
                json!([{"destination": {"host": "iris-v2", "subset": "b"}, "percentage": {"value": 5}}]),
                "iris-v2#b 5%",
            ),
            (json!([1, "a", true, null]), "1, a, true, null"),
            (json!([]), ""),
        ] {
            assert_eq!(told(&value), expected);
        }
        assert_eq!(told(&json!("x".repeat(1000))).chars().count(), LONGEST);
    }

    #[test]
    fn more_than_there_is_room_for_is_counted() {
        let routes = |weight: u64| {
            let one = |at: u64| json!({"route": [entry("iris-v1", 100 - weight), entry("iris-v2", weight)], "at": at});
            virtual_service((0..10).map(one).collect(), json!({}))
        };
        let (before, after) = (routes(5), routes(6));
        let patch = traffic::patch(&before, &after).unwrap();
        let write = changed(WrittenKind::VirtualService, &iris(), &before, &patch);
        assert_eq!((write.changes.len(), write.more_changes), (MOST_CHANGES, 12));
    }

    #[test]
    fn of_what_is_created_the_weights_are_told() {
        let whole = virtual_service(
            json!([
                {"route": [entry("iris-v1", 95), entry("iris-v2", 5)]},
                {"route": [{"destination": {"host": "iris-v1", "subset": "a"}}]},
            ]),
            json!({STAMP: "{}"}),
        );
        let write = created(WrittenKind::VirtualService, &iris(), &whole);
        assert!(write.created);
        let told: Vec<String> = write.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.http[0].route[0].weight of iris-v1: added, 95",
                "spec.http[0].route[1].weight of iris-v2: added, 5",
                "spec.http[1].route[0].weight of iris-v1#a: added, 100",
            ]
        );
    }

    #[test]
    fn traffic_of_predictors_is_told_by_their_names() {
        let deployment = |green: u64| {
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"predictors": [
                {"name": "main", "traffic": 100 - green}, {"name": "green", "traffic": green},
            ]}})
        };
        let (before, after) = (deployment(0), deployment(25));
        let patch = traffic::patch(&before, &after).unwrap();
        let write = changed(WrittenKind::SeldonDeployment, &iris(), &before, &patch);
        assert_eq!(write.changes[1].to_string(), "spec.predictors[1].traffic of green: 0 before, 25 after");
    }
}
