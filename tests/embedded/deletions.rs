//! A Rollout that is deleted while its routes cannot be seen: it stays until they were given back.

use std::time::Duration;

use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Refusal, Then, Verb, When},
    scene::eventually,
};

use crate::{
    tenants::{on_theirs, their_weights, theirs},
    world::{LIMIT, NAMESPACE, World, rollout, same, summary},
};

pub fn is_there(world: &World) -> bool {
    world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").is_some()
}

pub async fn gone(world: &World) {
    let look = || async { if is_there(world) { Err(summary(&world.status())) } else { Ok(()) } };
    if let Err(late) = eventually(LIMIT, "the Rollout is gone", look).await {
        panic!("{late}");
    }
}

fn says(words: &'static [&'static str]) -> impl Fn(&Value) -> bool {
    move |status| {
        let message = status["message"].as_str().unwrap_or_default();
        let waits = "the routes are not given back yet, and the deletion waits for it";
        message.contains(waits) && words.iter().all(|word| message.contains(word))
    }
}

/// Half of the traffic of a VirtualService in a namespace that the controller does not watch is the canary's.
async fn half_of_theirs(world: &World) -> crate::world::Sluice {
    theirs(world, Some(NAMESPACE)).await;
    let mut object = on_theirs(&json!(["primary"]));
    object["spec"]["checks"] = json!([]);
    object["spec"]["steps"] = json!([{"weight": 50, "approve": true}]);
    world.create(object).await;
    let sluice = world.controller_watching(NAMESPACE);
    world.stands("Waiting", "WaitingForApproval").await;
    same(&their_weights(world), &vec![50, 50], "the traffic at the gate");
    sluice
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_for_a_route_elsewhere_that_cannot_be_read() {
    for (code, reason) in [(403, "Forbidden"), (429, "TooManyRequests"), (500, "InternalError")] {
        let mut world = World::without_routes().await;
        world.limits.reconcile += chrono::TimeDelta::minutes(2);
        let sluice = half_of_theirs(&world).await;
        let then = Then::Refuse(Refusal::new(code, reason, "by a fault"));
        sluice
            .connection
            .faults()
            .on(When::verb(Verb::Get).resource("virtualservices").name("payments"), then);
        world.delete_rollout().await;
        world.sees("it says what it waits for", says(&["reading VirtualService bank/payments"])).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(is_there(&world), "its finalizer is its routes' last hope");
        same(&their_weights(&world), &vec![50, 50], "the traffic that nobody could see");
        sluice.connection.faults().clear();
        gone(&world).await;
        same(&their_weights(&world).first(), &Some(&100), "what stable has");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_wait_for_a_route_elsewhere_that_is_gone() {
    let world = World::without_routes().await;
    let _sluice = half_of_theirs(&world).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"));
    let objects: Api<DynamicObject> = Api::namespaced_with(world.api.client(), "bank", &kind);
    objects.delete("payments", &DeleteParams::default()).await.unwrap();
    world.delete_rollout().await;
    gone(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_with_istio_off_deletes_no_rollout_whose_canary_may_have_traffic() {
    let mut world = World::new().await;
    world.limits.reconcile += chrono::TimeDelta::minutes(5);
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    sluice.stop().await;

    let off = world.controller_without_istio();
    world.delete_rollout().await;
    let way_out = says(&[
        "start it without --istio=false",
        "take sluice.dev/routes out of the Rollout's metadata.finalizers",
    ]);
    world.sees("it says what to do", way_out).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(is_there(&world), "its finalizer is its routes' last hope");
    // One that comes after it knows it, too.
    off.stop().await;
    let off = world.controller_without_istio();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(is_there(&world), "its finalizer is its routes' last hope");
    off.stop().await;

    let _sluice = world.controller();
    gone(&world).await;
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_with_istio_off_deletes_a_rollout_whose_routes_are_stables_alone() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "2s"}]))).await;
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    sluice.stop().await;
    let _off = world.controller_without_istio();
    world.delete_rollout().await;
    gone(&world).await;
}
