//! A Rollout in a file: what `plan`, `simulate`, `replay` and `lint` work on, without a cluster.

mod document;
mod metadata;
mod schema;

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt;
use serde_json::Value;
use sluice_core::{
    api::{GROUP, Rollout, RolloutSpec, VERSION},
    lint::Finding,
    plan::{Plan, PlanError, PlanErrors, target},
};

pub use self::document::Which;
use super::exit::Failure;
use crate::metrics::check_template;

/// More than this nobody writes by hand, and nothing reads.
const LARGEST: u64 = 4 << 20;
/// Where a Rollout is whose file does not say it.
const DEFAULT_NAMESPACE: &str = "default";

/// Which file.
#[derive(Clone, Debug, Default, Args)]
#[allow(clippy::struct_field_names)] // the option is called so
pub struct File {
    /// The file with the Rollout, and what else it needs; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Which of several Rollouts in it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The namespace of the command line: it tells Rollouts of one name apart, and is that of one that has none.
    #[arg(skip)]
    pub namespace: Option<String>,
}

/// A Rollout in a file, and what else is in there.
pub struct Manifest {
    /// Namespace of the Rollout, where it or the command line says one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: RolloutSpec,
    /// Whatever else is in the file.
    pub others: Vec<Value>,
}

/// A Rollout in a file as somebody wrote it, its mistakes included.
pub struct Draft {
    /// What the file is called.
    shown: String,
    /// Namespace of the Rollout, where it or the command line says one.
    pub namespace: Option<String>,
    /// Its name, or what stands for one.
    pub name: String,
    /// Its spec, where it can be read.
    pub spec: Option<RolloutSpec>,
    /// What the API server refuses.
    refused: Vec<Finding>,
    others: Vec<Value>,
}

// === impl Manifest ===

impl Manifest {
    /// The plan of the spec, for a namespace where the file says none.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn plan(&self, namespace: &str) -> Result<Plan, Failure> {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        let invalid = |errors: PlanErrors| Failure::Invalid {
            name: format!("{:?}", self.name),
            mistakes: errors.iter().map(ToString::to_string).collect(),
        };
        target(&self.spec).map_err(invalid)?;
        Plan::named(&self.spec, namespace, &self.name).map_err(invalid)
    }
}

// === impl Draft ===

impl Draft {
    /// All that is wrong with it: what the API server refuses, and what the controller does. What both refuse is said in the
    /// controller's words.
    pub fn mistakes(&self) -> Vec<Finding> {
        let by_controller = self.spec.as_ref().map(|spec| self.refused_by_controller(spec));
        let by_controller = by_controller.unwrap_or_default();
        let is_said = |mistake: &&Finding| by_controller.iter().any(|other| other.path == mistake.path);
        let by_server: Vec<_> = self.refused.iter().filter(|mistake| !is_said(mistake)).cloned().collect();
        by_server.into_iter().chain(by_controller).collect()
    }

    fn refused_by_controller(&self, spec: &RolloutSpec) -> Vec<Finding> {
        let namespace = self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let errors = [target(spec).err(), Plan::named(spec, namespace, &self.name).err()];
        let by_plan = errors.iter().flatten().flat_map(PlanErrors::iter).map(Finding::refused);
        by_plan.chain(templates(spec)).collect()
    }

    /// The same without mistakes.
    ///
    /// # Errors
    /// All mistakes.
    pub fn manifest(self) -> Result<Manifest, Failure> {
        let mistakes = self.mistakes();
        let name = self.name;
        match self.spec {
            Some(spec) if mistakes.is_empty() => {
                Ok(Manifest { namespace: self.namespace, name, spec, others: self.others })
            }
            _ => {
                let said = |mistake: &Finding| format!("{}: {}", mistake.path, mistake.problem);
                let name = format!("{name:?} in {}", self.shown);
                Err(Failure::Invalid { name, mistakes: mistakes.iter().map(said).collect() })
            }
        }
    }
}

