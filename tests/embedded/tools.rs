//! Tools and people that write the same objects as Sluice, for minutes and not once.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    oracle,
    world::{CONTROLLER, Sluice, World, rollout, same},
};

/// How a tool writes its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A three-way merge, as `kubectl apply` does: annotations of others stay.
    Merge,
    /// A replacement of the whole object: the stamp goes.
    Replace,
}

fn destination(host: &str, weight: u64) -> Value {
    json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight})
}

/// What stands in Git.
fn manifest(v1: u64, v2: u64) -> Value {
    let mut route = vec![destination("iris-v1", v1)];
    if v2 > 0 {
        route.push(destination("iris-v2", v2));
    }
    json!([{"name": "primary", "route": route}])
}

/// Writes the manifest once.
async fn apply(world: &World, way: Way, http: &Value) {
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    loop {
        let written = match way {
            Way::Merge => {
                let patch = Patch::Merge(json!({"spec": {"http": http}}));
                objects.patch("iris", &PatchParams::default(), &patch).await
            }
            Way::Replace => {
                let mut object = world.virtual_service();
                object["spec"]["http"] = http.clone();
                object["metadata"]["annotations"] = json!({});
                let object: DynamicObject = serde_json::from_value(object).unwrap();
                objects.replace("iris", &PostParams::default(), &object).await
            }
        };
        match written {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes the manifest every three seconds for so long.
async fn keep_applying(world: &World, way: Way, http: &Value, seconds: u64) {
    for _ in 0..seconds / 3 {
        apply(world, way, http).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

/// The weights that the controller gave the canary, each once while it lasted.
fn given(world: &World) -> Vec<u64> {
    let history = world.api.history();
    let ours = oracle::routes_written(&history).filter(|write| write.user == CONTROLLER);
    let mut weights: Vec<u64> =
        ours.map(|write| oracle::weights(write.after.as_ref().expect("it deletes none")).1).collect();
    weights.dedup();
    weights
}

async fn at_half() -> (World, Sluice) {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    (world, sluice)
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_applies_the_route_every_three_seconds_keeps_no_promotion_from_happening() {
    for way in [Way::Merge, Way::Replace] {
        let world = World::new().await;
        world.create(rollout(&json!([{"weight": 20, "for": "20s"}, {"weight": 50, "for": "20s"}]))).await;
        let _sluice = world.controller();
        world.weighs(80, 20).await;
        let git = manifest(100, 0);
        let applying = async {
            loop {
                keep_applying(&world, way, &git, 3).await;
            }
        };
        tokio::select! {
            () = applying => {}
            () = world.stands("Healthy", "Live") => {}
        }
        // Nor does it bring the old one back.
        keep_applying(&world, way, &git, 120).await;
        world.weighs(0, 100).await;
        same(&world.status()["phase"], &"Healthy".into(), "the phase");
        same(&given(&world), &vec![0, 20, 50, 100], "the weights that the controller gave");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_applies_the_canary_every_three_seconds_keeps_no_rollback_from_happening() {
    for way in [Way::Merge, Way::Replace] {
        let (world, _sluice) = at_half().await;
        world.v2.predictor.set_errors(0.5);
        // Somebody wrote the canary into Git.
        let git = manifest(30, 70);
        keep_applying(&world, way, &git, 120).await;
        world.stands("RolledBack", "CheckFailed").await;
        world.weighs(100, 0).await;
        let after: Vec<u64> = given(&world).into_iter().skip_while(|weight| *weight < 50).collect();
        same(&after, &vec![50, 0], "the weights that the controller gave, drift and rollback");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_moves_weights_in_mid_step_ends_no_step_early() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "30s"}, {"weight": 50, "for": "10m"}]))).await;
    let _sluice = world.controller();
    world.weighs(80, 20).await;
    for weight in [0, 100, 50, 20] {
        apply(&world, Way::Merge, &manifest(100 - weight, weight)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic");
    }
    world.weighs(50, 50).await;
    same(&given(&world), &vec![0, 20, 50], "the weights that the controller gave");
}

#[tokio::test(start_paused = true)]
async fn a_virtual_service_that_is_deleted_and_created_again_gets_its_step_back() {
    let before = json!([{"name": "primary", "route": [destination("iris-v1", 100)]}]);
    // As it was at first; as it is, canary and all, with and without the stamp.
    for (http, stamped) in [(before, false), (manifest(50, 50), false), (manifest(50, 50), true)] {
        let (world, _sluice) = at_half().await;
        let objects = world.objects("networking.istio.io", "v1", "VirtualService");
        let mut copy = world.virtual_service();
        objects.delete("iris", &DeleteParams::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let status = world.status();
        same(&status["progress"]["number"], &1.into(), "the step while the route is gone");
        copy["spec"]["http"] = http;
        copy["metadata"] = json!({"name": "iris", "annotations": copy["metadata"]["annotations"]});
        if !stamped {
            copy["metadata"]["annotations"] = Value::Null;
        }
        objects.create(&PostParams::default(), &serde_json::from_value(copy).unwrap()).await.unwrap();
        world.weighs(50, 50).await;
        world.stands("Progressing", "StepInProgress").await;
        world.v2.predictor.set_errors(0.5);
        world.stands("RolledBack", "CheckFailed").await;
        world.weighs(100, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_edited_in_mid_step_counts_for_the_next_rollout() {
    for edit in [
        json!({"steps": [{"weight": 90}]}),
        json!({"steps": null}),
        json!({"checks": null, "metrics": null}),
        json!({"checks": [{"name": "other", "errors": {"max": "100%"}}]}),
        json!({"metrics": {"scrape": {"port": 9}}}),
        json!({"interval": "1h", "settle": "1h"}),
        json!({"settle": "1ms"}),
        json!({"finish": "KeepStable"}),
        json!({"inconclusive": {"limit": "1s", "then": "Rollback"}}),
        json!({"readyWithin": "1s"}),
        json!({"routes": [{"virtualService": "elsewhere"}]}),
        json!({"expose": {"delegate": true}, "routes": null}),
        json!({"steps": "nonsense"}),
    ] {
        let (world, _sluice) = at_half().await;
        world.patch_rollout(json!({"spec": edit})).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        same(&world.status()["observedGeneration"], &2.into(), "what was looked at");
        same(&oracle::weights(&world.virtual_service()), &(50, 50), &format!("the traffic after {edit}"));
        world.v2.predictor.set_errors(0.5);
        world.weighs(100, 0).await;
        world
            .sees("it is rolled back", |status| {
                let outcomes = status["outcomes"].as_array().into_iter().flatten();
                outcomes.into_iter().any(|outcome| outcome["outcome"] == "RolledBack")
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_wiped_in_any_stage_starts_nothing() {
    let wipe = |world: &World| {
        let status = world.status();
        let fields = status.as_object().expect("a status").keys();
        fields.map(|key| (key.clone(), Value::Null)).collect::<Value>()
    };
    let steps = json!([{"weight": 20, "for": "2s", "approve": true}, {"weight": 50, "for": "10m"}]);
    for stage in
        ["a gate", "a pause", "the last step", "a promotion", "a rollback", "a canary that is not ready"]
    {
        let world = World::new().await;
        world.create(rollout(&steps)).await;
        let unready = stage == "a canary that is not ready";
        if unready {
            world.scene.set_ready("iris-v2-0", false).await.unwrap();
        }
        let _sluice = world.controller();
        if unready {
            world.stands("Progressing", "CanaryNotReady").await;
        } else {
            world.stands("Waiting", "WaitingForApproval").await;
        }
        match stage {
            "a pause" => {
                world.ask("Pause", "hold").await;
                world.stands("Waiting", "Paused").await;
            }
            "the last step" => {
                world.ask("Approve", "go").await;
                world.weighs(50, 50).await;
            }
            "a promotion" => {
                world.ask("PromoteFull", "all").await;
                world.weighs(0, 100).await;
            }
            "a rollback" => {
                world.ask("Abort", "stop").await;
                world.weighs(100, 0).await;
            }
            _ => {}
        }
        world.patch_status(wipe(&world)).await;
        world.stands("Stalled", "StatusLost").await;
        world.weighs(100, 0).await;
        world.scene.set_ready("iris-v2-0", true).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        same(&oracle::weights(&world.virtual_service()), &(100, 0), stage);
        same(&world.status()["stable"]["service"], &"iris-v1".into(), stage);
    }
}
