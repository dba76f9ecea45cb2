//! The routes: what they show, and what keeps them from being moved.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use sluice_core::{
    Predictor,
    api::Reason,
    carrier::{self, ObjectName, World},
    machine::{self, Refusal, SeenTraffic, Stage, State},
    plan::{Plan, PlannedRoute},
    target::{self, NamedStable, StableField},
    traffic::Setting,
};

use super::{outlook, plans::Plans, seldon};
use crate::controller::{
    Error,
    act::read_route,
    context::Context,
    memory::Memory,
    optional::tell_of_missing_right,
    slots::{self, Slots},
    subject::Subject,
};

/// What there is of routes.
#[derive(Default)]
pub(super) struct Routes {
    /// The VirtualServices that exist and that the Rollout may see, of all plans that may count.
    pub(super) objects: BTreeMap<ObjectName, Value>,
    /// Those of them that are a SeldonDeployment's, and are shown as it says.
    pub(super) slots: BTreeMap<ObjectName, Slots>,
    /// Those that may be there and could not be read, and why.
    pub(super) unreadable: BTreeMap<ObjectName, Error>,
}

impl Routes {
    /// One that a plan moves and that could not be read, though it may be there.
    pub(super) fn unreadable_of(&self, plan: &Plan) -> Option<ObjectName> {
        let mut of_it = plan.routes.iter().map(PlannedRoute::object);
        of_it.find(|name| self.unreadable.get(name).is_some_and(|error| !is_gone(error)))
    }
}

/// Whether it is what was asked for that is not there.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Refused { code: 404, .. })
}

/// What there is of routes.
pub(super) async fn virtual_services(
    context: &Context,
    subject: &Subject,
    plans: &Plans,
    memory: &mut Memory,
) -> Routes {
    let mut routes = Routes::default();
    for route in plans.all().flat_map(|plan| &plan.routes).filter(|_| context.optional.istio) {
        let name = route.object();
        if routes.objects.contains_key(&name) || routes.unreadable.contains_key(&name) {
            continue;
        }
        let cached = if context.watches(&route.namespace) {
            context.stores.virtual_service(&name)
        } else {
            // It exists or not, whether it is watched or not.
            match read_route(context, &name).await {
                Ok(read) => Some(Arc::new(read)),
                Err(error) if is_gone(&error) => None,
                Err(error) => {
                    routes.unreadable.insert(name, error);
                    continue;
                }
            }
        };
        let cached = match cached {
            Some(cached) => {
                memory.unseen.remove(&name);
                cached
            }
            // It was just created, and the cache does not know; or it is gone again.
            None if memory.unseen.contains(&name) => match read_route(context, &name).await {
                Ok(read) => Arc::new(read),
                Err(error) => {
                    if is_gone(&error) {
                        memory.unseen.remove(&name);
                    } else {
                        routes.unreadable.insert(name, error);
                    }
                    continue;
                }
            },
            None => continue,
        };
        if memory.virtual_services.get(&name).is_some_and(|remembered| !remembered.is_newer(&cached)) {
            memory.virtual_services.remove(&name);
        }
        let newest = memory.virtual_services.get(&name).unwrap_or(&cached);
        if let Some(value) = newest.to_value()
            && carrier::may_see(&value, &name, &subject.namespace, &subject.name)
        {
            let generated = plans.all().any(|plan| plan.expose.is_some());
            let owner = carrier::deployment_of(&value).filter(|_| !generated && name.0 == subject.namespace);
            match owner {
                None => drop(routes.objects.insert(name, value)),
                Some(owner) => match slots::read(context, &name.0, owner).await {
                    Ok(deployment) => {
                        let shown = carrier::as_route(&deployment, &name.1, &context.names);
                        let not_carried_out = carrier::not_carried_out(&shown, &value);
                        routes.objects.insert(name.clone(), shown.clone());
                        let slots = Slots { deployment, shown, route: value, not_carried_out };
                        routes.slots.insert(name, slots);
                    }
                    Err(error) => {
                        tell_of_missing_right(&error);
                        routes.unreadable.insert(name, error);
                    }
                },
            }
        }
    }
    routes
}

/// What keeps the routes of a Rollout that is being deleted from being given back: what cannot be seen cannot be written
/// either. What is not there keeps nobody, and what is generated goes with its Rollout.
pub(super) fn kept(
    context: &Context,
    subject: &Subject,
    state: &State,
    plan: Option<&Plan>,
    routes: &mut Routes,
) -> Option<Error> {
    let plan = plan.filter(|plan| subject.deleted && plan.expose.is_none())?;
    if context.optional.istio {
        let unreadable = routes.unreadable_of(plan)?;
        return routes.unreadable.remove(&unreadable);
    }
    // Routes that were touched show nobody but stable where nothing is on its way to or from them. Of a memory that was lost
    // nobody knows.
    let touched = matches!(state.stage, Stage::Pending) || state.in_flight() || !state.retiring.is_empty();
    touched.then(|| Error::IstioOff(subject.display()))
}

/// What there is beside routes.
pub(super) struct Beside<'b> {
    /// DestinationRules of generated routes.
    pub(super) rules: &'b BTreeMap<ObjectName, Value>,
    /// What is shown as routes.
    pub(super) slots: &'b BTreeMap<ObjectName, Slots>,
}

