//! Which of the objects in a file is the Rollout.

use serde_json::Value;
use sluice_core::api::{GROUP, VERSION};

use crate::cli::{exit::Failure, yaml};

/// Which Rollout, where there are several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'w> {
    /// Its name.
    pub name: Option<&'w str>,
    /// Its namespace.
    pub namespace: Option<&'w str>,
}

/// The objects of a text that is called `shown`: the Rollout, and all others.
///
/// # Errors
/// A text that cannot be read, or that has not the one Rollout.
pub fn read(text: &str, which: Which<'_>, shown: &str) -> Result<(Value, Vec<Value>), Failure> {
    let documents: Vec<Value> = yaml::several(text, shown)
        .map_err(|problem| Failure::Other(format!("{shown} is no YAML that can be read: {problem}")))?;
    let mut objects = Vec::new();
    for document in documents {
        flatten(document, &mut objects);
    }
    let is_rollout = |object: &Value| group(object) == GROUP && object["kind"] == "Rollout";
    let (rollouts, others): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(is_rollout);
    Ok((chosen(rollouts, &others, which, shown)?, others))
}

/// Takes lists apart, as kubectl writes them.
fn flatten(document: Value, objects: &mut Vec<Value>) {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut fields) if is_list && fields.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = fields.remove("items") {
                for item in items {
                    flatten(item, objects);
                }
            }
        }
        other => objects.push(other),
    }
}

fn group(object: &Value) -> &str {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}

fn chosen(
    mut rollouts: Vec<Value>,
    others: &[Value],
    which: Which<'_>,
    shown: &str,
) -> Result<Value, Failure> {
    let wrong = |problem: String| Err(Failure::Other(format!("{shown} {problem}")));
    if rollouts.is_empty() {
        return wrong(format!("has no Rollout of {GROUP}/{VERSION}: {}", seen(others)));
    }
    let there = listed(&rollouts);
    if let Some(name) = which.name {
        rollouts.retain(|rollout| rollout["metadata"]["name"] == name);
    }
    // The namespace tells those of one name apart; one alone may be of any.
    let is_there = |rollout: &Value| {
        let namespace = &rollout["metadata"]["namespace"];
        namespace.is_null() || namespace.as_str() == which.namespace
    };
    if rollouts.len() > 1 && which.namespace.is_some() {
        rollouts.retain(is_there);
    }
    match (rollouts.len(), which) {
        (1, _) => Ok(rollouts.remove(0)),
        (0, Which { name: Some(name), namespace: None }) => {
            wrong(format!("has no Rollout {name:?}: there is {there}"))
        }
        (0, Which { name: None | Some(_), namespace }) => {
            let namespace = namespace.unwrap_or_default();
            wrong(format!("has no such Rollout in namespace {namespace:?}: there is {there}"))
        }
        _ => wrong(format!("has several Rollouts ({there}): name one with --name, or its namespace with -n")),
    }
}

/// `models/iris, wine`.
fn listed(rollouts: &[Value]) -> String {
    let name = |rollout: &Value| {
        let name = rollout["metadata"]["name"].as_str().unwrap_or("?");
        rollout["metadata"]["namespace"]
            .as_str()
            .map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
    };
    rollouts.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What there is in place of a Rollout: a word that is misspelt shows.
fn seen(objects: &[Value]) -> String {
    let named = |object: &Value| match (object["kind"].as_str(), object["apiVersion"].as_str()) {
        (Some(kind), Some(version)) => format!("{kind} of {version}"),
        (Some(kind), None) => format!("{kind} without an apiVersion"),
        (None, _) => "something without a kind".to_owned(),
    };
    let mut seen: Vec<String> = objects.iter().map(named).collect();
    seen.sort();
    seen.dedup();
    let more = seen.len().saturating_sub(8);
    seen.truncate(8);
    match (seen.is_empty(), more) {
        (true, _) => "it is empty".to_owned(),
        (false, 0) => format!("it has {}", seen.join(", ")),
        (false, more) => format!("it has {} and {more} others", seen.join(", ")),
    }
}
