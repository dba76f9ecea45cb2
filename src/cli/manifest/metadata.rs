//! What the API server refuses about an object's metadata.

use serde_json::Value;
use sluice_core::lint::Finding;

use super::schema::{invalid, member, shown};
use crate::cli::names;

/// What there is in the metadata of any object.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Finds what is wrong with the metadata.
pub fn check(metadata: &Value, found: &mut Vec<Finding>) {
    let mut wrong = |path: &str, problem: String| found.push(invalid(path, problem));
    let fields = match metadata {
        Value::Object(fields) => fields,
        Value::Null => return wrong("metadata.name", "it is missing".to_owned()),
        other => {
            return wrong("metadata", format!("{} is out of place: a map is expected", shown(other)));
        }
    };
    named(&metadata["name"], "metadata.name", names::object, true, &mut wrong);
    named(&metadata["namespace"], "metadata.namespace", names::namespace, false, &mut wrong);
    texts(&metadata["labels"], "metadata.labels", names::is_value, &mut wrong);
    texts(&metadata["annotations"], "metadata.annotations", |_| true, &mut wrong);
    for field in fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        found.push(unknown(&member("metadata", field)));
    }
}

/// A field that no server knows, outside of the spec.
pub fn unknown(path: &str) -> Finding {
    let advice = "kubectl refuses it, and the API server drops it".to_owned();
    Finding { advice, ..Finding::unknown(path) }
}

fn named(
    value: &Value,
    path: &str,
    read: fn(&str) -> Result<String, String>,
    required: bool,
    wrong: &mut impl FnMut(&str, String),
) {
    match value {
        Value::String(text) => {
            if let Err(problem) = read(text) {
                wrong(path, problem);
            }
        }
        Value::Null if required => wrong(path, "it is missing".to_owned()),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => {
            wrong(path, format!("{} is no text: put it in quotes", shown(value)));
        }
        Value::Array(_) | Value::Object(_) => {
            wrong(path, format!("{} is out of place: a name is expected", shown(value)));
        }
    }
}

fn texts(value: &Value, path: &str, is_value: fn(&str) -> bool, wrong: &mut impl FnMut(&str, String)) {
    let fields = match value {
        Value::Null => return,
        Value::Object(fields) => fields,
        other => return wrong(path, format!("{} is out of place: a map is expected", shown(other))),
    };
    for (key, value) in fields {
        let path = format!("{path}[{key}]");
        // The server takes capitals in the domain of an annotation.
        if !names::is_key(key) && !names::is_key(&key.to_lowercase()) {
            wrong(&path, format!("{key:?} is no key: NAME or DOMAIN/NAME is expected"));
        }
        match value {
            Value::String(text) if is_value(text) => {}
            Value::String(_) => wrong(
                &path,
                format!(
                    "{} is no value of a label: at most 63 letters, digits, -, _ and . are expected, and a letter or a \
                     digit at both ends",
                    shown(value)
                ),
            ),
            Value::Null => {}
            other => wrong(&path, format!("{} is no text: put it in quotes", shown(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_metadata_is_found_with_its_field() {
        for (metadata, expected) in [
            (json!(null), "metadata.name: it is missing"),
            (json!([]), "metadata: a list is out of place: a map is expected"),
            (json!({}), "metadata.name: it is missing"),
            (json!({"name": ""}), "metadata.name: it is empty: a name is expected"),
            (json!({"name": "UPPER_case"}), "metadata.name: \"UPPER_case\" is no name"),
            (json!({"name": "Ирис"}), "metadata.name: \"Ирис\" is no name"),
            (json!({"name": 5}), "metadata.name: 5 is no text: put it in quotes"),
            (json!({"name": "a", "namespace": "a.b"}), "metadata.namespace: \"a.b\" is no name"),
            (json!({"name": "a", "lables": {}}), "metadata.lables: this version does not know it"),
            (
                json!({"name": "a", "labels": ["a"]}),
                "metadata.labels: a list is out of place: a map is expected",
            ),
            (json!({"name": "a", "labels": {"a": 5}}), "metadata.labels[a]: 5 is no text"),
            (
                json!({"name": "a", "labels": {"a": "b c"}}),
                "metadata.labels[a]: \"b c\" is no value of a label",
            ),
            (
                json!({"name": "a", "annotations": {"a b": "c"}}),
                "metadata.annotations[a b]: \"a b\" is no key",
            ),
        ] {
            let mut found = Vec::new();
            check(&metadata, &mut found);
            let found: Vec<String> =
                found.iter().map(|one| format!("{}: {}", one.path, one.problem)).collect();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{metadata}: {found:?}");
        }
        let mut found = Vec::new();
        let all = json!({"name": "iris", "namespace": "models", "uid": "1", "labels": {"app.kubernetes.io/name": "Iris", "x": null},
            "annotations": {"sluice.dev/x": "any text at all"}, "managedFields": []});
        check(&all, &mut found);
        assert_eq!(found, []);
    }
}
