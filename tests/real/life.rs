//! What happens to a rollout in its middle: another revision, deletion, a lost status, edits, neighbours.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_core::api::Do;
use sluice_lab::real::wait;

use crate::lab::{LIMIT, Lab};
use crate::oracle;
use crate::world::{IRIS, POD_PORT, ROUTE, World, condition, decided, same, same_json};

/// Two steps; the second does not end by itself.
fn held() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "for": "1h"}]})
}

/// The same with a check that a breach can fail.
fn checked() -> Value {
    let mut spec = held();
    spec["checks"] = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    spec
}

pub async fn another_revision_supersedes_the_one_in_flight(lab: &Lab) -> Result<()> {
    let mut world = World::new(lab, "supersede").await?;
    world.serve("v3").await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.want("v3").await?;
    let status = world
        .status_is("v3 at step 2", |status| {
            status["canary"]["service"] == "iris-v3" && status["progress"]["number"] == 2
        })
        .await?;
    world.weight_is("iris-v3", 40).await?;

    same("of the old one", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    same("of the new one", &world.sequence(&recording, "iris-v3").await?, &vec![0, 10, 40])?;
    for route in world.versions(&recording).await? {
        let weights = oracle::weights(&route, ROUTE);
        let canaries = ["iris-v2", "iris-v3"].iter().filter(|name| weights.get(**name) > Some(&0)).count();
        ensure!(canaries <= 1, "two canaries at a time: {weights:?}");
    }
    world.only_weights_moved(&recording, &original).await?;
    ensure!(decided(&status).contains(&"Superseded".to_owned()), "{:?}", decided(&status));
    // The loser leaves while the next one is on its way.
    wait::until(LIMIT, "v2 left the route", || async {
        let weights = oracle::weights(&world.route().await.map_err(|error| error.to_string())?, ROUTE);
        if weights.contains_key("iris-v2") { Err(format!("{weights:?}")) } else { Ok(()) }
    })
    .await?;
    world.end(controller).await
}

pub async fn wanting_stable_again_gives_it_all_traffic_without_a_look(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "revert").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.want("v1").await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v1").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    ensure!(decided(&status).contains(&"Cancelled".to_owned()), "{:?}", decided(&status));

    // That was no verdict: it is tried again when it is wanted again.
    world.want("v2").await?;
    world.step(2, "iris-v2", 40).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0, 10, 40])?;
    world.end(controller).await
}

pub async fn deletion_in_mid_step_gives_the_route_back_to_stable(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "deletion").await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.delete_rollout().await?;
    world.gone().await?;
    let route = world.route().await?;
    same_json("the spec is the user's again", &route["spec"], &original["spec"])?;
    ensure!(oracle::stamp(&route, &world.key()).is_some(), "the stamp is gone");
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.only_weights_moved(&recording, &original).await?;
    world.end(controller).await
}

pub async fn deletion_without_a_virtual_service_does_not_hang(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "deletion-alone").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.virtual_services().delete(IRIS, &kube::api::DeleteParams::default()).await?;
    world.delete_rollout().await?;
    world.gone().await?;
    world.end(controller).await
}

pub async fn a_wiped_status_ends_at_stable_and_starts_nothing(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "wiped").await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    let wipe = Patch::Json::<()>(serde_json::from_value(json!([{"op": "remove", "path": "/status"}]))?);
    world.rollouts().patch_subresource("status", IRIS, &PatchParams::default(), &wipe).await?;
    let status = world.phase("Stalled", "StatusLost").await?;
    world.weight_is("iris-v2", 0).await?;
    same_json("stable", &status["stable"]["service"], &json!("iris-v1"))?;
    same_json("ready", &condition(&status, "Ready")?["status"], &json!("False"))?;
    world.stays_like_this(&controller).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;

    let retried = world.ask(Do::Retry, "it was me").await;
    retried.map_err(|failure| anyhow!("retry: {failure}"))?;
    world.step(2, "iris-v2", 40).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0, 10, 40])?;
    world.only_weights_moved(&recording, &original).await?;
    world.end(controller).await
}

pub async fn a_status_wiped_at_rest_loses_no_user(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "wiped-at-rest").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!({"steps": [{"weight": 50}]}))).await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    let wipe = Patch::Json::<()>(serde_json::from_value(json!([{"op": "remove", "path": "/status"}]))?);
    world.rollouts().patch_subresource("status", IRIS, &PatchParams::default(), &wipe).await?;
    let status = world.phase("Healthy", "Live").await?;
    same_json("stable", &status["stable"]["service"], &json!("iris-v2"))?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50, 100])?;
    world.end(controller).await
}

