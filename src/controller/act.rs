//! Stage 4: what was decided is done. Every write is one of a set that may be applied in part and in any order.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use sluice_core::{
    api::{ActionStatus, RolloutAction},
    carrier::{Effect, Outlook},
    machine::{Handled, KEPT_ACTIONS, State},
};

use super::{Error, context::Context, memory::Memory, stores::virtual_service, subject::Subject};

/// Writes the VirtualServices, those that take traffic away first; each is tried whatever becomes of the others.
///
/// # Errors
/// The first write that failed.
pub(super) async fn write_routes(
    context: &Context,
    memory: &mut Memory,
    outlook: Outlook,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    memory.obstacle = outlook.obstacles.first().map(ToString::to_string);
    for effect in outlook.effects {
        match write_route(context, &effect).await {
            Ok(written) => drop(memory.virtual_services.insert(effect.object, written)),
            Err(error) => {
                memory.virtual_services.remove(&effect.object);
                if let Error::Refused { .. } = &error {
                    memory.obstacle = Some(error.to_string());
                }
                outcome = outcome.and(Err(error));
            }
        }
    }
    outcome
}

async fn write_route(context: &Context, effect: &Effect) -> Result<DynamicObject, Error> {
    let (namespace, name) = &effect.object;
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &virtual_service());
    let what = format!("writing VirtualService {namespace}/{name}");
    let patch = Patch::Json::<()>(effect.patch.clone());
    let mut written = context.write(what, api.patch(name, &PatchParams::default(), &patch)).await?;
    // As the caches keep it.
    written.metadata.managed_fields = None;
    Ok(written)
}

/// Answers the actions that were handled, and drops the oldest answered ones.
pub(super) async fn answer_actions(context: &Context, subject: &Subject, state: &State) -> Result<(), Error> {
    let actions = context.stores.actions_of(&subject.namespace, &subject.name);
    let api: Api<RolloutAction> = Api::namespaced(context.client.clone(), &subject.namespace);
    let mut outcome = Ok(());
    for action in &actions {
        let uid = action.metadata.uid.as_deref().unwrap_or_default();
        let handled = state.handled.iter().find(|handled| handled.uid == uid);
        if let (None, Some(handled)) = (&action.status, handled) {
            outcome = outcome.and(answer(context, &api, action, handled).await);
        }
    }
    let mut answered = actions;
    answered.retain(|action| action.status.is_some());
    answered.truncate(answered.len().saturating_sub(KEPT_ACTIONS));
    for action in answered {
        let name = action.metadata.name.as_deref().unwrap_or_default();
        let what = format!("deleting RolloutAction {name}");
        outcome =
            outcome.and(context.write(what, api.delete(name, &DeleteParams::default())).await.map(drop));
    }
    outcome
}

async fn answer(
    context: &Context,
    api: &Api<RolloutAction>,
    action: &RolloutAction,
    handled: &Handled,
) -> Result<(), Error> {
    let name = action.metadata.name.as_deref().unwrap_or_default();
    let status = ActionStatus {
        phase: handled.phase,
        message: Some(handled.message.clone()),
        decision: handled.decision,
        handled_at: handled.at,
    };
    let patch = Patch::Merge(json!({ "status": status }));
    let what = format!("answering RolloutAction {name}");
    match context.write(what, api.patch_status(name, &PatchParams::default(), &patch)).await {
        // It was deleted meanwhile: nobody waits for the answer.
        Err(Error::Refused { message, .. }) if message.contains("not found") => Ok(()),
        other => other.map(drop),
    }
}
