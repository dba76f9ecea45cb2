//! Whether both releases ended as they should: read off the stored VirtualService, every version of it, and off what
//! the gateway delivered. The controller and its status are not asked, and none of its code is used.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sluice_lab::embedded::Write;

use crate::diff::written;

/// The route that Sluice moves.
const ROUTE: &str = "primary";

/// One version of the VirtualService.
#[derive(Clone, Debug)]
pub struct Version {
    /// When it was written.
    pub at: DateTime<Utc>,
    /// The whole object.
    pub object: Arc<Value>,
    /// The destinations of the route with their weights.
    pub route: Vec<(String, u64)>,
}

/// Something that should be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is so.
    pub holds: bool,
    /// What, with the numbers that were found.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(holds: bool, text: impl Into<String>) -> Self {
        Self { holds, text: text.into() }
    }
}

/// All versions of the VirtualService, oldest first.
pub fn versions(history: &[Write]) -> Vec<Version> {
    let of_it = history.iter().filter(|write| write.kind == "VirtualService");
    let version = |write: &Write| {
        let object = write.after.clone()?;
        Some(Version { at: write.at, route: route(&object), object })
    };
    of_it.filter_map(version).collect()
}

/// The destinations of the route that Sluice moves, with their weights.
pub fn route(object: &Value) -> Vec<(String, u64)> {
    let http = object["spec"]["http"].as_array().into_iter().flatten();
    let entries = http.filter(|http| http["name"] == ROUTE).filter_map(|http| http["route"].as_array());
    let entry = |entry: &Value| {
        let host = entry["destination"]["host"].as_str().unwrap_or_default().to_owned();
        (host, entry["weight"].as_u64().unwrap_or_default())
    };
    entries.flatten().map(entry).collect()
}

/// The weight of a Service; 0 where it is not on the route.
pub fn weight(route: &[(String, u64)], service: &str) -> u64 {
    route.iter().filter(|(host, _)| host == service).map(|(_, weight)| weight).sum()
}

/// The weights that a Service had one after another, the same one in a row counted once.
pub fn course(versions: &[Version], service: &str) -> Vec<u64> {
    let mut course: Vec<u64> = versions.iter().map(|version| weight(&version.route, service)).collect();
    course.dedup();
    course
}

/// A release went through these weights, and then one Service was left with everything.
pub fn took_this_way(versions: &[Version], service: &str, expected: &[u64], keeper: &str) -> Finding {
    let course = course(versions, service);
    let last = versions.last().map(|version| version.route.clone()).unwrap_or_default();
    let alone =
        weight(&last, keeper) == 100 && last.iter().all(|(host, weight)| host == keeper || *weight == 0);
    let way = course.iter().map(|weight| format!("{weight}%")).collect::<Vec<_>>().join(" → ");
    let text = if service == keeper {
        format!("{service} went {way}")
    } else {
        format!("{service} went {way}, and {keeper} has {}%", weight(&last, keeper))
    };
    Finding::new(alone && course == expected, text)
}

/// Between two counts, one Service answered everything.
pub fn all_went_to(
    counted_by: &str,
    service: &str,
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> Finding {
    let mut own = 0;
    let mut others = 0;
    for (name, delivered) in after {
        let new = delivered - before.get(name).copied().unwrap_or(0);
        if name == service { own += new } else { others += new }
    }
    let text = format!("{counted_by}: of the {} requests after that {own} went to {service}", own + others);
    Finding::new(own > 0 && others == 0, text)
}

/// In every version the weights add up to 100.
pub fn weights_add_up(versions: &[Version]) -> Finding {
    let sum = |version: &&Version| version.route.iter().map(|(_, weight)| weight).sum::<u64>() != 100;
    let wrong = versions.iter().filter(sum).count();
    let text = match wrong {
        0 => format!("the weights add up to 100 in all {} versions of the VirtualService", versions.len()),
        wrong => format!("in {wrong} of {} versions the weights do not add up to 100", versions.len()),
    };
    Finding::new(wrong == 0 && !versions.is_empty(), text)
}

/// In every version everything but the destinations of the route and our stamp is what it was.
pub fn rest_is_unchanged(versions: &[Version]) -> Finding {
    let rest = |version: &Version| {
        let mut rest = written(&version.object);
        for http in rest.pointer_mut("/spec/http").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(http) =
                http.as_object_mut().filter(|http| http.get("name").is_some_and(|n| n == ROUTE))
            {
                http.remove("route");
            }
        }
        rest
    };
    let first = versions.first().map(rest);
    let changed = versions.iter().filter(|version| Some(rest(version)) != first).count();
    let text = match changed {
        0 => "all that Sluice does not manage is as it was: match, retries, timeout, headers, the other route, \
              labels, annotations"
            .to_owned(),
        changed => format!("fields that Sluice does not manage changed in {changed} versions"),
    };
    Finding::new(changed == 0 && first.is_some(), text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(weights: &[(&str, u64)], timeout: &str) -> Version {
        let entries: Vec<Value> = weights
            .iter()
            .map(|(host, weight)| json!({"destination": {"host": host}, "weight": weight}))
            .collect();
        let object = Arc::new(json!({"metadata": {"name": "iris"}, "spec": {"http": [
            {"name": "internal", "route": [{"destination": {"host": "tools"}, "weight": 100}]},
            {"name": "primary", "timeout": timeout, "route": entries},
        ]}}));
        Version { at: DateTime::UNIX_EPOCH, route: route(&object), object }
    }

    #[test]
    fn a_release_is_judged_by_its_way_and_its_end() {
        let way = [
            version(&[("v1", 100)], "3s"),
            version(&[("v1", 75), ("v2", 25)], "3s"),
            version(&[("v1", 75), ("v2", 25)], "3s"),
            version(&[("v1", 0), ("v2", 100)], "3s"),
        ];
        let holds =
            |versions: &[Version], expected: &[u64]| took_this_way(versions, "v2", expected, "v2").holds;
        assert!(holds(&way, &[0, 25, 100]));
        assert!(!holds(&way, &[0, 50, 100]), "another way");
        assert!(!holds(&way[..2], &[0, 25]), "another end");
        assert!(weights_add_up(&way).holds);
        assert!(!weights_add_up(&[version(&[("v1", 75), ("v2", 26)], "3s")]).holds);
        assert!(!weights_add_up(&[]).holds, "nothing was seen");
    }

    #[test]
    fn a_change_of_anything_else_is_found() {
        let first = version(&[("v1", 100)], "3s");
        assert!(rest_is_unchanged(&[first.clone(), version(&[("v2", 100)], "3s")]).holds);
        assert!(!rest_is_unchanged(&[first, version(&[("v1", 100)], "4s")]).holds);
    }

    #[test]
    fn the_gateway_counts_for_itself() {
        let counts = |v1, v2| BTreeMap::from([("v1".to_owned(), v1), ("v2".to_owned(), v2)]);
        assert!(all_went_to("gateway", "v2", &counts(10, 5), &counts(10, 9)).holds);
        assert!(!all_went_to("gateway", "v2", &counts(10, 5), &counts(11, 9)).holds, "one went to another");
        assert!(!all_went_to("gateway", "v2", &counts(10, 5), &counts(10, 5)).holds, "nobody asked");
    }
}
