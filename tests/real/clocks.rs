//! A Prometheus whose clock is not the controller's: what it says is no evidence, in either direction, and the status
//! says why.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_lab::real::wait;

use crate::controller::Controller;
use crate::lab::{LIMIT, Lab};
use crate::world::{World, same};

fn spec() -> Value {
    json!({
        "steps": [{"weight": 30, "for": "300ms"}],
        "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
    })
}

pub async fn a_prometheus_whose_clock_is_off_neither_promotes_nor_rolls_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "clocks").await?;
    let recording = world.record().await?;
    let _users = world.users(80.0);
    world.scraped().await?;
    world.predictor("v2").set_errors(0.5);
    world.create_rollout(&world.rollout("v2", spec())).await?;
    // Seen from a controller that is ahead, Prometheus is behind.
    for (minutes, expected) in [(61, "more than an hour behind"), (-2, "more than a minute ahead of")] {
        let controller = Controller::with_clock(world.shared, &world.namespace, "one", minutes)?;
        wait::until(LIMIT, "the status says what is wrong with the clock", || async {
            let status = world.status().await.map_err(|error| error.to_string())?;
            if status.to_string().contains(expected) { Ok(()) } else { Err(status.to_string()) }
        })
        .await?;
        let looks = controller.looks()?;
        world.until_looks(&controller, looks + 10).await?;
        let status = world.status().await?;
        ensure!(status["phase"] == "Waiting" || status["phase"] == "Progressing", "{}", status["phase"]);
        same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 30])?;
        world.end(controller).await?;
    }
    // By a clock that agrees the breach is one.
    let controller = world.controller()?;
    world.phase("RolledBack", "CheckFailed").await?;
    // It is recorded before it is done.
    world.weight_is("iris-v2", 0).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 30, 0])?;
    world.end(controller).await
}
