//! `sluice lint`: a Rollout's mistakes and risks, with the field and what to do.

use std::io::Write;

use clap::Args;
use serde_json::json;
use sluice_core::{
    api::Share,
    lint::{Finding, Severity, lint},
    plan::{Load, Plan, PlanErrors, target},
};

use super::{
    exit::Failure,
    manifest::{self, File, Manifest},
    output::{self, Form, write},
    plan::rate,
    view::{self, Screen},
};

/// Find a Rollout's mistakes and risks, without a cluster
#[derive(Clone, Debug, Args)]
pub struct LintArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// Requests a second, of all users: whether steps and checks see enough of them; without it that is said as notes
    #[arg(long, value_name = "N", value_parser = rate)]
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
    let manifest = manifest::read(&args.file)?;
    let load = args.rate.map(|rate| Load { rate, matching: args.matching });
    let findings = found(&manifest, load);
    let text = match args.output {
        Form::Text => view::findings(&manifest.name, &findings, screen),
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

fn found(manifest: &Manifest, load: Option<Load>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = manifest.unknown.iter().map(|field| Finding::unknown(field)).collect();
    let namespace = manifest.namespace.as_deref().unwrap_or("default");
    let plan = Plan::named(&manifest.spec, namespace, &manifest.name);
    let errors = [target(&manifest.spec).map(drop).err(), plan.as_ref().err().cloned()];
    findings.extend(errors.iter().flatten().flat_map(PlanErrors::iter).map(Finding::refused));
    if let Ok(plan) = &plan {
        findings.extend(lint(plan, &manifest.spec, load));
    }
    findings
}
