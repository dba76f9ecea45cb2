//! Predictors of SeldonDeployments: which are refused, who goes live, and deployments that need no second manifest.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::{
    operator::{self, Operator},
    scene::{POD_PORT, Served, eventually},
};

use crate::{
    expose::{canary_weights, gateway, users},
    world::{LIMIT, NAMESPACE, Sluice, World, same, summary},
};

pub fn deployment(predictors: &Value) -> Value {
    json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": {"name": "iris"},
        "spec": {"predictors": predictors},
    })
}

pub fn both() -> Value {
    json!([{"name": "main", "traffic": 100, "graph": {"modelUri": "a"}}, {"name": "green", "traffic": 0, "graph": {"modelUri": "b"}}])
}

pub fn rollout(name: &str, predictor: &str) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
        "spec": {
            "target": {"seldonDeployment": {"name": "iris", "predictor": predictor}}, "expose": {},
            "steps": [{"weight": 50, "for": "5s"}],
            "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
            "metrics": {"scrape": {"port": POD_PORT}}, "interval": "1s", "settle": "1s",
        },
    })
}

/// A world with predictors `main` and `green` behind their Services.
pub async fn world() -> (World, [Served; 2]) {
    let world = World::without_routes().await;
    gateway(&world).await;
    let main = world.scene.serve("iris-main", "iris", "v1").await.unwrap();
    let green = world.scene.serve("iris-green", "iris", "v2").await.unwrap();
    // As Seldon Core's operator labels them.
    for predictor in ["main", "green"] {
        world.scene.label(&format!("iris-{predictor}-0"), "version", predictor).await.unwrap();
    }
    (world, [main, green])
}

