//! Every example that needs no PromQL runs to its end.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{
    gateway::{Load, Report, Running},
    predictor::ANSWERED_BY,
    scene::POD_PORT,
};

use crate::{
    oracle,
    world::{HOST, World, same},
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
            // Its predictors are served by the test.
            Some("SeldonDeployment" | "VirtualService" | "Rollout") => world.create(object).await,
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

/// Users who send a header, beside those who do not.
fn with_header(world: &World, name: &str, value: &str) -> Running {
    Load::infer(HOST, "iris").header(name, value).rate(100.0).start(&world.gateway)
}

/// Waits for so many more answers; who gave them.
async fn answers(running: &Running, more: u64) -> Report {
    let before = running.report();
    while running.report().total() < before.total() + more {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut report = running.report();
    for (predictor, answers) in &mut report.by_predictor {
        *answers -= before.by(predictor);
    }
    report
}

#[tokio::test(start_paused = true)]
async fn blue_green_previews_by_header_switches_once_and_keeps_blue_until_a_person_approves() {
    let world = applied("blue-green").await;
    let previewers = with_header(&world, "x-preview", "green");
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.weighs(100, 0).await;
    same(&answers(&previewers, 50).await.by("iris-v1"), &0, "answers of blue to previewers");
    let others = with_header(&world, "x-preview", "blue");
    same(&answers(&others, 50).await.by("iris-v2"), &0, "answers of green to others");
    world.ask("Approve", "preview").await;
    world.weighs(0, 100).await;
    world.stands("Waiting", "WaitingForApproval").await;
    let now = world.virtual_service();
    same(&oracle::own(&now).len(), &0, "routes of the preview");
    same(&oracle::managed(&now)["route"].as_array().unwrap().len(), &2, "blue is still on the route");
    world.ask("Approve", "yes").await;
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Approved", "Entered", "Approved", "Promoting", "Promoted"];
    check(&world, &[0, 100], &kinds);
}

#[tokio::test(start_paused = true)]
async fn blue_green_goes_back_at_once_when_a_person_aborts() {
    for during_preview in [true, false] {
        let world = applied("blue-green").await;
        let previewers = with_header(&world, "x-preview", "green");
        let _sluice = world.controller();
        world.stands("Waiting", "WaitingForApproval").await;
        if !during_preview {
            world.ask("Approve", "preview").await;
            world.weighs(0, 100).await;
            world.stands("Waiting", "WaitingForApproval").await;
        }
        world.ask("Abort", "no").await;
        world.stands("RolledBack", "Aborted").await;
        world.weighs(100, 0).await;
        same(&oracle::own(&world.virtual_service()).len(), &0, "routes of the preview");
        world.sees("the loser has left", |status| status["retiring"].is_null()).await;
        same(&answers(&previewers, 50).await.by("iris-v2"), &0, "answers of green to previewers");
    }
}

#[tokio::test(start_paused = true)]
async fn blue_green_rolls_back_a_preview_that_fails() {
    let world = applied("blue-green").await;
    let _previewers = with_header(&world, "x-preview", "green");
    world.fails(0.2);
    let _sluice = world.controller();
    world.stands("RolledBack", "CheckFailed").await;
    same(&oracle::own(&world.virtual_service()).len(), &0, "routes of the preview");
    check(&world, &[0], &["Adopted", "Started", "Entered", "RolledBack"]);
}

/// A browser: it sends back the cookies that it was given.
async fn browse(world: &World, jar: &mut Vec<String>) -> String {
    let request = http::Request::post(format!("http://{HOST}/v2/models/iris/infer"));
    let body =
        json!({"inputs": [{"name": "input", "datatype": "FP64", "shape": [3], "data": [1.0, 2.0, 5.0]}]});
    let request = request.header("cookie", jar.join("; ")).body(body.to_string().into()).unwrap();
    let answer = world.gateway.send(request).await;
    for cookie in answer.headers().get_all("set-cookie") {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let name = pair.split('=').next().unwrap().to_owned();
        jar.retain(|known| !known.starts_with(&format!("{name}=")));
        jar.push(pair);
    }
    answer.headers()[ANSWERED_BY].to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn ab_test_binds_each_user_to_an_arm_and_a_person_decides_for_the_canary() {
    let world = applied("ab-test").await;
    let beta = with_header(&world, "x-group", "beta");
    let _sluice = world.controller();
    world
        .sees("the cohort has begun", |status| {
            status["progress"]["name"] == "cohort" && status["beside"] != Value::Null
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    same(&answers(&beta, 50).await.by("iris-v1"), &0, "answers of stable to beta users");
    world.weighs(50, 50).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut arms, mut jars) = (Vec::new(), vec![Vec::new(); 20]);
    for jar in &mut jars {
        arms.push(browse(&world, jar).await);
    }
    let canary = arms.iter().filter(|arm| *arm == "iris-v2").count();
    assert!((5..=15).contains(&canary), "{canary} of 20 users have the canary at 50%");
    for (arm, jar) in arms.iter().zip(&mut jars) {
        for _ in 0..5 {
            same(&browse(&world, jar).await, arm, "who answers a user once more");
        }
    }
    world.stands("Waiting", "WaitingForDecision").await;
    world.ask("DecideCanary", "sales").await;
    world.stands("Healthy", "Live").await;
    same(&oracle::own(&world.virtual_service()).len(), &0, "routes of the test");
    assert!(!world.virtual_service().to_string().contains("set-cookie"));
    check(&world, &[0, 50, 100], &["Adopted", "Started", "Entered", "Entered", "Promoting", "Promoted"]);
}

#[tokio::test(start_paused = true)]
async fn ab_test_that_stable_wins_is_no_failure() {
    let world = applied("ab-test").await;
    let _beta = with_header(&world, "x-group", "beta");
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForDecision").await;
    world.ask("DecideStable", "no-difference").await;
    world.stands("Healthy", "Lost").await;
    world.weighs(100, 0).await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    same(&world.status()["outcomes"][0]["outcome"], &"Lost".into(), "what became of it");
    let condition = |kind: &str| {
        let conditions = world.status()["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap()["status"].clone()
    };
    same(&(condition("Ready"), condition("Stalled")), &("True".into(), "False".into()), "conditions");
    check(&world, &[0, 50, 0], &["Adopted", "Started", "Entered", "Entered", "Lost", "Retired"]);
}

#[tokio::test(start_paused = true)]
async fn shadow_copies_every_request_and_no_user_gets_an_answer_of_it() {
    let world = applied("shadow").await;
    let users = with_header(&world, "x-any", "thing");
    let _sluice = world.controller();
    world.sees("it copies", |status| status["beside"]["mirror"] == 100).await;
    world.stands("Healthy", "Observed").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    let delivered = world.gateway.delivered_to("models", "iris-v2");
    assert!(delivered.mirrored > 1000 && delivered.total() == 0, "{delivered:?}");
    same(&users.report().by("iris-v2"), &0, "answers of the shadow");
    check(&world, &[0], &["Adopted", "Started", "Entered", "Observed", "Retired"]);
}

#[tokio::test(start_paused = true)]
async fn shadow_that_fails_is_taken_away_and_nobody_noticed() {
    let world = applied("shadow").await;
    let users = with_header(&world, "x-any", "thing");
    world.fails(0.5);
    let _sluice = world.controller();
    world.stands("RolledBack", "CheckFailed").await;
    assert!(oracle::managed(&world.virtual_service()).get("mirrors").is_none());
    same(&users.report().by_code.keys().copied().collect(), &vec![200], "codes that users saw");
}

#[tokio::test(start_paused = true)]
async fn shadow_then_promote_copies_first_and_then_moves_traffic() {
    let world = applied("shadow-then-promote").await;
    let _sluice = world.controller();
    world.sees("it copies a tenth", |status| status["beside"]["mirror"] == 10).await;
    world.sees("it copies all", |status| status["beside"]["mirror"] == 100).await;
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Entered", "Entered", "Promoting", "Promoted"];
    check(&world, &[0, 10, 50, 100], &kinds);
    same(&stable(&world), &"iris-v2".into(), "stable");
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

#[tokio::test(start_paused = true)]
async fn expose_generates_the_route_and_moves_it() {
    let world = applied("expose").await;
    crate::expose::gateway(&world).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Promoting", "Promoted"];
    same(&crate::expose::canary_weights(&world, "iris-v2"), &vec![0, 10, 50, 100], "the canary's weights");
    same(&oracle::kinds(&world.api), &kinds.iter().map(ToString::to_string).collect(), "the decisions");
    let spec = &world.virtual_service()["spec"];
    same(&spec["hosts"], &json!(["iris.example.com"]), "the hosts");
    same(&spec["http"][0]["retries"]["perTryTimeout"], &json!("2s"), "the annotations");
}

#[tokio::test(start_paused = true)]
async fn delegate_moves_what_a_virtual_service_in_git_delegates() {
    let world = applied("delegate").await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Promoting", "Promoted"];
    same(&crate::expose::canary_weights(&world, "iris-v2"), &vec![0, 10, 50, 100], "the canary's weights");
    same(&oracle::kinds(&world.api), &kinds.iter().map(ToString::to_string).collect(), "the decisions");
    same(&stable(&world), &"iris-v2".into(), "stable");
    let history = world.api.history();
    let of_git = history.iter().filter(|write| write.resource == "virtualservices" && write.name == "web");
    same(&of_git.count(), &1, "writes of the VirtualService in Git");
}

/// The pods' labels, as Seldon Core's operator gives them.
async fn labelled(world: &World) {
    for predictor in ["main", "green"] {
        world.scene.label(&format!("iris-{predictor}-0"), "version", predictor).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn seldon_operator_moves_the_traffic_in_the_deployment() {
    let [deployment, rollout] = example("seldon-operator").try_into().expect("two manifests");
    let (world, _served) = crate::seldon::operated_with(deployment).await;
    let _operator = crate::seldon::operator(&world);
    let _users = crate::expose::users(&world, "/seldon/models/iris");
    world.create(rollout).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    let traffic = vec![[100, 0], [95, 5], [50, 50], [0, 100]];
    same(&crate::seldon::traffic(&world), &traffic, "the traffic in the SeldonDeployment");
}

#[tokio::test(start_paused = true)]
async fn seldon_moves_the_weights_between_predictors() {
    let world = World::without_routes().await;
    let _main = world.scene.serve("iris-main", "iris", "v1").await.unwrap();
    let _green = world.scene.serve("iris-green", "iris", "v2").await.unwrap();
    labelled(&world).await;
    crate::expose::gateway(&world).await;
    for object in example("seldon") {
        world.create(object).await;
    }
    let _users = crate::expose::users(&world, "/seldon/models/iris");
    let _sluice = world.controller();
    world.stands("Waiting", "WaitingForApproval").await;
    world.ask("Approve", "yes").await;
    world.stands("Healthy", "Live").await;
    same(&crate::expose::canary_weights(&world, "iris-green"), &vec![0, 5, 50, 100], "the canary's weights");
    same(&stable(&world), &"iris-green".into(), "stable");
}

#[tokio::test(start_paused = true)]
async fn seldon_shadow_becomes_stable_without_a_restart() {
    let world = World::without_routes().await;
    let _main = world.scene.serve("iris-main", "iris", "v1").await.unwrap();
    let green = world.scene.serve("iris-green", "iris", "v2").await.unwrap();
    labelled(&world).await;
    crate::expose::gateway(&world).await;
    for object in example("seldon-shadow") {
        world.create(object).await;
    }
    let users = crate::expose::users(&world, "/seldon/models/iris");
    let before = world.api.history().len();
    let _sluice = world.controller();
    world.sees("copies are made", |status| status["beside"]["mirror"] == 100.0).await;
    world.sees("some users have it", |status| status["weight"] == 10).await;
    assert!(green.predictor.served().total() > 50, "{:?}", green.predictor.served());
    world.stands("Healthy", "Live").await;
    same(&crate::expose::canary_weights(&world, "iris-green"), &vec![0, 10, 50, 100], "the canary's weights");
    same(&stable(&world), &"iris-green".into(), "stable");
    let history = world.api.history();
    let touched = |write: &&sluice_lab::embedded::Write| {
        ["seldondeployments", "pods", "endpointslices"].contains(&write.resource.as_str())
    };
    assert_eq!(history[before..].iter().filter(touched).count(), 0, "nothing of Seldon Core's was written");
    let report = users.stop().await;
    // Before there is a route nobody is found.
    assert!(report.by_code.keys().all(|code| [200, 404].contains(code)), "{report:?}");
}

#[test]
fn every_example_is_run_here_or_asks_prometheus() {
    let run = [
        "ab-test",
        "blue-green",
        "canary",
        "delegate",
        "expose",
        "gated",
        "observe-only",
        "ramp",
        "scrape",
        "seldon",
        "seldon-operator",
        "seldon-shadow",
        "shadow",
        "shadow-then-promote",
        "wait",
    ];
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
