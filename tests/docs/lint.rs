//! `docs/lint.md`: every sort of finding, with an example in `examples/lint` and what the command says of it.

use std::{collections::BTreeSet, fmt::Write as _, fs, process::Command};

use serde_json::Value;
use sluice_core::lint::{Code, Severity};

use crate::{read, root, written};

/// Where each example is at fault.
fn field(code: Code) -> &'static str {
    match code {
        Code::NoSteps => "spec.steps",
        Code::LargeFirstStep | Code::Invalid => "spec.steps[0].weight",
        Code::StepWithoutEnd | Code::StepTooShort => "spec.steps[0].for",
        Code::FallingWeight => "spec.steps[1].weight",
        Code::UsersDrawnAnew => "spec.steps[1].sticky",
        Code::NoCheck | Code::NoLimit => "spec.checks",
        Code::SingleError => "spec.checks[0].errors.max",
        Code::LimitBetweenBuckets => "spec.checks[0].latency.max",
        Code::DifferenceTooSmall => "spec.checks[0].query.versusStable.maxRatio",
        Code::ShareAsNumber => "spec.checks[1].query.total",
        Code::ShortWindow => "spec.checks[0]",
        Code::WithoutMeaning => "spec.annotations[seldon.io/istio-retries-timeout]",
        Code::RequestsOutOfReach => "spec.checks[0].errors.minRequests",
        Code::ProofOutOfReach => "spec.checks[0].errors.versusStable.prove",
        Code::Unsupported => "spec.target.deployment",
        Code::UnknownField => "spec.checks[0].consecutiveFailure",
    }
}

/// The command that the first line of an example tells to type, and the example.
fn example(code: Code) -> (String, String) {
    let text = read(&root(&format!("examples/lint/{code}.yaml")));
    let (first, rest) = text.split_once('\n').unwrap();
    let command = first.strip_prefix("#   ").unwrap_or_else(|| panic!("{code}: {first}"));
    (command.to_owned(), rest.to_owned())
}

/// What the command prints with these arguments beside its own, and its exit code.
fn linted(command: &str, more: &[&str]) -> (String, i32) {
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("sluice"), "{command}");
    let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
    sluice.current_dir(root("")).env_clear().env("HOME", "/nowhere").args(words).args(more);
    let output = sluice.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn each_example_has_its_one_finding_at_its_field() {
    for code in Code::ALL {
        let (command, _) = example(code);
        let (found, exit) = linted(&command, &["--strict", "-o", "json"]);
        let found: Value =
            serde_json::from_str(&found).unwrap_or_else(|error| panic!("{code}: {error}: {found}"));
        let found: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| ["code", "path", "severity"].map(|field| one[field].as_str().unwrap().to_owned()))
            .collect();
        let severity = code.severity().to_string();
        assert_eq!(found, [[code.name().to_owned(), field(code).to_owned(), severity]], "{command}");
        assert_eq!(exit, 10, "{command}");
        let without_strict = if code.severity() == Severity::Mistake { 10 } else { 0 };
        assert_eq!(linted(&command, &[]).1, without_strict, "{command}");
    }
    let files = fs::read_dir(root("examples/lint")).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, Code::ALL.iter().map(|code| code.name().to_owned()).collect(), "examples/lint");
}

#[test]
fn an_example_that_is_about_the_rate_is_a_note_or_nothing_without_it() {
    for code in Code::ALL.into_iter().filter(|code| code.needs_the_rate()) {
        let (command, _) = example(code);
        let (command, _) = command.split_once(" --rate ").unwrap();
        let (found, exit) = linted(command, &["--strict", "-o", "json"]);
        assert_eq!(exit, 0, "{found}");
        let found: Value = serde_json::from_str(&found).unwrap();
        let notes = found.as_array().unwrap();
        assert!(!notes.is_empty() && notes.iter().all(|note| note["severity"] == "note"), "{code}: {found}");
    }
}

/// The table of all findings, and a section about each.
fn findings() -> String {
    let mut out = String::from("\n| Name | | Found |\n|---|---|---|\n");
    for code in Code::ALL {
        let first = code.meaning().split_inclusive(". ").next().unwrap().trim_end();
        writeln!(out, "| [`{code}`](#{code}) | {} | {first} |", code.severity()).unwrap();
    }
    for code in Code::ALL {
        let (command, example) = example(code);
        let (said, _) = linted(&command, &[]);
        write!(
            out,
            "\n### {code}\n\n{} {}\n\n```yaml lint\n{example}```\n\n```console\n$ {command}\n{said}```\n",
            code.meaning(),
            code.advice(),
        )
        .unwrap();
    }
    out + "\n"
}

#[test]
fn the_page_has_every_finding_as_the_command_says_it() {
    let path = root("docs/lint.md");
    let text = read(&path);
    let (before, rest) = text.split_once("<!-- findings -->\n").expect("a mark where findings begin");
    let (_, after) = rest.split_once("<!-- end -->\n").expect("a mark where findings end");
    let expected = format!("{before}<!-- findings -->\n{}<!-- end -->\n{after}", findings());
    written(&path, &text, &expected);
}
