//! `sluice lint`: a Rollout's mistakes and risks, with the field and what to do.

use std::io::Write;

use clap::Args;
use serde_json::json;
use sluice_core::{
    lint::{Finding, Severity, lint},
    plan::{Plan, PlanErrors, target},
};

use super::{
    exit::Failure,
    manifest::{self, File},
    output::{self, Form, write},
    view::{self, Screen},
};

/// Find a Rollout's mistakes and risks, without a cluster
#[derive(Clone, Debug, Default, Args)]
pub struct LintArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// Fail for risks too, not only for mistakes
    #[arg(long)]
    pub strict: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// Prints what was found; fails where a mistake is among it, or with `--strict` anything.
pub fn run(args: &LintArgs, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let manifest = manifest::read(&args.file)?;
    let mistake = |path: String, problem: String| Finding {
        severity: Severity::Mistake,
        path,
        problem,
        advice: "the controller refuses it: nothing starts".to_owned(),
    };
    let mut findings: Vec<Finding> = manifest
        .unknown
        .iter()
        .map(|field| mistake(field.clone(), "this version does not know it".to_owned()))
        .collect();
    let namespace = manifest.namespace.as_deref().unwrap_or("default");
    let plan = Plan::named(&manifest.spec, namespace, &manifest.name);
    let errors = [target(&manifest.spec).map(drop).err(), plan.as_ref().err().cloned()];
    for error in errors.iter().flatten().flat_map(PlanErrors::iter) {
        findings.push(mistake(error.path.clone(), error.problem.clone()));
    }
    if let Ok(plan) = &plan {
        findings.extend(lint(plan, &manifest.spec));
    }
    let text = match args.output {
        Form::Text => view::findings(&manifest.name, &findings, screen),
        Form::Json => output::json(&json!(findings))?,
        Form::Yaml => output::yaml(&json!(findings))?,
    };
    write(out, &text)?;
    let counts = |finding: &Finding| args.strict || finding.severity == Severity::Mistake;
    match findings.iter().filter(|finding| counts(finding)).count() {
        0 => Ok(()),
        count => Err(Failure::Found(count)),
    }
}
