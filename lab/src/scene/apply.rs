//! Objects of any kind, as JSON or YAML, made or changed through either API.
//!
//! Server-side apply would be the way on a real cluster; the embedded API has none, so an object that is there already
//! is changed by a merge patch, and what the new text leaves out stays.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde_json::Value;

use super::{Error, Scene, read};

impl Scene {
    /// Creates an object, or changes the one that is there, and answers what the API has then. What is namespaced and
    /// names no namespace goes to the scene's.
    pub async fn apply(&self, object: Value) -> Result<DynamicObject, Error> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let gvk = GroupVersionKind::gvk(group, version, text("kind"));
        let (resource, capabilities) = discovery::pinned_kind(&self.client, &gvk).await?;
        let document = read(object)?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = document.namespace().unwrap_or_else(|| self.namespace.clone());
                Api::namespaced_with(self.client.clone(), &namespace, &resource)
            }
        };
        match api.create(&PostParams::default(), &document).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let patch = Patch::Merge(&document);
                Ok(api.patch(&document.name_any(), &PatchParams::default(), &patch).await?)
            }
            other => Ok(other?),
        }
    }

    /// The same for every document of a YAML stream, in its order.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).map_err(|e| Error::Yaml(e.to_string()))?;
        let mut applied = Vec::with_capacity(documents.len());
        for document in documents {
            applied.push(self.apply(document).await?);
        }
        Ok(applied)
    }
}
