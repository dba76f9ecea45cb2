//! Steps.

use super::{Code, Finding};
use crate::plan::{Plan, PlannedStep, PlannedSticky};

/// A first step above this share in percent puts more users at risk than a first look needs.
const LARGE_FIRST_STEP: u8 = 20;

pub(super) fn lint(plan: &Plan, findings: &mut Vec<Finding>) {
    if plan.steps.is_empty() {
        findings.push(Finding::new(
            Code::NoSteps,
            "spec.steps",
            "there are no steps: a ready canary gets all requests at once",
            "begin with a small weight, like {weight: 5, for: 5m}",
        ));
    }
    findings.extend(large_first_step(plan));
    findings.extend(plan.steps.iter().filter(|step| ends_at_once(plan, step)).map(|step| {
        Finding::new(
            Code::StepWithoutEnd,
            format!("{}.for", step.path),
            "the step ends as soon as its traffic is in place",
            "say how long it lasts (for), how many requests it needs (minRequests), or who ends it (approve)",
        )
    }));
    for pair in plan.steps.windows(2) {
        let [before, step] = pair else { continue };
        findings.extend(falls(before, step));
        findings.extend(draws_anew(before, step));
    }
}

fn large_first_step(plan: &Plan) -> Option<Finding> {
    let first = plan.steps.iter().find(|step| step.weight > 0)?;
    let previewed = plan.steps.iter().take_while(|step| step.path != first.path).count() > 0;
    (first.weight > LARGE_FIRST_STEP && !previewed).then(|| {
        Finding::new(
            Code::LargeFirstStep,
            format!("{}.weight", first.path),
            format!("the first users of the canary are {}% of all", first.weight),
            format!("begin with {LARGE_FIRST_STEP}% or less, with a match, or with a mirror"),
        )
    })
}

fn ends_at_once(plan: &Plan, step: &PlannedStep) -> bool {
    plan.checks.is_empty() && step.lasts.is_zero() && step.min_requests == 0 && !step.approve
}

fn falls(before: &PlannedStep, step: &PlannedStep) -> Option<Finding> {
    (step.weight > 0 && step.weight < before.weight).then(|| {
        Finding::new(
            Code::FallingWeight,
            format!("{}.weight", step.path),
            format!(
                "the canary gets less than in the step before: {}% after {}%",
                step.weight, before.weight
            ),
            "let weights grow, unless that is what you want",
        )
    })
}

/// Steps that bind users by a hash, after which others draw anew.
fn draws_anew(before: &PlannedStep, step: &PlannedStep) -> Option<Finding> {
    let by @ PlannedSticky::Header(header) = before.sticky.as_ref()? else { return None };
    ((1..100).contains(&step.weight) && step.sticky.as_ref() != Some(by)).then(|| {
        Finding::new(
            Code::UsersDrawnAnew,
            format!("{}.sticky", step.path),
            format!(
                "step {} bound users by the hash in {header}, and here they are drawn anew: who met the canary may meet stable",
                before.name
            ),
            format!("say sticky: {{header: {header}}} here too"),
        )
    })
}
