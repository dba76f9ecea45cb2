//! What needs no cluster: `plan`, `simulate` and `lint`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

pub fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).env_clear().env("HOME", "/nowhere");
    command.output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn rehearsed(rollout: &str, scenario: &str) -> Output {
    let scenario = format!("examples/scenarios/{scenario}.yaml");
    run(&["simulate", "-f", rollout, "--scenario", &scenario])
}

#[test]
fn the_classic_scenarios_end_as_they_should() {
    for (scenario, code, ending) in [
        ("good", 0, "Promoted after 25m"),
        ("broken", 8, "RolledBack after"),
        ("slow", 8, "RolledBack after"),
        ("worse-at-night", 8, "RolledBack after"),
        ("incident", 8, "RolledBack after"),
        ("outage", 0, "Promoted after"),
        ("lost-pods", 8, "RolledBack after 5m: CanaryLost"),
        ("gate", 0, "Promoted after 40m"),
        ("aborted", 8, "Aborted after 7m: Aborted"),
        ("batches", 8, "RolledBack after 1"),
    ] {
        let rollout = if scenario == "gate" { "examples/gated.yaml" } else { "examples/canary.yaml" };
        let output = rehearsed(rollout, scenario);
        assert_eq!(output.status.code(), Some(code), "{scenario}: {}{}", out(&output), err(&output));
        assert!(out(&output).contains(ending), "{scenario}: {}", out(&output));
    }
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scenarios")).unwrap();
    assert_eq!(all.count(), 10, "each scenario is here");
}

#[test]
fn a_gate_that_nobody_opens_is_no_promotion() {
    let output = rehearsed("examples/gated.yaml", "good");
    assert_eq!(output.status.code(), Some(9), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("Waiting"), "{}", out(&output));
}

#[test]
fn the_recipe_for_batches_promotes_what_a_limit_rolls_back() {
    let recipes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md")).unwrap();
    let recipe = recipes.split("```yaml\n").find(|block| block.contains("name: scoring,")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollout.yaml");
    fs::write(&file, recipe.split("```").next().unwrap()).unwrap();
    let output = rehearsed(file.to_str().unwrap(), "batches");
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("Promoted after 1h20m"), "{}", out(&output));
}

#[test]
fn an_incident_that_hits_both_is_no_fault_of_the_canarys_where_it_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/canary.yaml")).unwrap();
    let compared = text.replace("errors: {max: 1%}", "errors: {versusStable: {}}");
    assert_ne!(text, compared);
    let file = folder.path().join("rollout.yaml");
    fs::write(&file, compared).unwrap();
    let scenario = "examples/scenarios/incident.yaml";
    let output = run(&["simulate", "-f", file.to_str().unwrap(), "--scenario", scenario]);
    // Its latency check needs a histogram, and the scenario has none: it never ends, and is not rolled back.
    assert_eq!(output.status.code(), Some(9), "{}{}", out(&output), err(&output));
}

