//! JSON Patch and JSON merge patch, with the answers of the real API server where they differ from the RFCs.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::refusal::Refusal;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";

/// Applies the patch in `body`, whose kind the content type tells.
pub(super) fn apply(content_type: &str, body: &[u8], object: &Value) -> Result<Value, Refusal> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        JSON => json_patch(body, object),
        MERGE => merge_patch(body, object),
        other => Err(Refusal::unsupported_media_type(other, &format!("{JSON}, {MERGE}"))),
    }
}

fn json_patch(body: &[u8], object: &Value) -> Result<Value, Refusal> {
    let patch: json_patch::Patch = serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("error decoding patch: {e}")))?;
    let mut patched = object.clone();
    for operation in patch.0 {
        if tests_for_absence(&operation, &patched) {
            continue;
        }
        let operation = leniently(operation, &patched);
        json_patch::patch(&mut patched, &[operation]).map_err(|e| Refusal::unprocessable(&e.to_string()))?;
    }
    Ok(patched)
}

/// The server's library lets a `test` for null pass where there is nothing; kube's finalizer relies on it.
fn tests_for_absence(operation: &PatchOperation, object: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    test.value.is_null() && object.pointer(test.path.as_str()).is_none()
}

/// The server's library lets `replace` add a field that an object does not have.
fn leniently(operation: PatchOperation, object: &Value) -> PatchOperation {
    let PatchOperation::Replace(replace) = operation else { return operation };
    let parent = replace.path.as_str().rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    if object.pointer(replace.path.as_str()).is_none() && parent.is_some_and(Value::is_object) {
        return PatchOperation::Add(AddOperation { path: replace.path, value: replace.value });
    }
    PatchOperation::Replace(replace)
}

fn merge_patch(body: &[u8], object: &Value) -> Result<Value, Refusal> {
    let patch: Value = serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("error decoding patch: {e}")))?;
    if !patch.is_object() {
        return Err(Refusal::bad_request("error decoding patch: a merge patch is an object"));
    }
    let mut patched = object.clone();
    json_patch::merge(&mut patched, &patch);
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(content_type: &str, patch: &Value) -> Result<Value, u16> {
        let object = json!({"spec": {"size": 1}, "list": [1, 2]});
        apply(content_type, patch.to_string().as_bytes(), &object).map_err(|r| r.code)
    }

    #[test]
    fn replace_adds_what_an_object_does_not_have() {
        let patched = code(JSON, &json!([{"op": "replace", "path": "/spec/color", "value": "red"}])).unwrap();
        assert_eq!(patched["spec"], json!({"size": 1, "color": "red"}));
        assert_eq!(code(JSON, &json!([{"op": "replace", "path": "/none/color", "value": "red"}])), Err(422));
        assert_eq!(code(JSON, &json!([{"op": "replace", "path": "/list/2", "value": 3}])), Err(422));
    }

    #[test]
    fn a_failed_test_and_a_wrong_path_are_the_same_answer() {
        assert_eq!(code(JSON, &json!([{"op": "test", "path": "/spec/size", "value": 2}])), Err(422));
        assert_eq!(code(JSON, &json!([{"op": "remove", "path": "/spec/color"}])), Err(422));
    }

    #[test]
    fn a_test_for_null_passes_where_there_is_nothing() {
        let patch = json!([
            {"op": "test", "path": "/spec/color", "value": null},
            {"op": "add", "path": "/spec/color", "value": "red"},
        ]);
        assert_eq!(code(JSON, &patch).unwrap()["spec"], json!({"size": 1, "color": "red"}));
    }

    #[test]
    fn a_merge_patch_removes_what_is_null() {
        assert_eq!(code(MERGE, &json!({"list": null})).unwrap(), json!({"spec": {"size": 1}}));
    }

    #[test]
    fn what_cannot_be_read_is_400_and_other_patch_types_are_415() {
        assert_eq!(code(JSON, &json!({"op": "test"})), Err(400));
        assert_eq!(code(MERGE, &json!([1])), Err(400));
        assert_eq!(code("application/apply-patch+yaml", &json!({})), Err(415));
    }
}
