//! Auto-wiring: a SeldonDeployment that is annotated with the name of a Rollout of its namespace is guarded by a copy of
//! that Rollout, which is named and owned by the SeldonDeployment. So a new deployment needs no second manifest.
//!
//! The copy is kept like the original; what a person changes in it is put back. Where the annotation is taken away the copy
//! stays as it is: what guards users is not taken from them by an edit that says nothing about it.

mod copy;
mod entrance;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use serde_json::{Value, json};
use sluice_core::api::{ROLLOUT, Rollout};
use tokio_util::sync::CancellationToken;

use self::copy::{copy, spec_of, tells_its_stable};
use super::{
    Error,
    context::{Common, Context},
    events,
    stores::Seldon,
    subject::RolloutObject,
};

/// How often all are looked at: the original may have changed, or a slot was gained.
const ALL: Duration = Duration::from_secs(20);

/// What is wrong with a wiring, in a sentence; or a request that failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Failed(#[from] Error),
    #[error("the Rollout cannot be copied: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Trouble {
    /// Whether it lasts until somebody mends it.
    fn lasts(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unreadable(_) | Self::Failed(Error::Refused { .. }) => true,
            Self::Failed(_) => false,
        }
    }
}

/// Why SeldonDeployments are not wired, by `namespace/name`, as far as it was said.
type Said = HashMap<String, String>;

/// Wires what is annotated until `stopping`: what changes at once, and all from time to time.
pub(super) async fn run(
    common: Arc<Common>,
    mut changed: impl Stream<Item = String> + Unpin,
    stopping: CancellationToken,
) {
    let mut again = tokio::time::interval(ALL);
    let mut said = Said::new();
    loop {
        let names = tokio::select! {
            () = stopping.cancelled() => return,
            name = changed.next() => name.map_or_else(Vec::new, |name| vec![name]),
            _ = again.tick() => common.stores.all_seldons(),
        };
        if common.caches_filled().await.is_err() {
            continue;
        }
        for name in names {
            look(&common, name, &mut said).await;
        }
    }
}

/// Wires one that asks for it, or says why it cannot be: once while that lasts.
async fn look(common: &Arc<Common>, name: String, said: &mut Said) {
    let Some(asking) = Asking::of(common, &name) else {
        said.remove(&name);
        return;
    };
    let Err(trouble) = asking.wire().await else {
        said.remove(&name);
        return;
    };
    let cause = trouble.to_string();
    if trouble.lasts() && said.get(&name) == Some(&cause) {
        return;
    }
    tracing::warn!(deployment = name, cause, "a SeldonDeployment is not wired");
    if trouble.lasts() {
        events::not_wired(&asking.context, &asking.namespace, &asking.seldon, &cause).await;
        said.insert(name, cause);
    }
}

/// A SeldonDeployment that asks for a copy of a Rollout.
struct Asking {
    context: Context,
    namespace: String,
    seldon: Arc<Seldon>,
    /// The name of the Rollout.
    original: String,
}

impl Asking {
    /// Nothing where it does not ask, or asks another replica: the copy will be of its slots.
    fn of(common: &Arc<Common>, name: &str) -> Option<Self> {
        let (namespace, name) = name.split_once('/')?;
        let seldon = common.stores.seldon(namespace, name).filter(|seldon| !seldon.deleted)?;
        let original = seldon.guarded_by.clone()?;
        let context = common.enter_named(namespace, name)?;
        Some(Self { context, namespace: namespace.to_owned(), seldon, original })
    }

    async fn wire(&self) -> Result<(), Trouble> {
        let Self { context, namespace, seldon, original } = self;
        let name = &seldon.view.name;
        if original == name {
            return Err(refused(format!(
                "the annotation {ROLLOUT} names {original}, which would be its own copy: the name of another Rollout of \
                 {namespace} is expected"
            )));
        }
        let Some(original) = self.rollout(original) else {
            return Err(refused(format!(
                "the annotation {ROLLOUT} names {original}: there is no such Rollout in {namespace}"
            )));
        };
        let spec = copy(&original, seldon)?;
        let there = self.rollout(name);
        if there.as_ref().is_none_or(|there| is_copy_for(there, seldon)) {
            tells_its_stable(namespace, seldon, &spec, there.as_deref())?;
            entrance::is_free(self, &original, &spec)?;
        }
        match there {
            None => create(context, namespace, name, seldon, &spec).await,
            Some(there) => keep(context, namespace, &there, seldon, spec).await,
        }
    }

    fn rollout(&self, name: &str) -> Option<Arc<RolloutObject>> {
        self.context.stores.rollouts.get(&ObjectRef::<RolloutObject>::new(name).within(&self.namespace))
    }

    /// Whether a SeldonDeployment of the same namespace has its copy.
    fn has_copy(&self, seldon: &Seldon) -> bool {
        self.rollout(&seldon.view.name).is_some_and(|there| is_copy_for(&there, seldon))
    }
}

/// Whether a Rollout belongs to a SeldonDeployment.
fn is_copy_for(rollout: &RolloutObject, seldon: &Seldon) -> bool {
    rollout.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == seldon.uid)
}

fn refused(problem: String) -> Trouble {
    Trouble::Refused(problem)
}

async fn create(
    context: &Context,
    namespace: &str,
    name: &str,
    seldon: &Seldon,
    spec: &Value,
) -> Result<(), Trouble> {
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "sluice"},
            "ownerReferences": [{
                "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "name": name, "uid": seldon.uid,
                "controller": true,
            }],
        },
        "spec": spec,
    });
    let object: Rollout = serde_json::from_value(object)?;
    let api: Api<Rollout> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("creating Rollout {namespace}/{name}");
    match context.write(what, api.create(&PostParams::default(), &object)).await {
        // The cache will tell whose it is.
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn keep(
    context: &Context,
    namespace: &str,
    there: &RolloutObject,
    seldon: &Seldon,
    mut wanted: Value,
) -> Result<(), Trouble> {
    let name = there.name_any();
    if !is_copy_for(there, seldon) {
        return Err(refused(format!(
            "Rollout {namespace}/{name} is there and is not its copy: it is not touched. A name that no Rollout has is expected"
        )));
    }
    let mut spec = spec_of(there)?;
    // A pause is of the copy.
    let paused = spec.as_object_mut().and_then(|spec| spec.remove("paused"));
    if spec == wanted {
        return Ok(());
    }
    if let Some(paused) = paused {
        wanted["paused"] = paused;
    }
    let patch = json!([
        { "op": "replace", "path": "/metadata/resourceVersion", "value": there.resource_version() },
        { "op": "replace", "path": "/spec", "value": wanted },
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    let api: Api<RolloutObject> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("writing the copy Rollout {namespace}/{name}");
    match context.write(what, api.patch(&name, &PatchParams::default(), &patch)).await {
        // Changed meanwhile: the next time it is compared anew.
        Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
