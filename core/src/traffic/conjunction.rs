//! Requests that meet one of a route's own matches and one of a step's.

use serde_json::{Map, Value, json};

use super::{
    error::{RouteError, Trouble},
    select::Place,
};
use crate::plan::PlannedMatch;

/// The matches of a route, each together with each of `matches`: what both let through.
///
/// # Errors
/// A route and a step that both say something about the same header, parameter or path: Istio has no way to ask for both.
/// And a step that asks for nothing that the route does not ask for already: its copy would take all of the route.
pub(super) fn of_route(
    place: &Place<'_>,
    route: &Map<String, Value>,
    matches: &[PlannedMatch],
) -> Result<Vec<Value>, RouteError> {
    let steps = matches.iter().map(|one| (one.path.as_str(), in_istios_words(one)));
    let steps: Vec<(&str, Map<String, Value>)> = steps.collect();
    let combined = combined(place, route, &steps)?;
    match taking_all(&own_matches(place, route)?, &steps) {
        Some(step) => Err(place.at("match").trouble(Trouble::TakesAll { step })),
        None => Ok(combined),
    }
}

/// The matches of a route, each together with a condition on a header.
///
/// # Errors
/// A route that says something about that header.
pub(super) fn with_header(
    place: &Place<'_>,
    route: &Map<String, Value>,
    path: &str,
    header: &str,
    condition: &Value,
) -> Result<Vec<Value>, RouteError> {
    let mut more = Map::new();
    more.insert("headers".to_owned(), json!({ header: condition }));
    combined(place, route, &[(path, more)])
}

fn combined(
    place: &Place<'_>,
    route: &Map<String, Value>,
    steps: &[(&str, Map<String, Value>)],
) -> Result<Vec<Value>, RouteError> {
    let own = own_matches(place, route)?;
    let rewrites = route.get("rewrite").is_some_and(|rewrite| !rewrite.is_null());
    let mut all = Vec::new();
    for (index, own) in own.iter().enumerate() {
        let place = place.at(&format!("match[{index}]"));
        for (path, step) in steps {
            all.push(Value::Object(both(&place, own, path, step, rewrites)?));
        }
    }
    Ok(all)
}

/// What a route asks for itself: any one of these. One without a match asks for nothing.
fn own_matches(place: &Place<'_>, route: &Map<String, Value>) -> Result<Vec<Map<String, Value>>, RouteError> {
    let own = match route.get("match") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(own)) => own,
        other => return Err(place.at("match").malformed("a list of matches", other)),
    };
    if own.is_empty() {
        return Ok(vec![Map::new()]);
    }
    let own = own.iter().enumerate();
    own.map(|(index, one)| place.at(&format!("match[{index}]")).object(one).cloned()).collect()
}

/// The paths of the step's matches that every request of the routes meets one of, where it is certain: whatever way a
/// request comes into one of them, such a match asks it for nothing more.
pub(crate) fn takes_all<'v>(
    routes: impl Iterator<Item = &'v Value>,
    matches: &[PlannedMatch],
) -> Option<String> {
    let of_route = |route: &Value| match route["match"].as_array().map(Vec::as_slice) {
        None | Some([]) => vec![Map::new()],
        Some(own) => own.iter().map(|one| one.as_object().cloned().unwrap_or_default()).collect(),
    };
    let own: Vec<Map<String, Value>> = routes.flat_map(of_route).collect();
    let steps = matches.iter().map(|one| (one.path.as_str(), in_istios_words(one)));
    taking_all(&own, &steps.collect::<Vec<_>>())
}

fn taking_all(own: &[Map<String, Value>], steps: &[(&str, Map<String, Value>)]) -> Option<String> {
    let mut paths: Vec<&str> = Vec::new();
    for own in own {
        let (path, _) = steps.iter().find(|(_, step)| asks_no_more(step, own))?;
        if !paths.contains(path) {
            paths.push(path);
        }
    }
    Some(paths.join(", ")).filter(|paths| !paths.is_empty())
}

/// Whether it is certain that every request which meets a route's own match meets the step's.
fn asks_no_more(step: &Map<String, Value>, own: &Map<String, Value>) -> bool {
    step.iter().all(|(field, wanted)| {
        let there = own.get(field).unwrap_or(&Value::Null);
        if field == "uri" {
            return is_any_path(wanted) || is_same(wanted, there);
        }
        let known = |name: &String, condition: &Value| {
            let mut fields = there.as_object().into_iter().flatten();
            fields.any(|(known, there)| is_same_name(field, known, name) && is_same(condition, there))
        };
        wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(name, condition)| known(name, condition)))
    })
}

/// Whether every path meets it, as far as it can be told without a doubt.
fn is_any_path(uri: &Value) -> bool {
    uri["prefix"] == "/" || [".*", "/.*"].into_iter().any(|all| uri["regex"] == all)
}

/// Whether two conditions on a text are one, whatever either leaves out or has as null.
fn is_same(one: &Value, other: &Value) -> bool {
    let kinds = ["exact", "prefix", "regex"];
    kinds.iter().any(|kind| one[kind].is_string())
        && kinds.iter().all(|kind| one[kind].as_str() == other[kind].as_str())
}

/// Whether two names in a field of a match are those of one thing.
fn is_same_name(field: &str, one: &str, other: &str) -> bool {
    match field {
        "headers" => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

/// One match of a route and one of a step, both of which a request must meet.
fn both(
    place: &Place<'_>,
    own: &Map<String, Value>,
    path: &str,
    step: &Map<String, Value>,
    rewrites: bool,
) -> Result<Map<String, Value>, RouteError> {
    let mut both = own.clone();
    for (field, wanted) in step {
        let there = own.get(field).filter(|there| !there.is_null());
        let (Some(there), Some(wanted_fields)) = (there, wanted.as_object()) else {
            both.insert(field.clone(), wanted.clone());
            continue;
        };
        if field == "uri" {
            // What is rewritten depends on what was matched.
            let fits =
                !rewrites && own.get("ignoreUriCase") != Some(&Value::Bool(true)) && is_within(wanted, there);
            if !is_same(there, wanted) && !fits {
                return Err(place.at("uri").conflict("the uri", &format!("{path}.uri")));
            }
            both.insert(field.clone(), wanted.clone());
            continue;
        }
        let mut fields = place.at(field).object(there)?.clone();
        for (name, condition) in wanted_fields {
            if let Some((known, there)) = fields.iter().find(|(known, _)| is_same_name(field, known, name)) {
                if there == condition || is_same(there, condition) {
                    continue;
                }
                let what = if field == "headers" { "header" } else { "query parameter" };
                return Err(place
                    .at(&format!("{field}[{known}]"))
                    .conflict(&format!("the {what} {name}"), &format!("{path}.{field}[{name}]")));
            }
            fields.insert(name.clone(), condition.clone());
        }
        both.insert(field.clone(), Value::Object(fields));
    }
    Ok(both)
}

/// Whether every path that meets the step's condition meets the route's as well.
fn is_within(step: &Value, route: &Value) -> bool {
    let Some(prefix) = route["prefix"].as_str() else { return false };
    let begins = ["exact", "prefix"].into_iter().find_map(|kind| step[kind].as_str());
    // Every path begins with a slash.
    begins.map_or(prefix == "/", |begin| begin.starts_with(prefix))
}

/// A step's match as Istio writes it.
fn in_istios_words(one: &PlannedMatch) -> Map<String, Value> {
    // It is the same but for what is left out.
    match serde_json::to_value(&one.condition) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}
