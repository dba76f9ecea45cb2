//! Stage 4: what was decided is done. Every write is one of a set that may be applied in part and in any order.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use sluice_core::{
    api::{ActionStatus, RolloutAction},
    carrier::{Effect, ObjectName, Outlook},
    machine::{self, Handled, KEPT_ACTIONS, State},
    plan::Plan,
    traffic::Setting,
};

use super::{
    Error,
    context::Context,
    generate,
    memory::Memory,
    observe::{self, Observation},
    persist,
    slots::{self, Slots},
    stores::{Action, VirtualService, VirtualServiceObject},
    subject::{RolloutObject, Subject},
};

/// How far acting came.
pub(super) enum Done {
    /// The world is as desired, as far as it exists.
    All,
    /// Somebody decided later than we know: not ours to write.
    Ahead,
    /// The Rollout is not what it was read as: it must be looked at again first.
    ReadAgain,
}

/// What is to be written, and the traffic that is wanted.
pub(super) struct Intended {
    pub(super) outlook: Outlook,
    pub(super) desired: Option<Setting>,
    /// What is to be taken away in VirtualServices of SeldonDeployments, which give the canary too much.
    pub(super) lowered: BTreeMap<ObjectName, Effect>,
}

impl Intended {
    fn is_nothing(&self) -> bool {
        self.outlook.effects.is_empty() && self.outlook.generated.is_empty() && self.lowered.is_empty()
    }
}

/// The difference between the world as it was seen and what is desired for `state`; nothing where no plan counts.
pub(super) fn intended(
    context: &Context,
    subject: &Subject,
    seen: &Observation,
    state: &State,
) -> Option<Intended> {
    let plan = seen.plans.in_force(state)?;
    let plan = &standing(plan, subject, seen, state);
    let outlook = observe::with_world(context, subject, &seen.objects, |world| {
        observe::outlook(context, subject, world, plan, state, &seen.rules)
    });
    let desired = machine::desired(Some(plan), state);
    let lowered = desired.as_ref().filter(|_| !seen.slots.is_empty());
    let lowered = lowered.map(|desired| slots::lowered(context, subject, seen, plan, desired, &outlook));
    Some(Intended { outlook, desired, lowered: lowered.unwrap_or_default() })
}

/// Applies the difference between the world and what is desired, routes first: traffic may wait for them. `decided` says
/// that a decision was just recorded, or could not be; without one a difference is drift.
///
/// # Errors
/// The first write that failed; all others were tried. Or what keeps the routes of a Rollout that is being deleted from being
/// given back.
pub(super) async fn act(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
    seen: &mut Observation,
    state: &State,
    decided: bool,
) -> Result<Done, Error> {
    let routes = match intended(context, subject, seen, state) {
        Some(intended) => move_traffic(context, subject, memory, intended, decided, &seen.slots).await,
        None => Ok(Done::All),
    };
    let actions = answer_actions(context, subject, state).await;
    let done = routes?;
    actions?;
    match (done, seen.kept.take()) {
        (Done::ReadAgain, _) => Ok(Done::ReadAgain),
        // What nobody could see was not given back: the finalizer stays.
        (Done::All | Done::Ahead, Some(kept)) => Err(kept),
        (done, None) => Ok(done),
    }
}

/// The plan, as far as it may be acted on: at rest nothing but traffic is put back while the spec is refused. A Gateway that
/// does not exist would cost all users.
fn standing<'p>(plan: &'p Plan, subject: &Subject, seen: &Observation, state: &State) -> Cow<'p, Plan> {
    let at_rest = !state.in_flight() && state.retiring.is_empty() && !subject.deleted;
    let mut plan = Cow::Borrowed(plan);
    if at_rest && seen.facts.refusal.is_some() && plan.expose.is_some() {
        plan.to_mut().expose.iter_mut().for_each(|expose| expose.traffic_only = true);
    }
    plan
}

async fn move_traffic(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
    intended: Intended,
    decided: bool,
    slots: &BTreeMap<ObjectName, Slots>,
) -> Result<Done, Error> {
    let outlook = &intended.outlook;
    let obstacle = outlook.obstacles.first().map(ToString::to_string);
    if intended.is_nothing() {
        memory.obstacle = obstacle;
        // What is missing or cannot be edited cannot be given back either; what shows a later decision is read first.
        return Ok(if outlook.ahead.is_empty() { Done::All } else { Done::Ahead });
    }
    // Drift: nothing was decided, and yet the routes are not what they should be. The cached Rollout may be behind a
    // rollback, so it is read past the cache before anything is put back.
    if !decided {
        let fresh = persist::read_afresh(context, subject).await?;
        let version = |object: &RolloutObject| object.resource_version().unwrap_or_default();
        let known = memory.rollout.as_deref().map_or(subject.resource_version.clone(), version);
        if version(&fresh) != known {
            memory.rollout = Some(Arc::new(fresh));
            return Ok(Done::ReadAgain);
        }
        tracing::info!(rollout = subject.display(), "putting the routes back to what was decided");
    }
    // The finalizer comes before the first write: routes that were touched are always given back.
    if !subject.has_finalizer && !subject.deleted {
        memory.rollout = Some(Arc::new(persist::add_finalizer(context, subject).await?));
    }
    let ahead = !outlook.ahead.is_empty();
    memory.obstacle = obstacle;
    write_routes(context, memory, intended, slots).await?;
    Ok(if ahead { Done::Ahead } else { Done::All })
}

