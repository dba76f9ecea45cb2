//! Upgrades and downgrades of the controller: what another version wrote is gone on with.
//!
//! `tests/data/statuses` has a folder for each version that was ever released, with a Rollout and its VirtualService in
//! every stage as that version wrote them. They are never changed afterwards: what reads them are the versions to come.
//! `SLUICE_WRITE_STATUSES=1` writes those of this version.

use std::{fs, path::PathBuf, time::Duration};

use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use sluice_lab::invariants::Violation;

use crate::{
    oracle,
    world::{NAMESPACE, Sluice, World, rollout, same},
};

const STAGES: [&str; 11] = [
    "healthy",
    "not-ready",
    "step",
    "gate",
    "approved",
    "paused",
    "without-evidence",
    "promoting",
    "rolled-back",
    "observed",
    "status-lost",
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/statuses"))
}

/// A world whose Rollout is in this stage.
async fn reach(stage: &str) -> (World, Sluice) {
    let mut world = World::new().await;
    let mut object =
        rollout(&json!([{"weight": 20, "for": "2s", "approve": true}, {"weight": 50, "for": "10m"}]));
    match stage {
        "healthy" => object["spec"]["target"]["service"]["name"] = "iris-v1".into(),
        "not-ready" => world.scene.set_ready("iris-v2-0", false).await.unwrap(),
        "without-evidence" => {
            object["spec"]["inconclusive"] = json!({"limit": "30s"});
            object["spec"]["steps"] = json!([{"weight": 20, "for": "2s"}]);
        }
        // So that the old stable stays on the route for a while.
        "promoting" => object["spec"]["settle"] = "1m".into(),
        "observed" => {
            object["spec"]["finish"] = "KeepStable".into();
            object["spec"]["steps"] = json!([{"weight": 20, "for": "2s"}]);
        }
        _ => {}
    }
    world.create(object).await;
    let sluice = world.controller();
    match stage {
        "healthy" => world.stands("Healthy", "Live").await,
        "not-ready" => world.stands("Progressing", "CanaryNotReady").await,
        "observed" => world.stands("Healthy", "Observed").await,
        "without-evidence" => {
            world.weighs(80, 20).await;
            world = world.without_users().await;
            world.stands("Waiting", "Paused").await;
        }
        _ => {
            world.stands("Waiting", "WaitingForApproval").await;
            match stage {
                "step" => {
                    world.ask("Approve", "go").await;
                    world.weighs(50, 50).await;
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                "approved" => {
                    world.patch_rollout(json!({"spec": {"paused": true}})).await;
                    world.ask("Approve", "go").await;
                    world.sees("it is approved", |status| status["progress"]["approved"] == true).await;
                }
                "paused" => {
                    world.ask("Pause", "hold").await;
                    world.stands("Waiting", "Paused").await;
                }
                "promoting" => {
                    world.ask("PromoteFull", "all").await;
                    world.weighs(0, 100).await;
                    world.stands("Promoting", "Promoting").await;
                }
                "rolled-back" => {
                    world.v2.predictor.set_errors(0.5);
                    world.stands("RolledBack", "CheckFailed").await;
                }
                "status-lost" => {
                    world.patch_status(json!({"stage": null, "stable": null, "seq": null})).await;
                    world.stands("Stalled", "StatusLost").await;
                }
                _ => {}
            }
        }
    }
    if !matches!(stage, "promoting") {
        world.sees("nobody leaves the route any more", |status| status["retiring"].is_null()).await;
    }
    (world, sluice)
}

/// What is kept of a stage.
fn kept(world: &World) -> Value {
    let mut rollout =
        world.api.object("rollouts.sluice.dev", NAMESPACE, "iris").expect("a Rollout").as_ref().clone();
    let mut route = world.virtual_service();
    for object in [&mut rollout, &mut route] {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|field, _| matches!(field.as_str(), "name" | "uid" | "annotations" | "finalizers"));
    }
    json!({"rollout": rollout, "virtualService": route})
}

/// The statuses that were ever kept, each with the version that wrote it and its stage.
fn golden() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for version in fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(version.path()).unwrap().map(Result::unwrap) {
            let text = fs::read_to_string(file.path()).unwrap();
            let stage = file.path().file_stem().unwrap().to_string_lossy().into_owned();
            let version = version.file_name().to_string_lossy().into_owned();
            all.push((version, stage, serde_json::from_str(&text).unwrap()));
        }
    }
    all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    all
}

