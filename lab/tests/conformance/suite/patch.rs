//! JSON Patch and merge patch, and the codes of their failures: what the controller's order of writes stands on.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::world::{World, code, generation, json_patch, merge, refusal, version};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";

tests![
    a_json_patch_changes_what_it_names,
    a_failed_test_is_422,
    a_wrong_path_is_the_same_422,
    replace_adds_a_field_that_is_not_there,
    a_test_for_null_passes_where_there_is_nothing,
    replacing_the_version_by_the_same_is_taken_and_by_a_stale_one_is_409,
    a_test_of_a_stale_version_is_422,
    a_merge_patch_with_a_stale_version_is_409,
    a_patch_without_a_version_is_taken,
    a_json_patch_is_taken_whole_or_not_at_all,
    a_merge_patch_removes_what_is_null_and_replaces_lists,
    a_patch_without_effect_keeps_the_version,
    a_patch_of_a_missing_object_is_404,
    a_patch_that_cannot_be_read_is_400,
    an_unknown_type_of_patch_is_415,
    a_patch_cannot_rename,
    a_patch_cannot_reach_what_the_server_keeps,
    annotations_with_slashes_are_escaped_in_paths,
];

async fn a_json_patch_changes_what_it_names(world: World) {
    world.thing("a", json!({"size": 1, "list": [1, 2], "old": {"deep": true}})).await;
    let patch = json!([
        {"op": "test", "path": "/spec/size", "value": 1},
        {"op": "replace", "path": "/spec/size", "value": 2},
        {"op": "add", "path": "/spec/list/-", "value": 3},
        {"op": "add", "path": "/spec/list/0", "value": 0},
        {"op": "copy", "from": "/spec/size", "path": "/spec/copied"},
        {"op": "move", "from": "/spec/old/deep", "path": "/spec/moved"},
        {"op": "remove", "path": "/spec/old"},
    ]);
    let patched = json_patch(&world.things, "a", patch).await.unwrap();
    assert_eq!(patched.data["spec"], json!({"size": 2, "list": [0, 1, 2, 3], "copied": 2, "moved": true}));
    assert_eq!(generation(&patched), Some(2));
}

