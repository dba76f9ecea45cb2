//! What a new user gets wrong, in files and on the command line, and what is said of it.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).env_clear().env("HOME", "/nowhere");
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with files in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `examples/canary.yaml` with something else in place of a text that it has.
    fn canary(&self, what: &str, instead: &str) -> String {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/canary.yaml");
        let example = fs::read_to_string(example).unwrap();
        assert!(example.contains(what), "{what}");
        self.file("canary.yaml", &example.replace(what, instead))
    }
}

#[test]
fn a_wrong_value_is_a_finding_for_people_and_for_programs() {
    let folder = Folder::new();
    for (what, instead, path) in [
        ("{weight: 5,", "{weight: five,", "spec.steps[0].weight"),
        ("{weight: 5,", "{weight: 5%,", "spec.steps[0].weight"),
        ("{weight: 5,", "{weight: 500,", "spec.steps[0].weight"),
        ("for: 5m", "for: -5m", "spec.steps[0].for"),
        ("{name: iris-v2}\n  routes", "{name: iris-v2, port: 99999}\n  routes", "spec.target.service.port"),
        ("profile: istio", "profile: istoi", "spec.metrics.profile"),
        ("max: 1%", "max: 101%", "spec.checks[0].errors.max"),
        ("max: 1%", "max: 1", "spec.checks[0].errors.max"),
        ("  metrics:", "  finish: promote\n  metrics:", "spec.finish"),
        ("sluice.dev/v1alpha1", "sluice.dev/v9", "apiVersion"),
        ("kind: Rollout", "kind: Rollout\nspek: {}", "spek"),
    ] {
        let file = folder.canary(what, instead);
        let lint = run(&["lint", "-f", &file]);
        assert_eq!(lint.status.code(), Some(10), "{instead}: {}{}", out(&lint), err(&lint));
        assert!(out(&lint).starts_with(&format!("mistake  {path}  ")), "{instead}: {}", out(&lint));
        let json = run(&["lint", "-f", &file, "-o", "json"]);
        let found: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&found[0]["severity"], &found[0]["path"]), (&"mistake".into(), &path.into()), "{found}");
        assert_eq!(json.status.code(), Some(10));
        for other in [&["plan"][..], &["simulate", "-s", "examples/scenarios/good.yaml"]] {
            let output = run(&[other, &["-f", &file]].concat());
            assert_eq!(output.status.code(), Some(10), "{other:?} {instead}: {}", err(&output));
            assert!(err(&output).contains(path) && out(&output).is_empty(), "{}", err(&output));
        }
    }
}

#[test]
fn every_mistake_is_found_at_once_and_no_message_is_in_jargon() {
    let folder = Folder::new();
    let text = "apiVersion: sluice.dev/v1alpha1\nkind: Rollout\nmetadata: {name: Iris}\nspec:\n  target: {service: [x]}\n  \
                routes: iris\n  steps: [{weight: '5%', for: 5}]\n  checks: [{name: e, errors: {max: 1}}]\n";
    let output = run(&["lint", "-f", &folder.file("rollout.yaml", text), "-o", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let paths: Vec<_> = found.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "metadata.name",
            "spec.checks[0].errors.max",
            "spec.routes",
            "spec.steps[0].for",
            "spec.steps[0].weight",
            "spec.target.service",
        ]
    );
    for jargon in ["invalid type", "struct", "i32", "u16", "expected a string"] {
        assert!(!out(&output).contains(jargon), "{jargon}: {}", out(&output));
    }
}

#[test]
fn a_virtual_service_that_is_not_in_the_file_beside_others_is_missed() {
    let folder = Folder::new();
    for (what, instead, path, problem) in [
        (
            "{virtualService: iris,",
            "{virtualService: irsi,",
            "spec.routes[0].virtualService",
            "VirtualService default/irsi is not in the file (there is iris)",
        ),
        ("http: [primary]}", "http: [primry]}", "spec.routes", "primry"),
    ] {
        let file = &folder.canary(what, instead);
        let lint = run(&["lint", "-f", file]);
        assert_eq!(lint.status.code(), Some(10), "{}", out(&lint));
        assert!(out(&lint).contains(path) && out(&lint).contains(problem), "{}", out(&lint));
        let plan = run(&["plan", "-f", file]);
        assert_eq!(plan.status.code(), Some(10), "{}", err(&plan));
        assert!(err(&plan).contains(problem), "{}", err(&plan));
    }
}

