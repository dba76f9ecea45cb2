//! Watch events are lost, doubled, late or expired.

use std::time::Duration;

use serde_json::json;
use sluice_lab::embedded::{EventThen, When};

use crate::{
    oracle,
    world::{CONTROLLER, World, rollout, same},
};

/// What the controller watches.
const WATCHED: [&str; 5] = ["rollouts", "virtualservices", "services", "endpointslices", "rolloutactions"];

async fn promotes_though(resource: &str, when: fn(When) -> When, then: EventThen) {
    let world = World::new().await;
    let connection = world.api.connect(CONTROLLER);
    connection.faults().on_event(when(When::any().resource(resource)), then.clone());
    let _sluice = world.controller_over(connection, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))).await;
    world.stands("Healthy", "Live").await;
    same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], &format!("{resource}: {then:?}"));
}

#[tokio::test(start_paused = true)]
async fn events_that_come_twice_do_no_harm() {
    for resource in WATCHED {
        promotes_though(resource, |when| when, EventThen::Duplicate).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_come_late_do_no_harm() {
    for resource in WATCHED {
        promotes_though(resource, |when| when, EventThen::Delay(Duration::from_secs(3))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_expire_are_started_anew() {
    for resource in WATCHED {
        promotes_though(resource, |when| when, EventThen::Expire).await;
    }
}

// Not every time: the next watch begins before the event that ended the one before, and would never see it.
#[tokio::test(start_paused = true)]
async fn watches_that_end_are_started_anew() {
    for resource in WATCHED {
        promotes_though(resource, |when| when.times(20), EventThen::Close).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_though_its_own_changes_are_never_seen() {
    for resource in ["rollouts", "virtualservices"] {
        let world = World::new().await;
        world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))).await;
        let connection = world.api.connect(CONTROLLER);
        connection.faults().on_event(When::any().resource(resource), EventThen::Drop);
        let _sluice = world.controller_over(connection, None);
        world.stands("Healthy", "Live").await;
        same(
            &oracle::canary_weights(&world.api),
            &vec![0, 20, 50, 100],
            &format!("{resource} events are lost"),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_behind_a_rollback_never_undoes_it() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    // From now on the controller does not see what becomes of the Rollout; the next incarnation's cache is as old.
    sluice.connection.faults().on_event(When::any().resource("rollouts"), EventThen::Drop);
    world.fails(0.5);
    world.weighs(100, 0).await;
    for _ in 0..5 {
        // Drift in a place that the controller watches makes it look again.
        let route = json!([
            {"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 50},
            {"destination": {"host": "iris-v2", "port": {"number": 8000}}, "weight": 50},
        ]);
        world
            .patch_virtual_service(
                json!({"spec": {"http": [{"name": "primary", "timeout": null, "route": route}]}}),
            )
            .await;
        world.weighs(100, 0).await;
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic after the rollback");
}
