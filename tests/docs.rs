//! The documentation says what the code does.
//!
//! The tables of fields in `docs/reference.md` are made from the schema: `SLUICE_WRITE_DOCS=1 cargo test --test docs`
//! writes them anew. Everything else in the documents and in `examples/` is read here and compared with the code: words,
//! flags, exit codes, names of metrics, manifests, commands, links.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser};
use kube::CustomResourceExt;
use serde_json::{Value, json};
use sluice::cli::{Cli, Exit};
use sluice_core::{
    api::{Reason, Rollout, RolloutAction, RolloutSpec},
    plan::{Plan, service_target},
};

/// What the API has from the start and this version refuses with `Unsupported`.
const NOT_YET: [&str; 18] = [
    "spec.annotations",
    "spec.checks[].advisory",
    "spec.checks[].errors.versusStable",
    "spec.checks[].inconclusive",
    "spec.checks[].lag",
    "spec.checks[].latency.versusStable",
    "spec.checks[].query.direction",
    "spec.checks[].query.versusStable",
    "spec.checks[].steps",
    "spec.expose",
    "spec.steps[].match",
    "spec.steps[].mirror",
    "spec.steps[].sticky",
    "spec.target.deployment",
    "spec.target.inferenceService",
    "spec.target.seldonDeployment",
    "spec.metrics.profile: seldon, kserve, envoy",
    "spec.steps[].weight: 0",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn reference() -> String {
    read(&root("docs/reference.md"))
}

/// README, everything in `docs/`, and every example.
fn documents() -> Vec<PathBuf> {
    let mut all = vec![root("README.md"), root("CHANGELOG.md")];
    for (folder, extension) in [("docs", "md"), ("examples", "yaml")] {
        let paths = fs::read_dir(root(folder)).unwrap().map(|entry| entry.unwrap().path());
        all.extend(paths.filter(|path| path.extension().is_some_and(|found| found == extension)));
    }
    all.sort();
    all
}

// === fields ===

/// The schema of a kind: what is below `spec` and `status`.
fn schema(kind: &str) -> Value {
    let definition = match kind {
        "Rollout" => serde_json::to_value(Rollout::crd()),
        "RolloutAction" => serde_json::to_value(RolloutAction::crd()),
        other => panic!("{other} is no kind of ours"),
    };
    definition.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

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
fn kind(schema: &Value) -> String {
    let at_most =
        |limit: &str| schema[limit].as_u64().map_or_else(String::new, |most| format!(", at most {most}"));
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return format!("one of {}", words.join(", "));
    }
    match schema["type"].as_str() {
        Some("array") => format!("list{} of {}", at_most("maxItems"), plural(&kind(&schema["items"]))),
        Some("object") if schema.get("additionalProperties").is_some() => {
            format!("map{} of {}", at_most("maxProperties"), plural(&kind(&schema["additionalProperties"])))
        }
        Some("string") => text(schema),
        Some(number @ ("integer" | "number")) => number.to_owned() + &range(schema),
        Some("boolean") => "boolean".to_owned(),
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

fn plural(kind: &str) -> String {
    let (first, rest) = kind.split_at(kind.find(',').unwrap_or(kind.len()));
    if first.starts_with("one of") { kind.to_owned() } else { format!("{first}s{rest}") }
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
    for kind in ["Rollout", "RolloutAction"] {
        let mut all = BTreeMap::new();
        for part in ["spec", "status"] {
            fields(&schema(kind)["properties"][part], part, part == "spec", &mut all);
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
    let expected = with_tables(&text);
    if text == expected {
        return;
    }
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let differs = text.lines().zip(expected.lines()).find(|(is, should)| is != should);
    panic!(
        "docs/reference.md is stale ({differs:?}): SLUICE_WRITE_DOCS=1 cargo test --test docs writes it anew"
    );
}

#[test]
fn what_is_said_to_be_missing_is_refused_as_not_supported_yet() {
    let base = json!({
        "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 5}], "checks": [{"name": "c", "errors": {"max": "1%"}}],
    });
    let comparison = json!({"maxRatio": 2.0});
    let changes = [
        ("/annotations", json!({"a": "b"})),
        ("/checks/0/advisory", json!(true)),
        ("/checks/0/errors/versusStable", comparison.clone()),
        ("/checks/0/inconclusive", json!("Pause")),
        ("/checks/0/lag", json!("1m")),
        ("/checks/0", json!({"name": "c", "latency": {"max": "1s", "versusStable": comparison}})),
        ("/checks/0", json!({"name": "c", "query": {"promql": "up", "min": 1, "direction": "MoreIsWorse"}})),
        ("/checks/0", json!({"name": "c", "query": {"promql": "up", "min": 1, "versusStable": comparison}})),
        ("/checks/0/steps", json!(["1"])),
        ("/expose", json!({"hosts": ["a.example.com"]})),
        ("/steps/0/match", json!([{"headers": {"a": {"exact": "b"}}}])),
        ("/steps/0/mirror", json!(100)),
        ("/steps/0/sticky", json!({"cookie": "a"})),
        ("/target", json!({"deployment": {"name": "iris"}})),
        ("/target", json!({"inferenceService": {"name": "iris"}})),
        ("/target", json!({"seldonDeployment": {"name": "iris", "predictor": "green"}})),
        ("/metrics", json!({"profile": "seldon"})),
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
        let refused = Plan::new(&spec, "models").err().or_else(|| service_target(&spec).err());
        assert_eq!(refused.map(|errors| errors.reason()), Some(Reason::Unsupported), "{pointer}");
    }
}

// === words ===

/// The first column of all tables below a heading, up to the next one.
fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    let mut lines = text
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading || !line.starts_with('#'));
    assert!(lines.next().is_some(), "docs/reference.md has no heading {heading:?}");
    let rows = lines.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

fn words(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let words = schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))["enum"].as_array().unwrap();
    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn every_word_of_a_status_is_explained() {
    let text = reference();
    let rollout = schema("Rollout");
    let action = schema("RolloutAction");
    let status = "/properties/status/properties";
    for (heading, schema, pointer) in [
        ("Phases", &rollout, format!("{status}/phase")),
        ("Reasons", &rollout, format!("{status}/reason")),
        ("Conditions", &rollout, format!("{status}/conditions/items/properties/type")),
        ("Decisions", &rollout, format!("{status}/decisions/items/properties/kind")),
        ("Verdicts", &rollout, format!("{status}/checks/items/properties/verdict")),
        ("Outcomes", &rollout, format!("{status}/outcomes/items/properties/outcome")),
        ("Actions", &action, "/properties/spec/properties/do".to_owned()),
        ("Answers", &action, format!("{status}/phase")),
    ] {
        assert_eq!(first_column(&text, heading), words(schema, &pointer), "{heading}");
    }
}

#[test]
fn every_exported_metric_is_explained() {
    let mut exported = BTreeSet::new();
    for file in ["src/controller/telemetry.rs", "src/metrics/telemetry.rs"] {
        let source = read(&root(file));
        for call in source.split("registry.register(").skip(1) {
            exported.insert(format!("sluice_{}", call.split('"').nth(1).unwrap()));
        }
    }
    assert!(exported.len() > 5, "{exported:?}");
    let documented = first_column(&reference(), "Metrics that the controller exports");
    let documented: BTreeSet<String> =
        documented.iter().map(|name| name.trim_end_matches("_total").to_owned()).collect();
    assert_eq!(documented, exported);
}

#[test]
fn every_flag_and_exit_code_is_explained() {
    let text = reference();
    let cli = Cli::command();
    for command in cli.get_subcommands() {
        let name = command.get_name();
        assert!(text.contains(&format!("`sluice {name}")), "sluice {name}");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(long) = argument.get_long() else { continue };
            assert!(text.contains(&format!("`--{long}")), "sluice {name} --{long}");
            if let Some(variable) = argument.get_env() {
                let variable = variable.to_str().unwrap();
                assert!(text.contains(&format!("`{variable}`")), "{variable}");
            }
        }
    }
    for argument in cli.get_arguments() {
        let long = argument.get_long().unwrap();
        assert!(text.contains(&format!("`--{long}")), "--{long}");
    }
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(text.contains(&row), "{row}");
    }
}

// === manifests ===

/// The fenced blocks of a document, each with its language and the line it begins at.
fn blocks(text: &str) -> Vec<(String, usize, String)> {
    let mut all = Vec::new();
    let mut current: Option<(String, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut current, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => current = Some((language.to_owned(), number + 1, String::new())),
            (None, None) => {}
            (Some((_, _, block)), None) => writeln!(block, "{line}").unwrap(),
            (Some(_), Some(_)) => all.extend(current.take()),
        }
    }
    assert!(current.is_none(), "a block that does not end");
    all
}

