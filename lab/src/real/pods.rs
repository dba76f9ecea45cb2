//! What scheduler and kubelet would do for a pod, for predictors that run in the test's own process.
//!
//! A predictor of a test is a listener on an address of [`pod_address`]. To Kubernetes it becomes a pod by
//! its objects: a node, the pod bound to it, and a status that says where it is and whether it is ready. The controllers
//! of the [`Cluster`](super::Cluster) then make the `EndpointSlices` of the Services that select it, as everywhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

pub use super::namespace::pod_address;
use super::{Error, Result, namespace};

/// The node that all pods are bound to.
pub const NODE_NAME: &str = "lab";

/// A pod to be made.
#[derive(Debug, Clone)]
pub struct PodSpec {
    namespace: String,
    name: String,
    address: Ipv4Addr,
    labels: BTreeMap<String, String>,
    ports: Vec<(String, u16)>,
    ready: bool,
}

impl PodSpec {
    /// A pod at this address, one of `10.244.0.0/16`, that is ready from the start.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, address: Ipv4Addr) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            address,
            labels: BTreeMap::new(),
            ports: Vec::new(),
            ready: true,
        }
    }

    /// Adds a label, for a Service to select it by.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Adds a container port, which a Service may name as its `targetPort`.
    #[must_use]
    pub fn port(mut self, name: impl Into<String>, number: u16) -> Self {
        self.ports.push((name.into(), number));
        self
    }

    /// Makes it start without being ready, until [`LabPod::set_ready`].
    #[must_use]
    pub fn unready(mut self) -> Self {
        self.ready = false;
        self
    }

    fn object(&self) -> Value {
        let ports: Vec<Value> =
            self.ports.iter().map(|(name, number)| json!({"name": name, "containerPort": number})).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels},
            "spec": {
                "containers": [{"name": CONTAINER, "image": IMAGE, "ports": ports}],
                // Nobody is there to confirm that it stopped: whoever deletes it, it is gone at once.
                "terminationGracePeriodSeconds": 0,
            },
        })
    }
}

/// A pod that a Kubernetes API believes in.
#[derive(Debug, Clone)]
pub struct LabPod {
    api: Api<Pod>,
    name: String,
    address: Ipv4Addr,
    started: Timestamp,
}

const CONTAINER: &str = "predictor";
const IMAGE: &str = "lab.invalid/predictor";

/// Makes the node, the pod, its binding and its status, and returns when the pod is as ready as it was asked to be.
/// `client` needs to be an admin's.
pub async fn run(client: &Client, spec: &PodSpec) -> Result<LabPod> {
    let what = |verb: &str| Error::kube(format!("{verb} pod {}/{}", spec.namespace, spec.name));
    ensure_node(client).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), &spec.namespace);
    let pod = serde_json::from_value(spec.object()).map_err(|error| Error::Yaml(error.to_string()))?;
    let created = api.create(&PostParams::default(), &pod).await.map_err(what("create"))?;
    bind(client, &created).await.map_err(what("bind"))?;
    let pod = LabPod { api, name: spec.name.clone(), address: spec.address, started: Timestamp::now() };
    pod.set_ready(spec.ready).await?;
    Ok(pod)
}

impl LabPod {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Says that the pod is ready, or that it runs and is not.
    pub async fn set_ready(&self, ready: bool) -> Result<()> {
        let patch = Patch::Strategic(self.status(ready));
        let done = self.api.patch_status(&self.name, &PatchParams::default(), &patch).await;
        done.map(drop).map_err(Error::kube(format!("set the status of pod {}", self.name)))
    }

    /// Deletes the pod, without grace. That it is gone already is fine.
    pub async fn delete(self) -> Result<()> {
        match self.api.delete(&self.name, &DeleteParams::default().grace_period(0)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(Error::kube(format!("delete pod {}", self.name))(error)),
        }
    }

    /// As a kubelet reports a pod of one running container.
    fn status(&self, ready: bool) -> Value {
        let now = Timestamp::now();
        let condition = |kind: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": now})
        };
        json!({"status": {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": namespace::NODE,
            "hostIPs": [{"ip": namespace::NODE}],
            "startTime": self.started,
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", true),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": [{
                "name": CONTAINER,
                "image": IMAGE,
                "imageID": IMAGE,
                "ready": ready,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": self.started}},
            }],
        }})
    }
}

/// Makes the node unless it is there.
pub(super) async fn ensure_node(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = Node {
        metadata: kube::core::ObjectMeta { name: Some(NODE_NAME.into()), ..Default::default() },
        ..Default::default()
    };
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(Error::kube("create the node")(error)),
    }
}

/// What the scheduler's decision is to the API.
pub(super) async fn bind(client: &Client, pod: &Pod) -> Result<(), kube::Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
    let body = serde_json::to_vec(&binding).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(path).header("content-type", "application/json").body(body);
    client.request::<Value>(request.map_err(kube::Error::HttpError)?).await.map(drop)
}
