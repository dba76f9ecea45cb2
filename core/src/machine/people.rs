//! What people ask for.
//!
//! Each action is handled once: its uid goes into the same state as the decision it causes. It is refused when the
//! revision or the step that it is about is no longer the current one.

use super::progress::{end_of_steps, go_to, keeps_from_losing, waits_for};
use super::safety::must_hold;
use super::turn::{LONGEST_ANSWER, LONGEST_NAME, Turn, end_of_evidence, number, remember, retire};
use super::{Asked, KEPT_ACTIONS, Outcome, Pause, RevisionOutcome, Stage};
use crate::{
    Predictor,
    api::{ActionPhase, Decision, DecisionKind, Do, Finish, Reason},
    text::fit,
};

/// Why traffic is not given back.
const NO_STABLE: &str = "stable has no ready endpoint: it cannot take the traffic back";

/// What becomes of an action.
#[allow(clippy::large_enum_variant)] // it lives for a moment
enum Answer {
    /// It is done by a decision.
    Decided(Decision),
    /// It is done without one.
    Done(String),
    /// It is not, and never will be.
    Refused(String),
    /// Not yet: the world is not as far as the machine.
    Later,
}

/// Heard before anything else, also by a machine that would rather hold.
pub(super) fn abort(turn: &mut Turn<'_>) -> Option<Decision> {
    hear(turn, |what| what == Do::Abort)
}

/// Heard before anything that lets traffic grow, but after what takes it away: a pause must not keep a canary waiting
/// that has to go.
pub(super) fn pause(turn: &mut Turn<'_>) -> Option<Decision> {
    hear(turn, |what| what == Do::Pause)
}

/// What lets traffic grow, after all that takes it away.
pub(super) fn go(turn: &mut Turn<'_>) -> Option<Decision> {
    hear(turn, |what| match what {
        Do::Approve
        | Do::Promote
        | Do::PromoteFull
        | Do::DecideStable
        | Do::DecideCanary
        | Do::Retry
        | Do::Resume => true,
        Do::Abort | Do::Pause => false,
    })
}

fn hear(turn: &mut Turn<'_>, wanted: fn(Do) -> bool) -> Option<Decision> {
    if matches!(turn.state.stage, Stage::Pending | Stage::Released) {
        return None;
    }
    let facts = turn.facts;
    for asked in facts.actions.iter().skip(forgotten(turn)).filter(|asked| wanted(asked.what)) {
        if turn.state.has_handled(&asked.uid) {
            continue;
        }
        match answer(turn, asked) {
            Answer::Later => {}
            Answer::Decided(decision) => return Some(decision),
            Answer::Done(message) => turn.answer(asked, ActionPhase::Done, &message, None),
            Answer::Refused(message) => turn.answer(asked, ActionPhase::Refused, &message, None),
        }
    }
    None
}

/// How many of the actions, the oldest, were handled so long ago that nothing is remembered of them.
fn forgotten(turn: &Turn<'_>) -> usize {
    if turn.state.handled.len() < KEPT_ACTIONS {
        return 0;
    }
    turn.facts.actions.iter().position(|asked| turn.state.has_handled(&asked.uid)).unwrap_or(0)
}

fn answer(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    if asked.rollout_uid.as_ref().is_some_and(|uid| *uid != turn.facts.uid) {
        return Answer::Refused("it was made for another Rollout of this name".to_owned());
    }
    if let Some(refusal) = not_current(turn, asked) {
        return Answer::Refused(refusal);
    }
    match asked.what {
        Do::Abort => end(turn, asked),
        Do::Pause => halt(turn, asked),
        Do::Resume => resume(turn, asked),
        Do::Approve => approve(turn, asked),
        Do::Promote | Do::PromoteFull => promote(turn, asked),
        Do::DecideStable => decide_for_stable(turn, asked),
        Do::DecideCanary => decide_for_canary(turn, asked),
        Do::Retry => retry(turn, asked),
    }
}

