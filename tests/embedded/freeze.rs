//! A Freeze stops every increase at once, and nothing that takes traffic away.

use std::time::Duration;

use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject},
};
use serde_json::json;
use sluice_core::api::Freeze;
use sluice_lab::{
    embedded::{EventThen, Refusal, Then, When},
    scene::Scene,
};

use crate::{
    oracle,
    world::{CONTROLLER, NAMESPACE, World, rollout, same},
};

/// Where the controllers of these tests are: in the namespace of their client.
const HOME: &str = "default";

fn stairs() -> serde_json::Value {
    rollout(&json!([{"weight": 20, "for": "5s"}, {"weight": 50, "for": "5s"}]))
}

/// Freezes what is in a namespace, as somebody whose name the API server has noted.
async fn freeze(world: &World, namespace: &str) {
    let scene = Scene::new(&world.api.client(), namespace).await.unwrap();
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Freeze",
        "metadata": {"name": "incident", "annotations": {"sluice.dev/requested-by": "ada"}},
        "spec": {"reason": "incident 42"},
    });
    scene.apply(object).await.unwrap();
}

async fn thaw(world: &World, namespace: &str) {
    let kind = ApiResource::erase::<Freeze>(&());
    let freezes: Api<DynamicObject> = Api::namespaced_with(world.api.client(), namespace, &kind);
    freezes.delete("incident", &DeleteParams::default()).await.unwrap();
}

/// Long enough for every step to have been over.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(40)).await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_of_the_namespace_or_of_the_cluster_stops_growth_until_it_is_gone() {
    for (namespace, message) in [
        (NAMESPACE, "the namespace models is frozen by ada: incident 42 (Freeze models/incident)"),
        (HOME, "the cluster is frozen by ada: incident 42 (Freeze default/incident)"),
    ] {
        let world = World::new().await;
        world.create(stairs()).await;
        let _sluice = world.controller();
        world.weighs(80, 20).await;
        freeze(&world, namespace).await;
        world.stands("Waiting", "Frozen").await;
        same(&world.status()["message"], &message.into(), "the message");
        a_while().await;
        world.ask("PromoteFull", "go").await;
        world.sees("the promotion is refused", |_| world.action("go")["phase"] == "Refused").await;
        same(&world.action("go")["message"], &message.into(), "the answer");
        same(&oracle::canary_weights(&world.api), &vec![0, 20], "the canary's weights");
        thaw(&world, namespace).await;
        world.stands("Healthy", "Live").await;
        same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], "the canary's weights");
    }
}

#[tokio::test(start_paused = true)]
async fn a_freeze_elsewhere_concerns_nobody_here() {
    let world = World::new().await;
    freeze(&world, "elsewhere").await;
    world.create(stairs()).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_in_a_freeze_and_it_starts_soon_after_its_end() {
    let world = World::new().await;
    freeze(&world, NAMESPACE).await;
    world.create(stairs()).await;
    let _sluice = world.controller();
    world.stands("Waiting", "Frozen").await;
    a_while().await;
    same(&oracle::canary_weights(&world.api), &vec![0], "the canary's weights");
    let thawed = tokio::time::Instant::now();
    thaw(&world, NAMESPACE).await;
    world.weighs(80, 20).await;
    assert!(thawed.elapsed() < Duration::from_secs(15), "it took {:?} to begin", thawed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_breach_in_a_freeze_takes_all_traffic_away() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let _sluice = world.controller();
    world.weighs(50, 50).await;
    freeze(&world, HOME).await;
    world.stands("Waiting", "Frozen").await;
    world.fails(0.5);
    world.weighs(100, 0).await;
    world.stands("RolledBack", "CheckFailed").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_counts_before_its_watch_has_brought_it() {
    let world = World::new().await;
    world.create(stairs()).await;
    let connection = world.api.connect(CONTROLLER);
    connection.faults().on_event(When::any().resource("freezes"), EventThen::Drop);
    let _sluice = world.controller_over(connection, None);
    world.weighs(80, 20).await;
    freeze(&world, HOME).await;
    a_while().await;
    same(&oracle::canary_weights(&world.api), &vec![0, 20], "the canary's weights");
    thaw(&world, HOME).await;
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn while_nobody_can_say_whether_it_is_frozen_nothing_grows_and_a_breach_still_ends_it() {
    let world = World::new().await;
    world.create(stairs()).await;
    let sluice = world.controller();
    world.weighs(80, 20).await;
    for then in [Then::Refuse(Refusal::unavailable()), Then::Hang] {
        sluice.connection.faults().on(When::reads().resource("freezes"), then);
        a_while().await;
        same(&oracle::canary_weights(&world.api), &vec![0, 20], "the canary's weights");
    }
    world.fails(0.5);
    world.weighs(100, 0).await;
    world.stands("RolledBack", "CheckFailed").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_and_could_not_be_written_is_not_written_in_a_freeze() {
    let world = World::new().await;
    world.create(stairs()).await;
    let sluice = world.controller();
    world.weighs(80, 20).await;
    let refusal = Refusal::new(403, "Forbidden", "a webhook says no");
    sluice.connection.faults().on(When::writes().resource("virtualservices"), Then::Refuse(refusal));
    world.sees("the second step is on record", |status| status["weight"] == 50).await;
    freeze(&world, HOME).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    sluice.connection.faults().clear();
    a_while().await;
    same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic in the freeze");
    same(&world.status()["reason"], &"Frozen".into(), "the reason");
    thaw(&world, HOME).await;
    world.stands("Healthy", "Live").await;
    same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_cannot_be_read_is_one() {
    let world = World::new().await;
    world.create(stairs()).await;
    let _sluice = world.controller();
    world.weighs(80, 20).await;
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Freeze", "metadata": {"name": "incident"},
        "spec": {"reason": {"of": "another version"}},
    });
    world.create(object).await;
    world.stands("Waiting", "Frozen").await;
    a_while().await;
    same(&oracle::canary_weights(&world.api), &vec![0, 20], "the canary's weights");
}