/// What the routes show, and what keeps them from being moved.
#[derive(Default)]
pub(super) struct Sight {
    pub(super) traffic: Option<SeenTraffic>,
    pub(super) refusal: Option<Refusal>,
}

pub(super) fn look_at_routes(
    context: &Context,
    subject: &Subject,
    state: &State,
    plan: Option<&Plan>,
    wanted: Option<&Predictor>,
    world: &World<'_>,
    beside: &Beside<'_>,
) -> Sight {
    let Some(plan) = plan else { return Sight::default() };
    if !context.optional.istio {
        return Sight { traffic: None, refusal: Some(istio_off()) };
    }
    // What is not ours says nothing.
    if let Err(refusal) = carrier::accept_generated(world, plan, &subject.uid, None, None) {
        return Sight { traffic: None, refusal: Some(refusal) };
    }
    let first_time = state.stable.is_none();
    let (from, nobody) = named_stable(context, subject, first_time);
    let mut traffic = match carrier::see(world, plan, wanted, &from) {
        Ok(traffic) => traffic,
        Err(refusal) => return Sight { traffic: None, refusal: Some(refusal) },
    };
    let generated = plan.routes.first().filter(|_| plan.expose.is_some() && first_time);
    if let Some(route) = generated
        && !world.virtual_services.contains_key(&route.object())
        && let Some(first) = seldon::first(context, subject)
    {
        traffic.weighted = first;
    }
    traffic.in_place = outlook(context, subject, world, plan, state, beside.rules).in_place();
    if traffic.in_place {
        let behind = beside.slots.values().find_map(|slots| slots.not_carried_out.clone());
        traffic.in_place = behind.is_none();
        traffic.obstacle = behind;
    }
    let refusal = nobody.or_else(|| unknown_from(&from, &traffic)).or_else(|| {
        // Before anything was decided: what would be.
        let (stable, _) = machine::arms(state, Some(&traffic), wanted, &subject.uid);
        let desired = machine::desired(Some(plan), state).or_else(|| stable.map(Setting::all_to));
        let pair = desired.zip(wanted).map(|(desired, wanted)| carrier::pair(desired, wanted));
        let delegators = delegators(context, plan);
        let claims = context.claims_beside(subject, plan);
        carrier::accept_generated(world, plan, &subject.uid, pair.as_ref(), delegators.as_deref())
            .and_then(|()| carrier::accept(world, plan, pair.as_ref(), subject.created, &claims))
            .and_then(|()| {
                let predictor = wanted.and_then(|wanted| wanted.subset.as_deref());
                let mut all = beside.slots.values();
                all.try_for_each(|slots| carrier::accept_slots(plan, &slots.deployment, predictor))
            })
            .and_then(|()| match &pair {
                Some(pair) => carrier::accept_rules(world, plan, pair, &subject.uid, beside.rules),
                None => Ok(()),
            })
            // The last: it lets the route be generated, and hides nothing that does not.
            .and_then(|()| carrier::accept_delegated(plan, delegators.as_deref()))
            .err()
    });
    Sight { traffic: Some(traffic), refusal }
}

/// The VirtualServices that delegate to the generated one; nothing where not all can be seen.
fn delegators(context: &Context, plan: &Plan) -> Option<Vec<Value>> {
    let route = plan.routes.first().filter(|_| plan.expose.is_some())?;
    let all = context.stores.delegators(&route.object());
    (context.watches_all() || !all.is_empty()).then_some(all)
}

/// That the routes are not given back, and why: deletion waits for it.
pub(super) fn not_given_back(kept: &Error) -> Refusal {
    let reason = match kept {
        Error::IstioOff(_) => Reason::IstioOff,
        _ => Reason::RouteNotFound,
    };
    Refusal::new(reason, format!("the routes are not given back yet, and the deletion waits for it: {kept}"))
}

fn istio_off() -> Refusal {
    let message =
        "spec: the controller was started with --istio=false, and routes are VirtualServices of Istio";
    Refusal::new(Reason::IstioOff, message)
}

/// Whom the spec names as stable, which counts only the first time; and what is wrong with that.
fn named_stable(context: &Context, subject: &Subject, first_time: bool) -> (NamedStable, Option<Refusal>) {
    let Ok(spec) = &subject.spec else { return (NamedStable::default(), None) };
    let nobody = NamedStable::nobody(StableField::of(spec));
    if !first_time {
        return (nobody, None);
    }
    let seldon =
        |name: &str| context.stores.seldon(&subject.namespace, name).map(|seldon| seldon.view.clone());
    match target::named_stable(spec, &subject.namespace, seldon) {
        Ok(named) => (named, None),
        Err(refusal) => (nobody, Some(refusal)),
    }
}

fn unknown_from(from: &NamedStable, traffic: &SeenTraffic) -> Option<Refusal> {
    let named = from.subset.as_ref().or(from.service.as_ref());
    let named = named.filter(|_| traffic.weighted.is_empty() && traffic.stamp.is_none())?;
    let there = traffic.strangers.join(", ");
    let message = format!("{}: {named} has no weight on the routes, only {there}", from.field);
    Some(Refusal::new(Reason::AmbiguousStable, message))
}
