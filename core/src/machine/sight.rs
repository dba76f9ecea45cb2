//! What the machine makes of a Rollout whose memory is missing, behind or unreadable.
//!
//! Nothing starts by itself here: losing a status loses no user, and starts no rollout.

use super::turn::{Turn, from_given, know, remember, retire};
use super::{Outcome, Refusal, RevisionOutcome, SeenTraffic, Stage, State, Withdrawn};
use crate::{
    Predictor,
    api::{ActionPhase, Decision, DecisionKind, Do, Given, Reason},
    target::StableField,
    traffic::stamp::Stamp,
};

/// Whose ready endpoints, and whose requests, are those of stable and of the canary: what goes into
/// [`super::Facts::stable_ready`] and [`super::Facts::canary_ready`]. Also told where the memory is missing or behind, by the stamp.
pub fn arms(
    state: &State,
    traffic: Option<&SeenTraffic>,
    wanted: Option<&Predictor>,
    uid: &str,
) -> (Option<Predictor>, Option<Predictor>) {
    let newer = traffic.and_then(|traffic| traffic.stamp.as_ref()).filter(|stamp| {
        stamp.uid == uid && stamp.seq > state.seq && !matches!(state.stage, Stage::Pending | Stage::Released)
    });
    let stable = match state.stage {
        Stage::Pending => find_stable(traffic, uid).ok(),
        Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released => {
            newer.and_then(stamped_stable).or_else(|| state.stable.clone())
        }
    };
    let canary = state.canary.clone().filter(|_| state.in_flight()).or_else(|| wanted.cloned());
    (stable, canary)
}

fn stamped_stable(stamp: &Stamp) -> Option<Predictor> {
    stamp.stable.as_ref()?.parse().ok()
}

/// A stamp above what the status knows is taken over before anything else: a decrease whose record failed to be
/// written, with its outcome, or the stamp of a life that a restored backup knows nothing of. Of two decisions with one
/// number the lower setting counts.
pub(super) fn adopt_newer_stamp(turn: &mut Turn<'_>) {
    let Some(stamp) = seen_stamp(turn) else { return };
    if matches!(turn.state.stage, Stage::Pending) || stamp.seq < turn.state.seq {
        return;
    }
    let newer = stamp.seq > turn.state.seq;
    if stamp.uid != turn.facts.uid {
        if newer {
            adopt_strange_stamp(turn, stamp);
        }
        return;
    }
    if is_of_another_life(turn, stamp) {
        turn.given_up = Some(stamp.given());
        let stable = stamped_stable(stamp).or_else(|| turn.state.stable.clone());
        give_up(turn, stamp, stable);
        return;
    }
    let lower = is_same_canary(turn, stamp) && stamp.given().is_less_than(&turn.given());
    if !newer && !lower {
        return;
    }
    turn.state.seq = stamp.seq;
    take_over_outcomes(turn, stamp, true);
    if let Some(outcome) = ended_as(turn, stamp)
        && let Some(canary) = turn.state.canary.clone()
    {
        // That the routes were given back is not decided a second time.
        turn.state.stage = if outcome == Outcome::Released { Stage::Released } else { Stage::Idle };
        super::turn::end_of_evidence(&mut turn.state);
        retire(&mut turn.state, canary);
    } else if lower && let Stage::Step(step) = &mut turn.state.stage {
        step.withdrawn = Some(Withdrawn::default());
        step.losses = step.losses.saturating_add(1);
        turn.state.checks.clear();
    }
}

fn seen_stamp<'f>(turn: &Turn<'f>) -> Option<&'f Stamp> {
    turn.facts.traffic.as_ref()?.stamp.as_ref()
}

fn is_same_canary(turn: &Turn<'_>, stamp: &Stamp) -> bool {
    turn.state.in_flight() && turn.state.canary.as_ref().map(Predictor::revision) == stamp.revision
}

/// How the canary in flight ended, if the stamp says that it is out of traffic for good.
fn ended_as(turn: &Turn<'_>, stamp: &Stamp) -> Option<Outcome> {
    let canary = turn.state.canary.as_ref().filter(|_| turn.state.in_flight())?;
    stamp.outcomes.get(&canary.revision()).copied().filter(|outcome| *outcome != Outcome::Retried)
}

/// Whether no decrease that was decided on this memory explains the stamp: then the memory is an old one, or an edited
/// one.
fn is_of_another_life(turn: &Turn<'_>, stamp: &Stamp) -> bool {
    let state = &turn.state;
    if stamp.uid != turn.facts.uid || stamp.seq < state.seq {
        return false;
    }
    if stamp.seq == state.seq {
        // An increase is stamped as it was recorded, a decrease at 0: a memory that wants more than is stamped, and
        // more than nothing is, was edited.
        let stamped = stamp.given();
        return is_same_canary(turn, stamp) && !stamped.is_nothing() && stamped.is_less_than(&turn.given());
    }
    let canary = state.canary.as_ref().map(Predictor::revision);
    let same_stable =
        stamp.stable.is_none() || stamp.stable == state.stable.as_ref().map(Predictor::revision);
    match &state.stage {
        Stage::Pending | Stage::Released => false,
        Stage::Idle | Stage::StatusLost => {
            !same_stable || !stamp.given().is_nothing() || stamp.revision != canary
        }
        Stage::Step(_) => {
            let lower = stamp.given().is_nothing() || stamp.given().is_less_than(&turn.given());
            !same_stable || stamp.revision != canary || !(lower || ended_as(turn, stamp).is_some())
        }
    }
}

