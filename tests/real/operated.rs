//! Routes that Seldon Core's operator owns, on a real API server: what is written is the traffic in its SeldonDeployment.

use std::time::Duration;

use anyhow::{Result, anyhow};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::examples::documents;
use crate::generated::{hurried, is_there, operated};
use crate::lab::Lab;
use crate::oracle::{Recording, without_repeats};
use crate::world::{IRIS, World, same};

/// How long a running operator takes to see a change, at most.
const MOMENT: Duration = Duration::from_millis(50);

/// What Seldon Core's operator does with routes, until dropped.
struct Operator(JoinHandle<()>);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Operator {
    fn start(world: &World<'_>) -> Self {
        let (deployments, routes) = (deployments(world), world.virtual_services());
        Self(tokio::spawn(async move {
            loop {
                // What fails, as when somebody else wrote meanwhile, is done at the next look.
                let _ = carry_out(&deployments, &routes).await;
                tokio::time::sleep(MOMENT).await;
            }
        }))
    }
}

fn deployments(world: &World<'_>) -> Api<DynamicObject> {
    world.api("machinelearning.seldon.io", "v1", "SeldonDeployment")
}

/// Makes the VirtualService what the SeldonDeployment says.
async fn carry_out(deployments: &Api<DynamicObject>, routes: &Api<DynamicObject>) -> Result<()> {
    let deployment = deployments.get(IRIS).await?;
    let predictors = deployment.data["spec"]["predictors"].as_array().cloned().unwrap_or_default();
    let entry = |predictor: &Value| {
        let name = predictor["name"].as_str().unwrap_or_default();
        let to = json!({"host": format!("{IRIS}-{name}"), "port": {"number": 8000}, "subset": name});
        json!({"destination": to, "weight": predictor["traffic"]})
    };
    let http = json!([{"route": predictors.iter().map(entry).collect::<Vec<_>>()}]);
    let owner = json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "name": IRIS,
        "uid": deployment.metadata.uid, "controller": true, "blockOwnerDeletion": true,
    });
    let wanted = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": IRIS, "ownerReferences": [owner]},
        "spec": {"hosts": ["iris.example.com"], "http": http},
    });
    match routes.get_opt(IRIS).await? {
        None => drop(routes.create(&PostParams::default(), &serde_json::from_value(wanted)?).await?),
        Some(route) if route.data["spec"]["http"] != http => {
            let version = route.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"http": http}});
            routes.patch(IRIS, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Some(_) => {}
    }
    Ok(())
}

pub async fn the_example_seldon_operator_moves_the_traffic_in_the_deployment(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "operated").await?;
    operated(&world).await?;
    for predictor in ["main", "green"] {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("{IRIS}-{predictor}")},
            "spec": {
                "host": format!("{IRIS}-{predictor}"),
                "subsets": [{"name": predictor, "labels": {"version": predictor}}],
            },
        });
        world.create("networking.istio.io", "v1", &rule).await?;
    }
    let documents: [Value; 2] =
        documents("seldon-operator")?.try_into().map_err(|found| anyhow!("two are expected: {found:?}"))?;
    let [deployment, rollout] = documents;
    world.create("machinelearning.seldon.io", "v1", &deployment).await?;
    let recording = Recording::start(deployments(&world), IRIS).await?;
    let _operator = Operator::start(&world);
    is_there(&world.virtual_services(), IRIS, true).await?;
    let controller = world.controller()?;
    world.create_rollout(&hurried(&rollout)).await?;
    world.phase("Healthy", "Live").await?;
    let traffic = |version: &Value| {
        [0, 1].map(|at| version["spec"]["predictors"][at]["traffic"].as_i64().unwrap_or(-1))
    };
    let all: Vec<[i64; 2]> = recording.versions().iter().map(traffic).collect();
    let steps = vec![[100, 0], [95, 5], [50, 50], [0, 100]];
    same("the traffic in the SeldonDeployment", &without_repeats(&all), &steps)?;
    controller.stop().await
}
