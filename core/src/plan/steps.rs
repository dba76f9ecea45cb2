//! Steps, with ramps expanded.

use std::time::Duration;

use super::PlanErrors;
use crate::api::{Ramp, Step};

/// One traffic setting and what must hold before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The user's name for it, or its number.
    pub name: String,
    /// The canary's share of the pair's requests in percent, 1 to 100.
    pub weight: u8,
    /// How long it lasts at least.
    pub lasts: Duration,
    /// Requests that the canary must have answered in it.
    pub min_requests: u64,
    /// Whether a person's approval ends it.
    pub approve: bool,
}

pub(super) fn expand(steps: &[Step], errors: &mut PlanErrors) -> Vec<PlannedStep> {
    let mut planned = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let path = format!("spec.steps[{index}]");
        refuse_what_is_not_there_yet(step, &path, errors);
        match (&step.ramp, step.weight) {
            (Some(ramp), None) => expand_ramp(step, ramp, &path, &mut planned, errors),
            (Some(_), Some(_)) => errors.invalid(&path, "a ramp stands alone: leave out weight"),
            (None, Some(weight)) => {
                let weight = percent(weight, 1, &format!("{path}.weight"), errors);
                let lasts = step.lasts.unwrap_or_default().0;
                push(&mut planned, step, weight, lasts, step.approve);
            }
            // Said above: a mirror or a match is a setting, only not one of this version.
            (None, None) if step.mirror.is_some() || !step.matches.is_empty() => {}
            (None, None) => errors.invalid(&path, "a weight or a ramp is expected"),
        }
    }
    planned
}

fn refuse_what_is_not_there_yet(step: &Step, path: &str, errors: &mut PlanErrors) {
    for (field, given) in [
        ("mirror", step.mirror.is_some()),
        ("match", !step.matches.is_empty()),
        ("sticky", step.sticky.is_some()),
    ] {
        if given {
            errors.unsupported(&format!("{path}.{field}"), "steps move traffic by weight only");
        }
    }
}

fn expand_ramp(
    step: &Step,
    ramp: &Ramp,
    path: &str,
    planned: &mut Vec<PlannedStep>,
    errors: &mut PlanErrors,
) {
    if step.lasts.is_some() {
        errors.invalid(&format!("{path}.for"), "a ramp has ramp.every in place of for");
    }
    let from = percent(ramp.from, 1, &format!("{path}.ramp.from"), errors);
    let to = percent(ramp.to, 1, &format!("{path}.ramp.to"), errors);
    let by = percent(ramp.by, 1, &format!("{path}.ramp.by"), errors);
    if from > to {
        errors.invalid(&format!("{path}.ramp"), format!("a ramp goes up: from {from} is above to {to}"));
        return;
    }
    let mut weight = from;
    loop {
        // A gate on a ramp is one gate, behind its last weight.
        push(planned, step, weight, ramp.every.0, step.approve && weight == to);
        if weight >= to {
            return;
        }
        weight = weight.saturating_add(by.max(1)).min(to);
    }
}

fn push(planned: &mut Vec<PlannedStep>, step: &Step, weight: u8, lasts: Duration, approve: bool) {
    let number = planned.len() + 1;
    let name = match (&step.name, &step.ramp) {
        (Some(name), Some(_)) => format!("{name}-{weight}"),
        (Some(name), None) => name.clone(),
        (None, _) => number.to_string(),
    };
    planned.push(PlannedStep { name, weight, lasts, min_requests: step.min_requests.unwrap_or(0), approve });
}

/// `value` as a percentage of at least `least`; an error and the nearest percentage where it is none.
fn percent(value: i32, least: u8, path: &str, errors: &mut PlanErrors) -> u8 {
    match u8::try_from(value) {
        Ok(percent) if (least..=100).contains(&percent) => percent,
        Ok(_) | Err(_) => {
            errors.invalid(path, format!("{value} is out of range: {least} to 100 is expected"));
            least
        }
    }
}
