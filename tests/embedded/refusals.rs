//! The API refuses, conflicts, hangs or is away: what takes traffic away still does, and all ends well once it is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sluice_lab::{
    embedded::{Refusal, Then, When},
    scene::Scene,
};

use crate::{
    oracle,
    world::{CONTROLLER, World, rollout, same},
};

fn half() -> serde_json::Value {
    rollout(&json!([{"weight": 50, "for": "5s"}]))
}

fn status_writes() -> When {
    When::writes().resource("rollouts/status").name("iris")
}

fn route_writes() -> When {
    When::writes().resource("virtualservices").name("iris")
}

/// A breach at half of the traffic, while no status can be written: the traffic goes all the same, and once the API is
/// well again the record says so.
async fn a_breach_is_acted_on_though_the_status_cannot_be_written(then: Then) {
    let world = World::new().await;
    world.create(half()).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    sluice.connection.faults().on(status_writes(), then);
    world.fails(0.5);
    world.weighs(100, 0).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    same(
        &oracle::weights(&world.virtual_service()),
        &(100, 0),
        "the traffic while the status cannot be written",
    );
    sluice.connection.faults().clear();
    world.sees("the rollback is on record", |status| status["phase"] == "RolledBack").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_the_api_server_throttles() {
    let refusal = Refusal::new(429, "TooManyRequests", "slow down");
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::Refuse(refusal)).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_the_api_server_fails() {
    let refusal = Refusal::new(500, "InternalError", "etcd has no leader");
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::Refuse(refusal)).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_the_api_server_is_unavailable() {
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::Refuse(Refusal::unavailable())).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_a_status_write_hangs() {
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_the_connection_breaks() {
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::Disconnect).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_though_the_answer_is_lost() {
    a_breach_is_acted_on_though_the_status_cannot_be_written(Then::LoseAnswer).await;
}

#[tokio::test(start_paused = true)]
async fn a_breach_that_takes_several_looks_is_seen_though_no_status_can_be_written() {
    let world = World::new().await;
    let mut wanted = half();
    wanted["spec"]["steps"][0]["for"] = json!("1h");
    wanted["spec"]["checks"][0]["consecutiveFailures"] = json!(3);
    world.create(wanted).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    sluice.connection.faults().on(status_writes(), Then::Refuse(Refusal::unavailable()));
    // Long enough for a checkpoint to be due, and to fail.
    tokio::time::sleep(Duration::from_secs(90)).await;
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the traffic of a canary that is well");
    world.fails(0.5);
    world.weighs(100, 0).await;
    sluice.connection.faults().clear();
    world
        .sees("the rollback is on record, once", |status| {
            let decisions = status["decisions"].as_array().map_or(&[][..], Vec::as_slice);
            decisions.iter().filter(|decision| decision["kind"] == "RolledBack").count() == 1
        })
        .await;
}

/// Tries come more and more seldom, up to ten seconds apart, and looks come with them.
#[tokio::test(start_paused = true)]
async fn a_canary_that_fails_while_its_next_step_is_refused_is_seen() {
    let mut world = World::new().await;
    world.limits.breach += chrono::TimeDelta::seconds(30);
    world.limits.reconcile += chrono::TimeDelta::seconds(30);
    world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "1h"}]))).await;
    let sluice = world.controller();
    world.weighs(80, 20).await;
    let refusal = Refusal::denied_by("policy.example.com", "no more today");
    sluice.connection.faults().on(route_writes(), Then::Refuse(refusal));
    world.sees("the second step is decided", |status| status["weight"] == 50).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic of a canary that is well");
    world.fails(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    sluice.connection.faults().clear();
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_virtual_service_that_is_not_allowed_is_never_written() {
    let world = World::new().await;
    world.create(rollout(&json!([]))).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    // Now the Rollout names what belongs to somebody else, and lists a predictor that it knows.
    let scene = Scene::new(&world.api.client(), "victim").await.unwrap();
    let hosts = ["iris-v1.models.svc.cluster.local", "iris-v2.models.svc.cluster.local"];
    let destinations = [(hosts[0], Some(70)), (hosts[1], Some(30))];
    scene.virtual_service("theirs", "theirs.example.com", &destinations).await.unwrap();
    let stored = || world.api.object("virtualservices.networking.istio.io", "victim", "theirs").unwrap();
    let before = stored();
    world.patch_rollout(json!({"spec": {"routes": [{"virtualService": "victim/theirs"}]}})).await;
    world.stands("Pending", "NotAllowed").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&stored(), &before, "the VirtualService of another namespace");
}

