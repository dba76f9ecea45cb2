//! A replica loses its slots at any moment of a rollout: at each of its writes, before and after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use serde_json::json;
use sluice::controller::LeaseOptions;
use sluice_lab::embedded::{Connection, Refusal, Then, When, Write};

use crate::{
    oracle,
    replicas::{each_wrote_only_its_own, holder},
    world::{World, rollout, same},
};

/// When, seen from a write, the replica cannot renew any more.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The write is refused, and so is everything else.
    Before,
    /// The write is the last one that gets through.
    After,
}

/// What the rollout comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Promotion,
    Rollback,
}

/// Leases that are short, so that the many runs are.
fn lease(world: &World, identity: &str) -> LeaseOptions {
    LeaseOptions { duration: Duration::from_secs(5), ..world.lease(identity) }
}

async fn world(way: Way) -> World {
    let world = World::new().await;
    if way == Way::Rollback {
        world.v2.predictor.set_errors(0.5);
    }
    let mut object = rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]));
    object["spec"]["checks"][0]["errors"]["minRequests"] = 4.into();
    world.create(object).await;
    world
}

async fn ends(world: &World, way: Way) {
    match way {
        Way::Promotion => world.stands("Healthy", "Live").await,
        Way::Rollback => {
            let over =
                |status: &serde_json::Value| status["phase"] == "RolledBack" && status["retiring"].is_null();
            world.sees("the loser has left", over).await;
        }
    }
}

fn of_the_rollout(write: &Write) -> bool {
    write.user == "first" && write.resource != "leases"
}

/// From its `nth` write on the replica `first` is cut off, from the leases or from everything.
fn cut_off(world: &World, connection: &Connection, nth: usize, moment: Moment) -> Arc<AtomicUsize> {
    let writes = Arc::new(AtomicUsize::new(0));
    let (connection, count) = (connection.clone(), writes.clone());
    world.api.webhook(move |write| {
        if !of_the_rollout(write) {
            return Ok(());
        }
        match count.fetch_add(1, Ordering::SeqCst) + 1 {
            n if n < nth => Ok(()),
            n => {
                if n == nth {
                    connection.faults().on(When::any().resource("leases"), Then::Hang);
                }
                match moment {
                    Moment::After if n == nth => Ok(()),
                    Moment::After | Moment::Before => Err(Refusal::unavailable()),
                }
            }
        }
    });
    writes
}

async fn lost_at(way: Way, nth: usize, moment: Moment) -> bool {
    let mut world = world(way).await;
    // A lease has to run out first.
    world.limits.reconcile += TimeDelta::seconds(5);
    let connection = world.api.connect("first");
    let writes = cut_off(&world, &connection, nth, moment);
    let first = world.controller_over(connection, Some(lease(&world, "first")));
    // Others come when all is the first one's.
    while holder(&world.api, 15) != "first" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = world.api.connect("second");
    // Until the first one is cut off the second one only watches.
    second.faults().on(When::writes().resource("leases"), Then::Refuse(Refusal::unavailable()));
    let second = world.controller_over(second, Some(lease(&world, "second")));
    let over = async {
        while writes.load(Ordering::SeqCst) < nth {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let came_to_it = tokio::time::timeout(Duration::from_mins(1), over).await.is_ok();
    second.connection.faults().clear();
    ends(&world, way).await;
    let weights: &[u64] = match way {
        Way::Promotion => &[0, 20, 50, 100],
        Way::Rollback => &[0, 20, 0],
    };
    let what = format!("{way:?}, cut off {moment:?} write {nth}");
    same(&oracle::canary_weights(&world.api), &weights.to_vec(), &what);
    each_wrote_only_its_own(&world.api, &["first", "second"]);
    drop((first, second));
    came_to_it
}

async fn lost_at_every_write(way: Way) {
    let calm = world(way).await;
    let replica = calm.controller_over(calm.api.connect("first"), Some(lease(&calm, "first")));
    ends(&calm, way).await;
    drop(replica);
    let writes = calm.api.history().iter().filter(|write| of_the_rollout(write)).count();
    assert!(writes > 8, "{writes} writes");
    for nth in 1..=writes {
        for moment in [Moment::Before, Moment::After] {
            assert!(lost_at(way, nth, moment).await, "{way:?}: it never came to write {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_the_same_wherever_the_slots_are_lost() {
    lost_at_every_write(Way::Promotion).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_ends_the_same_wherever_the_slots_are_lost() {
    lost_at_every_write(Way::Rollback).await;
}
