//! Routes that Sluice generates, under load: a whole one, and those of the predictors of a SeldonDeployment.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_lab::real::Users;

use crate::lab::{CONTROLLER, GATEWAY, Lab};
use crate::shares::{Observed, none_failed, share_is_over};
use crate::world::{IRIS, World, same};

/// A Rollout with a generated route in place of one of the user's.
pub fn exposed(world: &World<'_>, target: Value, expose: Value) -> Value {
    let steps = json!([World::step(30, 600), World::step(100, 200)]);
    let mut rollout = world.rollout("v1", steps);
    rollout["spec"]["target"] = target;
    rollout["spec"]["expose"] = expose;
    if let Some(spec) = rollout["spec"].as_object_mut() {
        spec.remove("routes");
    }
    rollout
}

pub fn service(name: &str) -> Value {
    json!({"service": {"name": name}})
}

pub async fn two_versions(world: &mut World<'_>) -> Result<()> {
    world.serve("v1").await?;
    world.serve("v2").await?;
    world.scraped().await
}

pub async fn a_generated_route_is_promoted(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "generated").await?;
    two_versions(&mut world).await?;
    let controller = world.controller()?;
    let expose = json!({"hosts": [world.host()], "gateways": [GATEWAY], "prefix": "/"});
    world.create_rollout(&exposed(&world, service("iris-v1"), expose)).await?;
    world.routed().await?;
    let users = world.users().rate(150.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    world.want("v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 30, 100])?;
    share_is_over(&observed, &users, "iris-v2", 30, 600)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}

/// A SeldonDeployment with `main`, which has all traffic, and a `green` of this sort; and what Seldon Core's operator makes
/// of both.
pub async fn seldon_deployment(world: &mut World<'_>, green: Value) -> Result<()> {
    for (predictor, version) in [("main", "v1"), ("green", "v2")] {
        world.serve_as(&format!("{IRIS}-{predictor}"), version, &[("version", predictor)]).await?;
    }
    world.scraped().await?;
    let graph =
        |version: &str| json!({"name": "classifier", "modelUri": format!("gs://models/iris-{version}")});
    let mut object = json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": {"name": IRIS},
        "spec": {"predictors": [{"name": "main", "traffic": 100, "graph": graph("v1")}, green]},
    });
    object["spec"]["predictors"][1]["name"] = json!("green");
    object["spec"]["predictors"][1]["graph"] = graph("v2");
    world.create("machinelearning.seldon.io", "v1", &object).await.map(drop)
}

pub fn predictor(name: &str) -> Value {
    json!({"seldonDeployment": {"name": IRIS, "predictor": name}})
}

/// Users of the SeldonDeployment, once it is served.
pub async fn users_of_it(world: &World<'_>) -> Result<Users> {
    let path = format!("/seldon/{}/{IRIS}/v2/models/{IRIS}/infer", world.namespace);
    let users = world.users().path(path);
    world.answered_by(&users, "iris-v1").await?;
    Ok(users)
}

/// A shadow gets copies, then users, then all of them, and it is the same pod from first to last: nothing of Seldon Core's
/// is written, for which its operator would start another one.
pub async fn a_shadow_of_a_seldon_deployment_becomes_stable_without_a_restart(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "seldon-shadow").await?;
    seldon_deployment(&mut world, json!({"shadow": true})).await?;
    let controller = world.controller()?;
    let expose = json!({"hosts": [world.host()], "gateways": [GATEWAY]});
    world.create_rollout(&exposed(&world, predictor("main"), expose)).await?;
    let users = users_of_it(&world).await?.rate(150.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    let pods = world.pods().await?;
    let steps = json!([{"mirror": 100, "for": "1s", "minRequests": 600}, World::step(30, 500)]);
    world.edit(json!({"target": predictor("green"), "steps": steps})).await?;
    world.status_is("copies are made", |status| status["beside"]["mirror"] == 100.0).await?;
    let before = world.predictor("v2").served().total();
    world.status_is("users get it", |status| status["weight"] == 30).await?;
    let copies = world.predictor("v2").served().total() - before;
    ensure!(copies > 300, "only {copies} copies");
    world.obeyed(&observed, "iris-green", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-green"), &vec![0, 30, 100])?;
    observed.share_is(&users, ("iris-green", "iris-v2"), 0)?;
    observed.share_is(&users, ("iris-green", "iris-v2"), 30)?;
    none_failed(&users.stop().await)?;
    same("the pods, and when they started", &world.pods().await?, &pods)?;
    let writes = world.audit.writes_of(CONTROLLER)?;
    let of_seldon = writes.iter().filter(|write| {
        write.namespace == world.namespace && ["seldondeployments", "pods"].contains(&write.resource.as_str())
    });
    same("writes to what is Seldon Core's", &of_seldon.count(), &0)?;
    world.end(controller)
}

pub async fn predictors_of_a_seldon_deployment_change_places(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "seldon").await?;
    seldon_deployment(&mut world, json!({"traffic": 0})).await?;
    let controller = world.controller()?;
    let expose = json!({"hosts": [world.host()], "gateways": [GATEWAY]});
    world.create_rollout(&exposed(&world, predictor("main"), expose)).await?;
    let users = users_of_it(&world).await?.rate(280.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    let steps = json!([World::step(30, 2000), World::step(100, 200)]);
    world.edit(json!({"target": predictor("green"), "steps": steps})).await?;
    world.obeyed(&observed, "iris-green", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-green"), &vec![0, 30, 100])?;
    // Answers name the model's version, Envoy the Service.
    observed.share_is_over(&users, ("iris-green", "iris-v2"), 30, 2000)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}
