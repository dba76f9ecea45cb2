//! Several replicas, one leader.

use std::time::Duration;

use serde_json::json;
use sluice_lab::embedded::{Then, When};

use crate::{
    oracle,
    world::{CONTROLLER, Sluice, World, rollout, same},
};

fn replica(world: &World, identity: &str) -> Sluice {
    world.controller_over(world.api.connect(CONTROLLER), Some(world.lease(identity)))
}

fn holder(world: &World) -> String {
    let lease = world.api.object("leases.coordination.k8s.io", "default", "sluice-controller");
    lease.map_or_else(String::new, |lease| {
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    })
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_within_its_lease_and_a_breach_is_still_acted_on() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let first = replica(&world, "first");
    world.weighs(50, 50).await;
    same(&holder(&world), &"first".into(), "the leader");
    let _second = replica(&world, "second");
    first.connection.faults().crash();
    drop(first);
    world.fails(0.5);
    let since = tokio::time::Instant::now();
    world.weighs(100, 0).await;
    // The lease, one try for it, and the looks that a verdict needs.
    assert!(since.elapsed() < Duration::from_secs(25), "it took {:?}", since.elapsed());
    same(&holder(&world), &"second".into(), "the leader");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_told_to_stop_gives_the_lease_back() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "20s"}]))).await;
    let first = replica(&world, "first");
    world.weighs(50, 50).await;
    let _second = replica(&world, "second");
    first.stop().await;
    let since = tokio::time::Instant::now();
    while holder(&world) != "second" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_writing_before_another_starts() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "30s"}, {"weight": 50, "for": "30s"}]))).await;
    let first = world.api.connect("first");
    let first = world.controller_over(first, Some(world.lease("first")));
    world.weighs(80, 20).await;
    let second = world.api.connect("second");
    let _second = world.controller_over(second, Some(world.lease("second")));
    first.connection.faults().on(When::any().resource("leases"), Then::Hang);
    while holder(&world) != "second" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.stands("Healthy", "Live").await;
    let history = world.api.history();
    let taken =
        history.iter().find(|w| w.user == "second" && w.resource == "leases").expect("a lease taken").version;
    let late: Vec<_> = history
        .iter()
        .filter(|w| w.user == "first" && w.version > taken && w.resource != "leases")
        .map(|w| format!("{} {}", w.verb, w.resource))
        .collect();
    assert!(late.is_empty(), "the old leader still wrote: {late:?}");
    same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], "the canary's weights");
}