pub async fn a_rollout_created_again_after_a_rollback_starts_nothing(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "created-again").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.ask(Do::Abort, "bad").await.map_err(|failure| anyhow!(failure))?;
    world.phase("RolledBack", "Aborted").await?;
    world.weight_is("iris-v2", 0).await?;
    world.delete_rollout().await?;
    world.gone().await?;

    world.create_rollout(&world.rollout("v2", held())).await?;
    let status = world.phase("Stalled", "StatusLost").await?;
    same_json("stable", &status["stable"]["service"], &json!("iris-v1"))?;
    world.stays_like_this(&controller).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.ask(Do::Retry, "it is mended").await.map_err(|failure| anyhow!(failure))?;
    world.step(2, "iris-v2", 40).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0, 10, 40])?;
    world.end(controller).await
}

pub async fn an_edit_of_the_steps_keeps_no_rollback_from_happening(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "edited").await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", checked())).await?;
    world.step(2, "iris-v2", 40).await?;
    // No checks any more, other steps, and a finish that this version does not do at all.
    world.edit(json!({"steps": [{"weight": 90}], "checks": null, "metrics": null})).await?;
    world.status_is("the edit was seen", |status| status["observedGeneration"] == 2).await?;
    world.stays_like_this(&controller).await?;
    same("the edit is for the next one", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40])?;
    world.predictor("v2").set_errors(0.5);
    world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;

    // The retry is the next one.
    world.ask(Do::Retry, "with fewer steps").await.map_err(|failure| anyhow!(failure))?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0, 90, 100])?;
    world.end(controller).await
}

pub async fn a_spec_that_became_wrong_keeps_no_rollback_from_happening(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "edited-wrong").await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", checked())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.edit(json!({
        "steps": [{"weight": 5, "sticky": {"header": "X-User"}}], "routes": [{"virtualService": "elsewhere"}], "metrics": {"source": "nowhere", "scrape": null},
    })).await?;
    let status = world
        .status_is("the edit is refused", |status| {
            condition(status, "Accepted").is_ok_and(|accepted| accepted["status"] == "False")
        })
        .await?;
    let message = condition(&status, "Accepted")?["message"].to_string();
    ensure!(message.contains("spec.steps[0].sticky.header"), "{message}");
    world.predictor("v2").set_errors(0.5);
    world.weight_is("iris-v2", 0).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.end(controller).await
}

pub async fn a_second_rollout_on_the_route_keeps_no_rollback_from_happening(lab: &Lab) -> Result<()> {
    let mut world = World::new(lab, "second").await?;
    world.serve("v3").await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", checked())).await?;
    world.step(2, "iris-v2", 40).await?;
    let mut second = world.rollout("v3", held());
    second["metadata"]["name"] = json!("second");
    world.create_rollout(&second).await?;
    let refusal = world.refusal_of("second").await?;
    same_json("reason", &refusal["reason"], &json!("RouteTaken"))?;
    let message = refusal["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("VirtualService second/iris") && message.contains("Rollout second/iris"),
        "{message}"
    );

    world.predictor("v2").set_errors(0.5);
    world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    world.stays_like_this(&controller).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    same("of the second", &world.sequence(&recording, "iris-v3").await?, &vec![0])?;
    world.end(controller).await
}

pub async fn a_canary_without_endpoints_gets_no_traffic(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "endpoints").await?;
    world.serve("v1").await?;
    world.service("v2").await?;
    world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!({"steps": [{"weight": 40, "for": "1h"}]}))).await?;
    world.phase("Progressing", "CanaryNotReady").await?;
    world.stays_like_this(&controller).await?;
    same("before it is ready", &world.sequence(&recording, "iris-v2").await?, &vec![0])?;

    world.pod("v2").await?;
    world.step(1, "iris-v2", 40).await?;
    world.pod_of("v2").set_ready(false).await?;
    world.weight_is("iris-v2", 0).await?;
    world.phase("Progressing", "CanaryNotReady").await?;
    world.pod_of("v2").set_ready(true).await?;
    world.weight_is("iris-v2", 40).await?;
    world.pod_of("v2").set_ready(false).await?;
    world.phase("RolledBack", "CanaryLost").await?;
    world.weight_is("iris-v2", 0).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 40, 0, 40, 0])?;
    world.end(controller).await
}

pub async fn nothing_is_rolled_back_onto_a_stable_without_endpoints(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "stable-gone").await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", checked())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.pod_of("v1").set_ready(false).await?;
    world.predictor("v2").set_errors(0.5);
    let status = world.phase("Stalled", "StableNotReady").await?;
    same_json("weight", &status["weight"], &json!(40))?;
    same("it is held", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40])?;
    world.pod_of("v1").set_ready(true).await?;
    world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    same("answers", &world.asked(20).await?, &BTreeMap::from([("iris-v1".to_owned(), 20)]))?;
    world.end(controller).await
}
