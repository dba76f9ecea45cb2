//! Generated routes on a real API server: its schema takes them, its collector takes them away with their owner.

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::operator::{Operator, Served};
use sluice_lab::real::{crds, wait};

use crate::examples::{documents, quick};
use crate::lab::{CONTROLLER, LIMIT, Lab, Shared};
use crate::oracle::Recording;
use crate::world::{World, same, same_json};

/// The examples that are run here.
pub const EXAMPLES: [&str; 5] = ["delegate", "expose", "seldon", "seldon-operator", "seldon-shadow"];

/// What a controller writes where it owns the routes.
const WRITTEN: [&str; 4] = ["rollouts", "virtualservices", "destinationrules", "events"];

/// The Rollout of an example, in a hurry and without checks: nobody measures here.
fn hurried(rollout: &Value) -> Value {
    let mut rollout = quick(rollout.clone());
    if let Some(spec) = rollout["spec"].as_object_mut() {
        spec.remove("checks");
        spec.remove("metrics");
    }
    for step in rollout["spec"]["steps"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
    {
        step.remove("minRequests");
    }
    rollout
}

/// The Gateway of `deploy/gateway`, in this test's own namespace: the clusters of all tests are one.
async fn gateway(world: &World<'_>) -> Result<()> {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "served"},
        "spec": {"selector": {"istio": "ingressgateway"}},
    });
    world.create("networking.istio.io", "v1", &object).await?;
    Ok(())
}

async fn created(world: &World<'_>, example: &str) -> Result<()> {
    for object in documents(example)? {
        let kind = object["kind"].as_str().unwrap_or_default();
        match kind {
            // The world has them.
            "Service" => {}
            "Rollout" => {
                let mut rollout = hurried(&object);
                // A delegate has none, and routes of an operator's are no business of ours.
                let expose = rollout["spec"].get_mut("expose").filter(|expose| expose["delegate"] != true);
                if let Some(expose) = expose {
                    expose["gateways"] = json!(["served"]);
                }
                world.create_rollout(&rollout).await?;
            }
            _ => {
                let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
                let (group, version) = version.split_once('/').unwrap_or(("", &version));
                world.create(group, version, &object).await?;
            }
        }
    }
    Ok(())
}

