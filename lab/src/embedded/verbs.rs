//! What each verb does to the store. Everything here runs under the store's lock and waits for nothing.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    change, collect, crd, object, patch,
    refusal::Refusal,
    request::Request,
    selector::Selection,
    store::{Author, Key, Store},
};
use crate::faults::Verb;

/// A code and the JSON that goes with it.
pub(super) type Answer = Result<(StatusCode, Value), Refusal>;

/// Does what was asked. Watches are not done here, they are streams.
pub(super) fn perform(store: &mut Store, user: &str, request: &Request, body: &[u8]) -> Answer {
    let author = Author::of(user, request);
    match request.verb {
        Verb::Get => Ok((StatusCode::OK, render(request, &*existing(store, request)?))),
        Verb::List | Verb::Watch => list(store, request),
        Verb::Create => create(store, &author, request, body),
        Verb::Update | Verb::Patch => update(store, &author, request, body),
        Verb::Delete => delete(store, &author, request, body),
        Verb::DeleteCollection => delete_collection(store, &author, request, body),
    }
}

pub(super) fn key(request: &Request, name: &str) -> Key {
    Key {
        resource: request.kind.resource(),
        namespace: request.namespace.clone().unwrap_or_default(),
        name: name.into(),
    }
}

fn existing(store: &Store, request: &Request) -> Result<Arc<Value>, Refusal> {
    store.get(&key(request, &request.name)).ok_or_else(|| Refusal::not_found(&request.kind, &request.name))
}

/// The object in the version and the form that the request asked for.
pub(super) fn render(request: &Request, object: &Value) -> Value {
    let mut shown = object.clone();
    if request.metadata_only {
        let metadata = shown["metadata"].take();
        return json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
    }
    shown["apiVersion"] = request.kind.api_version(&request.version).into();
    shown
}

pub(super) fn selection(request: &Request) -> Result<Selection, Refusal> {
    Selection::parse(&request.kind, request.parameter("labelSelector"), request.parameter("fieldSelector"))
}

fn list(store: &Store, request: &Request) -> Answer {
    let all = store.all(&request.kind, request.namespace.as_deref()).map(|(_, object)| object.clone());
    list_of(request, all, store.version())
}

/// The list as it was at an earlier version.
pub(super) fn list_as_of(store: &Store, request: &Request, version: u64) -> Answer {
    let all = store.all_as_of(&request.kind, request.namespace.as_deref(), version);
    list_of(request, all.into_iter(), version)
}

fn list_of(request: &Request, all: impl Iterator<Item = Arc<Value>>, version: u64) -> Answer {
    let selection = selection(request)?;
    let items: Vec<Value> = all.filter(|o| selection.matches(o)).map(|o| render(request, &o)).collect();
    let (api_version, kind) = if request.metadata_only {
        ("meta.k8s.io/v1".into(), "PartialObjectMetadataList".into())
    } else {
        (request.kind.api_version(&request.version), format!("{}List", request.kind.kind))
    };
    let list = json!({
        "kind": kind,
        "apiVersion": api_version,
        "metadata": {"resourceVersion": version.to_string()},
        "items": items,
    });
    Ok((StatusCode::OK, list))
}

/// Reads a body as an object of the kind in the URL.
fn decode(request: &Request, body: &[u8]) -> Result<Value, Refusal> {
    let object: Value = serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("the object provided is unrecognized: {e}")))?;
    if !object.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized (must be an object)"));
    }
    of_this_kind(request, object)
}

/// Checks that the object is what the URL says, and brings it to the storage version.
fn of_this_kind(request: &Request, mut object: Value) -> Result<Value, Refusal> {
    let expected = request.kind.api_version(&request.version);
    let given = object["apiVersion"].as_str().unwrap_or_default();
    if given != expected {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        )));
    }
    let given = object["kind"].as_str().unwrap_or_default();
    if given != request.kind.kind {
        return Err(Refusal::another_kind(&request.kind, given, object::meta(&object, "name")));
    }
    if let Some(stored) = request.kind.versions.first() {
        object["apiVersion"] = request.kind.api_version(stored).into();
    }
    Ok(object)
}

