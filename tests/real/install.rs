//! Installing Sluice as `kubectl apply -k` does with `crds` and `deploy`, as far as that is about the API server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::{Value, json};
use sluice_core::api::RolloutAction;
use sluice_lab::real::{Cluster, crds, wait};

use crate::lab::{CONTROLLER, LIMIT, PERSON};

/// Istio's kind and everything of `crds/` and `deploy/`.
pub async fn install(cluster: &Cluster) -> Result<()> {
    for kind in [crds::VIRTUAL_SERVICES, crds::DESTINATION_RULES, crds::GATEWAYS, crds::SELDON_DEPLOYMENTS] {
        cluster.apply_yaml(kind).await?;
    }
    let mut files = resources(&repository().join("crds"))?;
    files.extend(resources(&repository().join("deploy"))?);
    // As kubectl sorts them: namespaces and kinds before what needs them.
    for wanted in [&["Namespace", "CustomResourceDefinition"][..], &[]] {
        for file in &files {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let early = ["Namespace", "CustomResourceDefinition"]
                .iter()
                .any(|kind| text.lines().any(|line| line == format!("kind: {kind}")));
            if early == wanted.is_empty() {
                continue;
            }
            cluster.apply_yaml(&text).await.with_context(|| file.display().to_string())?;
        }
    }
    cluster.apply_yaml(APPROVER).await?;
    allowed(cluster, CONTROLLER).await?;
    allowed(cluster, PERSON).await?;
    can_be_asked(cluster).await
}

/// The policy that notes who asked knows a kind a few seconds after it is served, and lets nobody ask before.
async fn can_be_asked(cluster: &Cluster) -> Result<()> {
    let actions: Api<RolloutAction> = Api::default_namespaced(cluster.user(PERSON)?);
    let spec = json!({"rollout": "iris", "do": "Abort"});
    let action = RolloutAction::new("a", serde_json::from_value(spec)?);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    wait::until(LIMIT, "actions can be asked for", async || actions.create(&dry_run, &action).await).await?;
    Ok(())
}

/// The authorizer reads roles from a cache, so a user who was just given rights has them in a moment.
async fn allowed(cluster: &Cluster, user: &str) -> Result<()> {
    let actions: Api<RolloutAction> = Api::all(cluster.user(user)?);
    let rights = format!("{user} has their rights");
    wait::until(LIMIT, rights, async || actions.list(&ListParams::default()).await).await?;
    Ok(())
}

/// A person who may approve, by the role of `deploy/` and nothing else.
const APPROVER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: approvers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice-approver}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ada}]
";

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that a kustomization names, and those that the ones it names name.
fn resources(folder: &Path) -> Result<Vec<PathBuf>> {
    let file = folder.join("kustomization.yaml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let kustomization: Value = serde_saphyr::from_str(&text)?;
    let mut files = Vec::new();
    for name in kustomization["resources"].as_array().into_iter().flatten() {
        let path = folder.join(name.as_str().unwrap_or_default());
        if path.is_dir() {
            files.extend(resources(&path)?);
        } else {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "{} names nothing", file.display());
    Ok(files)
}

/// Deletes what a folder's kustomization names, all at once, as `kubectl delete -k` does.
pub async fn delete(cluster: &Cluster, folder: &str) -> Result<()> {
    let client = cluster.admin()?;
    for file in resources(&repository().join(folder))? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for object in serde_saphyr::from_multiple::<DynamicObject>(&text)? {
            let types = object.types.as_ref().context("a kind")?;
            let (kind, capabilities) =
                discovery::pinned_kind(&client, &GroupVersionKind::try_from(types)?).await?;
            let api: Api<DynamicObject> = match (capabilities.scope, &object.metadata.namespace) {
                (Scope::Namespaced, Some(namespace)) => {
                    Api::namespaced_with(client.clone(), namespace, &kind)
                }
                (Scope::Namespaced | Scope::Cluster, _) => Api::all_with(client.clone(), &kind),
            };
            match api.delete(&object.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                // Its namespace went before it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error).with_context(|| file.display().to_string()),
            }
        }
    }
    Ok(())
}
