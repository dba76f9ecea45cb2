//! At rest nothing is written, and on the way no more than a decision needs.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use sluice_lab::embedded::Write;

use crate::{
    oracle,
    world::{CONTROLLER, Sluice, World, rollout, same},
};

/// Ten times everything is listed anew, and the periodic reconcile comes by.
async fn ten_resyncs(world: &World, sluice: &Sluice) {
    for _ in 0..10 {
        world.api.expire_history();
        sluice.connection.faults().close_watches();
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
}

async fn writes_nothing(world: World, sluice: &Sluice) {
    // What is under way may end: an Event comes after its decision.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let world = world.without_users().await;
    let before = world.api.write_requests(CONTROLLER);
    ten_resyncs(&world, sluice).await;
    same(&world.api.write_requests(CONTROLLER), &before, "write requests, refused ones among them");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_the_wanted_revision_is_live_from_the_start() {
    let world = World::new().await;
    let mut adopted = rollout(&json!([{"weight": 50, "for": "1s"}]));
    adopted["spec"]["target"]["service"]["name"] = "iris-v1".into();
    world.create(adopted).await;
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    writes_nothing(world, &sluice).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_promotion() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "1s"}]))).await;
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&world.status()["stable"]["service"], &"iris-v2".into(), "stable");
    writes_nothing(world, &sluice).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_rollback() {
    let world = World::new().await;
    world.fails(0.5);
    world.create(rollout(&json!([{"weight": 50, "for": "1s"}]))).await;
    let sluice = world.controller();
    world.stands("RolledBack", "CheckFailed").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    writes_nothing(world, &sluice).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_a_gate_is_shut_but_a_checkpoint_a_minute() {
    let world = World::new().await.with_users(10.0);
    world.create(rollout(&json!([{"weight": 50, "for": "1s", "approve": true}]))).await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = world.api.write_requests(CONTROLLER);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mut expected = before;
    *expected.get_mut("rollouts/status").unwrap() += 2;
    same(&world.api.write_requests(CONTROLLER), &expected, "write requests in two minutes at a gate");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_about_a_spec_that_stays_wrong() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 101}]))).await;
    let sluice = world.controller();
    world.stands("Pending", "InvalidSpec").await;
    writes_nothing(world, &sluice).await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_one_status_one_virtual_service_and_one_event() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))).await;
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    sluice.stop().await;

    let history = world.api.history();
    let decisions = oracle::decisions(&world.api).len();
    let by_us = |resource: &str| -> Vec<&Write> {
        history.iter().filter(|write| write.user == CONTROLLER && write.resource == resource).collect()
    };
    let mut routes_by_stamp: BTreeMap<u64, usize> = BTreeMap::new();
    for write in by_us("virtualservices") {
        *routes_by_stamp.entry(oracle::stamp(write.after.as_ref().unwrap())).or_default() += 1;
    }
    let once_each = (1..=decisions as u64).map(|seq| (seq, 1)).collect();
    same(&routes_by_stamp, &once_each, "writes of the VirtualService by decision");
    same(&by_us("events").len(), &decisions, "Events");
    same(&by_us("rollouts").len(), &1, "writes of the Rollout itself: its finalizer");

    // Between two decisions the status changes only when people see something else in it.
    let mut statuses = by_us("rollouts/status").into_iter().map(|write| {
        let mut status = write.after.as_ref().unwrap()["status"].clone();
        status["stage"] = json!(null);
        status["checks"] = json!(null);
        status
    });
    let first = statuses.next().unwrap();
    let mut before = first;
    for status in statuses {
        assert!(status != before, "the same status twice: {status:#}");
        before = status;
    }
}
