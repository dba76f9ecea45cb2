//! Stage 1: what is there. Client required for pods' ages, metrics and the validity of queries; all else is cached.

mod endpoints;
mod gateways;
mod metrics;
mod plans;
mod pods;
mod routes;
mod seen;
mod seldon;
mod subsets;

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{
    Predictor,
    api::Reason,
    carrier::{self, ObjectName, Outlook, World},
    machine::{self, Asked, Facts, Refusal, State},
    plan::Plan,
    target::{self, ServiceView},
    traffic::Cluster,
};
use tokio::time::Instant;

use self::{
    endpoints::ready_endpoints,
    plans::Plans,
    routes::{Beside, Routes},
    subsets::Ready,
};
pub(super) use self::{seen::Pods, subsets::Subsets};
use super::{Error, context::Context, memory::Memory, slots::Slots, subject::Subject};

/// What was seen of the world of one Rollout.
pub(super) struct Observation {
    pub(super) state: State,
    pub(super) plans: Plans,
    pub(super) facts: Facts,
    /// The VirtualServices of the plans that exist.
    pub(super) objects: BTreeMap<ObjectName, Value>,
    /// The DestinationRules of generated routes that exist.
    pub(super) rules: BTreeMap<ObjectName, Value>,
    /// Those of the VirtualServices that are a SeldonDeployment's.
    pub(super) slots: BTreeMap<ObjectName, Slots>,
    /// What keeps the routes of a Rollout that is being deleted from being given back, where anything does.
    pub(super) kept: Option<Error>,
    /// When the facts were complete: decisions are timed from here.
    pub(super) at: Instant,
}

pub(super) async fn observe(context: &Context, subject: &Subject, memory: &mut Memory) -> Observation {
    let (state, elapsed) = memory.begin_turn(&subject.status, Instant::now());
    let plans = Plans::of(subject, &state);
    let plan = plans.in_force(&state);
    let mut routes = routes::virtual_services(context, subject, &plans, memory).await;
    let unreadable = plan.and_then(|plan| routes.unreadable_of(plan));
    let unreadable = unreadable.and_then(|name| routes.unreadable.get(&name)).map(ToString::to_string);
    let said = routes.unreadable.values().next().map(ToString::to_string);
    let kept = routes::kept(context, subject, &state, plan, &mut routes);
    let Routes { objects, slots, .. } = routes;
    let wanted = wanted(context, subject);
    let rules = gateways::rules(context, subject, plan, &state, wanted.as_ref().ok(), memory).await;
    let beside = Beside { rules: &rules, slots: &slots };
    let mut sight = with_world(context, subject, &objects, |world| {
        routes::look_at_routes(context, subject, &state, plan, wanted.as_ref().ok(), world, &beside)
    });
    if let Some(traffic) = &mut sight.traffic {
        traffic.obstacle = memory.obstacle.clone().or(traffic.obstacle.take());
        // What nobody could see is not known to be as decided.
        if unreadable.is_some() {
            traffic.in_place = false;
            traffic.obstacle = traffic.obstacle.take().or(unreadable);
        }
    }
    let mut refusal = context
        .kinds
        .refusal()
        .or(plans.refusal.clone())
        .or(wanted.as_ref().err().cloned())
        .or(sight.refusal);
    // Whether it is there, nobody knows then.
    if let (Some(refusal), Some(error)) = (&mut refusal, said)
        && matches!(refusal.reason, Reason::VirtualServiceNotFound | Reason::NotAllowed)
    {
        refusal.message = format!("spec.routes: {error}");
    }
    if let Some(kept) = &kept {
        refusal = Some(routes::not_given_back(kept));
    }
    if refusal.is_none() {
        refusal = gateways::refused(context, plan, &state, wanted.as_ref().ok(), memory).await;
    }
    if refusal.is_none() {
        refusal = metrics::refused_metrics(context, plan, &state, wanted.as_ref().ok(), memory).await;
    }
    let look = match plan {
        Some(plan) => {
            let in_place = sight.traffic.as_ref().is_some_and(|traffic| traffic.in_place);
            metrics::look(context, subject, plan, &state, (elapsed, in_place), memory).await
        }
        None => None,
    };
    let wanted = wanted.ok();
    let (stable, canary) = machine::arms(&state, sight.traffic.as_ref(), wanted.as_ref(), &subject.uid);
    let canary = canary.filter(|arm| seldon::is_available(context, subject, arm));
    let [stable, canary] = ready(context, subject, plan, [stable, canary], memory).await;
    let facts = Facts {
        now: context.clock.now(),
        elapsed,
        wanted,
        refusal,
        deleted: subject.deleted,
        paused: subject.spec.as_ref().is_ok_and(|spec| spec.paused),
        // After everything that takes time.
        frozen: context.frozen(&subject.namespace),
        uid: subject.uid.clone(),
        had_status: subject.has_finalizer,
        traffic: sight.traffic,
        stable_ready: stable.endpoints,
        canary_ready: canary.endpoints,
        stable_missing: stable.missing,
        canary_missing: canary.missing,
        serves: seldon::serves(context, subject),
        look,
        metrics: memory.availability.said().cloned(),
        actions: asked(context, subject),
    };
    Observation { state, plans, facts, objects, rules, slots, kept, at: Instant::now() }
}

