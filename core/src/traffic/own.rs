//! What Sluice puts on a `VirtualService` beside weights: http routes of its own, copies of requests, cookies.
//!
//! All of it is taken off before each edit and put on anew, so that an edit depends on the object as its owner has it
//! and on nothing that was there before. Each has the mark of its Rollout: routes in their name, cookies in their
//! value, mirrors in the annotation [`MIRRORS`].

use serde_json::{Map, Value, json};

use super::{
    Selection,
    error::RouteError,
    mirror,
    select::{Place, name_of},
    setting::Cookie,
};
use crate::text::digest;

/// How the names of own routes begin. `namespace/name` of the Rollout follows, and after another `/` which route it stands
/// before. Neither name can have a `/`.
const OWN: &str = "sluice-";
const COOKIE: &str = "set-cookie";

/// The name of the route that `rollout` (`namespace/name`) puts before the one that is called `key`.
pub(super) fn name(rollout: &str, key: &str) -> String {
    format!("{OWN}{rollout}/{key}")
}

/// `namespace/name` of the Rollout that put the route there, if one did.
pub(super) fn owner(route: &Value) -> Option<&str> {
    let rest = name_of(route)?.strip_prefix(OWN)?;
    let (namespace, more) = rest.split_once('/')?;
    let (name, _) = more.split_once('/')?;
    rest.get(..namespace.len() + 1 + name.len())
}

/// Whether `rollout` (`namespace/name`) put the route there.
pub(crate) fn is_own(route: &Value, rollout: &str) -> bool {
    owner(route) == Some(rollout)
}

/// What the routes of a `VirtualService` are called: by their names, and by their place where they have none or not
/// one of their own. Own routes have no place.
pub(super) fn keys(http: &[Value]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (index, route) in http.iter().enumerate() {
        let name = name_of(route).unwrap_or_default();
        let taken = name.is_empty() || keys.iter().any(|key| key == name);
        keys.push(if taken { format!("{name}#{index}") } else { name.to_owned() });
    }
    keys
}

/// The object without anything that the Rollout of the selection put on it beside weights.
///
/// # Errors
/// The annotation with the mirrors cannot be read.
pub(super) fn without(virtual_service: &Value, selection: &Selection) -> (Value, Result<(), RouteError>) {
    let mut plain = virtual_service.clone();
    if selection.http.is_empty() && !selection.is_every_http() {
        return (plain, Ok(()));
    }
    if let Some(http) = plain.pointer_mut("/spec/http").and_then(Value::as_array_mut) {
        http.retain(|route| !is_own(route, &selection.rollout));
        for route in http {
            for entry in route.get_mut("route").and_then(Value::as_array_mut).into_iter().flatten() {
                remove_cookie(entry, &selection.rollout);
            }
        }
    }
    let outcome = mirror::take_off(&mut plain, selection);
    (plain, outcome)
}

// === cookies ===

/// What a cookie says of one arm: whose it is, which arm, and of which revision and step.
fn cookie_value(rollout: &str, cookie: &Cookie, arm: &str) -> String {
    format!("{}.{arm}.{}", digest(rollout), cookie.token)
}

/// A condition on the `cookie` header that a client of this arm meets.
pub(super) fn has_cookie(rollout: &str, cookie: &Cookie, arm: &str) -> Value {
    let [name, value] =
        [&cookie.name, &cookie_value(rollout, cookie, arm)].map(|text| text.replace('.', "\\."));
    json!({ "regex": format!("(.*; ?)?{name}={value}(;.*)?") })
}

/// Lets a destination set the cookie of its arm. The owner's own response header of that name stays: Envoy compares
/// names without case, a map does not.
///
/// # Errors
/// The owner adds cookies under both spellings, or the place is no object.
pub(super) fn set_cookie(
    place: &Place<'_>,
    entry: &mut Value,
    rollout: &str,
    (cookie, path): (&Cookie, &str),
    arm: &str,
) -> Result<(), RouteError> {
    let mut fields = place.object_mut(entry)?;
    for field in ["headers", "response", "add"] {
        let child = fields.entry(field).or_insert(Value::Null);
        if child.is_null() {
            *child = json!({});
        }
        fields = place.at("headers.response").object_mut(child)?;
    }
    let Some(spelling) = [COOKIE, "Set-Cookie"].into_iter().find(|spelling| !fields.contains_key(*spelling))
    else {
        return Err(place.at("headers.response.add").conflict(COOKIE, path));
    };
    let age = cookie.ttl.map_or_else(String::new, |ttl| format!("; Max-Age={}", ttl.as_secs()));
    let value = cookie_value(rollout, cookie, arm);
    fields.insert(
        spelling.to_owned(),
        format!("{}={value}; Path=/{age}; HttpOnly; SameSite=Lax", cookie.name).into(),
    );
    Ok(())
}

fn remove_cookie(entry: &mut Value, rollout: &str) {
    let mark = format!("={}.", digest(rollout));
    let is_ours = |name: &str, value: &Value| {
        name.eq_ignore_ascii_case(COOKIE) && value.as_str().is_some_and(|value| value.contains(&mark))
    };
    let headers = |entry: &mut Value| -> Option<bool> {
        let added = entry.pointer_mut("/headers/response/add")?.as_object_mut()?;
        let before = added.len();
        added.retain(|name, value| !is_ours(name, value));
        Some(added.len() < before && added.is_empty())
    };
    if headers(entry) != Some(true) {
        return;
    }
    // What was made for the cookie alone goes with it.
    for (holder, field) in [("/headers/response", "add"), ("/headers", "response"), ("", "headers")] {
        let Some(fields) = entry.pointer_mut(holder).and_then(Value::as_object_mut) else { return };
        if fields.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
            fields.remove(field);
        }
    }
}