/// Variables in queries that nothing would be filled in for.
fn templates(spec: &RolloutSpec) -> Vec<Finding> {
    let queries =
        spec.checks.iter().enumerate().filter_map(|(index, check)| Some((index, check.query.as_ref()?)));
    let texts = queries.flat_map(|(index, query)| {
        let field = move |name: &str| format!("spec.checks[{index}].query.{name}");
        [(field("promql"), Some(&query.promql)), (field("total"), query.total.as_ref())]
    });
    let wrong = texts.filter_map(|(path, text)| {
        let problem = check_template(text?).err()?;
        let reason = sluice_core::api::Reason::InvalidSpec;
        Some(Finding::refused(&PlanError { path, reason, problem }))
    });
    wrong.collect()
}

/// Reads the file.
///
/// # Errors
/// A file that cannot be read, is no YAML, has not the one Rollout that was asked for, or one with mistakes.
pub fn read(file: &File) -> Result<Manifest, Failure> {
    draft(file)?.manifest()
}

/// Reads the file, mistakes of the Rollout included.
///
/// # Errors
/// A file that cannot be read, is no YAML, or has not the one Rollout that was asked for.
pub fn draft(file: &File) -> Result<Draft, Failure> {
    let which = Which { name: file.name.as_deref(), namespace: file.namespace.as_deref() };
    parse(&text(&file.file)?, which, &shown(&file.file))
}

/// Reads the text of a file that is called `shown`.
///
/// # Errors
/// As [`draft`], each with the place in the text.
pub(crate) fn parse(text: &str, which: Which<'_>, shown: &str) -> Result<Draft, Failure> {
    let (rollout, others) = document::read(text, which, shown)?;
    let field = |name: &str| rollout["metadata"][name].as_str().map(str::to_owned);
    let (spec, refused) = checked(&rollout);
    Ok(Draft {
        shown: shown.to_owned(),
        namespace: field("namespace").or_else(|| which.namespace.map(str::to_owned)),
        name: field("name").unwrap_or_else(|| "?".to_owned()),
        spec,
        refused,
        others,
    })
}

/// The spec of a Rollout, where it can be read, and what the API server refuses about the whole.
fn checked(rollout: &Value) -> (Option<RolloutSpec>, Vec<Finding>) {
    let mut found = Vec::new();
    let version = format!("{GROUP}/{VERSION}");
    if rollout["apiVersion"] != version.as_str() {
        let problem =
            format!("{} is not known: {version} is expected", schema::shown(&rollout["apiVersion"]));
        found.push(schema::invalid("apiVersion", problem));
    }
    metadata::check(&rollout["metadata"], &mut found);
    let fields = rollout.as_object().into_iter().flatten();
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    found.extend(
        fields
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, _)| metadata::unknown(&schema::member("", name))),
    );
    let spec = schema::stored(&rollout["spec"]);
    match (&*SPEC, spec.is_null()) {
        (_, true) => found.push(schema::invalid("spec", "it is missing".to_owned())),
        (Some(schema), false) => schema::check(schema, &spec, "spec", &mut found),
        (None, false) => {}
    }
    match serde_path_to_error::deserialize(&spec) {
        Ok(spec) => (Some(spec), found),
        // The schema has said it, as far as it knows.
        Err(_) if found.iter().any(|mistake| mistake.path.starts_with("spec")) => (None, found),
        Err(error) => {
            let path = match error.path().to_string() {
                root if root == "." => "spec".to_owned(),
                below if below.starts_with('[') => format!("spec{below}"),
                below => format!("spec.{below}"),
            };
            found.push(schema::invalid(&path, error.inner().to_string()));
            (None, found)
        }
    }
}

/// The schema of a spec, as `sluice crd` prints it.
static SPEC: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(|| {
    let mut versions = Rollout::crd().spec.versions;
    let whole = versions.pop()?.schema?.open_api_v3_schema?;
    whole.properties?.remove("spec")
});

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

/// What a file is called in messages.
pub fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests;