#[tokio::test(start_paused = true)]
async fn every_stage_of_this_version_is_kept_for_the_next_ones() {
    let folder = folder().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("SLUICE_WRITE_STATUSES").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for stage in STAGES {
            let (world, sluice) = reach(stage).await;
            sluice.stop().await;
            let text = serde_json::to_string_pretty(&kept(&world)).unwrap();
            fs::write(folder.join(format!("{stage}.json")), text + "\n").unwrap();
        }
    }
    for stage in STAGES {
        assert!(folder.join(format!("{stage}.json")).exists(), "no {stage} of this version in {folder:?}");
    }
}

/// Puts what was kept into a new world, and starts this version on it.
async fn resumed(stage: &str, kept: &Value) -> (World, Sluice) {
    let mut world = World::without_routes().await;
    if stage == "not-ready" {
        world.scene.set_ready("iris-v2-0", false).await.unwrap();
    }
    let mut object = kept["rollout"].clone();
    let status = object["status"].take();
    let old = object["metadata"]["uid"].take();
    object["metadata"].as_object_mut().unwrap().remove("uid");
    let rollouts = world.objects("sluice.dev", "v1alpha1", "Rollout");
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let created = rollouts.create(&PostParams::default(), &object).await.unwrap();
    // The same Rollout, as far as the stamp is concerned.
    let (old, new) = (old.as_str().unwrap(), created.metadata.uid.unwrap());
    let route = kept["virtualService"].to_string().replace(old, &new);
    let mut route: Value = serde_json::from_str(&route).unwrap();
    route["metadata"].as_object_mut().unwrap().remove("uid");
    world.create(route).await;
    world.patch_status(status).await;
    if stage != "without-evidence" {
        world = world.with_users(50.0);
    }
    if stage == "rolled-back" {
        world.v2.predictor.set_errors(0.5);
    }
    let sluice = world.controller();
    (world, sluice)
}

