//! Nothing is in flight: losers leave the route, and the next rollout starts.

use super::turn::{Turn, know};
use super::{Stage, StepState, Withdrawn, leaving};
use crate::api::{Decision, DecisionKind, Reason};

/// A start if one is due, else a retirement; the latter also beside a rollout in flight.
pub(super) fn next(turn: &mut Turn<'_>) -> Option<Decision> {
    start(turn).or_else(|| retire(turn))
}

/// Why no rollout of the wanted revision starts; nothing when one may.
pub(super) fn start_waits_for(turn: &Turn<'_>) -> Option<Reason> {
    if let Some(refusal) = &turn.facts.refusal {
        return Some(refusal.reason);
    }
    let Some(wanted) = &turn.facts.wanted else { return Some(Reason::TargetNotFound) };
    match turn.state.stage {
        Stage::Pending => return Some(Reason::New),
        Stage::StatusLost => return Some(Reason::StatusLost),
        Stage::Released => return Some(Reason::Deleted),
        Stage::Step(_) => return Some(Reason::StepInProgress),
        Stage::Idle => {}
    }
    if turn.state.stable.as_ref() == Some(wanted) {
        return Some(if losers_have_weight(turn) { Reason::TrafficNotInPlace } else { Reason::Live });
    }
    if let Some(outcome) = turn.state.outcome(wanted).filter(|outcome| outcome.outcome.needs_retry()) {
        return Some(outcome.reason);
    }
    if turn.facts.traffic.is_none() || turn.plan.is_none() {
        return Some(Reason::RouteNotFound);
    }
    if let Some(stopped) = turn.stopped() {
        return Some(stopped);
    }
    // The decision before this one must be on the routes, or two would be in the air at once.
    (!turn.in_place()).then_some(Reason::TrafficNotInPlace)
}

/// Whether the routes still show traffic for a predictor that is not stable any more.
fn losers_have_weight(turn: &Turn<'_>) -> bool {
    let state = &turn.state;
    let Some(traffic) = &turn.facts.traffic else { return false };
    traffic.weighted.iter().any(|weighted| {
        let retiring = || state.retiring.iter().any(|retiring| retiring.predictor == *weighted);
        state.stable.as_ref() != Some(weighted) && (state.known.contains(weighted) || retiring())
    })
}

fn start(turn: &mut Turn<'_>) -> Option<Decision> {
    if turn.state.in_flight() || start_waits_for(turn).is_some() {
        return None;
    }
    let wanted = turn.facts.wanted.clone()?;
    let stable = turn.state.stable.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = format!("{wanted} is to replace {stable} step by step, once it is ready");
    Some(turn.decide(DecisionKind::Started, Reason::New, message, None, |state| {
        state.retiring.retain(|retiring| retiring.predictor != wanted);
        // What became of it before is over: an outcome says how this try ended, or that it has not.
        state.outcomes.retain(|outcome| outcome.predictor != wanted);
        know(state, wanted.clone());
        state.canary = Some(wanted);
        Turn::enter(state, StepState { withdrawn: Some(Withdrawn::default()), ..StepState::default() });
    }))
}

/// One loser leaves the route: settled, and a look saw no request there, or nobody can tell.
fn retire(turn: &mut Turn<'_>) -> Option<Decision> {
    if !turn.in_place() || matches!(turn.state.stage, Stage::Pending | Stage::Released) {
        return None;
    }
    let at = turn.state.retiring.iter().position(|retiring| leaving::may_leave(turn, retiring))?;
    let retiring = &turn.state.retiring[at];
    let leaving = retiring.predictor.clone();
    let warning = leaving::warning(turn, &leaving, retiring.waited.0);
    let message = format!("{leaving} left the route{warning}");
    Some(Decision {
        revision: Some(leaving.revision()),
        // Those of another canary in flight are not what it was decided on.
        checks: Vec::new(),
        ..turn.decide(DecisionKind::Retired, Reason::Live, message, None, |state| {
            state.retiring.remove(at);
            if state.canary.as_ref() != Some(&leaving) || !state.in_flight() {
                know(state, leaving);
            }
        })
    })
}
