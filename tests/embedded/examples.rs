//! Every example that needs no PromQL runs to its end.

use serde_json::{Value, json};
use sluice_lab::scene::POD_PORT;

use crate::{
    oracle,
    world::{World, same},
};

/// The manifests of an example, its durations shortened, measured by scraping.
fn example(name: &str) -> Vec<Value> {
    let path = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rollout = objects.iter_mut().find(|object| object["kind"] == "Rollout").expect("a Rollout");
    let spec = &mut rollout["spec"];
    spec["interval"] = "1s".into();
    spec["settle"] = "1s".into();
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    for step in spec["steps"].as_array_mut().expect("steps") {
        for pointer in ["/for", "/ramp/every"] {
            if let Some(duration) = step.pointer_mut(pointer) {
                *duration = shorter(duration.as_str().expect("a duration")).into();
            }
        }
        if let Some(requests) = step.get_mut("minRequests") {
            *requests = (requests.as_u64().expect("a number") / 10).into();
        }
    }
    objects
}

/// Minutes become seconds, hours 15 of them.
fn shorter(duration: &str) -> String {
    match duration.split_at(duration.len() - 1) {
        (number, "h") => format!("{}s", 15 * number.parse::<u32>().expect("a number")),
        (number, "m") => format!("{number}s"),
        other => panic!("{other:?} in an example"),
    }
}

/// The world of an example, with its objects in it.
async fn applied(name: &str) -> World {
    let world = World::without_routes().await;
    for object in example(name) {
        match object["kind"].as_str() {
            // The world has them, with a predictor behind each.
            Some("Service") => {}
            Some("VirtualService" | "Rollout") => world.create(object).await,
            other => panic!("{other:?} in an example"),
        }
    }
    world.with_users(100.0)
}

/// Asserts what the canary got, one weight after the other, and what was decided.
fn check(world: &World, weights: &[u64], kinds: &[&str]) {
    same(&oracle::canary_weights(&world.api), &weights.to_vec(), "the canary's weights");
    same(&oracle::kinds(&world.api), &kinds.iter().map(ToString::to_string).collect(), "the decisions");
}

fn stable(world: &World) -> Value {
    world.status()["stable"]["service"].clone()
}

#[tokio::test(start_paused = true)]
async fn canary_promotes_in_three_steps() {
    let world = applied("canary").await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Entered", "Promoting", "Promoted"];
    check(&world, &[0, 5, 25, 50, 100], &kinds);
    same(&stable(&world), &"iris-v2".into(), "stable");
}

#[tokio::test(start_paused = true)]
async fn canary_takes_all_traffic_back_when_the_new_version_fails() {
    let world = applied("canary").await;
    let _sluice = world.controller();
    world.weighs(75, 25).await;
    world.fails(0.05);
    world.stands("RolledBack", "CheckFailed").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    check(&world, &[0, 5, 25, 0], &["Adopted", "Started", "Entered", "Entered", "RolledBack", "Retired"]);
    same(&stable(&world), &"iris-v1".into(), "stable");
}

#[tokio::test(start_paused = true)]
async fn canary_takes_all_traffic_back_when_the_new_version_is_slow() {
    let world = applied("canary").await;
    let _sluice = world.controller();
    world.weighs(75, 25).await;
    world.v2.predictor.set_slow(0.05, std::time::Duration::from_millis(400));
    world.stands("RolledBack", "CheckFailed").await;
    let message = world.status()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("p99: "), "{message}");
}

#[tokio::test(start_paused = true)]
async fn blue_green_switches_once_and_keeps_blue_until_a_person_approves() {
    let world = applied("blue-green").await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.weighs(0, 100).await;
    let hosts = world.virtual_service()["spec"]["http"][0]["route"].as_array().unwrap().len();
    assert_eq!(hosts, 2, "blue is still on the route");
    world.ask("Approve", "yes").await;
    world.stands("Healthy", "Live").await;
    check(&world, &[0, 100], &["Adopted", "Started", "Entered", "Approved", "Promoting", "Promoted"]);
}

#[tokio::test(start_paused = true)]
async fn blue_green_goes_back_at_once_when_a_person_aborts() {
    let world = applied("blue-green").await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.ask("Abort", "no").await;
    world.stands("RolledBack", "Aborted").await;
    world.weighs(100, 0).await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    check(&world, &[0, 100, 0], &["Adopted", "Started", "Entered", "RolledBack", "Retired"]);
}

#[tokio::test(start_paused = true)]
async fn ramp_goes_up_by_ten_at_a_time() {
    let world = applied("ramp").await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let mut kinds = vec!["Adopted", "Started"];
    kinds.extend(["Entered"; 6]);
    kinds.extend(["Promoting", "Promoted"]);
    check(&world, &[0, 10, 20, 30, 40, 50, 100], &kinds);
}

#[tokio::test(start_paused = true)]
async fn gated_waits_at_half_until_a_person_approves() {
    let world = applied("gated").await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.weighs(50, 50).await;
    world.ask("Approve", "ticket").await;
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Approved", "Entered", "Promoting", "Promoted"];
    check(&world, &[0, 10, 50, 100], &kinds);
    same(&world.action("ticket")["phase"], &"Done".into(), "what became of the action");
}

#[tokio::test(start_paused = true)]
async fn gated_rolls_back_while_the_gate_is_shut() {
    let world = applied("gated").await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.fails(0.2);
    world.stands("RolledBack", "CheckFailed").await;
    world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn observe_only_gives_all_back_to_stable_and_is_not_tried_again() {
    let world = applied("observe-only").await;
    let sluice = world.controller();
    world
        .sees("the loser has left", |status| {
            status["reason"] == "Observed" && status["retiring"].is_null() && status["phase"] == "Healthy"
        })
        .await;
    sluice.stop().await;
    let _next = world.controller();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    check(&world, &[0, 10, 0], &["Adopted", "Started", "Entered", "Observed", "Retired"]);
    same(&stable(&world), &"iris-v1".into(), "stable");
}

#[tokio::test(start_paused = true)]
async fn wait_stays_at_the_last_step_until_a_person_promotes() {
    let world = applied("wait").await;
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForDecision").await;
    world.weighs(50, 50).await;
    world.ask("Promote", "better").await;
    world.stands("Healthy", "Live").await;
    check(&world, &[0, 10, 50, 100], &["Adopted", "Started", "Entered", "Entered", "Promoting", "Promoted"]);
}

#[tokio::test(start_paused = true)]
async fn scrape_needs_no_prometheus() {
    let world = applied("scrape").await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    check(&world, &[0, 10, 50, 100], &["Adopted", "Started", "Entered", "Entered", "Promoting", "Promoted"]);
}

#[test]
fn every_example_is_run_here_or_asks_prometheus() {
    let run = ["blue-green", "canary", "gated", "observe-only", "ramp", "scrape", "wait"];
    let folder = std::fs::read_dir(format!("{}/examples", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for entry in folder {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "yaml") && !run.contains(&name.as_str()) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("promql:"), "{name} is neither run here nor has a query");
        }
    }
}