#[test]
fn no_example_has_a_mistake() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut count = 0;
    for file in files {
        let output = run(&["lint", "-f", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}{}", file.display(), out(&output), err(&output));
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_misspelt_variable_is_a_mistake() {
    let folder = Folder::new();
    let check = "{name: up, query: {promql: 'up{service=\"{{canary.servce}}\"}', min: 1}}";
    let file = folder.canary("{name: p99, latency: {quantile: 0.99, max: 250ms}}", check);
    let output = run(&["lint", "-f", &file]);
    assert_eq!(output.status.code(), Some(10), "{}", out(&output));
    assert!(out(&output).contains("spec.checks[1].query.promql"), "{}", out(&output));
    assert!(out(&output).contains("there is no variable \"canary.servce\""), "{}", out(&output));
}

#[test]
fn what_people_ask_for_in_vain_is_in_the_timeline() {
    let folder = Folder::new();
    let scenario =
        folder.file("s.yaml", "requests: 100\nevents: [{at: 2m, do: DecideStable}, {at: 3m, do: Retry}]\n");
    let args = ["simulate", "-f", "examples/canary.yaml", "-s", &scenario];
    let output = run(&args);
    // Without a histogram the check on latency has no evidence; what counts is that the retry is not the end.
    assert!(out(&output).contains("DecideStable  refused"), "{}", out(&output));
    assert!(out(&output).contains("nothing waits for a decision"), "{}", out(&output));
    assert!(out(&output).contains("Retried") && !out(&output).contains("Retried after"), "{}", out(&output));
    let json: Value = serde_json::from_slice(&run(&[&args[..], &["-o", "json"]].concat()).stdout).unwrap();
    let answer = &json["answers"][0];
    assert_eq!(
        (&answer["at"], &answer["do"], &answer["phase"]),
        (&"2m".into(), &"DecideStable".into(), &"Refused".into())
    );
}

#[test]
fn a_retry_in_the_middle_of_a_good_rollout_ends_in_its_promotion() {
    let folder = Folder::new();
    let good = "latency: {median: 40ms, p99: 150ms}";
    let text =
        format!("requests: 100\nstable: {{{good}}}\ncanary: {{{good}}}\nevents: [{{at: 3m, do: Retry}}]\n");
    let scenario = folder.file("s.yaml", &text);
    let output = run(&["simulate", "-f", "examples/canary.yaml", "-s", &scenario]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("Promoted after 28m"), "{}", out(&output));
}

#[test]
fn answers_to_queries_that_nobody_asks_are_refused() {
    let folder = Folder::new();
    for (text, expected) in [
        ("requests: 1\nqueries: {acuracy: 0.9}\n", "queries.acuracy: no check of this Rollout has that name"),
        (
            "requests: 1\nevents: [{at: 1m, queries: {accuracy: 1}}, {at: 2m, queries: {acuracy: 1}}]\n",
            "events[1].queries.acuracy: no check of this Rollout has that name",
        ),
    ] {
        let scenario = folder.file("s.yaml", text);
        let output = run(&["simulate", "-f", "examples/accuracy.yaml", "-s", &scenario]);
        assert_eq!(output.status.code(), Some(1), "{}{}", out(&output), err(&output));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
}

#[test]
fn what_is_no_yaml_is_said_in_words_with_the_name_of_the_file() {
    let folder = Folder::new();
    let file = folder.file("twice.yaml", "a: 1\na: 2\n");
    let output = run(&["lint", "-f", &file]);
    assert_eq!(output.status.code(), Some(1));
    let error = err(&output);
    assert!(
        error.starts_with(&format!(
            "error: {file} is no YAML that can be read: line 2 column 1: the key a is there twice\n"
        )),
        "{error}"
    );
    assert!(error.contains(&format!("--> {file}:2:1")) && !error.contains("DuplicateKeyPolicy"), "{error}");
    let scenario = folder.file("two.yaml", "requests: 1\n---\nrequests: 2\n");
    let error = err(&run(&["simulate", "-f", "examples/canary.yaml", "-s", &scenario]));
    assert!(error.contains("one is expected") && !error.contains("from_"), "{error}");
}

#[test]
fn a_wrong_command_line_says_what_was_expected() {
    let scenario = ["simulate", "-f", "examples/canary.yaml", "-s", "examples/scenarios/good.yaml"];
    let simulate = |more: &[&'static str]| [&scenario[..], more].concat();
    for (args, expected) in [
        (vec!["plan"], "--file <FILE>"),
        (vec!["plan", "examples/canary.yaml"], "-f examples/canary.yaml reads it"),
        (vec!["get", ""], "it is empty: a name is expected"),
        (vec!["get", "-n", "a b"], "\"a b\" is no name"),
        (vec!["abort", "Iris"], "\"Iris\" is no name"),
        (vec!["explain", "iris", "-d", "0"], "decisions are numbered 1, 2, 3"),
        (vec!["lint", "-f", "examples/canary.yaml", "--rate", "-1"], "0 to 1000000000 is expected"),
        (vec!["plan", "-f", "examples/canary.yaml", "--rate", "-1"], "0 to 1000000000 is expected"),
        (simulate(&["--runs", "99999999999999999999"]), "a whole number from 1 to 10000000 is expected"),
        (simulate(&["--runs", "-1"]), "a whole number from 1 to 10000000 is expected"),
        (simulate(&["--runs", "2", "--seed", "x"]), "a whole number from 0 to"),
        (simulate(&["--seed", "2"]), "--runs <N>"),
        (simulate(&["--healthy"]), "--runs <N>"),
        (vec!["simulate", "-f", "-", "-s", "-"], "only one of -f and -s can be -"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}{}", out(&output), err(&output));
        assert!(err(&output).contains(expected), "{args:?}: {}", err(&output));
    }
}

#[test]
fn a_kubeconfig_that_does_not_fit_is_named_with_what_it_lacks() {
    let folder = Folder::new();
    let config = |context: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [], users: [], contexts: [{{name: c, context: {context}}}]}}"
        )
    };
    let lacks = folder.file("lacks", &config("{cluster: zz, user: u}"));
    let broken = folder.file("broken", "{apiVersion: [");
    for (file, expected) in [
        (&lacks, format!("the kubeconfig {lacks} has no cluster \"zz\", which its context names")),
        (&broken, format!("the kubeconfig {broken} cannot be used: line 1")),
    ] {
        let output = command(&["get"]).env("KUBECONFIG", file).output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        assert!(err(&output).contains(&expected), "{}", err(&output));
        let output = run(&["get", "--kubeconfig", file]);
        assert!(err(&output).contains(&expected), "{}", err(&output));
    }
}

