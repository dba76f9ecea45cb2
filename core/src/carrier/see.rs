//! What the routes show.

use serde_json::Value;

use super::{World, selection};
use crate::{
    Predictor,
    api::Reason,
    machine::{Refusal, SeenTraffic},
    plan::{Plan, PlannedRoute},
    target::NamedStable,
    traffic::{self, RouteView, Selection, stamp},
};

/// What the routes of a plan show, as far as they are there: one that is missing is for [`super::accept`] to name, and
/// must not hide what the others say. Where the spec names no routes, those that list the `wanted` predictor count, if
/// any do. `from` is whom the spec names as stable, which counts only while the machine knows none: the
/// others on the route are strangers then. [`SeenTraffic::in_place`] is for the caller to fill in.
///
/// # Errors
/// No VirtualService at all, or a route or a stamp that cannot be read.
pub fn see(
    world: &World<'_>,
    plan: &Plan,
    wanted: Option<&Predictor>,
    from: &NamedStable,
) -> Result<SeenTraffic, Refusal> {
    let mut seen = SeenTraffic { field: from.field, ..SeenTraffic::default() };
    let named = from.service.as_ref();
    let mut missing = None;
    let mut found = false;
    for route in &plan.routes {
        let Some(object) = world.get(route) else {
            if plan.expose.is_some() {
                return nothing_yet(world, wanted, from);
            }
            missing = missing.or(Some(route));
            continue;
        };
        found = true;
        let stamp = stamp::read(object, &world.rollout()).map_err(super::accept::refusal)?;
        // Whoever may write the VirtualService may write a stamp: what it says of other namespaces does not count.
        seen.stamp = newest(seen.stamp, stamp.map(|stamp| stamp.within(world.namespace)));
        let mut views = views(object, route, world)?;
        let lists_wanted = |view: &RouteView| wanted.is_some_and(|wanted| view.weight_of(wanted).is_some());
        if route.has_all_http() && views.iter().any(lists_wanted) {
            views.retain(lists_wanted);
        }
        for view in views {
            for destination in view.destinations.into_iter().filter(|destination| destination.weight > 0) {
                let ours = destination.predictor.filter(|predictor| predictor.namespace == world.namespace);
                match ours.filter(|predictor| named.is_none_or(|named| predictor.service == *named)) {
                    Some(predictor) => push_new(&mut seen.weighted, predictor),
                    None => push_new(&mut seen.strangers, destination.host),
                }
            }
        }
    }
    match missing {
        Some(route) if !found => Err(super::accept::not_found(route, world.namespace)),
        Some(_) | None => Ok(seen),
    }
}

/// A VirtualService that is to be generated and was not yet: stable is whom the spec names, else who is wanted, for nobody
/// has users so far.
fn nothing_yet(
    world: &World<'_>,
    wanted: Option<&Predictor>,
    from: &NamedStable,
) -> Result<SeenTraffic, Refusal> {
    let NamedStable { field, service, subset } = from;
    let stable = match (wanted, service) {
        (Some(wanted), Some(service)) => {
            // That a predictor is there its SeldonDeployment says.
            if subset.is_none() && (world.cluster.ports)(world.namespace, service).is_none() {
                let message =
                    format!("{field}: there is no Service {service} in namespace {}", world.namespace);
                return Err(Refusal::new(Reason::TargetNotFound, message));
            }
            let subset = subset.as_ref().or(wanted.subset.as_ref()).cloned();
            Some(Predictor { service: service.clone(), subset, ..wanted.clone() })
        }
        (wanted, _) => wanted.cloned(),
    };
    let weighted = stable.into_iter().collect();
    Ok(SeenTraffic { weighted, field: *field, ..SeenTraffic::default() })
}

/// The routes of one object that are there.
fn views(object: &Value, route: &PlannedRoute, world: &World<'_>) -> Result<Vec<RouteView>, Refusal> {
    let all = selection(world, route);
    let none = Selection { http: Vec::new(), tcp: Vec::new(), tls: Vec::new(), ..all.clone() };
    let http = all.http.iter().map(|name| Selection { http: vec![name.clone()], ..none.clone() });
    let tcp = all.tcp.iter().map(|port| Selection { tcp: vec![*port], ..none.clone() });
    let tls = all.tls.iter().map(|host| Selection { tls: vec![host.clone()], ..none.clone() });
    let each = http.chain(tcp).chain(tls);
    let selections: Vec<Selection> = if all.is_every_http() { vec![all.clone()] } else { each.collect() };
    let mut views = Vec::new();
    for selection in selections {
        match traffic::read(object, &selection, &world.cluster) {
            Ok(read) => views.extend(read),
            Err(error) if super::effects::is_absence(&error) => {}
            Err(error) => return Err(super::accept::refusal(error)),
        }
    }
    Ok(views)
}

/// The stamp of the later decision; of two that show the same one, that with the lower setting.
fn newest(one: Option<stamp::Stamp>, other: Option<stamp::Stamp>) -> Option<stamp::Stamp> {
    let lower = |one: &stamp::Stamp, other: &stamp::Stamp| one.given().is_less_than(&other.given());
    match (one, other) {
        (Some(one), Some(other)) if one.seq > other.seq || one.seq == other.seq && lower(&one, &other) => {
            Some(one)
        }
        (one, None) => one,
        (_, other) => other,
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
