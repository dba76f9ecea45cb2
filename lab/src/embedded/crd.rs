//! Kinds that come as objects: a `CustomResourceDefinition` that is created is served from then on. Its schema is not
//! read: this API has none, what a schema or a CEL rule refuses is tested on the real server.

use serde_json::{Value, json};

use super::{
    kind::Kind,
    store::{Key, Store},
};

const RESOURCE: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Marks a new definition as established, which clients wait for.
pub(super) fn admit(object: &mut Value, key: &Key, store: &Store) {
    if key.resource != RESOURCE {
        return;
    }
    let since = store.timestamp();
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": since});
    object["status"] = json!({
        "acceptedNames": object["spec"]["names"],
        "storedVersions": names(object).take(1).collect::<Vec<_>>(),
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
    });
}

/// Serves the kind of a definition as it now is, or no longer.
pub(super) fn changed(store: &mut Store, key: &Key) {
    if key.resource != RESOURCE {
        return;
    }
    match store.get(key) {
        Some(definition) => {
            if let Some(kind) = read(&definition) {
                store.register(kind);
            }
        }
        None => {
            if let Some((plural, group)) = key.name.split_once('.') {
                store.forget(group, plural);
            }
        }
    }
}

/// The `OpenAPI` document of a group's version: the schemas of the kinds that came as objects. Nothing where there are none,
/// as of the kinds that are there from the start.
pub(super) fn openapi(store: &Store, group: &str, version: &str) -> Option<Value> {
    let definitions = store.everything().filter(|(key, _)| key.resource == RESOURCE);
    let schemas = definitions
        .map(|(_, definition)| definition)
        .filter(|definition| definition["spec"]["group"] == group);
    let schemas = schemas.filter_map(|definition| {
        let versions = definition["spec"]["versions"].as_array()?;
        let found = versions.iter().find(|found| found["name"] == version && found["served"] == true)?;
        let mut schema = found["schema"]["openAPIV3Schema"].clone();
        let kind = definition["spec"]["names"]["kind"].as_str()?;
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
        Some((format!("{group}.{version}.{kind}"), schema))
    });
    let schemas: serde_json::Map<String, Value> = schemas.collect();
    (!schemas.is_empty()).then(|| json!({"openapi": "3.0.0", "components": {"schemas": schemas}}))
}

/// Names of the served versions, the storage version first.
fn names(definition: &Value) -> impl Iterator<Item = &str> {
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().filter(|v| v["storage"] == true);
    let others = versions.iter().filter(|v| v["storage"] != true && v["served"] == true);
    stored.chain(others).filter_map(|v| v["name"].as_str())
}

fn read(definition: &Value) -> Option<Kind> {
    let spec = &definition["spec"];
    let versions: Vec<&str> = names(definition).collect();
    if versions.is_empty() {
        return None;
    }
    let kind = spec["names"]["kind"].as_str()?;
    let mut kind = Kind::custom(spec["group"].as_str()?, &versions, kind, spec["names"]["plural"].as_str()?);
    let subresource = |v: &Value| v["subresources"]["status"].is_object();
    kind.status = spec["versions"].as_array().is_some_and(|all| all.iter().any(subresource));
    kind.namespaced = spec["scope"] == "Namespaced";
    let short_names = spec["names"]["shortNames"].as_array();
    kind.short_names = short_names.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
    Some(kind)
}
