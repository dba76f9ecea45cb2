//! What the source has recorded of stable before a rollout.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;

use crate::outage::{Observed, wanted};

/// How many requests of stable the comparison had counted when it rolled back, with users for so long before.
async fn counted_at_the_rollback(before: Duration) -> u64 {
    let mut observed = Observed::new().await;
    // A comparison wants to see stable ten times before it says anything.
    observed.world.limits.breach = TimeDelta::minutes(2);
    observed.world.fails(1.0);
    tokio::time::sleep(before).await;
    let mut wanted = wanted();
    wanted["spec"]["steps"] = json!([{"weight": 50, "for": "1h"}]);
    wanted["spec"]["checks"] = json!([{"name": "errors", "errors": {"versusStable": {}, "minRequests": 1}}]);
    observed.world.create(wanted).await;
    let sluice = observed.controller();
    observed.world.stands("RolledBack", "CheckFailed").await;
    let status = observed.world.status();
    let decisions = status["decisions"].as_array().unwrap();
    let rollback = decisions.iter().find(|decision| decision["kind"] == "RolledBack").unwrap();
    sluice.stop().await;
    rollback["checks"][0]["stable"]["requests"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_stable_did_before_is_known_when_a_rollout_begins() {
    // Stable gets 15 requests a look, and nothing is said before it was seen ten times.
    let known = counted_at_the_rollback(Duration::from_mins(4)).await;
    assert!(known < 9 * 15, "{known} requests");
    let unknown = counted_at_the_rollback(Duration::ZERO).await;
    assert!(unknown > 9 * 14, "{unknown} requests");
}
