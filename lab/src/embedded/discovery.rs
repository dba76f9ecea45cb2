//! What generic clients ask before they ask for objects: versions, groups, resources, health.

use std::collections::BTreeSet;

use http::{Method, request::Parts};
use serde_json::{Value, json};

use super::{crd, kind::Kind, store::Store};

/// The answer to a discovery request, if this is one.
pub(super) fn answer(store: &Store, parts: &Parts) -> Option<Value> {
    if parts.method != Method::GET {
        return None;
    }
    let path = parts.uri.path().trim_matches('/');
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["livez" | "readyz" | "healthz"] => Some(json!("ok")),
        ["version"] => Some(json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0+embedded", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "",
        })),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let names: BTreeSet<&str> = store.kinds().iter().map(|k| k.group.as_str()).collect();
            let groups: Vec<Value> =
                names.into_iter().filter(|g| !g.is_empty()).map(|g| group(store, g)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if store.kinds().iter().any(|k| k.group == *name) => {
            let mut group = group(store, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resources(store, "", version),
        ["apis", group, version] => resources(store, group, version),
        ["openapi", "v3", "apis", group, version] => crd::openapi(store, group, version),
        _ => None,
    }
}

fn group(store: &Store, name: &str) -> Value {
    let mut versions: Vec<&String> = Vec::new();
    for version in store.kinds().iter().filter(|k| k.group == name).flat_map(|k| &k.versions) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let version = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let versions: Vec<Value> = versions.into_iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let served = |k: &&std::sync::Arc<Kind>| k.group == group && k.versions.iter().any(|v| v == version);
    let kinds: Vec<_> = store.kinds().iter().filter(served).collect();
    let first = kinds.first()?;
    let resources: Vec<Value> = kinds.iter().flat_map(|kind| resource(kind)).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(version),
        "resources": resources,
    }))
}

fn resource(kind: &Kind) -> Vec<Value> {
    let entry = |name: String, verbs: &[&str]| {
        json!({
            "name": name, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs, "shortNames": kind.short_names,
        })
    };
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut entries = vec![entry(kind.plural.clone(), &all)];
    if kind.status {
        entries.push(entry(format!("{}/status", kind.plural), &["get", "patch", "update"]));
    }
    entries
}
