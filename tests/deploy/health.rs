//! Argo CD's health checks on what the controller really writes.

use std::fs;

use mlua::{Lua, LuaOptions, LuaSerdeExt, SerializeOptions, StdLib};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{read, root, yaml};

/// What Argo CD makes of an object.
#[derive(Debug, Deserialize, PartialEq)]
struct Health {
    status: String,
    message: String,
}

/// Runs the check of a kind as Argo CD does: the object is `obj`, and there are no libraries but the basic one. Its
/// interpreter is one of Lua 5.1.
fn health(kind: &str, object: &Value) -> Health {
    let config = yaml("deploy/argocd/health.yaml");
    let script = config["data"][format!("resource.customizations.health.sluice.dev_{kind}")].clone();
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).unwrap();
    let options = SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(object, options).unwrap()).unwrap();
    let answer: mlua::Value = lua.load(script.as_str().expect("a script")).eval().unwrap();
    lua.from_value(answer).unwrap()
}

/// Each stage that a version ever wrote, with its object.
fn written() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for version in fs::read_dir(root("tests/data/statuses")).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(version.path()).unwrap().map(Result::unwrap) {
            let stage = file.path().file_stem().unwrap().to_string_lossy().into_owned();
            let kept: Value = serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap();
            all.push((stage, kept["rollout"].clone()));
        }
    }
    all
}

#[test]
fn every_stage_that_was_ever_written_has_its_health() {
    let mut seen = 0;
    for (stage, rollout) in written() {
        let expected = match stage.as_str() {
            "healthy" | "observed" => "Healthy",
            "not-ready" | "step" | "promoting" => "Progressing",
            "gate" | "approved" | "paused" | "without-evidence" => "Suspended",
            "rolled-back" | "status-lost" => "Degraded",
            other => {
                // A stage that traffic steps may bring: whatever it is, it has a health and a reason.
                let health = health("Rollout", &rollout);
                assert!(!health.message.is_empty(), "{other}: {health:?}");
                continue;
            }
        };
        let health = health("Rollout", &rollout);
        assert_eq!(health.status, expected, "{stage}: {health:?}");
        assert_eq!(Some(health.message.as_str()), rollout["status"]["message"].as_str(), "{stage}");
        seen += 1;
    }
    assert!(seen >= 11, "only {seen} stages were found");
}

#[test]
fn a_refused_spec_is_degraded_unless_the_same_sync_may_mend_it() {
    let refused = |phase: &str, reason: &str| {
        json!({"metadata": {"generation": 2}, "status": {
            "observedGeneration": 2, "phase": phase, "reason": reason, "message": "of the phase",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": reason, "message": "of the phase"},
                {"type": "Accepted", "status": "False", "reason": reason, "message": "there is no such thing"},
            ],
        }})
    };
    for (phase, reason, expected) in [
        ("Pending", "InvalidSpec", "Degraded"),
        ("Pending", "RouteTaken", "Degraded"),
        ("Healthy", "Unsupported", "Degraded"),
        ("Healthy", "TargetNotFound", "Degraded"),
        ("Pending", "TargetNotFound", "Progressing"),
        ("Pending", "VirtualServiceNotFound", "Progressing"),
    ] {
        let health = health("Rollout", &refused(phase, reason));
        assert_eq!(health.status, expected, "{phase}, {reason}: {health:?}");
        assert_eq!(health.message, format!("{reason}: there is no such thing"));
    }
}

#[test]
fn what_nobody_has_looked_at_is_progressing() {
    let never = json!({"metadata": {"generation": 1}, "spec": {}});
    assert_eq!(health("Rollout", &never).message, "the controller has not looked at it yet");
    let (_, mut edited) = written().into_iter().find(|(stage, _)| stage == "healthy").unwrap();
    edited["metadata"]["generation"] = json!(edited["status"]["observedGeneration"].as_i64().unwrap() + 1);
    let health = health("Rollout", &edited);
    assert_eq!(
        (health.status.as_str(), health.message.as_str()),
        ("Progressing", "the controller has not looked at this generation yet")
    );
}

#[test]
fn an_action_is_healthy_when_it_was_done() {
    for (object, status, message) in [
        (json!({"spec": {"do": "Abort"}}), "Progressing", "the controller has not answered it yet"),
        (json!({"status": {"phase": "Done", "message": "aborted"}}), "Healthy", "aborted"),
        (json!({"status": {"phase": "Done"}}), "Healthy", "done"),
        (json!({"status": {"phase": "Refused", "message": "step 2 is over"}}), "Degraded", "step 2 is over"),
    ] {
        assert_eq!(
            health("RolloutAction", &object),
            Health { status: status.to_owned(), message: message.to_owned() }
        );
    }
}

#[test]
fn every_phase_that_the_check_names_is_one_of_the_product() {
    let text = read("deploy/argocd/health.yaml");
    let named = text.split("status.phase == \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let known: Vec<String> =
        sluice_core::api::Phase::ALL.iter().map(ToString::to_string).chain(["Done".to_owned()]).collect();
    let mut seen = 0;
    for phase in named {
        assert!(known.iter().any(|known| known == phase), "{phase} is no phase");
        seen += 1;
    }
    assert!(seen > 4, "{seen} phases were found");
}