/// Writes the VirtualServices, those that take traffic away first; each is tried whatever becomes of the others.
///
/// # Errors
/// The first write that failed.
async fn write_routes(
    context: &Context,
    memory: &mut Memory,
    intended: Intended,
    slots: &BTreeMap<ObjectName, Slots>,
) -> Result<(), Error> {
    let Intended { outlook, desired, mut lowered } = intended;
    let mut outcome = Ok(());
    let generated = generate::write(context, memory, outlook.generated).await;
    // Where the SeldonDeployment is to be written, too, it comes first: its operator would undo the other way around.
    let both = |object: &ObjectName| outlook.effects.iter().any(|effect| effect.object == *object);
    for (_, effect) in lowered.extract_if(.., |object, _| !both(object)) {
        outcome = outcome.and(write_route(context, memory, effect).await);
    }
    for effect in outlook.effects {
        // Without the rule that has its subset the canary could answer nobody.
        if generated.is_err() && !effect.takes_away {
            continue;
        }
        let (Some(slots), Some(desired)) = (slots.get(&effect.object), &desired) else {
            outcome = outcome.and(write_route(context, memory, effect).await);
            continue;
        };
        let written = slots::write(context, &effect, slots, desired).await;
        if let Err(error @ Error::Refused { .. }) = &written {
            memory.obstacle = Some(error.to_string());
        }
        outcome = outcome.and(written);
        // Whatever became of that.
        if let Some(lowered) = lowered.remove(&effect.object) {
            outcome = outcome.and(write_route(context, memory, lowered).await);
        }
    }
    outcome.and(generated)
}

/// Writes a VirtualService, and keeps it as it is then: the caches may be behind for long, and a decrease must not wait for
/// them.
async fn write_route(context: &Context, memory: &mut Memory, effect: Effect) -> Result<(), Error> {
    let error = match patch_route(context, &effect).await {
        Ok(written) => {
            memory.virtual_services.insert(effect.object, written);
            return Ok(());
        }
        Err(error) => unless_stale(context, &effect, error).await,
    };
    memory.virtual_services.remove(&effect.object);
    match &error {
        Error::Conflict { .. } => {
            if let Ok(fresh) = read_route(context, &effect.object).await {
                memory.virtual_services.insert(effect.object, fresh);
            }
        }
        Error::Refused { .. } => memory.obstacle = Some(error.to_string()),
        _ => {}
    }
    Err(error)
}

/// A patch into something that somebody took away meanwhile is refused before its version is compared: that is a conflict as
/// well, and a decrease must not wait for the caches.
async fn unless_stale(context: &Context, effect: &Effect, error: Error) -> Error {
    if !matches!(error, Error::Refused { code: 422, .. }) {
        return error;
    }
    // The first operation names the version that was read.
    let version =
        serde_json::to_value(&effect.patch).map(|patch| patch[0]["value"].clone()).unwrap_or_default();
    let (namespace, name) = &effect.object;
    match read_route(context, &effect.object).await {
        Ok(fresh) if Some(fresh.version()) != version.as_str() => {
            Error::Conflict { object: format!("VirtualService {namespace}/{name}") }
        }
        Ok(_) | Err(_) => error,
    }
}

async fn patch_route(context: &Context, effect: &Effect) -> Result<VirtualService, Error> {
    let (namespace, name) = &effect.object;
    let api: Api<VirtualServiceObject> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("writing VirtualService {namespace}/{name}");
    let patch = Patch::Json::<()>(effect.patch.clone());
    context.write(what, api.patch(name, &PatchParams::default(), &patch)).await.map(VirtualService::from)
}

/// A VirtualService as it is now, past every cache.
pub(super) async fn read_route(context: &Context, object: &ObjectName) -> Result<VirtualService, Error> {
    let (namespace, name) = object;
    let api: Api<VirtualServiceObject> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("reading VirtualService {namespace}/{name}");
    context.read(what, api.get(name)).await.map(VirtualService::from)
}

/// Answers the actions that were handled, and drops the oldest answered ones.
async fn answer_actions(context: &Context, subject: &Subject, state: &State) -> Result<(), Error> {
    let actions = context.stores.actions_of(&subject.namespace, &subject.name);
    let api: Api<RolloutAction> = Api::namespaced(context.client.clone(), &subject.namespace);
    let mut outcome = Ok(());
    for (name, action) in actions.iter().filter(|(_, action)| action.is_open()) {
        if let Some(handled) = state.handled.iter().find(|handled| *handled.uid == *action.uid) {
            outcome = outcome.and(answer(context, &api, name, action, handled).await);
        }
    }
    let mut answered = actions;
    answered.retain(|(_, action)| !action.is_open());
    answered.truncate(answered.len().saturating_sub(KEPT_ACTIONS));
    for (name, action) in answered {
        let what = format!("deleting RolloutAction {name}");
        let only_this = Preconditions { uid: Some(action.uid.to_string()), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        outcome = outcome.and(unless_gone(context.write(what, api.delete(&name, &params)).await.map(drop)));
    }
    outcome
}

async fn answer(
    context: &Context,
    api: &Api<RolloutAction>,
    name: &str,
    action: &Action,
    handled: &Handled,
) -> Result<(), Error> {
    let status = ActionStatus {
        phase: handled.phase,
        message: Some(handled.message.clone()),
        decision: handled.decision,
        handled_at: handled.at,
    };
    // Not another one that was created under the same name meanwhile.
    let patch = Patch::Merge(json!({ "metadata": { "uid": action.uid }, "status": status }));
    let what = format!("answering RolloutAction {name}");
    unless_gone(context.write(what, api.patch_status(name, &PatchParams::default(), &patch)).await.map(drop))
}

/// An action that was deleted meanwhile, or replaced by another of its name, needs nothing from us.
fn unless_gone(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Refused { code: 404 | 422, .. } | Error::Conflict { .. }) => Ok(()),
        other => other,
    }
}
