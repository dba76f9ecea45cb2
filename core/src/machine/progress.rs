//! Clocks, evidence, and the way from one step to the next.

use std::time::Duration;

use super::turn::{By, Turn, end_of_evidence, know, remember};
use super::{Outcome, RevisionOutcome, Stage, State, StepState, leaving};
use crate::{
    api::{CheckRecord, Decision, DecisionKind, Finish, GoDuration, Reason},
    judge::{Moment, Verdict, judge, lacks_evidence, overall},
    plan::{Plan, PlannedStep},
};

/// Lets time pass and looks count. True when the evidence got worse: that is worth writing down.
///
/// Time counts only as far as it was observed: at most two intervals a look, so that a jumping clock or a new
/// leader never ends a step early.
pub(super) fn observe(turn: &mut Turn<'_>) -> bool {
    let in_place = turn.in_place();
    let Some(plan) = turn.plan else {
        // Without a plan there is no interval to trust; the default is long enough for a retirement to end.
        retire_a_while(&mut turn.state, turn.facts.elapsed.min(Duration::from_secs(20)), in_place);
        return false;
    };
    let elapsed = turn.facts.elapsed.min(2 * plan.interval);
    retire_a_while(&mut turn.state, elapsed, in_place);
    let Stage::Step(step) = &mut turn.state.stage else { return false };
    if let Some(withdrawn) = &mut step.withdrawn {
        if turn.facts.canary_ready == 0 {
            withdrawn.waited = capped(withdrawn.waited, elapsed, plan.ready_within);
        }
        return false;
    }
    // A look counts if all that it saw happened after the traffic had settled. Traffic that does not come to rest, or
    // cannot be put in place, must not hide a breach for good: after a while the looks count, though no step ends on
    // them.
    let settled = in_place && step.in_place.0 >= plan.settle;
    let restless = step.age.0.saturating_sub(step.settled_at.0) > 2 * plan.settle + 4 * plan.interval;
    step.age = GoDuration(step.age.0 + elapsed);
    if in_place {
        step.elapsed = GoDuration(step.elapsed.0 + elapsed);
        step.in_place = GoDuration(step.in_place.0 + elapsed);
    } else {
        step.in_place = GoDuration::default();
        // What passed has to pass again once the traffic has settled; what fails, or has begun to, is kept.
        turn.state.checks.retain(|check| check.verdict != Verdict::Pass);
    }
    step.settled = settled;
    if settled {
        step.settled_at = step.age;
        if restless {
            turn.state.checks.clear();
        }
    }
    let moment = moment(plan, step);
    let worse = (settled || restless) && look(plan, turn.facts, step, moment, &mut turn.state.checks);
    miss_evidence(turn, elapsed);
    worse
}

fn retire_a_while(state: &mut State, elapsed: Duration, in_place: bool) {
    for retiring in state.retiring.iter_mut().filter(|_| in_place) {
        retiring.waited = capped(retiring.waited, elapsed, leaving::LONGEST);
    }
}

/// Where the step is now. Where it does not settle, since when it has is asked of nobody.
fn moment(plan: &Plan, step: &StepState) -> Moment {
    let in_place = step.in_place.0.saturating_sub(plan.settle);
    Moment { age: step.age.0, settled_since: step.age.0.saturating_sub(in_place) }
}

/// Clocks stop at what they are compared with, so that a long wait is no reason to write.
fn capped(clock: GoDuration, elapsed: Duration, limit: Duration) -> GoDuration {
    GoDuration((clock.0 + elapsed).min(limit.max(clock.0)))
}

fn look(
    plan: &Plan,
    facts: &super::Facts,
    step: &mut StepState,
    moment: Moment,
    checks: &mut Vec<CheckRecord>,
) -> bool {
    let Some(look) = &facts.look else { return false };
    let asked = plan.checks_at(step.index);
    if let Ok(measurement) = &look.counts {
        step.evidence.add(moment.age, measurement, &plan.needs());
    }
    step.evidence.compare(asked.clone().filter(|check| moment.is_past(check.lag)), look);
    let records = judge(asked, &step.evidence, moment, look, checks);
    let worse = records.iter().any(|record| {
        let before = checks.iter().find(|before| before.name == record.name);
        // Not a verdict that was lost: a source that is there and gone by turns would be written down at every look,
        // and the next leader looks anew in any case.
        record.failures > before.map_or(0, |before| before.failures)
    });
    *checks = records;
    worse
}

/// Counts the time in which evidence alone was missing.
fn miss_evidence(turn: &mut Turn<'_>, elapsed: Duration) {
    let Some(plan) = turn.plan else { return };
    let lacks = lacks_evidence_alone(turn);
    let Stage::Step(step) = &mut turn.state.stage else { return };
    if lacks {
        step.short_of_evidence = capped(step.short_of_evidence, elapsed, plan.evidence_limit);
    } else if enough_evidence(plan, step, &turn.state.checks) {
        step.short_of_evidence = GoDuration::default();
    }
}

