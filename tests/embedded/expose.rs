//! Generated routes: made, moved, put back, never somebody else's, and gone with their Rollout.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Refusal, Then, When},
    gateway::{Load, Running},
    scene::{POD_PORT, eventually},
};

use crate::{
    oracle,
    world::{CONTROLLER, HOST, LIMIT, NAMESPACE, World, same, summary},
};

/// The Gateway that generated routes name by default.
pub async fn gateway(world: &World) {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "seldon-gateway", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
    world.create(namespace).await;
    world.create(object).await;
}

/// A hundred requests a second below a path.
pub fn users(world: &World, prefix: &str) -> Running {
    let uri = format!("http://{HOST}{prefix}/v2/models/iris/infer").parse().unwrap();
    let input = json!({"name": "input", "datatype": "FP64", "shape": [3], "data": [1.0, 2.0, 5.0]});
    Load::post(uri, json!({"inputs": [input]}).to_string()).rate(100.0).start(&world.gateway)
}

/// What each http route of the VirtualService `iris` gives to a Service.
fn weights(object: &Value, service: &str) -> Vec<u64> {
    let host = format!("{service}.{NAMESPACE}.svc.cluster.local");
    let routes = object["spec"]["http"].as_array().cloned().unwrap_or_default();
    let weight = |route: &Value| {
        let entries = route["route"].as_array().cloned().unwrap_or_default();
        let alone = entries.len() == 1;
        let of_it = entries.iter().filter(|entry| entry["destination"]["host"] == host.as_str());
        of_it.map(|entry| if alone { 100 } else { entry["weight"].as_u64().unwrap_or(0) }).sum()
    };
    routes.iter().map(weight).collect()
}

/// Every weight that the first route ever gave to a Service, each once while it lasted.
pub fn canary_weights(world: &World, service: &str) -> Vec<u64> {
    let mut seen = Vec::new();
    for write in oracle::routes_written(&world.api.history()) {
        let Some(after) = &write.after else { continue };
        let weight = weights(after, service)[0];
        if seen.last() != Some(&weight) {
            seen.push(weight);
        }
    }
    seen
}

fn rollout(target: &str, expose: &Value) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
        "spec": {
            "target": {"service": {"name": target}}, "expose": expose,
            "steps": [{"weight": 50, "for": "5s"}],
            "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
            "metrics": {"scrape": {"port": POD_PORT}}, "interval": "1s", "settle": "1s",
        },
    })
}

/// A world whose generated route gives everything to `iris-v1`.
async fn exposed(expose: &Value) -> (World, crate::world::Sluice, Running) {
    let world = World::without_routes().await;
    gateway(&world).await;
    world.create(rollout("iris-v1", expose)).await;
    let users = users(&world, "/seldon/models/iris");
    let sluice = world.controller();
    world.stands("Healthy", "Live").await;
    there(&world).await;
    (world, sluice, users)
}

fn stored(world: &World) -> Option<Value> {
    world
        .api
        .object("virtualservices.networking.istio.io", NAMESPACE, "iris")
        .map(|object| object.as_ref().clone())
}

async fn there(world: &World) {
    let look = || async { stored(world).map(drop).ok_or_else(|| summary(&world.status())) };
    eventually(LIMIT, "the VirtualService is there", look).await.unwrap();
}

