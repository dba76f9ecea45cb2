//! The API server is away for a minute in the middle of a step: nothing grows, no step ends by time that nobody saw pass,
//! and a breach that became visible meanwhile ends as soon as it is back.

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use sluice_lab::real::{Authors, Proxy};

use crate::controller::{Controller, LEASE_DURATION};
use crate::lab::{CONTROLLER, Lab, Shared};
use crate::trace::Known;
use crate::world::{POD_PORT, World, decided, same};

/// Much longer than a lease.
const AWAY: Duration = Duration::from_mins(1);

/// Two steps with a check; so long in the second.
fn spec(second: &str) -> Value {
    json!({
        "steps": [{"weight": 20, "for": "300ms"}, {"weight": 60, "for": second}],
        "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 4}}],
        "metrics": {"scrape": {"port": POD_PORT}},
    })
}

fn over(proxy: &Proxy, world: &World<'_>) -> Result<Controller> {
    Controller::over(proxy.client()?, world.shared, &world.namespace, "one", LEASE_DURATION)
}

/// How the server goes away and comes back.
trait Absence {
    async fn begin(&self) -> Result<()>;
    async fn end(&self) -> Result<()>;
}

/// Connections are refused.
struct Refusing<'a>(&'a Proxy);
/// Nothing is answered.
struct Hanging<'a>(&'a Proxy);
/// The process itself is stopped.
struct Frozen<'a>(&'a Shared);

impl Absence for Refusing<'_> {
    async fn begin(&self) -> Result<()> {
        self.0.refuse_connections().await;
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        Ok(self.0.accept_connections().await?)
    }
}

impl Absence for Hanging<'_> {
    async fn begin(&self) -> Result<()> {
        self.0.pause();
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        self.0.resume();
        Ok(())
    }
}

impl Absence for Frozen<'_> {
    async fn begin(&self) -> Result<()> {
        Ok(self.0.cluster.freeze_api_server().await?)
    }

    async fn end(&self) -> Result<()> {
        Ok(self.0.cluster.thaw_api_server().await?)
    }
}

pub async fn a_breach_that_nobody_could_act_on_ends_when_connections_are_taken_again(
    lab: &Lab,
) -> Result<()> {
    let world = World::new(lab, "away-refusing").await?;
    let proxy = world.shared.cluster.proxy(CONTROLLER)?;
    breached_meanwhile(&world, over(&proxy, &world)?, &Refusing(&proxy), Authors::All).await
}

pub async fn a_breach_that_nobody_could_act_on_ends_when_requests_are_answered_again(
    lab: &Lab,
) -> Result<()> {
    let world = World::new(lab, "away-hanging").await?;
    let proxy = world.shared.cluster.proxy(CONTROLLER)?;
    breached_meanwhile(&world, over(&proxy, &world)?, &Hanging(&proxy), Authors::All).await
}

pub async fn a_breach_while_the_api_server_is_stopped_ends_when_it_goes_on(_: &Lab) -> Result<()> {
    // Everybody else's stands still too, so it is its own.
    let shared = Shared::start().await?;
    let world = World::on(&shared, "away-frozen").await?;
    // Before that it is killed and started again, which changes nothing. What it had committed and not answered by then
    // is in no audit log.
    let controller = world.controller()?;
    let _users = world.users(20.0);
    world.create_rollout(&world.rollout("v2", spec("1h"))).await?;
    world.step(2, "iris-v2", 60).await?;
    let before = decided(&world.status().await?);
    shared.cluster.stop_api_server().await;
    shared.cluster.start_api_server().await?;
    let looks = controller.looks()?;
    world.until_looks(&controller, looks + 5).await?;
    same("decisions after a restart", &decided(&world.status().await?), &before)?;
    meanwhile(&world, &Frozen(&shared), Authors::Some).await?;
    controller.stop().await?;
    Ok(())
}

async fn breached_meanwhile(
    world: &World<'_>,
    controller: Controller,
    absence: &impl Absence,
    authors: Authors,
) -> Result<()> {
    let _users = world.users(20.0);
    world.create_rollout(&world.rollout("v2", spec("1h"))).await?;
    world.step(2, "iris-v2", 60).await?;
    meanwhile(world, absence, authors).await?;
    world.end(controller).await
}

/// From the middle of step 2 on.
async fn meanwhile(world: &World<'_>, absence: &impl Absence, authors: Authors) -> Result<()> {
    let mut known = Known::default();
    absence.begin().await?;
    let from = Utc::now();
    world.predictor("v2").set_errors(0.5);
    known.breach("iris-v2", from);
    tokio::time::sleep(AWAY).await;
    let to = Utc::now();
    absence.end().await?;
    known.away(from, to);
    let status = world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "RolledBack"];
    same("decisions", &decided(&status)[..5].to_vec(), &kinds.map(str::to_owned).to_vec())?;

    let commits = world.shared.history.commits(&world.namespace, authors).await?;
    let ours = commits.iter().filter(|commit| commit.by.as_deref() == Some(CONTROLLER));
    let early: Vec<_> = ours
        .filter(|commit| from + TimeDelta::seconds(1) < commit.at && commit.at < to)
        .map(|commit| (&commit.resource, commit.version))
        .collect();
    ensure!(early.is_empty(), "written while nothing could be: {early:?}");
    world.holds(known, authors).await.map(drop)
}

pub async fn time_that_nobody_saw_pass_ends_no_step(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "away-in-step").await?;
    let proxy = world.shared.cluster.proxy(CONTROLLER)?;
    let controller = over(&proxy, &world)?;
    let _users = world.users(20.0);
    // Shorter than the absence, and longer than what can be seen of it.
    world.create_rollout(&world.rollout("v2", spec("20s"))).await?;
    world.step(2, "iris-v2", 60).await?;
    proxy.refuse_connections().await;
    let from = Utc::now();
    tokio::time::sleep(AWAY).await;
    let to = Utc::now();
    proxy.accept_connections().await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;

    let commits = world.shared.history.commits(&world.namespace, Authors::All).await?;
    let promoted = commits.iter().find(|commit| {
        let status = commit.after.as_ref().map(|object| object["status"].clone()).unwrap_or_default();
        decided(&status).contains(&"Promoting".to_owned())
    });
    let promoted = promoted.map_or(to, |commit| commit.at);
    // It saw at most what came before the absence and what it took it to give up.
    ensure!(
        promoted > to + TimeDelta::seconds(2),
        "promoted at {promoted}, and it was away from {from} to {to}"
    );
    let mut known = Known::default();
    known.away(from, to);
    world.holds(known, Authors::All).await?;
    world.end(controller).await
}
