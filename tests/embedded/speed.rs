//! The shortest interval: how soon a breach is acted on once it can be seen.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::world::{LIMIT, World, rollout};

/// The shortest interval that there is.
const INTERVAL: Duration = Duration::from_millis(200);
/// What two requests to pods and two to the API server take in virtual time, whose steps are 2 ms.
const REQUESTS: Duration = Duration::from_millis(50);

/// The time when something first holds, to a millisecond.
async fn first(world: &World, holds: impl Fn() -> bool) -> DateTime<Utc> {
    let end = world.now() + LIMIT;
    while !holds() {
        assert!(world.now() < end, "it never holds");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.now()
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_acted_on_within_one_interval_of_200_ms() {
    // The breach comes at five points between two looks.
    for offset in [0, 41, 83, 127, 171] {
        let world = World::new_for(200.0).await;
        let _controller = world.controller();
        let mut object = rollout(&json!([{"weight": 50, "for": "1h"}]));
        object["spec"]["interval"] = json!("200ms");
        object["spec"]["settle"] = json!("200ms");
        object["spec"]["checks"] =
            json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 1, "window": "200ms"}}]);
        world.create(object).await;
        world.weighs(50, 50).await;
        tokio::time::sleep(Duration::from_secs(2) + Duration::from_millis(offset)).await;
        world.fails(1.0);
        // From the first failed request on, every look sees more than 1% of the last 200 ms failed.
        let visible = first(&world, || world.v2.predictor.served().errors() > 0).await;
        let decided = first(&world, || world.status()["phase"] == "RolledBack").await;
        let gone = first(&world, || crate::oracle::weights(&world.virtual_service()) == (100, 0)).await;
        let within = INTERVAL + REQUESTS;
        for (what, at) in [("decided", decided), ("without traffic", gone)] {
            let took = (at - visible).to_std().unwrap_or_default();
            assert!(
                took <= within,
                "{what} {took:?} after the breach was visible, expected {within:?} at most"
            );
        }
    }
}