/// Why an action is about something that is not current. What a brake is about need not be said, and its step does not
/// matter: it must not fail because the rollout has moved on.
fn not_current(turn: &Turn<'_>, asked: &Asked) -> Option<String> {
    let brake = matches!(asked.what, Do::Abort | Do::Pause);
    let Some(revision) = &asked.revision else {
        return (!brake).then(|| "it does not say which revision it is about".to_owned());
    };
    let current: Vec<String> = if turn.state.in_flight() {
        turn.state.canary.iter().map(Predictor::revision).collect()
    } else {
        let seen = [&turn.state.canary, &turn.state.stable, &turn.facts.wanted];
        seen.into_iter().flatten().map(Predictor::revision).collect()
    };
    if !current.contains(revision) {
        return Some(format!(
            "{revision} is not the current revision: {} is",
            current.first().map_or("none", String::as_str)
        ));
    }
    let step = number(turn.state.step()?.index);
    match asked.step {
        Some(asked) if asked != step && !brake => {
            Some(format!("step {asked} is not the current step: {step} is"))
        }
        None if matches!(asked.what, Do::Approve | Do::Promote | Do::DecideStable | Do::DecideCanary) => {
            Some(format!("it does not say which step it is about: {step} is the current one"))
        }
        Some(_) | None => None,
    }
}

fn said(asked: &Asked, what: &str) -> String {
    let by = asked.by.as_deref().unwrap_or("someone");
    match &asked.reason {
        Some(reason) => format!("{by} {what}: {reason}"),
        None => format!("{by} {what}"),
    }
}

fn end(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    if turn.state.in_flight() {
        let message = said(asked, "aborted the rollout");
        return Answer::Decided(turn.end(
            DecisionKind::RolledBack,
            Outcome::Aborted,
            Reason::Aborted,
            message,
            Some(asked),
        ));
    }
    let aborted = turn.state.canary.as_ref().and_then(|canary| turn.state.outcome(canary));
    if aborted.is_some_and(|outcome| outcome.outcome == Outcome::Aborted) {
        return Answer::Done("the rollout was aborted already".to_owned());
    }
    Answer::Refused("nothing is in flight: there is nothing to abort".to_owned())
}

fn halt(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    if turn.state.pause.as_ref().is_some_and(|pause| pause.reason != Reason::Inconclusive) {
        return Answer::Done("it is paused already".to_owned());
    }
    let message = said(asked, "paused the rollout");
    let pause = Pause {
        reason: Reason::Paused,
        by: asked.by.as_ref().map(|by| fit(by, LONGEST_NAME)),
        message: asked.reason.as_ref().map(|reason| fit(reason, LONGEST_ANSWER)),
    };
    Answer::Decided(turn.decide(DecisionKind::Paused, Reason::Requested, message, Some(asked), |state| {
        state.pause = Some(pause);
    }))
}

fn resume(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    if turn.state.pause.is_none() {
        let why = if turn.facts.paused {
            "the spec says paused: set spec.paused to false"
        } else {
            "it is not paused"
        };
        return Answer::Refused(why.to_owned());
    }
    let message = said(asked, "resumed the rollout");
    Answer::Decided(turn.decide(DecisionKind::Resumed, Reason::Requested, message, Some(asked), |state| {
        state.pause = None;
        if let Stage::Step(step) = &mut state.stage {
            step.short_of_evidence = std::time::Duration::ZERO.into();
        }
    }))
}

fn approve(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    let (Some(plan), Some(step)) = (turn.plan, turn.state.step()) else {
        return Answer::Refused("nothing is in flight: there is nothing to approve".to_owned());
    };
    match plan.steps.get(step.index) {
        Some(planned) if planned.approve && step.withdrawn.is_some() => {
            return Answer::Refused(format!(
                "step {} has not begun: the canary has no traffic yet",
                plan.step_name(step.index)
            ));
        }
        Some(planned) if planned.approve && step.approved.is_some() => {
            return Answer::Done("the step was approved already".to_owned());
        }
        Some(planned) if planned.approve => {}
        Some(_) | None => {
            return Answer::Refused(format!("step {} asks for no approval", plan.step_name(step.index)));
        }
    }
    let by = fit(asked.by.as_deref().unwrap_or("someone"), LONGEST_NAME);
    let message = said(asked, "approved the step");
    Answer::Decided(turn.decide(DecisionKind::Approved, Reason::Requested, message, Some(asked), |state| {
        if let Stage::Step(step) = &mut state.stage {
            step.approved = Some(by);
        }
    }))
}

