//! SeldonDeployments that ask for a copy of a Rollout and cannot have it, or ask no more.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::scene::eventually;

use crate::{
    expose::users,
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
