//! What is wrong with a Rollout, or risky about it though it is valid.

mod checks;
mod code;
mod load;
mod promql;
mod rehearsed;
mod steps;

pub use code::Code;
use serde::Serialize;

use crate::{
    api::{Reason, RolloutSpec},
    plan::{Load, Plan, PlanError},
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It depends on what nobody said: how many requests there are, or whether any of them fail.
    Note,
    /// It works, and may do what nobody wants.
    Risk,
    /// It does not work.
    Mistake,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Mistake => "mistake",
        })
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What sort it is of.
    pub code: Code,
    /// The field, like `spec.checks[1].latency.max`.
    pub path: String,
    /// What is wrong or risky.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    fn new(
        code: Code,
        path: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (path, problem, advice) = (path.into(), problem.into(), advice.into());
        Self { severity: code.severity(), code, path, problem, advice }
    }

    /// What to check where nobody said how many requests there are.
    fn note(code: Code, path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(code, path, problem, "say how many there are: --rate N").noted()
    }

    /// The same, where only people know whether it is so.
    fn noted(self) -> Self {
        Self { severity: Severity::Note, ..self }
    }

    /// What the controller refuses about a field.
    pub fn refused(error: &PlanError) -> Self {
        let code = if error.reason == Reason::Unsupported { Code::Unsupported } else { Code::Invalid };
        Self::mistake(code, &error.path, &error.problem)
    }

    /// A field that this version does not know.
    pub fn unknown(path: &str) -> Self {
        Self::mistake(Code::UnknownField, path, "this version does not know it")
    }

    fn mistake(code: Code, path: &str, problem: &str) -> Self {
        Self::new(code, path, problem, "the controller refuses it: nothing starts")
    }
}

/// The risks of a plan, and of the spec that it was made from. What depends on how many requests there are is said as a note
/// where no `load` is given.
pub fn lint(plan: &Plan, spec: &RolloutSpec, load: Option<Load>) -> Vec<Finding> {
    let mut findings = Vec::new();
    steps::lint(plan, &mut findings);
    checks::lint(plan, spec, load, &mut findings);
    load::lint(plan, spec, load, &mut findings);
    let without_meaning = plan.warnings.iter().map(|warning| {
        Finding::new(Code::WithoutMeaning, &warning.path, &warning.problem, "take it away, or mend it")
    });
    findings.extend(without_meaning);
    findings
}

#[cfg(test)]
mod tests;
