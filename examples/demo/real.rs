//! The same world on all the real parts: etcd, kube-apiserver, kube-controller-manager, istiod, Envoy and Prometheus, as
//! processes in a network namespace of the demo's own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use futures::StreamExt;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use sluice_lab::real::{Cluster, Envoy, Istio, Options, Prometheus, Target, install};
use sluice_lab::scene::Served;
use tokio::task::JoinHandle;

use crate::{
    check::{self, Version},
    world::{MODEL, NAMESPACE},
};

/// What `deploy/` binds the controller's roles to.
const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";

/// In a hurry, as everything in the demo.
const SCRAPED_EVERY: Duration = Duration::from_millis(250);

/// What the API server has told so far.
#[derive(Default)]
struct Told {
    versions: Vec<Version>,
    rollout: Option<Value>,
}

/// Everything real that runs.
pub struct Real {
    told: Arc<Mutex<Told>>,
    watches: [JoinHandle<()>; 2],
    prometheus: Prometheus,
    // Dropped in this order: nobody outlives what they talk to.
    gateway: Envoy,
    _istio: Istio,
    cluster: Cluster,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Real {
    /// Starts it all, and installs Sluice as `kubectl apply -k deploy` does.
    pub async fn start() -> Result<Self> {
        let cluster = Cluster::start(Options::new().user(CONTROLLER)).await?;
        let istio = Istio::start(&cluster).await?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        install::install(&cluster, repository).await.context("install Sluice")?;
        install::allowed(&cluster, CONTROLLER).await?;
        let gateway = Envoy::gateway(&istio).await?;
        let prometheus = Prometheus::start(SCRAPED_EVERY).await?;
        let told = Arc::default();
        let client = cluster.admin()?;
        let watches = [
            watch(&client, "networking.istio.io", "v1", "VirtualService", &told),
            watch(&client, "sluice.dev", "v1alpha1", "Rollout", &told),
        ];
        let real = Self { told, watches, prometheus, gateway, _istio: istio, cluster };
        // The Gateway that the VirtualService names.
        real.gateway.open(&real.cluster, "istio-system", "public").await?;
        Ok(real)
    }

    /// Where users find Envoy.
    pub fn entry(&self) -> SocketAddr {
        self.gateway.entry()
    }

    /// Waits until Envoy could send requests to each of these Services.
    pub async fn reaches(&self, services: &[&str]) -> Result<()> {
        for service in services {
            self.gateway.reaches(NAMESPACE, service).await?;
        }
        Ok(())
    }

    /// Where Prometheus is.
    pub fn prometheus(&self) -> &str {
        self.prometheus.url()
    }

    /// Prometheus scrapes these, and labels them as an operator's `ServiceMonitor` does.
    pub async fn scrapes(&self, served: &[&Served]) -> Result<()> {
        let target = |one: &&Served| {
            Target::new(one.predictor.address()).label("namespace", NAMESPACE).label("service", &one.service)
        };
        Ok(self.prometheus.set_targets(served.iter().map(target)).await?)
    }

    /// A client of the user who may do everything.
    pub fn you(&self) -> Result<Client> {
        Ok(self.cluster.admin()?)
    }

    /// A client of the controller, under the rights of `deploy/`.
    pub fn controller(&self) -> Result<Client> {
        Ok(self.cluster.user(CONTROLLER)?)
    }

    /// Every version of the VirtualService so far.
    pub fn versions(&self) -> Vec<Version> {
        lock(&self.told).versions.clone()
    }

    /// The Rollout as it was told last.
    pub fn rollout(&self) -> Option<Value> {
        lock(&self.told).rollout.clone()
    }
}

/// Notes every version of the object of the model's name, as the server tells it.
fn watch(client: &Client, group: &str, version: &str, kind: &str, told: &Arc<Mutex<Told>>) -> JoinHandle<()> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    let config = watcher::Config::default().fields(&format!("metadata.name={MODEL}"));
    let (told, is_route) = (Arc::clone(told), kind == "VirtualService");
    tokio::spawn(async move {
        let objects = watcher(api, config).default_backoff().applied_objects();
        let mut objects = std::pin::pin!(objects);
        while let Some(object) = objects.next().await {
            let Some(object) = object.ok().and_then(|object| serde_json::to_value(object).ok()) else {
                continue;
            };
            let mut told = lock(&told);
            if is_route {
                let object = Arc::new(object);
                told.versions.push(Version { at: Utc::now(), route: check::route(&object), object });
            } else {
                told.rollout = Some(object);
            }
        }
    })
}
