//! A real model server: two models that scikit-learn fits, served by MLServer in pods, asked by the open inference protocol
//! through the gateway while one takes over from the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use sluice_lab::real::binaries::Component;
use sluice_lab::real::{Kubelet, Target, Users, wait};

use crate::lab::{LIMIT, Lab};
use crate::shares::{none_failed, share_is};
use crate::world::{IRIS, World, same};

/// Fits a model to the flowers that scikit-learn comes with: the same for everybody, so that one can know what it says.
const FIT: &str = "
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
flowers = load_iris()
model = LogisticRegression(max_iter=500) if sys.argv[1] == 'v1' else DecisionTreeClassifier(max_depth=1)
joblib.dump(model.fit(flowers.data, flowers.target), sys.argv[2])
";
const SERVE: &str = "from mlserver.cli import main; main()";
const PORT: u16 = 8080;
const METRICS: u16 = 8082;
/// A virginica by its measures. A tree of one question cannot tell it from a versicolor.
const FLOWER: [f64; 4] = [6.3, 3.3, 6.0, 2.5];

fn python(modules: &Path) -> [String; 3] {
    ["env".to_owned(), format!("PYTHONPATH={}", modules.display()), "python3".to_owned()]
}

/// Fits a version's model and writes what MLServer is to know of it.
fn fit(modules: &Path, folder: &Path, version: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let [env, path, python] = python(modules);
    let file = folder.join("model.joblib");
    let done = Command::new(env).args([&path, &python, "-c", FIT, version]).arg(&file).output()?;
    ensure!(done.status.success(), "fit {version}: {}", String::from_utf8_lossy(&done.stderr));
    let model = json!({
        "name": IRIS, "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": file, "version": version},
    });
    fs::write(folder.join("model-settings.json"), model.to_string())?;
    Ok(())
}

fn deployment(version: &str, folder: &Path) -> Value {
    let name = format!("{IRIS}-{version}");
    let number = |name: &str, value: u16| json!({"name": name, "value": value.to_string()});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "mlserver", "image": "lab/mlserver", "args": ["start", folder],
                    "env": [
                        {"name": "MLSERVER_HOST", "value": "$(POD_IP)"},
                        number("MLSERVER_HTTP_PORT", PORT), number("MLSERVER_METRICS_PORT", METRICS),
                        number("MLSERVER_PARALLEL_WORKERS", 0),
                    ],
                    "ports": [{"name": "http", "containerPort": PORT}, {"name": "metrics", "containerPort": METRICS}],
                    "readinessProbe": {"httpGet": {"path": format!("/v2/models/{IRIS}/ready"), "port": "http"}},
                }]},
            },
        },
    })
}

pub async fn a_real_model_is_replaced_by_another(lab: &Arc<Lab>) -> Result<()> {
    let world = World::empty(lab, "mlserver").await?;
    let modules = Component::Mlserver.locate()?;
    let entry = python(&modules).into_iter().chain(["-c".to_owned(), SERVE.to_owned()]).collect();
    let images = BTreeMap::from([("lab/mlserver".to_owned(), entry)]);
    let kubelet = Kubelet::start(&world.client, images).await?;
    let folder = tempfile::tempdir()?;
    for version in ["v1", "v2"] {
        let folder = folder.path().join(version);
        fit(&modules, &folder, version)?;
        world.service(&format!("{IRIS}-{version}")).await?;
        world.create("apps", "v1", &deployment(version, &folder)).await?;
    }
    world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
    scraped(&world, &kubelet).await?;
    for version in ["v1", "v2"] {
        world.shared.gateway.reaches(&world.namespace, &format!("{IRIS}-{version}")).await?;
    }
    world.answered_by(&flowers(&world), "iris-v1").await?;
    same("v1 knows the flower", &species(&world).await?, &json!([2]))?;

    let users = flowers(&world).rate(30.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let steps = json!([{"weight": 30, "for": "6s", "minRequests": 20}, {"weight": 100, "for": "2s"}]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    same("v2 does not", &species(&world).await?, &json!([1]))?;
    share_is(&observed, &users, "iris-v2", 30)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}

fn flowers(world: &World<'_>) -> Users {
    let input = json!({"name": "flower", "shape": [1, 4], "datatype": "FP64", "data": FLOWER});
    world.users().body(json!({"inputs": [input]}).to_string()).header("content-type", "application/json")
}

/// What the model in traffic says the flower is.
async fn species(world: &World<'_>) -> Result<Value> {
    let answer = flowers(world).ask_once().await.map_err(anyhow::Error::msg)?;
    let text: Value = serde_json::from_slice(answer.body())?;
    Ok(text["outputs"][0]["data"].clone())
}

/// Waits until both pods are ready, and lets Prometheus scrape them.
async fn scraped(world: &World<'_>, kubelet: &Kubelet) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let ready = wait::until(LIMIT, "both model servers are ready", || async {
        let found = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let targets: Vec<Target> = found.iter().filter_map(|pod| target(&world.namespace, pod)).collect();
        if targets.len() == 2 {
            return Ok(targets);
        }
        let names = found.iter().filter_map(|pod| pod.metadata.name.as_deref());
        let logs: Vec<String> = names.map(|name| kubelet.log(&world.namespace, name)).collect();
        Err(format!("{} are: {logs:?}", targets.len()))
    });
    world.shared.scrape_too(ready.await.context("MLServer")?).await
}

/// A ready pod as a target, labelled as an operator's `ServiceMonitor` does.
fn target(namespace: &str, pod: &Pod) -> Option<Target> {
    let status = pod.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let service = pod.metadata.labels.as_ref()?.get("app")?;
    let target = Target::new(format!("{}:{METRICS}", status.pod_ip.as_ref()?));
    let target = target.label("namespace", namespace).label("service", service);
    ready.then(|| target.label("pod", pod.metadata.name.as_deref().unwrap_or_default()))
}
