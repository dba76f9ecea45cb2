//! `sluice crd`: the kinds, for `kubectl apply` and for `crds/`.

use std::io::Write;

use clap::{Args, ValueEnum};
use kube::CustomResourceExt;
use serde_json::json;
use sluice_core::api::{Rollout, RolloutAction};

use super::{
    exit::Failure,
    output::{self, write},
};

/// Print the CustomResourceDefinitions of Rollout and `RolloutAction`
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

/// The definitions of both kinds.
pub fn definitions(form: Form) -> Result<String, Failure> {
    let kinds = [Rollout::crd(), RolloutAction::crd()];
    match form {
        Form::Yaml => kinds.iter().map(|kind| Ok(format!("---\n{}", output::yaml(kind)?))).collect(),
        Form::Json => output::json(&json!({ "apiVersion": "v1", "kind": "List", "items": kinds })),
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
