//! Routes that one VirtualService delegates to another, merged as istiod does it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::view::find_service;

/// What a delegate's route has from the one that delegates, where it has none of its own.
const INHERITED: [&str; 11] = [
    "rewrite",
    "directResponse",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercent",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
];

/// The spec of a VirtualService of `namespace` with the routes of its delegates in place of those that delegate. `delegate`
/// finds the spec of one by namespace and name; one that is not there takes the route away, and so does one with hosts.
pub(super) fn resolved<'s>(
    spec: &'s Value,
    namespace: &str,
    delegate: impl Fn(&str, &str) -> Option<Value>,
) -> Cow<'s, Value> {
    let routes = spec["http"].as_array().map(Vec::as_slice).unwrap_or_default();
    if routes.iter().all(|route| route["delegate"].is_null()) {
        return Cow::Borrowed(spec);
    }
    let resolve = |route: &Value| -> Vec<Value> {
        let Some(name) = route["delegate"]["name"].as_str() else { return vec![route.clone()] };
        let home =
            route["delegate"]["namespace"].as_str().filter(|home| !home.is_empty()).unwrap_or(namespace);
        let found = delegate(home, name).filter(|spec| spec["hosts"].as_array().is_none_or(Vec::is_empty));
        let leaves = found.and_then(|spec| spec["http"].as_array().cloned()).unwrap_or_default();
        leaves.into_iter().filter_map(|leaf| merged(route, leaf, home)).collect()
    };
    let mut whole = spec.clone();
    whole["http"] = routes.iter().flat_map(resolve).collect();
    Cow::Owned(whole)
}

/// A route of the delegate as it is under the route that delegates; nothing where one of its matches is within none of those.
fn merged(root: &Value, mut leaf: Value, home: &str) -> Option<Value> {
    let matches = |route: &Value| route["match"].as_array().cloned().unwrap_or_default();
    let (roots, leaves) = (matches(root), matches(&leaf));
    let both = if roots.is_empty() || leaves.is_empty() {
        [roots, leaves].concat()
    } else {
        let mut both = Vec::new();
        for leaf in &leaves {
            let within: Vec<Value> = roots.iter().filter_map(|root| narrowed(root, leaf)).collect();
            if within.is_empty() {
                return None;
            }
            both.extend(within);
        }
        both
    };
    full_names(&mut leaf, home);
    let fields = leaf.as_object_mut()?;
    if !both.is_empty() {
        fields.insert("match".to_owned(), both.into());
    }
    for field in INHERITED {
        if let (None, Some(inherited)) = (fields.get(field), root.get(field)) {
            fields.insert(field.to_owned(), inherited.clone());
        }
    }
    Some(leaf)
}

/// Short names of hosts are those of the delegate's namespace.
fn full_names(leaf: &mut Value, home: &str) {
    let rename = |destination: &mut Value| {
        let host = destination.get("host").and_then(Value::as_str).unwrap_or_default();
        if let Some(found) = find_service(host, home) {
            destination["host"] = found.host().into();
        }
    };
    for list in ["route", "mirrors"] {
        for entry in leaf.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            entry.get_mut("destination").into_iter().for_each(rename);
        }
    }
    leaf.get_mut("mirror").into_iter().for_each(rename);
}

/// What a request must be that is meant by both; nothing where istiod finds that they conflict.
fn narrowed(root: &Value, leaf: &Value) -> Option<Value> {
    let (root, leaf) = (root.as_object()?, leaf.as_object()?);
    let none = Value::Null;
    let of = |fields: &Map<String, Value>, name: &str| fields.get(name).unwrap_or(&none).clone();
    let plain = ["uri", "scheme", "method", "authority"];
    let mut conflicts = plain.iter().any(|field| conflict(&of(root, field), &of(leaf, field)));
    let ignores_case = |fields| of(fields, "ignoreUriCase") == Value::Bool(true);
    conflicts |= ignores_case(root) != ignores_case(leaf);
    let elsewhere = of(root, "sourceNamespace");
    conflicts |= elsewhere.is_string() && elsewhere != of(leaf, "sourceNamespace");
    let mut both = root.clone();
    both.extend(leaf.clone());
    for field in ["headers", "withoutHeaders", "queryParams"] {
        let (mut outer, inner) = (of(root, field), of(leaf, field));
        for (name, wanted) in inner.as_object().into_iter().flatten() {
            conflicts |= conflict(&outer[name.as_str()], wanted);
        }
        if let (Some(outer), Some(inner)) = (outer.as_object_mut(), inner.as_object()) {
            outer.extend(inner.clone());
            both.insert(field.to_owned(), outer.clone().into());
        }
    }
    (!conflicts).then(|| both.into())
}

