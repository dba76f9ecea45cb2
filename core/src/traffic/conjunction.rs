//! Requests that meet one of a route's own matches and one of a step's.

use serde_json::{Map, Value, json};

use super::{error::RouteError, select::Place};
use crate::plan::PlannedMatch;

/// The matches of a route, each together with each of `matches`: what both let through.
///
/// # Errors
/// A route and a step that both say something about the same header, parameter or path: Istio has no way to ask for both.
pub(super) fn of_route(
    place: &Place<'_>,
    route: &Map<String, Value>,
    matches: &[PlannedMatch],
) -> Result<Vec<Value>, RouteError> {
    let steps = matches.iter().map(|one| (one.path.as_str(), in_istios_words(one)));
    let steps: Vec<(&str, Map<String, Value>)> = steps.collect();
    combined(place, route, &steps)
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
    let own = match route.get("match") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(own)) => own.clone(),
        other => return Err(place.at("match").malformed("a list of matches", other)),
    };
    if own.is_empty() {
        return Ok(steps.iter().map(|(_, step)| Value::Object(step.clone())).collect());
    }
    let rewrites = route.get("rewrite").is_some_and(|rewrite| !rewrite.is_null());
    let mut all = Vec::new();
    for (index, own) in own.iter().enumerate() {
        let place = place.at(&format!("match[{index}]"));
        let own = place.object(own)?;
        for (path, step) in steps {
            all.push(Value::Object(both(&place, own, path, step, rewrites)?));
        }
    }
    Ok(all)
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
            if there != wanted && !fits {
                return Err(place.at("uri").conflict("the uri", &format!("{path}.uri")));
            }
            both.insert(field.clone(), wanted.clone());
            continue;
        }
        let mut fields = place.at(field).object(there)?.clone();
        for (name, condition) in wanted_fields {
            let same = |(known, _): &(&String, &Value)| match field.as_str() {
                "headers" => known.eq_ignore_ascii_case(name),
                _ => *known == name,
            };
            if let Some((known, there)) = fields.iter().find(same) {
                if there == condition {
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