#[test]
fn what_kubectl_writes_is_read_and_namespaces_tell_names_apart() {
    let folder = Folder::new();
    let one = |namespace: &str, weight: &str| {
        format!(
            "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: iris, namespace: {namespace}}}, spec: {{target: \
             {{service: {{name: v2}}}}, routes: [{{virtualService: iris}}], steps: [{{weight: {weight}, for: 5m}}]}}}}"
        )
    };
    let list = format!("{{apiVersion: v1, kind: List, items: [{}, {}]}}", one("a", "5"), one("b", "500"));
    let file = folder.file("list.yaml", &list);
    for (namespace, code) in [("a", 0), ("b", 10)] {
        let output = run(&["lint", "-f", &file, "-n", namespace]);
        assert_eq!(output.status.code(), Some(code), "{namespace}: {}{}", out(&output), err(&output));
    }
    let output = run(&["lint", "-f", &file]);
    assert!(err(&output).contains("has several Rollouts (a/iris, b/iris)"), "{}", err(&output));
    let file = folder.file("other.yaml", "{apiVersion: sluice.dev/v1alpha1, kind: rollout}");
    let output = run(&["lint", "-f", &file]);
    assert!(err(&output).contains("it has rollout of sluice.dev/v1alpha1"), "{}", err(&output));
}

#[test]
fn a_name_does_not_drive_the_terminal() {
    let folder = Folder::new();
    let file = folder
        .canary("kind: Rollout\nmetadata:\n  name: iris", "kind: Rollout\nmetadata:\n  name: \"i\\e[31mx\"");
    for args in [&["lint"][..], &["plan"], &["simulate", "-s", "examples/scenarios/good.yaml"]] {
        let output = run(&[args, &["-f", &file]].concat());
        assert_eq!(output.status.code(), Some(10), "{}", err(&output));
        assert!(!(out(&output) + &err(&output)).contains('\u{1b}'), "{args:?}");
    }
}

/// Sends the signal of Ctrl-C to a process.
fn interrupt(id: u32) {
    let sent = Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn an_interruption_of_many_rehearsals_shows_what_the_ones_before_gave() {
    let mut command = command(&[
        "simulate",
        "-f",
        "-",
        "-s",
        "examples/scenarios/good.yaml",
        "--runs",
        "10000000",
        "-o",
        "json",
    ]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let example = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/canary.yaml")).unwrap();
    // It reads the Rollout after it has begun to listen to signals.
    child.stdin.take().unwrap().write_all(&example).unwrap();
    while !listens(child.id()) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::yield_now();
    }
    interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert!(
        err(&output).contains("interrupted after ") && err(&output).contains(" of 10000000 rehearsals"),
        "{}",
        err(&output)
    );
    if !output.stdout.is_empty() {
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(figures["runs"].as_u64().unwrap() < 10_000_000, "{figures}");
    }
}

/// Whether a process has a handler for the signal of Ctrl-C, which is number 2.
fn listens(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|caught| caught & 0b10 != 0)
}
