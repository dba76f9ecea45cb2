//! The steps: done, current, to come.

use kube::ResourceExt;
use sluice_core::{
    api::{GoDuration, Rollout, RolloutStatus},
    machine::{Stage, StepState},
    plan::{Plan, PlanErrors, PlannedStep},
};

use super::{
    Screen,
    decisions::in_short,
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

/// More steps than these are not all shown.
const MOST_SHOWN: usize = 40;
/// How many of many are shown before the current step, and how many from it on.
const BEFORE: usize = 3;
const FROM: usize = 12;

/// What counts now: a rollout in flight goes by the spec that was accepted when it started.
pub(super) fn plan(rollout: &Rollout, status: &RolloutStatus) -> Result<Plan, PlanErrors> {
    let pinned = status.pinned.as_deref().filter(|_| in_flight(status).is_some());
    let spec = pinned.unwrap_or(&rollout.spec);
    Plan::named(spec, &rollout.namespace().unwrap_or_default(), &rollout.name_any())
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
    let widest = plan.steps.iter().map(|step| width(&in_short(&step.given()))).max().unwrap_or(0).max(4);
    let (first, end) = shown(plan.steps.len(), current.map_or(0, |state| state.index));
    if first > 0 {
        lines.push(format!("    … {} before", thousands(first as u64)));
    }
    for (index, (step, name)) in plan.steps.iter().zip(&names).enumerate().take(end).skip(first) {
        let place = place(index, current);
        let given = pad_left(&in_short(&step.given()), widest);
        let line = format!("{}  {given}  {}", pad(name, longest), conditions(step));
        lines.push(marked(place, line.trim_end(), screen));
        for words in &step.beside.matches {
            let words = indented(&format!("requests: {}", plain(words)), 6, screen);
            lines.extend(words.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
        }
        if let Some(state) = current.filter(|_| place == Place::Current) {
            lines.push(format!("    {}", Paint::Dim.on(screen.colour, &so_far(step, state))));
        }
    }
    if end < plan.steps.len() {
        lines.push(format!("    … {} more", thousands((plan.steps.len() - end) as u64)));
    }
    let last = format!("{}  {}", pad("promotion", longest), pad_left("100%", widest));
    lines.push(marked(place(plan.promotion(), current), &last, screen));
    lines
}

/// The first of `steps` that is shown, and the one after the last.
fn shown(steps: usize, current: usize) -> (usize, usize) {
    if steps <= MOST_SHOWN {
        return (0, steps);
    }
    let first = current.saturating_sub(BEFORE).min(steps.saturating_sub(FROM));
    (first, (current + FROM).min(steps))
}

fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
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
    if let Some(sticky) = &step.sticky {
        parts.push(format!("sticky by {}", plain(&sticky.to_string())));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::view::fixtures::{screen, waiting};

    #[test]
    fn of_very_many_steps_those_around_the_current_one_are_shown() {
        let mut rollout = waiting("iris");
        let ramps = json!(vec![json!({"ramp": {"from": 1, "to": 100, "by": 1, "every": "1m"}}); 100]);
        let mut status = rollout.status.take().unwrap();
        status.pinned = None;
        rollout.spec.steps = serde_json::from_value(ramps).unwrap();
        if let Stage::Step(step) = &mut status.stage {
            step.index = 5000;
        }
        let lines = section(&rollout, &status, &screen(80));
        assert!(lines.len() < 25, "{} lines", lines.len());
        assert_eq!(lines[1], "    … 4,997 before");
        assert!(lines[5].contains("5001") && lines[5].contains("1%"), "{}", lines[5]);
        assert_eq!(lines[lines.len() - 2], "    … 4,988 more");
    }

    #[test]
    fn the_last_of_many_steps_is_shown_too() {
        for current in [0, 1, 9_990, 9_999, 10_000] {
            let (first, end) = shown(10_000, current);
            assert!(
                first < end && end <= 10_000 && end - first <= BEFORE + FROM,
                "{current}: {first}..{end}"
            );
            assert!(first <= current && (current < end || current == 10_000), "{current}: {first}..{end}");
        }
        assert_eq!(shown(40, 39), (0, 40));
    }
}