fn promote(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    let (Some(plan), Some(step)) = (turn.plan, turn.state.step()) else {
        return Answer::Refused("nothing is in flight: there is nothing to promote".to_owned());
    };
    if step.index >= plan.promotion() {
        return Answer::Done("it is being promoted already".to_owned());
    }
    if let Some(frozen) = &turn.facts.frozen {
        return Answer::Refused(frozen.to_string());
    }
    if turn.stopped().is_some() {
        return Answer::Refused("it is paused: resume it first".to_owned());
    }
    if let Some(refusal) = &turn.facts.refusal {
        return Answer::Refused(format!("the spec is not accepted: {}", refusal.message));
    }
    if turn.facts.canary_ready == 0 || step.withdrawn.is_some() {
        return Answer::Refused(turn.of_canary("the canary has no ready endpoint"));
    }
    if !turn.in_place() {
        return Answer::Later;
    }
    let full = asked.what == Do::PromoteFull;
    let message = said(asked, if full { "promoted the canary" } else { "passed the step" });
    let next = if full { plan.promotion() } else { step.index + 1 };
    if next == plan.promotion() && !full {
        if plan.finish == Finish::KeepStable && must_hold(turn) {
            return Answer::Refused(turn.of_stable(NO_STABLE));
        }
        return Answer::Decided(end_of_steps(turn, Reason::Requested, message, Some(asked)));
    }
    Answer::Decided(go_to(turn, next, Reason::Requested, message, Some(asked)))
}

/// The last step is over, and stable is better: an outcome like another, and no failure.
fn decide_for_stable(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    match keeps_from_losing(turn) {
        None if must_hold(turn) => return Answer::Refused(turn.of_stable(NO_STABLE)),
        None => {}
        Some(Reason::TrafficNotInPlace) => return Answer::Later,
        Some(reason) => return Answer::Refused(undecided(reason)),
    }
    let message = said(asked, "decided for stable");
    Answer::Decided(turn.end(DecisionKind::Lost, Outcome::Lost, Reason::Lost, message, Some(asked)))
}

/// The last step is over, and the canary is better.
fn decide_for_canary(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    let Some(plan) = turn.plan.filter(|_| turn.state.in_flight()) else {
        return Answer::Refused(undecided(Reason::New));
    };
    match waits_for(turn) {
        Some(Reason::WaitingForDecision) => {}
        Some(Reason::TrafficNotInPlace) => return Answer::Later,
        Some(Reason::Frozen) => {
            return Answer::Refused(turn.facts.frozen.as_ref().map(ToString::to_string).unwrap_or_default());
        }
        Some(Reason::Paused) => return Answer::Refused("it is paused: resume it first".to_owned()),
        reason => return Answer::Refused(undecided(reason.unwrap_or(Reason::StepInProgress))),
    }
    if let Some(refusal) = &turn.facts.refusal {
        return Answer::Refused(format!("the spec is not accepted: {}", refusal.message));
    }
    let message = said(asked, "decided for the canary");
    Answer::Decided(go_to(turn, plan.promotion(), Reason::Requested, message, Some(asked)))
}

fn undecided(reason: Reason) -> String {
    format!("nothing waits for a decision, which follows the last step where spec.finish is Wait: {reason}")
}

/// A retry ends what is in flight, forgets what became of the revision, and lets it start anew.
fn retry(turn: &mut Turn<'_>, asked: &Asked) -> Answer {
    let Some(wanted) = turn.facts.wanted.clone() else {
        return Answer::Refused("the target cannot be told: there is nothing to retry".to_owned());
    };
    if asked.revision.as_ref() != Some(&wanted.revision()) {
        return Answer::Refused(format!("{wanted} is what the spec wants: retry that revision"));
    }
    let needs_retry = turn.state.outcome(&wanted).is_some_and(|outcome| outcome.outcome.needs_retry());
    let lost = matches!(turn.state.stage, Stage::StatusLost);
    // One that a backup brought back with everything else would start what was lost by itself.
    if lost && asked.rollout_uid.is_none() {
        return Answer::Refused(
            "the status was lost: only an action with an owner reference to this very Rollout counts, as the command \
             makes it"
                .to_owned(),
        );
    }
    if !turn.state.in_flight() && !needs_retry && !lost {
        return Answer::Refused(format!(
            "{wanted} was neither rolled back nor lost: there is nothing to retry"
        ));
    }
    if must_hold(turn) {
        return Answer::Refused(turn.of_stable(NO_STABLE));
    }
    let message = said(asked, "asked to try again");
    let at = turn.facts.now;
    Answer::Decided(turn.decide(DecisionKind::Retried, Reason::Requested, message, Some(asked), |state| {
        if state.in_flight() {
            retire(state, wanted.clone());
        }
        let seq = state.seq;
        let outcome = RevisionOutcome {
            predictor: wanted,
            outcome: Outcome::Retried,
            reason: Reason::Requested,
            seq,
            at,
        };
        remember(&mut state.outcomes, outcome);
        state.stage = Stage::Idle;
        state.checks.clear();
        end_of_evidence(state);
    }))
}
