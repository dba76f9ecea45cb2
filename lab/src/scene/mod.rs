//! Setting up a world for Sluice to act in, through any [`kube::Client`]: a namespace, Services with pods behind them,
//! a VirtualService; and waiting for something to become true, with a limit.
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

use std::{io, net::SocketAddr, sync::Arc};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::predictor::Predictor;

mod apply;
mod pods;
mod wait;

use pods::Hosting;
pub use pods::bind_pod;
pub use wait::{TooLate, eventually};

/// The port of every Service of a scene.
pub const SERVICE_PORT: u16 = 8000;
/// The port of every pod of a scene, where the machine has an address for each.
pub const POD_PORT: u16 = 8080;

/// What can go wrong while a scene is set up.
#[derive(Debug, Error)]
pub enum Error {
    /// The API refused.
    #[error("the API refused: {0}")]
    Kube(#[from] kube::Error),
    /// An address could not be bound.
    #[error("no address to serve on: {0}")]
    Bind(#[from] io::Error),
    /// A pod of the real cluster could not be made or changed.
    #[error(transparent)]
    Real(#[from] crate::real::Error),
    /// A text is no YAML of objects.
    #[error("no Kubernetes objects: {0}")]
    Yaml(String),
    /// The scene has no pod of this name.
    #[error("the scene has no pod {0}")]
    NoPod(String),
}

/// A namespace and what is in it.
#[derive(Clone)]
pub struct Scene {
    client: Client,
    namespace: String,
    hosting: Hosting,
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
    /// A scene on the embedded API, in this namespace, which is made if it is not there. Pods have loopback addresses,
    /// and the scene writes EndpointSlices itself, as there is nobody else to do it.
    pub async fn new(client: &Client, namespace: &str) -> Result<Self, Error> {
        Self::hosted(client, namespace, Hosting::Embedded).await
    }

    /// A scene on a real cluster, in this namespace, which is made if it is not there. Pods have addresses of the
    /// [network namespace](crate::real::namespace), and the cluster's controllers write the EndpointSlices. The client
    /// is an admin's.
    pub async fn on_real(client: &Client, namespace: &str) -> Result<Self, Error> {
        Self::hosted(client, namespace, Hosting::Real(Arc::default())).await
    }

    async fn hosted(client: &Client, namespace: &str, hosting: Hosting) -> Result<Self, Error> {
        let scene = Self { client: client.clone(), namespace: namespace.into(), hosting };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces =
            Api::<DynamicObject>::all_with(client.clone(), &resource("", "v1", "Namespace", "namespaces"));
        match namespaces.create(&PostParams::default(), &read(object)?).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(other) => return Err(other.into()),
        }
        Ok(scene)
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
        self.labelled_replica(service, suffix, model, version, version).await
    }

    /// The same whose label `version` is another one than what it calls itself: it has it before it is ready.
    pub async fn labelled_replica(
        &self,
        service: &str,
        suffix: &str,
        model: &str,
        version: &str,
        label: &str,
    ) -> Result<Served, Error> {
        let predictor = Predictor::on(self.hosting.bind()?, model, version)?;
        let pod = format!("{service}-{suffix}");
        self.pod(&pod, service, predictor.address()).await?;
        self.label(&pod, "version", label).await?;
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

    /// A pod behind a Service, running at this address, not ready yet. On the embedded API it has an EndpointSlice of
    /// its own.
    pub async fn pod(&self, name: &str, service: &str, address: SocketAddr) -> Result<(), Error> {
        match &self.hosting {
            Hosting::Embedded => self.embedded_pod(name, service, address).await,
            Hosting::Real(pods) => self.real_pod(pods, name, service, address).await,
        }
    }

    /// Gives a pod a label.
    pub async fn label(&self, pod: &str, name: &str, value: &str) -> Result<(), Error> {
        let labels = json!({"metadata": {"labels": {name: value}}});
        let pods: Api<DynamicObject> = self.api(&resource("", "v1", "Pod", "pods"));
        pods.patch(pod, &PatchParams::default(), &Patch::Merge(&labels)).await?;
        Ok(())
    }

    /// Sets whether a pod is ready; its EndpointSlice says the same, on a real cluster a little later.
    pub async fn set_ready(&self, pod: &str, ready: bool) -> Result<(), Error> {
        match &self.hosting {
            Hosting::Embedded => self.set_embedded_ready(pod, ready).await,
            Hosting::Real(pods) => pods::known(pods, pod)?.set_ready(ready).await.map_err(Error::from),
        }
    }

    /// Deletes a pod, at once, and with it its EndpointSlice.
    pub async fn delete_pod(&self, pod: &str) -> Result<(), Error> {
        match &self.hosting {
            Hosting::Embedded => self.delete_embedded(pod).await,
            Hosting::Real(pods) => pods::known(pods, pod)?.delete().await.map_err(Error::from),
        }
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
        .map(drop)
    }

    async fn create(&self, kind: &ApiResource, object: Value) -> Result<(), Error> {
        self.api(kind).create(&PostParams::default(), &read(object)?).await?;
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

/// The object as kube's client takes it.
fn read(object: Value) -> Result<DynamicObject, Error> {
    serde_json::from_value(object).map_err(|e| Error::Yaml(e.to_string()))
}
