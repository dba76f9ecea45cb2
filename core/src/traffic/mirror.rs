//! Copies of requests: the entry of ours in a route's `mirrors`, and the single `mirror` of its owner, which Istio does
//! not take beside it.
//!
//! Nothing in an entry could say whose it is, so the annotation [`MIRRORS`] does: an object with, for each Rollout and
//! route, the destination of ours and the owner's fields that had to give way.

use serde_json::{Map, Value, json};

use super::{
    Selection,
    error::{RouteError, Trouble},
    own,
    select::Place,
};
use crate::api::{MIRRORS, Percent};

/// The owner's single mirror, and by which of these fields its share is given.
const SINGLE: [&str; 4] = ["mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"];

/// Copies `percent` of the requests of the route `key` to `destination`, and notes that.
pub(super) fn put_on(
    virtual_service: &mut Value,
    selection: &Selection,
    (index, key): (usize, &str),
    destination: &Value,
    percent: Percent,
) -> Result<(), RouteError> {
    let place = Place { selection, path: format!("spec.http[{index}]") };
    let Some(route) = virtual_service.pointer_mut(&format!("/spec/http/{index}")) else { return Ok(()) };
    let note = add(&place, route, destination, percent)?;
    let mut notes = read(virtual_service, selection)?;
    let of_rollout = notes.entry(selection.rollout.clone()).or_insert_with(|| json!({}));
    if let Some(of_rollout) = of_rollout.as_object_mut() {
        of_rollout.insert(key.to_owned(), note);
    }
    write(virtual_service, selection, notes)
}

/// Copies `percent` of the requests of a route to `destination`, and says what it takes to undo that.
pub(super) fn add(
    place: &Place<'_>,
    route: &mut Value,
    destination: &Value,
    percent: Percent,
) -> Result<Value, RouteError> {
    let route = place.object_mut(route)?;
    let mut note = json!({ "destination": destination });
    if let Some(single) = single(route) {
        note["was"] = single;
    }
    let mirrors = match route.get("mirrors") {
        None => Vec::new(),
        Some(Value::Null) => {
            note["null"] = true.into();
            Vec::new()
        }
        Some(Value::Array(mirrors)) => {
            // Nobody could tell an empty list from none afterwards.
            if mirrors.is_empty() {
                note["empty"] = true.into();
            }
            mirrors.clone()
        }
        other => return Err(place.at("mirrors").malformed("a list of mirrors", other)),
    };
    let moved = note.get("was").map(as_one_of_several);
    let ours = json!({ "destination": destination, "percentage": { "value": percent } });
    let all: Vec<Value> = moved.into_iter().chain(mirrors).chain([ours]).collect();
    for field in SINGLE {
        route.remove(field);
    }
    route.insert("mirrors".to_owned(), all.into());
    Ok(note)
}

/// Takes our entries off all routes and puts back what gave way to them, as far as it is still there.
///
/// # Errors
/// The annotation cannot be read. It is taken away then.
pub(super) fn take_off(virtual_service: &mut Value, selection: &Selection) -> Result<(), RouteError> {
    let mut notes = match read(virtual_service, selection) {
        Ok(notes) if notes.is_empty() => return Ok(()),
        Ok(notes) => notes,
        Err(error) => {
            write(virtual_service, selection, Map::new())?;
            return Err(error);
        }
    };
    let Some(Value::Object(of_rollout)) = notes.remove(&selection.rollout) else { return Ok(()) };
    if let Some(http) = virtual_service.pointer_mut("/spec/http").and_then(Value::as_array_mut) {
        let keys = own::keys(http);
        for (key, note) in &of_rollout {
            // The owner may have given the route another name or place meanwhile.
            let named = keys.iter().position(|known| known == key);
            let is_there = |index: &usize| {
                let mirrors = http[*index].get("mirrors").and_then(Value::as_array);
                mirrors.is_some_and(|mirrors| position(mirrors, &note["destination"]).is_some())
            };
            let found = named.filter(is_there).or_else(|| (0..http.len()).find(is_there));
            if let Some(route) = found.and_then(|index| http[index].as_object_mut()) {
                restore(route, note);
            }
        }
    }
    write(virtual_service, selection, notes)
}

/// Whether there is a note of what the Rollout of the selection put on the object, and it can be read.
pub(super) fn is_noted(virtual_service: &Value, selection: &Selection) -> bool {
    read(virtual_service, selection).is_ok_and(|notes| notes.contains_key(&selection.rollout))
}

