//! The difference between the objects as read and as desired: the fewest writes.
//!
//! Any subset of the effects, applied in any order, keeps the guarantees: every write carries the resourceVersion that
//! was read, and the stamp with the number of its decision. When all were applied, there are none.

use json_patch::Patch;
use serde_json::Value;

use super::{
    Generated, Kind, ObjectName, World, Write,
    expose::{self, is_ours},
    objects, whole,
};
use crate::{
    api::Given,
    plan::{Plan, PlannedExpose},
    traffic::{self, RouteError, Setting, Shown, Trouble, stamp, stamp::Stamp},
};

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Which VirtualService.
    pub object: ObjectName,
    /// What to change, under the resourceVersion that was read.
    pub patch: Patch,
    /// Whether the canary gets less by it, and nobody more but stable.
    pub takes_away: bool,
    /// Whether it gives the canary more than it has, on one route at least, and less on none.
    pub gives: bool,
}

/// What is to be written, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Writes, those that take traffic away first and those that give the canary some last.
    pub effects: Vec<Effect>,
    /// What is to be created, or changed, beside the routes, in this order and before them.
    pub generated: Vec<Generated>,
    /// Objects that cannot be edited as desired, and why.
    pub obstacles: Vec<RouteError>,
    /// Objects that are not there.
    pub missing: Vec<ObjectName>,
    /// Objects whose stamp is of a later decision than ours: not ours to write.
    pub ahead: Vec<ObjectName>,
    /// Objects that are not ours to write: see [`super::permit`].
    pub forbidden: Vec<ObjectName>,
    /// Objects that are not written because the canary would get more: see [`Outlook::without_growth`].
    pub held: Vec<ObjectName>,
    /// Whether the canary is to have nothing: what is not there gives it nothing either.
    pub takes_away: bool,
}

impl Outlook {
    /// What may be written while nothing is to grow: all but what gives the canary more than the routes show, whoever
    /// decided it and when.
    #[must_use]
    pub fn without_growth(self) -> Self {
        let (growth, effects): (Vec<_>, Vec<_>) = self.effects.into_iter().partition(|effect| effect.gives);
        let held = growth.into_iter().map(|effect| effect.object).collect();
        Self { effects, held, ..self }
    }

    /// Whether the world is as desired.
    pub fn in_place(&self) -> bool {
        let nothing_missing = self.takes_away || self.missing.is_empty();
        let in_the_way = |obstacle: &RouteError| !(self.takes_away && is_absence(obstacle));
        self.effects.is_empty()
            && self.generated.is_empty()
            && self.ahead.is_empty()
            && self.forbidden.is_empty()
            && self.held.is_empty()
            && nothing_missing
            && !self.obstacles.iter().any(in_the_way)
    }
}

/// What is to be written so that the routes of `plan` show `desired` with `stamp`.
pub fn effects(world: &World<'_>, plan: &Plan, desired: &Setting, stamp: &Stamp) -> Outlook {
    let mut outlook = Outlook { takes_away: desired.takes_away(), ..Outlook::default() };
    let rollout = world.rollout();
    for object in objects(plan) {
        let Some(before) = world.virtual_services.get(&object).copied() else {
            match &plan.expose {
                Some(expose) => create(world, expose, object, desired, stamp, &mut outlook),
                None => outlook.missing.push(object),
            }
            continue;
        };
        if plan.expose.is_some() && !is_ours(before, &stamp.uid) {
            outlook.forbidden.push(object);
            continue;
        }
        let shown = stamp::read(before, &rollout);
        if let Ok(Some(shown)) = &shown
            && shown.is_after(stamp)
        {
            outlook.ahead.push(object);
            continue;
        }
        let mut obstacles = Vec::new();
        let after = edited(world, plan, &object, before, desired, stamp, &mut obstacles);
        // One route that cannot be edited must not keep the others from losing the canary.
        let good_enough = obstacles.is_empty() || desired.takes_away();
        if let Some(after) = after.filter(|_| good_enough) {
            let shown = shown.ok().flatten().map_or_else(Given::default, |shown| shown.given());
            let takes_away = desired.takes_away() || stamp.given().is_less_than(&shown);
            if let Some(patch) = traffic::patch(before, &after) {
                let gives = gives(world, plan, &object, before, &after, desired);
                outlook.effects.push(Effect { object, patch, takes_away, gives });
            }
        }
        outlook.obstacles.extend(obstacles);
    }
    // Of drift, too, what gives the canary too much is put back before what gives it too little.
    outlook.effects.sort_by_key(|effect| (!effect.takes_away, effect.gives));
    outlook
}

