//! A Rollout as the controller reads it: spec and status are parsed apart, so that a spec or a status that cannot be
//! read is a refusal with a reason and not an object that nobody sees.

use chrono::{DateTime, Utc};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::ObjectMeta,
    runtime::reflector::ObjectRef,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use sluice_core::{
    api::{FINALIZER, Freeze, Reason, Rollout, RolloutAction, RolloutSpec, RolloutStatus},
    machine::Refusal,
};

use super::Error;

/// A Rollout whose spec and status are not parsed yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RolloutObject {
    metadata: ObjectMeta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Box<RawValue>>,
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

    /// A reference to it.
    pub(super) fn reference(&self) -> ObjectRef<Self> {
        ObjectRef::from_obj(self)
    }

    /// Whether its spec or status has `name` in it, as a whole string: then a change of the object of that name may
    /// concern it. Names it too often rather than too rarely.
    pub(super) fn mentions(&self, name: &str) -> bool {
        let quoted = format!("\"{name}\"");
        let qualified = format!("/{name}\"");
        let texts = [&self.spec, &self.status];
        texts
            .into_iter()
            .flatten()
            .any(|text| text.get().contains(&quoted) || text.get().contains(&qualified))
    }

    /// The spec, or what is wrong with it.
    pub(super) fn spec(&self) -> Result<RolloutSpec, Refusal> {
        read_spec(self.spec.as_deref(), "spec").0
    }

    /// What the spec, or the one that a rollout in flight goes by, asks for without this version knowing it: that of a
    /// newer one. To leave it out could be to leave out a check.
    /// Comes with the pinned spec as it is, where it is that one: to write it again must not lose what it asks for.
    fn unknown(&self) -> Option<(Refusal, Option<Value>)> {
        #[derive(Default, Deserialize)]
        struct Status<'a> {
            #[serde(default, borrow)]
            pinned: Option<&'a RawValue>,
        }
        let status = self.status.as_ref().map(|status| serde_json::from_str::<Status<'_>>(status.get()));
        let pinned = status.and_then(Result::ok).unwrap_or_default().pinned;
        let of_pinned = pinned.and_then(|pinned| {
            let (_, unknown) = read_spec(Some(pinned), "status.pinned");
            Some((unknown?, serde_json::from_str(pinned.get()).ok()))
        });
        of_pinned.or_else(|| Some((read_spec(self.spec.as_deref(), "spec").1?, None)))
    }

    /// The status as it is; null where there is none.
    pub(super) fn raw_status(&self) -> Value {
        let status = self.status.as_ref().map(|status| serde_json::from_str(status.get()));
        status.and_then(Result::ok).unwrap_or_default()
    }

    /// The status: nothing where there is none, an error where it cannot be read.
    fn status(&self) -> Result<Option<RolloutStatus>, serde_json::Error> {
        self.status.as_ref().map(|status| serde_json::from_str(status.get())).transpose()
    }
}

/// A spec and the first field of it that this version does not know.
fn read_spec(text: Option<&RawValue>, path: &str) -> (Result<RolloutSpec, Refusal>, Option<Refusal>) {
    let mut unknown = None;
    let mut from = serde_json::Deserializer::from_str(text.map_or("null", RawValue::get));
    let spec = serde_ignored::deserialize(&mut from, |field| {
        unknown.get_or_insert_with(|| {
            let message = format!("{path}{}: this version does not know it", spelled(&field));
            Refusal::new(Reason::Unsupported, message)
        });
    });
    (spec.map_err(|error| Refusal::new(Reason::InvalidSpec, format!("{path}: {error}"))), unknown)
}

/// The path of a field below a spec, as in all messages.
fn spelled(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", spelled(parent)),
        Path::Map { parent, key } => format!("{}.{key}", spelled(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            spelled(parent)
        }
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
    /// What stands in it, or in the pinned one, and means nothing to this version.
    pub(super) unknown: Option<Refusal>,
    /// The pinned spec as it is, where something of it means nothing to this version.
    pub(super) strange_pinned: Option<Value>,
    /// What was last written, or an empty one: where there is none, and where it cannot be read.
    pub(super) status: RolloutStatus,
    /// Whether there is a status that cannot be read.
    pub(super) unreadable_status: Option<String>,
}

impl Subject {
    pub(super) fn read(object: &RolloutObject) -> Self {
        let (status, unreadable_status) = match object.status() {
            Ok(status) => (status.unwrap_or_default(), None),
            Err(error) => (RolloutStatus::default(), Some(error.to_string())),
        };
        let (unknown, strange_pinned) = object.unknown().unzip();
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation,
            created: created(object),
            deleted: object.metadata.deletion_timestamp.is_some(),
            has_finalizer: object.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            spec: object.spec(),
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
