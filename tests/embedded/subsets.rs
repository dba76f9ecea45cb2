//! Two subsets of one Service: which of its pods are whose is said by their labels, and no slice has those.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Refusal, Then, Verb, When},
    scene::{POD_PORT, Served},
};

use crate::world::{CONTROLLER, HOST, Sluice, World, same};

/// What the first http route that is not the Rollout's own gives to a subset.
fn weight(world: &World, subset: &str) -> u64 {
    let object = world.virtual_service();
    let entries = object["spec"]["http"][0]["route"].as_array().unwrap();
    let alone = entries.len() == 1;
    let of_it = entries.iter().find(|entry| entry["destination"]["subset"] == subset);
    of_it.map_or(0, |entry| if alone { 100 } else { entry["weight"].as_u64().unwrap_or(0) })
}

/// How often the controller has asked for a pod.
fn pods_asked(world: &World) -> u64 {
    let requests = world.api.requests();
    let of_pods = requests
        .iter()
        .filter(|(asked, _)| asked.user == CONTROLLER && asked.resource == "pods" && asked.verb == Verb::Get);
    of_pods.map(|(_, count)| count.total).sum()
}

async fn later(time: Duration) {
    tokio::time::sleep(time).await;
}

/// One Service with pods `iris-a` and `iris-c` of version 1, `iris-b` of version 2, which is not ready, and a route to subset v1.
async fn world() -> (World, [Served; 3]) {
    let world = World::without_routes().await;
    world.scene.service("iris").await.unwrap();
    let a = world.scene.replica("iris", "a", "iris", "v1").await.unwrap();
    let b = world.scene.replica("iris", "b", "iris", "v2").await.unwrap();
    let c = world.scene.replica("iris", "c", "iris", "v1").await.unwrap();
    world.scene.set_ready("iris-b", false).await.unwrap();
    let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
    world
        .create(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "iris"},
            "spec": {"host": "iris", "subsets": [subset("v1"), subset("v2")]},
        }))
        .await;
    world
        .create(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "iris"},
            "spec": {"hosts": [HOST], "http": [{
                "name": "primary", "route": [{"destination": {"host": "iris", "subset": "v1", "port": {"number": 8000}}}],
            }]},
        }))
        .await;
    (world, [a, b, c])
}

fn rollout(steps: &Value) -> Value {
    let mut rollout = crate::world::rollout(steps);
    rollout["spec"]["target"] = json!({"service": {"name": "iris", "subset": "v2"}});
    without_metrics(rollout)
}

/// Nobody scrapes the pods, which would be one more reason to ask for them.
fn without_metrics(mut rollout: Value) -> Value {
    rollout["spec"]["checks"] = json!([]);
    rollout["spec"].as_object_mut().unwrap().remove("metrics");
    rollout
}

#[tokio::test(start_paused = true)]
async fn a_subset_is_ready_when_a_pod_with_its_labels_is() {
    let (world, _served) = world().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let _sluice = world.controller();
    world.sees("it waits for the subset", |status| status["reason"] == "CanaryNotReady").await;
    later(Duration::from_mins(1)).await;
    same(&weight(&world, "v2"), &0, "what a subset without a ready pod gets");
    same(&pods_asked(&world), &2, "pods that were asked for: the two ready ones, once");

    world.scene.set_ready("iris-b", true).await.unwrap();
    world.stands("Progressing", "StepInProgress").await;
    world.sees("the step began", |status| status["weight"] == 50).await;
    later(Duration::from_mins(1)).await;
    same(&weight(&world, "v2"), &50, "what the subset gets");
    let asked = pods_asked(&world);
    same(&asked, &3, "pods that were asked for");

    world.scene.set_ready("iris-b", false).await.unwrap();
    world.sees("it is withdrawn", |status| status["reason"] == "CanaryNotReady").await;
    later(Duration::from_secs(1)).await;
    same(&weight(&world, "v2"), &0, "what the subset gets once its only pod is gone");

    // A pod of stable that is relabelled comes late to both, within what is believed of labels.
    world.scene.label("iris-c", "version", "v2").await.unwrap();
    world.sees("it goes on with another pod", |status| status["weight"] == 50).await;
}

#[tokio::test(start_paused = true)]
async fn at_rest_nobody_is_asked_for() {
    let (world, _served) = world().await;
    let mut live = rollout(&json!([]));
    live["spec"]["target"]["service"]["subset"] = "v1".into();
    world.create(live).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    world.scene.set_ready("iris-b", true).await.unwrap();
    later(Duration::from_mins(20)).await;
    same(&pods_asked(&world), &0, "pods that were asked for");
}

#[tokio::test(start_paused = true)]
async fn while_pods_cannot_be_asked_for_what_is_known_stays() {
    let (world, _served) = world().await;
    world.create(rollout(&json!([{"weight": 50, "for": "1h"}]))).await;
    world.scene.set_ready("iris-b", true).await.unwrap();
    let sluice = world.controller();
    world.sees("the step began", |status| status["weight"] == 50).await;
    let pods = When::verb(Verb::Get).resource("pods");
    sluice.connection.faults().on(pods, Then::Refuse(Refusal::unavailable()));
    later(Duration::from_mins(12)).await;
    same(&weight(&world, "v2"), &50, "what the subset keeps");
    same(&world.status()["decisions"].as_array().unwrap().len(), &3, "decisions");
}

