//! Why a decision was made.

use serde_json::{Value, json};
use sluice_lab::embedded;

use super::world::{create, healthy, set_status, sluice};

/// A Rollout with two decisions on record.
async fn decided() -> embedded::Api {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let decision = |seq: u64, kind: &str, message: &str| {
        json!({
            "seq": seq, "at": "2026-03-14T15:09:26Z", "kind": kind, "reason": "CheckFailed", "message": message,
            "fromWeight": 10, "weight": 0, "revision": "default/iris-v2:8000", "by": "ann",
        })
    };
    let mut status = healthy("iris");
    let mut end = decision(6, "RolledBack", "errors: too many");
    end["checks"] = json!([{
        "name": "errors", "rule": "at most 1% of the requests fail", "verdict": "Fail", "message": "7.5% failed",
        "canary": {"requests": 1204, "bad": 90}, "stable": {"requests": 1233, "bad": 2}, "failures": 2,
        "effect": {"ratio": 46.08, "from": 10.0, "to": 212.0, "worse": 1000.0, "better": 0.0, "needed": 100.0,
                   "maxRatio": 1.0, "clearRatio": 2.0},
    }]);
    let change = json!({"field": "spec.http[0].route[1].weight", "of": "iris-v2", "from": "10", "to": "0"});
    end["writes"] =
        json!([{"kind": "VirtualService", "namespace": "default", "name": "iris", "changes": [change]}]);
    status["decisions"] = json!([decision(5, "Entered", "step 1 passed"), end]);
    set_status(&api, "iris", status).await;
    api
}

#[tokio::test]
async fn the_last_decision_is_told_or_the_one_that_is_named() {
    let api = decided().await;
    let last = sluice(&api, "explain iris").await;
    assert_eq!(last.code(), 0);
    for expected in [
        "decision 6",
        "Rolled back: default/iris-v2:8000",
        "ann asked for it",
        "errors: too many (CheckFailed)",
        "The rule: at most 1% of the requests fail.",
        "Counted: canary 90 of 1,204 (7.5%), stable 2 of 1,233 (0.16%).",
        "ratio 46.08, between 10 and 212",
        "VirtualService default/iris:",
        "spec.http[0].route[1].weight of iris-v2: 10 before, 0 after",
    ] {
        assert!(last.out.contains(expected), "{expected:?} is not in\n{}", last.out);
    }
    let earlier = sluice(&api, "explain iris --decision 5").await;
    assert!(earlier.out.contains("decision 5") && earlier.out.contains("1 more decision"), "{}", earlier.out);
    let object: Value = serde_json::from_str(&sluice(&api, "explain iris -d 5 -o json").await.out).unwrap();
    assert_eq!((&object["seq"], &object["kind"]), (&json!(5), &json!("Entered")));
    assert_eq!(sluice(&api, "explain iris -o name").await.out, "6\n");
}

#[tokio::test]
async fn as_json_and_yaml_a_decision_is_what_the_status_has_of_it() {
    let api = decided().await;
    let rollout = api.object("rollouts.sluice.dev", "default", "iris").unwrap();
    let expected = &rollout["status"]["decisions"][1];
    let json: Value = serde_json::from_str(&sluice(&api, "explain iris -o json").await.out).unwrap();
    assert_eq!(json, *expected);
    let yaml: Value = serde_saphyr::from_str(&sluice(&api, "explain iris -o yaml").await.out).unwrap();
    assert_eq!(yaml, *expected);
}

#[tokio::test]
async fn what_is_not_on_record_is_said_with_what_is() {
    let api = decided().await;
    let ran = sluice(&api, "explain iris --decision 3").await;
    assert_eq!(ran.code(), 1);
    assert_eq!(
        ran.failure(),
        "decision 3 of the Rollout \"iris\" is not on record: the last ones are, 5 to 6"
    );
    create(&api, "wine").await;
    let nothing = sluice(&api, "explain wine").await;
    assert!(
        nothing.failure().contains("nothing was decided about the Rollout \"wine\" yet"),
        "{}",
        nothing.failure()
    );
    assert_eq!(sluice(&api, "explain nobody").await.code(), 3);
}