/// Waits until there is, or is not, an object of a name.
async fn is_there(api: &Api<DynamicObject>, name: &str, there: bool) -> Result<()> {
    wait::until(LIMIT, format!("{name} is there: {there}"), async || {
        let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
        if found.is_some() == there { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    Ok(())
}

fn weights(object: &DynamicObject) -> Vec<Value> {
    let routes = object.data["spec"]["http"].as_array().cloned().unwrap_or_default();
    let entries = routes.iter().flat_map(|route| route["route"].as_array().cloned().unwrap_or_default());
    entries.map(|entry| json!([entry["destination"]["host"], entry["weight"]])).collect()
}

/// Waits until the route gives its traffic so: the last predictor is retired a little after the Rollout is at rest.
async fn gives(routes: &Api<DynamicObject>, name: &str, wanted: &Value) -> Result<DynamicObject> {
    let found = wait::until(LIMIT, format!("{name} gives {wanted}"), async || {
        let route = routes.get(name).await.map_err(|error| error.to_string())?;
        let found = json!(weights(&route));
        if found == *wanted { Ok(route) } else { Err(found.to_string()) }
    });
    Ok(found.await?)
}

pub async fn the_example_expose_is_served_and_goes_with_its_rollout(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "generated-expose").await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    gateway(&world).await?;
    created(&world, "expose").await?;
    let controller = world.controller()?;
    world.phase("Healthy", "Live").await?;
    let routes = world.virtual_services();
    let host = format!("iris-v2.{}.svc.cluster.local", world.namespace);
    let route = gives(&routes, "iris", &json!([[host, 100]])).await?;
    same_json("gateways", &route.data["spec"]["gateways"], &json!([format!("{}/served", world.namespace)]))?;
    // A hand changes it, and a hand takes it away.
    let patch = Patch::Merge(json!({"spec": {"hosts": ["other.example.com"]}}));
    routes.patch("iris", &PatchParams::default(), &patch).await?;
    wait::until(LIMIT, "the hosts are as they were", async || {
        let route = routes.get("iris").await.map_err(|error| error.to_string())?;
        let hosts = &route.data["spec"]["hosts"];
        if *hosts == json!(["iris.example.com"]) { Ok(()) } else { Err(hosts.to_string()) }
    })
    .await?;
    routes.delete("iris", &DeleteParams::default()).await?;
    is_there(&routes, "iris", true).await?;
    world.delete_rollout().await?;
    is_there(&routes, "iris", false).await?;
    controller.stop().await
}

pub async fn the_example_delegate_is_owned_beside_what_is_in_git(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "generated-delegate").await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    created(&world, "delegate").await?;
    let routes = world.virtual_services();
    let in_git = routes.get("web").await?.metadata.resource_version;
    let controller = world.controller()?;
    world.phase("Healthy", "Live").await?;
    let host = format!("iris-v2.{}.svc.cluster.local", world.namespace);
    let route = gives(&routes, "iris", &json!([[host, 100]])).await?;
    let bound = ["hosts", "gateways"].map(|field| route.data["spec"][field].clone());
    same_json("hosts and gateways of its own", &json!(bound), &json!([null, null]))?;
    world.delete_rollout().await?;
    is_there(&routes, "iris", false).await?;
    let after = routes.get("web").await?.metadata.resource_version;
    ensure!(after == in_git, "the VirtualService in Git was written: {in_git:?}, and now {after:?}");
    controller.stop().await
}

/// What Seldon Core's operator makes of the predictors, as far as the controller looks at it.
async fn operated(world: &World<'_>) -> Result<()> {
    gateway(world).await?;
    for predictor in ["iris-main", "iris-green"] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": predictor},
            "spec": {"ports": [{"name": "http", "port": 8000}, {"name": "grpc", "port": 5001}]},
        });
        world.create("", "v1", &service).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": predictor, "labels": {"kubernetes.io/service-name": predictor}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.99.9"], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": 8000}],
        });
        world.create("discovery.k8s.io", "v1", &slice).await?;
    }
    Ok(())
}

/// Both routes of the generated VirtualService lead to `green` alone.
async fn gives_all_to_green(world: &World<'_>) -> Result<()> {
    let host = format!("iris-green.{}.svc.cluster.local", world.namespace);
    gives(&world.virtual_services(), "iris", &json!([[host, 100], [host, 100]])).await.map(drop)
}

pub async fn the_example_seldon_shadow_goes_from_copies_to_all_and_writes_nothing_of_seldon_core(
    lab: &Lab,
) -> Result<()> {
    let world = World::empty(lab, "generated-shadow").await?;
    operated(&world).await?;
    created(&world, "seldon-shadow").await?;
    let controller = world.controller()?;
    world.phase("Healthy", "Live").await?;
    gives_all_to_green(&world).await?;
    let written =
        world.audit.writes_of(CONTROLLER)?.into_iter().filter(|write| {
            write.namespace == world.namespace && !WRITTEN.contains(&write.resource.as_str())
        });
    let written: Vec<_> = written.collect();
    ensure!(written.is_empty(), "{written:?}");
    controller.stop().await
}

pub async fn the_example_seldon_moves_predictors_behind_a_generated_route(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "generated-seldon").await?;
    operated(&world).await?;
    created(&world, "seldon").await?;
    let controller = world.controller()?;
    world.phase("Waiting", "WaitingForApproval").await?;
    world.approve().await?;
    world.phase("Healthy", "Live").await?;
    gives_all_to_green(&world).await?;
    let rules: Api<DynamicObject> = world.api("networking.istio.io", "v1", "DestinationRule");
    is_there(&rules, "iris-green", true).await?;
    world.delete_rollout().await?;
    is_there(&rules, "iris-green", false).await?;
    is_there(&world.virtual_services(), "iris", false).await?;
    controller.stop().await
}

