//! What is generated beside the routes of users: created where it is not there, changed under the version that was read.

use std::time::Duration;

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use sluice_core::carrier::{Generated, Kind, Write};
use tokio::time::Instant;

use super::{
    Error,
    context::Context,
    memory::Memory,
    stores::{VirtualService, VirtualServiceObject},
};
use crate::foreign::istio;

/// How long an answer to a write is believed to be what is there.
const BELIEVED: Duration = Duration::from_secs(30);

/// Writes what is to be generated, in its order: DestinationRules before the routes that name their subsets.
///
/// # Errors
/// The first write that failed; nothing is tried after it.
pub(super) async fn write(context: &Context, memory: &mut Memory, all: Vec<Generated>) -> Result<(), Error> {
    for generated in all {
        let outcome = write_one(context, memory, &generated).await;
        if let Err(error) = &outcome {
            // It may be there though it was not, or be another one.
            memory.rules.remove(&generated.object);
            if matches!(error, Error::Refused { .. }) {
                memory.obstacle = Some(error.to_string());
            }
        }
        outcome?;
    }
    Ok(())
}

async fn write_one(context: &Context, memory: &mut Memory, generated: &Generated) -> Result<(), Error> {
    let (namespace, name) = &generated.object;
    let kind = generated.kind;
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &istio(kind.name(), kind.plural()));
    let written = match &generated.write {
        Write::Create(object) => {
            // Ours or somebody else's, of which the caches do not know yet: it is read before anything else is tried.
            memory.unseen.insert(generated.object.clone());
            let what = format!("creating {} {namespace}/{name}", kind.name());
            let object: DynamicObject = serde_json::from_value(object.clone())?;
            context.write(what, api.create(&PostParams::default(), &object)).await?
        }
        Write::Patch(patch) => {
            let what = format!("writing {} {namespace}/{name}", kind.name());
            let patch = Patch::Json::<()>(patch.clone());
            context.write(what, api.patch(name, &PatchParams::default(), &patch)).await?
        }
    };
    match kind {
        Kind::VirtualService => {
            let read: VirtualServiceObject = serde_json::from_str(&serde_json::to_string(&written)?)?;
            memory.virtual_services.insert(generated.object.clone(), VirtualService::from(read));
        }
        Kind::DestinationRule => {
            let rule = serde_json::to_value(&written)?;
            memory.rules.insert(generated.object.clone(), (Some(rule), Instant::now() + BELIEVED));
        }
    }
    Ok(())
}