#[test]
fn many_rehearsals_are_figures_and_the_same_for_one_seed() {
    let figures = |seed: &str| {
        let scenario = "examples/scenarios/worse-at-night.yaml";
        let many = ["--runs", "40", "--seed", seed, "-o", "json"];
        let output =
            run(&[&["simulate", "-f", "examples/canary.yaml", "--scenario", scenario], &many[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let figures_of_one = figures("7");
    assert_eq!(figures_of_one["runs"], 40);
    let ended = ["promoted", "rolledBack", "endedOtherwise", "held"]
        .map(|name| figures_of_one[name].as_u64().unwrap());
    assert_eq!(ended.iter().sum::<u64>(), 40, "{figures_of_one}");
    assert_eq!(figures("7"), figures_of_one);
    assert_eq!(
        (&figures_of_one["healthyCanary"], &figures_of_one["falseRollbacks"]),
        (&false.into(), &Value::Null)
    );
}

#[test]
fn rollbacks_of_a_healthy_canary_are_told_as_false_ones() {
    let scenario = "examples/scenarios/worse-at-night.yaml";
    let many = ["--runs", "40", "--healthy"];
    let args = [&["simulate", "-f", "examples/canary.yaml", "--scenario", scenario], &many[..]].concat();
    let text = out(&run(&args));
    assert!(text.contains("each of these rollbacks is a false one"), "{text}");
    let json: Value = serde_json::from_slice(&run(&[&args[..], &["-o", "json"]].concat()).stdout).unwrap();
    assert_eq!(json["falseRollbacks"]["count"], json["rolledBack"]);
    assert!(json["falseRollbacks"]["share95"][1].as_f64().unwrap() <= 1.0, "{json}");
}

#[test]
fn a_plan_shows_steps_costs_and_the_virtual_service_at_each_step() {
    let output = run(&["plan", "-f", "examples/canary.yaml", "--rate", "20"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    for expected in [
        "iris: STEPS  25m15s at least, at 20 requests/s",
        "300 users' requests",
        "errors: at most 1% of the requests fail",
        "A BAD CANARY",
        "100% errors: stopped after",
        "AT STEP 1",
        "+         host: iris-v2",
        "AT STEP promotion",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn lint_finds_nothing_in_the_examples_and_names_what_is_wrong() {
    let strict = ["lint", "-f", "examples/canary.yaml", "--strict"];
    assert_eq!(out(&run(&[&strict[..], &["--rate", "100"]].concat())), "iris: nothing was found\n");
    // What nobody can tell without the rate is no risk.
    let without_rate = run(&strict);
    assert_eq!(without_rate.status.code(), Some(0), "{}", out(&without_rate));
    assert!(out(&without_rate).starts_with(
        "iris: no mistakes and no risks, as far as can be told\nnote  spec.steps[0].for  step-too-short\n"
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollout.yaml");
    let lint = |yaml: &str, args: &[&str]| {
        fs::write(&file, yaml).unwrap();
        run(&[&["lint", "-f", file.to_str().unwrap()], args].concat())
    };
    let rollout = |steps: &str| {
        format!(
            "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: iris}}, spec: {{target: {{service: \
             {{name: v2}}}}, routes: [{{virtualService: iris}}], checks: [{{name: e, errors: {{max: 1%}}}}], steps: \
             [{steps}]}}}}"
        )
    };
    let risky = lint(&rollout("{weight: 60, for: 5m}"), &[]);
    assert_eq!(risky.status.code(), Some(0), "{}", err(&risky));
    assert!(out(&risky).starts_with("risk  spec.steps[0].weight  large-first-step\n"), "{}", out(&risky));
    assert_eq!(lint(&rollout("{weight: 60, for: 5m}"), &["--strict"]).status.code(), Some(10));
    let wrong = lint(&rollout("{weight: 101, for: 5m}"), &["-o", "json"]);
    assert_eq!(wrong.status.code(), Some(10));
    let found: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(found[0]["path"], "spec.steps[0].weight");
    let unknown = lint(&rollout("{weight: 5, fro: 5m}"), &[]);
    assert_eq!(unknown.status.code(), Some(10));
    assert!(out(&unknown).contains("fro"), "{}", out(&unknown));
}

#[test]
fn a_rate_that_is_none_is_refused() {
    for (flags, expected) in [
        (&["--rate", "many"][..], "a number of requests a second is expected, like 100"),
        (&["--rate=-1"], "0 to 1000000000 is expected"),
        (&["--rate", "NaN"], "0 to 1000000000 is expected"),
        (&["--rate", "1e12"], "0 to 1000000000 is expected"),
        (&["--rate", "2", "--matching", "101%"], "is not a share"),
        (&["--matching", "5%"], "--rate <N>"),
    ] {
        let output = run(&[&["lint", "-f", "examples/canary.yaml"], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", out(&output));
        assert!(err(&output).contains(expected), "{flags:?}: {}", err(&output));
    }
}

#[test]
fn what_cannot_be_read_is_said_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    for (file, expected) in [
        ("/nowhere/rollout.yaml".to_owned(), "cannot read /nowhere/rollout.yaml: No such file"),
        (path("broken.yaml", "{a: ["), "is no YAML that can be read"),
        (path("other.yaml", "{apiVersion: v1, kind: Service}"), "has no Rollout of sluice.dev"),
    ] {
        for command in [&["lint"][..], &["plan"], &["simulate", "--scenario", "examples/scenarios/good.yaml"]]
        {
            let output = run(&[command, &["-f", &file]].concat());
            assert_eq!(output.status.code(), Some(1), "{command:?} {file}");
            assert!(err(&output).contains(expected), "{expected}: {}", err(&output));
        }
    }
    let scenario = path("scenario.yaml", "{requests: 10, evnts: []}");
    let output = run(&["simulate", "-f", "examples/canary.yaml", "--scenario", &scenario]);
    assert!(
        err(&output).contains("is no scenario that can be read") && err(&output).contains("evnts"),
        "{}",
        err(&output)
    );
}
