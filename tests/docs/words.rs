//! Phases, reasons, decisions; metrics, flags, exit codes: each is explained, and nothing is that does not exist.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::Value;
use sluice::cli::{Cli, Exit};

use crate::{read, reference, root, schema};

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
