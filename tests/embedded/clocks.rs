//! Wall clocks that are hours apart, and controllers that are started again with another one: time is what was observed
//! to pass, so nothing is promoted, rolled back or handed over because of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sluice::controller::{Clock, LeaseOptions};
use tokio::time::Instant;

use crate::{
    oracle,
    replicas::{each_wrote_only_its_own, holder},
    world::{Sluice, World, rollout, same},
};

impl World {
    /// Starts a replica whose wall clock shows so many minutes more than the API server's.
    fn replica_ahead(&self, identity: &str, minutes: i64) -> Sluice {
        let clock = Clock::starting_at(self.now() + TimeDelta::minutes(minutes));
        let lease = LeaseOptions { clock, ..self.lease(identity) };
        self.controller_over(self.api.connect(identity), Some(lease))
    }

    /// When the route first gave this weight to the canary, by the API server's clock.
    fn time_of(&self, weight: u64) -> DateTime<Utc> {
        let history = self.api.history();
        let mut writes = oracle::routes_written(&history);
        let write = writes.find(|write| oracle::weights(write.after.as_ref().unwrap()).1 == weight);
        write.expect("such a weight").at
    }
}

/// Half of the traffic for half a minute.
async fn half(world: &World) {
    world.create(rollout(&json!([{"weight": 50, "for": "30s"}]))).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_goes_from_a_replica_to_one_whose_clock_is_an_hour_off_takes_as_long() {
    for (first, second) in [(0, 60), (60, 0), (-60, 60), (60, -60)] {
        let what = format!("clocks {first} and {second} minutes ahead");
        let world = World::new().await;
        half(&world).await;
        let a = world.replica_ahead("a", first);
        world.weighs(50, 50).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = Instant::now();
        let _b = world.replica_ahead("b", second);
        a.stop().await;
        world.shared_by(&["b"]).await;
        let between = TimeDelta::from_std(before.elapsed()).unwrap();
        world.stands("Healthy", "Live").await;
        let took = world.time_of(100) - world.time_of(50);
        assert!(took >= TimeDelta::seconds(30), "{what}: the step took {took}");
        // What was observed since the last checkpoint is observed anew: ten seconds here.
        let most = TimeDelta::seconds(30 + 10 + 5) + between;
        assert!(took <= most, "{what}: the step took {took}");
        same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], &what);
        each_wrote_only_its_own(&world.api, &["a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_whose_clocks_are_an_hour_apart_share_the_slots_and_keep_them() {
    let world = World::new().await;
    half(&world).await;
    let names = ["a", "b", "c"];
    let _replicas: Vec<Sluice> =
        names.iter().zip([-60, 0, 60]).map(|(name, minutes)| world.replica_ahead(name, minutes)).collect();
    world.shared_by(&names).await;
    let holders = || (0..16).map(|slot| holder(&world.api, slot)).collect::<Vec<_>>();
    let before = holders();
    world.stands("Healthy", "Live").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&holders(), &before, "the holders");
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], "the canary's weights");
    each_wrote_only_its_own(&world.api, &names);
}

#[tokio::test(start_paused = true)]
async fn a_controller_started_again_with_a_clock_that_jumped_ends_no_step_early_and_sees_a_breach() {
    for minutes in [-60, 60, 60 * 24] {
        for breach in [false, true] {
            let what = format!("started again {minutes} minutes ahead, breach: {breach}");
            let world = World::new().await;
            half(&world).await;
            let before = world.replica_ahead("a", 0);
            world.weighs(50, 50).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            drop(before);
            // The same replica: it need not wait for itself.
            let _after = world.replica_ahead("a", minutes);
            tokio::time::sleep(Duration::from_secs(3)).await;
            if breach {
                world.v2.predictor.set_errors(0.5);
                let since = Instant::now();
                world.weighs(100, 0).await;
                assert!(since.elapsed() < Duration::from_secs(5), "{what}: it took {:?}", since.elapsed());
                world.stands("RolledBack", "CheckFailed").await;
                same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], &what);
            } else {
                world.stands("Healthy", "Live").await;
                let took = world.time_of(100) - world.time_of(50);
                assert!(took >= TimeDelta::seconds(30), "{what}: the step took {took}");
                same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], &what);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_that_is_missing_is_waited_for_as_long_whatever_the_clock_says() {
    let world = World::new().await.without_users().await;
    let mut object = rollout(&json!([{"weight": 50, "for": "1s"}]));
    object["spec"]["inconclusive"] = json!({"limit": "1m", "then": "Rollback"});
    world.create(object).await;
    let before = world.replica_ahead("a", 0);
    world.weighs(50, 50).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    before.stop().await;
    let _after = world.replica_ahead("a", 60);
    world.weighs(100, 0).await;
    let history = world.api.history();
    let gone = oracle::routes_written(&history)
        .filter(|write| oracle::weights(write.after.as_ref().unwrap()).1 == 0)
        .last()
        .unwrap()
        .at;
    let took = gone - world.time_of(50);
    assert!(took >= TimeDelta::minutes(1), "it waited {took}");
}
