//! The ways a rollout can end other than by promotion, under load.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_lab::real::{Answer, wait};
use tokio::time::Instant;

use crate::lab::{LIMIT, Lab};
use crate::shares::{none_failed, only_failed, share_is, share_is_over};
use crate::world::{World, same};

/// From the breach in Prometheus to the last request that the canary gets, above the interval. The aim is 0.5 s; this is a
/// busy machine with a debug build.
const LATE: Duration = Duration::from_secs(3);

pub async fn a_rollback_costs_only_what_the_canary_broke(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "rollback").await?;
    let users = world.users().rate(150.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!([{"weight": 25, "for": "1h"}]))).await?;
    world.obeyed(&observed, "iris-v2", 25).await?;
    observed.sent(&users, "iris-v2", 25, 600).await?;

    world.predictor("v2").set_errors(0.5);
    let errors = format!(
        "sum(rest_server_requests_total{{namespace=\"{}\", service=\"iris-v2\", status_code=\"500\"}})",
        world.namespace
    );
    wait::until(LIMIT, "Prometheus has seen the breach", || async {
        let samples = world.shared.prometheus.query(&errors).await.map_err(|error| error.to_string())?;
        if samples.first().is_some_and(|sample| sample.value > 0.0) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await?;
    let breach = Instant::now();
    world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    world.obeyed(&observed, "iris-v2", 0).await?;

    let answers = users.between(breach, Instant::now());
    let last = answers.iter().filter(|answer| answer.by == "iris-v2").map(|answer| answer.sent).max();
    let last = last.context("the canary was asked")?.duration_since(breach);
    println!("breach in Prometheus to the last request of the canary: {last:?}, of which the interval is 1s");
    ensure!(last <= Duration::from_secs(1) + LATE, "{last:?}");
    share_is(&observed, &users, "iris-v2", 25)?;
    share_is(&observed, &users, "iris-v2", 0)?;
    let answers = users.stop().await;
    only_failed(&answers, |answer| answer.by == "iris-v2" && answer.status == 500)?;
    let failed = answers.iter().filter(|answer| answer.failed()).count() as u64;
    same("failed answers are all the predictor's", &failed, &world.predictor("v2").served().errors())?;
    world.end(controller)
}

pub async fn another_revision_takes_over(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::new(lab, "supersede").await?;
    world.serve("v3").await?;
    world.scraped().await?;
    world.routed().await?;
    let users = world.users().rate(420.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let steps = json!([World::step(25, 2000), World::step(60, 2000)]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.obeyed(&observed, "iris-v2", 25).await?;
    world.want("v3").await?;
    world.obeyed(&observed, "iris-v3", 25).await?;
    let at = Instant::now();
    world.phase("Healthy", "Live").await?;
    world.only("iris-v3").await?;
    world.obeyed(&observed, "iris-v3", 100).await?;

    same("v2", &observed.sequence("iris-v2"), &vec![0, 25, 0])?;
    same("v3", &observed.sequence("iris-v3"), &vec![0, 25, 60, 100])?;
    share_is_over(&observed, &users, "iris-v3", 25, 2000)?;
    share_is_over(&observed, &users, "iris-v3", 60, 2000)?;
    let after = at + Duration::from_secs(1);
    let late = users.between(after, Instant::now());
    same("v2 afterwards", &Answer::by_predictor(&late).get("iris-v2"), &None)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}

pub async fn a_deletion_gives_all_back(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "deletion").await?;
    let users = world.users().rate(100.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!([{"weight": 40, "for": "1h"}]))).await?;
    world.obeyed(&observed, "iris-v2", 40).await?;
    observed.sent(&users, "iris-v2", 40, 300).await?;
    world.delete_rollout().await?;
    wait::until(LIMIT, "the Rollout is gone", || async {
        match world.rollouts().get_opt("iris").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    world.only("iris-v1").await?;
    world.obeyed(&observed, "iris-v2", 0).await?;
    observed.sent(&users, "iris-v2", 0, 100).await?;
    share_is(&observed, &users, "iris-v2", 40)?;
    share_is(&observed, &users, "iris-v2", 0)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}
