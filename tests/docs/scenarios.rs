//! `docs/scenarios.md`: every field of a scenario with its type, range and default, as the types have them, and the classics
//! with how they end.

use std::{fmt::Write as _, fs, process::Command};

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use sluice_core::{
    api::RolloutSpec,
    plan::Plan,
    simulate::{Scenario, Timeline, simulate},
};

use crate::{blocks, fields, read, root, written};

/// What is written twice is explained once: what an event changes of an arm or of a query.
const ELSEWHERE: [&str; 3] = ["events[].stable", "events[].canary", "events[].queries"];

/// A field of the format.
struct Field {
    path: String,
    kind: String,
    default: String,
    description: String,
    schema: Value,
}

/// The schema of the format as JSON.
fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    plain(settings.into_generator().into_root_schema_for::<Scenario>().as_value())
}

/// A schema without what only programs need: that a field may be null, and unions of a thing and nothing.
fn plain(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else { return schema.clone() };
    let mut object = object.clone();
    for union in ["anyOf", "oneOf"] {
        let Some(options) = object.remove(union) else { continue };
        let options: Vec<Value> =
            options.as_array().unwrap().iter().filter(|option| option["type"] != "null").map(plain).collect();
        match options.as_slice() {
            [one] => {
                for (name, value) in one.as_object().unwrap() {
                    object.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            words if words.iter().all(|word| word.get("const").is_some()) => {
                object.insert("enum".to_owned(), words.iter().map(|word| word["const"].clone()).collect());
            }
            // A short form and a long one.
            several => {
                let kinds: Vec<String> = several.iter().map(fields::kind).collect();
                object.insert("type".to_owned(), json!(kinds.join(" or ")));
                let long = several.iter().find_map(|option| option.get("properties"));
                object.insert("properties".to_owned(), long.cloned().unwrap_or_default());
                let required = several.iter().find_map(|option| option.get("required"));
                object.insert("required".to_owned(), required.cloned().unwrap_or_default());
            }
        }
    }
    if let Some(kinds) = object.get("type").and_then(Value::as_array) {
        object.insert("type".to_owned(), kinds.iter().find(|kind| **kind != "null").unwrap().clone());
    }
    if let Some(words) = object.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| !word.is_null());
    }
    // That unknown fields are refused makes no map of an object.
    if object.get("additionalProperties") == Some(&json!(false)) {
        object.remove("additionalProperties");
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = object.get(below).cloned() {
            object.insert(below.to_owned(), plain(&schema));
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|field| *field = plain(field));
    }
    Value::Object(object)
}

/// All fields below a schema, in the order of their names.
fn below(schema: &Value, path: &str, into: &mut Vec<Field>) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_required = required.iter().any(|one| one == name);
        let default = match &field["default"] {
            Value::String(text) => format!("`{text}`"),
            Value::Number(number) => format!("`{number}`"),
            _ if is_required => "required".to_owned(),
            _ => String::new(),
        };
        let description = field["description"].as_str().unwrap_or_default().replace('\n', " ");
        let kind = fields::kind(field).replace("number or objects", "numbers or objects");
        into.push(Field { path: path.clone(), kind, default, description, schema: field.clone() });
        if ELSEWHERE.contains(&path.as_str()) {
            continue;
        }
        below(field, &path, into);
        if let Some(items) = field.get("items") {
            below(items, &format!("{path}[]"), into);
        }
        if let Some(each) = field.get("additionalProperties").filter(|each| each.is_object()) {
            below(each, &format!("{path}.NAME"), into);
        }
    }
}

fn all() -> Vec<Field> {
    let mut all = Vec::new();
    below(&schema(), "", &mut all);
    all
}

