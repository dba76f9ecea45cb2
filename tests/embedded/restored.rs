//! A cluster that comes back from a backup: every object is created again, without its status, with another uid, and in any
//! order. Nothing starts by itself, and no user is lost.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    oracle,
    world::{NAMESPACE, World, rollout, same},
};

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Route,
    Rollout,
    Actions,
}

const ORDERS: [[Kind; 3]; 6] = [
    [Kind::Route, Kind::Rollout, Kind::Actions],
    [Kind::Route, Kind::Actions, Kind::Rollout],
    [Kind::Rollout, Kind::Route, Kind::Actions],
    [Kind::Rollout, Kind::Actions, Kind::Route],
    [Kind::Actions, Kind::Route, Kind::Rollout],
    [Kind::Actions, Kind::Rollout, Kind::Route],
];

/// What a backup keeps of an object.
fn kept(object: &Value, finalizers: bool) -> Value {
    let mut kept = object.clone();
    kept.as_object_mut().expect("an object").remove("status");
    let metadata = kept["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "annotations" | "labels" | "finalizers"));
    if !finalizers {
        metadata.remove("finalizers");
    }
    kept
}

/// A world without users: what counts here is what is written.
async fn quiet() -> World {
    let world = World::without_routes().await;
    world.scene.virtual_service("iris", "iris.example.com", &[("iris-v1", Some(100))]).await.unwrap();
    world
}

async fn lose(world: &World, rollout: &Value) {
    let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
    // Nobody is there to give the routes back: a lost cluster says no good-bye.
    rollouts.delete("iris", &DeleteParams::default()).await.unwrap();
    if rollout["metadata"]["finalizers"].is_array() {
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        rollouts.patch("iris", &PatchParams::default(), &free).await.unwrap();
    }
    assert!(world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").is_none());
    let routes = world.objects("networking.istio.io", "v1", "VirtualService");
    routes.delete("iris", &DeleteParams::default()).await.unwrap();
}

async fn restore(world: &World, kind: Kind, route: &Value, rollout: &Value) {
    let create = async |group: &str, version: &str, kind: &str, object: Value| {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        world.objects(group, version, kind).create(&PostParams::default(), &object).await.unwrap();
    };
    match kind {
        Kind::Route => create("networking.istio.io", "v1", "VirtualService", route.clone()).await,
        Kind::Rollout => create("sluice.dev", "v1alpha1", "Rollout", rollout.clone()).await,
        Kind::Actions => {
            // Made by hand, so that nothing ties them to the Rollout that is gone.
            for what in ["PromoteFull", "Retry", "Approve", "Resume"] {
                let object = json!({
                    "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction",
                    "metadata": {"name": what.to_lowercase()},
                    "spec": {"rollout": "iris", "do": what, "revision": "models/iris-v2:8000", "step": 1},
                });
                create("sluice.dev", "v1alpha1", "RolloutAction", object).await;
            }
        }
    }
}

/// A rollout is lost at half of the traffic and restored; what is then there for minutes.
async fn restored_in(order: [Kind; 3], finalizers: bool, slowly: bool) {
    let world = quiet().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    sluice.stop().await;
    let object = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
    let (route, rollout) = (kept(&world.virtual_service(), true), kept(&object, finalizers));
    lose(&world, &object).await;

    let before = world.api.version();
    let _sluice = slowly.then(|| world.controller());
    for kind in order {
        restore(&world, kind, &route, &rollout).await;
        if slowly {
            tokio::time::sleep(Duration::from_secs(12)).await;
        }
    }
    let _late = (!slowly).then(|| world.controller());
    world.stands("Stalled", "StatusLost").await;
    world.weighs(100, 0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let what = format!("{order:?}, finalizers {finalizers}, slowly {slowly}");
    same(&oracle::weights(&world.virtual_service()), &(100, 0), &what);
    same(&world.status()["stable"]["service"], &"iris-v1".into(), &what);
    let history = world.api.history();
    let since = oracle::routes_written(&history).filter(|write| write.version > before);
    let weights: Vec<u64> =
        since.filter_map(|write| Some(oracle::weights(write.after.as_ref()?).1)).collect();
    assert!(weights.is_sorted_by(|one, next| one >= next), "the canary grew: {weights:?}, {what}");
    for name in ["promotefull", "retry", "approve", "resume"] {
        // One that is older than the Rollout is not even looked at.
        let answer = world.action(name);
        assert!(answer.is_null() || answer["phase"] == "Refused", "{name}: {answer}, {what}");
    }
    // Whoever asks now, of what is there now, is heard.
    world.ask("Retry", "anew").await;
    world.weighs(50, 50).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_restored_in_mid_rollout_starts_nothing_and_loses_no_user() {
    for order in ORDERS {
        restored_in(order, true, false).await;
        restored_in(order, true, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_leaves_finalizers_out_starts_nothing_either() {
    for order in ORDERS {
        restored_in(order, false, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_restored_at_rest_stays_as_it_was() {
    for order in ORDERS {
        let world = quiet().await;
        let mut object = rollout(&json!([{"weight": 50, "for": "2s"}]));
        object["spec"].as_object_mut().expect("a spec").remove("checks");
        world.create(object).await;
        let sluice = world.controller();
        world.stands("Healthy", "Live").await;
        world.weighs(0, 100).await;
        sluice.stop().await;
        let object = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
        let (route, rollout) = (kept(&world.virtual_service(), true), kept(&object, true));
        lose(&world, &object).await;
        let _sluice = world.controller();
        for kind in order {
            restore(&world, kind, &route, &rollout).await;
            tokio::time::sleep(Duration::from_secs(12)).await;
        }
        world.stands("Healthy", "Live").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        same(&oracle::weights(&world.virtual_service()), &(0, 100), "the traffic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_whose_finalizer_was_taken_off_by_force_starts_nothing_when_it_is_created_again() {
    for running in [true, false] {
        let world = quiet().await;
        world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
        let mut sluice = Some(world.controller());
        world.weighs(50, 50).await;
        if !running {
            sluice.take().expect("one that runs").stop().await;
        }
        let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        rollouts.patch("iris", &PatchParams::default(), &free).await.unwrap();
        rollouts.delete("iris", &DeleteParams::default()).await.unwrap();
        world.sees("the Rollout is gone", Value::is_null).await;
        world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
        if !running {
            sluice = Some(world.controller());
        }
        world.stands("Stalled", "StatusLost").await;
        world.weighs(100, 0).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
        drop(sluice);
    }
}
