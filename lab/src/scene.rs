//! Setting up a world for Sluice to act in, through any [`kube::Client`]: a namespace, Services with pods behind them, a
//! VirtualService; and waiting for something to become true, with a limit.
//!
//! ```no_run
//! # async fn world() -> anyhow::Result<()> {
//! use sluice_lab::{embedded, gateway::{Gateway, Load}, scene::Scene};
//!
//! let api = embedded::Api::new();
//! let scene = Scene::new(&api.client(), "models").await?;
//! let v1 = scene.serve("iris-v1", "iris", "v1").await?;
//! let v2 = scene.serve("iris-v2", "iris", "v2").await?;
//! v2.predictor.set_errors(0.05);
//! scene.virtual_service("iris", "iris.example.com", &[("iris-v1", Some(75)), ("iris-v2", Some(25))]).await?;
//! let gateway = Gateway::start(&api.client());
//! gateway.synced().await;
//! let report = Load::infer("iris.example.com", "iris").count(1000).run(&gateway).await;
//! assert_eq!((report.by("iris-v1"), report.by("iris-v2")), (750, 250));
//! # Ok(())
//! # }
//! ```

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::predictor::Predictor;

/// The port of every Service of a scene.
pub const SERVICE_PORT: u16 = 8000;
/// The port of every pod of a scene, where the machine has an address for each.
pub const POD_PORT: u16 = 8080;
/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What can go wrong while a scene is set up.
#[derive(Debug, Error)]
pub enum Error {
    /// The API refused.
    #[error("the API refused: {0}")]
    Kube(#[from] kube::Error),
    /// An address could not be bound.
    #[error("no address to serve on: {0}")]
    Bind(#[from] io::Error),
}

/// A namespace and what is in it.
#[derive(Clone)]
pub struct Scene {
    client: Client,
    namespace: String,
    slices: bool,
}

/// A predictor with its Service and pod. Dropping it kills the predictor and leaves the objects.
#[derive(Debug)]
pub struct Served {
    /// The predictor.
    pub predictor: Predictor,
    /// The name of its Service.
    pub service: String,
    /// The name of its pod.
    pub pod: String,
}

impl Scene {
    /// A scene in this namespace, which is made if it is not there. EndpointSlices are written by the scene, as there
    /// is nobody else to do it on the embedded API.
    pub async fn new(client: &Client, namespace: &str) -> Result<Self, Error> {
        let scene = Self { client: client.clone(), namespace: namespace.into(), slices: true };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces =
            Api::<DynamicObject>::all_with(client.clone(), &resource("", "v1", "Namespace", "namespaces"));
        match namespaces.create(&PostParams::default(), &read(object)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(other) => return Err(other.into()),
        }
        Ok(scene)
    }

    /// The same scene where a controller of the cluster writes the EndpointSlices.
    #[must_use]
    pub fn without_slices(self) -> Self {
        Self { slices: false, ..self }
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Starts a predictor on an address of its own, with a Service on [`SERVICE_PORT`] and one ready pod behind it.
    pub async fn serve(&self, service: &str, model: &str, version: &str) -> Result<Served, Error> {
        self.service(service).await?;
        self.replica(service, "0", model, version).await
    }

    /// One more pod behind a Service that is there.
    pub async fn replica(
        &self,
        service: &str,
        suffix: &str,
        model: &str,
        version: &str,
    ) -> Result<Served, Error> {
        let predictor = Predictor::on(bind_pod()?, model, version)?;
        let pod = format!("{service}-{suffix}");
        self.pod(&pod, service, predictor.address()).await?;
        self.set_ready(&pod, true).await?;
        Ok(Served { predictor, service: service.into(), pod })
    }

    /// A Service on [`SERVICE_PORT`], port name `http`, that selects pods by the label `app: <name>`.
    pub async fn service(&self, name: &str) -> Result<(), Error> {
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "selector": {"app": name},
                "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
            },
        });
        self.create(&service_kind(), object).await
    }

