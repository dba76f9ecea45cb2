//! Applying YAML of any kinds, as `kubectl apply --server-side` and a wait for CRDs would.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt};

use super::super::{Error, Result, wait};

/// The manager of the fields that the laboratory applies.
const MANAGER: &str = "sluice-lab";
/// A CRD is served well under a second after it is written, unless the machine is busy.
const SERVED_WITHIN: Duration = Duration::from_mins(1);

/// Applies each document in turn and returns the objects as the server has them. What is namespaced and names no namespace
/// goes to `home`. After a custom resource definition it waits until all its versions are served.
pub async fn apply_yaml(client: &Client, yaml: &str, home: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml)
        .map_err(|error| Error::Yaml(format!("no Kubernetes objects: {error}")))?;
    let mut kinds = HashMap::new();
    let mut applied = Vec::with_capacity(documents.len());
    for document in documents {
        let kind = kind_of(&document)?;
        if !kinds.contains_key(&kind) {
            let found = discovery::pinned_kind(client, &kind).await;
            let found =
                found.map_err(Error::kube(format!("look up {} {}", kind.api_version(), kind.kind)))?;
            kinds.insert(kind.clone(), found);
        }
        let (resource, capabilities) = &kinds[&kind];
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), resource),
            Scope::Namespaced => {
                let namespace = document.namespace().unwrap_or_else(|| home.to_owned());
                Api::namespaced_with(client.clone(), &namespace, resource)
            }
        };
        let name = document.name_any();
        let what = format!("apply {} {name}", kind.kind);
        let done = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&document)).await;
        let done = done.map_err(Error::kube(what))?;
        if kind.kind == "CustomResourceDefinition" {
            wait_until_served(client, &done).await?;
        }
        applied.push(done);
    }
    Ok(applied)
}

fn kind_of(document: &DynamicObject) -> Result<GroupVersionKind> {
    let types = document.types.as_ref();
    let types = types.ok_or_else(|| Error::Yaml("a document without apiVersion and kind".to_owned()))?;
    GroupVersionKind::try_from(types).map_err(|error| Error::Yaml(format!("apiVersion: {error}")))
}

/// The condition `Established` comes a moment before discovery and the handler know, so all are asked.
async fn wait_until_served(client: &Client, definition: &DynamicObject) -> Result<()> {
    let text = |pointer: &str| definition.data.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default();
    let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
    let versions = definition.data.pointer("/spec/versions").and_then(|versions| versions.as_array());
    for version in versions.into_iter().flatten() {
        if version["served"] != true {
            continue;
        }
        let version = version["name"].as_str().unwrap_or_default();
        let kind = GroupVersionKind::gvk(group, version, kind);
        wait::until(SERVED_WITHIN, format!("{group}/{version} {} is served", kind.kind), || async {
            let (resource, _): (ApiResource, _) = discovery::pinned_kind(client, &kind).await?;
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            api.list(&ListParams::default().limit(1)).await
        })
        .await?;
    }
    Ok(())
}
