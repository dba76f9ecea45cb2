//! The end of an installation: no user loses traffic, and nothing hangs.
//!
//! Each test has a cluster of its own, because kinds belong to a cluster as a whole.

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use sluice_lab::real::wait;

use crate::binary::{Running, types};
use crate::install;
use crate::lab::{LIMIT, Lab, Shared};
use crate::oracle;
use crate::world::{ROUTE, World, same, same_json};

/// Whoever uninstalls may write Rollouts of all namespaces, by the role of `deploy/` and nothing else.
const AUTHOR: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: authors}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice-author}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ada}]
";

fn definitions(shared: &Shared) -> Result<Api<DynamicObject>> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Ok(Api::all_with(shared.cluster.admin()?, &ApiResource::from_gvk(&kind)))
}

async fn kinds_are_gone(shared: &Shared) -> Result<()> {
    let definitions = definitions(shared)?;
    for name in ["rollouts.sluice.dev", "rolloutactions.sluice.dev"] {
        wait::until(LIMIT, format!("{name} is gone"), || async {
            match definitions.get_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(there)) => Err(there.data["status"]["conditions"].to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
    }
    Ok(())
}

/// A cluster whose person may uninstall, with a rollout in the middle and one at rest.
async fn installed(shared: &Shared) -> Result<(World<'_>, World<'_>, Running)> {
    shared.cluster.apply_yaml(AUTHOR).await?;
    let (moving, resting) = (World::on(shared, "moving").await?, World::on(shared, "resting").await?);
    let running = Running::start(shared)?;
    moving.create_rollout(&moving.rollout("v2", json!({"steps": [{"weight": 40, "for": "1h"}]}))).await?;
    resting.create_rollout(&resting.rollout("v2", json!({"steps": [{"weight": 50}]}))).await?;
    moving.step(1, "iris-v2", 40).await?;
    resting.phase("Healthy", "Live").await?;
    resting.only("iris-v2").await?;
    Ok((moving, resting, running))
}

pub async fn in_order_gives_the_routes_back_and_leaves_nothing(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let (moving, resting, running) = installed(&shared).await?;
    let (code, text) = types(&shared, &["uninstall", "-A", "--yes"]).await?;
    ensure!(code == 0, "{code}: {text}");
    ensure!(text.contains("moving/iris: all traffic goes back to iris-v1, 40% of it from iris-v2"), "{text}");
    ensure!(text.contains("resting/iris: iris-v2 keeps all traffic"), "{text}");
    same_json("the route", &moving.route().await?["spec"], &moving.virtual_service()["spec"])?;
    resting.only("iris-v2").await?;

    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    install::delete(&shared.cluster, "deploy").await?;
    install::delete(&shared.cluster, "crds").await?;
    kinds_are_gone(&shared).await
}

pub async fn the_controller_alone_can_go_and_come_back(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let (moving, resting, running) = installed(&shared).await?;
    let before = (moving.status().await?, resting.status().await?);
    // As `kubectl delete -k deploy`: all at once, the rights before the process ends.
    install::delete(&shared.cluster, "deploy").await?;
    let (_, log) = running.terminate().await?;
    ensure!(!log.contains("panicked"), "{log}");
    same("the step", &oracle::weights(&moving.route().await?, ROUTE)["iris-v2"], &40)?;
    same_json("the Rollout in flight", &moving.status().await?["stage"], &before.0["stage"])?;

    wait::until(LIMIT, "the namespace is gone", || async {
        install::install(&shared.cluster).await.map_err(|error| format!("{error:#}"))
    })
    .await?;
    let again = Running::start(&shared)?;
    again.page("/readyz").await?;
    shared.cluster.apply_yaml(AUTHOR).await?;
    let promoted = types(&shared, &["promote", "--full", "iris", "-n", "moving", "--wait", "60s"]).await?;
    ensure!(promoted.0 == 0, "{promoted:?}");
    moving.phase("Healthy", "Live").await?;
    resting.phase("Healthy", "Live").await?;
    Ok(())
}

pub async fn kinds_that_hang_for_want_of_a_controller_are_freed(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let (moving, _resting, running) = installed(&shared).await?;
    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    let route = moving.route().await?;

    // In the wrong order: nobody is left to take the finalizers off.
    let definitions = definitions(&shared)?;
    definitions.delete("rollouts.sluice.dev", &DeleteParams::default()).await?;
    wait::until(LIMIT, "the Rollouts are being deleted", || async {
        let rollout = moving.rollouts().get("iris").await.map_err(|error| error.to_string())?;
        rollout.metadata.deletion_timestamp.map(drop).ok_or_else(|| "not yet".to_owned())
    })
    .await?;
    let (code, text) = types(&shared, &["uninstall", "-A", "--yes", "--wait", "1s"]).await?;
    ensure!(code == 1 && text.contains("--without-controller"), "{code}: {text}");
    let (code, text) = types(&shared, &["uninstall", "-A", "--without-controller", "--yes"]).await?;
    ensure!(code == 0, "{code}: {text}");
    definitions.delete("rolloutactions.sluice.dev", &DeleteParams::default()).await?;
    kinds_are_gone(&shared).await?;
    same_json("the route stays as it was", &moving.route().await?, &route)
}

pub async fn a_namespace_goes_with_all_that_is_in_it(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "namespace-goes").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!({"steps": [{"weight": 40, "for": "1h"}]}))).await?;
    world.step(1, "iris-v2", 40).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let namespaces: Api<DynamicObject> = Api::all_with(world.client.clone(), &kind);
    namespaces.delete(&world.namespace, &DeleteParams::default()).await?;
    wait::until(LIMIT, "the namespace is gone", || async {
        match namespaces.get_opt(&world.namespace).await {
            Ok(None) => Ok(()),
            Ok(Some(there)) => Err(there.data["status"].to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    // What it was refused then, new objects in a namespace that goes, is nothing that it lacks a right to.
    controller.stop().await.context("the controller ended by it")
}