async fn a_failed_test_is_422(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let patch = json!([{"op": "test", "path": "/spec/size", "value": 2}]);
    let refused = refusal(json_patch(&world.things, "a", patch).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
}

async fn a_wrong_path_is_the_same_422(world: World) {
    world.thing("a", json!({"size": 1, "list": []})).await;
    for operation in [
        json!({"op": "replace", "path": "/spec/deep/color", "value": 1}),
        json!({"op": "replace", "path": "/spec/list/0", "value": 1}),
        json!({"op": "copy", "from": "/spec/deep/color", "path": "/spec/colour"}),
        json!({"op": "remove", "path": "/spec/color"}),
        json!({"op": "add", "path": "/spec/deep/color", "value": 1}),
        json!({"op": "add", "path": "/spec/list/7", "value": 1}),
        json!({"op": "test", "path": "/spec/color", "value": 1}),
        json!({"op": "move", "from": "/spec/color", "path": "/spec/colour"}),
    ] {
        let refused = refusal(json_patch(&world.things, "a", json!([operation])).await);
        assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"), "{operation}");
    }
}

/// So a `replace` does not guard that something is there; a `test` does.
async fn replace_adds_a_field_that_is_not_there(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let patch = json!([{"op": "replace", "path": "/spec/color", "value": "red"}]);
    assert_eq!(json_patch(&world.things, "a", patch).await.unwrap().data["spec"]["color"], "red");
}

async fn a_test_for_null_passes_where_there_is_nothing(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let patch = json!([
        {"op": "test", "path": "/spec/color", "value": null},
        {"op": "add", "path": "/spec/color", "value": "red"},
    ]);
    let patched = json_patch(&world.things, "a", patch).await.unwrap();
    assert_eq!(patched.data["spec"]["color"], "red");
}

async fn replacing_the_version_by_the_same_is_taken_and_by_a_stale_one_is_409(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let patch = |size: i64| {
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&made)},
            {"op": "replace", "path": "/spec/size", "value": size},
        ])
    };
    json_patch(&world.things, "a", patch(2)).await.unwrap();
    let refused = refusal(json_patch(&world.things, "a", patch(3)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(world.things.get("a").await.unwrap().data["spec"]["size"], 2);
}

async fn a_test_of_a_stale_version_is_422(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    let patch = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": version(&made)}]);
    assert_eq!(code(json_patch(&world.things, "a", patch).await), 422);
}

async fn a_merge_patch_with_a_stale_version_is_409(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let patch = |size: i64| json!({"metadata": {"resourceVersion": version(&made)}, "spec": {"size": size}});
    merge(&world.things, "a", patch(2)).await.unwrap();
    let refused = refusal(merge(&world.things, "a", patch(3)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
}

async fn a_patch_without_a_version_is_taken(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let patched = merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    assert_eq!(patched.data["spec"]["size"], 2);
    assert_eq!(
        code(
            merge(&world.things, "a", json!({"metadata": {"resourceVersion": null}, "spec": {"size": 3}}))
                .await
        ),
        422
    );
}

async fn a_json_patch_is_taken_whole_or_not_at_all(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let patch = json!([
        {"op": "replace", "path": "/spec/size", "value": 2},
        {"op": "remove", "path": "/spec/color"},
    ]);
    assert_eq!(code(json_patch(&world.things, "a", patch).await), 422);
    assert_eq!(version(&world.things.get("a").await.unwrap()), version(&made));
}

async fn a_merge_patch_removes_what_is_null_and_replaces_lists(world: World) {
    world.thing("a", json!({"size": 1, "map": {"a": 1, "b": 2}, "list": [1, 2, 3]})).await;
    let patch = json!({"spec": {"size": null, "map": {"a": null, "c": 3}, "list": [9]}});
    let patched = merge(&world.things, "a", patch).await.unwrap();
    assert_eq!(patched.data["spec"], json!({"map": {"b": 2, "c": 3}, "list": [9]}));
}

async fn a_patch_without_effect_keeps_the_version(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let patched = merge(&world.things, "a", json!({"spec": {"size": 1, "none": null}})).await.unwrap();
    assert_eq!(version(&patched), version(&made));
    let patched = json_patch(&world.things, "a", json!([])).await.unwrap();
    assert_eq!(version(&patched), version(&made));
    let patched =
        merge(&world.things, "a", json!({"metadata": {"labels": {}, "finalizers": []}})).await.unwrap();
    assert_eq!(version(&patched), version(&made), "empty is as absent in the metadata");
}

async fn a_patch_of_a_missing_object_is_404(world: World) {
    assert_eq!(code(merge(&world.things, "nobody", json!({"spec": {}})).await), 404);
}

async fn a_patch_that_cannot_be_read_is_400(world: World) {
    world.thing("a", json!({})).await;
    let path = format!("{}/a", world.path());
    for (content_type, body) in [(JSON, "{"), (JSON, "{}"), (MERGE, "{"), (MERGE, "[]")] {
        assert_eq!(world.raw("PATCH", &path, content_type, body).await.0, 400, "{content_type} {body}");
    }
}

async fn an_unknown_type_of_patch_is_415(world: World) {
    world.thing("a", json!({})).await;
    let path = format!("{}/a", world.path());
    let (code, status) = world.raw("PATCH", &path, "application/json", "{}").await;
    assert_eq!((code, status["reason"].as_str()), (415, Some("UnsupportedMediaType")), "{status}");
    let strategic = Patch::Strategic(json!({"spec": {}}));
    assert_eq!(crate::world::code(world.things.patch("a", &PatchParams::default(), &strategic).await), 415);
}

async fn a_patch_cannot_rename(world: World) {
    world.thing("a", json!({})).await;
    assert_eq!(code(merge(&world.things, "a", json!({"metadata": {"name": "b"}})).await), 400);
    assert_eq!(code(merge(&world.things, "a", json!({"metadata": {"namespace": "default"}})).await), 400);
}

async fn a_patch_cannot_reach_what_the_server_keeps(world: World) {
    let made = world.thing("a", json!({})).await;
    let patch = json!({"metadata": {"generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}});
    assert_eq!(version(&merge(&world.things, "a", patch).await.unwrap()), version(&made));
    let patch = json!({"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}});
    let refused = refusal(merge(&world.things, "a", patch).await);
    assert_eq!(refused.code, 422);
    assert_eq!(refused.details.unwrap().causes[0].field, "metadata.deletionTimestamp");
    let other = json!({"metadata": {"uid": "11111111-1111-4111-8111-111111111111"}});
    assert_eq!(code(merge(&world.things, "a", other).await), 422);
}

async fn annotations_with_slashes_are_escaped_in_paths(world: World) {
    world.thing("a", json!({})).await;
    merge(&world.things, "a", json!({"metadata": {"annotations": {"sluice.dev/stamp": "1"}}})).await.unwrap();
    let patch = json!([{"op": "replace", "path": "/metadata/annotations/sluice.dev~1stamp", "value": "2"}]);
    let patched = json_patch(&world.things, "a", patch).await.unwrap();
    assert_eq!(patched.annotations()["sluice.dev/stamp"], "2");
    assert_eq!(generation(&patched), Some(1));
}
