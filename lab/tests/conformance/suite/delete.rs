//! Deleting: finalizers, preconditions, and what is left in between.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Preconditions},
};
use serde_json::json;

use crate::world::{World, code, generation, json_patch, merge, refusal, thing, version};

tests![
    a_deleted_object_is_gone,
    a_missing_object_is_404,
    an_object_with_a_finalizer_stays_and_is_marked,
    the_last_finalizer_takes_the_object_with_it,
    a_finalizer_cannot_be_added_to_an_object_that_goes,
    an_object_that_goes_can_still_be_changed,
    preconditions_are_409_when_they_do_not_hold,
    many_are_deleted_by_label,
    a_dry_run_deletes_nothing,
    a_name_can_be_used_again_and_has_another_uid,
];

async fn finalized(world: &World, name: &str, finalizers: &[&str]) -> DynamicObject {
    let object = thing(name, json!({"metadata": {"finalizers": finalizers}, "spec": {"size": 1}}));
    world.things.create(&kube::api::PostParams::default(), &object).await.unwrap()
}

async fn a_deleted_object_is_gone(world: World) {
    let made = world.thing("a", json!({})).await;
    let answer = world.things.delete("a", &DeleteParams::default()).await.unwrap();
    let status = answer.right().unwrap();
    let details = status.details.unwrap();
    assert_eq!((details.name.as_str(), details.kind.as_str()), ("a", "things"));
    assert_eq!(details.uid, made.uid().unwrap());
    assert_eq!(code(world.things.get("a").await), 404);
}

async fn a_missing_object_is_404(world: World) {
    let refused = refusal(world.things.delete("nobody", &DeleteParams::default()).await);
    assert_eq!((refused.code, refused.reason.as_str()), (404, "NotFound"));
}

async fn an_object_with_a_finalizer_stays_and_is_marked(world: World) {
    let made = finalized(&world, "a", &["example.com/one"]).await;
    assert_eq!(generation(&made), Some(1));
    let marked = world.things.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(0));
    assert_eq!(generation(&marked), Some(2));
    assert_ne!(version(&marked), version(&made));
    let read = world.things.get("a").await.unwrap();
    assert_eq!(version(&read), version(&marked));
    let again = world.things.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(version(&again), version(&marked), "to delete it again changes nothing");
}

async fn the_last_finalizer_takes_the_object_with_it(world: World) {
    finalized(&world, "a", &["example.com/one", "example.com/two"]).await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    let left =
        merge(&world.things, "a", json!({"metadata": {"finalizers": ["example.com/two"]}})).await.unwrap();
    assert_eq!(left.finalizers(), ["example.com/two"]);
    let patch = json!([
        {"op": "test", "path": "/metadata/finalizers/0", "value": "example.com/two"},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]);
    json_patch(&world.things, "a", patch).await.unwrap();
    assert_eq!(code(world.things.get("a").await), 404);
}

async fn a_finalizer_cannot_be_added_to_an_object_that_goes(world: World) {
    finalized(&world, "a", &["example.com/one"]).await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    let more = json!({"metadata": {"finalizers": ["example.com/one", "example.com/two"]}});
    let refused = refusal(merge(&world.things, "a", more).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert_eq!(refused.details.unwrap().causes[0].field, "metadata.finalizers");
}

async fn an_object_that_goes_can_still_be_changed(world: World) {
    finalized(&world, "a", &["example.com/one"]).await;
    let marked = world.things.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    let changed = merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    assert_eq!(changed.metadata.deletion_timestamp, marked.metadata.deletion_timestamp);
    assert_eq!(generation(&changed), Some(3));
}

async fn preconditions_are_409_when_they_do_not_hold(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    let delete = async |uid: Option<String>, resource_version: Option<String>| {
        let params = DeleteParams::default().preconditions(Preconditions { resource_version, uid });
        world.things.delete("a", &params).await
    };
    let refused = refusal(delete(None, Some(version(&made))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(code(delete(Some("11111111-1111-4111-8111-111111111111".into()), None).await), 409);
    assert!(delete(made.uid(), None).await.is_ok());
}

async fn many_are_deleted_by_label(world: World) {
    world.colored("a", "red").await;
    world.colored("b", "blue").await;
    world.colored("c", "red").await;
    world
        .things
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels("color=red"))
        .await
        .unwrap();
    let left = world.things.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}

async fn a_dry_run_deletes_nothing(world: World) {
    let made = world.thing("a", json!({})).await;
    world.things.delete("a", &DeleteParams::default().dry_run()).await.unwrap();
    assert_eq!(version(&world.things.get("a").await.unwrap()), version(&made));
}

async fn a_name_can_be_used_again_and_has_another_uid(world: World) {
    let first = world.thing("a", json!({"size": 1})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    let second = world.thing("a", json!({"size": 1})).await;
    assert_ne!(first.uid(), second.uid());
    assert_eq!(generation(&second), Some(1));
}
