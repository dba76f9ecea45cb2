//! Checks that ask a Prometheus what only the user knows to ask.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::world::{World, same, same_json};

fn spec(promql: &str, second: &str) -> Value {
    json!({
        "steps": [{"weight": 10, "for": "600ms"}, {"weight": 50, "for": second}],
        "checks": [{"name": "accuracy", "query": {"promql": promql, "min": 0.9}}],
        "inconclusive": {"limit": "1500ms"},
    })
}

const ACCURACY: &str = r#"avg(model_accuracy{namespace="{{namespace}}", service="{{canary.service}}"})"#;

pub async fn a_query_that_holds_promotes(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-holds").await?;
    let recording = world.record().await?;
    let _users = world.users(50.0);
    world.scraped().await?;
    world.predictor("v1").set_gauge("model_accuracy", 0.5);
    world.predictor("v2").set_gauge("model_accuracy", 0.97);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec(ACCURACY, "600ms"))).await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 50, 100])?;
    let values =
        status["decisions"].as_array().into_iter().flatten().map(|d| d["checks"][0]["value"].clone());
    let values: Vec<Value> = values.filter(|value| !value.is_null()).collect();
    ensure!(!values.is_empty() && values.iter().all(|value| *value == json!(0.97)), "{values:?}");
    world.end(controller).await
}

pub async fn a_query_that_does_not_hold_takes_all_traffic_away(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-fails").await?;
    let recording = world.record().await?;
    let _users = world.users(50.0);
    world.scraped().await?;
    world.predictor("v2").set_gauge("model_accuracy", 0.97);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec(ACCURACY, "1h"))).await?;
    world.step(2, "iris-v2", 50).await?;
    world.predictor("v2").set_gauge("model_accuracy", 0.4);
    let status = world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("accuracy") && message.contains("0.4") && message.contains("0.9"), "{message}");
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 50, 0])?;
    world.end(controller).await
}

pub async fn a_query_without_an_answer_neither_promotes_nor_rolls_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-empty").await?;
    let recording = world.record().await?;
    let _users = world.users(50.0);
    world.scraped().await?;
    let controller = world.controller()?;
    // Nobody exports it.
    world.create_rollout(&world.rollout("v2", spec(ACCURACY, "600ms"))).await?;
    world.phase("Waiting", "NoEvidence").await?;
    // Evidence that never comes is a person's business in the end.
    let status = world.phase("Waiting", "Paused").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("no evidence for 1s500ms"), "{message}");
    same_json("weight", &status["weight"], &json!(10))?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10])?;
    // It comes, and a person says that it may go on.
    world.predictor("v2").set_gauge("model_accuracy", 0.97);
    world.ask(sluice_core::api::Do::Resume, "the exporter is back").await.map_err(anyhow::Error::msg)?;
    world.phase("Healthy", "Live").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 50, 100])?;
    world.end(controller).await
}

/// A comparison of the query's numbers, one pair a look.
fn compares(window: &str, second: &str) -> Value {
    let query = json!({
        "promql": ACCURACY, "direction": "MoreIsBetter", "window": window, "versusStable": {"prove": true},
    });
    json!({
        "steps": [{"weight": 10, "for": "600ms"}, {"weight": 50, "for": second}],
        "checks": [{"name": "accuracy", "query": query}],
        "inconclusive": {"limit": "5m"},
    })
}

pub async fn a_score_below_stables_takes_all_traffic_away(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-worse").await?;
    let recording = world.record().await?;
    let _users = world.users(50.0);
    world.scraped().await?;
    world.predictor("v1").set_gauge("model_accuracy", 0.9);
    world.predictor("v2").set_gauge("model_accuracy", 0.7);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", compares("300ms", "1h"))).await?;
    let status = world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("the query answered 0.7 for the canary, 0.78 times stable's, against 0.9"),
        "{message}"
    );
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 0])?;
    world.end(controller).await
}

pub async fn a_score_as_good_as_stables_is_promoted(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-equal").await?;
    let recording = world.record().await?;
    let _users = world.users(50.0);
    world.scraped().await?;
    world.predictor("v1").set_gauge("model_accuracy", 0.9);
    world.predictor("v2").set_gauge("model_accuracy", 0.9);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", compares("300ms", "600ms"))).await?;
    world.phase("Healthy", "Live").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 50, 100])?;
    world.end(controller).await
}

pub async fn a_counter_that_grows_faster_than_stables_takes_all_traffic_away(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "query-counters").await?;
    let _users = world.users(200.0);
    world.scraped().await?;
    world.predictor("v2").set_errors(0.2);
    world.predictor("v1").set_errors(0.02);
    let controller = world.controller()?;
    let counter = |more: &str| {
        format!(
            "rest_server_requests_total{{namespace=\"{{{{namespace}}}}\",service=\"{{{{canary.service}}}}\"{more}}}"
        )
    };
    let query = json!({
        "promql": counter(",status_code=\"500\""), "total": counter(""),
        "direction": "MoreIsWorse", "versusStable": {},
    });
    let spec = json!({
        "steps": [{"weight": 50, "for": "1h"}], "checks": [{"name": "wrong", "query": query}],
    });
    world.create_rollout(&world.rollout("v2", spec)).await?;
    let status = world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("wrong: the counters have"), "{message}");
    world.end(controller).await
}
