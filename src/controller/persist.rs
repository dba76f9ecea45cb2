//! Stage 3: what was decided is recorded, under the version that was read.

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sluice_core::api::{FINALIZER, RolloutStatus};

use super::{
    Error,
    context::Context,
    subject::{RolloutObject, Subject},
};

/// Writes the status if nobody has written the Rollout since it was read; a conflict otherwise.
pub(super) async fn persist(
    context: &Context,
    subject: &Subject,
    status: &RolloutStatus,
) -> Result<RolloutObject, Error> {
    let mut status = serde_json::to_value(status)?;
    if let (Some(strange), Some(pinned)) = (&subject.strange_pinned, status.get_mut("pinned")) {
        pinned.clone_from(strange);
    }
    let patch = json!([
        { "op": "replace", "path": "/metadata/resourceVersion", "value": subject.resource_version },
        { "op": "add", "path": "/status", "value": status },
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    let what = format!("writing the status of Rollout {}", subject.display());
    let written: RolloutObject = context
        .write(what, api(context, subject).patch_status(&subject.name, &PatchParams::default(), &patch))
        .await?;
    context.kinds.compare(&status, &written.raw_status());
    Ok(written)
}

/// Puts our finalizer on the Rollout, so that its routes are given back before it goes.
pub(super) async fn add_finalizer(context: &Context, subject: &Subject) -> Result<RolloutObject, Error> {
    let rollouts = api(context, subject);
    let what = format!("putting the finalizer on Rollout {}", subject.display());
    let current = context.read(what, rollouts.get_metadata(&subject.name)).await?;
    let mut finalizers = current.metadata.finalizers.unwrap_or_default();
    finalizers.push(FINALIZER.to_owned());
    let version = current.metadata.resource_version;
    write_finalizers(context, subject, version.as_deref(), &finalizers).await
}

/// Takes our finalizer off: the routes were given back.
pub(super) async fn remove_finalizer(context: &Context, subject: &Subject) -> Result<(), Error> {
    let rollouts = api(context, subject);
    let what = format!("taking the finalizer off Rollout {}", subject.display());
    let current = context.read(what, rollouts.get_metadata(&subject.name)).await?;
    let mut finalizers = current.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    let version = current.metadata.resource_version;
    write_finalizers(context, subject, version.as_deref(), &finalizers).await.map(drop)
}

async fn write_finalizers(
    context: &Context,
    subject: &Subject,
    version: Option<&str>,
    finalizers: &[String],
) -> Result<RolloutObject, Error> {
    let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
    let what = format!("writing the finalizers of Rollout {}", subject.display());
    let patch = Patch::Merge(patch);
    context.write(what, api(context, subject).patch(&subject.name, &PatchParams::default(), &patch)).await
}

/// The Rollout as it is now, past every cache.
pub(super) async fn read_afresh(context: &Context, subject: &Subject) -> Result<RolloutObject, Error> {
    let what = format!("reading Rollout {}", subject.display());
    context.read(what, api(context, subject).get(&subject.name)).await
}

fn api(context: &Context, subject: &Subject) -> Api<RolloutObject> {
    Api::namespaced(context.client.clone(), &subject.namespace)
}
