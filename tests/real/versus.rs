//! Comparison with stable, on the numbers of a real Prometheus and on those of the pods themselves: a canary with three times
//! stable's errors is stopped, one with as many is promoted, and one whose numbers are away for a while waits for them.
//!
//! The gateway divides requests exactly and the predictors fail every so-manieth, so what is judged is no matter of chance.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_lab::gateway::{Load, Running};
use sluice_lab::prometheus::Misbehaviour;
use sluice_lab::real::{Prometheus, wait};

use crate::controller::Controller;
use crate::lab::{LIMIT, Lab, SCRAPES_EVERY};
use crate::world::{IRIS, POD_PORT, World, decided, same, same_json};

/// Users, and requests a second of each, at most.
const USERS: usize = 4;
const RATE: f64 = 50.0;
/// More of the canary's requests than any of these tests needs.
const NEVER: u64 = 1_000_000;
/// The share of stable's requests that fail.
const ERRORS: f64 = 0.01;
/// As many of them as show that a canary is no worse.
const ENOUGH: u64 = 600;
/// For how long the numbers are away: longer than the step had still to last.
const AWAY: Duration = Duration::from_secs(8);

/// Half of the requests until the canary has answered so many, and one comparison, which alone can stop it.
fn compared(requests: u64) -> Value {
    json!({
        "steps": [{"weight": 50, "for": "1s", "minRequests": requests}],
        "checks": [{
            "name": "errors-vs-stable",
            "errors": {"versusStable": {"maxRatio": 1, "confidence": "99%"}, "minRequests": 200},
        }],
        "metrics": {"source": "default", "profile": "mlserver"},
        // Much longer than the numbers are away.
        "inconclusive": {"limit": "10m"},
    })
}

/// Users who wait for each answer: a busy machine needs more time for as many requests, and nothing piles up.
fn users(world: &World<'_>) -> [Running; USERS] {
    let one = || Load::infer(&world.host(), IRIS).rate(RATE).in_turn();
    std::array::from_fn(|_| one().start(&world.shared.gateway))
}

fn sent(users: &[Running]) -> u64 {
    users.iter().map(|one| one.report().total()).sum()
}

fn scraped(mut spec: Value) -> Value {
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    spec
}

pub async fn three_times_stables_errors_are_stopped(lab: &Lab) -> Result<()> {
    stopped(&World::new(lab, "versus-worse").await?, compared(NEVER)).await
}

pub async fn three_times_stables_errors_are_stopped_by_scraping(lab: &Lab) -> Result<()> {
    stopped(&World::new(lab, "versus-worse-scraped").await?, scraped(compared(NEVER))).await
}

async fn stopped(world: &World<'_>, spec: Value) -> Result<()> {
    world.predictor("v1").set_errors(ERRORS);
    world.predictor("v2").set_errors(3.0 * ERRORS);
    world.scraped().await?;
    let recording = world.record().await?;
    let _users = users(world);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec)).await?;
    let status = world.phase("RolledBack", "CheckFailed").await?;
    world.only("iris-v1").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50, 0])?;
    let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
    let decision = decisions.iter().find(|decision| decision["kind"] == "RolledBack").cloned();
    let check = &decision.unwrap_or_default()["checks"][0];
    same_json("the verdict", &check["verdict"], &json!("Fail"))?;
    let (worse, needed) = (number(&check["effect"]["worse"]), number(&check["effect"]["needed"]));
    ensure!(worse >= needed && needed >= 99.0, "{check}");
    let ratio = number(&check["effect"]["ratio"]);
    ensure!((2.0..4.5).contains(&ratio), "three times as many is expected: {check}");
    let share = number(&check["canary"]["bad"]) / number(&check["canary"]["requests"]);
    ensure!((0.02..0.04).contains(&share), "{check}");
    println!("stopped after {} requests of the canary", check["canary"]["requests"]);
    world.end(controller).await
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

