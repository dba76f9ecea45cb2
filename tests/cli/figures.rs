//! The figures of `plan` and of `simulate --healthy`: what is said of canaries that nobody has seen yet.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::rehearsals::{err, out, run};

/// A Rollout with these fields beside its target and its route.
fn rollout(folder: &TempDir, fields: &str) -> String {
    let file = folder.path().join("rollout.yaml");
    let text = format!(
        "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: iris}}, spec: {{target: {{service: {{name: \
         v2}}}}, routes: [{{virtualService: iris}}], {fields}}}}}"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What is said of a canary with so many errors.
fn told(file: &str, args: &[&str]) -> String {
    let output = run(&[&["plan", "-f", file], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let told = text.split("A BAD CANARY").nth(1).unwrap_or_else(|| panic!("{text}"));
    told.lines().find(|line| line.contains(" errors: ")).unwrap_or_else(|| panic!("{text}")).trim().to_owned()
}

/// How many bad answers that are.
fn bad_answers(told: &str) -> u64 {
    let number = told.split("users get ").nth(1).unwrap().split(' ').next().unwrap();
    number.replace(',', "").parse().unwrap()
}

#[test]
fn a_canary_that_breaches_no_limit_is_promoted_whatever_else_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    // Its check on latency has numbers, and lets it pass.
    let text = told("examples/canary.yaml", &["--errors", "0.5%"]);
    assert!(text.starts_with("0.5% errors: not stopped: promoted after 25m"), "{text}");
    // 5%, 25% and 50% of 100 requests a second for 5, 10 and 10 minutes, and all for half a minute.
    assert!((220..260).contains(&bad_answers(&text)), "{text}");
    let text = told("examples/canary.yaml", &["--errors", "2%"]);
    assert!(text.starts_with("2% errors: stopped after"), "{text}");
    let query = "steps: [{weight: 10, for: 5m}], checks: [{name: e, errors: {max: 1%}}, {name: acc, query: {promql: acc, \
                 min: 0.9}}]";
    let file = rollout(&folder, query);
    let text = told(&file, &["--errors", "0.5%"]);
    assert!(text.starts_with("0.5% errors: not stopped: promoted after 5m"), "{text}");
    let text = told(&file, &["--errors", "2%"]);
    assert!(text.starts_with("2% errors: stopped after"), "{text}");
}

#[test]
fn nobody_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let gated = "steps: [{weight: 10, for: 5m, approve: true}], checks: [{name: e, errors: {max: 5%}}]";
    let file = rollout(&folder, gated);
    let text = told(&file, &["--errors", "2%"]);
    assert!(text.starts_with("2% errors: not stopped: promoted after 5m"), "{text}");
    assert!(bad_answers(&text) < 150, "{text}");
    let all = out(&run(&["plan", "-f", &file]));
    assert!(all.contains("stable without errors, gates opened at once"), "{all}");
}

#[test]
fn a_rollout_that_ends_without_a_breach_stopped_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (finish, expected) in [
        ("KeepStable", "2% errors: not stopped: ended after 5m"),
        ("Wait", "2% errors: not stopped: a person decides after 5m"),
    ] {
        let fields = format!(
            "finish: {finish}, steps: [{{weight: 10, for: 5m}}], checks: [{{name: e, errors: {{max: 5%}}}}]"
        );
        let file = rollout(&folder, &fields);
        let text = told(&file, &["--errors", "2%"]);
        assert!(text.starts_with(expected), "{text}");
        // 10% of 100 requests a second for five minutes.
        assert_eq!(bad_answers(&text), 60, "{text}");
        let text = told(&file, &["--errors", "10%"]);
        assert!(text.starts_with("10% errors: stopped after"), "{text}");
    }
}

#[test]
fn requests_that_never_come_are_needed_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let matched = "steps: [{match: [{headers: {x-group: {exact: beta}}}], for: 5m}], checks: [{name: e, errors: {max: 1%}}]";
    let file = rollout(&folder, matched);
    let text = told(&file, &["--matching", "0%", "--errors", "2%"]);
    assert!(text.starts_with("2% errors: no check stops it, and after 19m50s evidence is missing"), "{text}");
    let all = out(&run(&["plan", "-f", &file, "--matching", "0%"]));
    assert!(
        all.contains("needs 50 requests of the canary, which it never gets in step 1 at this load"),
        "{all}"
    );
    let shadow = "steps: [{mirror: 50, for: 5m}], checks: [{name: e, errors: {max: 1%}}], finish: KeepStable";
    let all = out(&run(&["plan", "-f", &rollout(&folder, shadow)]));
    assert!(all.contains("needs 50 requests of the canary: 1s of step 1"), "{all}");
}

#[test]
fn a_healthy_canary_answers_queries_as_stable_does_and_nobody_takes_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let query =
        "{promql: 'acc{s=\"{{canary.service}}\"}', direction: MoreIsBetter, window: 10s, versusStable: {}}";
    let file = rollout(
        &folder,
        &format!("steps: [{{weight: 10, for: 30m}}], checks: [{{name: acc, query: {query}}}]"),
    );
    let scenario = folder.path().join("scenario.yaml");
    let wrong = "{requests: 100, queries: {acc: {canary: 0.8, stable: 0.9, spread: 1%}}, events: [{at: 10m, canary: {ready: \
                 0}}, {at: 12m, do: Abort}]}";
    fs::write(&scenario, wrong).unwrap();
    let figures = |more: &[&str]| {
        let args =
            ["simulate", "-f", &file, "--scenario", scenario.to_str().unwrap(), "--runs", "20", "-o", "json"];
        let output = run(&[&args, more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let as_it_is = figures(&[]);
    assert_eq!((&as_it_is["rolledBack"], &as_it_is["falseRollbacks"]), (&20.into(), &Value::Null));
    let healthy = figures(&["--healthy"]);
    assert_eq!((&healthy["healthyCanary"], &healthy["promoted"]), (&true.into(), &20.into()), "{healthy}");
    assert_eq!(healthy["falseRollbacks"]["count"], 0, "{healthy}");
}