/// Fails where an object has a field that its schema has not: the server would drop it silently.
fn assert_known(value: &Value, schema: &Value, path: &str) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| assert_known(item, &schema["items"], &format!("{path}[]")));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let known = known.unwrap_or_else(|| panic!("{path}.{name} is no field"));
        assert_known(field, known, &format!("{path}.{name}"));
    }
}

fn assert_rollout(spec: &Value, place: &str) {
    assert_known(spec, &schema("Rollout")["properties"]["spec"], &format!("{place}: spec"));
    let spec: RolloutSpec =
        serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    Plan::new(&spec, "models").unwrap_or_else(|error| panic!("{place}: {error}"));
    service_target(&spec).unwrap_or_else(|error| panic!("{place}: {error}"));
}

/// A document is what it says it is: a Rollout, an action, the controller's configuration, another manifest, or some
/// fields of a Rollout's spec.
fn assert_manifest(document: &Value, place: &str) {
    let spec = &schema("Rollout")["properties"]["spec"];
    match document["kind"].as_str() {
        Some("Rollout") => assert_rollout(&document["spec"], place),
        Some("RolloutAction") => {
            let spec = &schema("RolloutAction")["properties"]["spec"];
            assert_known(&document["spec"], spec, &format!("{place}: spec"));
            let parsed =
                serde_json::from_value::<sluice_core::api::RolloutActionSpec>(document["spec"].clone());
            parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        Some(_) => assert!(document["apiVersion"].is_string(), "{place}: a manifest has an apiVersion"),
        None if document.get("sources").is_some() || document.get("profiles").is_some() => {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), document.to_string()).unwrap();
            let loaded = sluice::metrics::Config::load(file.path());
            loaded.unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        None => {
            let given = document.as_object().unwrap_or_else(|| panic!("{place}: no object: {document}"));
            let known = given.keys().all(|name| spec["properties"].get(name).is_some());
            assert!(known, "{place}: neither a manifest nor fields of a Rollout: {document}");
            let mut whole =
                json!({"target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}]});
            whole.as_object_mut().unwrap().extend(given.clone());
            assert_rollout(&whole, place);
        }
    }
}

#[test]
fn every_manifest_is_what_it_says() {
    let mut seen = 0;
    for path in documents() {
        let text = read(&path);
        let yaml = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => vec![(1, text)],
            _ => blocks(&text)
                .into_iter()
                .filter(|(language, ..)| language == "yaml")
                .map(|(_, line, block)| (line, block))
                .collect(),
        };
        for (line, block) in yaml {
            let place = format!("{}:{line}", path.display());
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&block).unwrap_or_else(|error| panic!("{place}: {error}"));
            documents.iter().for_each(|document| assert_manifest(document, &place));
            seen += documents.len();
        }
    }
    assert!(seen > 20, "only {seen} manifests were found");
}

