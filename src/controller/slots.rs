//! Weights in a SeldonDeployment whose operator owns the routes.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::Value;
use sluice_core::{
    carrier::{self, Effect, ObjectName, Outlook},
    plan::Plan,
    traffic::Setting,
};

use super::{
    Error,
    context::Context,
    observe::{self, Observation},
    optional::seldon,
    subject::Subject,
};

/// A SeldonDeployment that weights are written to, and how it is shown as a route.
pub(super) struct Slots {
    pub(super) deployment: Value,
    pub(super) shown: Value,
    /// The VirtualService that its operator makes of it.
    pub(super) route: Value,
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

/// Writes an effect to the SeldonDeployment, in one patch.
pub(super) async fn write(
    context: &Context,
    effect: &Effect,
    slots: &Slots,
    desired: &Setting,
) -> Result<(), Error> {
    let namespace = &effect.object.0;
    let name = slots.name();
    let what = format!("writing SeldonDeployment {namespace}/{name}");
    let patch = carrier::written_back(&slots.deployment, &slots.shown, &effect.patch, &desired.stable)
        .map_err(|message| Error::Refused { what: what.clone(), code: 422, message })?;
    if let Some(patch) = patch {
        let patch = Patch::Json::<()>(patch);
        context.write(what, api(context, namespace).patch(name, &PatchParams::default(), &patch)).await?;
    }
    Ok(())
}

/// What the operators' VirtualServices give the canary beyond what is desired, and the writes that take it away. The operator
/// of a SeldonDeployment writes no route while any of its deployments is unready, as a canary is that is to go: until that is
/// over they are looked at in every turn, whatever was written to the SeldonDeployment, and when.
pub(super) fn lowered(
    context: &Context,
    subject: &Subject,
    seen: &Observation,
    plan: &Plan,
    desired: &Setting,
    outlook: &Outlook,
) -> BTreeMap<ObjectName, Effect> {
    let moved = |object: &ObjectName| plan.routes.iter().any(|route| route.object() == *object);
    observe::with_world(context, subject, &seen.objects, |world| {
        // Where the SeldonDeployment shows a later decision, that one counts.
        let slots = seen.slots.iter().filter(|(object, _)| moved(object) && !outlook.ahead.contains(object));
        let effects = slots.filter_map(|(object, slots)| {
            let patch = carrier::lowered(world, &slots.route, desired)?;
            Some(Effect { object: object.clone(), patch, takes_away: true, gives: false })
        });
        let lowered = Outlook { effects: effects.collect(), ..Outlook::default() };
        let claims = context.claims_beside(subject, plan);
        let lowered = carrier::permit(lowered, world, plan, subject.created, &claims);
        lowered.effects.into_iter().map(|effect| (effect.object.clone(), effect)).collect()
    })
}