/// Waits until the generated route gives that to `iris-v2`.
async fn gives(world: &World, weight: u64) {
    let look = || async {
        let seen = stored(world).map(|object| weights(&object, "iris-v2"));
        if seen == Some(vec![weight]) {
            Ok(())
        } else {
            Err(format!("{seen:?}, {}", summary(&world.status())))
        }
    };
    eventually(LIMIT, "the weight is on the route", look).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_generated_route_is_the_rollouts_own_and_goes_through_the_steps() {
    let (world, _sluice, users) = exposed(&json!({})).await;
    let object = stored(&world).unwrap();
    let owner = &object["metadata"]["ownerReferences"][0];
    let rollout = world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
    same(&owner["uid"], &rollout["metadata"]["uid"], "the owner");
    same(&owner["controller"], &json!(true), "that it is its controller");
    let to = |service: &str| json!({"host": format!("{service}.models.svc.cluster.local"), "port": {"number": 8000}});
    let spec = json!({
        "hosts": ["*"], "gateways": ["istio-system/seldon-gateway"],
        "http": [{
            "name": "http", "match": [{"uri": {"prefix": "/seldon/models/iris/"}}], "rewrite": {"uri": "/"},
            "route": [{"destination": to("iris-v1"), "weight": 100}],
        }],
    });
    same(&object["spec"], &spec, "the generated spec");
    let change = json!({"field": "spec.http[0].route[0].weight", "of": "iris-v1.models.svc.cluster.local", "to": "100"});
    let write = json!({"kind": "VirtualService", "namespace": "models", "name": "iris", "created": true, "changes": [change]});
    same(&world.status()["decisions"][0]["writes"], &json!([write]), "what is said to be written");
    world.want("iris-v2").await;
    world.stands("Healthy", "Live").await;
    gives(&world, 100).await;
    same(&canary_weights(&world, "iris-v2"), &vec![0, 50, 100], "the canary's weights");
    let report = users.stop().await;
    assert!(report.by("iris-v1") + report.by("iris-v2") > 500, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_breach_takes_all_traffic_back_on_a_generated_route() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.patch_rollout(json!({"spec": {"steps": [{"weight": 50, "for": "10m"}]}})).await;
    world.want("iris-v2").await;
    gives(&world, 50).await;
    world.fails(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    gives(&world, 0).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_a_hand_changes_in_it_is_put_back() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.patch_rollout(json!({"spec": {"steps": [{"weight": 50, "for": "10m"}]}})).await;
    world.want("iris-v2").await;
    gives(&world, 50).await;
    let right = stored(&world).unwrap()["spec"].clone();
    for change in [
        json!({"spec": {"hosts": ["other.example.com"]}}),
        json!({"spec": {"http": []}}),
        json!({"spec": {"gateways": null, "tcp": []}}),
    ] {
        world.patch_virtual_service(change).await;
        let look = || async {
            let seen = stored(&world).unwrap()["spec"].clone();
            if seen == right { Ok(()) } else { Err(seen.to_string()) }
        };
        eventually(LIMIT, "the spec is as it was", look).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_is_made_again_with_what_was_decided() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.patch_rollout(json!({"spec": {"steps": [{"weight": 50, "for": "10m"}]}})).await;
    world.want("iris-v2").await;
    gives(&world, 50).await;
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    objects.delete("iris", &DeleteParams::default()).await.unwrap();
    there(&world).await;
    gives(&world, 50).await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_its_rollout() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.delete_rollout().await;
    let look = || async { stored(&world).map_or(Ok(()), |object| Err(object.to_string())) };
    eventually(LIMIT, "the VirtualService is gone", look).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&stored(&world), &None, "what is there a minute later");
}

#[tokio::test(start_paused = true)]
async fn one_of_that_name_that_is_somebody_elses_is_not_touched() {
    let world = World::new().await;
    gateway(&world).await;
    let before = world.virtual_service();
    world.create(rollout("iris-v2", &json!({}))).await;
    let _sluice = world.controller();
    world.stands("Pending", "NameTaken").await;
    let message = world.status()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("VirtualService models/iris is there and is not this Rollout's"), "{message}");
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&world.virtual_service(), &before, "the VirtualService of somebody else");
    // Who takes it away makes room.
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    objects.delete("iris", &DeleteParams::default()).await.unwrap();
    world.stands("Healthy", "Live").await;
    there(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_not_there_is_refused_until_it_is() {
    let world = World::without_routes().await;
    world.create(rollout("iris-v1", &json!({}))).await;
    let _sluice = world.controller();
    world.stands("Pending", "GatewayNotFound").await;
    let message = world.status()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("there is no Gateway seldon-gateway in namespace istio-system"), "{message}");
    same(&stored(&world), &None, "the VirtualService");
    gateway(&world).await;
    world.stands("Healthy", "Live").await;
    there(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_to_a_gateway_that_is_not_there_moves_nothing_but_weights_are_still_put_back() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.stands("Healthy", "Live").await;
    let before = stored(&world).unwrap()["spec"].clone();
    world.patch_rollout(json!({"spec": {"expose": {"gateways": ["istio-system/nowhere"]}}})).await;
    world.stands("Pending", "GatewayNotFound").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&stored(&world).unwrap()["spec"], &before, "the route");

    let to =
        |service: &str| json!({"destination": {"host": service, "port": {"number": 8000}}, "weight": 50});
    let mut halved = before["http"].clone();
    halved[0]["route"] = json!([to("iris-v1"), to("iris-v2")]);
    // As a version of the middle of a rollout has it.
    let mut beside = before["http"].clone();
    beside[0]["mirrors"] = json!([{"destination": {"host": "iris-v2"}, "percentage": {"value": 10}}]);
    let cohort = json!({
        "name": "sluice-models/iris/http", "match": [{"headers": {"x-group": {"exact": "beta"}}}],
        "route": [to("iris-v2")],
    });
    beside.as_array_mut().unwrap().insert(0, cohort);
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    for drifted in [halved, beside] {
        let drift = Patch::Merge(json!({"spec": {"http": drifted}}));
        objects.patch("iris", &PatchParams::default(), &drift).await.unwrap();
        let look = || async {
            let seen = stored(&world).unwrap()["spec"].clone();
            if seen == before { Ok(()) } else { Err(seen.to_string()) }
        };
        eventually(LIMIT, "the route is put back", look).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tls_mode_goes_with_its_annotation() {
    let world = World::without_routes().await;
    gateway(&world).await;
    let mut object = rollout("iris-v1", &json!({}));
    object["spec"]["annotations"] = json!({"seldon.io/istio-tls-mode": "SIMPLE"});
    world.create(object).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    there(&world).await;
    let policy = || {
        let rule = world.api.object("destinationrules.networking.istio.io", NAMESPACE, "iris-v1");
        rule.map(|rule| rule["spec"]["trafficPolicy"].clone())
    };
    same(&policy(), &Some(json!({"tls": {"mode": "SIMPLE"}})), "how proxies speak to it");
    world.patch_rollout(json!({"spec": {"annotations": null}})).await;
    let plain = Some(json!({"connectionPool": {"http": {"idleTimeout": "60s"}}}));
    let look = || async { if policy() == plain { Ok(()) } else { Err(format!("{:?}", policy())) } };
    eventually(LIMIT, "the mode is gone", look).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn annotations_that_are_not_what_they_should_be_are_refused_by_name() {
    for (key, value, expected) in [
        ("seldon.io/istio-retries", "three", "\"three\" is not the number of retries"),
        ("seldon.io/istio-retries-timeout", "2s", "\"2s\" is not seconds"),
        ("seldon.io/istio-tls-mode", "STRICT", "\"STRICT\" is no TLS mode"),
        ("seldon.io/istio-gateway", "a/b/c", "\"a/b/c\" is no NAME or NAMESPACE/NAME"),
    ] {
        let world = World::without_routes().await;
        gateway(&world).await;
        let mut object = rollout("iris-v1", &json!({}));
        object["spec"]["annotations"] = json!({key: value});
        world.create(object).await;
        let _sluice = world.controller();
        world.stands("Pending", "InvalidSpec").await;
        let message = world.status()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(&format!("spec.annotations[{key}]")) && message.contains(expected),
            "{message}"
        );
        same(&stored(&world), &None, "the VirtualService");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_without_retries_is_said_to_mean_nothing() {
    let (world, _sluice, _users) = exposed(&json!({})).await;
    world.patch_rollout(json!({"spec": {"annotations": {"seldon.io/istio-retries-timeout": "2"}}})).await;
    world
        .sees("the condition warns", |status| {
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| {
                condition["type"] == "Accepted"
                    && condition["status"] == "True"
                    && condition["message"]
                        .as_str()
                        .is_some_and(|message| message.contains("means nothing without"))
            })
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_subset_that_is_in_no_rule_moves_nothing() {
    let world = World::new().await;
    let mut object = crate::world::rollout(&json!([{"weight": 50, "for": "5s"}]));
    object["spec"]["target"]["service"]["subset"] = "v2".into();
    world.create(object).await;
    let before = world.virtual_service()["spec"].clone();
    let _sluice = world.controller();
    world.stands("Pending", "SubsetNotFound").await;
    let message = world.status()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("subset \"v2\" of Service models/iris-v2 is in no DestinationRule"),
        "{message}"
    );
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&world.virtual_service()["spec"], &before, "the route");
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "iris-v2"},
        "spec": {"host": "iris-v2", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]},
    });
    world.create(rule).await;
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn subsets_of_generated_routes_have_a_rule_that_is_the_rollouts_too() {
    let world = World::without_routes().await;
    gateway(&world).await;
    let mut object = rollout("iris-v1", &json!({}));
    object["spec"]["target"]["service"]["subset"] = "v1".into();
    world.create(object).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    there(&world).await;
    let rule = || world.api.object("destinationrules.networking.istio.io", NAMESPACE, "iris-v1");
    let spec = json!({
        "host": "iris-v1.models.svc.cluster.local",
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
        "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "60s"}}},
    });
    same(&rule().expect("a DestinationRule")["spec"], &spec, "the rule");
    same(
        &stored(&world).unwrap()["spec"]["http"][0]["route"][0]["destination"]["subset"],
        &json!("v1"),
        "the subset",
    );
    world.delete_rollout().await;
    let look = || async { rule().map_or(Ok(()), |object| Err(object.to_string())) };
    eventually(LIMIT, "the rule is gone", look).await.unwrap();
}

fn root(matches: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "web"},
        "spec": {
            "hosts": [HOST], "gateways": ["istio-system/public"],
            "http": [{"match": matches, "delegate": {"name": "iris", "namespace": NAMESPACE}}],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_delegate_is_there_before_anybody_delegates_to_it_and_starts_nothing_until_somebody_does() {
    let world = World::without_routes().await;
    let mut object = rollout("iris-v1", &json!({"delegate": true}));
    object["spec"].as_object_mut().unwrap().remove("checks");
    world.create(object).await;
    let _sluice = world.controller();
    world.stands("Pending", "NotDelegated").await;
    // Who delegates to one that is not there loses users.
    there(&world).await;
    same(&weights(&stored(&world).unwrap(), "iris-v1"), &vec![100], "what the version of now has");
    world.want("iris-v2").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    world.stands("Pending", "NotDelegated").await;
    same(&canary_weights(&world, "iris-v2"), &vec![0], "what the next one has had");
    let accepted = world.status()["conditions"][0].clone();
    same(
        &json!([accepted["type"], accepted["status"], accepted["reason"]]),
        &json!(["Accepted", "False", "NotDelegated"]),
        "what is said",
    );
    world.create(root(&json!([{"uri": {"prefix": "/"}}]))).await;
    world.stands("Healthy", "Live").await;
    same(&canary_weights(&world, "iris-v2"), &vec![0, 50, 100], "the canary's weights");
    let spec = stored(&world).unwrap()["spec"].clone();
    assert!(spec.get("hosts").is_none() && spec.get("gateways").is_none(), "{spec}");
    assert!(spec["http"][0].get("match").is_none(), "{spec}");
    // The one in Git is written by nobody here.
    let written = world
        .api
        .history()
        .iter()
        .filter(|write| write.resource == "virtualservices" && write.name == "web")
        .count();
    assert_eq!(written, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_moves_a_persons_route_may_be_changed_to_a_delegate_of_it() {
    let world = World::without_routes().await;
    world.scene.virtual_service("web", HOST, &[("iris-v1", Some(100))]).await.unwrap();
    let mut object = crate::world::rollout(&json!([{"weight": 50, "for": "5s"}]));
    object["spec"]["target"] = json!({"service": {"name": "iris-v1"}});
    object["spec"]["routes"] = json!([{"virtualService": "web"}]);
    object["spec"].as_object_mut().unwrap().remove("checks");
    world.create(object).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    world.patch_rollout(json!({"spec": {"routes": null, "expose": {"delegate": true}}})).await;
    world.stands("Pending", "NotDelegated").await;
    there(&world).await;
    same(&weights(&stored(&world).unwrap(), "iris-v1"), &vec![100], "what the version of now has");
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    let change = Patch::Merge(json!({"spec": {"http": [{"delegate": {"name": "iris"}}]}}));
    objects.patch("web", &PatchParams::default(), &change).await.unwrap();
    world.stands("Healthy", "Live").await;
    world.want("iris-v2").await;
    gives(&world, 100).await;
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn matches_that_istio_would_drop_are_refused() {
    let world = World::without_routes().await;
    world.create(root(&json!([{"uri": {"regex": "/iris/.*"}}]))).await;
    world.create(rollout("iris-v1", &json!({"delegate": true, "prefix": "/iris/"}))).await;
    let _sluice = world.controller();
    world.stands("Pending", "DelegateConflict").await;
    same(&stored(&world), &None, "the VirtualService");
    let objects = world.objects("networking.istio.io", "v1", "VirtualService");
    let fixed = json!({"spec": {"http": root(&json!([{"uri": {"prefix": "/iris/"}}]))["spec"]["http"]}});
    objects.patch("web", &PatchParams::default(), &Patch::Merge(fixed)).await.unwrap();
    world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn with_istio_off_routes_are_refused() {
    let world = World::new().await;
    world.create(crate::world::rollout(&json!([{"weight": 50, "for": "5s"}]))).await;
    let before = world.virtual_service();
    let _sluice = world.controller_without_istio();
    world
        .sees("it is refused", |status| {
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|it| it["type"] == "Accepted" && it["status"] == "False" && it["reason"] == "IstioOff")
        })
        .await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&world.virtual_service(), &before, "the VirtualService");
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_fails_or_whose_answer_is_lost_ends_the_same() {
    let unavailable = || Then::Refuse(Refusal::unavailable());
    let conflict = || Then::Refuse(Refusal::new(409, "AlreadyExists", "it is there"));
    for then in [unavailable(), conflict(), Then::LoseAnswer, Then::Disconnect] {
        let world = World::without_routes().await;
        gateway(&world).await;
        world.create(rollout("iris-v1", &json!({}))).await;
        let connection = world.api.connect(CONTROLLER);
        connection.faults().on(When::writes().resource("virtualservices").name("iris").nth(1), then);
        let _sluice = world.controller_over(connection, None);
        world.stands("Healthy", "Live").await;
        there(&world).await;
    }
}