/// Takes the last entry of a route's `mirrors` off of which `is_ours` holds.
pub(super) fn take_one(route: &mut Value, is_ours: impl Fn(&Value) -> bool) {
    let Some(mirrors) = route.get_mut("mirrors").and_then(Value::as_array_mut) else { return };
    let Some(at) = mirrors.iter().rposition(is_ours) else { return };
    mirrors.remove(at);
    if mirrors.is_empty()
        && let Some(fields) = route.as_object_mut()
    {
        fields.remove("mirrors");
    }
}

/// The share of the requests of each route that is copied to a destination of which `is` holds.
pub(super) fn percentages(route: &Value, is: impl Fn(&Value) -> bool) -> f64 {
    let mirrors = route.get("mirrors").and_then(Value::as_array).into_iter().flatten();
    let ours = mirrors.filter(|mirror| is(&mirror["destination"]));
    ours.map(|mirror| mirror["percentage"]["value"].as_f64().unwrap_or(100.0)).sum()
}

/// The owner's fields for a single mirror.
fn single(route: &Map<String, Value>) -> Option<Value> {
    route.get("mirror").filter(|mirror| mirror.is_object())?;
    let fields = SINGLE.iter().filter_map(|field| Some(((*field).to_owned(), route.get(*field)?.clone())));
    Some(Value::Object(fields.collect()))
}

/// The same as an entry of `mirrors`. A share that is not given is all in both.
fn as_one_of_several(single: &Value) -> Value {
    let mut entry = json!({ "destination": single["mirror"] });
    let deprecated = [&single["mirrorPercent"], &single["mirror_percent"]];
    if single["mirrorPercentage"].is_object() {
        entry["percentage"] = single["mirrorPercentage"].clone();
    } else if let Some(percent) = deprecated.into_iter().find(|percent| percent.is_number()) {
        entry["percentage"] = json!({ "value": percent });
    }
    entry
}

fn position(mirrors: &[Value], destination: &Value) -> Option<usize> {
    // The last: the owner may copy to the same destination, and ours was added behind.
    mirrors.iter().rposition(|mirror| mirror["destination"] == *destination)
}

fn restore(route: &mut Map<String, Value>, note: &Value) {
    // Who has put a single mirror there again meanwhile has said what they want.
    let is_there_again = route.contains_key("mirror");
    let Some(mirrors) = route.get_mut("mirrors").and_then(Value::as_array_mut) else { return };
    if let Some(at) = position(mirrors, &note["destination"]) {
        mirrors.remove(at);
    }
    let moved = note.get("was").map(as_one_of_several);
    let moved = moved.and_then(|moved| mirrors.iter().position(|mirror| *mirror == moved));
    // Beside others that somebody has put there it stays one of several: Istio takes no single mirror beside them.
    let moved = moved.filter(|_| is_there_again || mirrors.len() == 1);
    if let Some(moved) = moved {
        mirrors.remove(moved);
    }
    let none_left = mirrors.is_empty();
    if none_left && note["null"] == true {
        route.insert("mirrors".to_owned(), Value::Null);
    } else if none_left && note["empty"] != true {
        route.remove("mirrors");
    }
    let was = note["was"].as_object().filter(|_| moved.is_some() && !is_there_again);
    for (field, value) in was.into_iter().flatten() {
        route.insert(field.clone(), value.clone());
    }
}

fn read(virtual_service: &Value, selection: &Selection) -> Result<Map<String, Value>, RouteError> {
    let annotations = virtual_service.pointer("/metadata/annotations");
    let unreadable = |found: String| {
        let place = Place { selection, path: format!("metadata.annotations[{MIRRORS}]") };
        place.trouble(Trouble::UnreadableMirrors { found })
    };
    match annotations.and_then(|annotations| annotations.get(MIRRORS)) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| unreadable(format!("{text:?} ({error})")))
        }
        Some(other) => Err(unreadable(other.to_string())),
    }
}

fn write(
    virtual_service: &mut Value,
    selection: &Selection,
    notes: Map<String, Value>,
) -> Result<(), RouteError> {
    let place = Place { selection, path: "metadata".to_owned() };
    let Some(metadata) = virtual_service.get_mut("metadata") else {
        return Err(place.malformed("an object", None));
    };
    let metadata = place.object_mut(metadata)?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() && !notes.is_empty() {
        *annotations = json!({});
    }
    let Some(fields) = annotations.as_object_mut() else { return Ok(()) };
    if notes.is_empty() {
        // The map stays: more may be in it than whoever calls has read.
        fields.remove(MIRRORS);
    } else {
        fields.insert(MIRRORS.to_owned(), Value::Object(notes).to_string().into());
    }
    Ok(())
}