/// Checks the namespace of the body against the URL's, and fills it in.
fn in_this_namespace(request: &Request, object: &mut Value) -> Result<(), Refusal> {
    let Some(namespace) = &request.namespace else {
        object::set_meta(object, "namespace", Value::Null);
        return Ok(());
    };
    let given = object::meta(object, "namespace");
    if !given.is_empty() && given != namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object::set_meta(object, "namespace", namespace.clone().into());
    Ok(())
}

fn create(store: &mut Store, author: &Author, request: &Request, body: &[u8]) -> Answer {
    let kind = &request.kind;
    let mut object = decode(request, body)?;
    in_this_namespace(request, &mut object)?;
    if let Some(namespace) = &request.namespace {
        namespace_takes_objects(store, request, namespace)?;
    }
    if !object::meta(&object, "resourceVersion").is_empty() {
        return Err(Refusal::new(
            500,
            "InternalError",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let prefix = object::meta(&object, "generateName").to_string();
    if object::meta(&object, "name").is_empty() && !prefix.is_empty() {
        let name = format!("{prefix}{}", store.next_suffix());
        object::set_meta(&mut object, "name", name.into());
    }
    let name = object::meta(&object, "name").to_string();
    if name.is_empty() {
        return Err(Refusal::invalid(
            kind,
            "",
            "metadata.name",
            "Required value: name or generateName is required",
        ));
    }
    if !object::is_dns_subdomain(&name) {
        let why = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case \
             alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        );
        return Err(Refusal::invalid(kind, &name, "metadata.name", &why));
    }
    let key = key(request, &name);
    if store.get(&key).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    if kind.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        object::set_meta(&mut object, field, Value::Null);
    }
    let uid = store.next_uid();
    object::set_meta(&mut object, "uid", uid.into());
    let now = store.timestamp();
    object::set_meta(&mut object, "creationTimestamp", now);
    if kind.generation {
        object::set_meta(&mut object, "generation", 1.into());
    }
    crd::admit(&mut object, &key, store);
    if request.dry_run() {
        return Ok((StatusCode::CREATED, render(request, &object)));
    }
    let created = store.commit(author, &key, Some(object))?;
    crd::changed(store, &key);
    collect::orphaned(store, &key);
    Ok((StatusCode::CREATED, render(request, &created)))
}

/// A namespace that is missing or going takes no new objects.
fn namespace_takes_objects(store: &Store, request: &Request, namespace: &str) -> Result<(), Refusal> {
    let Some(kind) = store.kind("", "v1", "namespaces") else { return Ok(()) };
    let key = Key { resource: kind.resource(), namespace: String::new(), name: namespace.into() };
    match store.get(&key) {
        None => Err(Refusal::not_found(&kind, namespace)),
        Some(object) if object::is_being_deleted(&object) => {
            let message = format!(
                "{} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
                request.kind.resource()
            );
            Err(Refusal::new(403, "Forbidden", message))
        }
        Some(_) => Ok(()),
    }
}

fn update(store: &mut Store, author: &Author, request: &Request, body: &[u8]) -> Answer {
    let old = existing(store, request)?;
    let wanted = match request.verb {
        Verb::Patch => {
            let shown = render_whole(request, &old);
            let patched = patch::apply(&request.content_type, body, &shown)?;
            of_this_kind(request, patched)?
        }
        _ => decode(request, body)?,
    };
    let new = change::updated(request, &old, wanted)?;
    let key = key(request, &request.name);
    let Some(new) = new else { return Ok((StatusCode::OK, render(request, &old))) };
    if request.dry_run() {
        return Ok((StatusCode::OK, render(request, &new)));
    }
    let gone = object::is_being_deleted(&new) && object::finalizers(&new).is_empty();
    let left = store.commit(author, &key, (!gone).then_some(new))?;
    crd::changed(store, &key);
    if gone {
        collect::dependents(store, &left);
    } else {
        collect::orphaned(store, &key);
    }
    Ok((StatusCode::OK, render(request, &left)))
}

/// As `render`, but whole whatever the answer is to look like: patches apply to all of the object.
fn render_whole(request: &Request, object: &Value) -> Value {
    let mut shown = object.clone();
    shown["apiVersion"] = request.kind.api_version(&request.version).into();
    shown
}

/// `DeleteOptions`, from the body.
fn options(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("error decoding delete options: {e}")))
}

