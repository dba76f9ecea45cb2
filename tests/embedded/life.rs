//! What people, Git and the cluster do in the middle of a rollout.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    oracle,
    world::{World, rollout, same},
};

/// A rollout that stays at half of the traffic.
async fn at_half() -> (World, crate::world::Sluice) {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    (world, sluice)
}

fn route(weights: [(&str, u64); 2]) -> Value {
    let entry = |(host, weight): (&str, u64)| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    json!({"spec": {"http": [{"name": "primary", "route": weights.map(entry)}]}})
}

#[tokio::test(start_paused = true)]
async fn drift_is_put_back() {
    let (world, _sluice) = at_half().await;
    for drifted in [10, 90] {
        world.patch_virtual_service(route([("iris-v1", 100 - drifted), ("iris-v2", drifted)])).await;
        world.weighs(50, 50).await;
    }
}

#[tokio::test(start_paused = true)]
async fn git_that_applies_the_first_virtual_service_again_is_harmless() {
    let (world, _sluice) = at_half().await;
    let first = json!({"spec": {"http": [
        {"name": "primary", "route": [{"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 100}]},
    ]}});
    world.patch_virtual_service(first.clone()).await;
    world.weighs(50, 50).await;
    world.patch_rollout(json!({"spec": {"paused": true}})).await;
    world.stands("Waiting", "Paused").await;
    world.patch_rollout(json!({"spec": {"paused": false}})).await;
    world.ask("PromoteFull", "go").await;
    world.stands("Healthy", "Live").await;
    world.patch_virtual_service(first).await;
    world.weighs(0, 100).await;
    same(&world.status()["phase"], &"Healthy".into(), "the phase");
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_increases_and_no_rollback() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))).await;
    let _sluice = world.controller();
    world.weighs(80, 20).await;
    world.ask("Pause", "hold").await;
    world.stands("Waiting", "Paused").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic while paused");
    world.fails(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_starts_a_rolled_back_revision_again_from_the_first_step() {
    let world = World::new().await;
    world.fails(0.5);
    world.create(rollout(&json!([{"weight": 50, "for": "2s"}]))).await;
    let _sluice = world.controller();
    world.stands("RolledBack", "CheckFailed").await;
    world.fails(0.0);
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic without a retry");
    world.ask("Retry", "again").await;
    world.stands("Healthy", "Live").await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0, 50, 100], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn another_revision_takes_the_place_of_the_one_in_flight() {
    let (world, _sluice) = at_half().await;
    let _v3 = world.scene.serve("iris-v3", "iris", "v3").await.unwrap();
    world.want("iris-v3").await;
    world
        .sees("the new one has its share", |status| {
            status["canary"]["service"] == "iris-v3" && status["weight"] == 50
        })
        .await;
    let kinds = oracle::kinds(&world.api);
    let position = |kind: &str| kinds.iter().position(|seen| seen == kind);
    assert!(position("Superseded") < kinds.iter().rposition(|kind| kind == "Started"), "{kinds:?}");
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the weights of the old one");
}

#[tokio::test(start_paused = true)]
async fn wanting_stable_again_cancels() {
    let (world, _sluice) = at_half().await;
    world.want("iris-v1").await;
    world.stands("Healthy", "Live").await;
    world.weighs(100, 0).await;
    assert!(oracle::kinds(&world.api).contains(&"Cancelled".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_deleted_gives_the_routes_back() {
    let (world, _sluice) = at_half().await;
    world.delete_rollout().await;
    world.sees("the Rollout is gone", Value::is_null).await;
    let route = world.virtual_service()["spec"]["http"][0]["route"].clone();
    same(&route.as_array().unwrap().len(), &1, "destinations");
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_wiped_starts_and_promotes_nothing() {
    let (world, _sluice) = at_half().await;
    let wiped: Value =
        world.status().as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    world.patch_status(wiped).await;
    world.weighs(100, 0).await;
    world.stands("Stalled", "StatusLost").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
    same(&world.status()["stable"]["service"], &"iris-v1".into(), "stable");
    world.ask("Retry", "again").await;
    world.weighs(50, 50).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_created_again_after_a_rollback_starts_nothing() {
    let world = World::new().await;
    world.fails(0.5);
    let object = rollout(&json!([{"weight": 50, "for": "2s"}]));
    world.create(object.clone()).await;
    let _sluice = world.controller();
    world.stands("RolledBack", "CheckFailed").await;
    world.delete_rollout().await;
    world.sees("the Rollout is gone", Value::is_null).await;
    world.create(object).await;
    world.stands("Stalled", "StatusLost").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_steps_in_mid_step_counts_for_the_next_rollout() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "5s"}, {"weight": 50, "for": "5s"}]))).await;
    let _sluice = world.controller();
    world.weighs(80, 20).await;
    world.patch_rollout(json!({"spec": {"steps": [{"weight": 101}]}})).await;
    world
        .sees("the edit is refused", |status| {
            status["conditions"][0]["type"] == "Accepted" && status["conditions"][0]["status"] == "False"
        })
        .await;
    world.fails(0.5);
    world.weighs(100, 0).await;
    world
        .sees("it is rolled back", |status| {
            status["outcomes"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|outcome| outcome["outcome"] == "RolledBack")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_loses_its_pod_has_no_traffic_until_it_is_ready_again_and_none_the_second_time() {
    let (world, _sluice) = at_half().await;
    world.scene.set_ready("iris-v2-0", false).await.unwrap();
    world.weighs(100, 0).await;
    world.scene.set_ready("iris-v2-0", true).await.unwrap();
    world.weighs(50, 50).await;
    world.scene.set_ready("iris-v2-0", false).await.unwrap();
    world.stands("RolledBack", "CanaryLost").await;
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_rolled_back_onto_a_stable_that_cannot_answer() {
    let (world, _sluice) = at_half().await;
    world.scene.set_ready("iris-v1-0", false).await.unwrap();
    world.fails(0.5);
    world.stands("Stalled", "StableNotReady").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the traffic, which has nowhere to go");
    world.scene.set_ready("iris-v1-0", true).await.unwrap();
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn without_evidence_it_pauses_and_neither_promotes_nor_rolls_back() {
    let world = World::new().await;
    let mut object = rollout(&json!([{"weight": 50, "for": "2s"}]));
    object["spec"]["inconclusive"] = json!({"limit": "30s"});
    world.create(object).await;
    let _sluice = world.controller();
    world.weighs(50, 50).await;
    let world = world.without_users().await;
    world.stands("Waiting", "Paused").await;
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the traffic");
    let kinds = oracle::kinds(&world.api);
    same(&kinds.last().unwrap().as_str(), &"Paused", "the last decision");
}

#[tokio::test(start_paused = true)]
async fn an_action_for_a_past_step_is_refused_and_says_why() {
    let world = World::new().await;
    let steps = json!([{"weight": 20, "approve": true}, {"weight": 50, "approve": true}]);
    world.create(rollout(&steps)).await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.ask("Approve", "first").await;
    world.weighs(50, 50).await;
    world
        .create(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"name": "late"},
            "spec": {"rollout": "iris", "do": "Approve", "revision": "models/iris-v2:8000", "step": 1},
        }))
        .await;
    world.sees("the action is answered", |_| !world.action("late").is_null()).await;
    let answer = world.action("late");
    same(&answer["phase"], &"Refused".into(), "the answer");
    assert!(answer["message"].as_str().unwrap().contains("step 1 is not the current step: 2 is"), "{answer}");
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the traffic");
}

#[tokio::test(start_paused = true)]
async fn an_action_that_cannot_be_read_keeps_no_other_from_being_heard() {
    let (world, _sluice) = at_half().await;
    // Of a later version, perhaps: the real API server's schema refuses it today.
    world
        .create(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"name": "dance"},
            "spec": {"rollout": "iris", "do": "Dance"},
        }))
        .await;
    world.ask("Abort", "abort").await;
    world.weighs(100, 0).await;
    same(&world.action("dance")["status"], &Value::Null, "the answer to what nobody can read");
}
