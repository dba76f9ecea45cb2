//! The routes: what they show, and what keeps them from being moved.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use sluice_core::{
    Predictor,
    api::Reason,
    carrier::{self, ObjectName, World},
    machine::{self, Refusal, SeenTraffic, State},
    plan::Plan,
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
    /// Why one could not be read.
    pub(super) unreadable: Option<Error>,
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
        let name = (route.namespace.clone(), route.name.clone());
        let cached = if context.watches(&route.namespace) {
            context.stores.virtual_service(&name)
        } else {
            // It exists or not, whether it is watched or not.
            match read_route(context, &name).await {
                Ok(read) => Some(Arc::new(read)),
                Err(Error::Refused { code: 404, .. }) => None,
                Err(error) => {
                    routes.unreadable.get_or_insert(error);
                    None
                }
            }
        };
        let cached = match cached {
            Some(cached) => {
                memory.unseen.remove(&name);
                cached
            }
            // It was just created, and the cache does not know; or it is gone again.
            None if memory.unseen.contains(&name) => {
                let Ok(read) = read_route(context, &name).await else {
                    memory.unseen.remove(&name);
                    continue;
                };
                Arc::new(read)
            }
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
                        routes.slots.insert(name, Slots { deployment, shown, not_carried_out });
                    }
                    Err(error) => {
                        tell_of_missing_right(&error);
                        routes.unreadable.get_or_insert(error);
                    }
                },
            }
        }
    }
    routes
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
    let from = subject.spec.as_ref().ok().and_then(|spec| spec.target.service.as_ref()?.from.as_deref());
    let from = from.filter(|_| first_time);
    let mut traffic = match carrier::see(world, plan, wanted, from) {
        Ok(traffic) => traffic,
        Err(refusal) => return Sight { traffic: None, refusal: Some(refusal) },
    };
    let generated = plan.routes.first().filter(|_| plan.expose.is_some() && first_time);
    if let Some(route) = generated
        && !world.virtual_services.contains_key(&(route.namespace.clone(), route.name.clone()))
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
    let refusal = unknown_from(from, &traffic).or_else(|| {
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
    let all = context.stores.delegators(&(route.namespace.clone(), route.name.clone()));
    (context.watches_all() || !all.is_empty()).then_some(all)
}

fn istio_off() -> Refusal {
    let message =
        "spec: the controller was started with --istio=false, and routes are VirtualServices of Istio";
    Refusal::new(Reason::IstioOff, message)
}

fn unknown_from(from: Option<&str>, traffic: &SeenTraffic) -> Option<Refusal> {
    let from = from.filter(|_| traffic.weighted.is_empty() && traffic.stamp.is_none())?;
    let there = traffic.strangers.join(", ");
    let message = format!("spec.target.service.from: {from} has no weight on the routes, only {there}");
    Some(Refusal::new(Reason::AmbiguousStable, message))
}