pub async fn the_example_seldon_operator_moves_the_traffic_in_the_deployment(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "generated-operator").await?;
    operated(&world).await?;
    for predictor in ["main", "green"] {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("iris-{predictor}")},
            "spec": {
                "host": format!("iris-{predictor}"),
                "subsets": [{"name": predictor, "labels": {"version": predictor}}],
            },
        });
        world.create("networking.istio.io", "v1", &rule).await?;
    }
    let served = Served { host: world.host(), gateway: format!("{}/served", world.namespace) };
    let _operator = Operator::start(&world.client, &world.namespace, "iris", served);
    created(&world, "seldon-operator").await?;
    let deployments = world.api("machinelearning.seldon.io", "v1", "SeldonDeployment");
    let recording = Recording::start(deployments, "iris").await?;
    let controller = world.controller()?;
    world.phase("Healthy", "Live").await?;
    let traffic = |version: &Value| [0, 1].map(|at| version["spec"]["predictors"][at]["traffic"].as_i64());
    let mut seen: Vec<_> = recording.versions().iter().map(traffic).collect();
    seen.dedup();
    let steps = [[100, 0], [95, 5], [50, 50], [0, 100]].map(|both| both.map(Some));
    same("the traffic in the SeldonDeployment", &seen, &steps.to_vec())?;
    // The operator's form, to which nothing was added by the controller.
    let routes = world.virtual_services();
    let hosts = ["main", "green"].map(|name| format!("iris-{name}.{}.svc.cluster.local", world.namespace));
    let entries = json!([[hosts[0], null], [hosts[1], 100]]);
    let both: Vec<_> = [&entries, &entries]
        .into_iter()
        .flat_map(|one| one.as_array().cloned().unwrap_or_default())
        .collect();
    gives(&routes, "iris", &json!(both)).await?;
    controller.stop().await
}

/// The name of Seldon Core's definition of its kind.
const SELDON: &str = "seldondeployments.machinelearning.seldon.io";

/// On a cluster of its own, because nobody else could have a SeldonDeployment meanwhile.
pub async fn a_kind_that_is_installed_later_is_noticed_and_so_is_that_it_goes(_: &Lab) -> Result<()> {
    let shared = Shared::start().await?;
    let kinds: Api<CustomResourceDefinition> = Api::all(shared.cluster.admin()?);
    kinds.delete(SELDON, &DeleteParams::default()).await?;
    let world = World::empty_on(&shared, "kinds").await?;
    operated(&world).await?;
    let mut documents = documents("seldon")?;
    let position = documents.iter().position(|object| object["kind"] == "Rollout").unwrap_or(0);
    let mut rollout = hurried(&documents.remove(position));
    let deployment = documents.remove(0);
    rollout["spec"]["target"]["seldonDeployment"]["predictor"] = json!("main");
    rollout["spec"]["expose"]["gateways"] = json!(["served"]);
    let controller = world.controller()?;
    world.create_rollout(&rollout).await?;
    world.phase("Pending", "TargetNotFound").await?;
    for _ in 0..2 {
        shared.cluster.apply_yaml(crds::SELDON_DEPLOYMENTS).await?;
        world.create("machinelearning.seldon.io", "v1", &deployment).await?;
        world.phase("Healthy", "Live").await?;
        // What was of the kind goes with it.
        kinds.delete(SELDON, &DeleteParams::default()).await?;
        let status = world.phase("Pending", "TargetNotFound").await?;
        same_json("stable stays", &status["stable"]["subset"], &json!("main"))?;
        wait::until(LIMIT, "the kind is gone", async || {
            let found = kinds.get_opt(SELDON).await.map_err(|error| error.to_string())?;
            if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
        })
        .await?;
    }
    controller.stop().await
}

pub async fn what_the_schema_can_tell_is_refused_by_the_server(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "generated-refused").await?;
    for (expose, routes, expected) in [
        (json!({}), json!([{"virtualService": "iris"}]), "exactly one of routes (at least one) and expose"),
        (Value::Null, json!([]), "exactly one of routes (at least one) and expose"),
        (json!({"grpcPort": 0}), json!([]), "grpcPort"),
    ] {
        let mut rollout = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
            "spec": {"target": {"service": {"name": "iris-v2"}}},
        });
        for (field, value) in [("expose", expose), ("routes", routes)] {
            if !value.is_null() && value != json!([]) {
                rollout["spec"][field] = value;
            }
        }
        let refused = world.create("sluice.dev", "v1alpha1", &rollout).await;
        let message = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(message.contains(expected), "{rollout}: {message:?} lacks {expected:?}");
    }
    Ok(())
}
