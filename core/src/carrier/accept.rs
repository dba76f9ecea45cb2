//! What keeps a rollout from starting, or growing, on the routes of its plan.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{ObjectName, World, selection};
use crate::{
    Predictor,
    api::{ALLOW_FROM, Reason},
    machine::{self, Refusal},
    plan::{Plan, PlannedRoute, PlannedStep},
    target::seldon::virtual_service_name,
    traffic::{self, RouteError, Selection, Setting, stamp},
};

/// The routes of another Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `namespace/name` of the Rollout.
    pub rollout: String,
    /// When it was created: the older keeps a route.
    pub since: Option<DateTime<Utc>>,
    /// What it moves.
    pub routes: Vec<PlannedRoute>,
}

/// Whether the routes of `plan` can be moved by this Rollout, created at `since`, to any of its steps. `pair` is
/// stable and the canary, as far as they are known; `claims` are those of all other Rollouts.
///
/// # Errors
/// The first thing that is in the way.
pub fn accept(
    world: &World<'_>,
    plan: &Plan,
    pair: Option<&Setting>,
    since: Option<DateTime<Utc>>,
    claims: &[Claim],
) -> Result<(), Refusal> {
    for route in &plan.routes {
        let generated = generated(world, plan, route, pair)?;
        let object = match &generated {
            Some(object) => object,
            None => world.get(route).ok_or_else(|| not_found(route, world.namespace))?,
        };
        ours_to_move(world, object, route, since, claims)?;
        let selection = selection(world, route);
        match pair {
            Some(pair) => every_step(world, plan, object, &selection, pair),
            None => traffic::read(object, &selection, &world.cluster).map(drop),
        }
        .map_err(refusal)?;
    }
    Ok(())
}

/// Whether an object can be edited to all that the canary is to get in any step.
fn every_step(
    world: &World<'_>,
    plan: &Plan,
    object: &Value,
    selection: &Selection,
    pair: &Setting,
) -> Result<(), RouteError> {
    // Whom a match sends to the canary it sends there with all that the pair has.
    let weights = plan.steps.iter().map(|step| if step.matches.is_empty() { step.weight } else { 100 });
    let weights: Vec<u8> = weights.collect();
    traffic::require_share(object, selection, pair, &weights, &world.cluster)?;
    let beside = |step: &PlannedStep| !step.beside.is_nothing() || step.sticky.is_some();
    for (index, _) in plan.steps.iter().enumerate().filter(|(_, step)| beside(step)) {
        traffic::edit(object, selection, &machine::with_step(pair.clone(), plan, index), &world.cluster)?;
    }
    Ok(())
}

/// A VirtualService that is generated, as it will be: whatever it is now is put right.
fn generated(
    world: &World<'_>,
    plan: &Plan,
    route: &PlannedRoute,
    pair: Option<&Setting>,
) -> Result<Option<Value>, Refusal> {
    let Some(expose) = &plan.expose else { return Ok(None) };
    let name = route.object();
    let nobody = || Setting::all_to(Predictor::new(world.namespace, "stable", 80));
    let before = pair.map_or_else(nobody, |pair| Setting::all_to(pair.stable.clone()));
    super::expose::shown(world, expose, &name, &before).map(Some).map_err(refusal)
}

/// Whether the owner of the VirtualService lets this Rollout move it, and no older one does already.
pub(super) fn ours_to_move(
    world: &World<'_>,
    object: &Value,
    route: &PlannedRoute,
    since: Option<DateTime<Utc>>,
    claims: &[Claim],
) -> Result<(), Refusal> {
    if !allows(object, &route.namespace, world.namespace) {
        return Err(not_found(route, world.namespace));
    }
    // Whoever may not move a route cannot keep others from it either.
    let counts = |claim: &&Claim| {
        let namespace = claim.rollout.split_once('/').map_or("", |(namespace, _)| namespace);
        keeps(claim, world, since) && overlaps(claim, route) && allows(object, &route.namespace, namespace)
    };
    match claims.iter().find(counts) {
        None => Ok(()),
        Some(claim) => {
            let message = format!(
                "VirtualService {}/{} is moved by Rollout {} already",
                route.namespace, route.name, claim.rollout
            );
            Err(Refusal::new(Reason::RouteTaken, message))
        }
    }
}

/// The pair that a Rollout with this `stable` and `wanted` predictor would move.
pub fn pair(desired: Setting, wanted: &Predictor) -> Setting {
    Setting { canary: desired.canary.clone().or_else(|| Some(wanted.clone())), ..desired }
}

/// Whether a Rollout of `namespace` may know what is in the VirtualService `name`: only where it may move its routes,
/// or has to give them back because its canary has traffic there. What a tenant may not read comes into no status then,
/// whatever is wrong with it.
pub fn may_see(object: &Value, name: &ObjectName, namespace: &str, rollout: &str) -> bool {
    let to_be_given_back = || {
        let shown = stamp::read(object, &format!("{namespace}/{rollout}")).ok().flatten();
        shown.is_some_and(|shown| !shown.given().is_nothing())
    };
    allows(object, &name.0, namespace) || to_be_given_back()
}

/// Whether Rollouts of `namespace` may move the routes of a VirtualService in namespace `home`.
fn allows(object: &Value, home: &str, namespace: &str) -> bool {
    if home == namespace {
        return true;
    }
    let annotation =
        object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(ALLOW_FROM));
    annotation
        .and_then(Value::as_str)
        .is_some_and(|names| names.split(',').any(|name| name.trim() == namespace))
}

/// Whether the other Rollout has the older right.
fn keeps(claim: &Claim, world: &World<'_>, since: Option<DateTime<Utc>>) -> bool {
    let ours = world.rollout();
    claim.rollout != ours && (claim.since, &claim.rollout) < (since, &ours)
}

fn overlaps(claim: &Claim, route: &PlannedRoute) -> bool {
    claim.routes.iter().any(|taken| {
        let same_object = taken.namespace == route.namespace && taken.name == route.name;
        let all = taken.has_all_http() && route.has_http() || route.has_all_http() && taken.has_http();
        let http = all || taken.http.iter().any(|name| route.http.contains(name));
        let tcp = taken.tcp.iter().any(|port| route.tcp.contains(port));
        same_object && (http || tcp || taken.tls.iter().any(|host| route.tls.contains(host)))
    })
}

/// A VirtualService that is not there, or not for Rollouts of `namespace`: which of both is not for them to know.
pub(super) fn not_found(route: &PlannedRoute, namespace: &str) -> Refusal {
    let PlannedRoute { namespace: home, name, .. } = route;
    if home == namespace {
        let mut message = format!("spec.routes: there is no VirtualService {name} in namespace {home}");
        let shortened = virtual_service_name(name);
        if shortened != *name {
            message.push_str(&format!(
                "; Seldon Core calls that of a SeldonDeployment with this name {shortened}"
            ));
        }
        return Refusal::new(Reason::VirtualServiceNotFound, message);
    }
    let message = format!(
        "spec.routes: VirtualService {home}/{name} is of another namespace: it is not there, or its owner does not \
         allow it with the annotation {ALLOW_FROM}: {namespace}"
    );
    Refusal::new(Reason::NotAllowed, message)
}

#[allow(clippy::needless_pass_by_value)] // for map_err
pub(super) fn refusal(error: RouteError) -> Refusal {
    Refusal::new(error.reason(), error.to_string())
}