/// The stamp that an earlier Rollout of this name left, on a route that was not ours before.
fn adopt_strange_stamp(turn: &mut Turn<'_>, stamp: &Stamp) {
    turn.state.seq = stamp.seq;
    take_over_outcomes(turn, stamp, false);
    let left = stamp.revision.as_ref().and_then(|revision| revision.parse::<Predictor>().ok());
    if let Some(left) = left {
        know(&mut turn.state, left);
    }
}

/// Whether a memory that is missing or behind must be, because stable could not answer what the canary gets: hold.
/// A person's abort and a deletion go before.
pub(super) fn held(turn: &Turn<'_>) -> bool {
    let Some(stamp) = seen_stamp(turn) else { return false };
    let missing_or_behind = match turn.state.stage {
        Stage::Pending => true,
        Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released => is_of_another_life(turn, stamp),
    };
    let mut asked = turn.facts.actions.iter();
    let forced = turn.facts.deleted
        || asked.any(|asked| asked.what == Do::Abort && !turn.state.has_handled(&asked.uid));
    missing_or_behind && stamp.given().has_users() && turn.facts.stable_ready == 0 && !forced
}

/// Starts a new memory from the stamp: stable is `stable`, everybody else whom the stamp or the old memory knows
/// retires.
fn give_up(turn: &mut Turn<'_>, stamp: &Stamp, stable: Option<Predictor>) {
    turn.state.seq = stamp.seq;
    take_over_outcomes(turn, stamp, true);
    let stamped = stamp.revision.as_ref().and_then(|revision| revision.parse::<Predictor>().ok());
    let in_flight = turn.state.canary.clone().filter(|_| turn.state.in_flight());
    let losers = [turn.state.stable.clone(), in_flight, stamped.clone()];
    for loser in losers.into_iter().flatten().filter(|loser| Some(loser) != stable.as_ref()) {
        retire(&mut turn.state, loser);
    }
    // One that was leaving when the old memory was written may have become stable since.
    turn.state.retiring.retain(|retiring| Some(&retiring.predictor) != stable.as_ref());
    // It goes into the next stamp: should this be lost too, somebody must still know whose traffic is to be taken.
    turn.state.canary = stamped.filter(|canary| Some(canary) != stable.as_ref());
    turn.state.stable = stable;
    turn.state.stage = Stage::StatusLost;
    turn.state.checks.clear();
    super::turn::end_of_evidence(&mut turn.state);
}

