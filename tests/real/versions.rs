//! Upgrades and downgrades in mid-rollout: of the kinds, and of the controller beside them.
//!
//! Each test has a cluster of its own, because kinds belong to a cluster as a whole.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_lab::real::AuditEntry;

use crate::binary::Running;
use crate::install::repository;
use crate::lab::{CONTROLLER, Lab, Shared};
use crate::world::{World, condition, decided, same, same_json};

/// Steps that a person leads through.
fn gated() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "approve": true}, {"weight": 70, "approve": true}]})
}

/// Installs the kinds as they are in the repository, but for a change of the schema of Rollout.
async fn install_kinds(shared: &Shared, change: impl FnOnce(&mut Value)) -> Result<()> {
    let text = std::fs::read_to_string(repository().join("crds/sluice.dev.yaml"))?;
    let mut definitions: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let rollout = definitions.iter_mut().find(|definition| definition["spec"]["names"]["kind"] == "Rollout");
    let schema = rollout
        .and_then(|definition| definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties"));
    change(schema.context("the schema of Rollout")?);
    let text: Vec<String> = definitions.iter().map(ToString::to_string).collect();
    shared.cluster.apply_yaml(&text.join("\n---\n")).await?;
    Ok(())
}

/// Those of a version before `status.known` was there.
fn older(schema: &mut Value) {
    let status = schema["status"]["properties"].as_object_mut();
    assert!(status.is_some_and(|status| status.remove("known").is_some()), "a field that is there");
}

/// Those of a version to come.
fn newer(schema: &mut Value) {
    schema["status"]["properties"]["forecast"] = json!({"type": "string"});
    schema["spec"]["properties"]["steps"]["items"]["properties"]["forecast"] = json!({"type": "string"});
    if let Some(words) = schema["status"]["properties"]["reason"]["enum"].as_array_mut() {
        words.push(json!("Forecast"));
    }
}

pub async fn kinds_that_are_older_keep_the_program_from_starting(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let world = World::on(&shared, "older").await?;
    let recording = world.record().await?;
    let running = Running::start(&shared)?;
    world.create_rollout(&world.rollout("v2", gated())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");

    // A rollback of the cluster's manifests that the controller was left out of.
    install_kinds(&shared, older).await?;
    let audit = shared.cluster.audit();
    let (status, log) = Running::start(&shared)?.ended().await?;
    ensure!(status.code() == Some(7), "{status}: {log}");
    let last = log.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
    for expected in
        ["older than the controller", "Rollout has no status.known", "kubectl apply --server-side -k crds"]
    {
        ensure!(last.contains(expected), "{expected:?} is not in the last words: {log}");
    }
    let writes: Vec<_> = audit.of(CONTROLLER)?.into_iter().filter(AuditEntry::is_write).collect();
    ensure!(writes.is_empty(), "it wrote all the same: {writes:?}");

    // The update is seen as soon as the server publishes it, and the step goes on where it was.
    let before = world.status().await?;
    let waiting = Running::start(&shared)?;
    install_kinds(&shared, |_| ()).await?;
    waiting.page("/readyz").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    world.approve().await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70, 100])?;
    same_json("stable before", &before["stable"]["service"], &json!("iris-v1"))?;
    same("starts", &decided(&status).iter().filter(|kind| *kind == "Started").count(), &1)?;
    let (status, log) = waiting.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    Ok(())
}

pub async fn kinds_that_became_older_stop_what_grows_and_no_rollback(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let good = World::on(&shared, "kinds-good").await?;
    let bad = World::on(&shared, "kinds-bad").await?;
    let (good_recording, bad_recording) = (good.record().await?, bad.record().await?);
    let _users = bad.users(80.0);
    let running = Running::start(&shared)?;
    good.create_rollout(&good.rollout("v2", gated())).await?;
    let mut checked = gated();
    checked["checks"] = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    checked["metrics"] = json!({"scrape": {"port": crate::world::POD_PORT}});
    bad.create_rollout(&bad.rollout("v2", checked)).await?;
    good.step(2, "iris-v2", 40).await?;
    bad.step(2, "iris-v2", 40).await?;

    install_kinds(&shared, older).await?;
    // The record of the approval is the first write that loses something.
    good.approve().await?;
    let outdated = |status: &Value| {
        condition(status, "Accepted").is_ok_and(|accepted| accepted["reason"] == "KindsOutdated")
    };
    let status = good.status_is("the kinds are too old", outdated).await?;
    let message = condition(&status, "Accepted")?["message"].to_string();
    ensure!(message.contains("status.known") && message.contains("kubectl apply"), "{message}");
    bad.predictor("v2").set_errors(0.5);
    bad.weight_is("iris-v2", 0).await?;
    bad.status_is("it is rolled back", |status| status["outcomes"][0]["outcome"] == "RolledBack").await?;
    same("what grew", &good.sequence(&good_recording, "iris-v2").await?, &vec![0, 10, 40])?;

    install_kinds(&shared, |_| ()).await?;
    good.step(3, "iris-v2", 70).await?;
    same("weights", &good.sequence(&good_recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    same("of the bad one", &bad.sequence(&bad_recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    Ok(())
}

pub async fn kinds_that_are_newer_do_no_harm(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let world = World::on(&shared, "newer").await?;
    let recording = world.record().await?;
    let running = Running::start(&shared)?;
    world.create_rollout(&world.rollout("v2", gated())).await?;
    world.step(2, "iris-v2", 40).await?;
    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");

    // A newer controller wrote the status, and is replaced by this one.
    install_kinds(&shared, newer).await?;
    let patch = json!({"status": {"forecast": "sunny", "reason": "Forecast"}});
    let patch = kube::api::Patch::Merge(patch);
    world.rollouts().patch_status(crate::world::IRIS, &kube::api::PatchParams::default(), &patch).await?;
    let running = Running::start(&shared)?;
    world.phase("Waiting", "WaitingForApproval").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;

    // What only the newer one knows is not left out: it keeps the next rollout from starting.
    world.edit(json!({"steps": [{"weight": 20, "forecast": "rain"}]})).await?;
    let status = world
        .status_is("the edit is refused", |status| {
            condition(status, "Accepted").is_ok_and(|accepted| accepted["reason"] == "Unsupported")
        })
        .await?;
    let message = condition(&status, "Accepted")?["message"].to_string();
    ensure!(message.contains("spec.steps[0].forecast"), "{message}");
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    ensure!(log.contains("newer than this version"), "{log}");
    Ok(())
}
