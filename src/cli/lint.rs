//! `sluice lint`: a Rollout's mistakes and risks, with the field and what to do.

use std::io::Write;

use clap::Args;
use serde_json::json;
use sluice_core::{
    api::Share,
    lint::{Finding, Severity, lint},
    plan::{Load, Plan, PlanError},
};

use super::{
    exit::Failure,
    manifest::{self, Draft, File, Manifest},
    objects::Objects,
    output::{self, Form, write},
    plan::{rate, routes},
    view::{self, Screen},
};

/// Find a Rollout's mistakes and risks, without a cluster
#[derive(Clone, Debug, Args)]
pub struct LintArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// Requests a second, of all users: whether steps and checks see enough of them; without it that is said as notes
    #[arg(long, value_name = "N", value_parser = rate, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// The share of the requests that a step's match meets
    #[arg(long, value_name = "SHARE", default_value = "10%", requires = "rate")]
    pub matching: Share,
    /// Fail for risks too, not only for mistakes
    #[arg(long)]
    pub strict: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// Prints what was found; fails where a mistake is among it, or with `--strict` a risk.
pub fn run(args: &LintArgs, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let draft = manifest::draft(&args.file)?;
    let name = draft.name.clone();
    let load = args.rate.map(|rate| Load { rate, matching: args.matching });
    let findings = found(draft, load);
    let text = match args.output {
        Form::Text => view::findings(&name, &findings, screen),
        Form::Json => output::json(&json!(findings))?,
        Form::Yaml => output::yaml(&json!(findings))?,
    };
    write(out, &text)?;
    let worst = if args.strict { Severity::Risk } else { Severity::Mistake };
    match findings.iter().filter(|finding| finding.severity >= worst).count() {
        0 => Ok(()),
        count => Err(Failure::Found(count)),
    }
}

/// Mistakes, and risks as far as mistakes let them be seen.
fn found(draft: Draft, load: Option<Load>) -> Vec<Finding> {
    let mut findings = draft.mistakes();
    let namespace = draft.namespace.clone().unwrap_or_else(|| "default".to_owned());
    if let Some(spec) = &draft.spec
        && let Ok(plan) = Plan::named(spec, &namespace, &draft.name)
    {
        findings.extend(lint(&plan, spec, load));
    }
    if let Ok(manifest) = draft.manifest() {
        findings.extend(around(&manifest, &namespace));
    }
    findings
}

/// What does not fit the objects that stand in the file beside the Rollout.
fn around(manifest: &Manifest, namespace: &str) -> Vec<Finding> {
    let Ok(plan) = manifest.plan(namespace) else { return Vec::new() };
    let lacking = Objects::not_in_file(manifest, &plan, namespace);
    if !lacking.is_empty() {
        return lacking.iter().map(Finding::refused).collect();
    }
    let objects = Objects::of_file(manifest, &plan, namespace);
    if objects.virtual_services.is_empty() || manifest.spec.target.service.is_none() {
        return Vec::new();
    }
    let refused = routes::along(&objects, &plan, &manifest.spec).err().map(|refusal| {
        let (path, problem) = match refusal.message.split_once(": ") {
            Some((path, problem)) if path.starts_with("spec.") => (path, problem),
            Some(_) | None => ("spec.routes", refusal.message.as_str()),
        };
        let (path, problem) = (path.to_owned(), problem.to_owned());
        Finding::refused(&PlanError { path, reason: refusal.reason, problem })
    });
    refused.into_iter().collect()
}
