//! What the routes show.

use super::{World, selection};
use crate::{
    Predictor,
    machine::{Refusal, SeenTraffic},
    plan::Plan,
    traffic::{self, RouteView, stamp},
};

/// What the routes of a plan show. Where the spec names no routes, those that list the `wanted` predictor count, if any
/// do. `from` is the Service that the spec names as stable: the others on the route are strangers then. [`SeenTraffic::in_place`] is for the caller to fill in.
///
/// # Errors
/// A VirtualService or a route that is missing or cannot be read.
pub fn see(
    world: &World<'_>,
    plan: &Plan,
    wanted: Option<&Predictor>,
    from: Option<&str>,
) -> Result<SeenTraffic, Refusal> {
    let mut seen = SeenTraffic::default();
    for route in &plan.routes {
        let Some(object) = world.get(route) else {
            return Err(super::accept::not_found(route));
        };
        let stamp = stamp::read(object, &world.rollout()).map_err(super::accept::refusal)?;
        seen.stamp = newest(seen.stamp, stamp);
        let read = traffic::read(object, &selection(route), &world.cluster);
        let mut views = read.map_err(super::accept::refusal)?;
        let lists_wanted = |view: &RouteView| wanted.is_some_and(|wanted| view.weight_of(wanted).is_some());
        if route.http.is_empty() && views.iter().any(lists_wanted) {
            views.retain(lists_wanted);
        }
        for view in views {
            for destination in view.destinations.into_iter().filter(|destination| destination.weight > 0) {
                let ours = destination.predictor.filter(|predictor| predictor.namespace == world.namespace);
                match ours.filter(|predictor| from.is_none_or(|from| predictor.service == from)) {
                    Some(predictor) => push_new(&mut seen.weighted, predictor),
                    None => push_new(&mut seen.strangers, destination.host),
                }
            }
        }
    }
    Ok(seen)
}

/// The stamp of the later decision; of two that show the same one, that with the lower setting.
fn newest(one: Option<stamp::Stamp>, other: Option<stamp::Stamp>) -> Option<stamp::Stamp> {
    [one, other].into_iter().flatten().max_by_key(|stamp| (stamp.seq, 100 - stamp.setting.min(100)))
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