/// Whether the step would end if only there were evidence.
pub(super) fn lacks_evidence_alone(turn: &Turn<'_>) -> bool {
    let (Some(plan), Some(step)) = (turn.plan, turn.state.step()) else { return false };
    let Some(planned) = plan.steps.get(step.index) else { return false };
    let waits_for_something_else = turn.stopped().is_some()
        || turn.facts.refusal.is_some()
        || turn.facts.canary_ready == 0
        || turn.facts.stable_ready == 0
        || step.withdrawn.is_some()
        || !is_settled(turn, step)
        || step.elapsed.0 < planned.lasts
        || planned.approve && step.approved.is_none()
        // That numbers come late is known; that they do not come is what there is a limit on.
        || plan.checks_at(step.index).any(|check| !check.advisory && !moment(plan, step).is_past(check.lag));
    !waits_for_something_else && !enough_evidence(plan, step, &turn.state.checks)
}

fn enough_evidence(plan: &Plan, step: &StepState, checks: &[CheckRecord]) -> bool {
    let min_requests = plan.steps.get(step.index).map_or(0, |planned| planned.min_requests);
    step.evidence.requests >= min_requests
        && checks.len() == plan.checks_at(step.index).count()
        && overall(checks) != Verdict::Fail
        && !checks.iter().any(lacks_evidence)
}

/// What a step still waits for, in the order in which people want to hear it; nothing when it may end.
pub(super) fn waits_for(turn: &Turn<'_>) -> Option<Reason> {
    let (plan, step) = (turn.plan?, turn.state.step()?);
    if turn.facts.stable_ready == 0
        && (overall(&turn.state.checks) == Verdict::Fail || is_unwanted(turn, plan, step))
    {
        return Some(Reason::StableNotReady);
    }
    if turn.facts.traffic.is_none() || turn.facts.refusal.is_some() && !turn.in_place() {
        return Some(Reason::TrafficNotInPlace);
    }
    if let Some(withdrawn) = step.withdrawn {
        return match turn.facts.canary_ready {
            0 if withdrawn.overdue => Some(Reason::NotReadyInTime),
            0 => Some(Reason::CanaryNotReady),
            _ => turn.stopped().or(turn.facts.refusal.as_ref().map(|refusal| refusal.reason)),
        };
    }
    if turn.facts.canary_ready == 0 {
        return Some(if turn.facts.stable_ready == 0 {
            Reason::StableNotReady
        } else {
            Reason::CanaryNotReady
        });
    }
    let settled = is_settled(turn, step);
    let Some(planned) = plan.steps.get(step.index) else {
        // What was decided before the freeze and did not come to the routes does not come there during it.
        if turn.facts.frozen.is_some() && !turn.in_place() {
            return Some(Reason::Frozen);
        }
        return (!settled || !leaving::stable_may_leave(turn)).then_some(Reason::Promoting);
    };
    if let Some(stopped) = turn.stopped() {
        return Some(stopped);
    }
    lacks(turn, plan, step, planned).or(turn.facts.refusal.as_ref().map(|refusal| refusal.reason))
}

/// What a step lacks that nobody keeps from going on.
fn lacks(turn: &Turn<'_>, plan: &Plan, step: &StepState, planned: &PlannedStep) -> Option<Reason> {
    if !turn.in_place() {
        return Some(Reason::TrafficNotInPlace);
    }
    if !is_settled(turn, step) || step.elapsed.0 < planned.lasts {
        return Some(Reason::StepInProgress);
    }
    if !enough_evidence(plan, step, &turn.state.checks) {
        return Some(Reason::NoEvidence);
    }
    if planned.approve && step.approved.is_none() {
        return Some(Reason::WaitingForApproval);
    }
    if step.index + 1 == plan.promotion() {
        match plan.finish {
            Finish::Wait => return Some(Reason::WaitingForDecision),
            // Stable is to have all again, and could not answer.
            Finish::KeepStable if turn.facts.stable_ready == 0 => return Some(Reason::StableNotReady),
            Finish::KeepStable | Finish::Promote => {}
        }
    }
    None
}

/// What keeps the last step from being decided for stable: for that a pause or a freeze is in nobody's way.
pub(super) fn keeps_from_losing(turn: &Turn<'_>) -> Option<Reason> {
    let (Some(plan), Some(step)) = (turn.plan, turn.state.step()) else { return Some(Reason::New) };
    let Some(planned) = plan.steps.get(step.index) else { return Some(Reason::Promoting) };
    if step.withdrawn.is_some() {
        return Some(Reason::CanaryNotReady);
    }
    match lacks(turn, plan, step, planned) {
        Some(Reason::WaitingForDecision) => None,
        Some(other) => Some(other),
        None => Some(Reason::StepInProgress),
    }
}

