//! Stage 1: what is there. Client required for pods' ages, metrics and the validity of queries; all else is cached.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DynamicObject, runtime::reflector::ObjectRef};
use serde_json::Value;
use sluice_core::{
    Predictor,
    api::{self, REQUESTED_BY, Reason, RolloutSpec},
    carrier::{self, ObjectName, Outlook, World},
    judge::{Bound, Look, TroubleKind},
    machine::{self, Asked, Facts, Refusal, SeenTraffic, State},
    plan::{MetricsPlan, Plan, Rule},
    target::{self, ServiceView},
    traffic::Cluster,
};
use tokio::time::Instant;

use super::{
    context::Context,
    memory::Memory,
    stores::virtual_service,
    subject::{Subject, created, is_newer},
};
use crate::metrics::{Arm, Query, Question};

/// A look may take this long at most, or as long as an interval where that is longer.
const SHORTEST_LOOK: Duration = Duration::from_secs(2);

/// What was seen of the world of one Rollout.
pub(super) struct Observation {
    pub(super) state: State,
    /// The spec that counts: the pinned one while a canary is in flight.
    pub(super) spec: Option<RolloutSpec>,
    pub(super) plan: Option<Plan>,
    pub(super) facts: Facts,
    /// The VirtualServices of the plan that exist.
    pub(super) objects: BTreeMap<ObjectName, Value>,
    /// When the facts were complete: decisions are timed from here.
    pub(super) at: Instant,
}