/// The ready endpoints of stable and of the canary. While nothing is to replace stable nothing depends on them, and nobody is
/// asked.
async fn ready(
    context: &Context,
    subject: &Subject,
    plan: Option<&Plan>,
    arms: [Option<Predictor>; 2],
    memory: &mut Memory,
) -> [Ready; 2] {
    let [stable, canary] = &arms;
    let mut ready = [Ready::default(), Ready::default()];
    for (ready, arm) in ready.iter_mut().zip([stable, canary]) {
        *ready = match arm {
            None => Ready::default(),
            Some(arm) if canary.is_none() || canary == stable => ready_endpoints(context, arm).len().into(),
            Some(arm) => subsets::ready(context, subject, plan, arm, memory).await,
        };
    }
    ready
}

/// Runs `what` on the VirtualServices as the pure core sees them.
pub(super) fn with_world<T>(
    context: &Context,
    subject: &Subject,
    objects: &BTreeMap<ObjectName, Value>,
    what: impl FnOnce(&World<'_>) -> T,
) -> T {
    let ports = |namespace: &str, service: &str| context.stores.ports(namespace, service);
    what(&World {
        namespace: &subject.namespace,
        name: &subject.name,
        virtual_services: objects.iter().map(|(name, object)| (name.clone(), object)).collect(),
        cluster: Cluster { names: &context.names, ports: &ports },
    })
}

/// What is to be written for `state`, as far as the Rollout may, and nothing that grows during a freeze.
pub(super) fn outlook(
    context: &Context,
    subject: &Subject,
    world: &World<'_>,
    plan: &Plan,
    state: &State,
    rules: &BTreeMap<ObjectName, Value>,
) -> Outlook {
    let Some(setting) = machine::desired(Some(plan), state) else { return Outlook::default() };
    let stamp = machine::stamp(Some(plan), state, &subject.uid);
    let mut outlook = carrier::effects(world, plan, &setting, &stamp);
    if subject.deleted || !outlook.forbidden.is_empty() {
        // What is generated goes with its Rollout: nothing is made anew for it.
        outlook.generated.clear();
    } else {
        let mut generated = carrier::rules(world, plan, &setting, &subject.uid, rules);
        generated.append(&mut outlook.generated);
        outlook.generated = generated;
    }
    let claims = context.claims_beside(subject, plan);
    let outlook = carrier::permit(outlook, world, plan, subject.created, &claims);
    if context.frozen(&subject.namespace).is_some() { outlook.without_growth() } else { outlook }
}

fn wanted(context: &Context, subject: &Subject) -> Result<Predictor, Refusal> {
    let spec = subject.spec.as_ref().map_err(Clone::clone)?;
    let service =
        |name: &str| context.stores.ports(&subject.namespace, name).map(|ports| ServiceView { ports });
    let seldon =
        |name: &str| context.stores.seldon(&subject.namespace, name).map(|seldon| seldon.view.clone());
    target::wanted_in(spec, &subject.namespace, service, seldon)
}

/// What people ask of the Rollout and nobody answered yet.
fn asked(context: &Context, subject: &Subject) -> Vec<Asked> {
    let actions = context.stores.actions_of(&subject.namespace, &subject.name);
    // An action that is older than its Rollout was made for another one.
    let of_it = actions.iter().filter(|(_, action)| !action.deleted && action.created >= subject.created);
    let open = of_it.filter_map(|(_, action)| action.asked.as_deref());
    // No more at a time than can be remembered as handled.
    open.take(machine::KEPT_ACTIONS).cloned().collect()
}
