//! The documentation says what the code does.
//!
//! The tables of fields in `docs/reference.md` and `docs/scenarios.md` are made from the schemas, and the findings in
//! `docs/lint.md` by the command: `SLUICE_WRITE_DOCS=1 cargo test --test docs`
//! writes them anew. Everything else in the documents and in `examples/` is read here and compared with the code: words,
//! flags, exit codes, names of metrics, manifests, commands, links.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod commands;
mod fields;
mod gitops;
mod lint;
mod manifests;
mod scenarios;
mod words;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use kube::CustomResourceExt;
use serde_json::Value;
use sluice_core::api::{Freeze, Rollout, RolloutAction};

/// A path in the repository.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file, whole.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The reference.
pub(crate) fn reference() -> String {
    read(&root("docs/reference.md"))
}

/// Fails where a document is not as it would be made; with `SLUICE_WRITE_DOCS` it is made anew.
pub(crate) fn written(path: &Path, text: &str, expected: &str) {
    if text == expected {
        return;
    }
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        fs::write(path, expected).unwrap();
        return;
    }
    let differs = text.lines().zip(expected.lines()).find(|(is, should)| is != should);
    panic!(
        "{} is stale ({differs:?}): SLUICE_WRITE_DOCS=1 cargo test --test docs writes it anew",
        path.display()
    );
}

/// README, everything in `docs/`, and every example.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut all = vec![root("README.md"), root("CHANGELOG.md")];
    for (folder, extension) in [("docs", "md"), ("examples", "yaml")] {
        let paths = fs::read_dir(root(folder)).unwrap().map(|entry| entry.unwrap().path());
        all.extend(paths.filter(|path| path.extension().is_some_and(|found| found == extension)));
    }
    all.sort();
    all
}

/// The schema of a kind: what is below `spec` and `status`.
pub(crate) fn schema(kind: &str) -> Value {
    let definition = match kind {
        "Rollout" => serde_json::to_value(Rollout::crd()),
        "RolloutAction" => serde_json::to_value(RolloutAction::crd()),
        "Freeze" => serde_json::to_value(Freeze::crd()),
        other => panic!("{other} is no kind of ours"),
    };
    definition.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

/// The fenced blocks of a document, each with its language and the line it begins at.
pub(crate) fn blocks(text: &str) -> Vec<(String, usize, String)> {
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
