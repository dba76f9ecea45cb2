//! What `deploy/` has beside the controller does what it says: health checks of Argo CD, run by a Lua interpreter; the
//! dashboard and the alerts, each of their queries asked of a real Prometheus, which also fires the alerts; the Gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod alerts;
mod gateway;
mod health;
mod lua;
mod monitoring;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A path in the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file, whole.
fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The only document of a YAML file.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names that a kustomization lists under `resources`.
fn resources(path: &str) -> Vec<String> {
    let listed = yaml(path)["resources"].as_array().cloned().unwrap_or_default();
    listed.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