pub async fn as_many_errors_as_stable_are_promoted(lab: &Lab) -> Result<()> {
    promoted(&World::new(lab, "versus-equal").await?, compared(ENOUGH)).await
}

pub async fn as_many_errors_as_stable_are_promoted_by_scraping(lab: &Lab) -> Result<()> {
    promoted(&World::new(lab, "versus-equal-scraped").await?, scraped(compared(ENOUGH))).await
}

async fn promoted(world: &World<'_>, spec: Value) -> Result<()> {
    world.predictor("v1").set_errors(ERRORS);
    world.predictor("v2").set_errors(ERRORS);
    world.scraped().await?;
    let recording = world.record().await?;
    let _users = users(world);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec)).await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50, 100])?;
    ensure!(decided(&status).contains(&"Promoted".to_owned()), "{:?}", decided(&status));
    // What was promoted did fail as often as it was told to.
    let served = world.predictor("v2").served();
    ensure!(served.errors() >= served.total() / 110 && served.errors() > 5, "{served:?}");
    world.end(controller).await
}

/// Where numbers come from, and how they go away and come back.
trait Source {
    async fn away(&mut self, world: &World<'_>) -> Result<()>;
    async fn back(&mut self, world: &World<'_>) -> Result<()>;
}

/// A Prometheus of the test's own.
struct Server(Prometheus);
/// The pods themselves, whose pages are errors.
struct Pods;

impl Source for Server {
    async fn away(&mut self, _: &World<'_>) -> Result<()> {
        self.0.kill();
        Ok(())
    }

    async fn back(&mut self, _: &World<'_>) -> Result<()> {
        Ok(self.0.start_again().await?)
    }
}

impl Source for Pods {
    async fn away(&mut self, world: &World<'_>) -> Result<()> {
        for version in ["v1", "v2"] {
            world.predictor(version).set_metrics(Some(Misbehaviour::Page(503)));
        }
        Ok(())
    }

    async fn back(&mut self, world: &World<'_>) -> Result<()> {
        for version in ["v1", "v2"] {
            world.predictor(version).set_metrics(None);
        }
        Ok(())
    }
}

pub async fn a_prometheus_that_goes_away_half_way_is_waited_for(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "versus-outage").await?;
    let prometheus = Prometheus::start(SCRAPES_EVERY).await?;
    prometheus.set_targets(world.targets()).await?;
    let controller = Controller::asking(world.shared, &world.namespace, prometheus.url())?;
    waits(&world, controller, Server(prometheus), compared(ENOUGH)).await
}

pub async fn pods_whose_metrics_go_away_half_way_are_waited_for(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "versus-outage-scraped").await?;
    let controller = world.controller()?;
    waits(&world, controller, Pods, scraped(compared(ENOUGH))).await
}

async fn waits(
    world: &World<'_>,
    controller: Controller,
    mut source: impl Source,
    spec: Value,
) -> Result<()> {
    world.predictor("v1").set_errors(ERRORS);
    world.predictor("v2").set_errors(ERRORS);
    let recording = world.record().await?;
    let users = users(world);
    world.create_rollout(&world.rollout("v2", spec)).await?;
    world.step(1, "iris-v2", 50).await?;
    let before = sent(&users);
    wait::until(LIMIT, "some requests were sent in the step", || {
        let now = sent(&users);
        std::future::ready(if now > before + 200 { Ok(()) } else { Err(now.to_string()) })
    })
    .await?;

    source.away(world).await?;
    let status = world.phase("Waiting", "NoEvidence").await?;
    same_json("what the canary has", &status["weight"], &json!(50))?;
    // Not to be right: that nothing happens for so long is what is seen.
    tokio::time::sleep(AWAY).await;
    let status = world.status().await?;
    same_json("the phase", &status["phase"], &json!("Waiting"))?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50])?;

    source.back(world).await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 50, 100])?;
    let kinds = decided(&status);
    ensure!(!kinds.contains(&"Paused".to_owned()), "{kinds:?}");
    world.end(controller).await
}
