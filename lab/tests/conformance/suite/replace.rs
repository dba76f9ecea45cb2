//! Replacing objects (PUT): versions, generations, and writes that change nothing.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde_json::json;

use crate::world::{World, code, generation, object, refusal, thing, version};

tests![
    a_replace_under_the_version_that_was_read_is_taken,
    a_stale_version_is_409,
    a_custom_object_without_a_version_is_422,
    a_config_map_without_a_version_is_taken,
    a_lease_without_a_version_is_422,
    what_is_missing_is_404,
    another_name_than_in_the_url_is_400,
    another_uid_is_409,
    a_write_without_effect_keeps_the_version,
    the_generation_counts_changes_of_the_spec,
    without_a_status_subresource_the_generation_counts_the_status_too,
    what_the_server_keeps_cannot_be_changed,
    versions_only_grow,
];

async fn a_replace_under_the_version_that_was_read_is_taken(world: World) {
    let mut made = world.thing("a", json!({"size": 1, "gone": true})).await;
    made.data = json!({"spec": {"size": 2}});
    let replaced = world.things.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(replaced.data["spec"], json!({"size": 2}));
    assert_ne!(version(&replaced), version(&made));
    assert_eq!(replaced.uid(), made.uid());
}

async fn a_stale_version_is_409(world: World) {
    let mut made = world.thing("a", json!({"size": 1})).await;
    made.data["spec"]["size"] = 2.into();
    world.things.replace("a", &PostParams::default(), &made).await.unwrap();
    made.data["spec"]["size"] = 3.into();
    let refused = refusal(world.things.replace("a", &PostParams::default(), &made).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("the object has been modified"), "{}", refused.message);
    assert_eq!(world.things.get("a").await.unwrap().data["spec"]["size"], 2);
}

async fn a_custom_object_without_a_version_is_422(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let refused = refusal(world.things.replace("a", &PostParams::default(), &thing("a", json!({}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert_eq!(refused.details.unwrap().causes[0].field, "metadata.resourceVersion");
}

async fn a_config_map_without_a_version_is_taken(world: World) {
    let map = |value: &str| ConfigMap {
        metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() },
        data: Some([("value".to_string(), value.to_string())].into()),
        ..ConfigMap::default()
    };
    let made = world.maps.create(&PostParams::default(), &map("1")).await.unwrap();
    assert_eq!(made.metadata.generation, None, "not every kind has a generation");
    let replaced = world.maps.replace("a", &PostParams::default(), &map("2")).await.unwrap();
    assert_eq!(replaced.data.unwrap()["value"], "2");
    assert_eq!(replaced.metadata.uid, made.metadata.uid);
}

async fn a_lease_without_a_version_is_422(world: World) {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let metadata = ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() };
    let mut lease = Lease { metadata, ..Lease::default() };
    let mut made = leases.create(&PostParams::default(), &lease).await.unwrap();
    lease.spec.get_or_insert_default().holder_identity = Some("me".into());
    assert_eq!(code(leases.replace("a", &PostParams::default(), &lease).await), 422);
    made.spec.get_or_insert_default().holder_identity = Some("me".into());
    leases.replace("a", &PostParams::default(), &made).await.unwrap();
    made.spec.get_or_insert_default().holder_identity = Some("you".into());
    assert_eq!(code(leases.replace("a", &PostParams::default(), &made).await), 409);
}

async fn what_is_missing_is_404(world: World) {
    let nobody = thing("nobody", json!({"metadata": {"resourceVersion": "1"}}));
    assert_eq!(code(world.things.replace("nobody", &PostParams::default(), &nobody).await), 404);
}

async fn another_name_than_in_the_url_is_400(world: World) {
    let made = world.thing("a", json!({})).await;
    let mut other = made.clone();
    other.metadata.name = Some("b".into());
    assert_eq!(code(world.things.replace("a", &PostParams::default(), &other).await), 400);
}

async fn another_uid_is_409(world: World) {
    let mut made = world.thing("a", json!({})).await;
    made.metadata.uid = Some("11111111-1111-4111-8111-111111111111".into());
    let refused = refusal(world.things.replace("a", &PostParams::default(), &made).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("Precondition failed"), "{}", refused.message);
}

async fn a_write_without_effect_keeps_the_version(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let replaced = world.things.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(version(&replaced), version(&made));
}

async fn the_generation_counts_changes_of_the_spec(world: World) {
    let mut made = world.thing("a", json!({"size": 1})).await;
    made.labels_mut().insert("color".into(), "red".into());
    let mut labelled = world.things.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(generation(&labelled), Some(1));
    assert_ne!(version(&labelled), version(&made));
    labelled.data["spec"]["size"] = 2.into();
    let mut changed = world.things.replace("a", &PostParams::default(), &labelled).await.unwrap();
    assert_eq!(generation(&changed), Some(2));
    changed.data["other"] = json!({"field": 1});
    let changed = world.things.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(generation(&changed), Some(3), "all but metadata and status is the spec");
}

async fn without_a_status_subresource_the_generation_counts_the_status_too(world: World) {
    let plain = object(&crate::world::kind("v1", "Plain", "plains"), "a", json!({"spec": {"size": 1}}));
    let mut made = world.plains.create(&PostParams::default(), &plain).await.unwrap();
    made.data["status"] = json!({"seen": 1});
    let changed = world.plains.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(changed.data["status"], json!({"seen": 1}));
    assert_eq!(generation(&changed), Some(2));
}

async fn what_the_server_keeps_cannot_be_changed(world: World) {
    let made = world.thing("a", json!({"size": 1})).await;
    let mut changed = made.clone();
    changed.metadata.generation = Some(9);
    changed.metadata.creation_timestamp = None;
    changed.metadata.uid = None;
    let replaced = world.things.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(generation(&replaced), Some(1));
    assert_eq!(replaced.metadata.creation_timestamp, made.metadata.creation_timestamp);
    assert_eq!(replaced.uid(), made.uid());
    assert_eq!(version(&replaced), version(&made), "so nothing has changed");
}

async fn versions_only_grow(world: World) {
    let number = |o: &kube::api::DynamicObject| version(o).parse::<u64>().unwrap();
    let mut last = number(&world.thing("a", json!({"size": 0})).await);
    for size in 1..4 {
        let other = world.thing(&format!("other-{size}"), json!({})).await;
        let changed = crate::world::merge(&world.things, "a", json!({"spec": {"size": size}})).await.unwrap();
        assert!(last < number(&other) && number(&other) < number(&changed));
        last = number(&changed);
    }
}