/// The scenarios of `examples/scenarios` by name, each with the Rollout it is for.
fn classics() -> Vec<(String, &'static str)> {
    let files = fs::read_dir(root("examples/scenarios")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names.into_iter().map(|name| if name == "gate" { (name, "gated") } else { (name, "canary") }).collect()
}

/// What the first lines of a scenario say about it.
fn about(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

/// The last line of a rehearsal: how it ended.
fn ending(name: &str, rollout: &str) -> String {
    let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
    sluice.current_dir(root("")).env_clear().env("HOME", "/nowhere").args(["simulate", "-f"]);
    sluice.args([&format!("examples/{rollout}.yaml"), "-s", &format!("examples/scenarios/{name}.yaml")]);
    let text = String::from_utf8(sluice.output().unwrap().stdout).unwrap();
    let last = text.lines().last().unwrap();
    last.split_inclusive(". ").next().unwrap().trim_end().to_owned()
}

fn between(text: &str, mark: &str, content: &str) -> String {
    let (before, rest) =
        text.split_once(&format!("<!-- {mark} -->\n")).unwrap_or_else(|| panic!("no {mark}"));
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    format!("{before}<!-- {mark} -->\n{content}<!-- end -->\n{after}")
}

#[test]
fn the_page_has_every_field_and_every_classic() {
    let path = root("docs/scenarios.md");
    let text = read(&path);
    let mut fields = "\n| Field | Type | Default | |\n|---|---|---|---|\n".to_owned();
    for Field { path, kind, default, description, .. } in all() {
        writeln!(fields, "| `{path}` | {kind} | {default} | {description} |").unwrap();
    }
    let mut scenarios = "\n| Scenario | Rollout | | |\n|---|---|---|---|\n".to_owned();
    for (name, rollout) in classics() {
        let about = about(&read(&root(&format!("examples/scenarios/{name}.yaml"))));
        writeln!(
            scenarios,
            "| [{name}](../examples/scenarios/{name}.yaml) | [{rollout}](../examples/{rollout}.yaml) | {about} | {} |",
            ending(&name, rollout)
        )
        .unwrap();
    }
    let expected = between(&text, "fields of a scenario", &(fields + "\n"));
    let expected = between(&expected, "classics", &(scenarios + "\n"));
    written(&path, &text, &expected);
}

#[test]
fn every_scenario_of_the_documents_is_one() {
    let mut seen = 0;
    for document in ["docs/scenarios.md", "docs/recipes.md"] {
        for (language, line, block) in blocks(&read(&root(document))) {
            if language == "yaml scenario" {
                let scenario: Scenario = serde_saphyr::from_str(&block)
                    .unwrap_or_else(|error| panic!("{document}:{line}: {error}"));
                scenario.check().unwrap_or_else(|error| panic!("{document}:{line}: {error}"));
                seen += 1;
            }
        }
    }
    assert!(seen > 2, "only {seen} scenarios were found");
}

/// Sets what a path names.
fn set(scenario: &mut Value, path: &str, value: Value) {
    let path = path.replace("[]", ".0").replace("NAME", "accuracy");
    let mut place = scenario;
    for name in path.split('.') {
        place = match name.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[name],
        };
    }
    *place = value;
}

/// A scenario in which everything that has parts has them.
fn whole() -> Value {
    json!({
        "requests": 100, "stable": {}, "canary": {},
        "queries": {"accuracy": {"canary": 0.9, "stable": 0.9}}, "events": [{"at": "1m", "metrics": true}],
    })
}

fn read_as_scenario(scenario: &Value) -> Result<Scenario, String> {
    let scenario: Scenario = serde_json::from_value(scenario.clone()).map_err(|error| error.to_string())?;
    scenario.check().map_err(|error| error.to_string())?;
    Ok(scenario)
}

fn rehearsed(scenario: &Value) -> Timeline {
    let spec = json!({
        "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
        "steps": [
            {"match": [{"headers": {"x": {"exact": "beta"}}}], "for": "2m"}, {"weight": 50, "for": "2m", "approve": true},
        ],
        "checks": [
            {"name": "errors", "errors": {"max": "1%"}},
            {"name": "accuracy", "query": {
                "promql": "a{service=\"{{canary.service}}\"}", "min": 0.8, "versusStable": {}, "direction": "MoreIsBetter",
            }},
        ],
    });
    let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
    simulate(&Plan::new(&spec, "models").unwrap(), &read_as_scenario(scenario).unwrap(), Some(1))
}

#[test]
fn a_default_that_is_written_down_changes_nothing() {
    let (silent, mut explicit) = (whole(), whole());
    let with_default: Vec<Field> = all().into_iter().filter(|field| field.default.starts_with('`')).collect();
    assert!(with_default.len() > 6, "{}", with_default.len());
    for field in with_default {
        set(&mut explicit, &field.path, field.schema["default"].clone());
    }
    assert_ne!(silent, explicit);
    assert_eq!(rehearsed(&silent), rehearsed(&explicit), "{explicit}");
}

#[test]
fn what_is_out_of_its_range_is_refused() {
    let mut refused = 0;
    for field in all() {
        for (limit, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
            let Some(limit) = field.schema[limit].as_f64() else { continue };
            let put = |number: f64| {
                let mut scenario = whole();
                // Whole numbers are written without a point.
                let integer = field.schema["type"] == "integer";
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "limits of fields are small or no integers"
                )]
                let number = if integer { json!(number as i64) } else { json!(number) };
                set(&mut scenario, &field.path, number);
                read_as_scenario(&scenario)
            };
            assert!(put(limit + beyond).is_err(), "{} {}", field.path, limit + beyond);
            assert!(put(limit).is_ok(), "{} {limit}: {:?}", field.path, put(limit));
            refused += 1;
        }
    }
    assert!(refused > 5, "only {refused} limits were found");
}
