//! What the replicas do, one rule each.

use serde_json::json;
use sluice_lab::embedded::{Refusal, Then, When};
use std::time::Duration;

use super::replicas::{DURATION, PERIOD, World};
use crate::controller::shards::{SLOTS, slot_of};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn one_alone_holds_all_at_once_and_two_hold_half_each() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    assert_eq!(world.shares(), [16]);
    world.start("second", 0);
    world.pass(2 * PERIOD).await;
    assert_eq!(world.shares(), [8, 8]);
    world.start("third", 0);
    world.pass(3 * PERIOD).await;
    assert_eq!(world.shares(), [6, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn at_rest_each_replica_writes_its_own_lease_and_nothing_else() {
    let mut world = World::new();
    for identity in ["first", "second", "third"] {
        world.start(identity, 0);
    }
    world.pass(seconds(30)).await;
    let version = world.api.version();
    world.pass(seconds(60)).await;
    let written = world.written_since(version);
    assert!(written.iter().all(|name| name.starts_with("sluice.member-")), "{written:?}");
    assert!((57..=63).contains(&written.len()), "{} writes in a minute by three", written.len());
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_is_followed_at_once() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    world.start("second", 0);
    world.pass(seconds(30)).await;
    world.replicas[0].stop();
    world.pass(PERIOD + seconds(1)).await;
    assert!(world.replicas[0].has_ended());
    assert_eq!(world.shares(), [0, 16]);
    let leases = world.leases();
    assert_eq!(leases.iter().filter(|name| name.contains("member")).count(), 1, "{leases:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_progress_ends_before_its_slot_is_given_up() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    let permits: Vec<_> = (0..200)
        .map(|n| world.replicas[0].shards.enter("models", &format!("rollout-{n}")).expect("it holds all"))
        .collect();
    world.start("second", 0);
    world.pass(seconds(40)).await;
    assert_eq!(world.shares(), [16, 0]);
    // Of what is to be given up nothing is begun, and reading for it is not gone on with.
    let begun: Vec<bool> = (0..200)
        .map(|n| world.replicas[0].shards.enter("models", &format!("rollout-{n}")).is_some())
        .collect();
    assert!(begun.contains(&true) && begun.contains(&false));
    for (permit, begun) in permits.iter().zip(&begun) {
        let told = tokio::time::timeout(Duration::ZERO, permit.leaving()).await.is_ok();
        assert_eq!(told, !begun);
    }
    drop(permits);
    world.pass(seconds(1)).await;
    assert_eq!(world.shares(), [8, 8]);
}

#[tokio::test(start_paused = true)]
async fn one_that_crashed_is_followed_when_its_lease_has_run_out_and_then_forgotten() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    world.start("second", 0);
    world.pass(seconds(30)).await;
    world.replicas[0].kill();
    world.pass(DURATION.saturating_sub(PERIOD + seconds(1))).await;
    assert_eq!(world.shares(), [0, 8]);
    world.pass(2 * PERIOD + seconds(1)).await;
    assert_eq!(world.shares(), [0, 16]);
    world.pass(PERIOD).await;
    let leases = world.leases();
    assert_eq!(leases.iter().filter(|name| name.contains("member")).count(), 1, "{leases:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_started_again_under_its_name_goes_on_at_once() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(10)).await;
    world.replicas[0].kill();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    assert_eq!(world.shares(), [0, 16]);
}

#[tokio::test(start_paused = true)]
async fn two_that_run_under_one_name_do_not_both_go_on() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(10)).await;
    // Its clock and ours say the same; only what it finds in the Lease says that there are two.
    let lease = world.leases().into_iter().find(|name| name.contains("member")).unwrap();
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(world.api.client_as("other"), "default");
    let other = json!({"metadata": {"annotations": {"sluice.dev/process": "another"}}});
    leases.patch(&lease, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(other)).await.unwrap();
    world.pass(PERIOD + seconds(2)).await;
    assert_eq!(world.shares(), [0]);
    // The other one does not go on, so this one does.
    world.pass(DURATION + 2 * PERIOD).await;
    assert_eq!(world.shares(), [16]);
}

#[tokio::test(start_paused = true)]
async fn clocks_an_hour_apart_cost_nobody_a_slot() {
    for hours_ahead in [-1, 1] {
        let mut world = World::new();
        world.start("first", hours_ahead);
        world.pass(seconds(1)).await;
        world.start("second", 0);
        world.pass(seconds(20)).await;
        let held = world.replicas[0].slots();
        let version = world.api.version();
        world.pass(seconds(120)).await;
        assert_eq!(world.replicas[0].slots(), held);
        assert!(world.written_since(version).iter().all(|name| name.contains("member")));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_renew_stops_before_another_starts() {
    for then in [Then::Hang, Then::Disconnect, Then::Refuse(Refusal::unavailable()), Then::LoseAnswer] {
        let mut world = World::new();
        world.start("first", 0);
        world.pass(seconds(1)).await;
        world.start("second", 0);
        world.pass(seconds(30)).await;
        // That they never hold one slot at the same time is looked at all the time.
        let renewals = When::writes().resource("leases");
        world.replicas[0].connection.faults().on(renewals, then.clone());
        world.pass(seconds(40)).await;
        if then == Then::LoseAnswer {
            // Its Lease is renewed, and it does not know: nobody holds what it held.
            assert_eq!(world.shares(), [0, 8]);
        } else {
            assert_eq!(world.shares(), [0, 16], "{then:?}");
        }
        world.replicas[0].connection.faults().clear();
        world.pass(seconds(20)).await;
        assert_eq!(world.shares(), [8, 8], "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_stood_still_holds_nothing_when_it_goes_on() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    world.start("second", 0);
    world.pass(seconds(30)).await;
    world.replicas[0].pause(true);
    world.pass(DURATION + PERIOD + seconds(1)).await;
    assert_eq!(world.shares(), [0, 16]);
    world.replicas[0].pause(false);
    world.pass(3 * PERIOD).await;
    assert_eq!(world.shares(), [8, 8]);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_for_a_minute_moves_no_slot() {
    for then in [Then::Hang, Then::Disconnect, Then::Refuse(Refusal::unavailable())] {
        let mut world = World::new();
        world.start("first", 0);
        world.pass(seconds(1)).await;
        world.start("second", 0);
        world.pass(seconds(30)).await;
        let before: Vec<_> = world.replicas.iter().map(super::replicas::Replica::slots).collect();
        for replica in &world.replicas {
            replica.connection.faults().on(When::any(), then.clone());
        }
        world.pass(seconds(60)).await;
        assert_eq!(world.shares(), [0, 0]);
        world.replicas.iter().for_each(|replica| replica.connection.faults().clear());
        world.pass(3 * PERIOD).await;
        let after: Vec<_> = world.replicas.iter().map(super::replicas::Replica::slots).collect();
        assert_eq!(after, before, "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_members_lease_that_somebody_deletes_costs_nobody_a_slot() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    world.start("second", 0);
    world.pass(seconds(30)).await;
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(world.api.client_as("somebody"), "default");
    for name in world.leases().into_iter().filter(|name| name.contains("member")) {
        leases.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    }
    let version = world.api.version();
    world.pass(seconds(30)).await;
    assert_eq!(world.shares(), [8, 8]);
    assert!(world.written_since(version).iter().all(|name| name.contains("member")));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_somebody_takes_by_hand_is_taken_back_when_nobody_renews() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(10)).await;
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(world.api.client_as("thief"), "default");
    let theirs = kube::api::Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    leases.patch("sluice.slot-03", &kube::api::PatchParams::default(), &theirs).await.unwrap();
    world.pass(PERIOD + seconds(1)).await;
    assert!(!world.replicas[0].slots().contains(&3));
    world.pass(DURATION + PERIOD).await;
    assert_eq!(world.shares(), [16]);
}

#[tokio::test(start_paused = true)]
async fn more_replicas_than_slots_share_them_all_and_the_rest_waits() {
    let mut world = World::new();
    for n in 0..20 {
        world.start(&format!("replica-{n:02}"), 0);
    }
    world.pass(seconds(30)).await;
    let shares = world.shares();
    assert_eq!(shares.iter().filter(|share| **share == 1).count(), SLOTS);
    assert_eq!(shares.iter().sum::<usize>(), SLOTS);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_rollout_is_begun_where_its_slot_is_not_held() {
    let mut world = World::new();
    world.start("first", 0);
    world.pass(seconds(1)).await;
    world.start("second", 0);
    world.pass(seconds(30)).await;
    for n in 0..100 {
        let name = format!("rollout-{n}");
        let slot = slot_of("models", &name);
        for replica in &world.replicas {
            let may = replica.shards.enter("models", &name).is_some();
            assert_eq!(may, replica.slots().contains(&slot), "{name} of slot {slot} at {}", replica.identity);
        }
    }
}