fn delete(store: &mut Store, author: &Author, request: &Request, body: &[u8]) -> Answer {
    let options = options(body)?;
    let old = existing(store, request)?;
    let kind = &request.kind;
    let conditions = options.get("preconditions").cloned().unwrap_or_default();
    for (field, said) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        if let Some(wanted) = conditions[field].as_str() {
            let actual = object::meta(&old, field);
            if wanted != actual {
                let why = format!(
                    "Precondition failed: {said} in precondition: {wanted}, {said} in object meta: {actual}"
                );
                return Err(Refusal::conflict(kind, &request.name, &why));
            }
        }
    }
    let policy = options.get("propagationPolicy").and_then(Value::as_str).unwrap_or("Background");
    let dry = request.dry_run() || options.get("dryRun").is_some_and(|d| d == &json!(["All"]));
    if dry {
        return Ok((StatusCode::OK, success(request, &old)));
    }
    let left = remove(store, author, &key(request, &request.name), policy)?;
    match left {
        Some(waiting) => Ok((StatusCode::OK, render(request, &waiting))),
        None => Ok((StatusCode::OK, success(request, &old))),
    }
}

/// Deletes an object, or marks it when finalizers hold it, and answers what is then left.
pub(super) fn remove(
    store: &mut Store,
    author: &Author,
    key: &Key,
    policy: &str,
) -> Result<Option<Arc<Value>>, Refusal> {
    let Some(old) = store.get(key) else { return Ok(None) };
    if policy == "Orphan" {
        collect::orphan(store, &old);
    }
    if key.resource == "namespaces" && !object::is_being_deleted(&old) {
        collect::namespace(store, &key.name);
    }
    if object::finalizers(&old).is_empty() {
        let left = store.commit(author, key, None)?;
        crd::changed(store, key);
        collect::dependents(store, &left);
        return Ok(None);
    }
    if object::is_being_deleted(&old) {
        return Ok(Some(old));
    }
    let mut marked = (*old).clone();
    let now = store.timestamp();
    object::set_meta(&mut marked, "deletionTimestamp", now);
    object::set_meta(&mut marked, "deletionGracePeriodSeconds", 0.into());
    if let Some(generation) = marked["metadata"]["generation"].as_i64() {
        object::set_meta(&mut marked, "generation", (generation + 1).into());
    }
    store.commit(author, key, Some(marked)).map(Some)
}

/// What a delete answers when the object is gone.
fn success(request: &Request, object: &Value) -> Value {
    let details = json!({
        "name": request.name, "group": request.kind.group, "kind": request.kind.plural,
        "uid": object::meta(object, "uid"),
    });
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn delete_collection(store: &mut Store, author: &Author, request: &Request, body: &[u8]) -> Answer {
    let selection = selection(request)?;
    let options = options(body)?;
    let policy = options.get("propagationPolicy").and_then(Value::as_str).unwrap_or("Background");
    let chosen: Vec<(Key, Arc<Value>)> = store
        .all(&request.kind, request.namespace.as_deref())
        .filter(|(_, o)| selection.matches(o))
        .map(|(k, o)| (k.clone(), o.clone()))
        .collect();
    for (key, _) in &chosen {
        remove(store, author, key, policy)?;
    }
    let list = json!({
        "kind": format!("{}List", request.kind.kind),
        "apiVersion": request.kind.api_version(&request.version),
        "metadata": {"resourceVersion": store.version().to_string()},
        "items": chosen.iter().map(|(_, o)| render(request, o)).collect::<Vec<_>>(),
    });
    Ok((StatusCode::OK, list))
}
