//! A controller that is killed as the kernel kills, at a moment nobody chose.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::generated::{exposed, predictor, seldon_deployment, users_of_it};
use crate::lab::{GATEWAY, Lab};
use crate::shares::{Observed, none_failed, only_failed, share_is};
use crate::world::{World, same};

/// A moment within so long, another one in each run; what fails says which.
fn moment(within: Duration) -> Result<Duration> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    Ok(within.mul_f64(f64::from(nanos) / 1e9))
}

pub async fn a_promotion_goes_on_where_it_was(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "killed-promotion").await?;
    let users = world.users().rate(150.0).start();
    let observed = world.observe(lab);
    let mut controller = world.controller()?;
    let steps = json!([World::step(10, 350), World::step(40, 350), World::step(100, 200)]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.obeyed(&observed, "iris-v2", 10).await?;
    // Anywhere from the first step to the promotion.
    let at = moment(Duration::from_secs(12))?;
    tokio::time::sleep(at).await;
    controller.kill()?;
    controller.start_again()?;
    world.phase("Healthy", "Live").await.with_context(|| format!("killed after {at:?}"))?;
    world.only("iris-v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    same(
        &format!("what Envoy did, killed after {at:?}"),
        &observed.sequence("iris-v2"),
        &vec![0, 10, 40, 100],
    )?;
    observed.sent(&users, "iris-v2", 100, 200).await?;
    for weight in [10, 40, 100] {
        share_is(&observed, &users, "iris-v2", weight)?;
    }
    none_failed(&users.stop().await).with_context(|| format!("killed after {at:?}"))?;
    world.end(controller)
}

pub async fn a_breach_ends_though_the_controller_was_killed(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "killed-breach").await?;
    let users = world.users().rate(250.0).start();
    let observed = world.observe(lab);
    let mut controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!([{"weight": 30, "for": "1h"}]))).await?;
    world.obeyed(&observed, "iris-v2", 30).await?;
    world.predictor("v2").set_errors(0.5);
    // Anywhere from not having seen it to having recorded or written it.
    let at = moment(Duration::from_secs(4))?;
    tokio::time::sleep(at).await;
    controller.kill()?;
    controller.start_again()?;
    world.phase("RolledBack", "CheckFailed").await.with_context(|| format!("killed after {at:?}"))?;
    world.only("iris-v1").await?;
    world.obeyed(&observed, "iris-v2", 0).await?;
    let sequence = observed.sequence("iris-v2");
    ensure!(sequence == [0, 30, 0], "killed after {at:?}: {sequence:?}");
    share_is(&observed, &users, "iris-v2", 30)?;
    only_failed(&users.stop().await, |answer| answer.by == "iris-v2" && answer.status == 500)?;
    world.end(controller)
}

/// Copies, then a cohort, then shares: on the route that Sluice generates for a SeldonDeployment.
pub async fn a_seldon_deployment_is_promoted_over_steps_of_every_kind(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "killed-seldon").await?;
    seldon_deployment(&mut world, json!({"traffic": 0})).await?;
    let mut controller = world.controller()?;
    let expose = json!({"hosts": [world.host()], "gateways": [GATEWAY]});
    world.create_rollout(&exposed(&world, predictor("main"), expose)).await?;
    let users = users_of_it(&world).await?;
    let members = users.clone().header("x-group", "beta").rate(60.0).start();
    let users = users.rate(150.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    let steps = json!([
        {"mirror": 100, "for": "1s", "minRequests": 400},
        {"match": [{"headers": {"x-group": {"exact": "beta"}}}], "for": "1s", "minRequests": 100},
        World::step(30, 500),
        World::step(100, 200),
    ]);
    world.edit(json!({"target": predictor("green"), "steps": steps})).await?;
    world.status_is("copies are made", |status| status["beside"]["mirror"] == 100.0).await?;
    let at = moment(Duration::from_secs(12))?;
    tokio::time::sleep(at).await;
    controller.kill()?;
    controller.start_again()?;
    let killed = || format!("killed after {at:?}");
    world.phase("Healthy", "Live").await.with_context(killed)?;
    world.obeyed(&observed, "iris-green", 100).await.with_context(killed)?;
    same(&format!("what Envoy did, {}", killed()), &observed.sequence("iris-green"), &vec![0, 30, 100])?;
    observed.share_is(&users, ("iris-green", "iris-v2"), 0).with_context(killed)?;
    observed.share_is(&users, ("iris-green", "iris-v2"), 30).with_context(killed)?;
    none_failed(&users.stop().await).with_context(killed)?;
    none_failed(&members.stop().await).with_context(killed)?;
    world.end(controller)
}
