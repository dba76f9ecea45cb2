//! A SeldonDeployment whose operator owns the routes, under load: the controller writes traffic, and the operator, which the
//! test plays, carries it out in the VirtualService.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::operator::{self, Operator, Served};
use sluice_lab::real::wait;
use tokio::time::Instant;

use crate::generated::{predictor, users_of_it};
use crate::lab::{GATEWAY, LIMIT, Lab};
use crate::oracle::{Recording, without_repeats};
use crate::shares::{Observed, none_failed, only_failed};
use crate::world::{IRIS, World, same};

/// Where the operator of these tests serves.
fn served(world: &World<'_>) -> Served {
    Served { host: world.host(), gateway: GATEWAY.to_owned() }
}

fn operator(world: &World<'_>) -> Operator {
    Operator::start(&world.client, &world.namespace, IRIS, served(world))
}

/// The SeldonDeployment with `main`, which has all traffic, `green` and `spare`, and all that its operator made of it but the
/// VirtualService, which comes by the [operator](Operator); nobody has to answer for `spare`.
async fn deployed(world: &mut World<'_>) -> Result<()> {
    for (name, version) in [("main", Some("v1")), ("green", Some("v2")), ("spare", None)] {
        let service = format!("{IRIS}-{name}");
        match version {
            Some(version) => {
                let ports = [("http", 8000), ("grpc", 5001)];
                world.serve_on(&service, version, &[("version", name)], &ports).await?;
            }
            None => world.service(&service).await?,
        }
        let host = format!("{service}.{}.svc.cluster.local", world.namespace);
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": service},
            "spec": {
                "host": host, "subsets": [{"name": name, "labels": {"version": name}}],
                "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "60s"}}},
            },
        });
        world.create("networking.istio.io", "v1", &rule).await?;
    }
    world.scraped().await?;
    let predictor = |name: &str, traffic: u8| json!({"name": name, "traffic": traffic, "graph": {"name": "classifier", "modelUri": format!("gs://models/{name}")}});
    let object = json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": {"name": IRIS},
        "spec": {"predictors": [predictor("main", 100), predictor("green", 0), predictor("spare", 0)]},
    });
    world.create("machinelearning.seldon.io", "v1", &object).await?;
    for name in ["main", "green", "spare"] {
        available(world, name, true).await?;
    }
    Ok(())
}

