//! What a Rollout may write: only what it may move, and what it has to give back.
//!
//! A refusal in the status stops starts; this stops writes. It is asked where the write is, so that no other refusal
//! can hide it.

use chrono::{DateTime, Utc};

use super::{Claim, Effect, Outlook, World, accept};
use crate::{plan::Plan, traffic::stamp};

/// Takes out of `outlook` what this Rollout, created at `since`, may not write: a VirtualService of another namespace
/// whose owner does not allow it, and routes that an older Rollout moves. Where its own canary still has traffic there,
/// taking that away is always allowed.
pub fn permit(
    outlook: Outlook,
    world: &World<'_>,
    plan: &Plan,
    since: Option<DateTime<Utc>>,
    claims: &[Claim],
) -> Outlook {
    let may = |effect: &Effect| may_write(effect, world, plan, since, claims);
    let (effects, forbidden): (Vec<_>, Vec<_>) = outlook.effects.into_iter().partition(may);
    let forbidden = forbidden.into_iter().map(|effect| effect.object).collect();
    Outlook { effects, forbidden, ..outlook }
}

fn may_write(
    effect: &Effect,
    world: &World<'_>,
    plan: &Plan,
    since: Option<DateTime<Utc>>,
    claims: &[Claim],
) -> bool {
    let Some(object) = world.virtual_services.get(&effect.object).copied() else { return false };
    let mut routes = plan
        .routes
        .iter()
        .filter(|route| route.namespace == effect.object.0 && route.name == effect.object.1);
    if routes.all(|route| accept::ours_to_move(world, object, route, since, claims).is_ok()) {
        return true;
    }
    let shown = stamp::read(object, &world.rollout()).ok().flatten();
    effect.takes_away && shown.is_some_and(|shown| !shown.given().is_nothing())
}
