//! Routes that serve gRPC: one HTTP/2 connection, whose calls are divided one by one.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_lab::real::{Answer, Answers, Users};

use crate::lab::{GATEWAY, Lab};
use crate::shares::{Observed, none_failed, share_is_over};
use crate::world::{IRIS, World, same};

/// Both protocols, as Seldon Core's Services have them.
const PORTS: [(&str, u16); 2] = [("http", 8000), ("grpc", 5001)];

/// Requests of HTTP alone are counted, so that a person says when there were enough.
fn steps() -> Value {
    json!([{"weight": 30, "for": "1s", "approve": true}, {"weight": 100, "for": "1s"}])
}

/// Requests that failed, whichever protocol they came by: what is counted by method is counted for HTTP alone.
fn no_failures() -> Value {
    let count =
        "sum(model_infer_request_failure_total{namespace=\"{{namespace}}\", service=\"{{canary.service}}\"})";
    json!([{"name": "failures", "query": {"promql": count, "max": 0}}])
}

async fn two_versions<'a>(lab: &'a Lab, namespace: &str) -> Result<World<'a>> {
    let mut world = World::empty(lab, namespace).await?;
    for version in ["v1", "v2"] {
        world.serve_on(&format!("{IRIS}-{version}"), version, &[], &PORTS).await?;
    }
    world.scraped().await?;
    Ok(world)
}

/// Every call has ended well, and says so itself.
async fn all_ended_well(users: Answers) -> Result<()> {
    let answers = users.stop().await;
    none_failed(&answers)?;
    let without: Vec<&Answer> = answers.iter().filter(|answer| answer.grpc != Some(0)).collect();
    ensure!(without.is_empty(), "{} calls without a status, the first: {:?}", without.len(), without[0]);
    Ok(())
}

pub async fn calls_are_divided_by_weight(lab: &Arc<Lab>) -> Result<()> {
    let world = two_versions(lab, "grpc").await?;
    let mut route = world.virtual_service();
    route["spec"]["http"][0]["route"][0]["destination"]["port"]["number"] = json!(5001);
    world.create("networking.istio.io", "v1", &route).await?;
    let calls = Users::grpc(world.shared.entry(), &world.host(), IRIS);
    world.routed_for(&calls).await?;
    let calls = calls.rate(250.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let mut rollout = world.rollout("v2", steps());
    rollout["spec"]["target"]["service"]["port"] = json!(5001);
    rollout["spec"]["checks"] = no_failures();
    world.create_rollout(&rollout).await?;
    observed.sent(&calls, "iris-v2", 30, 2000).await?;
    world.approve().await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 30, 100])?;
    share_is_over(&observed, &calls, "iris-v2", 30, 2000)?;
    all_ended_well(calls).await?;
    world.end(controller)
}

/// Seldon Core tells gRPC by two headers and the method, beside HTTP below a prefix.
pub async fn a_generated_route_takes_calls_by_their_headers(lab: &Arc<Lab>) -> Result<()> {
    let world = two_versions(lab, "grpc-generated").await?;
    let controller = world.controller()?;
    let mut rollout = world.rollout("v1", steps());
    rollout["spec"]["target"]["service"]["port"] = json!(8000);
    rollout["spec"]["checks"] = no_failures();
    rollout["spec"]["expose"] = json!({"hosts": [world.host()], "gateways": [GATEWAY], "grpcPort": 5001});
    if let Some(spec) = rollout["spec"].as_object_mut() {
        spec.remove("routes");
    }
    world.create_rollout(&rollout).await?;

    let calls = Users::grpc(world.shared.entry(), &world.host(), IRIS);
    let ours = calls.clone().header("seldon", IRIS).header("namespace", &world.namespace);
    let http = world.users().path(format!("/seldon/{}/{IRIS}/v2/models/{IRIS}/infer", world.namespace));
    world.routed_for(&ours).await?;
    world.routed_for(&http).await?;
    let others = calls.header("seldon", "tulip").header("namespace", &world.namespace).ask(5).await;
    let found = others.iter().filter(|answer| !answer.by.is_empty()).count();
    same("calls for another deployment that were answered", &found, &0)?;

    let (ours, http) = (ours.rate(220.0).start(), http.rate(60.0).start());
    let of_calls = Observed::of_route(lab, &world.host(), "grpc");
    let of_http = Observed::of_route(lab, &world.host(), "http");
    world.edit(json!({"target": {"service": {"name": "iris-v2"}}})).await?;
    of_calls.sent(&ours, "iris-v2", 30, 2000).await?;
    of_http.sent(&http, "iris-v2", 30, 500).await?;
    world.approve().await?;
    for observed in [&of_calls, &of_http] {
        world.obeyed(observed, "iris-v2", 100).await?;
        same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 30, 100])?;
    }
    world.phase("Healthy", "Live").await?;
    share_is_over(&of_calls, &ours, "iris-v2", 30, 2000)?;
    share_is_over(&of_http, &http, "iris-v2", 30, 500)?;
    all_ended_well(ours).await?;
    none_failed(&http.stop().await)?;
    world.end(controller)
}
