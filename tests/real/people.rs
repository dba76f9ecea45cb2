//! What people ask for with the command line, under the role that `deploy/` has for them.

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use sluice_core::api::Do;

use crate::lab::{Lab, PERSON};
use crate::world::{World, decided, same, same_json};

fn asked(outcome: Result<String, String>) -> Result<String> {
    outcome.map_err(|failure| anyhow!("it was not done: {failure}"))
}

fn refused(outcome: Result<String, String>) -> Result<String> {
    match outcome {
        Ok(done) => Err(anyhow!("it was done: {done}")),
        Err(failure) => Ok(failure),
    }
}

fn last(status: &Value) -> Value {
    status["decisions"].as_array().and_then(|decisions| decisions.last()).cloned().unwrap_or_default()
}

pub async fn a_pause_stops_every_increase_until_it_is_resumed(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "pause").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    // The gate holds the first step until the pause is there, and must not be what holds it afterwards.
    let steps = json!({"steps": [{"weight": 10, "approve": true}, {"weight": 60, "for": "600ms"}]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.step(1, "iris-v2", 10).await?;
    asked(world.ask(Do::Pause, "lunch").await)?;
    let status = world.phase("Waiting", "Paused").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("lunch") && message.contains(PERSON), "{message}");
    asked(world.ask(Do::Approve, "later").await)?;

    // Paused, approved, and looked at again and again.
    let looks = controller.looks()?;
    world.until_looks(&controller, looks + 5).await?;
    same("while paused", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10])?;
    asked(world.ask(Do::Resume, "back").await)?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 60, 100])?;
    world.end(controller).await
}

pub async fn a_pause_in_the_spec_stops_increases_and_no_rollback(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "pause-spec").await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    let spec = json!({
        "steps": [{"weight": 50, "for": "1h"}],
        "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
        "metrics": {"scrape": {"port": crate::world::POD_PORT}},
        "paused": true,
    });
    world.create_rollout(&world.rollout("v2", spec)).await?;
    world.phase("Waiting", "Paused").await?;
    same("before it starts", &world.sequence(&recording, "iris-v2").await?, &vec![0])?;
    world.edit(json!({"paused": false})).await?;
    world.step(1, "iris-v2", 50).await?;
    world.edit(json!({"paused": true})).await?;
    world.phase("Waiting", "Paused").await?;
    let failure = refused(world.ask(Do::Promote, "now").await)?;
    ensure!(failure.contains("it is paused"), "{failure}");
    let failure = refused(world.ask(Do::Resume, "now").await)?;
    ensure!(failure.contains("set spec.paused to false"), "{failure}");
    world.predictor("v2").set_errors(0.5);
    world.weight_is("iris-v2", 0).await?;
    world
        .status_is("rolled back", |status| {
            last(status)["kind"] == "RolledBack" || decided(status).contains(&"RolledBack".to_owned())
        })
        .await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50, 0])?;
    world.end(controller).await
}

pub async fn a_gate_opens_by_approval_and_by_nothing_else(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "approve").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    let steps =
        json!({"steps": [{"weight": 20, "for": "300ms", "approve": true}, {"weight": 40, "for": "1h"}]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    let looks = controller.looks()?;
    world.until_looks(&controller, looks + 4).await?;
    same("before", &world.sequence(&recording, "iris-v2").await?, &vec![0, 20])?;

    let done = asked(world.ask(Do::Approve, "dashboards look right").await)?;
    ensure!(done.contains("approved the step"), "{done}");
    let status = world.status_is("step 2", |status| status["progress"]["number"] == 2).await?;
    world.weight_is("iris-v2", 40).await?;
    let approval =
        status["decisions"].as_array().into_iter().flatten().find(|d| d["kind"] == "Approved").cloned();
    let approval = approval.ok_or_else(|| anyhow!("no decision Approved"))?;
    same_json("by", &approval["by"], &json!(PERSON))?;
    let message = approval["message"].as_str().unwrap_or_default();
    ensure!(message.contains("dashboards look right"), "{message}");

    // The gate that is open now is none.
    let failure = refused(world.ask(Do::Approve, "again").await)?;
    ensure!(failure.contains("asks for no approval"), "{failure}");
    world.the_record_is(&["Approve Done", "Approve Refused"]).await?;
    world.end(controller).await
}

pub async fn promote_passes_one_step_and_full_passes_all(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "promote").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    let steps = json!({"steps": [
        {"weight": 10, "for": "1h"}, {"weight": 30, "for": "1h", "approve": true},
        {"weight": 50, "for": "1h"}, {"weight": 70, "for": "1h"},
    ]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.step(1, "iris-v2", 10).await?;
    asked(world.ask_in_place(Do::Promote, "fine").await)?;
    world.step(2, "iris-v2", 30).await?;
    // The gate too.
    asked(world.ask_in_place(Do::Promote, "fine").await)?;
    world.step(3, "iris-v2", 50).await?;
    asked(world.ask_in_place(Do::PromoteFull, "fine").await)?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 30, 50, 100])?;
    world.the_record_is(&["Promote Done", "Promote Done", "PromoteFull Done"]).await?;
    world.end(controller).await
}

pub async fn an_abort_takes_all_traffic_away_and_a_retry_begins_anew(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "abort").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    let steps = json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 30, "for": "1h"}]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.step(2, "iris-v2", 30).await?;
    asked(world.ask(Do::Abort, "complaints").await)?;
    let status = world.phase("RolledBack", "Aborted").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("complaints") && message.contains(PERSON), "{message}");
    world.only("iris-v1").await?;
    let looks = controller.looks()?;
    world.touch(0).await?;
    world.until_looks(&controller, looks + 1).await?;
    same("after the abort", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 30, 0])?;

    asked(world.ask(Do::Retry, "it was the network").await)?;
    world.step(2, "iris-v2", 30).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 30, 0, 10, 30])?;
    world.the_record_is(&["Abort Done", "Retry Done"]).await?;
    // What was done once is not done again, whoever looks at it.
    let failure = refused(world.ask(Do::Resume, "why not").await)?;
    ensure!(failure.contains("is not paused"), "{failure}");
    world.end(controller).await
}

pub async fn an_action_for_a_past_step_is_refused(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "past-step").await?;
    let controller = world.controller()?;
    let steps =
        json!({"steps": [{"weight": 10, "approve": true}, {"weight": 30, "for": "1h", "approve": true}]});
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.step(1, "iris-v2", 10).await?;
    let status = world.status().await?;
    let revision = format!("{}/iris-v2:8000", world.namespace);
    same("revision", &last(&status)["revision"], &json!(revision))?;
    asked(world.ask(Do::Approve, "go").await)?;
    world.step(2, "iris-v2", 30).await?;
    let before = world.route().await?;

    let cases = [
        (json!({"do": "Approve", "revision": revision, "step": 1}), "step 1 is not the current step: 2 is"),
        (json!({"do": "Promote", "revision": revision, "step": 1}), "step 1 is not the current step: 2 is"),
        (
            json!({"do": "Promote", "revision": "elsewhere/iris-v9:8000", "step": 2}),
            "is not the current revision",
        ),
    ];
    for (spec, expected) in cases {
        let action = world.action(spec).await?;
        same_json("phase", &action["status"]["phase"], &json!("Refused"))?;
        let message = action["status"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    same_json("nothing moved", &world.route().await?, &before)?;
    world.end(controller).await
}
