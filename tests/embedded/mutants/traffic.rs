//! Controllers that write the wrong traffic.

use std::time::Duration;

use kube::{
    api::{Api, ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use sluice_lab::embedded::Then;

use super::{
    and, half, in_weights, is_caught, routes, seconds, told_ready, two_steps, where_it_says, without,
};
use crate::world::{CONTROLLER, NAMESPACE, World};

/// Writes by hand under the controller's name.
async fn by_hand(world: &World, group: &str, kind: &str, name: &str, change: Value) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let objects: Api<DynamicObject> = Api::namespaced_with(world.api.client_as(CONTROLLER), NAMESPACE, &kind);
    let patch = if change.is_array() {
        Patch::Json(serde_json::from_value(change).unwrap())
    } else {
        Patch::Merge(change)
    };
    objects.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn weights_that_do_not_add_up_are_caught() {
    let less = || in_weights(|_, weight| weight - weight / 10);
    is_caught(1, half(), |faults| faults.on(routes(), Then::Tamper(less())), async |_| seconds(5).await)
        .await;
}

#[tokio::test(start_paused = true)]
async fn traffic_without_an_endpoint_is_caught() {
    let play = async |world: &World| {
        seconds(3).await;
        world.scene.set_ready("iris-v2-0", false).await.unwrap();
        seconds(10).await;
    };
    is_caught(2, half(), |faults| told_ready(faults, "iris-v2"), play).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_takes_nothing_away_is_caught() {
    // Three writes are sound: stable is adopted, a rollout starts, the first step is entered.
    let from_then_on = || routes().from(4);
    let keeps = || in_weights(|_, _| 50);
    let play = async |world: &World| {
        seconds(3).await;
        world.fails(0.5);
        seconds(30).await;
    };
    is_caught(3, half(), |faults| faults.on(from_then_on(), Then::Tamper(keeps())), play).await;
}

#[tokio::test(start_paused = true)]
async fn more_traffic_than_was_decided_is_caught() {
    let more = |place, weight| match (place, weight) {
        (1, 50) => 70,
        (0, 50) => 30,
        _ => weight,
    };
    let breaks = |faults: &sluice_lab::embedded::Faults| faults.on(routes(), Then::Tamper(in_weights(more)));
    is_caught(4, half(), breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_match_that_nobody_decided_is_caught() {
    let own = json!({"name": "sluice-elsewhere/iris/primary", "match": [{"headers": {"x-group": {"exact": "beta"}}}],
        "route": [{"destination": {"host": "iris-v2", "port": {"number": 8000}}}]});
    let adds = || where_it_says("weight", and(json!({"op": "add", "path": "/spec/http/0", "value": own})));
    let breaks = |faults: &sluice_lab::embedded::Faults| faults.on(routes().nth(3), Then::Tamper(adds()));
    is_caught(4, half(), breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn hashes_beyond_the_weight_are_caught() {
    let more = || {
        sluice_lab::embedded::Tamper::with(|patch| {
            let text = patch.to_string().replace("[0-3][0-9a-f]{3}", "[0-4][0-9a-f]{3}");
            *patch = serde_json::from_str(&text).unwrap();
        })
    };
    let quarter = json!([{"weight": 25, "sticky": {"header": "x-user"}, "for": "10m"}]);
    let breaks = |faults: &sluice_lab::embedded::Faults| faults.on(routes(), Then::Tamper(more()));
    is_caught(4, crate::world::rollout(&quarter), breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn more_copies_than_were_decided_are_caught() {
    let more = || {
        sluice_lab::embedded::Tamper::with(|patch| {
            for operation in patch.as_array_mut().into_iter().flatten() {
                super::put(operation, "/value/0/percentage/value", 50);
            }
        })
    };
    let shadow = crate::world::rollout(&json!([{"mirror": 10, "for": "10m"}]));
    let breaks = |faults: &sluice_lab::embedded::Faults| faults.on(routes(), Then::Tamper(more()));
    is_caught(4, shadow, breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_step_without_an_endpoint_is_caught() {
    let play = async |world: &World| {
        world.scene.service("iris-v3").await.unwrap();
        let address = "127.1.2.3:8080".parse().unwrap();
        world.scene.pod("iris-v3-0", "iris-v3", address).await.unwrap();
        world.scene.set_ready("iris-v3-0", false).await.unwrap();
        seconds(3).await;
        world.want("iris-v3").await;
        seconds(3).await;
    };
    is_caught(4, half(), |faults| told_ready(faults, "iris-v3"), play).await;
}

#[tokio::test(start_paused = true)]
async fn a_field_of_others_that_is_dropped_is_caught() {
    let drops = || where_it_says("Aborted", and(json!({"op": "remove", "path": "/metadata/labels/team"})));
    let play = async |world: &World| {
        seconds(3).await;
        world.patch_virtual_service(json!({"metadata": {"labels": {"team": "flowers"}}})).await;
        world.ask("Abort", "stop").await;
        seconds(5).await;
    };
    is_caught(6, half(), |faults| faults.on(routes(), Then::Tamper(drops())), play).await;
}

#[tokio::test(start_paused = true)]
async fn hosts_that_change_places_are_caught() {
    let swaps = and(json!({"op": "move", "from": "/spec/hosts/0", "path": "/spec/hosts/1"}));
    let swaps = || where_it_says("Aborted", swaps.clone());
    let play = async |world: &World| {
        world.patch_virtual_service(json!({"spec": {"hosts": ["a.example.com", "iris.example.com"]}})).await;
        seconds(3).await;
        world.ask("Abort", "stop").await;
        seconds(3).await;
    };
    is_caught(6, half(), |faults| faults.on(routes(), Then::Tamper(swaps())), play).await;
}

/// A Deployment behind iris-v1, and what is done to it, or to the Service, by a controller that is not ours.
async fn changes_stable(group: &str, kind: &str, change: &Value) {
    for at_work in [false, true] {
        let mut world = World::new().await;
        world
            .create(json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "iris-v1"},
                "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "iris-v1"}}}},
            }))
            .await;
        world.create(half()).await;
        let _sluice = world.controller();
        world.weighs(50, 50).await;
        if !at_work {
            // Nobody asks it any more.
            world.ask("PromoteFull", "go").await;
            world.stands("Healthy", "Live").await;
            world.sees("it has left", |status| status["retiring"].is_null()).await;
        }
        by_hand(&world, group, kind, "iris-v1", change.clone()).await;
        let found = world.broken();
        assert_eq!(found.iter().any(|violation| violation.guarantee == 9), at_work, "{found:#?}");
        assert!(found.iter().all(|violation| violation.guarantee == 9), "{found:#?}");
    }
}

// breaks 9
#[tokio::test(start_paused = true)]
async fn a_stable_that_is_scaled_down_is_caught() {
    changes_stable("apps", "Deployment", &json!({"spec": {"replicas": 2}})).await;
}

// breaks 9
#[tokio::test(start_paused = true)]
async fn a_stable_that_is_changed_is_caught() {
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "new"}]}}}});
    changes_stable("apps", "Deployment", &template).await;
    changes_stable("", "Service", &json!({"spec": {"selector": {"app": "iris-v2"}}})).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_onto_a_stable_without_endpoints_is_caught() {
    let play = async |world: &World| {
        seconds(3).await;
        world.scene.set_ready("iris-v1-0", false).await.unwrap();
        seconds(3).await;
        world.fails(0.5);
        seconds(30).await;
    };
    is_caught(10, half(), |faults| told_ready(faults, "iris-v1"), play).await;
}

// breaks 12
#[tokio::test(start_paused = true)]
async fn a_route_or_a_mirror_that_is_left_behind_is_caught() {
    let canary = json!({"host": "iris-v2", "port": {"number": 8000}});
    // Of a namespace that it is not of, or the controller itself would take it away.
    let own = json!({"name": "sluice-elsewhere/iris/primary", "match": [{"headers": {"x-group": {"exact": "beta"}}}],
        "route": [{"destination": canary}]});
    let mirror = json!([{"destination": canary, "percentage": {"value": 100}}]);
    let leftovers = [
        json!([{"op": "add", "path": "/spec/http/0", "value": own}]),
        json!([{"op": "add", "path": "/spec/http/0/mirrors", "value": mirror}]),
    ];
    for left in leftovers {
        for in_time in [true, false] {
            let mut world = World::new().await;
            world.create(half()).await;
            let _sluice = world.controller();
            world.weighs(50, 50).await;
            by_hand(&world, "networking.istio.io", "VirtualService", "iris", left.clone()).await;
            if in_time {
                let undone = json!([{"op": "remove", "path": left[0]["path"]}]);
                by_hand(&world, "networking.istio.io", "VirtualService", "iris", undone).await;
            }
            world.ask("Abort", "stop").await;
            world.stands("RolledBack", "Aborted").await;
            seconds(10).await;
            let found = world.broken();
            assert_eq!(found.iter().any(|v| v.guarantee == 12), !in_time, "{found:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_leader_that_overwrites_a_later_decision_is_caught() {
    let play = async |world: &World| {
        seconds(1).await;
        world.ask("Abort", "stop").await;
        let _second = world.controller();
        seconds(8).await;
    };
    // The third write of the VirtualService enters the first step. It comes late, and forces its way.
    let third = || routes().nth(3);
    for forces in [false, true] {
        let mut world = World::new().await;
        let connection = world.api.connect(CONTROLLER);
        connection.faults().on(third(), Then::Delay(Duration::from_secs(3)));
        if forces {
            connection.faults().on(third(), Then::Tamper(without("/metadata/resourceVersion")));
        }
        let _first = world.controller_over(connection, None);
        world.create(half()).await;
        play(&world).await;
        let found = world.broken();
        // breaks 13
        assert_eq!(found.iter().any(|v| v.guarantee == 13), forces, "{found:#?}");
        assert!(forces || found.is_empty(), "{found:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_without_its_stamp_is_caught() {
    let play = async |world: &World| {
        seconds(3).await;
        world.ask("Abort", "stop").await;
        seconds(5).await;
    };
    let unstamped = || where_it_says("Aborted", without("stamp"));
    is_caught(13, two_steps(), |faults| faults.on(routes(), Then::Tamper(unstamped())), play).await;
}
