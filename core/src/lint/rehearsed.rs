//! What a rehearsal says of a plan at a known load: which evidence comes, and when.

use std::time::Duration;

use crate::{
    api::{DecisionKind, GoDuration, Reason, Share},
    plan::{Load, Plan, PlannedCheck, Rule},
    simulate::{Ending, Errors, LONGEST, Timeline, tried, without_people},
};

/// The share of errors that a stable is taken to have.
const USUAL: f64 = 0.01;
/// That of a canary which nobody wants.
const BAD: f64 = 0.1;

/// A canary that is not stopped in time.
pub(super) struct Slow {
    /// Name of the first step with users, which it gets through.
    pub(super) step: String,
    /// What becomes of it then.
    pub(super) then: String,
}

/// Rehearses a bad canary; nothing where it is stopped in the first step in which it has users.
pub(super) fn bad_canary(plan: &Plan, load: Load) -> Option<Slow> {
    let first = plan.steps.iter().position(|step| step.given().has_users())?;
    let timeline = rehearsed(&without_people(plan), load, (USUAL, BAD));
    let later = |(_, number): &(Duration, usize)| *number > first + 1;
    entered(&timeline).find(later)?;
    let bad = timeline.users.errors;
    let then = match timeline.ending {
        Ending::Over { reason: Reason::CheckFailed, at, .. } => {
            format!("and is stopped after {}, when users got {bad} bad answers of it", GoDuration(at))
        }
        Ending::Over { .. } | Ending::Promoted | Ending::Held(_) => {
            format!("and no check stops it: users get {bad} bad answers of it")
        }
    };
    Some(Slow { step: plan.step_name(first).to_owned(), then })
}

/// A step that ends without the proof that it asks for.
pub(super) struct Unproven {
    /// Its index.
    pub(super) step: usize,
    /// How long it would have to last; nothing where the proof never comes.
    pub(super) takes: Option<Duration>,
}

/// Rehearses a canary that fails as often as stable does, with this check alone; nothing where every step has the proof in
/// time.
pub(super) fn unproven(plan: &Plan, check: &PlannedCheck, load: Load) -> Option<Unproven> {
    let plan = alone(plan, check);
    let timeline = rehearsed(&plan, load, (USUAL, USUAL));
    let Ending::Over { reason: Reason::Inconclusive, .. } = timeline.ending else { return None };
    let (_, number) = entered(&timeline).last()?;
    let patient = rehearsed(&Plan { evidence_limit: LONGEST, ..plan }, load, (USUAL, USUAL));
    let at = |number: usize| entered(&patient).find(|(_, other)| *other == number).map(|(at, _)| at);
    let takes = at(number + 1).zip(at(number)).map(|(end, start)| end.saturating_sub(start));
    Some(Unproven { step: number - 1, takes })
}

/// Whether every step has the proof in time where neither arm ever fails.
pub(super) fn is_proven_without_errors(plan: &Plan, check: &PlannedCheck, load: Load) -> bool {
    let timeline = rehearsed(&alone(plan, check), load, (0.0, 0.0));
    !matches!(timeline.ending, Ending::Over { reason: Reason::Inconclusive, .. })
}

/// The plan with the comparison of this check alone.
fn alone(plan: &Plan, check: &PlannedCheck) -> Plan {
    let alone = PlannedCheck { rule: Rule::Errors { max: None }, without_evidence: None, ..check.clone() };
    Plan { checks: vec![alone], ..without_people(plan) }
}

/// When each step was entered, with its number from 1; the promotion is one more.
fn entered(timeline: &Timeline) -> impl Iterator<Item = (Duration, usize)> {
    let entries = timeline
        .decisions
        .iter()
        .filter(|(_, decision)| matches!(decision.kind, DecisionKind::Entered | DecisionKind::Promoting));
    entries.filter_map(|(at, decision)| Some((*at, usize::try_from(decision.step?).ok()?)))
}

/// Rehearses it with these shares of errors of stable and of the canary.
fn rehearsed(plan: &Plan, load: Load, (of_stable, of_canary): (f64, f64)) -> Timeline {
    tried(plan, load, Errors { stable: Share::new(of_stable), canary: Share::new(of_canary) })
}
