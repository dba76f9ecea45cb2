//! Reading and writing the metadata of objects that are plain JSON.

use serde_json::{Map, Value, json};

/// A string of the metadata; empty when absent.
pub(super) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Sets one field of the metadata, or removes it when the value is null.
pub(super) fn set_meta(object: &mut Value, field: &str, value: Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if value.is_null() {
            metadata.remove(field);
        } else {
            metadata.insert(field.into(), value);
        }
    }
}

/// The object with another resourceVersion.
pub(super) fn at_version(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    set_meta(&mut object, "resourceVersion", version.to_string().into());
    object
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn is_being_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The uids in `metadata.ownerReferences`.
pub(super) fn owners(object: &Value) -> Vec<&str> {
    let references = object["metadata"]["ownerReferences"].as_array();
    references.into_iter().flatten().filter_map(|r| r["uid"].as_str()).collect()
}

/// Everything but the metadata, and but the status if that is a subresource: what `generation` counts.
pub(super) fn intent(object: &Value, status_is_apart: bool) -> Map<String, Value> {
    let mut rest = object.as_object().cloned().unwrap_or_default();
    rest.remove("metadata");
    rest.remove("apiVersion");
    if status_is_apart {
        rest.remove("status");
    }
    rest
}

/// A value at a dotted path, as field selectors compare it: strings as they are, absent as empty.
pub(super) fn field(object: &Value, path: &str) -> String {
    let mut at = object;
    for part in path.split('.') {
        at = &at[part];
    }
    match at {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Whether a name is a DNS subdomain (RFC 1123), which nearly every kind asks for.
pub(super) fn is_dns_subdomain(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |l: &str| l.starts_with(fine) && l.ends_with(fine) && l.chars().all(|c| fine(c) || c == '-');
    name.len() <= 253 && name.split('.').all(label)
}