/// Takes over what became of revisions; where both know something, the stamp counts if it is `newer`.
fn take_over_outcomes(turn: &mut Turn<'_>, stamp: &Stamp, newer: bool) {
    for (revision, outcome) in &stamp.outcomes {
        let Ok(predictor) = revision.parse::<Predictor>() else { continue };
        match turn.state.outcome(&predictor) {
            Some(known) if known.outcome == *outcome || !newer => continue,
            Some(_) | None => {}
        }
        know(&mut turn.state, predictor.clone());
        let reason = stamp.reason.filter(|_| stamp.revision.as_ref() == Some(revision));
        let reason = reason.unwrap_or(Reason::StatusLost);
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
    // A refusal keeps a rollout from starting. It does not keep a canary whose supervision was lost from leaving.
    let leftover = stamp.map_or_else(Given::default, Stamp::given);
    let stops = |refusal: &Refusal| !refusal.stops_starts_only();
    let refused = facts.refusal.as_ref().is_some_and(stops) || facts.wanted.is_none();
    if refused && leftover.is_nothing() && !facts.deleted || facts.deleted && stamp.is_none() {
        return None;
    }
    let stable = find_stable(facts.traffic.as_ref(), &facts.uid).ok()?;
    let live = facts.wanted.as_ref() == Some(&stable);
    let ours = facts.had_status || stamp.is_some_and(|stamp| stamp.uid == facts.uid);
    let known = |wanted: &Predictor| stamp.is_some_and(|stamp| knows(stamp, wanted));
    let lost = !live && (ours || facts.wanted.as_ref().is_none_or(known));
    if let Some(stamp) = stamp {
        give_up(turn, stamp, Some(stable.clone()));
    }
    let decision = if lost {
        let message =
            format!("the status was lost: {stable} keeps all traffic, nothing is tried until a retry");
        turn.decide(DecisionKind::Recovered, Reason::StatusLost, message, None, |state| {
            state.canary = state.canary.take().or_else(|| facts.wanted.clone());
            state.stable = Some(stable);
            state.stage = Stage::StatusLost;
        })
    } else {
        let message = if live {
            format!("{stable} is live already: adopted as stable")
        } else {
            format!("{stable} has the traffic: adopted as stable")
        };
        turn.decide(DecisionKind::Adopted, Reason::New, message, None, |state| {
            state.stable = Some(stable);
            state.stage = Stage::Idle;
        })
    };
    if ours || lost {
        forget_actions(turn);
    }
    Some(from_given(decision, leftover))
}

/// What people asked of a memory that is gone is not done to the new one.
fn forget_actions(turn: &mut Turn<'_>) {
    for asked in &turn.facts.actions {
        if !turn.state.has_handled(&asked.uid) {
            turn.answer(asked, ActionPhase::Refused, "the Rollout's status was lost: ask again", None);
        }
    }
}

/// Records that the memory was older than the routes, and was given up.
pub(super) fn restored(turn: &mut Turn<'_>) -> Option<Decision> {
    let from = turn.given_up.clone()?;
    let stable = turn.state.stable.clone()?;
    let wanted = turn.facts.wanted.clone();
    let live = wanted.as_ref() == Some(&stable);
    let message = if live {
        format!("the status is older than the routes, or was edited: {stable} keeps all traffic")
    } else {
        format!(
            "the status is older than the routes, or was edited: {stable} keeps all traffic, nothing is tried until a retry"
        )
    };
    let decision = turn.decide(DecisionKind::Recovered, Reason::StatusLost, message, None, |state| {
        state.canary = state.canary.take().or(wanted.filter(|_| !live));
        state.stage = if live { Stage::Idle } else { Stage::StatusLost };
    });
    forget_actions(turn);
    Some(from_given(decision, from))
}

/// The stable predictor of a Rollout without a memory: as its stamp says, else the one that has the traffic.
///
/// # Errors
/// Where neither tells.
pub(super) fn find_stable(traffic: Option<&SeenTraffic>, uid: &str) -> Result<Predictor, Refusal> {
    let Some(traffic) = traffic else {
        return Err(Refusal::new(Reason::RouteNotFound, "the routes cannot be read"));
    };
    let stamp = traffic.stamp.as_ref();
    let stamped = stamp.and_then(stamped_stable);
    match (traffic.weighted.as_slice(), stamped) {
        // An earlier Rollout of this name left the stamp, and since then somebody gave all traffic to a predictor that
        // it never heard of: the route is what users have.
        ([one], Some(_)) if stamp.is_some_and(|stamp| stamp.uid != uid && !knows(stamp, one)) => {
            Ok(one.clone())
        }
        (_, Some(stable)) => Ok(stable),
        ([one], None) => Ok(one.clone()),
        ([], None) => {
            let (what, field) = (traffic.field.what(), traffic.field);
            let message = format!(
                "no {what} of this namespace, or not the one that {field} names, has weight on the routes: there is no stable predictor"
            );
            Err(Refusal::new(Reason::AmbiguousStable, message))
        }
        (several, None) => {
            let names: Vec<&str> = several.iter().map(|one| named(one, traffic.field)).collect();
            let message = format!(
                "{} have weight on the routes: name the one that is stable in {}",
                names.join(" and "),
                traffic.field
            );
            Err(Refusal::new(Reason::AmbiguousStable, message))
        }
    }
}

/// A predictor as the field for it calls it.
fn named(predictor: &Predictor, field: StableField) -> &str {
    match field {
        StableField::Service => &predictor.service,
        StableField::Predictor => predictor.subset.as_ref().unwrap_or(&predictor.service),
    }
}

/// Whether a Rollout of this name had to do with `predictor`.
fn knows(stamp: &Stamp, predictor: &Predictor) -> bool {
    let revision = Some(predictor.revision());
    stamp.revision == revision
        || stamp.stable == revision
        || revision.is_some_and(|revision| stamp.outcomes.contains_key(&revision))
}

/// A lost status no longer matters once the stable revision is what is wanted.
fn leave_status_lost(turn: &mut Turn<'_>) -> Option<Decision> {
    if matches!(turn.state.stage, Stage::StatusLost)
        && turn.facts.wanted.is_some()
        && turn.facts.wanted == turn.state.stable
        && turn.given_up.is_none()
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
    // What the canary gets is what was stamped: the plan that says so is gone.
    let from = seen_stamp(turn).map_or_else(Given::default, Stamp::given);
    if from.has_users() && turn.facts.stable_ready == 0 {
        return None;
    }
    let message = "the pinned plan in the status cannot be read: stable has all traffic until a retry";
    let decision = turn.decide(DecisionKind::Recovered, Reason::InvalidStatus, message, None, |state| {
        if let Some(canary) = state.canary.clone() {
            retire(state, canary);
        }
        state.stage = Stage::StatusLost;
        state.checks.clear();
        super::turn::end_of_evidence(state);
    });
    Some(from_given(decision, from))
}
