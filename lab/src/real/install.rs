//! Installing Sluice as `kubectl apply -k` does with `crds` and `deploy`, as far as that is about the API server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::discovery;
use serde_json::Value;

use super::{Cluster, Error, Result, crds, wait};

/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_secs(90);
/// What others need to be there, as kubectl sorts it.
const EARLY: [&str; 2] = ["kind: Namespace", "kind: CustomResourceDefinition"];

/// Applies Istio's kinds, Seldon Core's, and everything of `crds/` and `deploy/` of this repository.
pub async fn install(cluster: &Cluster, repository: &Path) -> Result<()> {
    // Where Istio is, its own kinds are stricter and stay.
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    if discovery::pinned_kind(&cluster.admin()?, &kind).await.is_err() {
        for kind in [crds::VIRTUAL_SERVICES, crds::DESTINATION_RULES, crds::GATEWAYS] {
            cluster.apply_yaml(kind).await?;
        }
    }
    cluster.apply_yaml(crds::SELDON_DEPLOYMENTS).await?;
    // One may name the other.
    let mut named = BTreeSet::new();
    for folder in ["crds", "deploy"] {
        named.extend(resources(&repository.join(folder))?);
    }
    let mut files = Vec::new();
    for file in named {
        let text = fs::read_to_string(&file).map_err(Error::path("read", &file))?;
        let is_late = !text.lines().any(|line| EARLY.contains(&line));
        files.push((is_late, text));
    }
    files.sort_by_key(|(is_late, _)| *is_late);
    for (_, text) in files {
        cluster.apply_yaml(&text).await?;
    }
    Ok(())
}

/// Waits until a user has the rights of a role that was just bound: the authorizer reads roles from a cache.
pub async fn allowed(cluster: &Cluster, user: &str) -> Result<()> {
    let kind = GroupVersionKind::gvk("sluice.dev", "v1alpha1", "RolloutAction");
    let kind = ApiResource::from_gvk_with_plural(&kind, "rolloutactions");
    let actions: Api<DynamicObject> = Api::all_with(cluster.user(user)?, &kind);
    let rights = format!("{user} has their rights");
    wait::until(LIMIT, rights, async || actions.list(&ListParams::default()).await).await?;
    Ok(())
}

/// The files that a folder's kustomization names, and those that the ones it names name.
pub fn resources(folder: &Path) -> Result<Vec<PathBuf>> {
    let file = folder.join("kustomization.yaml");
    let text = fs::read_to_string(&file).map_err(Error::path("read", &file))?;
    let wrong = |why: String| Error::Yaml(format!("{}: {why}", file.display()));
    let kustomization: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut files = Vec::new();
    for name in kustomization["resources"].as_array().into_iter().flatten() {
        let path = folder.join(name.as_str().unwrap_or_default());
        let path = path.canonicalize().map_err(Error::path("find", &path))?;
        if path.is_dir() {
            files.extend(resources(&path)?);
        } else {
            files.push(path);
        }
    }
    if files.is_empty() { Err(wrong("names nothing".to_owned())) } else { Ok(files) }
}
