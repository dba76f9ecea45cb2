//! A Rollout in a file: what `plan`, `simulate` and `lint` work on, without a cluster.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;
use sluice_core::{
    api::RolloutSpec,
    plan::{Plan, target},
};

use super::exit::Failure;
use crate::text::spelled;

/// More than this nobody writes by hand, and nothing reads.
const LARGEST: u64 = 4 << 20;

/// Which file.
#[derive(Clone, Debug, Default, Args)]
pub struct File {
    /// The file with the Rollout, and what else it needs; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Which of several Rollouts in it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// A Rollout in a file, and what else is in there.
pub struct Manifest {
    /// Namespace of the Rollout, where it says one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: RolloutSpec,
    /// Fields that this version does not know.
    pub unknown: Vec<String>,
    /// Whatever else is in the file.
    pub others: Vec<Value>,
}

impl Manifest {
    /// The plan of the spec, for a namespace where the file says none.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn plan(&self, namespace: &str) -> Result<Plan, Failure> {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        let invalid =
            |problems: String| Failure::Other(format!("the Rollout {:?} is invalid: {problems}", self.name));
        if let Some(unknown) = self.unknown.first() {
            return Err(invalid(format!("{unknown}: this version does not know it")));
        }
        target(&self.spec).map_err(|errors| invalid(errors.to_string()))?;
        Plan::named(&self.spec, namespace, &self.name).map_err(|errors| invalid(errors.to_string()))
    }
}

/// Reads the file.
///
/// # Errors
/// A file that cannot be read, is no YAML, or has not the one Rollout that was asked for.
pub fn read(file: &File) -> Result<Manifest, Failure> {
    parse(&text(&file.file)?, file.name.as_deref(), &shown(&file.file))
}

/// Reads the text of a file that is called `shown`, for the Rollout of this name where there are several.
///
/// # Errors
/// As [`read`], each with the place in the text or the field.
pub(crate) fn parse(text: &str, name: Option<&str>, shown: &str) -> Result<Manifest, Failure> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| Failure::Other(format!("{shown} is no YAML that can be read: {error}")))?;
    let is_rollout = |document: &Value| {
        let group = document["apiVersion"].as_str().unwrap_or_default();
        group.starts_with("sluice.dev/") && document["kind"] == "Rollout"
    };
    let (rollouts, others): (Vec<Value>, Vec<Value>) = documents.into_iter().partition(is_rollout);
    let rollout = chosen(rollouts, name, shown)?;
    let field = |name: &str| rollout["metadata"][name].as_str().map(str::to_owned);
    let name =
        field("name").ok_or_else(|| Failure::Other(format!("{shown}: a Rollout has no metadata.name")))?;
    let mut unknown = Vec::new();
    let mut ignored = |path: serde_ignored::Path<'_>| unknown.push(format!("spec{}", spelled(&path)));
    let reader = serde_ignored::Deserializer::new(&rollout["spec"], &mut ignored);
    let spec = serde_path_to_error::deserialize(reader).map_err(|error| {
        let field = match error.path().to_string() {
            root if root == "." => String::new(),
            below if below.starts_with('[') => below,
            below => format!(".{below}"),
        };
        let error = error.inner();
        Failure::Other(format!("{shown}: the Rollout {name:?}: spec{field}: {error}"))
    })?;
    Ok(Manifest { namespace: field("namespace"), name, spec, unknown, others })
}

fn chosen(mut rollouts: Vec<Value>, name: Option<&str>, shown: &str) -> Result<Value, Failure> {
    let name_of = |rollout: &Value| rollout["metadata"]["name"].as_str().unwrap_or("?").to_owned();
    let there: Vec<String> = rollouts.iter().map(name_of).collect();
    if let Some(name) = name {
        rollouts.retain(|rollout| rollout["metadata"]["name"] == name);
    }
    match (rollouts.len(), name) {
        (1, _) => Ok(rollouts.remove(0)),
        (0, None) => Err(Failure::Other(format!("{shown} has no Rollout of sluice.dev: expected one"))),
        (0, Some(name)) => {
            Err(Failure::Other(format!("{shown} has no Rollout {name:?}: there is {}", listed(&there))))
        }
        _ => Err(Failure::Other(format!(
            "{shown} has several Rollouts ({}): name one with --name",
            listed(&there)
        ))),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The text of a file.
///
/// # Errors
/// A file that cannot be read, is not text, or far too large.
pub fn text(path: &Path) -> Result<String, Failure> {
    let shown = shown(path);
    let failed = |error: std::io::Error| Failure::Other(format!("cannot read {shown}: {error}"));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).map_err(failed)?.take(LARGEST + 1).read_to_string(&mut text)
    };
    if read.map_err(failed)? as u64 > LARGEST {
        return Err(Failure::Other(format!("{shown} is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(text)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
