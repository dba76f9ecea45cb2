//! A whole promotion under load.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use sluice_lab::real::{Answer, Envoy, Users, wait};

use crate::lab::{LIMIT, Lab};
use crate::shares::{none_failed, share_is, share_is_over};
use crate::world::{IRIS, World, decided, same};

/// Enough requests for the intervals to be narrow.
fn steps() -> Value {
    json!([World::step(10, 2000), World::step(50, 2000), World::step(100, 300)])
}

pub async fn no_request_fails_and_each_step_has_its_share(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "promotion").await?;
    let users = world.users().rate(250.0).start();
    let observed = world.observe(lab);
    wait::until(LIMIT, "enough was sent before", || async { share_is(&observed, &users, "iris-v2", 0) })
        .await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", steps())).await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;

    let kinds = ["Adopted", "Started", "Entered", "Entered", "Entered", "Promoting", "Promoted"];
    let seen = decided(&status);
    same(
        "decisions",
        &seen.iter().map(String::as_str).collect::<Vec<_>>(),
        &kinds[..seen.len().min(7)].to_vec(),
    )?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 10, 50, 100])?;
    observed.sent(&users, "iris-v2", 100, 300).await?;
    for (weight, at_least) in [(0, 0), (10, 2000), (50, 2000), (100, 300)] {
        share_is_over(&observed, &users, "iris-v2", weight, at_least)?;
    }
    none_failed(&users.stop().await)?;
    world.end(controller)
}

/// Clients with a proxy of their own, which obeys what it is told when the gateway's does not count.
pub async fn no_request_of_the_mesh_fails_either(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "promotion-mesh").await?;
    let inside = format!("{IRIS}-v1.{}.svc.cluster.local", world.namespace);
    let mut route = world.route().await?;
    route["spec"]["hosts"] = json!([world.host(), inside]);
    route["spec"]["gateways"] = json!([crate::lab::GATEWAY, "mesh"]);
    world.replace_route(route).await?;
    let client = Envoy::client(&world.shared.cluster, &world.shared.istio, &world.namespace, 8000).await?;
    let proxy = client.proxy().ok_or_else(|| anyhow!("a client has a proxy"))?;
    for service in ["iris-v1", "iris-v2"] {
        client.reaches(&world.namespace, service).await?;
    }
    let clients = Users::infer(proxy, &inside, IRIS);
    wait::until(LIMIT, "the client's proxy has the route", || async {
        let answer = clients.ask(1).await.remove(0);
        if answer.failed() { Err(format!("{answer:?}")) } else { Ok(()) }
    })
    .await?;

    let clients = clients.rate(330.0).start();
    let users = world.users().rate(330.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    // The canary counts both sorts.
    let steps = json!([World::step(30, 2 * 2000), World::step(100, 200)]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    // Both proxies are told at the same time, so the gateway's times are the client's.
    share_is_over(&observed, &clients, "iris-v2", 30, 2000)?;
    share_is_over(&observed, &users, "iris-v2", 30, 2000)?;
    let answers = clients.stop().await;
    none_failed(&answers)?;
    none_failed(&users.stop().await)?;
    let last: Vec<Answer> = answers.into_iter().rev().take(20).collect();
    same("the last answers", &Answer::by_predictor(&last).get("iris-v2").copied(), &Some(20))?;
    world.end(controller)
}
