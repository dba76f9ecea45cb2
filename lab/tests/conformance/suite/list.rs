//! Lists and selectors.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde_json::json;

use crate::world::{GROUP, World, code, refusal, thing_kind};

tests![
    a_list_is_ordered_and_has_a_version,
    all_namespaces_are_listed_together,
    label_selectors_narrow_a_list,
    field_selectors_narrow_a_list,
    an_unknown_field_is_400,
    a_selector_that_cannot_be_read_is_400,
    pages_hold_every_object_once,
    only_the_metadata_can_be_had,
];

async fn names(world: &World, params: &ListParams) -> Vec<String> {
    world.things.list(params).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

async fn a_list_is_ordered_and_has_a_version(world: World) {
    for name in ["c", "a", "b"] {
        world.thing(name, json!({})).await;
    }
    let (code, list) = world.raw("GET", &world.path(), "application/json", "").await;
    assert_eq!(code, 200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ThingList"), &json!(format!("{GROUP}/v1"))));
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(list["items"][0]["kind"], "Thing");
    assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
}

async fn all_namespaces_are_listed_together(world: World) {
    world.thing("here", json!({})).await;
    let elsewhere: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), "default", &thing_kind("v1"));
    let name = format!("there-{}", world.namespace);
    let there = crate::world::thing(&name, json!({}));
    elsewhere.create(&kube::api::PostParams::default(), &there).await.unwrap();
    let all: Api<DynamicObject> = Api::all_with(world.client.clone(), &thing_kind("v1"));
    let listed = all.list(&ListParams::default()).await.unwrap();
    let has = |namespace: &str, name: &str| {
        listed.iter().any(|o| o.name_any() == name && o.namespace().as_deref() == Some(namespace))
    };
    assert!(has(&world.namespace, "here") && has("default", &name));
    assert_eq!(names(&world, &ListParams::default()).await, ["here"]);
    elsewhere.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
}

async fn label_selectors_narrow_a_list(world: World) {
    world.colored("a", "red").await;
    world.colored("b", "blue").await;
    world.thing("c", json!({})).await;
    for (selector, expected) in [
        ("color=red", vec!["a"]),
        ("color==red", vec!["a"]),
        ("color!=red", vec!["b", "c"]),
        ("color in (red, blue)", vec!["a", "b"]),
        ("color notin (red)", vec!["b", "c"]),
        ("color", vec!["a", "b"]),
        ("!color", vec!["c"]),
        ("color,color!=blue", vec!["a"]),
    ] {
        assert_eq!(names(&world, &ListParams::default().labels(selector)).await, expected, "{selector}");
    }
}

async fn field_selectors_narrow_a_list(world: World) {
    world.thing("a", json!({})).await;
    world.thing("b", json!({})).await;
    assert_eq!(names(&world, &ListParams::default().fields("metadata.name=a")).await, ["a"]);
    assert_eq!(names(&world, &ListParams::default().fields("metadata.name!=a")).await, ["b"]);
    let here = format!("metadata.namespace={}", world.namespace);
    assert_eq!(names(&world, &ListParams::default().fields(&here)).await, ["a", "b"]);
}

async fn an_unknown_field_is_400(world: World) {
    let refused = refusal(world.things.list(&ListParams::default().fields("spec.size=1")).await);
    assert_eq!((refused.code, refused.reason.as_str()), (400, "BadRequest"));
    assert!(refused.message.contains("field label not supported: spec.size"), "{}", refused.message);
}

async fn a_selector_that_cannot_be_read_is_400(world: World) {
    for params in
        [ListParams::default().labels("color near red"), ListParams::default().fields("metadata.name")]
    {
        assert_eq!(code(world.things.list(&params).await), 400, "{params:?}");
    }
}

async fn pages_hold_every_object_once(world: World) {
    for name in ["a", "b", "c", "d", "e"] {
        world.thing(name, json!({})).await;
    }
    let (mut params, mut seen) = (ListParams::default().limit(2), Vec::new());
    loop {
        let page = world.things.list(&params).await.unwrap();
        seen.extend(page.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
}

async fn only_the_metadata_can_be_had(world: World) {
    let made = world.colored("a", "red").await;
    let one = world.things.get_metadata("a").await.unwrap();
    assert_eq!(one.metadata.uid, made.metadata.uid);
    let all = world.things.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(all.items[0].metadata.labels, made.metadata.labels);
}
