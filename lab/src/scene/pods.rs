//! Pods of a scene: what makes Kubernetes believe in them, on the embedded API and on the real one.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use kube::{
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use super::{Error, POD_PORT, Scene, read, resource};
use crate::real::pods::{self, LabPod, PodSpec};

/// The pods of a scene on a real cluster, by name.
pub(super) type Pods = Arc<Mutex<BTreeMap<String, LabPod>>>;

/// Who makes pods and slices what they are.
#[derive(Clone, Debug)]
pub(super) enum Hosting {
    /// The scene itself.
    Embedded,
    /// The cluster's controllers.
    Real(Pods),
}

impl Hosting {
    /// A listener as a pod of its own.
    pub(super) fn bind(&self) -> io::Result<TcpListener> {
        match self {
            Self::Embedded => bind_pod(),
            Self::Real(_) => TcpListener::bind((pods::pod_address(), POD_PORT)),
        }
    }
}

pub(super) fn known(pods: &Pods, name: &str) -> Result<LabPod, Error> {
    let pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
    pods.get(name).cloned().ok_or_else(|| Error::NoPod(name.into()))
}

impl Scene {
    pub(super) async fn real_pod(
        &self,
        pods: &Pods,
        name: &str,
        service: &str,
        address: SocketAddr,
    ) -> Result<(), Error> {
        let IpAddr::V4(ip) = address.ip() else {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "pods have IPv4 addresses").into());
        };
        let spec = PodSpec::new(&self.namespace, name, ip).label("app", service).port("http", address.port());
        let pod = pods::run(&self.client, &spec.unready()).await?;
        pods.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), pod);
        Ok(())
    }

    pub(super) async fn embedded_pod(
        &self,
        name: &str,
        service: &str,
        address: SocketAddr,
    ) -> Result<(), Error> {
        let port = address.port();
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": service}},
            "spec": {"containers": [{
                "name": "predictor", "image": "lab.invalid/predictor",
                "ports": [{"name": "http", "containerPort": port}],
            }]},
        });
        let pod = self.api(&pod_kind()).create(&PostParams::default(), &read(object)?).await?;
        let status = json!({"status": {
            "phase": "Running", "podIP": address.ip().to_string(), "podIPs": [{"ip": address.ip().to_string()}],
            "conditions": conditions(false),
        }});
        let params = PatchParams::default();
        self.api(&pod_kind()).patch_status(name, &params, &Patch::Merge(&status)).await?;
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [address.ip().to_string()],
                "conditions": endpoint_conditions(false),
                "targetRef": {"kind": "Pod", "name": name, "namespace": self.namespace, "uid": pod.metadata.uid},
            }],
        });
        self.create(&slice_kind(), object).await
    }

    pub(super) async fn set_embedded_ready(&self, pod: &str, ready: bool) -> Result<(), Error> {
        let params = PatchParams::default();
        let status = json!({"status": {"conditions": conditions(ready)}});
        self.api(&pod_kind()).patch_status(pod, &params, &Patch::Merge(&status)).await?;
        let api = self.api(&slice_kind());
        let mut slice = api.get(pod).await?;
        slice.data["endpoints"][0]["conditions"] = endpoint_conditions(ready);
        api.replace(pod, &PostParams::default(), &slice).await?;
        Ok(())
    }

    pub(super) async fn delete_embedded(&self, pod: &str) -> Result<(), Error> {
        self.api(&pod_kind()).delete(pod, &DeleteParams::default().grace_period(0)).await?;
        self.api(&slice_kind()).delete(pod, &DeleteParams::default()).await?;
        Ok(())
    }
}

fn pod_kind() -> ApiResource {
    resource("", "v1", "Pod", "pods")
}

fn slice_kind() -> ApiResource {
    resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
}

fn conditions(ready: bool) -> Value {
    let status = |yes: bool| if yes { "True" } else { "False" };
    let condition = |kind: &str, yes: bool| json!({"type": kind, "status": status(yes)});
    json!([
        condition("PodScheduled", true),
        condition("Initialized", true),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ])
}

fn endpoint_conditions(ready: bool) -> Value {
    json!({"ready": ready, "serving": ready, "terminating": false})
}

/// An address as a pod would have it: a loopback address of its own, with [`POD_PORT`]. Where the machine has only one
/// loopback address it is that one, with any free port.
pub fn bind_pod() -> io::Result<TcpListener> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Apart for each process, so that tests of several binaries rarely ask for the same one.
    let apart = (std::process::id() % 240) << 16;
    for _ in 0..512 {
        let n = NEXT.fetch_add(1, Ordering::Relaxed) % 60_000;
        let ip = Ipv4Addr::from(0x7f0a_0002 + apart + n);
        match TcpListener::bind(SocketAddr::new(IpAddr::V4(ip), POD_PORT)) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) => break,
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}
