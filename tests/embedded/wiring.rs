//! SeldonDeployments that ask for a copy of a Rollout and cannot have it, or ask no more.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::scene::{Served, eventually};

use crate::{
    expose::{canary_weights, users},
    seldon::{both, deployment, original, patch, rollout, stored, world},
    world::{LIMIT, NAMESPACE, World, same},
};

/// The Events of the SeldonDeployment `iris` that say why it is not wired, the oldest first.
fn not_wired(world: &World) -> Vec<Value> {
    let history = world.api.history();
    let events = history.iter().filter(|write| write.resource == "events");
    let events = events.filter_map(|write| write.after.as_ref().map(|after| after.as_ref().clone()));
    events.filter(|event| event["reason"] == "NotWired").collect()
}

/// Waits until there are so many; the note of the last one.
async fn said(world: &World, times: usize) -> String {
    let look = || async {
        let there = not_wired(world);
        if there.len() == times { Ok(()) } else { Err(format!("{there:?}")) }
    };
    eventually(LIMIT, "Events NotWired", look).await.unwrap();
    not_wired(world)[times - 1]["note"].as_str().unwrap().to_owned()
}

fn copy(world: &World) -> Option<Value> {
    world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").map(|object| object.as_ref().clone())
}

fn annotated(predictors: &Value, rollout: &str) -> Value {
    let mut object = deployment(predictors);
    object["metadata"]["annotations"] = json!({"sluice.dev/rollout": rollout});
    object
}

