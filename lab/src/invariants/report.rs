//! What the checker found, so that a person can follow it.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// A guarantee that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the guarantee in the design, 1 to 16.
    pub guarantee: u8,
    /// The version at which it showed.
    pub version: u64,
    /// The object: `rollouts models/iris`.
    pub object: String,
    /// What was there, and what was expected.
    pub what: String,
    /// What was written in that version: `path: before -> after`, a line each.
    pub change: Vec<String>,
    /// The last decisions before.
    pub decisions: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "guarantee {} broken at version {} of {}: {}",
            self.guarantee, self.version, self.object, self.what
        )?;
        for (title, lines) in [("written in that version", &self.change), ("decided before", &self.decisions)]
        {
            if !lines.is_empty() {
                write!(f, "\n  {title}:")?;
            }
            for line in lines {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// All of them, in full, one after the other.
pub fn told(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("{violation}\n")).collect()
}

/// How many lines of a change are shown.
const SHOWN: usize = 24;

/// The difference between two objects, a line for each field.
pub(super) fn difference(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let (before, after) = (leaves(before), leaves(after));
    let paths = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    let mut lines: Vec<String> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .filter(|path| !path.starts_with(".metadata.managedFields"))
        .map(|path| {
            let text = |value: Option<&String>| value.map_or("-", String::as_str).to_owned();
            format!("{path}: {} -> {}", text(before.get(path)), text(after.get(path)))
        })
        .collect();
    lines.sort();
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn leaves(object: Option<&Value>) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    if let Some(object) = object {
        collect(object, String::new(), &mut leaves);
    }
    leaves
}

fn collect(value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, value)| collect(value, format!("{path}.{key}"), leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(i, value)| collect(value, format!("{path}[{i}]"), leaves));
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::String(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Null => {
            leaves.insert(path, value.to_string());
        }
    }
}