    /// A pod behind a Service, running at this address, not ready yet; with a slice of its own, unless the cluster
    /// makes them.
    pub async fn pod(&self, name: &str, service: &str, address: SocketAddr) -> Result<(), Error> {
        let port = address.port();
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": service}},
            "spec": {"containers": [{
                "name": "predictor", "image": "sluice-lab/predictor",
                "ports": [{"name": "http", "containerPort": port}],
            }]},
        });
        self.create(&pod_kind(), object).await?;
        let status = json!({"status": {
            "phase": "Running", "podIP": address.ip().to_string(), "podIPs": [{"ip": address.ip().to_string()}],
            "conditions": conditions(false),
        }});
        let params = PatchParams::default();
        self.api(&pod_kind()).patch_status(name, &params, &Patch::Merge(&status)).await?;
        if !self.slices {
            return Ok(());
        }
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [address.ip().to_string()],
                "conditions": endpoint_conditions(false),
                "targetRef": {"kind": "Pod", "name": name, "namespace": self.namespace},
            }],
        });
        self.create(&slice_kind(), object).await
    }

    /// Sets whether a pod is ready, in its status and in its slice.
    pub async fn set_ready(&self, pod: &str, ready: bool) -> Result<(), Error> {
        let params = PatchParams::default();
        let status = json!({"status": {"conditions": conditions(ready)}});
        self.api(&pod_kind()).patch_status(pod, &params, &Patch::Merge(&status)).await?;
        if self.slices {
            let api = self.api(&slice_kind());
            let mut slice = api.get(pod).await?;
            slice.data["endpoints"][0]["conditions"] = endpoint_conditions(ready);
            api.replace(pod, &PostParams::default(), &slice).await?;
        }
        Ok(())
    }

    /// Deletes a pod and its slice, at once.
    pub async fn delete_pod(&self, pod: &str) -> Result<(), Error> {
        self.api(&pod_kind()).delete(pod, &DeleteParams::default().grace_period(0)).await?;
        if self.slices {
            self.api(&slice_kind()).delete(pod, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// A VirtualService with one route, `primary`, to these Services of the namespace on [`SERVICE_PORT`], each with
    /// its weight, or none given.
    pub async fn virtual_service(
        &self,
        name: &str,
        host: &str,
        destinations: &[(&str, Option<u32>)],
    ) -> Result<(), Error> {
        let route: Vec<Value> = destinations
            .iter()
            .map(|(service, weight)| {
                let mut entry = json!({"destination": {"host": service, "port": {"number": SERVICE_PORT}}});
                if let Some(weight) = weight {
                    entry["weight"] = (*weight).into();
                }
                entry
            })
            .collect();
        self.apply(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
            "spec": {"hosts": [host], "http": [{"name": "primary", "route": route}]},
        }))
        .await
    }

    /// Creates any object of a kind that Sluice knows, in this namespace.
    pub async fn apply(&self, object: Value) -> Result<(), Error> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let (group, version) =
            object["apiVersion"].as_str().unwrap_or_default().split_once('/').unwrap_or(("", "v1"));
        let kind = resource(group, version, kind, &format!("{}s", kind.to_lowercase()));
        self.create(&kind, object).await
    }

    async fn create(&self, kind: &ApiResource, object: Value) -> Result<(), Error> {
        self.api(kind).create(&PostParams::default(), &read(object)).await?;
        Ok(())
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, kind)
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn service_kind() -> ApiResource {
    resource("", "v1", "Service", "services")
}

fn pod_kind() -> ApiResource {
    resource("", "v1", "Pod", "pods")
}

fn slice_kind() -> ApiResource {
    resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
}

/// The object as kube's client takes it; every object of a scene has type and metadata, so nothing is lost.
fn read(object: Value) -> DynamicObject {
    let kind = GroupVersionKind::gvk("", "v1", object["kind"].as_str().unwrap_or_default());
    let mut read = DynamicObject::new("", &ApiResource::from_gvk(&kind));
    read.types =
        serde_json::from_value(json!({"apiVersion": object["apiVersion"], "kind": object["kind"]})).ok();
    read.metadata = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
    read.data = object;
    if let Some(fields) = read.data.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
    }
    read
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

/// What did not become true in time.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate {
    what: String,
    limit: Duration,
    last: String,
}

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?} it was still not so that {}; last seen: {}", self.limit, self.what, self.last)
    }
}

impl std::error::Error for TooLate {}

/// Looks again and again until `look` answers `Ok`, for at most `limit` (tokio time). What `look` answers as its error
/// is what was seen instead, for the message.
pub async fn eventually<T, E, F>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T, TooLate>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut last = String::from("nothing");
    let looks = async {
        loop {
            match look().await {
                Ok(seen) => return seen,
                Err(instead) => last = instead.to_string(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(limit, looks).await {
        Ok(seen) => Ok(seen),
        Err(_) => Err(TooLate { what: what.into(), limit, last }),
    }
}
