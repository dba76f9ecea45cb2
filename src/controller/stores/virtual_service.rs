//! A VirtualService as it is kept: its spec as the text that was read, parsed only where it is needed.
//!
//! Patches are computed from it, so the spec is whole. Of the metadata there is what is read or written here; whether
//! there is a map of annotations at all is remembered, because a patch that adds to it needs to know.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use sluice_core::{
    api::{ALLOW_FROM, MIRRORS, STAMP},
    carrier,
};

use super::cache::{Entry, Name, name};

const GROUP_VERSION: &str = "networking.istio.io/v1";
const KIND: &str = "VirtualService";

/// A VirtualService as the API server sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::controller) struct VirtualServiceObject {
    metadata: ObjectMeta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Box<RawValue>>,
}

impl Resource for VirtualServiceObject {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "networking.istio.io".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "virtualservices".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A VirtualService as it is kept.
#[derive(Clone, Debug)]
pub(in crate::controller) struct VirtualService {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    version: Box<str>,
    annotations: Option<BTreeMap<&'static str, Box<str>>>,
    /// Who it belongs to, if anybody.
    owner: Option<Box<OwnerReference>>,
    /// What it delegates to.
    delegates: Box<[Name]>,
    spec: Option<Box<RawValue>>,
}

impl From<VirtualServiceObject> for VirtualService {
    fn from(object: VirtualServiceObject) -> Self {
        let kept = |annotations: &BTreeMap<String, String>| {
            let kept = |key| annotations.get(key).map(|value: &String| (key, value.as_str().into()));
            [STAMP, MIRRORS, ALLOW_FROM].into_iter().filter_map(kept).collect()
        };
        Self {
            namespace: object.namespace().unwrap_or_default().into(),
            name: object.name_any().into(),
            uid: object.uid().unwrap_or_default().into(),
            version: object.resource_version().unwrap_or_default().into(),
            annotations: object.metadata.annotations.as_ref().map(kept),
            owner: object
                .owner_references()
                .iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| Box::new(owner.clone())),
            delegates: delegates(&object),
            spec: object.spec,
        }
    }
}

impl VirtualService {
    /// Its resourceVersion.
    pub(in crate::controller) fn version(&self) -> &str {
        &self.version
    }

    /// Whether it is a later version of the same object than `other`.
    pub(in crate::controller) fn is_newer(&self, other: &Self) -> bool {
        let version = |object: &Self| object.version.parse::<u64>().ok();
        self.uid == other.uid && version(self) > version(other)
    }

    /// The object as far as it is kept; nothing where its spec is no JSON, which no server sends.
    pub(in crate::controller) fn to_value(&self) -> Option<Value> {
        let mut metadata = json!({
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.version,
        });
        if let Some(annotations) = &self.annotations {
            metadata["annotations"] = json!(annotations);
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let mut object = json!({ "apiVersion": GROUP_VERSION, "kind": KIND, "metadata": metadata });
        if let Some(spec) = &self.spec {
            object["spec"] = serde_json::from_str(spec.get()).ok()?;
        }
        Some(object)
    }
}

impl PartialEq for VirtualService {
    fn eq(&self, other: &Self) -> bool {
        let spec = self.spec.as_deref().map(RawValue::get);
        (&self.uid, &self.version) == (&other.uid, &other.version)
            && self.annotations == other.annotations
            && self.owner == other.owner
            && spec == other.spec.as_deref().map(RawValue::get)
    }
}

impl Entry for VirtualService {
    /// A VirtualService that it delegates to.
    type Group = Name;

    fn groups(&self) -> Vec<Name> {
        self.delegates.to_vec()
    }
}

/// What an object delegates to. Few do: the others are not parsed.
fn delegates(object: &VirtualServiceObject) -> Box<[Name]> {
    let Some(spec) = object.spec.as_ref().filter(|spec| spec.get().contains("\"delegate\"")) else {
        return Box::default();
    };
    let spec: Value = serde_json::from_str(spec.get()).unwrap_or_default();
    let names = carrier::delegates_to(&spec, &object.namespace().unwrap_or_default());
    names.iter().map(|(namespace, object)| name(namespace, object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(object: &Value) -> Value {
        let object: VirtualServiceObject = serde_json::from_str(&object.to_string()).unwrap();
        VirtualService::from(object).to_value().unwrap()
    }

    #[test]
    fn the_spec_is_kept_to_the_last_unknown_field() {
        let spec =
            json!({ "http": [{ "route": [], "unheardOf": { "z": 1, "a": [null, 2.50] } }], "tls": null });
        let object = json!({ "metadata": { "name": "iris", "namespace": "models" }, "spec": spec });
        assert_eq!(kept(&object)["spec"], spec);
    }

    #[test]
    fn of_annotations_there_are_those_that_are_read_and_whether_there_is_a_map() {
        let annotated = |annotations: Value| json!({ "metadata": { "name": "iris", "namespace": "models", "annotations": annotations } });
        let annotations = |object: &Value| kept(object)["metadata"].get("annotations").cloned();
        let all = annotated(json!({ STAMP: "{}", MIRRORS: "{}", ALLOW_FROM: "b", "other": "x" }));
        assert_eq!(annotations(&all), Some(json!({ STAMP: "{}", MIRRORS: "{}", ALLOW_FROM: "b" })));
        assert_eq!(annotations(&annotated(json!({ "other": "x" }))), Some(json!({})));
        assert_eq!(annotations(&json!({ "metadata": { "name": "iris", "namespace": "models" } })), None);
    }
}
