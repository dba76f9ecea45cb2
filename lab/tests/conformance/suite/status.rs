//! The status subresource.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::{GROUP, World, code, generation, merge, refusal, version};

tests![
    through_the_subresource_only_the_status_goes,
    through_the_main_resource_all_but_the_status_goes,
    a_stale_status_is_409,
    a_status_under_its_version_is_taken_by_every_kind_of_write,
    a_status_without_effect_keeps_the_version,
    a_status_can_be_taken_away,
    a_kind_without_the_subresource_answers_404,
    a_status_of_a_missing_object_is_404,
];

async fn through_the_subresource_only_the_status_goes(world: World) {
    let mut made = world.thing("a", json!({"size": 1})).await;
    made.data["status"] = json!({"seen": 1});
    made.data["spec"]["size"] = 2.into();
    made.metadata.labels = Some([("color".to_string(), "red".to_string())].into());
    let written = world.things.replace_status("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!((&written.data["status"], &written.data["spec"]), (&json!({"seen": 1}), &json!({"size": 1})));
    assert_eq!(written.metadata.labels, None);
    assert_eq!(generation(&written), Some(1));
    assert_ne!(version(&written), version(&made));
    assert_eq!(world.things.get_status("a").await.unwrap().data["status"], json!({"seen": 1}));
}

async fn through_the_main_resource_all_but_the_status_goes(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let status = Patch::Merge(json!({"status": {"seen": 1}}));
    world.things.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    let patched =
        merge(&world.things, "a", json!({"spec": {"size": 2}, "status": {"seen": 2}})).await.unwrap();
    assert_eq!((&patched.data["status"], &patched.data["spec"]), (&json!({"seen": 1}), &json!({"size": 2})));
    let mut without = patched.clone();
    without.data = json!({"spec": {"size": 2}});
    let replaced = world.things.replace("a", &PostParams::default(), &without).await.unwrap();
    assert_eq!(replaced.data["status"], json!({"seen": 1}));
    assert_eq!(version(&replaced), version(&patched), "so nothing has changed");
}

async fn a_stale_status_is_409(world: World) {
    let mut made = world.thing("a", json!({"size": 1})).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    made.data["status"] = json!({"seen": 1});
    let refused = refusal(world.things.replace_status("a", &PostParams::default(), &made).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"), "the spec has moved the version");
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version(&made)}, "status": {"seen": 1}}));
    assert_eq!(code(world.things.patch_status("a", &PatchParams::default(), &patch).await), 409);
}

async fn a_status_under_its_version_is_taken_by_every_kind_of_write(world: World) {
    let params = PatchParams::default();
    let mut object = world.thing("a", json!({"size": 1})).await;
    object.data["status"] = json!({"seen": 1});
    object = world.things.replace_status("a", &PostParams::default(), &object).await.unwrap();
    let patch =
        Patch::Merge(json!({"metadata": {"resourceVersion": version(&object)}, "status": {"seen": 2}}));
    object = world.things.patch_status("a", &params, &patch).await.unwrap();
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&object)},
        {"op": "replace", "path": "/status/seen", "value": 3},
    ]))
    .unwrap();
    object = world.things.patch_status("a", &params, &Patch::Json::<()>(patch)).await.unwrap();
    assert_eq!(object.data["status"], json!({"seen": 3}));
}

async fn a_status_without_effect_keeps_the_version(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let status = Patch::Merge(json!({"status": {"seen": 1}}));
    let first = world.things.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    let second = world.things.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(version(&first), version(&second));
}

async fn a_status_can_be_taken_away(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let status = |value: Value| Patch::Merge(json!({"status": value}));
    let params = PatchParams::default();
    world.things.patch_status("a", &params, &status(json!({"seen": 1}))).await.unwrap();
    let wiped = world.things.patch_status("a", &params, &status(Value::Null)).await.unwrap();
    assert_eq!(wiped.data.get("status"), None);
}

async fn a_kind_without_the_subresource_answers_404(world: World) {
    let plain = crate::world::object(&crate::world::kind("v1", "Plain", "plains"), "a", json!({}));
    world.plains.create(&PostParams::default(), &plain).await.unwrap();
    let path = format!("/apis/{GROUP}/v1/namespaces/{}/plains/a/status", world.namespace);
    assert_eq!(world.raw("GET", &path, "application/json", "").await.0, 404);
    assert_eq!(world.raw("PATCH", &path, "application/merge-patch+json", "{}").await.0, 404);
}

async fn a_status_of_a_missing_object_is_404(world: World) {
    let status = Patch::Merge(json!({"status": {"seen": 1}}));
    assert_eq!(code(world.things.patch_status("nobody", &PatchParams::default(), &status).await), 404);
}
