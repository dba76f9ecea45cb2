//! What takes traffic away from the canary.

use super::progress;
use super::turn::{LONGEST_ANSWER, Turn};
use super::{Outcome, Pause, Stage, StepState, Withdrawn};
use crate::{
    api::{CheckRecord, Decision, DecisionKind, GoDuration, Reason, Then},
    judge::{Verdict, lacks_evidence, overall},
    plan::Plan,
    text::fit,
};

/// A Rollout that is being deleted gives its routes back to stable, at once and whatever else is going on.
pub(super) fn release(turn: &mut Turn<'_>) -> Option<Decision> {
    match turn.state.stage {
        Stage::Idle | Stage::Step(_) | Stage::StatusLost if turn.facts.deleted => {}
        Stage::Pending | Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released => return None,
    }
    let was_in_flight = turn.state.in_flight();
    let message = "the Rollout is being deleted: the routes go back to stable";
    let decision = if was_in_flight {
        turn.end(DecisionKind::Released, Outcome::Released, Reason::Deleted, message, None)
    } else {
        turn.decide(DecisionKind::Released, Reason::Deleted, message, None, |_| ())
    };
    turn.state.stage = Stage::Released;
    Some(Decision { step: None, ..decision })
}

/// Another revision is wanted than the one in flight: that one goes first, the new one starts afterwards.
pub(super) fn other_revision_wanted(turn: &mut Turn<'_>) -> Option<Decision> {
    let wanted = turn.facts.wanted.as_ref()?;
    let step = turn.state.step()?;
    if turn.state.canary.as_ref() == Some(wanted) || must_hold(turn) {
        return None;
    }
    if turn.state.stable.as_ref() == Some(wanted) {
        let message = format!("{wanted} is stable and wanted again: it has all traffic");
        return Some(turn.end(DecisionKind::Cancelled, Outcome::Cancelled, Reason::Cancelled, message, None));
    }
    // A canary that has earned all traffic becomes stable before the next one starts: sending users back to the
    // old stable for a moment would help nobody.
    let promoting = turn.plan.is_some_and(|plan| step.index == plan.promotion()) && step.withdrawn.is_none();
    if promoting {
        return None;
    }
    let message = format!("{wanted} is wanted now: the canary before it has no traffic any more");
    Some(turn.end(DecisionKind::Superseded, Outcome::Superseded, Reason::Superseded, message, None))
}

/// A check says Fail.
pub(super) fn failed_check(turn: &mut Turn<'_>) -> Option<Decision> {
    let step = turn.state.step()?;
    if step.withdrawn.is_some() || overall(&turn.state.checks) != Verdict::Fail || must_hold(turn) {
        return None;
    }
    let failed = turn.state.checks.iter().filter(|check| check.verdict == Verdict::Fail && !check.advisory);
    let message = failed.map(describe).collect::<Vec<_>>().join("; ");
    Some(turn.end(DecisionKind::RolledBack, Outcome::RolledBack, Reason::CheckFailed, message, None))
}

fn describe(check: &CheckRecord) -> String {
    format!("{}: {}", check.name, check.message)
}

/// The canary has traffic and no ready endpoint. The first time in a step the step starts anew when it is ready
/// again, the second time is the last.
pub(super) fn lost_endpoints(turn: &mut Turn<'_>) -> Option<Decision> {
    let step = turn.state.step()?;
    if let Some(withdrawn) = &step.withdrawn {
        let overdue = withdrawn.overdue;
        return if overdue { None } else { overdue_canary(turn) };
    }
    if turn.facts.canary_ready > 0 || must_hold(turn) {
        return None;
    }
    let (index, losses) = (step.index, step.losses + 1);
    if losses > 1 {
        let message =
            turn.of_canary("the canary lost its last ready endpoint for the second time in this step");
        return Some(turn.end(
            DecisionKind::RolledBack,
            Outcome::RolledBack,
            Reason::CanaryLost,
            message,
            None,
        ));
    }
    let message = turn.of_canary(
        "the canary lost its last ready endpoint: no traffic until it is ready, then the step starts anew",
    );
    Some(turn.decide(DecisionKind::Withdrawn, Reason::CanaryNotReady, message, None, |state| {
        let withdrawn = Some(Withdrawn::default());
        Turn::enter(state, StepState { index, withdrawn, losses, ..StepState::default() });
    }))
}

fn overdue_canary(turn: &mut Turn<'_>) -> Option<Decision> {
    let plan = turn.plan?;
    let waited = turn.state.step()?.withdrawn?.waited;
    if waited.0 < plan.ready_within || turn.facts.canary_ready > 0 {
        return None;
    }
    let message = format!("the canary has no ready endpoint after {}", GoDuration(plan.ready_within));
    let message = turn.of_canary(message);
    Some(turn.decide(DecisionKind::Overdue, Reason::NotReadyInTime, message, None, |state| {
        if let Stage::Step(step) = &mut state.stage
            && let Some(withdrawn) = &mut step.withdrawn
        {
            withdrawn.overdue = true;
        }
    }))
}

/// Evidence alone was missing for too long.
pub(super) fn missing_evidence(turn: &mut Turn<'_>) -> Option<Decision> {
    let plan = turn.plan?;
    let step = turn.state.step()?;
    if !progress::lacks_evidence_alone(turn) || step.short_of_evidence.0 < plan.evidence_limit {
        return None;
    }
    let lacking = lacking_evidence(&turn.state.checks, step.evidence.requests);
    let message = format!("no evidence for {}: {lacking}", GoDuration(plan.evidence_limit));
    match without_evidence(plan, &turn.state.checks) {
        Then::Pause => {
            Some(turn.decide(DecisionKind::Paused, Reason::Inconclusive, message.clone(), None, |state| {
                let message = Some(fit(message, LONGEST_ANSWER));
                state.pause = Some(Pause { reason: Reason::Inconclusive, by: None, message });
            }))
        }
        Then::Rollback if must_hold(turn) => None,
        Then::Rollback => {
            Some(turn.end(DecisionKind::RolledBack, Outcome::RolledBack, Reason::Inconclusive, message, None))
        }
    }
}

/// What the checks that lack evidence want done, each for itself or as the Rollout says: the more careful counts.
fn without_evidence(plan: &Plan, checks: &[CheckRecord]) -> Then {
    let wants = |record: &CheckRecord| {
        let check = plan.checks.iter().find(|check| check.name == record.name);
        check.and_then(|check| check.without_evidence).unwrap_or(plan.without_evidence)
    };
    let mut wanted = checks.iter().filter(|check| lacks_evidence(check)).map(wants).peekable();
    let nobody = wanted.peek().is_none();
    if nobody && plan.without_evidence == Then::Rollback || wanted.any(|then| then == Then::Rollback) {
        Then::Rollback
    } else {
        Then::Pause
    }
}

/// What evidence is lacking, in a sentence.
pub(super) fn lacking_evidence(checks: &[CheckRecord], requests: u64) -> String {
    let lacking: Vec<String> = checks.iter().filter(|check| lacks_evidence(check)).map(describe).collect();
    if lacking.is_empty() {
        format!("the canary answered {requests} requests in this step")
    } else {
        lacking.join("; ")
    }
}

/// Whether traffic stays where it is because stable could not answer it: no rollback onto a stable that has no ready
/// endpoint. A canary that answers nobody can always be ended.
pub(super) fn must_hold(turn: &Turn<'_>) -> bool {
    turn.facts.stable_ready == 0 && turn.given().has_users()
}