/// Has the generated VirtualService created.
fn create(
    world: &World<'_>,
    expose: &PlannedExpose,
    object: ObjectName,
    desired: &Setting,
    stamp: &Stamp,
    outlook: &mut Outlook,
) {
    match expose::created(world, expose, &object, desired, stamp) {
        Ok(whole) => {
            let write = Write::Create(whole);
            outlook.generated.push(Generated { kind: Kind::VirtualService, object, write });
        }
        Err(error) => outlook.obstacles.push(error),
    }
}

/// The object with everything on it that can be; why the rest cannot goes to `obstacles`. Nothing where not even the
/// stamp can be written.
fn edited(
    world: &World<'_>,
    plan: &Plan,
    object: &ObjectName,
    before: &Value,
    desired: &Setting,
    stamp: &Stamp,
    obstacles: &mut Vec<RouteError>,
) -> Option<Value> {
    let mut after = before.clone();
    if let Some(expose) = &plan.expose {
        after = expose::edited(world, expose, before, desired, obstacles);
    }
    for selection in whole(world, plan, object).into_iter().filter(|_| plan.expose.is_none()) {
        let edit = traffic::edit_what_can_be(&after, &selection, desired, &world.cluster);
        after = edit.after;
        obstacles.extend(edit.obstacles);
    }
    let stamped = if desired.takes_away() {
        stamp::restore(&mut after, &world.rollout(), stamp)
    } else {
        stamp::write(&mut after, &world.rollout(), stamp)
    };
    match stamped {
        Ok(()) => Some(after),
        Err(error) => {
            obstacles.push(error);
            None
        }
    }
}

/// Whether the canary gets more on some route by an edit, in some respect, and in that respect less on none.
fn gives(
    world: &World<'_>,
    plan: &Plan,
    object: &ObjectName,
    before: &Value,
    after: &Value,
    desired: &Setting,
) -> bool {
    let Some(canary) = desired.canary.as_ref().filter(|_| !desired.takes_away()) else { return false };
    let selections = whole(world, plan, object);
    let shown = |object: &Value| -> Result<Shown, RouteError> {
        let each =
            selections.iter().map(|selection| traffic::shown(object, selection, canary, &world.cluster));
        each.collect()
    };
    match (shown(before), shown(after)) {
        (Ok(before), Ok(after)) => after.is_growth_from(&before),
        // Nobody can tell: it might.
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// Whether a route is not there, or lists nobody of ours, so that it gives the canary nothing.
pub(super) fn is_absence(error: &RouteError) -> bool {
    match error.trouble {
        Trouble::NoHttpRoutes
        | Trouble::RouteNotFound { .. }
        | Trouble::NoConnectionRoute { .. }
        | Trouble::NoDestinations { .. }
        | Trouble::NothingManaged { .. } => true,
        Trouble::Duplicate { .. }
        | Trouble::TooMuchWeight { .. }
        | Trouble::ShareTooSmall { .. }
        | Trouble::Malformed { .. }
        | Trouble::Conflict { .. }
        | Trouble::TakesAll { .. }
        | Trouble::UnreadableMirrors { .. }
        | Trouble::UnreadableStamp { .. } => false,
    }
}
