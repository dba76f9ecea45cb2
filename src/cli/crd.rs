//! `sluice crd`: the kinds, for `kubectl apply` and for `crds/`.

use std::io::Write;

use clap::{Args, ValueEnum};
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_core::api::{Freeze, Rollout, RolloutAction};

use super::{
    exit::Failure,
    output::{self, write},
};

/// Print the CustomResourceDefinitions of Rollout, `RolloutAction` and Freeze
#[derive(Clone, Debug, Args)]
#[command(after_help = "Install them with:\n  sluice crd | kubectl apply --server-side -f -")]
pub struct CrdArgs {
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// The form of the definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// YAML, one document each.
    #[default]
    Yaml,
    /// JSON, one `List`.
    Json,
}

/// Prints the definitions.
pub(super) fn crd(args: &CrdArgs, out: &mut dyn Write) -> Result<(), Failure> {
    write(out, &definitions(args.output)?)
}

/// The definitions of all kinds.
pub fn definitions(form: Form) -> Result<String, Failure> {
    let kinds = [
        known_formats(&Rollout::crd())?,
        known_formats(&RolloutAction::crd())?,
        known_formats(&Freeze::crd())?,
    ];
    match form {
        Form::Yaml => kinds.iter().map(|kind| Ok(format!("---\n{}", output::yaml(kind)?))).collect(),
        Form::Json => output::json(&json!({ "apiVersion": "v1", "kind": "List", "items": kinds })),
    }
}

/// The definition without the formats of Rust's unsigned numbers: Kubernetes does not know them and warns of each
/// when the definition is applied. The minimum and maximum beside them say the same.
fn known_formats(definition: &impl Serialize) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(definition)
        .map_err(|error| Failure::Format { format: "JSON", message: error.to_string() })?;
    without_unsigned_formats(&mut value);
    Ok(value)
}

fn without_unsigned_formats(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let unsigned = |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
            if fields.get("format").is_some_and(unsigned) {
                fields.remove("format");
            }
            fields.values_mut().for_each(without_unsigned_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(without_unsigned_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_in_the_repository_are_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/sluice.dev.yaml");
        let stored = std::fs::read_to_string(path).unwrap();
        assert!(
            stored == definitions(Form::Yaml).unwrap(),
            "crds/sluice.dev.yaml is stale: `cargo run -- crd > crds/sluice.dev.yaml` writes it anew"
        );
    }

    #[test]
    fn both_forms_say_the_same() {
        let list: serde_json::Value = serde_json::from_str(&definitions(Form::Json).unwrap()).unwrap();
        let yaml = definitions(Form::Yaml).unwrap();
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(list["items"].as_array().unwrap(), &documents);
    }
}
