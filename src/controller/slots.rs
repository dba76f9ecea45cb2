//! Weights in a SeldonDeployment whose operator owns the routes.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::Value;
use sluice_core::{
    carrier::{self, Effect, ObjectName},
    traffic::Setting,
};

use super::{Error, context::Context, optional::seldon, stores::VirtualServiceObject, subject::Subject};

/// A SeldonDeployment that weights are written to, and how it is shown as a route.
pub(super) struct Slots {
    pub(super) deployment: Value,
    pub(super) shown: Value,
    /// What keeps the operator's VirtualService from being so.
    pub(super) not_carried_out: Option<String>,
}

impl Slots {
    /// Name of the SeldonDeployment.
    pub(super) fn name(&self) -> &str {
        self.deployment.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A SeldonDeployment as it is now, past every cache: what is written names its version.
pub(super) async fn read(context: &Context, namespace: &str, name: &str) -> Result<Value, Error> {
    let what = format!("reading SeldonDeployment {namespace}/{name}");
    let read = context.read(what, api(context, namespace).get(name)).await?;
    Ok(serde_json::to_value(read)?)
}

fn api(context: &Context, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &seldon())
}

/// Writes an effect to the SeldonDeployment, in one patch. Its operator writes no route while any of its deployments is
/// unready, so what takes traffic away goes to the VirtualService as well.
pub(super) async fn write(
    context: &Context,
    subject: &Subject,
    effect: &Effect,
    slots: &Slots,
    desired: Option<&Setting>,
) -> Result<(), Error> {
    let namespace = &effect.object.0;
    let name = slots.name();
    let what = format!("writing SeldonDeployment {namespace}/{name}");
    let patch = carrier::written_back(&slots.deployment, &slots.shown, &effect.patch)
        .map_err(|message| Error::Refused { what: what.clone(), code: 422, message })?;
    if let Some(patch) = patch {
        let patch = Patch::Json::<()>(patch);
        context.write(what, api(context, namespace).patch(name, &PatchParams::default(), &patch)).await?;
    }
    if effect.takes_away
        && let Some(desired) = desired
    {
        lower(context, subject, &effect.object, desired).await;
    }
    Ok(())
}

/// The operator's VirtualService as it is, and the patch that takes the canary's weight away there; nothing where it has none.
pub(super) fn lowering(
    context: &Context,
    subject: &Subject,
    object: &ObjectName,
    desired: &Setting,
) -> Option<(Value, json_patch::Patch)> {
    let route = context.stores.virtual_service(object)?.to_value()?;
    let patch = super::observe::with_world(context, subject, &std::collections::BTreeMap::new(), |world| {
        carrier::lowered(world, &route, desired)
    })?;
    Some((route, patch))
}

/// What the operator will do, at once. If it cannot be done the operator does it.
async fn lower(context: &Context, subject: &Subject, object: &ObjectName, desired: &Setting) {
    let Some((_, patch)) = lowering(context, subject, object, desired) else { return };
    let (namespace, name) = object;
    let api: Api<VirtualServiceObject> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("writing VirtualService {namespace}/{name}");
    let patch = Patch::Json::<()>(patch);
    if let Err(error) = context.write(what, api.patch(name, &PatchParams::default(), &patch)).await {
        tracing::info!(rollout = subject.display(), %error, "the route is left to its operator");
    }
}