#[tokio::test(start_paused = true)]
async fn each_subset_is_scraped_at_its_own_pods() {
    let (world, [_a, b, c]) = world().await;
    let mut rollout = rollout(&json!([{"weight": 50, "for": "1h"}]));
    rollout["spec"]["checks"] = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    rollout["spec"]["metrics"] = json!({"scrape": {"port": POD_PORT}});
    world.scene.set_ready("iris-b", true).await.unwrap();
    world.create(rollout).await;
    let world = world.with_users(50.0);
    let _sluice = world.controller();
    world.sees("the step began", |status| status["weight"] == 50).await;
    // Half of stable fails, which is not the canary's fault.
    c.predictor.set_errors(1.0);
    later(Duration::from_mins(1)).await;
    same(&world.status()["phase"], &json!("Progressing"), "the phase");
    c.predictor.set_errors(0.0);
    b.predictor.set_errors(1.0);
    world.stands("RolledBack", "CheckFailed").await;
}

#[tokio::test(start_paused = true)]
async fn without_a_subset_no_pod_is_asked_for() {
    let world = World::new().await;
    world.create(without_metrics(crate::world::rollout(&json!([{"weight": 50, "for": "2s"}])))).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&pods_asked(&world), &0, "pods that were asked for");
}

fn rule(subsets: &[&str]) -> Value {
    let subset = |name: &&str| json!({"name": name, "labels": {"version": name}});
    json!({"spec": {"subsets": subsets.iter().map(subset).collect::<Vec<_>>()}})
}

/// The DestinationRule has these subsets from now on, and no others.
async fn rule_has(world: &World, subsets: &[&str]) {
    let rules = world.objects("networking.istio.io", "v1", "DestinationRule");
    rules.patch("iris", &PatchParams::default(), &Patch::Merge(rule(subsets))).await.unwrap();
}

/// Half of the way: the canary has 5% until somebody approves.
async fn at_a_gate() -> (World, [Served; 3], Sluice) {
    let (world, served) = world().await;
    world.scene.set_ready("iris-b", true).await.unwrap();
    world.create(rollout(&json!([{"weight": 5, "for": "2s", "approve": true}]))).await;
    let sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    same(&weight(&world, "v2"), &5, "what the subset gets");
    (world, served, sluice)
}

fn says(status: &Value, what: &str) -> bool {
    status["message"].as_str().is_some_and(|message| message.contains(what))
}

#[tokio::test(start_paused = true)]
async fn a_subset_that_is_taken_out_of_its_rule_gets_nothing_and_nobody_promotes_it() {
    let (world, _served, _sluice) = at_a_gate().await;
    rule_has(&world, &["v1"]).await;
    world
        .sees("it is withdrawn", |status| {
            status["reason"] == "CanaryNotReady"
                && status["weight"] == 0
                && says(status, "subset \"v2\" of Service models/iris is in no DestinationRule (not in iris)")
        })
        .await;
    later(Duration::from_secs(1)).await;
    same(&weight(&world, "v2"), &0, "what a subset gets that no proxy knows");
    world.ask("PromoteFull", "all").await;
    later(Duration::from_mins(1)).await;
    same(&world.action("all")["phase"], &json!("Refused"), "what became of the promotion");
    same(&weight(&world, "v2"), &0, "what the subset gets a minute later");
    rule_has(&world, &["v1", "v2"]).await;
    world.stands("Waiting", "WaitingForApproval").await;
    same(&weight(&world, "v2"), &5, "what the subset gets once it is back");
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_back_to_a_stable_whose_subset_was_taken_out_of_its_rule() {
    let (world, _served, _sluice) = at_a_gate().await;
    rule_has(&world, &["v2"]).await;
    later(Duration::from_secs(15)).await;
    let back = json!({"spec": {"target": {"service": {"name": "iris", "subset": "v1"}}}});
    world.patch_rollout(back).await;
    world
        .sees("it holds", |status| {
            status["reason"] == "StableNotReady"
                && says(status, "subset \"v1\" of Service models/iris is in no DestinationRule")
        })
        .await;
    later(Duration::from_mins(1)).await;
    same(&weight(&world, "v2"), &5, "what the canary keeps");
    rule_has(&world, &["v1", "v2"]).await;
    world.stands("Healthy", "Live").await;
    same(&weight(&world, "v1"), &100, "what stable has again");
}

#[tokio::test(start_paused = true)]
async fn rules_that_cannot_be_read_take_nothing_away() {
    let (world, _served, sluice) = at_a_gate().await;
    let rules = When::verb(Verb::List).resource("destinationrules");
    sluice.connection.faults().on(rules, Then::Refuse(Refusal::unavailable()));
    later(Duration::from_mins(2)).await;
    same(&world.status()["reason"], &json!("WaitingForApproval"), "the reason");
    same(&weight(&world, "v2"), &5, "what the subset keeps");
}
