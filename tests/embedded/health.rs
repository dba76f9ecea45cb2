//! What Argo CD makes of refusals, as the controller really writes them.

use serde_json::{Value, json};

use crate::{
    expose::gateway,
    lua::health,
    world::{NAMESPACE, World, rollout, same},
};

/// The health of the Rollout `iris`, once it stands there.
async fn health_when(world: &World, phase: &str, reason: &str) -> String {
    world.stands(phase, reason).await;
    let object = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
    let health = health("Rollout", &object);
    assert!(health.message.contains(reason) || phase == "Healthy", "{reason}: {health:?}");
    health.status
}

fn with(field: &str, value: Value) -> Value {
    let mut object = rollout(&json!([{"weight": 50, "for": "5s"}]));
    object["spec"][field] = value;
    object
}

fn exposed(expose: Value) -> Value {
    let mut object = with("expose", expose);
    object["spec"].as_object_mut().unwrap().remove("routes");
    object
}

#[tokio::test(start_paused = true)]
async fn before_anything_was_live_what_the_same_sync_may_bring_is_awaited() {
    let target = |service: Value| with("target", json!({"service": service}));
    for (object, routes, reason, expected) in [
        (target(json!({"name": "nobody"})), true, "TargetNotFound", "Progressing"),
        (target(json!({"name": "iris-v2", "subset": "v2"})), true, "SubsetNotFound", "Progressing"),
        (with("routes", json!([{"virtualService": "iris"}])), false, "VirtualServiceNotFound", "Progressing"),
        (
            with("routes", json!([{"virtualService": "iris", "http": ["other"]}])),
            true,
            "RouteNotFound",
            "Progressing",
        ),
        (exposed(json!({})), false, "GatewayNotFound", "Progressing"),
        (exposed(json!({"delegate": true})), false, "NotDelegated", "Progressing"),
        (exposed(json!({"prefix": "iris"})), false, "InvalidSpec", "Degraded"),
    ] {
        let world = if routes { World::new().await } else { World::without_routes().await };
        world.create(object).await;
        let _sluice = world.controller();
        same(&health_when(&world, "Pending", reason).await.as_str(), &expected, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn of_one_that_was_live_a_mistake_is_a_mistake() {
    let world = World::new().await;
    let live = json!({"service": {"name": "iris-v1", "subset": null}});
    world.create(with("target", json!({"service": {"name": "iris-v1"}}))).await;
    let _sluice = world.controller();
    same(&health_when(&world, "Healthy", "Live").await.as_str(), &"Healthy", "a live one");
    for (change, mended, reason) in [
        (json!({"target": {"service": {"name": "iris-v3"}}}), json!({"target": live}), "TargetNotFound"),
        (
            json!({"target": {"service": {"name": "iris-v2", "subset": "v2"}}}),
            json!({"target": live}),
            "SubsetNotFound",
        ),
        (
            json!({"routes": [{"virtualService": "other"}]}),
            json!({"routes": [{"virtualService": "iris", "http": ["primary"]}]}),
            "VirtualServiceNotFound",
        ),
    ] {
        world.patch_rollout(json!({"spec": change})).await;
        same(&health_when(&world, "Pending", reason).await.as_str(), &"Degraded", reason);
        world.patch_rollout(json!({"spec": mended})).await;
        same(&health_when(&world, "Healthy", "Live").await.as_str(), &"Healthy", "a mended one");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_generated_route_that_was_live_a_gateway_that_is_not_there_is_a_mistake() {
    let world = World::without_routes().await;
    gateway(&world).await;
    let mut object = exposed(json!({}));
    object["spec"]["target"] = json!({"service": {"name": "iris-v1"}});
    world.create(object).await;
    let _sluice = world.controller();
    same(&health_when(&world, "Healthy", "Live").await.as_str(), &"Healthy", "a live one");
    world.patch_rollout(json!({"spec": {"expose": {"gateways": ["istio-system/nowhere"]}}})).await;
    same(&health_when(&world, "Pending", "GatewayNotFound").await.as_str(), &"Degraded", "a mistake");
}
