//! Two controllers at once, and memories that are behind: a later decision is never undone by an earlier one.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::embedded::{EventThen, Then, When};

use crate::{
    oracle,
    world::{CONTROLLER, World, rollout, same},
};

/// A second controller whose cache stays as it is now, but for the VirtualServices.
fn with_a_stale_cache(world: &World) -> crate::world::Sluice {
    let connection = world.api.connect(CONTROLLER);
    for resource in ["rollouts", "rolloutactions"] {
        connection.faults().on_event(When::any().resource(resource), EventThen::Drop);
    }
    world.controller_over(connection, None)
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_has_not_seen_a_rollback_does_not_repair_it_away() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let _first = world.controller();
    world.weighs(50, 50).await;
    let _second = with_a_stale_cache(&world);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.ask("Abort", "stop").await;
    world.stands("RolledBack", "Aborted").await;
    world.weighs(100, 0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_has_not_seen_a_rollback_puts_no_drift_back_beyond_it() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let _first = world.controller();
    world.weighs(50, 50).await;
    let _second = with_a_stale_cache(&world);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.ask("Abort", "stop").await;
    world.weighs(100, 0).await;
    for canary in [10, 90, 50] {
        world.patch_virtual_service(pair(100 - canary, canary)).await;
        world.weighs(100, 0).await;
    }
    // The stamp may go, too, with the VirtualService of Git.
    let mut bare = pair(100, 0);
    bare["metadata"]["annotations"]["sluice.dev/stamp"] = Value::Null;
    world.patch_virtual_service(bare).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
    let history = world.api.history();
    let by_us = oracle::routes_written(&history).filter(|write| write.user == CONTROLLER);
    let canary: Vec<u64> = by_us.map(|write| oracle::weights(write.after.as_ref().unwrap()).1).collect();
    let after_the_rollback =
        canary.iter().skip_while(|weight| **weight < 50).skip_while(|weight| **weight == 50);
    assert!(after_the_rollback.clone().all(|weight| *weight == 0), "{canary:?}");
}

fn pair(stable: u64, canary: u64) -> Value {
    let entry =
        |host, weight| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    let route = [entry("iris-v1", stable), entry("iris-v2", canary)];
    json!({"spec": {"http": [{"name": "primary", "route": route}]}})
}

#[tokio::test(start_paused = true)]
async fn a_late_increase_finds_that_a_rollback_was_there_first() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    // The third write is the one for the first step; the two before it adopt and start.
    let connection = world.api.connect(CONTROLLER);
    let third = When::writes().resource("virtualservices").nth(3);
    connection.faults().on(third, Then::Delay(Duration::from_secs(5)));
    let _stalled = world.controller_over(connection, None);
    world.sees("the first step was entered", |status| status["weight"] == 50).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic while the write is on its way");
    // There is no weight to take away, and the rollback leaves its stamp all the same.
    world.ask("Abort", "stop").await;
    let _second = world.controller();
    world.stands("RolledBack", "Aborted").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::canary_weights(&world.api), &vec![0], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_status_from_a_backup_gives_the_canary_nothing_back() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    let backup = world.status();
    world.ask("Abort", "stop").await;
    world
        .sees("the loser has left", |status| status["phase"] == "RolledBack" && status["retiring"].is_null())
        .await;
    sluice.stop().await;
    world.patch_status(backup).await;
    let _next = world.controller();
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the canary's weights");
    same(&world.status()["stable"]["service"], &"iris-v1".into(), "stable");
    assert_ne!(world.status()["phase"], "Progressing");
}

#[tokio::test(start_paused = true)]
async fn two_controllers_that_both_act_end_where_one_does() {
    for errors in [0.0, 0.5] {
        let world = World::new().await;
        world.fails(errors);
        world.create(rollout(&json!([{"weight": 20, "for": "3s"}, {"weight": 50, "for": "3s"}]))).await;
        let _first = world.controller();
        let _second = world.controller();
        if errors > 0.0 {
            world.stands("RolledBack", "CheckFailed").await;
            world.weighs(100, 0).await;
        } else {
            world.stands("Healthy", "Live").await;
            same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], "the canary's weights");
        }
    }
}