/// Whether the traffic was settled all the time since the look before this one, so that a look of now counts.
fn is_settled(turn: &Turn<'_>, step: &StepState) -> bool {
    turn.in_place() && step.settled
}

/// Whether the canary in flight would have to go, because another revision is wanted. One that has earned all traffic
/// becomes stable first, unless it is stable that is wanted again.
fn is_unwanted(turn: &Turn<'_>, plan: &Plan, step: &StepState) -> bool {
    let Some(wanted) = &turn.facts.wanted else { return false };
    let promoting = step.index >= plan.promotion();
    turn.state.canary.as_ref() != Some(wanted) && (!promoting || turn.state.stable.as_ref() == Some(wanted))
}

/// The next step, when this one may end.
pub(super) fn advance(turn: &mut Turn<'_>) -> Option<Decision> {
    let plan = turn.plan?;
    let step = turn.state.step()?.clone();
    if waits_for(turn).is_some() {
        return None;
    }
    if step.withdrawn.is_some() {
        let message = match turn.facts.canary_ready {
            1 => "the canary has a ready endpoint".to_owned(),
            ready => format!("the canary has {ready} ready endpoints"),
        };
        return Some(enter_step(turn, step.index, step.losses, Reason::StepInProgress, message, None));
    }
    if step.index >= plan.promotion() {
        return Some(promoted(turn, &step));
    }
    let message = passed(turn, &step);
    if step.index + 1 == plan.promotion() {
        return Some(end_of_steps(turn, Reason::StepsPassed, message, None));
    }
    Some(go_to(turn, step.index + 1, Reason::StepsPassed, message, None))
}

fn passed(turn: &Turn<'_>, step: &StepState) -> String {
    let name = turn.plan.map_or("", |plan| plan.step_name(step.index));
    let lasted = GoDuration(Duration::from_secs(step.elapsed.0.as_secs()));
    let checks: Vec<String> =
        turn.state.checks.iter().map(|check| format!("{}: {}", check.name, check.message)).collect();
    let checks = if checks.is_empty() { String::new() } else { format!("; {}", checks.join("; ")) };
    format!("step {name} passed after {lasted}, {} requests{checks}", step.evidence.requests)
}

/// What follows the last step, as the spec's `finish` says; a person who passes the last step promotes, unless stable
/// is to be kept.
pub(super) fn end_of_steps(turn: &mut Turn<'_>, reason: Reason, message: String, by: By<'_>) -> Decision {
    match turn.plan.map(|plan| (plan.finish, plan.promotion())) {
        Some((Finish::Promote | Finish::Wait, promotion)) => go_to(turn, promotion, reason, message, by),
        Some((Finish::KeepStable, _)) | None => {
            turn.end(DecisionKind::Observed, Outcome::Observed, Reason::Observed, message, by)
        }
    }
}

/// Enters step `index`.
pub(super) fn go_to(
    turn: &mut Turn<'_>,
    index: usize,
    reason: Reason,
    message: String,
    by: By<'_>,
) -> Decision {
    enter_step(turn, index, 0, reason, message, by)
}

fn enter_step(
    turn: &mut Turn<'_>,
    index: usize,
    losses: u32,
    reason: Reason,
    message: String,
    by: By<'_>,
) -> Decision {
    let promoting = turn.plan.is_some_and(|plan| index >= plan.promotion());
    let kind = if promoting { DecisionKind::Promoting } else { DecisionKind::Entered };
    let checks = turn.judged();
    let decision = turn.decide(kind, reason, message, by, |state| {
        Turn::enter(state, StepState { index, losses, ..StepState::default() });
    });
    // The record shows what the step was entered on.
    Decision { checks, ..decision }
}

fn promoted(turn: &mut Turn<'_>, step: &StepState) -> Decision {
    let at = turn.facts.now;
    let old = turn.state.stable.as_ref();
    let warning = old.map(|old| leaving::warning(turn, old, step.in_place.0)).unwrap_or_default();
    let name = |predictor: &Option<crate::Predictor>| {
        predictor.as_ref().map_or_else(String::new, ToString::to_string)
    };
    let message = format!(
        "{} is stable now, {} left the route{warning}",
        name(&turn.state.canary),
        name(&turn.state.stable)
    );
    let decision = turn.decide(DecisionKind::Promoted, Reason::StepsPassed, message, None, |state| {
        if let Some(old) = state.stable.take() {
            know(state, old);
        }
        if let Some(canary) = state.canary.take() {
            let seq = state.seq;
            let outcome = Outcome::Promoted;
            remember(
                &mut state.outcomes,
                RevisionOutcome { predictor: canary.clone(), outcome, reason: Reason::StepsPassed, seq, at },
            );
            state.stable = Some(canary);
        }
        state.stage = Stage::Idle;
        state.checks.clear();
        end_of_evidence(state);
    });
    // Nothing was taken from it: it has become stable.
    Decision { weight: decision.from_weight, beside: decision.from_beside.clone(), ..decision }
}