/// The Deployment of a predictor is available, or is not, as the SeldonDeployment's status says.
async fn available(world: &World<'_>, predictor: &str, is: bool) -> Result<()> {
    let part = json!({"replicas": 1, "availableReplicas": u8::from(is)});
    let status =
        json!({"status": {"deploymentStatus": {(format!("{IRIS}-{predictor}-0-classifier")): part}}});
    let deployments = world.seldon_deployments();
    deployments.patch_status(IRIS, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// A Rollout that wants `green`, by the VirtualService of the operator.
fn rollout(world: &World<'_>, steps: Value) -> Value {
    let mut rollout = world.rollout("v2", steps);
    rollout["spec"]["target"] = predictor("green");
    rollout["spec"]["routes"] = json!([{"virtualService": IRIS}]);
    rollout
}

/// The traffic of `main`, `green` and `spare` in every version of the SeldonDeployment, each once while it lasted; it added up
/// to 100 in all of them.
fn traffic(recording: &Recording) -> Result<Vec<[i64; 3]>> {
    let read = |version: &Value| {
        [0, 1, 2].map(|at| version["spec"]["predictors"][at]["traffic"].as_i64().unwrap_or(-1))
    };
    let all: Vec<[i64; 3]> = recording.versions().iter().map(read).collect();
    ensure!(
        all.iter().all(|traffic| traffic.iter().sum::<i64>() == 100),
        "it adds up to something else: {all:?}"
    );
    Ok(without_repeats(&all))
}

/// What Envoy does with the operator's first route, which has no name.
fn observe(lab: &Arc<Lab>, world: &World<'_>) -> Observed {
    Observed::of_route(lab, &world.host(), "")
}

pub async fn traffic_is_moved_in_the_deployment_and_its_operator_carries_it_out(
    lab: &Arc<Lab>,
) -> Result<()> {
    let mut world = World::empty(lab, "operated").await?;
    deployed(&mut world).await?;
    let _operator = operator(&world);
    let users = users_of_it(&world).await?;
    world.shared.gateway.reaches(&world.namespace, "iris-green").await?;
    let users = users.rate(250.0).start();
    let observed = observe(lab, &world);
    let recording = Recording::start(world.seldon_deployments(), IRIS).await?;
    let pods = world.pods().await?;
    observed.sent(&users, "iris-green", 0, 200).await?;
    let controller = world.controller()?;
    let steps = json!([World::step(25, 2000), World::step(60, 500)]);
    world.create_rollout(&rollout(&world, steps)).await?;
    world.phase("Healthy", "Live").await?;
    world.obeyed(&observed, "iris-green", 100).await?;
    observed.sent(&users, "iris-green", 100, 500).await?;

    same("what Envoy did", &observed.sequence("iris-green"), &vec![0, 25, 60, 100])?;
    // Answers name the model's version, Envoy the Service.
    let green = ("iris-green", "iris-v2");
    let at_25 = observed.share_is(&users, green, 25)?;
    ensure!(at_25 >= 2000, "only {at_25} requests were sent at 25%");
    observed.share_is(&users, green, 0)?;
    observed.share_is(&users, green, 60)?;
    // The interval of all is all: the old one gets nothing.
    let late = observed.share_is(&users, green, 100)?;
    println!("{at_25} requests at 25%, {late} after the promotion");
    none_failed(&users.stop().await)?;
    let steps = vec![[100, 0, 0], [75, 25, 0], [40, 60, 0], [0, 100, 0]];
    same("the traffic in the SeldonDeployment", &traffic(&recording)?, &steps)?;
    same("the pods, and when they started", &world.pods().await?, &pods)?;
    world.never_refused(controller)
}

pub async fn users_leave_the_canary_though_the_operator_stands_still(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "operated-stalled").await?;
    deployed(&mut world).await?;
    let _operator = operator(&world);
    let users = users_of_it(&world).await?;
    world.shared.gateway.reaches(&world.namespace, "iris-green").await?;
    let users = users.rate(150.0).start();
    let observed = observe(lab, &world);
    let recording = Recording::start(world.seldon_deployments(), IRIS).await?;
    let controller = world.controller()?;
    world.create_rollout(&rollout(&world, json!([{"weight": 50, "for": "1h"}]))).await?;
    world.obeyed(&observed, "iris-green", 50).await?;
    observed.sent(&users, "iris-green", 50, 600).await?;

    // Of no concern to the rollout, but from now on the operator writes nothing.
    available(&world, "spare", false).await?;
    let stalled = Instant::now();
    world.predictor("v2").set_errors(0.5);
    world.phase("RolledBack", "CheckFailed").await?;
    world.obeyed(&observed, "iris-green", 0).await?;
    observed.sent(&users, "iris-green", 0, 500).await?;
    // Nothing is written again and again while the operator does nothing.
    let writes = world.route_writes()?;
    let lowered = writes.iter().filter(|write| write.code == 200).count();
    ensure!(lowered == 1, "{lowered} writes to the operator's VirtualService: {writes:#?}");
    for write in &writes {
        println!("{} {} {:?} {}", write.received, write.verb, write.version, write.code);
    }
    println!("{lowered} writes with the operator at a stand for {:?}", stalled.elapsed());

    // It finds nothing else to do when it can.
    available(&world, "spare", true).await?;
    let deployment = serde_json::to_value(world.seldon_deployments().get(IRIS).await?)?;
    let wanted = operator::virtual_service(&deployment, &served(&world))["spec"].clone();
    wait::until(LIMIT, "the route is the operator's again", || async {
        let route = world.route().await.map_err(|error| error.to_string())?;
        if route["spec"] == wanted { Ok(()) } else { Err(route["spec"].to_string()) }
    })
    .await?;
    let since = Instant::now();
    wait::until(LIMIT, "users were served afterwards", || {
        let served = users.between(since, Instant::now()).len();
        std::future::ready(if served >= 200 { Ok(()) } else { Err(served.to_string()) })
    })
    .await?;
    same("what Envoy did", &observed.sequence("iris-green"), &vec![0, 50, 0])?;
    let green = ("iris-green", "iris-v2");
    observed.share_is(&users, green, 50)?;
    observed.share_is(&users, green, 0)?;
    only_failed(&users.stop().await, |answer| answer.by == "iris-v2" && answer.status == 500)?;
    let steps = vec![[100, 0, 0], [50, 50, 0], [100, 0, 0]];
    same("the traffic in the SeldonDeployment", &traffic(&recording)?, &steps)?;
    world.end(controller)
}
