//! What goes by itself: dependents with their owners, the contents of a namespace with the namespace.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, PropagationPolicy},
};
use serde_json::json;
use sluice_lab::scene::eventually;

use crate::world::{LIMIT, World, code};

tests![
    dependents_go_with_their_owner,
    a_dependent_stays_while_another_owner_is_left,
    orphans_outlive_their_owner,
    a_namespace_takes_its_contents_with_it,
];

/// Built-in kinds own here: the real collector learns of new ones only every 30 seconds.
async fn owner(world: &World, name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    world.maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap()
}

fn reference(owner: &ConfigMap) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.name_any(),
        uid: owner.uid().unwrap(),
        ..OwnerReference::default()
    }
}

async fn dependent(world: &World, name: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let references = owners.iter().map(|o| reference(o)).collect();
    let metadata =
        ObjectMeta { name: Some(name.into()), owner_references: Some(references), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    world.maps.create(&PostParams::default(), &object).await.unwrap()
}

async fn gone(world: &World, name: &str) {
    let gone = || async {
        match world.maps.get_opt(name).await.unwrap() {
            None => Ok(()),
            Some(_) => Err(format!("{name} is there")),
        }
    };
    eventually(LIMIT, "the dependent is gone", gone).await.unwrap();
}

async fn dependents_go_with_their_owner(world: World) {
    let owner = owner(&world, "owner").await;
    dependent(&world, "first", &[&owner]).await;
    dependent(&world, "second", &[&owner]).await;
    world.maps.delete("owner", &DeleteParams::default()).await.unwrap();
    gone(&world, "first").await;
    gone(&world, "second").await;
}

async fn a_dependent_stays_while_another_owner_is_left(world: World) {
    let (one, two) = (owner(&world, "one").await, owner(&world, "two").await);
    dependent(&world, "both", &[&one, &two]).await;
    dependent(&world, "alone", &[&one]).await;
    world.maps.delete("one", &DeleteParams::default()).await.unwrap();
    gone(&world, "alone").await;
    let only = || async {
        let left = world.maps.get("both").await.map_err(|e| e.to_string())?.owner_references().to_vec();
        if left == [reference(&two)] { Ok(()) } else { Err(format!("{left:?}")) }
    };
    eventually(LIMIT, "only the other owner is named", only).await.unwrap();
    world.maps.delete("two", &DeleteParams::default()).await.unwrap();
    gone(&world, "both").await;
}

async fn orphans_outlive_their_owner(world: World) {
    let owner = owner(&world, "owner").await;
    dependent(&world, "orphan", &[&owner]).await;
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.maps.delete("owner", &params).await.unwrap();
    let orphaned = || async {
        let owner = world.maps.get_opt("owner").await.unwrap();
        let left = world.maps.get("orphan").await.unwrap().owner_references().to_vec();
        if owner.is_none() && left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    };
    eventually(LIMIT, "the owner is gone and no longer named", orphaned).await.unwrap();
}

async fn a_namespace_takes_its_contents_with_it(world: World) {
    world.thing("a", json!({})).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let gone = || async {
        match namespaces.get_opt(&world.namespace).await.unwrap() {
            None => Ok(()),
            Some(left) => Err(format!("{:?}", left.status)),
        }
    };
    eventually(LIMIT, "the namespace is gone", gone).await.unwrap();
    assert_eq!(code(world.things.get("a").await), 404);
}
