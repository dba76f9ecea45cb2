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
use serde_json::{Map, Value, value::RawValue};
use sluice_core::{
    api::{FINALIZER, Freeze, Reason, Rollout, RolloutAction, RolloutSpec, RolloutStatus},
    machine::Refusal,
    plan::{Plan, PlanErrors},
};

use super::{Error, packed::Body};
use crate::text::spelled;

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

    /// The status as it is; null where there is none.
    pub(super) fn raw_status(&self) -> Value {
        let (_, status) = self.texts();
        status.and_then(|status| serde_json::from_str(&status).ok()).unwrap_or_default()
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
            owner_references: metadata.owner_references,
            ..ObjectMeta::default()
        };
        self.body = self.body.packed();
    }
}

/// The record of decisions in a status that cannot be read otherwise, and how far it goes: nothing of it is lost with the
/// rest.
fn record(status: Option<&str>) -> RolloutStatus {
    let mut fields: Map<String, Value> =
        status.and_then(|status| serde_json::from_str(status).ok()).unwrap_or_default();
    fields.retain(|name, _| matches!(name.as_str(), "decisions" | "seq"));
    serde_json::from_value(Value::Object(fields)).unwrap_or_default()
}

/// A spec and the first field of it that this version does not know.
fn read_spec(text: Option<&str>, path: &str) -> (Result<RolloutSpec, Refusal>, Option<Refusal>) {
    let mut unknown = None;
    let mut from = serde_json::Deserializer::from_str(text.unwrap_or("null"));
    let spec = serde_ignored::deserialize(&mut from, |field| {
        unknown.get_or_insert_with(|| {
            let message = format!("{path}{}: this version does not know it", spelled(&field));
            Refusal::new(Reason::Unsupported, message)
        });
    });
    (spec.map_err(|error| Refusal::new(Reason::InvalidSpec, format!("{path}: {error}"))), unknown)
}

/// What the spec, or the one that a rollout in flight goes by, asks for without this version knowing it: that of a newer
/// one. To leave it out could be to leave out a check. Comes with the pinned spec as it is, where it is that one: to write
/// it again must not lose what it asks for.
fn unknown(spec: Option<&str>, status: Option<&str>) -> Option<(Refusal, Option<Value>)> {
    #[derive(Default, Deserialize)]
    struct Status<'a> {
        #[serde(default, borrow)]
        pinned: Option<&'a RawValue>,
    }
    let status = status.and_then(|status| serde_json::from_str::<Status<'_>>(status).ok());
    let of_pinned = status.unwrap_or_default().pinned.and_then(|pinned| {
        let (_, unknown) = read_spec(Some(pinned.get()), "status.pinned");
        Some((unknown?, serde_json::from_str(pinned.get()).ok()))
    });
    of_pinned.or_else(|| Some((read_spec(spec, "spec").1?, None)))
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
    /// What stands in it, or in the pinned one, and means nothing to this version.
    pub(super) unknown: Option<Refusal>,
    /// The pinned spec as it is, where something of it means nothing to this version.
    pub(super) strange_pinned: Option<Value>,
    /// The plan of the spec, or what is wrong with it.
    pub(super) current: Result<Arc<Plan>, Refusal>,
    /// The plan of the spec that is pinned in the status, or what is wrong with it.
    pub(super) pinned: Option<Result<Arc<Plan>, Refusal>>,
    /// What was last written, or an empty one where there is none. Of one that cannot be read only the record.
    pub(super) status: RolloutStatus,
    /// Whether there is a status that cannot be read.
    pub(super) unreadable_status: Option<String>,
}

impl Subject {
    pub(super) fn read(object: &RolloutObject) -> Self {
        let (spec, status_text) = object.texts();
        let status = status_text.as_deref().map(serde_json::from_str::<RolloutStatus>).transpose();
        let (status, unreadable_status) = match status {
            Ok(status) => (status.unwrap_or_default(), None),
            Err(error) => (record(status_text.as_deref()), Some(error.to_string())),
        };
        let (unknown, strange_pinned) = unknown(spec.as_deref(), status_text.as_deref()).unzip();
        let (spec, _) = read_spec(spec.as_deref(), "spec");
        let namespace = object.namespace().unwrap_or_default();
        let named = |spec: &RolloutSpec| Plan::named(spec, &namespace, &object.name_any());
        let plan = |spec: &RolloutSpec| named(spec).map(Arc::new).map_err(refused);
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
            unknown,
            strange_pinned: strange_pinned.flatten(),
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
///
/// `home` is the controller's own namespace, where a Freeze is for all.
pub(super) async fn require_kinds(client: &Client, namespace: Option<&str>, home: &str) -> Result<(), Error> {
    let freezes = ApiResource::erase::<Freeze>(&());
    let everywhere = [
        (ApiResource::erase::<Rollout>(&()), namespace),
        (ApiResource::erase::<RolloutAction>(&()), namespace),
        (freezes.clone(), namespace),
    ];
    let at_home = namespace.filter(|watched| *watched != home).map(|_| (freezes, Some(home)));
    for (resource, namespace) in everywhere.into_iter().chain(at_home) {
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