pub async fn patch(world: &World, change: Value) {
    let objects = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    objects.patch("iris", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

pub fn virtual_service(world: &World) -> Option<Value> {
    world
        .api
        .object("virtualservices.networking.istio.io", NAMESPACE, "iris")
        .map(|object| object.as_ref().clone())
}

#[tokio::test(start_paused = true)]
async fn the_wanted_predictor_goes_through_the_steps_beside_the_one_with_traffic() {
    let (world, _served) = world().await;
    world.create(deployment(&both())).await;
    world.create(rollout("iris", "green")).await;
    let users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&canary_weights(&world, "iris-green"), &vec![0, 50, 100], "the canary's weights");
    same(&world.status()["stable"]["subset"], &json!("green"), "the subset of stable");
    let object = virtual_service(&world).unwrap();
    let routes = object["spec"]["http"].as_array().unwrap();
    same(&routes[1]["route"][0]["destination"]["port"]["number"], &json!(5001), "the port for gRPC");
    for service in ["iris-main", "iris-green"] {
        let rule = world.api.object("destinationrules.networking.istio.io", NAMESPACE, service);
        assert!(rule.is_some(), "no DestinationRule {service}");
    }
    assert!(users.stop().await.by("iris-v2") > 50);
}

#[tokio::test(start_paused = true)]
async fn what_seldon_core_would_refuse_moves_nothing() {
    for (predictor, predictors, reason, expected) in [
        (
            "main",
            json!([{"name": "main", "traffic": 60}, {"name": "green", "traffic": 30}]),
            "InvalidTarget",
            "adds up to 90 (main 60, green 30): 100 is expected",
        ),
        ("blue", both(), "TargetNotFound", "has no predictor \"blue\", only main, green"),
        (
            "main",
            json!([{"name": "main", "shadow": true}]),
            "InvalidTarget",
            "is a shadow and there is no other one",
        ),
    ] {
        let (world, _served) = world().await;
        world.create(deployment(&predictors)).await;
        world.create(rollout("iris", predictor)).await;
        let _sluice = world.controller();
        world.stands("Pending", reason).await;
        let message = world.status()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{message}");
        tokio::time::sleep(Duration::from_secs(30)).await;
        same(&virtual_service(&world), &None, "the VirtualService");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_comes_later_or_is_mended_goes_on_at_once() {
    let (world, _served) = world().await;
    world.create(rollout("iris", "main")).await;
    let _sluice = world.controller();
    world.stands("Pending", "TargetNotFound").await;
    let wrong = json!([{"name": "main", "traffic": 60}, {"name": "green", "traffic": 30}]);
    world.create(deployment(&wrong)).await;
    world.stands("Pending", "InvalidTarget").await;
    patch(&world, json!({"spec": {"predictors": both()}})).await;
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn a_predictor_whose_parts_are_not_available_gets_no_users() {
    let (world, _served) = world().await;
    world.create(deployment(&both())).await;
    let status = |available: u8| json!({"status": {"deploymentStatus": {"iris-green-0-classifier": {"replicas": 1, "availableReplicas": available}}}});
    let objects = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    objects.patch_status("iris", &PatchParams::default(), &Patch::Merge(status(0))).await.unwrap();
    world.create(rollout("iris", "green")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Progressing", "CanaryNotReady").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&canary_weights(&world, "iris-green"), &vec![0], "the canary's weights");
    objects.patch_status("iris", &PatchParams::default(), &Patch::Merge(status(1))).await.unwrap();
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn a_stable_predictor_that_is_changed_in_place_is_said_to_be_unguarded() {
    let (world, _served) = world().await;
    world.create(deployment(&both())).await;
    world.create(rollout("iris", "main")).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let mut changed = both();
    changed[0]["traffic"] = 50.into();
    changed[1]["traffic"] = 50.into();
    patch(&world, json!({"spec": {"predictors": changed}})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(unguarded(&world), 0, "traffic is not what it serves");
    changed[0]["graph"]["modelUri"] = "c".into();
    patch(&world, json!({"spec": {"predictors": changed}})).await;
    let look = || async { if unguarded(&world) == 1 { Ok(()) } else { Err("no Event".to_owned()) } };
    eventually(LIMIT, "one Event says so", look).await.unwrap();
}

/// How many Events say that stable was changed in place.
pub fn unguarded(world: &World) -> usize {
    let history = world.api.history();
    let of = history.iter().filter(|write| write.resource == "events" && write.after.is_some());
    of.filter(|write| write.after.as_ref().is_some_and(|event| event["reason"] == "Unguarded")).count()
}

// === no second manifest ===

/// The Rollout that others are copies of.
pub fn original() -> Value {
    let mut original = rollout("guard", "main");
    original["spec"]["target"] = json!({"service": {"name": "nobody"}});
    original
}

async fn wired(annotations: Value) -> (World, [Served; 2], Sluice) {
    let (world, served) = world().await;
    world.create(original()).await;
    let mut object = deployment(&json!([{"name": "main", "traffic": 100}]));
    object["metadata"]["annotations"] = annotations;
    object["spec"]["annotations"] = json!({"seldon.io/istio-retries": "3", "seldon.io/other": "x"});
    world.create(object).await;
    let sluice = world.controller();
    (world, served, sluice)
}

#[tokio::test(start_paused = true)]
async fn an_annotated_deployment_is_guarded_by_a_copy() {
    let (world, _served, _sluice) = wired(json!({"sluice.dev/rollout": "guard"})).await;
    world.stands("Healthy", "Live").await;
    let copy = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
    let owner = &copy["metadata"]["ownerReferences"][0];
    same(&owner["kind"], &json!("SeldonDeployment"), "the owner");
    same(&copy["spec"]["steps"], &original()["spec"]["steps"], "the steps");
    same(
        &copy["spec"]["annotations"],
        &json!({"seldon.io/istio-retries": "3"}),
        "the annotations for the route",
    );
    let _users = users(&world, "/seldon/models/iris");
    // A new version is one more predictor; nothing else is touched.
    patch(&world, json!({"spec": {"predictors": both()}})).await;
    world
        .sees("green is stable", |status| {
            status["stable"]["subset"] == "green" && status["phase"] == "Healthy"
        })
        .await;
    same(&canary_weights(&world, "iris-green"), &vec![0, 50, 100], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_copy_follows_its_original_and_goes_with_its_deployment() {
    let (world, _served, _sluice) = wired(json!({"sluice.dev/rollout": "guard"})).await;
    world.stands("Healthy", "Live").await;
    let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
    let steps = json!([{"weight": 10, "for": "1s"}]);
    rollouts
        .patch("guard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"steps": steps}})))
        .await
        .unwrap();
    let copy = || world.api.object("rollouts.sluice.dev", NAMESPACE, "iris");
    let look = || async {
        let seen = copy().map(|copy| copy["spec"]["steps"].clone());
        if seen.as_ref() == Some(&steps) { Ok(()) } else { Err(format!("{seen:?}")) }
    };
    eventually(LIMIT, "the copy has the new steps", look).await.unwrap();
    let deployments = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    deployments.delete("iris", &DeleteParams::default()).await.unwrap();
    let look = || async {
        let left = (copy().is_some(), virtual_service(&world).is_some());
        if left == (false, false) { Ok(()) } else { Err(format!("{left:?}, {}", summary(&world.status()))) }
    };
    eventually(LIMIT, "the copy and its route are gone", look).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_that_name_that_is_no_copy_is_not_touched() {
    let (world, _served) = world().await;
    world.create(original()).await;
    world.create(rollout("iris", "main")).await;
    let before = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap()["spec"].clone();
    let mut object = deployment(&both());
    object["metadata"]["annotations"] =
        json!({"sluice.dev/rollout": "guard", "sluice.dev/predictor": "green"});
    world.create(object).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(
        &world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap()["spec"],
        &before,
        "the Rollout of a person",
    );
}

// === where Seldon Core's operator owns the routes ===

/// Where the operator serves.
fn at() -> operator::Served {
    operator::Served { host: "*".to_owned(), gateway: "istio-system/seldon-gateway".to_owned() }
}

/// Does what Seldon Core's operator does with the routes of `iris`, until dropped.
pub fn operator(world: &World) -> Operator {
    Operator::start(&world.api.client_as("operator"), NAMESPACE, "iris", at())
}

pub fn stored(world: &World) -> Value {
    world
        .api
        .object("seldondeployments.machinelearning.seldon.io", NAMESPACE, "iris")
        .unwrap()
        .as_ref()
        .clone()
}

pub async fn operated() -> (World, [Served; 2]) {
    operated_with(deployment(&both())).await
}

/// A world in which the operator has made the routes of the SeldonDeployment `iris`.
pub async fn operated_with(deployment: Value) -> (World, [Served; 2]) {
    let (world, served) = world().await;
    world.create(deployment).await;
    world.create(operator::virtual_service(&stored(&world), &at())).await;
    for predictor in ["main", "green"] {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": format!("iris-{predictor}")},
            "spec": {"host": format!("iris-{predictor}"), "subsets": [{"name": predictor, "labels": {"version": predictor}}]},
        });
        world.create(rule).await;
    }
    (world, served)
}

pub fn slotted(steps: Value) -> Value {
    let mut object = rollout("iris", "green");
    object["spec"].as_object_mut().unwrap().remove("expose");
    object["spec"]["routes"] = json!([{"virtualService": "iris"}]);
    object["spec"]["steps"] = steps;
    object
}

/// The traffic of `main` and `green` in every state of the SeldonDeployment, each once while it lasted.
pub fn traffic(world: &World) -> Vec<[i64; 2]> {
    let mut seen = Vec::new();
    for write in world.api.history().iter().filter(|write| write.resource == "seldondeployments") {
        let Some(after) = &write.after else { continue };
        let of = |at: usize| after["spec"]["predictors"][at]["traffic"].as_i64().unwrap();
        let now = [of(0), of(1)];
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn where_the_operator_owns_the_routes_the_traffic_is_moved_in_the_deployment() {
    let (world, _served) = operated().await;
    let _operator = operator(&world);
    let _users = users(&world, "/seldon/models/iris");
    world.create(slotted(json!([{"weight": 25, "for": "5s"}]))).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&traffic(&world), &vec![[100, 0], [75, 25], [0, 100]], "the traffic in the SeldonDeployment");
}

#[tokio::test(start_paused = true)]
async fn a_canary_is_taken_out_of_the_route_though_the_operator_stands_still() {
    let (world, [_main, green]) = operated().await;
    let operator = operator(&world);
    let _users = users(&world, "/seldon/models/iris");
    world.create(slotted(json!([{"weight": 50, "for": "10m"}]))).await;
    let _sluice = world.controller();
    let route = |weights: [u64; 2]| {
        let world = &world;
        move || async move {
            let spec = virtual_service(world).unwrap()["spec"].clone();
            let of = |at: usize| spec["http"][0]["route"][at]["weight"].as_u64().unwrap_or(0);
            let seen = [of(0), of(1)];
            if seen == weights { Ok(()) } else { Err(format!("{seen:?}, {}", summary(&world.status()))) }
        }
    };
    eventually(LIMIT, "half is on the route", route([50, 50])).await.unwrap();
    operator.stand_still();
    green.predictor.set_errors(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    eventually(LIMIT, "nothing is on the route", route([100, 0])).await.unwrap();
    same(&traffic(&world), &vec![[100, 0], [50, 50], [100, 0]], "the traffic in the SeldonDeployment");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_traffic_cannot_say_is_refused_where_the_operator_owns_the_routes() {
    let (world, _served) = operated().await;
    world.create(slotted(json!([{"mirror": 50, "for": "5s"}]))).await;
    let _sluice = world.controller();
    world.stands("Pending", "RouteConflict").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&traffic(&world), &vec![[100, 0]], "the traffic in the SeldonDeployment");
}

/// Checks would see that nobody asks; without any, time alone would end the step.
#[tokio::test(start_paused = true)]
async fn a_route_that_leads_nowhere_carries_nothing_out() {
    let (world, _served) = operated().await;
    let operator = operator(&world);
    let _users = users(&world, "/seldon/models/iris");
    let mut rollout = slotted(json!([{"weight": 25, "for": "20s"}]));
    rollout["spec"].as_object_mut().unwrap().remove("checks");
    world.create(rollout).await;
    let _sluice = world.controller();
    world
        .sees("a quarter is in place", |status| {
            status["weight"] == 25 && status["reason"] == "StepInProgress"
        })
        .await;
    operator.stand_still();
    world.patch_virtual_service(json!({"spec": {"http": []}})).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&traffic(&world), &vec![[100, 0], [75, 25]], "the traffic in the SeldonDeployment");
    let message = world.status()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("(no http route there, green 25, main 75 is wanted)"), "{message}");
    operator.go_on();
    world.stands("Healthy", "Live").await;
}
