//! `cargo demo` as a person runs it: its exit code, what it says at the end, and that nothing of it is left.
#![allow(clippy::unwrap_used, reason = "a test, though clippy knows only the functions marked so")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sluice_lab::real::of_group;

/// The demo's program. Its tests are built in its place when tests are.
fn demo() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = sluice_lab::cargo::build_programs(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        folder.join("examples/demo")
    })
}

/// What it wrote, after it ended well and all its processes with it.
fn told(arguments: &[&str]) -> String {
    let mut command = Command::new(demo());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).spawn().unwrap();
    let group = child.id();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(of_group(group), [""; 0], "what is left of it");
    assert!(!out.contains('\x1b'), "plain lines: {out}");
    out.into_owned()
}

/// All of these, in this order, one line each.
fn has_lines(text: &str, expected: &[&str]) {
    let mut lines = text.lines();
    for part in expected {
        assert!(lines.any(|line| line.contains(part)), "{part:?} is not in its place in:\n{text}");
    }
}

/// What both releases were, and what came of them.
fn has_both_releases(text: &str) {
    has_lines(
        text,
        &[
            "Sluice, live: a good release is promoted, a bad one is rolled back.",
            "Adopted",
            "■ A good release",
            "Entered 5% → 25%",
            "Entered 25% → 50%",
            "Promoted",
            "■ A release that breaks when it gets 25%",
            "iris-v3 breaks",
            "RolledBack 25% → 0%",
            "before and after the rollback",
            "no difference",
            "■ Both ended as they should, after ",
            "✓ iris-v2 went 0% → 5% → 25% → 50% → 100%",
            "went to iris-v2",
            "and no request failed",
            "✓ iris-v3 went 0% → 5% → 25% → 0%, and iris-v2 has 100%",
            "went to iris-v2",
            "s from its first failed request to weight 0",
            "✓ the weights add up to 100 in all ",
            "✓ all that Sluice does not manage is as it was",
            "Try next",
        ],
    );
    assert!(!text.contains('✗'), "{text}");
}

#[test]
fn in_memory_both_releases_end_as_they_should() {
    let text = told(&["--plain"]);
    has_both_releases(&text);
    has_lines(&text, &["on a Kubernetes API in memory", "the counts of the gateway say"]);
}

#[test]
fn on_real_parts_both_releases_end_as_they_should() {
    let text = told(&["--real", "--plain"]);
    has_both_releases(&text);
    let parts = [
        "the one of `sluice run`, on a real kube-apiserver",
        "a real Prometheus reads MLServer's metrics there",
        "a real Envoy that a real istiod tells what the VirtualService `iris` says",
        "the counts of the predictors say",
    ];
    has_lines(&text, &parts);
}
