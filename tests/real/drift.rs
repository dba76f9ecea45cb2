//! What others write to the VirtualService in the middle of a rollout and after it.

use anyhow::Result;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::oracle;
use crate::world::{IRIS, ROUTE, World, same, same_json};

/// A step that does not end by itself.
fn held() -> Value {
    json!({"steps": [{"weight": 5}, {"weight": 25, "for": "1h"}]})
}

fn destinations(v1: i64, v2: i64) -> Value {
    let destination = |host: &str, weight: i64| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    json!([destination("iris-v1", v1), destination("iris-v2", v2)])
}

pub async fn weights_that_a_hand_changed_are_put_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "drift-by-hand").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    let route = world.step(2, "iris-v2", 25).await?;
    let before = world.status().await?;

    // More for the canary, and another change that is the user's business.
    let patch = json!([
        {"op": "replace", "path": "/spec/http/1/route", "value": destinations(10, 90)},
        {"op": "replace", "path": "/spec/http/1/timeout", "value": "7s"},
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    world.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?;
    let back = world.weight_is("iris-v2", 25).await?;
    same("sum", &oracle::weights(&back, ROUTE)["iris-v1"], &75)?;
    same_json("the user's change stays", &back["spec"]["http"][1]["timeout"], &json!("7s"))?;
    same_json("the rest", &oracle::the_rest(&with_timeout(route), ROUTE), &oracle::the_rest(&back, ROUTE))?;

    // And less.
    let patch = json!([{"op": "replace", "path": "/spec/http/1/route", "value": destinations(100, 0)}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    world.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?;
    world.weight_is("iris-v2", 25).await?;
    let after = world.status().await?;
    same_json("putting back is no decision", &after["seq"], &before["seq"])?;
    same_json("nor a step", &after["progress"], &before["progress"])?;
    world.end(controller).await
}

fn with_timeout(mut route: Value) -> Value {
    route["spec"]["http"][1]["timeout"] = json!("7s");
    route
}

pub async fn a_manifest_from_git_does_not_undo_a_step(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "drift-by-git").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 25).await?;
    let before = world.status().await?;

    world.apply_from_git(&world.virtual_service()).await?;
    let back = world.weight_is("iris-v2", 25).await?;
    let stamp = oracle::stamp(&back, &world.key()).unwrap_or_default();
    same_json("the stamp is back", &stamp["seq"], &before["seq"])?;
    same_json("no decision", &world.status().await?["seq"], &before["seq"])?;
    world.end(controller).await
}

pub async fn a_manifest_from_git_brings_no_rejected_canary_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "drift-rejected").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 25).await?;
    world.ask(sluice_core::api::Do::Abort, "no").await.map_err(anyhow::Error::msg)?;
    world.only("iris-v1").await?;

    // Somebody had written the canary into Git while it was on its way.
    let mut manifest = world.virtual_service();
    manifest["spec"]["http"][1]["route"] = destinations(75, 25);
    world.apply_from_git(&manifest).await?;
    let back = world.weight_is("iris-v2", 0).await?;
    same("stable has all", &oracle::weights(&back, ROUTE)["iris-v1"], &100)?;
    world.end(controller).await
}

impl World<'_> {
    /// Replaces the VirtualService with a manifest as it is in Git, without the stamp: what a GitOps tool does that knows
    /// no better.
    async fn apply_from_git(&self, manifest: &Value) -> Result<()> {
        loop {
            let mut object = manifest.clone();
            object["metadata"]["resourceVersion"] =
                self.route().await?["metadata"]["resourceVersion"].clone();
            let object = serde_json::from_value(object)?;
            match self.virtual_services().replace(IRIS, &PostParams::default(), &object).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
