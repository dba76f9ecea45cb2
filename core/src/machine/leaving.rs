//! When a predictor that has lost its traffic may leave the routes: once a look sees no request there.

use std::time::Duration;

use super::{Retiring, turn::Turn};
use crate::Predictor;

/// Where no look shows that it is quiet, it may leave after this time: a source may be away for days, and some connections
/// never end.
pub(super) const LONGEST: Duration = Duration::from_mins(5);

/// Whether a loser may leave.
pub(super) fn may_leave(turn: &Turn<'_>, retiring: &Retiring) -> bool {
    let waited = retiring.waited.0;
    let Some(plan) = turn.plan else { return waited >= LONGEST };
    waited >= LONGEST
        || waited >= plan.settle
            && (plan.metrics.is_none() || requests_of(turn, &retiring.predictor) == Some(0))
}

/// Whether the old stable, which has lost its traffic to the canary, may leave.
pub(super) fn stable_may_leave(turn: &Turn<'_>) -> bool {
    let (Some(plan), Some(step)) = (turn.plan, turn.state.step()) else { return false };
    plan.metrics.is_none() || step.in_place.0 >= LONGEST || requests_of_stable(turn) == Some(0)
}

/// How many requests the look of this turn saw at a predictor without traffic; nothing where it cannot tell. Where the source
/// says so expressly: no requests counted may mean that nobody could count.
fn requests_of(turn: &Turn<'_>, predictor: &Predictor) -> Option<u64> {
    let seen = turn.facts.look.as_ref()?.counts.as_ref().ok()?;
    seen.retiring.get(&predictor.revision()).copied()
}

fn requests_of_stable(turn: &Turn<'_>) -> Option<u64> {
    let seen = turn.facts.look.as_ref()?.counts.as_ref().ok()?;
    let expressly = turn.state.stable.as_ref().and_then(|stable| requests_of(turn, stable));
    Some(expressly.unwrap_or(seen.stable.requests))
}

/// What is to be said of one that leaves after it has `waited`, although no look showed that it is quiet.
pub(super) fn warning(turn: &Turn<'_>, leaving: &Predictor, waited: Duration) -> String {
    if waited < LONGEST {
        return String::new();
    }
    let stable = turn.state.stable.as_ref() == Some(leaving);
    match if stable { requests_of_stable(turn) } else { requests_of(turn, leaving) } {
        Some(0) => String::new(),
        Some(requests) => format!("; after 5m it still gets requests, {requests} since the look before"),
        None => "; no look showed for 5m that it gets no more requests".to_owned(),
    }
}