/// Whether istiod sees that what `leaf` wants of a text is not within what `root` wants: it does not look into regular
/// expressions, and not into a condition that only asks that there is something.
fn conflict(root: &Value, leaf: &Value) -> bool {
    if root.is_null() || leaf.is_null() {
        return false;
    }
    let text = |value: &Value, kind: &str| value[kind].as_str().unwrap_or_default().to_owned();
    let [outer, inner] = [root, leaf].map(|value| ["exact", "prefix", "regex"].map(|kind| text(value, kind)));
    let is = |text: &String| !text.is_empty();
    match (outer.each_ref(), inner.each_ref()) {
        ([_, _, regex], _) | (_, [_, _, regex]) if is(regex) => true,
        ([exact, ..], [other, prefix, _]) if is(exact) => is(prefix) || exact != other,
        ([_, prefix, _], [exact, inner, _]) if is(prefix) && (is(exact) || is(inner)) => {
            let inner = if is(inner) { inner } else { exact };
            !inner.starts_with(prefix.as_str())
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn root(matches: &Value) -> Value {
        json!({"hosts": ["*"], "http": [
            {"name": "own", "match": [{"uri": {"exact": "/own"}}], "route": [{"destination": {"host": "a"}}]},
            {"name": "rest", "match": matches, "timeout": "5s", "retries": {"attempts": 2}, "delegate": {"name": "iris"}},
        ]})
    }

    fn delegate(matches: &Value) -> Value {
        json!({"http": [{"name": "http", "match": matches, "timeout": "1s", "route": [
            {"destination": {"host": "iris-v1"}, "weight": 75},
            {"destination": {"host": "iris-v2.models.svc.cluster.local"}, "weight": 25},
        ]}]})
    }

    /// The routes, with `leaf` as what the second one delegates to in the namespace `models`.
    fn routes(root: &Value, leaf: &Value) -> Vec<Value> {
        let find =
            |namespace: &str, name: &str| ((namespace, name) == ("models", "iris")).then(|| leaf.clone());
        resolved(root, "models", find)["http"].as_array().unwrap().clone()
    }

    #[test]
    fn a_delegates_routes_take_the_place_of_the_one_that_delegates() {
        let prefix = json!([{"uri": {"prefix": "/v2/"}}]);
        let [own, merged] = routes(&root(&prefix), &delegate(&json!([]))).try_into().unwrap();
        assert_eq!(own["name"], "own");
        assert_eq!(merged["match"], prefix, "the matches of the one that delegates");
        assert_eq!(merged["timeout"], "1s", "the delegate's own");
        assert_eq!(merged["retries"]["attempts"], 2, "the other's");
        let host = |at: usize| merged["route"][at]["destination"]["host"].clone();
        let full = |service: &str| format!("{service}.models.svc.cluster.local");
        assert_eq!([host(0), host(1)], [full("iris-v1"), full("iris-v2")]);
    }

    #[test]
    fn matches_are_narrowed_and_those_that_conflict_are_dropped() {
        let beta = json!({"x": {"exact": "beta"}});
        let kept = |outer: Value, inner: Value| {
            let [_, merged] = routes(&root(&json!([outer])), &delegate(&json!([inner]))).try_into().ok()?;
            Some(merged["match"][0].clone())
        };
        assert_eq!(
            kept(json!({"uri": {"prefix": "/v2/"}}), json!({"headers": beta})),
            Some(json!({"uri": {"prefix": "/v2/"}, "headers": beta}))
        );
        assert_eq!(
            kept(json!({"uri": {"prefix": "/v2/"}}), json!({"uri": {"prefix": "/v2/models/"}})),
            Some(json!({"uri": {"prefix": "/v2/models/"}}))
        );
        for (outer, inner) in [
            (json!({"uri": {"regex": "/v2/.*"}}), json!({"uri": {"prefix": "/v2/"}})),
            (json!({"uri": {"prefix": "/v2/a/"}}), json!({"uri": {"prefix": "/v2/"}})),
            (json!({"uri": {"exact": "/v2/"}}), json!({"uri": {"prefix": "/v2/"}})),
            (json!({"headers": {"x": {}}}), json!({"headers": beta})),
            (json!({"uri": {"prefix": "/"}, "ignoreUriCase": true}), json!({"headers": beta})),
            (json!({"sourceNamespace": "web"}), json!({"headers": beta})),
        ] {
            assert_eq!(kept(outer.clone(), inner.clone()), None, "{outer} {inner}");
        }
    }

    #[test]
    fn a_delegate_that_is_not_there_or_has_hosts_takes_the_route_away() {
        let root = root(&json!([]));
        let names = |spec: Option<Value>| {
            let resolved = resolved(&root, "models", |_, _| spec.clone());
            resolved["http"].as_array().unwrap().iter().map(|route| route["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["own"]);
        assert_eq!(names(Some(delegate(&json!([])))), ["own", "http"]);
        let mut with_hosts = delegate(&json!([]));
        with_hosts["hosts"] = json!(["*"]);
        assert_eq!(names(Some(with_hosts)), ["own"]);
    }
}