#[tokio::test(start_paused = true)]
async fn an_increase_waits_until_its_decision_is_recorded() {
    let world = World::new().await;
    world.create(half()).await;
    let connection = world.api.connect(CONTROLLER);
    // The first status says that stable was adopted, the second that a rollout started.
    connection.faults().on(status_writes().from(3), Then::Refuse(Refusal::unavailable()));
    let sluice = world.controller_over(connection, None);
    world.sees("a rollout started", |status| status["seq"] == 2).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic without a record");
    sluice.connection.faults().clear();
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn any_conflict_is_read_afresh_and_tried_again() {
    for writes in [status_writes(), route_writes()] {
        for nth in 1..=6 {
            let world = World::new().await;
            world.create(half()).await;
            let connection = world.api.connect(CONTROLLER);
            let conflict = Refusal::new(409, "Conflict", "the object has been modified");
            connection.faults().on(writes.clone().nth(nth), Then::Refuse(conflict));
            let _sluice = world.controller_over(connection, None);
            world.stands("Healthy", "Live").await;
            same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], &format!("{writes} {nth}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_keeps_writing_the_objects_only_delays() {
    let world = World::new().await;
    world.create(half()).await;
    let sluice = world.controller();
    let nuisance = async {
        for n in 0_u64.. {
            let note = json!({"metadata": {"labels": {"note": n.to_string()}}});
            world.patch_virtual_service(note.clone()).await;
            world.patch_rollout(note).await;
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
    };
    tokio::select! {
        () = nuisance => {}
        () = world.stands("Healthy", "Live") => {}
    }
    drop(sluice);
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], "the canary's weights");
}

/// A webhook that refuses what the controller writes to the VirtualService while the switch is on.
fn webhook(world: &World) -> Arc<AtomicBool> {
    let refuses = Arc::new(AtomicBool::new(true));
    let on = refuses.clone();
    world.api.webhook(move |write| {
        let route = write.resource == "virtualservices" && write.name == "iris";
        if write.user == CONTROLLER && route && on.load(Ordering::Relaxed) {
            return Err(Refusal::denied_by("istio.example.com", "no changes during the freeze"));
        }
        Ok(())
    });
    refuses
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_refuses_the_routes_is_named_in_the_status() {
    let world = World::new().await;
    let refuses = webhook(&world);
    world.create(half()).await;
    let _sluice = world.controller();
    world
        .sees("the status says who refused", |status| {
            status["reason"] == "TrafficNotInPlace"
                && status["message"].as_str().is_some_and(|m| m.contains("no changes during the freeze"))
        })
        .await;
    let reconciling = world.status()["conditions"].as_array().unwrap().iter().any(|condition| {
        condition["type"] == "Reconciling"
            && condition["status"] == "True"
            && condition["reason"] == "TrafficNotInPlace"
    });
    assert!(reconciling, "{:#}", world.status()["conditions"]);
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
    refuses.store(false, Ordering::Relaxed);
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_a_webhook_refuses_is_tried_until_it_is_let_through() {
    let world = World::new().await;
    world.create(half()).await;
    let _sluice = world.controller();
    world.weighs(50, 50).await;
    let refuses = webhook(&world);
    world.reachable(false);
    world.fails(0.5);
    world.sees("the rollback is on record", |status| status["phase"] == "RolledBack").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the traffic, which nobody can change");
    let since = tokio::time::Instant::now();
    refuses.store(false, Ordering::Relaxed);
    world.reachable(true);
    world.weighs(100, 0).await;
    assert!(since.elapsed() < Duration::from_secs(15), "it took {:?} to try again", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_virtual_service_that_cannot_be_written_keeps_no_other_from_losing_the_canary() {
    let world = World::new().await;
    world
        .scene
        .virtual_service("a-second-one", "second.example.com", &[("iris-v1", Some(100))])
        .await
        .unwrap();
    let mut object = half();
    object["spec"]["routes"] = json!([{"virtualService": "iris"}, {"virtualService": "a-second-one"}]);
    world.create(object).await;
    let _sluice = world.controller();
    let second = || oracle::weights(&world.virtual_service_named("a-second-one"));
    world.weighs(50, 50).await;
    world.sees("both give the canary its share", |_| second() == (50, 50)).await;
    let refuses = webhook(&world);
    world.fails(0.5);
    world.sees("the other one has taken it away", |_| second() == (100, 0)).await;
    same(&oracle::weights(&world.virtual_service()), &(50, 50), "the one that nobody can change");
    refuses.store(false, Ordering::Relaxed);
    world.weighs(100, 0).await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_for_a_while_changes_nothing_about_the_end() {
    for what in [When::any(), When::writes(), When::reads(), route_writes(), status_writes()] {
        let world = World::new().await;
        world.create(half()).await;
        let sluice = world.controller();
        world.weighs(50, 50).await;
        sluice.connection.faults().on(what.clone(), Then::Hang);
        tokio::time::sleep(Duration::from_secs(30)).await;
        sluice.connection.faults().clear();
        world.stands("Healthy", "Live").await;
        same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], &format!("while {what:?} hung"));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_events_keep_nothing_from_happening() {
    let world = World::new().await;
    world.create(half()).await;
    let connection = world.api.connect(CONTROLLER);
    connection.faults().on(When::writes().resource("events"), Then::Refuse(Refusal::unavailable()));
    let _sluice = world.controller_over(connection, None);
    world.stands("Healthy", "Live").await;
}
