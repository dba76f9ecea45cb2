//! Tools and people that write, delete and create the same objects, where it takes the real server's own merging,
//! controllers and garbage collection.

use std::time::Duration;

use anyhow::{Result, anyhow};
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};
use sluice_core::api::Do;

use crate::lab::Lab;
use crate::world::{IRIS, POD_PORT, World, condition, same, same_json};

fn held() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "for": "1h"}]})
}

/// Applies the manifest of Git server-side and by force, as Argo CD does, until told to stop.
async fn apply_by_force(world: &World<'_>) -> Result<()> {
    let manifest = world.virtual_service();
    loop {
        let params = PatchParams::apply("argocd-controller").force();
        world.virtual_services().patch(IRIS, &params, &Patch::Apply(&manifest)).await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

pub async fn a_tool_that_applies_by_force_keeps_no_promotion_from_happening(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "applied-by-force").await?;
    let controller = world.controller()?;
    // The settle is shorter than the time between two applies.
    let steps = json!({"settle": "100ms", "interval": "200ms", "steps": [{"weight": 20, "for": "2s"}, {"weight": 60, "for": "2s"}]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.step(1, "iris-v2", 20).await?;
    tokio::select! {
        applied = apply_by_force(&world) => applied?,
        status = world.phase("Healthy", "Live") => drop(status?),
    }
    // Once more after the end: the old one gets nothing back.
    let params = PatchParams::apply("argocd-controller").force();
    world.virtual_services().patch(IRIS, &params, &Patch::Apply(&world.virtual_service())).await?;
    world.weight_is("iris-v1", 0).await?;
    world.weight_is("iris-v2", 100).await?;
    // A patch into what the tool had just taken away is a 422, and no right that is missing.
    controller.stop().await
}

pub async fn a_virtual_service_created_again_gets_its_step_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "route-again").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    let with_canary = world.route().await?;
    for again in [world.virtual_service(), with_canary] {
        world.virtual_services().delete(IRIS, &DeleteParams::default()).await?;
        world
            .status_is("it says what is missing", |status| {
                condition(status, "Accepted")
                    .is_ok_and(|accepted| accepted["reason"] == "VirtualServiceNotFound")
            })
            .await?;
        let mut manifest = again.clone();
        manifest["metadata"] = json!({"name": IRIS, "labels": again["metadata"]["labels"]});
        world.create("networking.istio.io", "v1", &manifest).await?;
        world.weight_is("iris-v2", 40).await?;
        let status = world.phase("Progressing", "StepInProgress").await?;
        same_json("the step", &status["progress"]["number"], &json!(2))?;
    }
    world.end(controller).await
}

pub async fn a_service_that_is_deleted_takes_its_canary_out_and_one_of_stable_holds(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "service-again").await?;
    let _users = world.users(80.0);
    let controller = world.controller()?;
    let mut spec = held();
    spec["checks"] = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    world.create_rollout(&world.rollout("v2", spec)).await?;
    world.step(2, "iris-v2", 40).await?;
    let services = world.api("", "v1", "Service");

    // Its slices go with it, so nobody is there to answer.
    services.delete("iris-v2", &DeleteParams::default()).await?;
    world.weight_is("iris-v2", 0).await?;
    world.service("v2").await?;
    world.weight_is("iris-v2", 40).await?;

    services.delete("iris-v1", &DeleteParams::default()).await?;
    world.predictor("v2").set_errors(0.5);
    world.phase("Stalled", "StableNotReady").await?;
    world.weight_is("iris-v2", 40).await?;
    world.service("v1").await?;
    world.weight_is("iris-v2", 0).await?;
    world.phase("RolledBack", "CheckFailed").await?;
    world.end(controller).await
}

pub async fn a_rollout_deleted_without_its_dependents_starts_nothing_when_it_is_back(
    lab: &Lab,
) -> Result<()> {
    let world = World::new(lab, "orphans").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.ask(Do::Pause, "hold").await.map_err(|failure| anyhow!(failure))?;
    let orphans =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.rollouts().delete(IRIS, &orphans).await?;
    world.gone().await?;
    same_json("the route", &world.route().await?["spec"], &world.virtual_service()["spec"])?;

    world.create_rollout(&world.rollout("v2", held())).await?;
    world.phase("Stalled", "StatusLost").await?;
    world.stays_like_this(&controller).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.end(controller).await
}
