//! SeldonDeployments that change under a Rollout: in place, from a shadow to a predictor that answers, and the kind itself,
//! which comes and goes.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};
use sluice_lab::{real::crds::SELDON_DEPLOYMENTS, scene::eventually};

use crate::{
    expose::{canary_weights, users},
    seldon::{
        both, deployment, operated, operator, patch, rollout, slotted, traffic, unguarded, virtual_service,
        world,
    },
    world::{LIMIT, NAMESPACE, World, same},
};

/// The status of the condition `Guarded`, and why.
fn guarded(status: &Value) -> Option<(String, String)> {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == "Guarded")?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

fn is(status: &str, reason: &str) -> impl Fn(&Value) -> bool {
    let expected = Some((status.to_owned(), reason.to_owned()));
    move |seen| guarded(seen) == expected
}

fn serving(model: &str) -> Value {
    let mut predictors = both();
    predictors[0]["graph"]["modelUri"] = model.into();
    json!({"spec": {"predictors": predictors}})
}

#[tokio::test(start_paused = true)]
async fn a_change_in_place_while_no_controller_runs_is_seen_by_the_next() {
    let (world, _served) = world().await;
    world.create(deployment(&both())).await;
    world.create(rollout("iris", "main")).await;
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    world.sees("stable is guarded", is("True", "Unchanged")).await;
    sluice.stop().await;
    patch(&world, serving("c")).await;
    assert_eq!(unguarded(&world), 0, "nobody was there");

    let sluice = world.controller();
    world.sees("stable was changed", is("False", "ChangedInPlace")).await;
    let look = || async { if unguarded(&world) == 1 { Ok(()) } else { Err("no Event".to_owned()) } };
    eventually(LIMIT, "an Event says so", look).await.unwrap();
    same(&world.status()["phase"], &json!("Healthy"), "it is as live as before");
    sluice.stop().await;
    // The one after it says nothing anew.
    let _sluice = world.controller();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(unguarded(&world), 1);
    patch(&world, serving("a")).await;
    world.sees("it was put back", is("True", "Unchanged")).await;
}

#[tokio::test(start_paused = true)]
async fn what_went_through_the_steps_is_what_is_guarded() {
    let (world, _served) = world().await;
    world.create(deployment(&both())).await;
    world.create(rollout("iris", "main")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    patch(&world, serving("c")).await;
    world.sees("stable was changed", is("False", "ChangedInPlace")).await;
    world.patch_rollout(json!({"spec": {"target": {"seldonDeployment": {"predictor": "green"}}}})).await;
    world
        .sees("green is stable and guarded", |status| {
            status["stable"]["subset"] == "green" && is("True", "Unchanged")(status)
        })
        .await;
}

// === a shadow ===

/// `green` as a shadow, and `main` with all traffic.
fn shadowed() -> Value {
    let mut predictors = both();
    predictors[1]["shadow"] = true.into();
    predictors[1]["traffic"] = 30.into();
    predictors
}

/// The weights of both http routes.
fn on_the_route(world: &World) -> [u64; 2] {
    let spec = virtual_service(world).map(|object| object["spec"].clone()).unwrap_or_default();
    let green = |route: &Value| {
        let entries = route["route"].as_array().into_iter().flatten();
        let mut of = entries.filter(|entry| entry["destination"]["subset"] == "green");
        of.next().and_then(|entry| entry["weight"].as_u64()).unwrap_or(0)
    };
    [green(&spec["http"][0]), green(&spec["http"][1])]
}

/// A flip of `shadow` gives a predictor new pods, and the operator writes no route before they are ready.
#[tokio::test(start_paused = true)]
async fn where_the_operator_owns_the_routes_a_former_shadow_waits_for_its_new_pods() {
    let (world, [_main, old]) = operated().await;
    patch(&world, json!({"spec": {"predictors": shadowed()}})).await;
    let operator = operator(&world);
    let users = users(&world, "/seldon/models/iris");
    world.create(slotted(json!([{"weight": 25, "for": "5s"}]))).await;
    let _sluice = world.controller();
    world.stands("Pending", "InvalidTarget").await;
    let message = world.status()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("set shadow to false first"), "{message}");

    // From here on the operator is busy with new pods. Those from before are ready, and are no more than leftovers.
    operator.stand_still();
    patch(&world, json!({"spec": {"predictors": both()}})).await;
    world.stands("Progressing", "TrafficNotInPlace").await;
    let message = world.status()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("green 25, main 75 is wanted"), "{message}");
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&on_the_route(&world), &[0, 0], "what green has while its pods are not there");
    same(&world.status()["step"], &json!("1/1"), "no step ends on traffic that nobody got");
    let before = users.report().by("iris-v2");

    // As a Deployment does it: first the new ones, then those from before go.
    let new = world.scene.labelled_replica("iris-green", "1", "iris", "v2", "green").await.unwrap();
    world.scene.delete_pod(&old.pod).await.unwrap();
    operator.go_on();
    let ready = world.now();
    world.stands("Healthy", "Live").await;
    same(&on_the_route(&world), &[100, 100], "what green has in the end");
    same(
        &traffic(&world),
        &vec![[100, 0], [100, 30], [100, 0], [75, 25], [0, 100]],
        "the SeldonDeployment's",
    );
    assert!((world.now() - ready).num_seconds() >= 5, "the step lasted as long as it was to, with users");
    assert_eq!(before, 0, "answers of the old pod");
    let (answered, served) = (users.stop().await.by("iris-v2"), new.predictor.served().total());
    assert!(answered > 100 && served >= answered, "{answered} answers, {served} requests to the new pod");
}

// === the kind itself ===

async fn install(world: &World) {
    let kind: Value = serde_saphyr::from_str(SELDON_DEPLOYMENTS).unwrap();
    world.create(kind).await;
}

async fn uninstall(world: &World) {
    let kinds = kube::Api::<kube::api::DynamicObject>::all_with(
        world.api.client(),
        &kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let name = "seldondeployments.machinelearning.seldon.io";
    kinds.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_installed_later_is_noticed_and_so_is_that_it_goes() {
    let (world, _served) = world().await;
    // The lab has it from the start; as an object it can be taken away.
    install(&world).await;
    uninstall(&world).await;
    world.create(rollout("iris", "main")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Pending", "TargetNotFound").await;
    for round in ["the first time", "and again"] {
        install(&world).await;
        world.create(deployment(&both())).await;
        world.stands("Healthy", "Live").await;
        let deployments = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
        deployments.delete("iris", &DeleteParams::default()).await.unwrap();
        uninstall(&world).await;
        world
            .sees(round, |status| status["phase"] == "Pending" && status["reason"] == "TargetNotFound")
            .await;
        same(&world.status()["stable"]["subset"], &json!("main"), "stable stays where it is");
    }
    // What is there when it is back goes through the steps like anything else.
    install(&world).await;
    world.create(deployment(&both())).await;
    world.stands("Healthy", "Live").await;
    world.patch_rollout(json!({"spec": {"target": {"seldonDeployment": {"predictor": "green"}}}})).await;
    world.sees("green is stable", |status| status["stable"]["subset"] == "green").await;
    world.stands("Healthy", "Live").await;
    same(&canary_weights(&world, "iris-green"), &vec![0, 50, 100], "the canary's weights");
    assert!(world.api.object("virtualservices.networking.istio.io", NAMESPACE, "iris").is_some());
}
