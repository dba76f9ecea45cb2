//! The main job: a good canary is promoted in steps, a bad one is taken out of traffic; by the numbers of a Prometheus and
//! by those of the predictors themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use sluice_lab::real::wait;

use crate::controller::Controller;
use crate::lab::{CONTROLLER, LIMIT, Lab};
use crate::oracle;
use crate::world::{ROUTE, World, condition, decided, same, same_json};

/// Four steps that last as long as two looks, and looks that need ten requests.
fn four_steps(third: &str) -> Value {
    json!({
        "steps": [
            {"weight": 5, "for": "600ms"}, {"weight": 25, "for": "600ms"},
            {"weight": 50, "for": third}, {"weight": 75, "for": "600ms"},
        ],
        "checks": [
            {"name": "errors", "errors": {"max": "1%", "minRequests": 10}},
            {"name": "p99", "latency": {"quantile": 0.99, "max": "5s", "minRequests": 10}},
        ],
    })
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// Where the pods of a test serve their metrics.
fn scraping() -> Value {
    json!({"scrape": {"port": crate::world::POD_PORT}})
}

pub async fn a_good_canary_is_promoted_through_four_steps(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "promotion").await?;
    promoted(&world, four_steps("600ms")).await
}

pub async fn a_good_canary_is_promoted_through_four_steps_by_scraping(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "promotion-scraped").await?;
    promoted(&world, with(four_steps("600ms"), "metrics", scraping())).await
}

async fn promoted(world: &World<'_>, spec: Value) -> Result<()> {
    let original = world.route().await?;
    let recording = world.record().await?;
    let _users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec)).await?;
    let status = world.phase("Healthy", "Live").await?;

    let route = world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 5, 25, 50, 75, 100])?;
    world.only_weights_moved(&recording, &original).await?;
    the_winner_has_the_losers_place(&original, &route)?;
    let kinds = ["Adopted", "Started", "Entered", "Entered", "Entered", "Entered", "Promoting", "Promoted"];
    same("decisions", &decided(&status), &kinds.map(str::to_owned).to_vec())?;
    one_after_the_other(&status)?;
    same_json("stable", &status["stable"]["service"], &json!("iris-v2"))?;
    same_json("ready", &condition(&status, "Ready")?["status"], &json!("True"))?;
    same_json("stalled", &condition(&status, "Stalled")?["status"], &json!("False"))?;
    same("answers", &world.asked(40).await?, &BTreeMap::from([("iris-v2".to_owned(), 40)]))?;
    if !controller.was_disturbed()? {
        // An Event that cannot be written is lost, and that is all.
        every_decision_has_an_event(world, &status).await?;
    }
    at_rest(world, &controller).await?;
    world.end(controller).await
}

/// The destination is another, and its fields are those that the user gave the one before.
fn the_winner_has_the_losers_place(before: &Value, after: &Value) -> Result<()> {
    let destination = |route: &Value| {
        let routes = route["spec"]["http"].as_array().cloned().unwrap_or_default();
        let managed = routes.into_iter().find(|candidate| candidate["name"] == ROUTE);
        managed.map(|managed| managed["route"][0].clone()).unwrap_or_default()
    };
    let mut expected = destination(before);
    expected["destination"]["host"] = json!("iris-v2");
    same_json("the destination", &destination(after), &expected)
}

fn one_after_the_other(status: &Value) -> Result<()> {
    let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<_> = decisions.iter().map(|decision| decision["seq"].as_u64().unwrap_or(0)).collect();
    same("numbers", &numbers, &(1..=decisions.len() as u64).collect::<Vec<_>>())?;
    same("the last number", &status["seq"], &json!(decisions.len()))?;
    for pair in decisions.windows(2) {
        same("where a decision begins", &pair[1]["fromWeight"], &pair[0]["weight"])?;
    }
    Ok(())
}

