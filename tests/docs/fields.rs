//! The tables of fields, made from the schema.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};
use sluice_core::{
    api::{Reason, RolloutSpec},
    plan::{self, Plan},
};

use crate::{read, root, schema, written};

/// What the API has from the start and this version refuses with `Unsupported`.
const NOT_YET: [&str; 3] =
    ["spec.target.deployment", "spec.target.inferenceService", "spec.steps[].weight: 0"];

/// A field as the table shows it.
struct Field {
    kind: String,
    description: String,
    rules: Vec<String>,
}

/// All fields below `path`.
fn fields(schema: &Value, path: &str, required: bool, into: &mut BTreeMap<String, Field>) {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let rules = rules.map(|rule| rule["message"].as_str().unwrap().to_owned()).collect();
    let description = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let kind = kind(schema) + if required { ", required" } else { "" };
    into.insert(path.to_owned(), Field { kind, description, rules });
    let (object, path) = match schema.get("items") {
        Some(items) if items.get("properties").is_some() => {
            let path = format!("{path}[]");
            let rules = items["x-kubernetes-validations"].as_array().into_iter().flatten();
            let rules = rules.map(|rule| rule["message"].as_str().unwrap().to_owned());
            into.get_mut(path.trim_end_matches("[]")).unwrap().rules.extend(rules);
            (items, path)
        }
        _ => (schema, path.to_owned()),
    };
    let required =
        |name: &str| object["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        fields(field, &format!("{path}.{name}"), required(name), into);
    }
}

/// The type of a field with its limits, in words.
pub(crate) fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return format!("one of {}", words.join(", "));
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", several(&schema["maxItems"], &schema["items"])),
        Some("object") if schema.get("additionalProperties").is_some() => {
            format!("map of {}", several(&schema["maxProperties"], &schema["additionalProperties"]))
        }
        Some("string") => text(schema),
        Some(number @ ("integer" | "number")) => number.to_owned() + &range(schema),
        Some("boolean") => "boolean".to_owned(),
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

/// Several of one kind, with the limit to their number and those to each.
fn several(most: &Value, each: &Value) -> String {
    let most = most.as_u64().map_or_else(String::new, |most| format!("at most {most} "));
    match kind(each).split_once(',') {
        Some((kind, limits)) => format!("{most}{kind}s,{limits} each"),
        None => format!("{most}{}s", kind(each)),
    }
}

fn text(schema: &Value) -> String {
    match (schema["pattern"].as_str(), schema["format"].as_str()) {
        (Some(pattern), _) if pattern.contains("ns|us|ms") => return "duration".to_owned(),
        (Some(pattern), _) if pattern.contains("%?") => return "share".to_owned(),
        (_, Some("date-time")) => return "time".to_owned(),
        _ => {}
    }
    match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
        (Some(least), Some(most)) => format!("string, {least} to {most} characters"),
        (None, Some(most)) => format!("string, at most {most} characters"),
        _ => "string".to_owned(),
    }
}

fn range(schema: &Value) -> String {
    let bound = |name: &str| schema[name].as_f64();
    let exclusive = schema["exclusiveMinimum"] == true && schema["exclusiveMaximum"] == true;
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if exclusive => format!(", above {least} and below {most}"),
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", {least} or more"),
        _ => String::new(),
    }
}

fn is_not_yet(path: &str) -> bool {
    NOT_YET.iter().any(|field| is_below(path, field))
}

/// Whether `path` is `field` or part of it.
fn is_below(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What a section is about: `<!-- fields of Rollout: spec.steps -->` up to `<!-- end -->`.
fn sections(text: &str) -> Vec<(String, Vec<String>)> {
    let starts = text.lines().filter_map(|line| line.strip_prefix("<!-- fields of ")?.strip_suffix(" -->"));
    let section = |start: &str| {
        let (kind, prefixes) = start.split_once(": ").unwrap();
        (kind.to_owned(), prefixes.split(' ').map(str::to_owned).collect())
    };
    starts.map(section).collect()
}

/// The section of a field: that which names the most of its path.
fn section_of(sections: &[(String, Vec<String>)], kind: &str, path: &str) -> Option<usize> {
    let not_yet = is_not_yet(path);
    let fits = |prefixes: &[String]| {
        let names_it =
            |prefix: &&String| if not_yet { **prefix == "not-yet" } else { is_below(path, prefix) };
        prefixes.iter().filter(names_it).map(String::len).max()
    };
    let of_kind = sections.iter().enumerate().filter(|(_, (of, _))| of == kind);
    of_kind.filter_map(|(index, (_, prefixes))| Some((fits(prefixes)?, index))).max().map(|(_, index)| index)
}

/// `docs/reference.md` with all its tables of fields as the schema has them.
fn with_tables(text: &str) -> String {
    let sections = sections(text);
    let mut rows = vec![String::new(); sections.len()];
    let mut rules = vec![String::new(); sections.len()];
    for kind in ["Rollout", "RolloutAction", "Freeze"] {
        let mut all = BTreeMap::new();
        // A Freeze has no status.
        let schema = schema(kind);
        let there = |part: &&str| schema["properties"].get(*part).is_some();
        for part in ["spec", "status"].into_iter().filter(there) {
            fields(&schema["properties"][part], part, part == "spec", &mut all);
        }
        for (path, field) in all {
            let section = section_of(&sections, kind, &path);
            let section =
                section.unwrap_or_else(|| panic!("{kind} {path} is in no section of docs/reference.md"));
            let description = field.description.replace('|', "\\|");
            writeln!(rows[section], "| `{path}` | {} | {description} |", field.kind).unwrap();
            for rule in field.rules {
                writeln!(rules[section], "- `{path}`: {rule}").unwrap();
            }
        }
    }
    let mut out = String::new();
    let mut section = 0;
    let mut inside = false;
    for line in text.lines() {
        inside &= line != "<!-- end -->";
        if !inside {
            writeln!(out, "{line}").unwrap();
        }
        if line.starts_with("<!-- fields of ") {
            write!(out, "\n| Field | Type | |\n|---|---|---|\n{}\n", rows[section]).unwrap();
            if !rules[section].is_empty() {
                write!(out, "The API server also sees to these rules:\n\n{}\n", rules[section]).unwrap();
            }
            section += 1;
            inside = true;
        }
    }
    out
}

#[test]
fn the_reference_has_every_field_as_the_schema_has_it() {
    let path = root("docs/reference.md");
    let text = read(&path);
    written(&path, &text, &with_tables(&text));
}

#[test]
fn what_is_said_to_be_missing_is_refused_as_not_supported_yet() {
    let base = json!({
        "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 5}], "checks": [{"name": "c", "errors": {"max": "1%"}}],
    });
    let changes = [
        ("/target", json!({"deployment": {"name": "iris"}})),
        ("/target", json!({"inferenceService": {"name": "iris"}})),
    ];
    assert_eq!(changes.len() + 1, NOT_YET.len());
    for (pointer, value) in changes {
        let mut spec = base.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let place = spec.pointer_mut(parent).unwrap();
        match name.parse::<usize>() {
            Ok(index) => place[index] = value,
            Err(_) => place[name] = value,
        }
        let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
        let refused = Plan::new(&spec, "models").err().or_else(|| plan::target(&spec).err());
        assert_eq!(refused.map(|errors| errors.reason()), Some(Reason::Unsupported), "{pointer}");
    }
}
