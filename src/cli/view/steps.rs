//! The steps: done, current, to come.

use kube::ResourceExt;
use sluice_core::{
    api::{GoDuration, Rollout, RolloutStatus},
    machine::{Stage, StepState},
    plan::{Plan, PlanErrors, PlannedStep},
};

use super::{
    Screen,
    detail::{indented, title},
    text::thousands,
    text::{Paint, pad, plain, width},
};

/// The step in flight.
pub(super) fn in_flight(status: &RolloutStatus) -> Option<&StepState> {
    match &status.stage {
        Stage::Step(step) => Some(step),
        Stage::Pending | Stage::Idle | Stage::StatusLost | Stage::Released => None,
    }
}

/// What counts now: a rollout in flight goes by the spec that was accepted when it started.
pub(super) fn plan(rollout: &Rollout, status: &RolloutStatus) -> Result<Plan, PlanErrors> {
    let pinned = status.pinned.as_deref().filter(|_| in_flight(status).is_some());
    Plan::new(pinned.unwrap_or(&rollout.spec), &rollout.namespace().unwrap_or_default())
}

/// Where a step stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Done,
    Current,
    ToCome,
}

pub(super) fn section(rollout: &Rollout, status: &RolloutStatus, screen: &Screen) -> Vec<String> {
    let current = in_flight(status);
    let plan = match plan(rollout, status) {
        Ok(plan) => plan,
        Err(errors) => {
            let mut lines = vec![title("WHAT IS WRONG WITH THE SPEC", "", screen)];
            lines.extend(errors.iter().flat_map(|error| indented(&plain(&error.to_string()), 2, screen)));
            return lines;
        }
    };
    let remark = if current.is_some() { "" } else { "of the next revision" };
    let mut lines = vec![title("STEPS", remark, screen)];
    let names: Vec<String> = plan.steps.iter().enumerate().map(|(index, step)| name(index, step)).collect();
    let longest = names.iter().map(|name| width(name)).max().unwrap_or(0).max(width("promotion"));
    for (index, (step, name)) in plan.steps.iter().zip(&names).enumerate() {
        let place = place(index, current);
        let line = format!("{}  {:>3}%  {}", pad(name, longest), step.weight, conditions(step));
        lines.push(marked(place, line.trim_end(), screen));
        if let Some(state) = current.filter(|_| place == Place::Current) {
            lines.push(format!("    {}", Paint::Dim.on(screen.colour, &so_far(step, state))));
        }
    }
    let last = format!("{}  100%", pad("promotion", longest));
    lines.push(marked(place(plan.promotion(), current), &last, screen));
    lines
}

fn place(index: usize, current: Option<&StepState>) -> Place {
    match current.map(|state| index.cmp(&state.index)) {
        Some(std::cmp::Ordering::Less) => Place::Done,
        Some(std::cmp::Ordering::Equal) => Place::Current,
        Some(std::cmp::Ordering::Greater) | None => Place::ToCome,
    }
}

fn marked(place: Place, line: &str, screen: &Screen) -> String {
    let colour = screen.colour;
    match place {
        Place::Done => format!("  {} {}", Paint::Green.on(colour, "✓"), Paint::Dim.on(colour, line)),
        Place::Current => format!("  {} {}", Paint::Cyan.on(colour, "▸"), Paint::Bold.on(colour, line)),
        Place::ToCome => format!("    {line}"),
    }
}

/// The number, and the name where it is another.
fn name(index: usize, step: &PlannedStep) -> String {
    let number = (index + 1).to_string();
    if step.name == number { number } else { format!("{number} {}", plain(&step.name)) }
}

/// What must hold before the next one.
fn conditions(step: &PlannedStep) -> String {
    let mut parts = Vec::new();
    if !step.lasts.is_zero() {
        parts.push(format!("for {}", GoDuration(step.lasts)));
    }
    if step.min_requests > 0 {
        parts.push(format!("{} requests", thousands(step.min_requests)));
    }
    if step.approve {
        parts.push("approval".to_owned());
    }
    parts.join(", ")
}

/// What of it holds already.
fn so_far(step: &PlannedStep, state: &StepState) -> String {
    if let Some(withdrawn) = &state.withdrawn {
        let waited = whole_seconds(withdrawn.waited);
        return format!("no traffic: no ready endpoint for {waited}");
    }
    let mut parts = vec![format!("{} in place", whole_seconds(state.elapsed))];
    if state.evidence.requests > 0 || step.min_requests > 0 {
        parts.push(format!("{} requests answered", thousands(state.evidence.requests)));
    }
    match &state.approved {
        Some(by) => parts.push(format!("approved by {}", plain(by))),
        None if step.approve => parts.push("not approved".to_owned()),
        None => {}
    }
    parts.join(", ")
}

fn whole_seconds(duration: GoDuration) -> GoDuration {
    GoDuration::seconds(duration.0.as_secs())
}
