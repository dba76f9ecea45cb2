//! A Rollout as the controller reads it: spec and status are parsed apart, so that a spec or a status that cannot be
//! read is a refusal with a reason and not an object that nobody sees.

use chrono::{DateTime, Utc};
use std::{borrow::Cow, sync::Arc};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::ObjectMeta,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_core::{
    api::{FINALIZER, Reason, Rollout, RolloutAction, RolloutSpec, RolloutStatus},
    machine::Refusal,
    plan::{Plan, PlanErrors},
};

use super::{Error, packed::Body};

/// A Rollout whose spec and status are not parsed yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Sent")]
pub(super) struct RolloutObject {
    metadata: ObjectMeta,
    body: Body,
}

/// A Rollout as the API server sends it.
#[derive(Deserialize)]
struct Sent {
    metadata: ObjectMeta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

impl From<Sent> for RolloutObject {
    fn from(sent: Sent) -> Self {
        Self { metadata: sent.metadata, body: Body::new(sent.spec, sent.status) }
    }
}

impl Resource for RolloutObject {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        Rollout::kind(&())
    }
    fn group((): &()) -> std::borrow::Cow<'_, str> {
        Rollout::group(&())
    }
    fn version((): &()) -> std::borrow::Cow<'_, str> {
        Rollout::version(&())
    }
    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        Rollout::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl RolloutObject {
    /// `namespace/name`.
    pub(super) fn display(&self) -> String {
        format!("{}/{}", self.namespace().unwrap_or_default(), self.name_any())
    }

    /// Spec and status as they were sent.
    pub(super) fn texts(&self) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
        self.body.texts()
    }

    /// Whether `other` is the same version of the same object.
    pub(super) fn is_version_of(&self, other: &Self) -> bool {
        let version = |object: &Self| (object.uid(), object.resource_version());
        version(self).1.is_some() && version(self) == version(other)
    }

    /// Makes it small: without metadata that nobody here reads, and packed.
    pub(super) fn pack(&mut self) {
        let metadata = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            finalizers: metadata.finalizers,
            ..ObjectMeta::default()
        };
        self.body = self.body.packed();
    }
}

/// What a reconcile wants to know of the Rollout that it is about.
pub(super) struct Subject {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) generation: Option<i64>,
    pub(super) created: Option<DateTime<Utc>>,
    pub(super) deleted: bool,
    pub(super) has_finalizer: bool,
    pub(super) spec: Result<RolloutSpec, Refusal>,
    /// The plan of the spec, or what is wrong with it.
    pub(super) current: Result<Arc<Plan>, Refusal>,
    /// The plan of the spec that is pinned in the status, or what is wrong with it.
    pub(super) pinned: Option<Result<Arc<Plan>, Refusal>>,
    /// What was last written, or an empty one: where there is none, and where it cannot be read.
    pub(super) status: RolloutStatus,
    /// Whether there is a status that cannot be read.
    pub(super) unreadable_status: Option<String>,
}

impl Subject {
    pub(super) fn read(object: &RolloutObject) -> Self {
        let (spec, status) = object.texts();
        let status = status.map(|status| serde_json::from_str::<RolloutStatus>(&status)).transpose();
        let (status, unreadable_status) = match status {
            Ok(status) => (status.unwrap_or_default(), None),
            Err(error) => (RolloutStatus::default(), Some(error.to_string())),
        };
        let spec: Result<RolloutSpec, _> = serde_json::from_str(spec.as_deref().unwrap_or("null"))
            .map_err(|error| Refusal::new(Reason::InvalidSpec, format!("spec: {error}")));
        let namespace = object.namespace().unwrap_or_default();
        let plan = |spec: &RolloutSpec| Plan::new(spec, &namespace).map(Arc::new).map_err(refused);
        Self {
            current: spec.as_ref().map_err(Clone::clone).and_then(plan),
            pinned: status.pinned.as_deref().map(plan),
            spec,
            namespace,
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation,
            created: created(object),
            deleted: object.metadata.deletion_timestamp.is_some(),
            has_finalizer: object.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            status,
            unreadable_status,
        }
    }

    /// `namespace/name`.
    pub(super) fn display(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn refused(errors: PlanErrors) -> Refusal {
    Refusal::new(errors.reason(), errors.to_string())
}

/// When an object was created.
pub(super) fn created(object: &impl ResourceExt) -> Option<DateTime<Utc>> {
    let created = object.creation_timestamp()?;
    DateTime::from_timestamp(created.0.as_second(), 0)
}

/// Whether `one` is a later version of the same object than `other`.
pub(super) fn is_newer<K: ResourceExt>(one: &K, other: &K) -> bool {
    let version = |object: &K| object.resource_version().and_then(|version| version.parse::<u64>().ok());
    one.uid() == other.uid() && version(one) > version(other)
}

/// Fails in one clear sentence where the kinds are not installed.
pub(super) async fn require_kinds(client: &Client, namespace: Option<&str>) -> Result<(), Error> {
    for resource in [ApiResource::erase::<Rollout>(&()), ApiResource::erase::<RolloutAction>(&())] {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        match api.list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(Error::KindsMissing(format!("{} is not found", resource.plural)));
            }
            Err(error) => return Err(Error::from_kube(format!("listing {}", resource.plural), error)),
        }
    }
    Ok(())
}
