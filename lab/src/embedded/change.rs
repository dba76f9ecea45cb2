//! What an update makes of an object: what the client may not change is put back, what it may is checked, and a write
//! that changes nothing is no write.

use serde_json::{Value, json};

use super::{object, refusal::Refusal, request::Request};
use crate::faults::Verb;

/// What the server keeps for itself in the metadata.
const SERVERS: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// The object to store in place of `old`, or `None` when nothing would change.
pub(super) fn updated(request: &Request, old: &Value, wanted: Value) -> Result<Option<Value>, Refusal> {
    identity(request, old, &wanted)?;
    version(request, old, &wanted)?;
    let mut new = if request.subresource == "status" {
        status_of(old, &wanted)
    } else {
        deletion(request, old, &wanted)?;
        spec_of(request, old, wanted)
    };
    for field in SERVERS {
        object::set_meta(&mut new, field, old["metadata"][field].clone());
    }
    if !request.kind.namespaced {
        object::set_meta(&mut new, "namespace", Value::Null);
    }
    // The version is the server's too; equal ones leave only what the client changed.
    object::set_meta(&mut new, "resourceVersion", old["metadata"]["resourceVersion"].clone());
    drop_empty(&mut new);
    if new == *old {
        return Ok(None);
    }
    held_by_no_new_finalizer(request, old, &new)?;
    let apart = request.kind.status;
    if request.kind.generation && object::intent(&new, apart) != object::intent(old, apart) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
        object::set_meta(&mut new, "generation", generation.into());
    }
    Ok(Some(new))
}

/// Name, namespace and uid of the object are those of the URL.
fn identity(request: &Request, old: &Value, wanted: &Value) -> Result<(), Refusal> {
    let name = object::meta(wanted, "name");
    if name != request.name {
        let message =
            format!("the name of the object ({name}) does not match the name on the URL ({})", request.name);
        return Err(Refusal::bad_request(message));
    }
    let namespace = object::meta(wanted, "namespace");
    if let Some(expected) = &request.namespace
        && !namespace.is_empty()
        && namespace != expected
    {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, actual) = (object::meta(wanted, "uid"), object::meta(old, "uid"));
    if !uid.is_empty() && uid != actual {
        // A replace says with it which object it means, a patch tries to change it.
        if request.verb == Verb::Patch {
            let why = format!("Invalid value: \"{uid}\": field is immutable");
            return Err(Refusal::invalid(&request.kind, &request.name, "metadata.uid", &why));
        }
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}");
        return Err(Refusal::conflict(&request.kind, &request.name, &why));
    }
    Ok(())
}

/// The version the client read is the one there is.
fn version(request: &Request, old: &Value, wanted: &Value) -> Result<(), Refusal> {
    let given = object::meta(wanted, "resourceVersion");
    if given.is_empty() {
        if request.kind.unconditional_update {
            return Ok(());
        }
        let why = "Invalid value: 0: must be specified for an update";
        return Err(Refusal::invalid(&request.kind, &request.name, "metadata.resourceVersion", why));
    }
    if given == object::meta(old, "resourceVersion") {
        Ok(())
    } else {
        Err(Refusal::modified(&request.kind, &request.name))
    }
}

/// No client can make an object go by writing its time of deletion. (Other times it writes are put back.)
fn deletion(request: &Request, old: &Value, wanted: &Value) -> Result<(), Refusal> {
    let given = object::meta(wanted, "deletionTimestamp");
    if given.is_empty() || object::is_being_deleted(old) {
        return Ok(());
    }
    let why = format!("Invalid value: \"{given}\": field is immutable");
    Err(Refusal::invalid(&request.kind, &request.name, "metadata.deletionTimestamp", &why))
}

/// Through the subresource only the status goes.
fn status_of(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    if let Some(fields) = new.as_object_mut() {
        match wanted.get("status") {
            Some(status) if !status.is_null() => fields.insert("status".into(), status.clone()),
            _ => fields.remove("status"),
        };
    }
    new
}

/// Through the main resource all goes but the status, if that has a subresource.
fn spec_of(request: &Request, old: &Value, mut new: Value) -> Value {
    if request.kind.status
        && let Some(fields) = new.as_object_mut()
    {
        match old.get("status") {
            Some(status) => fields.insert("status".into(), status.clone()),
            None => fields.remove("status"),
        };
    }
    if let Some(namespace) = &request.namespace {
        object::set_meta(&mut new, "namespace", namespace.clone().into());
    }
    new
}

/// Empty lists and maps of the metadata are left out, as the server writes them.
fn drop_empty(object: &mut Value) {
    for field in ["finalizers", "ownerReferences", "labels", "annotations"] {
        let value = &object["metadata"][field];
        if *value == json!([]) || *value == json!({}) || value.is_null() {
            object::set_meta(object, field, Value::Null);
        }
    }
}

fn held_by_no_new_finalizer(request: &Request, old: &Value, new: &Value) -> Result<(), Refusal> {
    if !object::is_being_deleted(old) {
        return Ok(());
    }
    let before = object::finalizers(old);
    let added: Vec<&str> = object::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let why = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    Err(Refusal::invalid(&request.kind, &request.name, "metadata.finalizers", &why))
}
