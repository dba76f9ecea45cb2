//! Garbage collection: dependents go with their last owner, the contents of a namespace with the namespace.
//!
//! The real collector runs a little later, from its own watches; here it has run before the answer is out.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    object,
    record::GARBAGE_COLLECTOR,
    store::{Author, Key, Store},
    verbs,
};
use crate::faults::Verb;

/// Deletes what belonged to an object that is gone, unless another owner is left.
pub(super) fn dependents(store: &mut Store, gone: &Value) {
    let uid = object::meta(gone, "uid").to_string();
    for key in owned_by(store, &uid) {
        orphaned(store, &key);
    }
}

/// Deletes an object whose owners are all gone; if only some are, takes those out of it.
pub(super) fn orphaned(store: &mut Store, key: &Key) {
    let Some(object) = store.get(key) else { return };
    let (there, gone): (Vec<&str>, Vec<&str>) =
        object::owners(&object).into_iter().partition(|uid| exists(store, uid, &key.namespace));
    if gone.is_empty() {
        return;
    }
    if there.is_empty() {
        // A webhook may refuse even the collector; the object then stays, as on a real cluster.
        let _ = verbs::remove(store, &author(Verb::Delete, &key.resource), key, "Background");
    } else {
        disown(store, key, &object, &gone);
    }
}

/// Takes an owner out of its dependents, so that they outlive it.
pub(super) fn orphan(store: &mut Store, owner: &Value) {
    let uid = object::meta(owner, "uid").to_string();
    for key in owned_by(store, &uid) {
        if let Some(object) = store.get(&key) {
            disown(store, &key, &object, &[&uid]);
        }
    }
}

/// Takes owners out of an object.
fn disown(store: &mut Store, key: &Key, object: &Value, owners: &[&str]) {
    let mut kept = object.clone();
    let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let is_one = |reference: &Value| reference["uid"].as_str().is_some_and(|uid| owners.contains(&uid));
    let others: Vec<Value> = references.into_iter().filter(|r| !is_one(r)).collect();
    let others = if others.is_empty() { Value::Null } else { json!(others) };
    object::set_meta(&mut kept, "ownerReferences", others);
    let _ = store.commit(&author(Verb::Patch, &key.resource), key, Some(kept));
}

/// Deletes everything in a namespace.
pub(super) fn namespace(store: &mut Store, namespace: &str) {
    let inside: Vec<Key> =
        store.everything().map(|(k, _)| k).filter(|k| k.namespace == namespace).cloned().collect();
    for key in inside {
        let _ = verbs::remove(store, &author(Verb::Delete, &key.resource), &key, "Background");
    }
}

fn owned_by(store: &Store, uid: &str) -> Vec<Key> {
    let owned = |o: &Arc<Value>| object::owners(o).contains(&uid);
    store.everything().filter(|(_, o)| owned(o)).map(|(k, _)| k.clone()).collect()
}

/// Whether an owner is there: cluster-scoped, or in the namespace of the dependent.
fn exists(store: &Store, uid: &str, namespace: &str) -> bool {
    store
        .everything()
        .any(|(k, o)| object::meta(o, "uid") == uid && (k.namespace.is_empty() || k.namespace == namespace))
}

fn author(verb: Verb, resource: &str) -> Author {
    let plural = resource.split('.').next().unwrap_or_default();
    Author { user: GARBAGE_COLLECTOR.into(), verb, resource: plural.into() }
}
