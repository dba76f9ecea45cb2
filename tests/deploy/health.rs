//! Argo CD's health checks on what the controller really writes.

use std::fs;

use serde_json::{Value, json};
use sluice_core::api::{Phase, Reason};

use crate::{
    lua::{Health, health},
    read, root,
};

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

/// What the controller really writes of a refusal is in `tests/embedded/health.rs`; here is each reason that there is.
#[test]
fn a_refused_spec_is_degraded_unless_nothing_was_live_and_the_same_sync_may_mend_it() {
    const DEGRADED: &str = "Degraded";
    const PROGRESSING: &str = "Progressing";
    let (_, live) = written().into_iter().find(|(stage, _)| stage == "healthy").unwrap();
    let refused = |was_live: bool, reason: &str| {
        let mut object = live.clone();
        let status = object["status"].as_object_mut().unwrap();
        if !was_live {
            status.remove("stable");
        }
        status.insert("phase".to_owned(), "Pending".into());
        let message = "there is no such thing";
        let accepted = json!({"type": "Accepted", "status": "False", "reason": reason, "message": message});
        status.insert("conditions".to_owned(), json!([accepted]));
        object
    };
    for (reason, never_live, live) in [
        ("InvalidSpec", DEGRADED, DEGRADED),
        ("RouteTaken", DEGRADED, DEGRADED),
        ("AmbiguousStable", DEGRADED, DEGRADED),
        ("TargetNotFound", PROGRESSING, DEGRADED),
        ("VirtualServiceNotFound", PROGRESSING, DEGRADED),
        ("RouteNotFound", PROGRESSING, DEGRADED),
        ("NotAllowed", PROGRESSING, DEGRADED),
        ("GatewayNotFound", PROGRESSING, DEGRADED),
        ("SubsetNotFound", PROGRESSING, DEGRADED),
        ("NotDelegated", PROGRESSING, PROGRESSING),
    ] {
        for (was_live, expected) in [(false, never_live), (true, live)] {
            let health = health("Rollout", &refused(was_live, reason));
            assert_eq!(health.status, expected, "{reason}, live {was_live}: {health:?}");
            assert_eq!(health.message, format!("{reason}: there is no such thing"));
        }
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
fn every_word_that_the_check_names_is_one_of_the_product() {
    let text = read("deploy/argocd/health.yaml");
    let quoted = |before: &str| -> Vec<String> {
        text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let phases = quoted("status.phase == \"");
    for phase in phases.iter().filter(|phase| *phase != "Done") {
        assert!(Phase::ALL.iter().any(|known| known.to_string() == *phase), "{phase} is no phase");
    }
    let of_tables =
        text.match_indices(" = true").map(|(at, _)| text[..at].rsplit([' ', '{']).next().unwrap());
    let reasons: Vec<String> = of_tables.map(str::to_owned).chain(quoted("condition.reason == \"")).collect();
    for reason in &reasons {
        let known: Reason = serde_json::from_value(json!(reason)).unwrap();
        assert_ne!(known, Reason::Unknown, "{reason} is no reason");
    }
    assert!(phases.len() > 4 && reasons.len() > 10, "{phases:?} {reasons:?}");
}