/// It goes on where the other version was: nothing is lost, nothing starts, and whoever asks is heard.
async fn goes_on(what: &str, stage: &str, kept: &Value) {
    let (world, _sluice) = resumed(stage, kept).await;
    let before = &kept["rollout"]["status"];
    let weights = oracle::weights(&kept["virtualService"]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let status = world.status();
    for field in ["phase", "reason", "stable", "canary", "progress", "pinned", "outcomes"] {
        same(&status[field], &before[field], &format!("{what}: {field}"));
    }
    same(&oracle::weights(&world.virtual_service()), &weights, &format!("{what}: the traffic"));
    same(&status["seq"], &before["seq"], &format!("{what}: decisions"));
    if before["stage"]["step"].is_object() {
        world.ask("Abort", "stop").await;
        world.stands("RolledBack", "Aborted").await;
        world.weighs(100, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_older_version_wrote_is_gone_on_with() {
    for (version, stage, kept) in golden() {
        goes_on(&format!("{stage} of {version}"), &stage, &kept).await;
    }
}

/// What a version to come may write: more fields everywhere, and records in words that nobody knows yet.
fn of_a_later_version(status: &Value) -> Value {
    let mut status = status.clone();
    enrich(&mut status);
    let record = json!({
        "seq": 0, "at": "2026-03-14T15:00:00Z", "kind": "Rebalanced", "reason": "Weather",
        "message": "a decision that this version cannot make", "fromWeight": 0, "weight": 0,
        "checks": [{"name": "weather", "verdict": "Maybe", "message": "who knows"}],
    });
    let unreadable = json!({"seq": "seven"});
    status["decisions"].as_array_mut().expect("decisions").insert(0, record);
    status["decisions"].as_array_mut().expect("decisions").insert(0, unreadable);
    status["phase"] = "Rebalancing".into();
    status["reason"] = "Weather".into();
    let strange = json!({
        "type": "Sunny", "status": "True", "reason": "Weather", "message": "",
        "lastTransitionTime": "2026-03-14T15:00:00Z",
    });
    status["conditions"].as_array_mut().expect("conditions").push(strange);
    status
}

fn enrich(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A spec with unknown fields is refused; see the next test.
            fields.iter_mut().filter(|(name, _)| *name != "pinned").for_each(|(_, field)| enrich(field));
            // The machine's notes are one of several, so nothing can stand beside them.
            if !fields.contains_key("step") || fields.contains_key("seq") {
                fields.insert("novel".into(), json!({"of": ["a", "later", "version"]}));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(enrich),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_version_wrote_is_gone_on_with() {
    for (version, stage, kept) in golden() {
        let (mut world, _sluice) = {
            let mut later = kept.clone();
            later["rollout"]["status"] = of_a_later_version(&kept["rollout"]["status"]);
            resumed(&stage, &later).await
        };
        let before = &kept["rollout"]["status"];
        tokio::time::sleep(Duration::from_secs(20)).await;
        let status = world.status();
        for field in ["phase", "reason", "stable", "canary", "progress", "pinned", "outcomes", "seq"] {
            same(&status[field], &before[field], &format!("{stage} of later than {version}: {field}"));
        }
        same(
            &oracle::weights(&world.virtual_service()),
            &oracle::weights(&kept["virtualService"]),
            &format!("{stage}: the traffic"),
        );
        if before["stage"]["step"].is_object() {
            world.ask("Abort", "stop").await;
            world.weighs(100, 0).await;
            let kinds = world.status()["decisions"].to_string();
            assert!(
                kinds.contains("a decision that this version cannot make"),
                "the record is gone: {kinds}"
            );
        }
        // What means nothing to this version is not on record as it was; all else is as it always is.
        let broken = world.broken();
        let beside = |found: &&Violation| {
            found.guarantee != 15 || !found.what.ends_with("is not on record any more, or another one")
        };
        same(&broken.iter().find(beside), &None, &format!("{stage} of later than {version}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_in_a_word_of_another_version_waits_for_a_retry() {
    let (_, stage, mut kept) = golden().into_iter().find(|(_, stage, _)| stage == "rolled-back").unwrap();
    kept["rollout"]["status"]["outcomes"][0]["outcome"] = "Quarantined".into();
    kept["rollout"]["status"]["outcomes"][0]["reason"] = "Weather".into();
    let (world, _sluice) = resumed(&stage, &kept).await;
    world.v2.predictor.set_errors(0.0);
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&oracle::weights(&world.virtual_service()), &(100, 0), "the traffic");
    same(&world.status()["phase"], &"RolledBack".into(), "the phase");
    world.ask("Retry", "again").await;
    world.weighs(80, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_field_of_a_spec_that_this_version_does_not_know_stops_what_grows_and_no_rollback() {
    for pinned in [true, false] {
        let (_, stage, mut kept) = golden().into_iter().find(|(_, stage, _)| stage == "gate").unwrap();
        let spec = if pinned { "/rollout/status/pinned" } else { "/rollout/spec" };
        kept.pointer_mut(spec).unwrap()["checks"][0]["drift"] = json!({"max": 0.1});
        let (world, _sluice) = resumed(&stage, &kept).await;
        world.ask("Approve", "go").await;
        world
            .sees("it says which field", |status| {
                let accepted = &status["conditions"][0];
                accepted["reason"] == "Unsupported"
                    && accepted["message"].as_str().is_some_and(|text| text.contains("checks[0].drift"))
            })
            .await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic");
        world.v2.predictor.set_errors(0.5);
        world.weighs(100, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_this_version_does_not_know_ends_at_stable() {
    let (_, stage, mut kept) = golden().into_iter().find(|(_, stage, _)| stage == "step").unwrap();
    kept["rollout"]["status"]["stage"] = json!({"cooling": {"since": "yesterday"}});
    let (world, _sluice) = resumed(&stage, &kept).await;
    world.stands("Stalled", "StatusLost").await;
    world.weighs(100, 0).await;
    same(&world.status()["stable"]["service"], &"iris-v1".into(), "stable");
}

/// The definitions as they are in the repository, but for a field of the status, created on the API.
async fn with_kinds(world: &World, without: Option<&str>) {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/sluice.dev.yaml")).unwrap();
    for mut definition in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
        // A Freeze has no status.
        let status = definition.pointer_mut(status).and_then(Value::as_object_mut);
        if let (Some(status), Some(field)) = (status, without) {
            status.remove(field);
        }
        world.create(definition).await;
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_older_are_waited_for_and_then_said() {
    let world = World::new().await;
    with_kinds(&world, Some("retiring")).await;
    world.create(rollout(&json!([{"weight": 50, "for": "2s"}]))).await;
    let sluice = world.controller();
    let error = sluice.ended().await.expect_err("it does not start").to_string();
    assert!(error.contains("Rollout has no status.retiring"), "{error}");
    assert!(world.status().is_null(), "it acted all the same");
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_updated_while_it_waits_are_enough() {
    let world = World::new().await;
    with_kinds(&world, Some("retiring")).await;
    world.create(rollout(&json!([{"weight": 50, "for": "2s"}]))).await;
    let _sluice = world.controller();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.status().is_null(), "it acted before");
    with_kinds(&world, None).await;
    world.stands("Healthy", "Live").await;
}
