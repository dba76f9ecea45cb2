//! What the world should be for a memory: total, and without order, history or clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::turn::{decided_given, traffic_step};
use super::{Stage, State};
use crate::{
    Predictor,
    api::Percent,
    plan::{Plan, PlannedSticky},
    text::digest,
    traffic::{Cookie, Setting, Sticky, StickyBy, stamp::Stamp},
};

/// How long a Rollout at rest is left alone: everything that concerns it is watched.
const AT_REST: Duration = Duration::from_mins(5);
/// How long one is left alone that nothing was decided for yet.
const PENDING: Duration = Duration::from_secs(10);

/// Which plan counts, of the pinned one and the current spec's: the pinned one while its rollout is in flight and while
/// losers of it are still on its routes, so that an edit of the spec never keeps traffic from being taken away there.
/// One that cannot be read leaves it to the other.
pub fn in_force<'p>(pinned: Option<&'p Plan>, current: Option<&'p Plan>, state: &State) -> Option<&'p Plan> {
    if state.in_flight() {
        return pinned;
    }
    if state.retiring.is_empty() { current.or(pinned) } else { pinned.or(current) }
}

/// The traffic that the pair should have; nothing while the machine knows no stable, or no plan to say what its canary
/// gets.
pub fn desired(plan: Option<&Plan>, state: &State) -> Option<Setting> {
    match state.stage {
        Stage::Pending => None,
        Stage::Step(_) if plan.is_none() => None,
        Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released => {
            let stable = state.stable.clone()?;
            let canary = state.canary.clone().filter(|_| state.in_flight());
            let released = matches!(state.stage, Stage::Released);
            let losers = state.retiring.iter().map(|retiring| &retiring.predictor);
            let arm = |predictor: &Predictor| *predictor == stable || canary.as_ref() == Some(predictor);
            let retiring: Vec<Predictor> =
                losers.clone().filter(|loser| !released && !arm(loser)).cloned().collect();
            let past = state.known.iter().chain(&state.canary).chain(losers);
            let mut known: Vec<Predictor> = Vec::new();
            for predictor in past.filter(|known| !arm(known) && !retiring.contains(known)) {
                if !known.contains(predictor) {
                    known.push(predictor.clone());
                }
            }
            let copies = plan.map(copies).unwrap_or_default();
            let setting = Setting { canary, retiring, known, copies, ..Setting::all_to(stable) };
            Some(match (plan, traffic_step(state)) {
                (Some(plan), Some(index)) => with_step(setting, plan, index),
                (Some(_) | None, None) | (None, Some(_)) => setting,
            })
        }
    }
}

/// The percentages at which steps of a plan copy requests, each once.
fn copies(plan: &Plan) -> Vec<Percent> {
    let all: BTreeSet<Percent> = plan.steps.iter().map(|step| step.beside.mirror).collect();
    all.into_iter().filter(|percent| !percent.is_nothing()).collect()
}

/// The setting with what the canary gets in step `index` of the plan.
pub fn with_step(setting: Setting, plan: &Plan, index: usize) -> Setting {
    let Some(step) = plan.steps.get(index) else { return Setting { weight: 100, ..setting } };
    let revision = setting.canary.as_ref().map(Predictor::revision).unwrap_or_default();
    let by = |sticky: &PlannedSticky| match sticky {
        PlannedSticky::Cookie(cookie) => StickyBy::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(|ttl| ttl.0),
            token: digest(&format!("{revision} {index}")),
        }),
        PlannedSticky::Header(name) => StickyBy::Header(name.clone()),
    };
    let sticky =
        step.sticky.as_ref().map(|sticky| Sticky { path: format!("{}.sticky", step.path), by: by(sticky) });
    Setting {
        weight: step.weight,
        matches: step.matches.clone(),
        mirror: step.beside.mirror,
        sticky,
        ..setting
    }
}

/// The stamp that goes onto every route with that traffic, for a Rollout with this uid.
pub fn stamp(plan: Option<&Plan>, state: &State, uid: &str) -> Stamp {
    let outcomes: BTreeMap<_, _> =
        state.outcomes.iter().map(|outcome| (outcome.predictor.revision(), outcome.outcome)).collect();
    let given = decided_given(plan, state);
    Stamp {
        uid: uid.to_owned(),
        seq: state.seq,
        revision: state.canary.as_ref().map(Predictor::revision),
        stable: state.stable.as_ref().map(Predictor::revision),
        setting: given.weight,
        beside: given.beside,
        outcomes,
        reason: state.canary.as_ref().and_then(|canary| state.outcome(canary)).map(|outcome| outcome.reason),
    }
}

/// When to look again if nothing happens before.
pub fn wake(plan: Option<&Plan>, state: &State) -> Duration {
    match (plan, &state.stage) {
        (Some(plan), Stage::Step(_)) => plan.interval,
        (Some(plan), Stage::Idle | Stage::StatusLost) if !state.retiring.is_empty() => plan.interval,
        (None, _) if !state.retiring.is_empty() => Duration::from_secs(10),
        // What it waits for may be something that neither its spec nor its status names.
        (Some(_) | None, Stage::Pending) => PENDING,
        (Some(_) | None, Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released) => AT_REST,
    }
}
