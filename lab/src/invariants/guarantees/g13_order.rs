//! Guarantee 13: "Two controllers at once: a later decision is never undone by an earlier one (between one's persist and
//! act a single stale increase may be seen; the later act takes it away)."
//!
//! Checked at every write of a controller: the number in the stamp, and in the status, never falls; of two decisions with
//! one number the lower setting wins; and what the weights say the stamp says too, or nobody could tell the later from the
//! earlier. A share above what the status says may last for `Limits::reconcile`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Found, Guarantee, Lasting, RouteChange, Seen, seconds};
use crate::invariants::{
    objects::{self, Given, Predictor, text},
    world::{World, key},
};

#[derive(Default)]
pub(super) struct Order(Lasting);

impl Guarantee for Order {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if let Some(change) = seen.status() {
            let [before, after] =
                [change.before, change.after].map(|status| status["seq"].as_u64().unwrap_or(0));
            if after < before {
                found.add(
                    Some(&change.name),
                    format!("the status goes back from decision {before} to {after}"),
                );
            }
        }
        for change in seen.routes() {
            for what in stamps(&change).into_iter().chain(unstamped(seen, &change)) {
                found.add(Some(&change.rollout), what);
            }
        }
    }

    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let mut stale = BTreeMap::new();
        for (name, rollout, object) in world.existing() {
            let status = rollout.status();
            let Some(stable) = Predictor::of(&status["stable"]) else { continue };
            let canary = objects::canary_in_flight(status);
            for (route, names) in objects::routes(object, &name.0) {
                let Some(virtual_service) = world.virtual_services.get(&route) else { continue };
                if !objects::stamps(virtual_service).contains_key(&key(name)) {
                    continue;
                }
                for predictor in world.managed(name, &[virtual_service]).iter().filter(|p| **p != stable) {
                    let given = if canary.as_ref() == Some(predictor) {
                        Given::after(status)
                    } else {
                        Given::default()
                    };
                    if is_more(&route.0, virtual_service, &names, &name.1, predictor, &given) {
                        let what = format!("{predictor} on VirtualService {}/{}", route.0, route.1);
                        stale.insert(what, name.clone());
                    }
                }
            }
        }
        let limit = world.limits().reconcile;
        for (what, rollout, waited) in self.0.overdue(world, now, limit, &stale) {
            let waited = seconds(waited);
            found.add(
                Some(&rollout),
                format!("{what} has had more than what was decided for {waited}, expected to be taken away"),
            );
        }
    }
}

/// Whether a predictor has more on the routes that a Rollout of that name moves than it was given.
fn is_more(
    namespace: &str,
    object: &Value,
    names: &[String],
    rollout: &str,
    predictor: &Predictor,
    given: &Given,
) -> bool {
    let moved = objects::routes_of(object, names, rollout).into_iter().filter(|(_, moved)| *moved);
    let own = objects::own_routes(namespace, object, rollout, predictor);
    let (marked, matched): (Vec<_>, Vec<_>) = own.into_iter().partition(|route| objects::is_sticky(route));
    moved.into_iter().any(|(route, _)| {
        objects::weight(namespace, route, predictor) > given.weight
            || objects::mirrored(namespace, route, predictor) > given.mirror
    }) || !matched.is_empty() && given.matches.is_empty()
        || !marked.is_empty() && given.weight == 0
}

fn stamps(change: &RouteChange<'_>) -> Option<String> {
    let before = change.stamp_before.as_ref()?;
    let old = before["seq"].as_u64().unwrap_or(0);
    let Some(after) = &change.stamp else {
        return Some(format!("the stamp of decision {old} was taken away"));
    };
    let new = after["seq"].as_u64().unwrap_or(0);
    let [was, is] = [before, after].map(Given::stamped);
    let grows = was.is_less_than(&is);
    if new < old {
        Some(format!("decision {old} is undone by decision {new}"))
    } else if new == old && grows && after["revision"] == before["revision"] {
        Some(format!("of two decisions {new} the higher setting wins: {is} over {was}"))
    } else {
        None
    }
}

/// Weights that changed and are lower than what the stamp says.
fn unstamped(seen: &Seen<'_>, change: &RouteChange<'_>) -> Vec<String> {
    let namespace = &seen.commit.namespace;
    let managed = seen.world.managed(&change.rollout, &[change.before, change.after]);
    let changed = change.moved().into_iter().filter(|(_, before, after)| before["route"] != after["route"]);
    let unstamped = changed.filter_map(|(at, _, after)| {
        let Some(stamp) = &change.stamp else {
            return Some(format!("spec.http[{at}] was changed without a stamp"));
        };
        let canary = Predictor::parse(text(&stamp["revision"]))?;
        let share: u64 = managed.iter().map(|predictor| objects::weight(namespace, after, predictor)).sum();
        let (weight, setting) = (objects::weight(namespace, after, &canary), stamp["setting"].as_u64()?);
        let promoted = stamp["stable"] == stamp["revision"];
        (!promoted && weight < share * setting / 100).then(|| {
            format!("spec.http[{at}] gives {canary} {weight} of {share}, and the stamp says {setting}%: a later decision without its stamp")
        })
    });
    unstamped.collect()
}
