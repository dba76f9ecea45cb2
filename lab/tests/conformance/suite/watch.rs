//! Watches: where they start, what they say, how they end.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::world::{LIMIT, Said, World, added, deleted, merge, modified, said, thing, version};

tests![
    from_a_version_a_watch_says_what_came_after_it,
    from_a_lists_version_nothing_is_missed_or_said_twice,
    from_version_zero_a_watch_begins_with_what_there_is,
    a_deletion_says_the_last_object_under_a_version_of_its_own,
    a_change_of_the_status_is_a_change,
    a_write_without_effect_says_nothing,
    an_object_that_leaves_the_selection_is_deleted_for_the_watch,
    a_field_selector_narrows_a_watch,
    other_namespaces_are_not_heard,
    a_streaming_list_ends_with_a_marked_bookmark,
    a_streaming_list_without_a_match_is_422,
    an_expired_version_is_an_error_event_in_an_answer_that_began_well,
    a_version_that_is_no_number_is_500,
    a_watch_ends_after_its_time,
    an_object_that_goes_is_first_changed_and_then_deleted,
    an_older_version_of_the_kind_hears_the_same,
    only_the_metadata_can_be_watched,
];

fn plain() -> WatchParams {
    WatchParams::default()
}

async fn from_a_version_a_watch_says_what_came_after_it(world: World) {
    let first = world.thing("a", json!({"size": 1})).await;
    world.thing("b", json!({})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    world.things.delete("b", &DeleteParams::default()).await.unwrap();
    let mut watch = world.watch(plain(), &version(&first)).await;
    assert_eq!(watch.says().await, added("b"));
    assert_eq!(watch.says().await, modified("a"));
    assert_eq!(watch.says().await, deleted("b"));
    world.thing("c", json!({})).await;
    assert_eq!(watch.says().await, added("c"));
}

async fn from_a_lists_version_nothing_is_missed_or_said_twice(world: World) {
    world.thing("a", json!({})).await;
    let list = world.things.list(&ListParams::default()).await.unwrap();
    world.thing("b", json!({})).await;
    let mut watch = world.watch(plain(), &list.metadata.resource_version.unwrap()).await;
    assert_eq!(watch.says().await, added("b"));
}

async fn from_version_zero_a_watch_begins_with_what_there_is(world: World) {
    world.thing("a", json!({"size": 1})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    for start in ["0", ""] {
        let mut watch = world.watch(plain(), start).await;
        assert_eq!(watch.says().await, added("a"));
    }
    let mut watch = world.watch(plain(), "0").await;
    assert_eq!(watch.object().await.data["spec"]["size"], 2);
    merge(&world.things, "a", json!({"spec": {"size": 3}})).await.unwrap();
    assert_eq!(watch.says().await, modified("a"));
}

async fn a_deletion_says_the_last_object_under_a_version_of_its_own(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let mut watch = world.watch(plain(), &version(&made)).await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    let next = world.thing("b", json!({})).await;
    let last = watch.object().await;
    assert_eq!(last.data["spec"]["size"], 1);
    let number = |o: &kube::api::DynamicObject| version(o).parse::<u64>().unwrap();
    assert!(number(&made) < number(&last) && number(&last) < number(&next));
}

async fn a_change_of_the_status_is_a_change(world: World) {
    let made = world.thing("a", json!({})).await;
    let mut watch = world.watch(plain(), &version(&made)).await;
    let status = Patch::Merge(json!({"status": {"seen": 1}}));
    world.things.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(watch.object().await.data["status"], json!({"seen": 1}));
}

async fn a_write_without_effect_says_nothing(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let mut watch = world.watch(plain(), &version(&made)).await;
    merge(&world.things, "a", json!({"spec": {"size": 1}})).await.unwrap();
    world.thing("b", json!({})).await;
    assert_eq!(watch.says().await, added("b"));
}

async fn an_object_that_leaves_the_selection_is_deleted_for_the_watch(world: World) {
    let made = world.colored("a", "red").await;
    let mut watch = world.watch(plain().labels("color=blue"), &version(&made)).await;
    let color = |color: &str| json!({"metadata": {"labels": {"color": color}}});
    let blue = merge(&world.things, "a", color("blue")).await.unwrap();
    assert_eq!(watch.says().await, added("a"));
    let green = merge(&world.things, "a", color("green")).await.unwrap();
    let WatchEvent::Deleted(left) = watch.event().await.unwrap() else {
        panic!("it was deleted for this watch")
    };
    assert_eq!(left.metadata.labels, blue.metadata.labels, "the object as it was when last selected");
    assert_eq!(version(&left), version(&green), "under the version of the change");
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    world.colored("b", "blue").await;
    assert_eq!(watch.says().await, added("b"), "it is not deleted twice");
}

async fn a_field_selector_narrows_a_watch(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let mut watch = world.watch(plain().fields("metadata.name=b"), &version(&made)).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    world.thing("b", json!({})).await;
    assert_eq!(watch.says().await, added("b"));
}

async fn other_namespaces_are_not_heard(world: World) {
    let made = world.thing("a", json!({})).await;
    let mut watch = world.watch(plain(), &version(&made)).await;
    let name = format!("elsewhere-{}", world.namespace);
    let elsewhere: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(world.client.clone(), "default", &crate::world::thing_kind("v1"));
    elsewhere.create(&PostParams::default(), &thing(&name, json!({}))).await.unwrap();
    elsewhere.delete(&name, &DeleteParams::default()).await.unwrap();
    world.thing("b", json!({})).await;
    assert_eq!(watch.says().await, added("b"));
}

async fn a_streaming_list_ends_with_a_marked_bookmark(world: World) {
    world.thing("a", json!({})).await;
    world.thing("b", json!({})).await;
    let mut watch = world.watch(plain().initial_events(), "0").await;
    let mut names = Vec::new();
    let marked = loop {
        match watch.event().await.unwrap() {
            WatchEvent::Added(object) => names.push(object.metadata.name.unwrap()),
            WatchEvent::Bookmark(bookmark) if bookmark.metadata.annotations.is_empty() => {}
            WatchEvent::Bookmark(bookmark) => break bookmark,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names, ["a", "b"]);
    assert_eq!(marked.metadata.annotations["k8s.io/initial-events-end"], "true");
    let mut rest = world.watch(plain(), &marked.metadata.resource_version).await;
    let third = world.thing("c", json!({})).await;
    assert_eq!(watch.says().await, added("c"));
    assert_eq!(version(&rest.object().await), version(&third));
}

async fn a_streaming_list_without_a_match_is_422(world: World) {
    let path = format!("{}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true", world.path());
    let (code, status) = world.raw("GET", &path, "application/json", "").await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{status}");
}

async fn an_expired_version_is_an_error_event_in_an_answer_that_began_well(world: World) {
    world.thing("a", json!({})).await;
    let mut watch = world.watch(plain(), "1").await;
    let event = watch.event().await.unwrap();
    assert_eq!(said(&event), Said::Error(410));
    let WatchEvent::Error(status) = event else { panic!("{event:?}") };
    assert_eq!(status.reason, "Expired");
    assert!(status.message.starts_with("too old resource version: 1 ("), "{}", status.message);
    assert!(watch.event().await.is_none(), "and it ends");
}

async fn a_version_that_is_no_number_is_500(world: World) {
    let path = format!("{}?watch=true&resourceVersion=soon", world.path());
    let (code, status) = world.raw("GET", &path, "application/json", "").await;
    assert_eq!((code, status.get("reason")), (500, None), "{status}");
}

async fn a_watch_ends_after_its_time(world: World) {
    let made = world.thing("a", json!({})).await;
    let mut watch = world.watch(plain().timeout(1), &version(&made)).await;
    let ended = tokio::time::timeout(LIMIT, async {
        while let Some(event) = watch.event().await {
            assert_eq!(said(&event), Said::Bookmark);
        }
    });
    assert!(ended.await.is_ok());
}

async fn an_object_that_goes_is_first_changed_and_then_deleted(world: World) {
    let object = thing("a", json!({"metadata": {"finalizers": ["example.com/one"]}}));
    let made = world.things.create(&PostParams::default(), &object).await.unwrap();
    let mut watch = world.watch(plain(), &version(&made)).await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    merge(&world.things, "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    let WatchEvent::Modified(marked) = watch.event().await.unwrap() else { panic!("first it is marked") };
    assert!(marked.metadata.deletion_timestamp.is_some());
    assert_eq!(watch.says().await, deleted("a"), "taking the last finalizer away is no change of its own");
}

async fn an_older_version_of_the_kind_hears_the_same(world: World) {
    let made = world.thing("a", json!({})).await;
    let older = kube::Api::namespaced_with(
        world.client.clone(),
        &world.namespace,
        &crate::world::thing_kind("v1beta1"),
    );
    let mut watch = crate::world::watch(&older, plain(), &version(&made)).await;
    world.thing("b", json!({})).await;
    let heard = watch.object().await;
    assert_eq!(heard.types.unwrap().api_version, "conformance.sluice.dev/v1beta1");
}

async fn only_the_metadata_can_be_watched(world: World) {
    let made = world.thing("a", json!({})).await;
    let mut watch = Box::pin(world.things.watch_metadata(&plain(), &version(&made)).await.unwrap());
    let next = world.colored("b", "red").await;
    let WatchEvent::Added(heard) = crate::world::next(&mut watch).await.unwrap().unwrap() else {
        panic!("an object was added")
    };
    assert_eq!(heard.metadata.uid, next.metadata.uid);
    assert_eq!(heard.types.unwrap().kind, "PartialObjectMetadata");
}
