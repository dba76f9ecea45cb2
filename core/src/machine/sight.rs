//! What the machine makes of a Rollout whose memory is missing, behind or unreadable.
//!
//! Nothing starts by itself here: losing a status loses no user, and starts no rollout.

use std::time::Duration;

use super::turn::{Turn, know, remember};
use super::{Facts, Outcome, Refusal, Retiring, RevisionOutcome, Stage, Withdrawn};
use crate::{
    Predictor,
    api::{ActionPhase, Decision, DecisionKind, Reason},
    traffic::stamp::Stamp,
};

/// A stamp above what the status knows: a decrease whose record failed to be written, or a restored backup. Its
/// outcomes and its lower setting are taken over before anything else.
pub(super) fn adopt_newer_stamp(turn: &mut Turn<'_>) {
    let Some(stamp) = turn.facts.traffic.as_ref().and_then(|traffic| traffic.stamp.as_ref()) else { return };
    if matches!(turn.state.stage, Stage::Pending) || stamp.seq < turn.state.seq {
        return;
    }
    let canary = turn.state.canary.as_ref().map(Predictor::revision);
    let same_canary = turn.state.in_flight() && canary == stamp.revision;
    let lower = same_canary && stamp.setting < turn.weight();
    if stamp.seq == turn.state.seq && !lower {
        return;
    }
    turn.state.seq = stamp.seq;
    take_over_outcomes(turn, stamp);
    let ended = turn.state.in_flight()
        && turn.state.canary.as_ref().is_some_and(|canary| {
            stamp.outcomes.get(&canary.revision()).is_some_and(|outcome| *outcome != Outcome::Retried)
        });
    if ended && let Some(canary) = turn.state.canary.clone() {
        turn.state.stage = Stage::Idle;
        turn.state.pause = None;
        turn.state.retiring.push(Retiring { predictor: canary, waited: Duration::ZERO.into() });
    } else if lower && let Stage::Step(step) = &mut turn.state.stage {
        step.withdrawn = Some(Withdrawn::default());
        step.losses += 1;
    }
}

fn take_over_outcomes(turn: &mut Turn<'_>, stamp: &Stamp) {
    for (revision, outcome) in &stamp.outcomes {
        let Ok(predictor) = revision.parse::<Predictor>() else { continue };
        if turn.state.outcome(&predictor).is_some_and(|known| known.outcome == *outcome) {
            continue;
        }
        know(&mut turn.state, predictor.clone());
        let reason = Reason::StatusLost;
        let (seq, at) = (stamp.seq, turn.facts.now);
        remember(&mut turn.state.outcomes, RevisionOutcome { predictor, outcome: *outcome, reason, seq, at });
    }
}

/// A Rollout without a memory: where is stable?
pub(super) fn first(turn: &mut Turn<'_>) -> Option<Decision> {
    if !matches!(turn.state.stage, Stage::Pending) {
        return leave_status_lost(turn);
    }
    let facts = turn.facts;
    let stamp = facts.traffic.as_ref()?.stamp.as_ref();
    let wanted = facts.wanted.clone()?;
    if facts.refusal.is_some() {
        return None;
    }
    let stable = find_stable(facts, &wanted).ok()?;
    let lost = wanted != stable && was_here_before(facts, stamp, &wanted);
    if let Some(stamp) = stamp {
        turn.state.seq = stamp.seq;
        take_over_outcomes(turn, stamp);
        let old = stamp.revision.as_ref().and_then(|revision| revision.parse::<Predictor>().ok());
        if let Some(old) = old.filter(|old| *old != stable) {
            know(&mut turn.state, old.clone());
            turn.state.retiring.push(Retiring { predictor: old, waited: Duration::ZERO.into() });
        }
    }
    if !lost {
        let message = if wanted == stable {
            format!("{stable} is live already: adopted as stable")
        } else {
            format!("{stable} has the traffic: adopted as stable")
        };
        return Some(turn.decide(DecisionKind::Adopted, Reason::New, message, None, |state| {
            state.stable = Some(stable);
            state.stage = Stage::Idle;
        }));
    }
    let message =
        format!("the status was lost: {stable} keeps all traffic, {wanted} is not tried until a retry");
    let decision = turn.decide(DecisionKind::Recovered, Reason::StatusLost, message, None, |state| {
        state.stable = Some(stable);
        state.canary = Some(wanted);
        state.stage = Stage::StatusLost;
    });
    // What people asked of a memory that is gone is not done to the new one.
    for asked in &facts.actions {
        turn.answer(asked, ActionPhase::Refused, "the Rollout's status was lost: ask again", None);
    }
    Some(decision)
}

/// The stable predictor of a Rollout without a memory: as its stamp says, else the one that has the traffic.
///
/// # Errors
/// Where neither tells.
pub(super) fn find_stable(facts: &Facts, wanted: &Predictor) -> Result<Predictor, Refusal> {
    let Some(traffic) = &facts.traffic else {
        return Err(Refusal::new(Reason::RouteNotFound, "the routes cannot be read"));
    };
    let stamped = traffic.stamp.as_ref().and_then(|stamp| stamp.stable.as_ref()?.parse().ok());
    if let Some(stable) = stamped {
        return Ok(stable);
    }
    match (traffic.weighted.as_slice(), traffic.strangers.as_slice()) {
        ([one], _) => Ok(one.clone()),
        ([], _) => Err(Refusal::new(
            Reason::AmbiguousStable,
            format!(
                "no Service of namespace {} has weight on the routes: there is no stable predictor",
                wanted.namespace
            ),
        )),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|predictor| predictor.service.as_str()).collect();
            let message = format!(
                "{} have weight on the routes: name the one that is stable in spec.target.service.from",
                names.join(" and ")
            );
            Err(Refusal::new(Reason::AmbiguousStable, message))
        }
    }
}

/// Whether this Rollout, or one of its name, was on its way to `wanted` before: then a rollout must not start
/// anew by itself.
fn was_here_before(facts: &Facts, stamp: Option<&Stamp>, wanted: &Predictor) -> bool {
    let wanted = wanted.revision();
    let stamped = stamp.is_some_and(|stamp| {
        stamp.uid == facts.uid
            || stamp.revision.as_ref() == Some(&wanted)
            || stamp.outcomes.contains_key(&wanted)
    });
    facts.had_status || stamped
}

/// A lost status no longer matters once the stable revision is what is wanted.
fn leave_status_lost(turn: &mut Turn<'_>) -> Option<Decision> {
    if matches!(turn.state.stage, Stage::StatusLost)
        && turn.facts.wanted.is_some()
        && turn.facts.wanted == turn.state.stable
    {
        turn.state.stage = Stage::Idle;
    }
    None
}

/// A rollout in flight whose pinned plan cannot be read: nothing can be judged, so stable has all.
pub(super) fn lost_plan(turn: &mut Turn<'_>) -> Option<Decision> {
    if turn.plan.is_some() || !turn.state.in_flight() {
        return None;
    }
    let message = "the pinned plan in the status cannot be read: stable has all traffic until a retry";
    Some(turn.decide(DecisionKind::Recovered, Reason::InvalidStatus, message, None, |state| {
        if let Some(canary) = state.canary.clone() {
            state.retiring.push(Retiring { predictor: canary, waited: Duration::ZERO.into() });
        }
        state.stage = Stage::StatusLost;
        state.checks.clear();
    }))
}
