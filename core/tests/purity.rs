//! The core decides and does nothing else: it has no client, no runtime and no sockets among its dependencies, so
//! that the controller, the simulator and the property tests run the same code. The compiler keeps it so only as long
//! as the manifest does.
#![allow(clippy::expect_used, reason = "a test, though clippy knows only the functions marked so")]

use std::{collections::BTreeSet, process::Command};

/// What would let the core look at the world or wait for it.
const IMPURE: [&str; 9] =
    ["tokio", "kube", "kube-client", "kube-runtime", "reqwest", "hyper", "axum", "async-std", "mio"];

/// Names of all crates that `sluice-core` is built from.
fn dependencies() -> BTreeSet<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--manifest-path", manifest, "--package", "sluice-core"])
        .args(["--edges", "normal", "--target", "all", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_core_has_no_client_and_no_runtime() {
    let dependencies = dependencies();
    assert!(dependencies.contains("sluice-core") && dependencies.contains("serde"), "{dependencies:?}");
    for impure in IMPURE {
        assert!(!dependencies.contains(impure), "{impure} is a dependency of sluice-core");
    }
}
