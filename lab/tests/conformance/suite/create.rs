//! Making objects and reading them back.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};

use crate::world::{GROUP, World, code, generation, object, refusal, thing, thing_kind, version};

tests![
    a_created_object_has_what_the_server_fills_in,
    what_the_server_fills_in_cannot_be_brought_along,
    creating_an_object_again_is_409,
    a_status_is_dropped_where_it_is_a_subresource,
    a_status_is_kept_where_it_is_none,
    generate_name_appends_five_characters,
    an_object_without_a_name_is_422,
    a_name_that_is_no_dns_subdomain_is_422,
    an_object_of_another_version_is_400_and_of_another_kind_422,
    an_object_of_another_namespace_is_400,
    a_missing_namespace_is_404,
    a_missing_object_is_404_with_its_name,
    an_unknown_resource_is_404,
    what_is_no_object_is_400,
    a_dry_run_leaves_nothing,
    versions_of_a_kind_share_their_objects,
];

async fn a_created_object_has_what_the_server_fills_in(world: World) {
    let body = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Thing", "metadata": {"name": "a"}, "spec": {"size": 1},
    });
    let (code, made) = world.raw("POST", &world.path(), "application/json", &body.to_string()).await;
    assert_eq!(code, 201);
    assert_eq!(made["kind"], "Thing");
    assert_eq!(made["apiVersion"], format!("{GROUP}/v1"));
    assert_eq!(made["metadata"]["namespace"], world.namespace.as_str());
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"], json!({"size": 1}));
    let text = |field: &str| made["metadata"][field].as_str().unwrap().to_string();
    assert!(text("resourceVersion").parse::<u64>().unwrap() > 0);
    assert_eq!(text("uid").len(), 36);
    assert!(chrono::DateTime::parse_from_rfc3339(&text("creationTimestamp")).is_ok());
    assert!(text("creationTimestamp").ends_with('Z'));
    let read = world.things.get("a").await.unwrap();
    assert_eq!(version(&read), text("resourceVersion"));
}

async fn what_the_server_fills_in_cannot_be_brought_along(world: World) {
    let metadata = json!({
        "uid": "11111111-1111-4111-8111-111111111111", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z",
    });
    let made = thing("a", json!({"metadata": metadata}));
    let made = world.things.create(&PostParams::default(), &made).await.unwrap();
    assert_ne!(made.uid().unwrap(), "11111111-1111-4111-8111-111111111111");
    assert_eq!(generation(&made), Some(1));
    assert!(made.creation_timestamp().unwrap().0.to_string().as_str() > "2020");
    assert!(made.metadata.deletion_timestamp.is_none());
    let versioned = thing("b", json!({"metadata": {"resourceVersion": "1"}}));
    let refused = refusal(world.things.create(&PostParams::default(), &versioned).await);
    assert_eq!(refused.message, "resourceVersion should not be set on objects to be created");
}

