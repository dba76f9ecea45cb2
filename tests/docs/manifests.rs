//! Every YAML block and every example is what it says it is.

use std::fs;

use serde_json::{Value, json};
use sluice_core::{
    api::{RolloutActionSpec, RolloutSpec},
    plan::{self, Plan},
};

use crate::{blocks, documents, read, schema};

/// Fails where an object has a field that its schema has not: the server would drop it silently.
fn assert_known(value: &Value, schema: &Value, path: &str) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| assert_known(item, &schema["items"], &format!("{path}[]")));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let known = known.unwrap_or_else(|| panic!("{path}.{name} is no field"));
        assert_known(field, known, &format!("{path}.{name}"));
    }
}

fn assert_rollout(spec: &Value, place: &str) {
    assert_known(spec, &schema("Rollout")["properties"]["spec"], &format!("{place}: spec"));
    let spec: RolloutSpec =
        serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    Plan::new(&spec, "models").unwrap_or_else(|error| panic!("{place}: {error}"));
    plan::target(&spec).unwrap_or_else(|error| panic!("{place}: {error}"));
}

/// A document is what it says it is: a Rollout, an action, the controller's configuration, another manifest, or some
/// fields of a Rollout's spec.
fn assert_manifest(document: &Value, place: &str) {
    let spec = &schema("Rollout")["properties"]["spec"];
    match document["kind"].as_str() {
        Some("Rollout") => assert_rollout(&document["spec"], place),
        Some("RolloutAction") => {
            let spec = &schema("RolloutAction")["properties"]["spec"];
            assert_known(&document["spec"], spec, &format!("{place}: spec"));
            let parsed = serde_json::from_value::<RolloutActionSpec>(document["spec"].clone());
            parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        Some("Freeze") => {
            let spec = &schema("Freeze")["properties"]["spec"];
            assert_known(&document["spec"], spec, &format!("{place}: spec"));
        }
        Some(_) => assert!(document["apiVersion"].is_string(), "{place}: a manifest has an apiVersion"),
        None if document.get("sources").is_some() || document.get("profiles").is_some() => {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), document.to_string()).unwrap();
            let loaded = sluice::metrics::Config::load(file.path());
            loaded.unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        None => {
            let given = document.as_object().unwrap_or_else(|| panic!("{place}: no object: {document}"));
            let known = given.keys().all(|name| spec["properties"].get(name).is_some());
            assert!(known, "{place}: neither a manifest nor fields of a Rollout: {document}");
            let mut whole =
                json!({"target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}]});
            whole.as_object_mut().unwrap().extend(given.clone());
            assert_rollout(&whole, place);
        }
    }
}

#[test]
fn every_manifest_is_what_it_says() {
    let mut seen = 0;
    for path in documents() {
        let text = read(&path);
        let yaml = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => vec![(1, text)],
            _ => blocks(&text)
                .into_iter()
                .filter(|(language, ..)| language == "yaml")
                .map(|(_, line, block)| (line, block))
                .collect(),
        };
        for (line, block) in yaml {
            let place = format!("{}:{line}", path.display());
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&block).unwrap_or_else(|error| panic!("{place}: {error}"));
            documents.iter().for_each(|document| assert_manifest(document, &place));
            seen += documents.len();
        }
    }
    assert!(seen > 20, "only {seen} manifests were found");
}