// === commands and links ===

/// The words of a command line, quotes minded; up to a pipe or a comment.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.push(String::new()),
            (None, '|' | '#') => break,
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Every line that a reader is told to type.
fn commands(path: &Path) -> Vec<String> {
    let text = read(path);
    let lines: Vec<String> = if path.extension().is_some_and(|extension| extension == "yaml") {
        text.lines().filter_map(|line| line.strip_prefix("#   ")).map(str::to_owned).collect()
    } else {
        let shell =
            blocks(&text).into_iter().filter(|(language, ..)| matches!(language.as_str(), "sh" | "console"));
        shell.flat_map(|(_, _, block)| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    lines.iter().map(|line| line.trim_start_matches("$ ").to_owned()).collect()
}

#[test]
fn every_command_can_be_typed() {
    let mut seen = 0;
    for path in documents() {
        for command in commands(&path) {
            let words = split(&command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ours = match words.as_slice() {
                ["kubectl", "sluice", rest @ ..] => [&["kubectl-sluice"], rest].concat(),
                ["sluice", ..] => words.clone(),
                ["kubectl", "apply", rest @ ..] => {
                    for file in
                        rest.iter().filter(|word| word.starts_with("deploy") || word.starts_with("examples"))
                    {
                        assert!(root(file).exists(), "{}: {command}: there is no {file}", path.display());
                    }
                    continue;
                }
                _ => continue,
            };
            let parsed = Cli::try_parse_from(ours);
            assert!(parsed.is_ok(), "{}: {command}\n{}", path.display(), parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    for path in
        documents().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let heading = |line: &str| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.collect::<String>().replace(' ', "-")
            };
            if !anchor.is_empty() {
                let there =
                    read(&target).lines().any(|line| line.starts_with('#') && heading(line) == anchor);
                assert!(there, "{}: {link}: no such heading", path.display());
            }
        }
    }
}