async fn creating_an_object_again_is_409(world: World) {
    world.thing("a", json!({})).await;
    let refused =
        refusal(world.things.create(&PostParams::default(), &thing("a", json!({"spec": {"size": 2}}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(refused.message, format!("things.{GROUP} \"a\" already exists"));
    let details = refused.details.unwrap();
    assert_eq!(
        (details.name.as_str(), details.group.as_str(), details.kind.as_str()),
        ("a", GROUP, "things")
    );
}

async fn a_status_is_dropped_where_it_is_a_subresource(world: World) {
    let made = thing("a", json!({"spec": {"size": 1}, "status": {"seen": 1}}));
    let made = world.things.create(&PostParams::default(), &made).await.unwrap();
    assert_eq!(made.data["status"], Value::Null);
}

async fn a_status_is_kept_where_it_is_none(world: World) {
    let plain = object(&crate::world::kind("v1", "Plain", "plains"), "a", json!({"status": {"seen": 1}}));
    let made = world.plains.create(&PostParams::default(), &plain).await.unwrap();
    assert_eq!(made.data["status"], json!({"seen": 1}));
}

async fn generate_name_appends_five_characters(world: World) {
    let nameless = thing("", json!({"metadata": {"generateName": "a-thing-"}}));
    let first = world.things.create(&PostParams::default(), &nameless).await.unwrap().name_any();
    let second = world.things.create(&PostParams::default(), &nameless).await.unwrap().name_any();
    assert_ne!(first, second);
    for name in [first, second] {
        assert_eq!(name.strip_prefix("a-thing-").unwrap().len(), 5, "{name}");
    }
}

async fn an_object_without_a_name_is_422(world: World) {
    let refused = refusal(world.things.create(&PostParams::default(), &thing("", json!({}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert!(refused.message.contains("name or generateName is required"), "{}", refused.message);
}

async fn a_name_that_is_no_dns_subdomain_is_422(world: World) {
    for name in ["Upper", "under_score", "-dash", "dash-", "dot..dot"] {
        let refused = refusal(world.things.create(&PostParams::default(), &thing(name, json!({}))).await);
        assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"), "{name}");
        assert_eq!(refused.details.unwrap().causes[0].field, "metadata.name");
    }
}

async fn an_object_of_another_version_is_400_and_of_another_kind_422(world: World) {
    for (version, kind, expected) in
        [("v1beta1", "Thing", (400, "BadRequest")), ("v1", "Plain", (422, "Invalid"))]
    {
        let api_version = format!("{GROUP}/{version}");
        let body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}}).to_string();
        let (code, status) = world.raw("POST", &world.path(), "application/json", &body).await;
        assert_eq!((code, status["reason"].as_str().unwrap()), expected, "{status}");
    }
}

async fn an_object_of_another_namespace_is_400(world: World) {
    let body = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Thing", "metadata": {"name": "a", "namespace": "default"},
    });
    let (code, status) = world.raw("POST", &world.path(), "application/json", &body.to_string()).await;
    assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")), "{status}");
}

async fn a_missing_namespace_is_404(world: World) {
    let nowhere: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), "nowhere", &thing_kind("v1"));
    let refused = refusal(nowhere.create(&PostParams::default(), &thing("a", json!({}))).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    let listed = nowhere.list(&kube::api::ListParams::default()).await.unwrap();
    assert!(listed.items.is_empty(), "to list it is no error");
}

async fn a_missing_object_is_404_with_its_name(world: World) {
    let refused = refusal(world.things.get("nobody").await);
    assert_eq!((refused.code, refused.reason.as_str()), (404, "NotFound"));
    assert_eq!(refused.message, format!("things.{GROUP} \"nobody\" not found"));
    assert_eq!(refused.details.unwrap().name, "nobody");
}

async fn an_unknown_resource_is_404(world: World) {
    for path in [
        format!("/apis/{GROUP}/v1/namespaces/default/nothings"),
        "/apis/nowhere.example.com/v1/things".into(),
    ] {
        assert_eq!(world.raw("GET", &path, "application/json", "").await.0, 404, "{path}");
    }
}

async fn what_is_no_object_is_400(world: World) {
    for body in ["{", "[]", "7"] {
        let (code, _) = world.raw("POST", &world.path(), "application/json", body).await;
        assert_eq!(code, 400, "{body}");
    }
}

async fn a_dry_run_leaves_nothing(world: World) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let made = world.things.create(&dry, &thing("a", json!({"spec": {"size": 1}}))).await.unwrap();
    assert!(made.uid().is_some());
    assert_eq!(code(world.things.get("a").await), 404);
}

async fn versions_of_a_kind_share_their_objects(world: World) {
    let older: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &thing_kind("v1beta1"));
    let made = world.thing("a", json!({"size": 1})).await;
    let mut read = older.get("a").await.unwrap();
    assert_eq!(read.types.as_ref().unwrap().api_version, format!("{GROUP}/v1beta1"));
    assert_eq!(version(&read), version(&made));
    read.data["spec"]["size"] = 2.into();
    older.replace("a", &PostParams::default(), &read).await.unwrap();
    let read = world.things.get("a").await.unwrap();
    assert_eq!(read.types.as_ref().unwrap().api_version, format!("{GROUP}/v1"));
    assert_eq!((read.data["spec"]["size"].as_i64(), generation(&read)), (Some(2), Some(2)));
}