fn with_routes() -> Value {
    let mut object = original();
    object["spec"].as_object_mut().unwrap().remove("expose");
    object["spec"]["routes"] = json!([{"virtualService": "iris"}]);
    object
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_wired_is_said_once_with_what_was_expected() {
    let shadows = json!([{"name": "main", "shadow": true, "graph": {"modelUri": "a"}}]);
    for (rollouts, deployment, expected) in [
        (vec![original()], annotated(&both(), "gaurd"), "names gaurd: there is no such Rollout in models"),
        (vec![], annotated(&both(), "guard"), "names guard: there is no such Rollout in models"),
        (
            vec![],
            annotated(&both(), "iris"),
            "would be its own copy: the name of another Rollout of models is expected",
        ),
        (vec![with_routes()], annotated(&both(), "guard"), "One with expose is expected"),
        (
            vec![original(), rollout("iris", "main")],
            annotated(&both(), "guard"),
            "Rollout models/iris is there and is not its copy",
        ),
        (vec![original()], annotated(&shadows, "guard"), "no annotation sluice.dev/predictor names one"),
    ] {
        let (world, _served) = world().await;
        for rollout in rollouts {
            world.create(rollout).await;
        }
        let before = copy(&world).map(|copy| copy["spec"].clone());
        world.create(deployment).await;
        let sluice = world.controller();
        let note = said(&world, 1).await;
        assert!(note.contains(expected), "{note}");
        let event = not_wired(&world).remove(0);
        same(&event["type"], &json!("Warning"), "the type");
        let of = &event["regarding"];
        same(
            &json!([of["apiVersion"], of["kind"], of["namespace"], of["name"], of["uid"]]),
            &json!([
                "machinelearning.seldon.io/v1",
                "SeldonDeployment",
                NAMESPACE,
                "iris",
                stored(&world)["metadata"]["uid"]
            ]),
            "what it is about",
        );
        // It is looked at every 20 seconds, at each change, and by a controller that has just started.
        patch(&world, json!({"spec": {"predictors": stored(&world)["spec"]["predictors"]}, "metadata": {"labels": {"a": "b"}}})).await;
        tokio::time::sleep(Duration::from_mins(2)).await;
        drop(sluice);
        let _sluice = world.controller();
        tokio::time::sleep(Duration::from_mins(2)).await;
        same(&not_wired(&world).len(), &1, "Events while it lasts");
        same(&copy(&world).map(|copy| copy["spec"].clone()), &before, "the Rollout of that name");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_mended_is_wired_and_another_cause_is_said_anew() {
    let (world, _served) = world().await;
    world.create(with_routes()).await;
    world.create(annotated(&both(), "gaurd")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    assert!(said(&world, 1).await.contains("no such Rollout"));
    patch(&world, json!({"metadata": {"annotations": {"sluice.dev/rollout": "guard"}}})).await;
    assert!(said(&world, 2).await.contains("One with expose is expected"));
    let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
    let change = json!({"spec": {"expose": {}, "routes": null}});
    rollouts.patch("guard", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    world.stands("Healthy", "Live").await;
    same(&not_wired(&world).len(), &2, "Events after it was mended");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_asked_for_no_more_stays_and_is_left_alone() {
    let (world, _served) = world().await;
    world.create(original()).await;
    world.create(annotated(&both(), "guard")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let before = copy(&world).unwrap();
    patch(&world, json!({"metadata": {"annotations": {"sluice.dev/rollout": null}}})).await;
    let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
    let change = Patch::Merge(json!({"spec": {"steps": [{"weight": 10, "for": "1s"}]}}));
    rollouts.patch("guard", &PatchParams::default(), &change).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    let after = copy(&world).unwrap();
    same(&after["spec"], &before["spec"], "the copy's spec");
    same(&after["metadata"]["ownerReferences"], &before["metadata"]["ownerReferences"], "its owner");
    world.stands("Healthy", "Live").await;
    // It is a person's to edit, and to delete.
    rollouts.patch("iris", &PatchParams::default(), &change).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&copy(&world).unwrap()["spec"]["steps"][0]["weight"], &json!(10), "the weight of a person");
    rollouts.delete("iris", &DeleteParams::default()).await.unwrap();
    let look = || async { if copy(&world).is_none() { Ok(()) } else { Err("it is there".to_owned()) } };
    eventually(LIMIT, "the copy is gone", look).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&copy(&world), &None, "a copy that nobody asks for");
    same(&not_wired(&world).len(), &0, "Events");
}

/// One predictor, which there is nothing to replace with.
fn alone() -> Value {
    json!([{"name": "main", "traffic": 100, "graph": {"modelUri": "a"}}])
}

/// The SeldonDeployment `rose`, which asks for a copy, and its predictor.
async fn rose(world: &World) -> Served {
    let served = world.scene.serve("rose-main", "iris", "v1").await.unwrap();
    let mut object = annotated(&alone(), "guard");
    object["metadata"]["name"] = "rose".into();
    world.create(object).await;
    served
}

fn exposed(expose: Value) -> Value {
    let mut object = original();
    object["spec"]["expose"] = expose;
    object
}

fn route(world: &World, name: &str) -> Option<Value> {
    let object = world.api.object("virtualservices.networking.istio.io", NAMESPACE, name);
    object.map(|object| object.as_ref().clone())
}

/// Waits until the Rollout has generated its route.
async fn routed(world: &World, name: &str) -> Value {
    let look = || async { route(world, name).map(drop).ok_or_else(|| "it is not there".to_owned()) };
    eventually(LIMIT, "the route is there", look).await.unwrap();
    route(world, name).unwrap()
}

async fn annotate(world: &World, name: &str, annotations: Value) {
    let objects = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    let change = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    objects.patch(name, &PatchParams::default(), &change).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_path_that_the_original_names_is_for_one_deployment_only() {
    let (world, _served) = world().await;
    world.create(exposed(json!({"prefix": "/"}))).await;
    world.create(annotated(&alone(), "guard")).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let _rose = rose(&world).await;
    let note = said(&world, 1).await;
    assert!(
        note.contains(
            "Rollout models/guard has expose.prefix \"/\", by which SeldonDeployment iris is asked already"
        ),
        "{note}"
    );
    assert!(note.contains("seldon.io/istio-host"), "{note}");
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&route(&world, "rose"), &None, "a route that would take nobody, or the other's users");
    same(&not_wired(&world).len(), &1, "Events while it lasts");
    annotate(&world, "rose", json!({"seldon.io/istio-host": "rose.example.com"})).await;
    let own = routed(&world, "rose").await;
    same(&own["spec"]["hosts"], &json!(["rose.example.com"]), "the hosts of the other");
    same(&not_wired(&world).len(), &1, "Events after it was mended");
}

#[tokio::test(start_paused = true)]
async fn a_path_is_free_when_who_had_it_is_gone_and_not_where_the_original_has_it() {
    let (world, _served) = world().await;
    let mut serving = exposed(json!({"prefix": "/"}));
    serving["spec"]["target"] = json!({"service": {"name": "iris-v1"}});
    world.create(serving).await;
    let sluice = world.controller();
    routed(&world, "guard").await;
    let _rose = rose(&world).await;
    let note = said(&world, 1).await;
    assert!(note.contains("by which Rollout models/guard itself is asked already"), "{note}");
    drop(sluice);

    let (world, _served) = crate::seldon::world().await;
    world.create(exposed(json!({"prefix": "/"}))).await;
    world.create(annotated(&alone(), "guard")).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let _rose = rose(&world).await;
    said(&world, 1).await;
    let objects = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    objects.delete("iris", &DeleteParams::default()).await.unwrap();
    routed(&world, "rose").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_deployment_says_of_itself_goes_before_what_the_original_says() {
    let (world, _served) = world().await;
    let mut guard = exposed(json!({"hosts": ["all.example.com"], "gateways": ["istio-system/other"]}));
    guard["spec"]["annotations"] =
        json!({"seldon.io/istio-retries": "1", "seldon.io/istio-retries-timeout": "9"});
    world.create(guard).await;
    let mut object = annotated(&alone(), "guard");
    // Seldon Core reads both; what stands in the spec goes before.
    object["metadata"]["annotations"]["seldon.io/istio-host"] = "a.example.com, b.example.com".into();
    object["metadata"]["annotations"]["seldon.io/istio-retries"] = "2".into();
    object["spec"]["annotations"] =
        json!({"seldon.io/istio-retries": "3", "seldon.io/istio-gateway": "istio-system/seldon-gateway"});
    world.create(object).await;
    let _sluice = world.controller();
    let own = routed(&world, "iris").await;
    same(&own["spec"]["hosts"], &json!(["a.example.com", "b.example.com"]), "the hosts");
    same(&own["spec"]["gateways"], &json!(["istio-system/seldon-gateway"]), "the Gateways");
    let retries = &own["spec"]["http"][0]["retries"];
    same(&json!([retries["attempts"], retries["perTryTimeout"]]), &json!([3, "9s"]), "the retries");
}

#[tokio::test(start_paused = true)]
async fn of_several_with_traffic_an_annotation_says_which_is_stable() {
    let (world, _served) = world().await;
    world.create(original()).await;
    let mut predictors = both();
    predictors[0]["traffic"] = 75.into();
    predictors[1]["traffic"] = 25.into();
    world.create(annotated(&predictors, "guard")).await;
    let _users = users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    let note = said(&world, 1).await;
    assert!(
        note.contains("its predictors main and green have traffic") && note.contains("sluice.dev/from"),
        "{note}"
    );
    annotate(&world, "iris", json!({"sluice.dev/from": "blue"})).await;
    let note = said(&world, 2).await;
    assert!(note.contains("names blue: it has no such predictor, only main, green"), "{note}");
    annotate(&world, "iris", json!({"sluice.dev/from": "main"})).await;
    world
        .sees("green is stable", |status| {
            status["stable"]["subset"] == "green" && status["phase"] == "Healthy"
        })
        .await;
    same(&canary_weights(&world, "iris-green"), &vec![0, 50, 100], "the canary's weights");
    same(
        &copy(&world).unwrap()["spec"]["target"]["seldonDeployment"]["from"],
        &json!("main"),
        "what the copy says",
    );
    same(&not_wired(&world).len(), &2, "Events after it was mended");
}