pub(super) async fn observe(context: &Context, subject: &Subject, memory: &mut Memory) -> Observation {
    let now = Instant::now();
    let state = memory.state(&subject.status);
    let (spec, plan) = spec_that_counts(subject, &state);
    let plan_refusal = plan.as_ref().err().cloned();
    let plan = plan.ok();
    let objects = plan.as_ref().map(|plan| virtual_services(context, plan, memory)).unwrap_or_default();
    let wanted = wanted(context, subject);
    let mut sight = with_world(context, subject, &objects, |world| {
        look_at_routes(context, subject, &state, plan.as_ref(), wanted.as_ref().ok(), world)
    });
    if let Some(traffic) = &mut sight.traffic {
        traffic.obstacle.clone_from(&memory.obstacle);
    }
    let current_refusal = subject.spec.as_ref().ok().and_then(|spec| refused_spec(spec, &subject.namespace));
    let mut refusal = plan_refusal
        .or(current_refusal)
        .or(unreadable_spec(subject))
        .or(wanted.as_ref().err().cloned())
        .or(sight.refusal);
    if refusal.is_none() {
        refusal = refused_metrics(context, plan.as_ref(), &state, wanted.as_ref().ok(), memory).await;
    }
    let wanted = wanted.ok();
    let canary = if state.in_flight() { state.canary.clone() } else { wanted.clone() };
    let look = match &plan {
        Some(plan) => look(context, subject, plan, &state, memory).await,
        None => None,
    };
    let ready = |predictor: &Option<Predictor>| {
        predictor.as_ref().map_or(0, |predictor| ready_endpoints(context, predictor).len())
    };
    let facts = Facts {
        now: context.clock.now(),
        elapsed: memory.elapse(now),
        wanted,
        refusal,
        deleted: subject.deleted,
        paused: subject.spec.as_ref().is_ok_and(|spec| spec.paused),
        uid: subject.uid.clone(),
        had_status: subject.has_finalizer,
        traffic: sight.traffic,
        stable_ready: ready(&state.stable),
        canary_ready: ready(&canary),
        look,
        actions: asked(context, subject),
    };
    Observation { state, spec, plan, facts, objects, at: Instant::now() }
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

/// What is to be written for `state`.
pub(super) fn outlook(world: &World<'_>, plan: &Plan, state: &State, uid: &str) -> Outlook {
    match machine::desired(Some(plan), state) {
        Some(setting) => carrier::effects(world, plan, &setting, &machine::stamp(Some(plan), state, uid)),
        None => Outlook::default(),
    }
}

/// The pinned spec while a canary is in flight, else the current one; with its plan.
fn spec_that_counts(subject: &Subject, state: &State) -> (Option<RolloutSpec>, Result<Plan, Refusal>) {
    let refused = |errors: sluice_core::plan::PlanErrors| Refusal::new(errors.reason(), errors.to_string());
    if state.in_flight() {
        let Some(pinned) = subject.status.pinned.as_deref() else {
            return (
                None,
                Err(Refusal::new(Reason::InvalidStatus, "status.pinned: the pinned spec is missing")),
            );
        };
        return (Some(pinned.clone()), Plan::new(pinned, &subject.namespace).map_err(refused));
    }
    match &subject.spec {
        Ok(spec) => (Some(spec.clone()), Plan::new(spec, &subject.namespace).map_err(refused)),
        Err(refusal) => (None, Err(refusal.clone())),
    }
}

/// What is wrong with the current spec, also while another one is pinned.
fn refused_spec(spec: &RolloutSpec, namespace: &str) -> Option<Refusal> {
    let errors = Plan::new(spec, namespace).err()?;
    Some(Refusal::new(errors.reason(), errors.to_string()))
}

fn unreadable_spec(subject: &Subject) -> Option<Refusal> {
    subject.spec.as_ref().err().cloned()
}

fn virtual_services(context: &Context, plan: &Plan, memory: &Memory) -> BTreeMap<ObjectName, Value> {
    let mut objects = BTreeMap::new();
    for route in &plan.routes {
        let name = (route.namespace.clone(), route.name.clone());
        let reference =
            ObjectRef::<DynamicObject>::new_with(&route.name, virtual_service()).within(&route.namespace);
        let Some(cached) = context.stores.virtual_services.get(&reference) else { continue };
        let remembered =
            memory.virtual_services.get(&name).filter(|remembered| is_newer(*remembered, cached.as_ref()));
        if let Ok(value) = serde_json::to_value(remembered.unwrap_or(cached.as_ref())) {
            objects.insert(name, value);
        }
    }
    objects
}

fn wanted(context: &Context, subject: &Subject) -> Result<Predictor, Refusal> {
    let spec = subject.spec.as_ref().map_err(Clone::clone)?;
    let service =
        |name: &str| context.stores.ports(&subject.namespace, name).map(|ports| ServiceView { ports });
    target::wanted(spec, &subject.namespace, service)
}

/// What the routes show, and what keeps them from being moved.
struct Sight {
    traffic: Option<SeenTraffic>,
    refusal: Option<Refusal>,
}

fn look_at_routes(
    context: &Context,
    subject: &Subject,
    state: &State,
    plan: Option<&Plan>,
    wanted: Option<&Predictor>,
    world: &World<'_>,
) -> Sight {
    let Some(plan) = plan else { return Sight { traffic: None, refusal: None } };
    let first_time = state.stable.is_none();
    let from = subject.spec.as_ref().ok().and_then(|spec| spec.target.service.as_ref()?.from.as_deref());
    let from = from.filter(|_| first_time);
    let mut traffic = match carrier::see(world, plan, wanted, from) {
        Ok(traffic) => traffic,
        Err(refusal) => return Sight { traffic: None, refusal: Some(refusal) },
    };
    traffic.in_place = outlook(world, plan, state, &subject.uid).in_place();
    let refusal = unknown_from(from, &traffic).or_else(|| {
        let desired = machine::desired(Some(plan), state);
        let pair = desired.zip(wanted).map(|(desired, wanted)| carrier::pair(desired, wanted));
        carrier::accept(world, plan, pair.as_ref(), subject.created, &context.claims_beside(subject)).err()
    });
    Sight { traffic: Some(traffic), refusal }
}

fn unknown_from(from: Option<&str>, traffic: &SeenTraffic) -> Option<Refusal> {
    let from = from.filter(|_| traffic.weighted.is_empty() && traffic.stamp.is_none())?;
    let there = traffic.strangers.join(", ");
    let message = format!("spec.target.service.from: {from} has no weight on the routes, only {there}");
    Some(Refusal::new(Reason::AmbiguousStable, message))
}

/// A source that is not configured, or a query that it calls invalid. A query is asked about once, before a rollout
/// starts; a source that does not answer refuses nothing.
async fn refused_metrics(
    context: &Context,
    plan: Option<&Plan>,
    state: &State,
    wanted: Option<&Predictor>,
    memory: &mut Memory,
) -> Option<Refusal> {
    let plan = plan?;
    let metrics = plan.metrics.as_ref()?;
    if let Err(trouble) = context.metrics.check(metrics) {
        return Some(Refusal::new(Reason::UnknownSource, format!("spec.metrics: {trouble}")));
    }
    if state.in_flight() || wanted == state.stable.as_ref() {
        return None;
    }
    for (index, check) in plan.checks.iter().enumerate() {
        let Rule::Query { promql, .. } = &check.rule else { continue };
        if !memory.queries.contains_key(promql) {
            match context.metrics.validate(metrics, promql, SHORTEST_LOOK).await {
                Ok(()) => drop(memory.queries.insert(promql.clone(), Ok(()))),
                Err(trouble)
                    if matches!(trouble.kind, TroubleKind::BadQuery | TroubleKind::Misconfigured) =>
                {
                    memory.queries.insert(promql.clone(), Err(trouble.to_string()));
                }
                Err(_) => {}
            }
        }
        if let Some(Err(message)) = memory.queries.get(promql) {
            return Some(Refusal::new(
                Reason::InvalidQuery,
                format!("spec.checks[{index}].query.promql: {message}"),
            ));
        }
    }
    None
}

/// One look at the metrics, if one is due and anybody has use for it.
async fn look(
    context: &Context,
    subject: &Subject,
    plan: &Plan,
    state: &State,
    memory: &mut Memory,
) -> Option<Look> {
    let metrics = plan.metrics.as_ref()?;
    let stable = state.stable.clone()?;
    let step = state.step();
    let canary = state.canary.clone().filter(|_| step.is_some());
    let asked = Instant::now();
    let useful = step.is_some_and(|step| step.withdrawn.is_none()) || !state.retiring.is_empty();
    if !useful || !memory.next_look(asked, plan.interval).is_zero() {
        return None;
    }
    memory.looks(asked);
    let ages = matches!(metrics, MetricsPlan::Scrape { .. });
    let stable = arm(context, &subject.namespace, stable, ages, memory).await;
    let canary = match canary {
        Some(canary) => Some(arm(context, &subject.namespace, canary, ages, memory).await),
        None => None,
    };
    let mut retiring = Vec::new();
    for leaving in &state.retiring {
        retiring.push(arm(context, &subject.namespace, leaving.predictor.clone(), ages, memory).await);
    }
    let now = context.clock.now();
    // Without a step the traffic is what it is since the last loser lost its part.
    let retired = state.retiring.iter().map(|leaving| leaving.waited.0).min().unwrap_or_default();
    let in_place = step.map_or(retired, |step| step.in_place.0);
    let limits = limits(plan);
    let queries = if step.is_some() { queries(plan) } else { Vec::new() };
    let question = Question {
        now,
        rollout: &subject.name,
        namespace: &subject.namespace,
        metrics,
        stable: &stable,
        canary: canary.as_ref(),
        retiring: &retiring,
        limits: &limits,
        queries: &queries,
        step_start: now - chrono::Duration::from_std(in_place).unwrap_or_default(),
        timeout: plan.interval.max(SHORTEST_LOOK),
    };
    Some(context.metrics.look(&question, &mut memory.counters).await)
}

fn limits(plan: &Plan) -> Vec<Bound> {
    let limit = |rule: &Rule| match rule {
        Rule::Latency { max, .. } => Some(*max),
        Rule::Errors { .. } | Rule::Query { .. } => None,
    };
    plan.checks.iter().filter_map(|check| limit(&check.rule)).collect()
}

fn queries(plan: &Plan) -> Vec<Query> {
    let query = |check: &sluice_core::plan::PlannedCheck| match &check.rule {
        Rule::Query { promql, .. } => {
            Some(Query { check: check.name.clone(), promql: promql.clone(), window: check.window })
        }
        Rule::Errors { .. } | Rule::Latency { .. } => None,
    };
    plan.checks.iter().filter_map(query).collect()
}

/// A predictor with its ready pods, and their ages where the metrics need them.
async fn arm(
    context: &Context,
    namespace: &str,
    predictor: Predictor,
    ages: bool,
    memory: &mut Memory,
) -> Arm {
    let mut pods = Vec::new();
    for endpoint in ready_endpoints(context, &predictor) {
        let Ok(address) = endpoint.address.parse() else { continue };
        let started = match (&endpoint.pod, ages) {
            (Some((name, uid)), true) => pod_start(context, namespace, name, uid, memory).await,
            (Some(_) | None, _) => None,
        };
        let name = endpoint.pod.map_or(endpoint.address, |(name, _)| name);
        pods.push(crate::metrics::Pod { name, address, started });
    }
    Arm { predictor, pods }
}

/// When a pod started. It is asked for once; pods are not watched, because a cluster has many.
async fn pod_start(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    memory: &mut Memory,
) -> Option<DateTime<Utc>> {
    if let Some(known) = memory.pod_starts.get(uid) {
        return *known;
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pod = context.read(format!("reading Pod {namespace}/{name}"), pods.get(name)).await.ok()?;
    let started = pod.status.and_then(|status| DateTime::from_timestamp(status.start_time?.0.as_second(), 0));
    if memory.pod_starts.len() > 1000 {
        memory.pod_starts.clear();
    }
    memory.pod_starts.insert(uid.to_owned(), started);
    started
}

/// A ready endpoint of a predictor's Service.
struct Endpoint {
    address: String,
    /// Name and uid of its pod.
    pod: Option<(String, String)>,
}

/// The ready endpoints behind a predictor, each address once. Subsets are not told apart here.
fn ready_endpoints(context: &Context, predictor: &Predictor) -> Vec<Endpoint> {
    let mut ready = BTreeMap::new();
    for slice in context.stores.slices_of(&predictor.namespace, &predictor.service) {
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            // Absent means ready, says the API.
            if !conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
                continue;
            }
            let pod = endpoint
                .target_ref
                .as_ref()
                .and_then(|target| Some((target.name.clone()?, target.uid.clone()?)));
            for address in &endpoint.addresses {
                ready.entry(address.clone()).or_insert_with(|| pod.clone());
            }
        }
    }
    ready.into_iter().map(|(address, pod)| Endpoint { address, pod }).collect()
}

/// What people ask of the Rollout and nobody answered yet.
fn asked(context: &Context, subject: &Subject) -> Vec<Asked> {
    let actions = context.stores.actions_of(&subject.namespace, &subject.name);
    let open = actions
        .iter()
        .filter(|action| action.status.is_none() && action.metadata.deletion_timestamp.is_none());
    // An action that is older than its Rollout was made for another one.
    let open = open.filter(|action| created(action.as_ref()) >= subject.created);
    open.map(|action| ask(action)).collect()
}

fn ask(action: &api::RolloutAction) -> Asked {
    let metadata = &action.metadata;
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Rollout");
    Asked {
        uid: metadata.uid.clone().unwrap_or_default(),
        what: action.spec.what,
        revision: action.spec.revision.clone(),
        step: action.spec.step,
        reason: action.spec.reason.clone(),
        by: metadata.annotations.as_ref().and_then(|annotations| annotations.get(REQUESTED_BY).cloned()),
        rollout_uid: owner.map(|owner| owner.uid.clone()),
    }
}
