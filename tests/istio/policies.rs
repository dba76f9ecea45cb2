//! What the user's route does besides sending somewhere: retries, a time-out, a rewrite, CORS; seen by its effect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};
use sluice_lab::real::{Users, wait};

use crate::lab::{GATEWAY, LIMIT, Lab};
use crate::shares::{Observed, none_failed, share_is};
use crate::world::{IRIS, ROUTE, World, same};

/// Where users find the model, before the rewrite.
const PREFIX: &str = "/seldon/models/iris";

/// A route with all of it.
fn rich(world: &World<'_>) -> Value {
    let mut object = world.virtual_service();
    object["spec"]["http"] = json!([{
        "name": ROUTE,
        "match": [{"uri": {"prefix": format!("{PREFIX}/")}}],
        "rewrite": {"uri": "/"},
        "timeout": "2s",
        "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx"},
        "corsPolicy": {
            "allowOrigins": [{"exact": "https://shop.example.com"}],
            "allowMethods": ["POST"], "maxAge": "24h",
        },
        "route": [{"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 100}],
    }]);
    object
}

pub async fn what_the_users_route_does_it_does_during_steps(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "policies").await?;
    world.replace_route(rich(&world)).await?;
    let all = world.users().path(format!("{PREFIX}/v2/models/{IRIS}/infer"));
    let beta = all.clone().header("x-group", "beta");
    works(&world, &all, "before").await?;
    let controller = world.controller()?;
    let beta_only = json!([{"headers": {"x-group": {"exact": "beta"}}}]);
    let steps = json!([
        {"weight": 50, "approve": true}, {"match": beta_only, "approve": true}, {"mirror": 100, "approve": true},
    ]);
    let mut rollout = world.rollout("v2", steps);
    // The predictors fail on purpose.
    rollout["spec"]["checks"] = json!([]);
    world.create_rollout(&rollout).await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    works(&world, &all, "at a weight").await?;
    world.approve().await?;
    world.answered_by(&beta, "iris-v2").await?;
    works(&world, &beta, "for those who match").await?;
    works(&world, &all, "beside a match").await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    world.approve().await?;
    world.answered_by(&beta, "iris-v1").await?;
    let before = world.predictor("v2").served().total();
    wait::until(LIMIT, "copies are made", || async {
        all.ask(1).await;
        let now = world.predictor("v2").served().total();
        if now > before { Ok(()) } else { Err(now.to_string()) }
    })
    .await?;
    works(&world, &all, "beside a mirror").await?;
    world.end(controller)
}

/// All of the route's policies have their effect, whoever answers.
async fn works(world: &World<'_>, users: &Users, when: &str) -> Result<()> {
    wait::until(LIMIT, format!("{when}: the rewrite works"), || async {
        let answer = users.ask(1).await.remove(0);
        if answer.failed() { Err(format!("{answer:?}")) } else { Ok(()) }
    })
    .await?;

    let preflight = users
        .clone()
        .method(Method::OPTIONS)
        .header("origin", "https://shop.example.com")
        .header("access-control-request-method", "POST");
    let answer = preflight.ask_once().await.map_err(|error| anyhow!(error))?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    same(
        &format!("{when}: CORS"),
        &header("access-control-allow-origin"),
        &Some("https://shop.example.com"),
    )?;

    // Every third answer is an error, and three retries make none of it.
    for version in ["v1", "v2"] {
        world.predictor(version).set_errors(0.33);
    }
    let answers = users.ask(60).await;
    let failed = answers.iter().filter(|answer| answer.failed()).count();
    same(&format!("{when}: failed in spite of retries"), &failed, &0)?;
    for version in ["v1", "v2"] {
        world.predictor(version).set_errors(0.0);
        world.predictor(version).set_latency(Duration::from_secs(20));
    }
    let answer = users.ask(1).await.remove(0);
    for version in ["v1", "v2"] {
        world.predictor(version).set_latency(Duration::ZERO);
    }
    same(&format!("{when}: too late"), &answer.status, &504)?;
    ensure!(answer.took < Duration::from_secs(6), "{when}: the time-out came after {:?}", answer.took);
    Ok(())
}

/// What a try may take by the annotation.
const TRY: Duration = Duration::from_secs(1);

pub async fn a_generated_route_tries_again_as_its_annotations_say(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "policies-generated").await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    world.scraped().await?;
    let controller = world.controller()?;
    let mut rollout = world.rollout("v1", json!([{"weight": 50, "for": "1s", "approve": true}]));
    rollout["spec"]["expose"] = json!({"hosts": [world.host()], "gateways": [GATEWAY], "prefix": "/"});
    rollout["spec"]["annotations"] = json!({
        "seldon.io/istio-retries": "3", "seldon.io/istio-retries-timeout": TRY.as_secs().to_string(),
    });
    // The predictors are slow on purpose.
    rollout["spec"]["checks"] = json!([]);
    if let Some(spec) = rollout["spec"].as_object_mut() {
        spec.remove("routes");
    }
    world.create_rollout(&rollout).await?;
    world.answered_by(&world.users(), "iris-v1").await?;
    let load = world.users().rate(100.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    world.want("v2").await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    observed.sent(&load, "iris-v2", 50, 200).await?;
    share_is(&observed, &load, "iris-v2", 50)?;
    none_failed(&load.stop().await)?;

    // Every third try would take longer than anybody waits, and one more is enough.
    for version in ["v1", "v2"] {
        world.predictor(version).set_slow(0.33, Duration::from_mins(1));
    }
    let answers = world.users().ask(24).await;
    for version in ["v1", "v2"] {
        world.predictor(version).set_slow(0.0, Duration::ZERO);
    }
    none_failed(&answers)?;
    for version in ["iris-v1", "iris-v2"] {
        let again = answers.iter().filter(|answer| answer.by == version && answer.took >= TRY);
        let again: Vec<_> = again.map(|answer| answer.took).collect();
        println!("{version} was tried again for {} of {} answers", again.len(), answers.len());
        ensure!(!again.is_empty(), "{version} was never tried again: {answers:?}");
        ensure!(again.iter().all(|took| *took < 3 * TRY), "{version} was tried again late: {again:?}");
    }

    let load = world.users().rate(100.0).start();
    world.approve().await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 50, 100])?;
    none_failed(&load.stop().await)?;
    world.end(controller)
}
