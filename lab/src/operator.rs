//! What Seldon Core's operator does with routes where it owns them: it makes a VirtualService of a SeldonDeployment, writes its
//! own over whatever others wrote there, and writes nothing while any of the deployments is unready.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long it takes to see a change, at most.
const MOMENT: Duration = Duration::from_millis(70);

/// The operator, for one SeldonDeployment and its VirtualService, which has the same name. Dropping it ends it.
#[derive(Debug)]
pub struct Operator {
    task: JoinHandle<()>,
    works: Arc<AtomicBool>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where it serves its deployments.
#[derive(Clone, Debug)]
pub struct Served {
    /// Of the VirtualService.
    pub host: String,
    /// Of the VirtualService, `<namespace>/<name>`.
    pub gateway: String,
}

impl Operator {
    /// Starts it for the SeldonDeployment of this name.
    pub fn start(client: &Client, namespace: &str, name: &str, served: Served) -> Self {
        let works = Arc::new(AtomicBool::new(true));
        let (working, name) = (works.clone(), name.to_owned());
        let deployments = api(client, namespace, "machinelearning.seldon.io", "SeldonDeployment");
        let routes = api(client, namespace, "networking.istio.io", "VirtualService");
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(MOMENT).await;
                if working.load(Ordering::Relaxed) {
                    // What fails, as when somebody else wrote meanwhile, is done at the next look.
                    let _ = carry_out(&deployments, &routes, &name, &served).await;
                }
            }
        });
        Self { task, works }
    }

    /// It does nothing from now on, as while a deployment is unready.
    pub fn stand_still(&self) {
        self.works.store(false, Ordering::Relaxed);
    }

    /// It works again.
    pub fn go_on(&self) {
        self.works.store(true, Ordering::Relaxed);
    }
}

fn api(client: &Client, namespace: &str, group: &str, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

async fn carry_out(
    deployments: &Api<DynamicObject>,
    routes: &Api<DynamicObject>,
    name: &str,
    served: &Served,
) -> Result<(), kube::Error> {
    let route = routes.get_opt(name).await?;
    let deployment = deployments.get(name).await?;
    let deployment = serde_json::to_value(deployment).map_err(kube::Error::SerdeError)?;
    if !all_available(&deployment) {
        return Ok(());
    }
    let wanted = virtual_service(&deployment, served);
    match route {
        None => {
            let wanted = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
            routes.create(&PostParams::default(), &wanted).await.map(drop)
        }
        Some(route) if route.data["spec"] != wanted["spec"] => {
            let version = route.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": wanted["spec"]});
            routes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        }
        Some(_) => Ok(()),
    }
}

/// Whether all deployments of which the status tells have the replicas they want.
fn all_available(deployment: &Value) -> bool {
    let parts = deployment["status"]["deploymentStatus"].as_object();
    parts.is_none_or(|parts| parts.values().all(|part| part["availableReplicas"] == part["replicas"]))
}

/// The VirtualService that is made of a SeldonDeployment: one route for HTTP below its prefix and one for gRPC by headers. A
/// predictor without traffic has no `weight`, and a shadow is the mirror of both.
pub fn virtual_service(deployment: &Value, served: &Served) -> Value {
    let text = |pointer| deployment.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let by_headers = json!({
        "headers": {"namespace": {"exact": namespace}, "seldon": {"exact": name}},
        "uri": {"regex": ".*tensorflow.*|.*seldon.protos.*|.*inference.*"},
    });
    let mut http = json!({
        "match": [{"uri": {"prefix": format!("/seldon/{namespace}/{name}/")}}], "rewrite": {"uri": "/"},
    });
    let mut grpc = json!({"match": [by_headers]});
    lead(&mut http, deployment, 8000);
    lead(&mut grpc, deployment, 5001);
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "name": name,
            "uid": deployment["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]},
        "spec": {"hosts": [served.host], "gateways": [served.gateway], "http": [http, grpc]},
    })
}

/// Gives a route the predictors of a SeldonDeployment, on a port.
fn lead(route: &mut Value, deployment: &Value, port: u16) {
    let text = |pointer| deployment.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, deployed) = (text("/metadata/namespace"), text("/metadata/name"));
    let mut entries = Vec::new();
    for predictor in deployment["spec"]["predictors"].as_array().into_iter().flatten() {
        let name = predictor["name"].as_str().unwrap_or_default();
        let host = format!("{deployed}-{name}.{namespace}.svc.cluster.local");
        let destination = json!({"host": host, "port": {"number": port}, "subset": name});
        let traffic = &predictor["traffic"];
        if predictor["shadow"] == true {
            route["mirror"] = destination;
            route["mirrorPercentage"] = json!({"value": traffic});
            continue;
        }
        let mut entry = json!({"destination": destination});
        if traffic.as_i64().is_some_and(|traffic| traffic > 0) {
            entry["weight"] = traffic.clone();
        }
        entries.push(entry);
    }
    route["route"] = entries.into();
}
