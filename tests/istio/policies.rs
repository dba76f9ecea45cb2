//! What the user's route does besides sending somewhere: retries, a time-out, a rewrite, CORS; seen by its effect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};
use sluice_lab::real::wait;

use crate::lab::{LIMIT, Lab};
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
    works(&world, "before").await?;
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let mut rollout = world.rollout("v2", json!([{"weight": 50, "for": "1h"}]));
    // The predictors fail on purpose.
    rollout["spec"]["checks"] = json!([]);
    world.create_rollout(&rollout).await?;
    world.obeyed(&observed, "iris-v2", 50).await?;
    works(&world, "at a weight").await?;
    world.end(controller)
}

/// All of the route's policies have their effect, whoever answers.
async fn works(world: &World<'_>, when: &str) -> Result<()> {
    let users = world.users().path(format!("{PREFIX}/v2/models/{IRIS}/infer"));
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