async fn every_decision_has_an_event(world: &World<'_>, status: &Value) -> Result<()> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut wanted = decided(status);
    wanted.sort();
    wait::until(LIMIT, format!("there are Events {wanted:?}"), || async {
        let events =
            events.list(&ListParams::default()).await.map_err(|error: kube::Error| error.to_string())?;
        let ours = events.items.into_iter().filter(|event| {
            event.regarding.as_ref().and_then(|about| about.kind.as_deref()) == Some("Rollout")
        });
        let mut seen: Vec<String> = ours.filter_map(|event| event.reason).collect();
        seen.sort();
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    Ok(())
}

/// Nothing is written any more, however often the controller looks: it is made to by what people and other controllers do
/// to objects without meaning Sluice. At last something that it has to write down is changed, and that is all it writes.
async fn at_rest(world: &World<'_>, controller: &Controller) -> Result<()> {
    let audit = world.shared.cluster.audit();
    for turn in 0..10 {
        let looks = controller.looks()?;
        world.touch(turn).await?;
        world.until_looks(controller, looks + 1).await?;
    }
    world.edit(json!({"interval": "400ms"})).await?;
    world
        .status_is("the edit was seen", |status| {
            status["observedGeneration"]
                == condition(status, "Accepted").unwrap_or_default()["observedGeneration"]
                && status["observedGeneration"].as_i64() > Some(1)
        })
        .await?;
    // What is written can be read a moment before the log says so.
    let writes = wait::until(LIMIT, "the last write is in the audit log", || async {
        let mut writes = audit.writes_of(CONTROLLER).map_err(|error| error.to_string())?;
        writes.retain(|write| write.namespace == world.namespace);
        if writes.is_empty() { Err("nothing is".to_owned()) } else { Ok(writes) }
    })
    .await?;
    let writes: Vec<_> = writes
        .iter()
        .map(|write| format!("{} {}/{}", write.verb, write.resource, write.subresource))
        .collect();
    same("writes at rest", &writes, &vec!["patch rollouts/status".to_owned()])
}

pub async fn a_breach_at_the_third_step_takes_all_traffic_away(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "breach").await?;
    breached(&world, four_steps("1h"), |world| world.predictor("v2").set_errors(0.5), "errors: ").await
}

pub async fn a_breach_at_the_third_step_takes_all_traffic_away_by_scraping(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "breach-scraped").await?;
    let spec = with(four_steps("1h"), "metrics", scraping());
    breached(&world, spec, |world| world.predictor("v2").set_errors(0.5), "errors: ").await
}

pub async fn answers_that_come_late_take_all_traffic_away(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "breach-slow").await?;
    let mut spec = with(four_steps("1h"), "metrics", scraping());
    spec["checks"][1]["latency"]["max"] = json!("100ms");
    let slow = |world: &World<'_>| world.predictor("v2").set_slow(0.2, Duration::from_millis(300));
    breached(&world, spec, slow, "p99: ").await
}

async fn breached(
    world: &World<'_>,
    spec: Value,
    break_it: impl Fn(&World<'_>),
    because: &str,
) -> Result<()> {
    let original = world.route().await?;
    let recording = world.record().await?;
    let users = world.users(100.0);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec)).await?;
    world.step(3, "iris-v2", 50).await?;
    break_it(world);
    let status = world.phase("RolledBack", "CheckFailed").await?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.starts_with(because), "{message}");

    let route = world.weight_is("iris-v2", 0).await?;
    same("weights", &oracle::weights(&route, ROUTE)["iris-v1"], &100)?;
    same("answers", &world.asked(40).await?, &BTreeMap::from([("iris-v1".to_owned(), 40)]))?;
    same_json("stalled", &condition(&status, "Stalled")?["status"], &json!("True"))?;
    // The canary is well again, and that changes nothing: only a person tries it again.
    world.predictor("v2").set_errors(0.0);
    let route = world.only("iris-v1").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 5, 25, 50, 0])?;
    world.only_weights_moved(&recording, &original).await?;
    let routes = |route: &Value| route["spec"].clone();
    same_json("the spec is the user's again", &routes(&route), &routes(&original))?;
    let outcomes = oracle::stamp(&route, &world.key()).unwrap_or_default()["outcomes"].clone();
    same_json("outcome", &outcomes, &json!({format!("{}/iris-v2:8000", world.namespace): "RolledBack"}))?;
    at_rest(world, &controller).await?;
    let report = users.stop().await;
    let failed = report.by_code.get(&500).copied().unwrap_or(0);
    same("failed answers are all the predictor's", &failed, &world.predictor("v2").served().errors())?;
    world.end(controller).await
}
