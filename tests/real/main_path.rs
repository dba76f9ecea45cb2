//! The main job: a good canary is promoted in steps, a bad one is taken out of traffic.

use anyhow::Result;
use serde_json::json;

use crate::lab::Lab;
use crate::oracle::{self};
use crate::world::{IRIS, ROUTE, World, same};

pub async fn a_good_canary_goes_through_all_steps_and_becomes_stable(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "promotion").await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let _users = world.users(200.0);
    let controller = world.controller()?;
    let steps = json!({
        "steps": [
            {"weight": 5, "for": "600ms"}, {"weight": 25, "for": "600ms"},
            {"weight": 50, "for": "600ms"}, {"weight": 75, "for": "600ms"},
        ],
        "checks": [
            {"name": "errors", "errors": {"max": "1%", "minRequests": 10}},
            {"name": "p99", "latency": {"quantile": 0.99, "max": "1s", "minRequests": 10}},
        ],
    });
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.phase("Healthy", "Live").await?;
    controller.stop().await?;

    let sequence =
        recording.sequence(|route| oracle::weights(route, ROUTE).get("iris-v2").copied().unwrap_or(0));
    same("weights of the canary", &sequence, &vec![0, 5, 25, 50, 75, 100])?;
    for route in recording.versions() {
        let weights = oracle::weights(&route, ROUTE);
        same("sum", &weights.values().sum::<i64>(), &100)?;
        same("the rest", &oracle::the_rest(&route, ROUTE), &oracle::the_rest(&original, ROUTE))?;
    }
    let _ = IRIS;
    Ok(())
}
