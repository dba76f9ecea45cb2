//! What all tests share: one cluster with Istio and Sluice on it, one gateway, one Prometheus.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sluice_lab::real::{Cluster, Envoy, Istio, Options, Prometheus, Target, install};
use tokio::sync::{Mutex, OnceCell};

/// Nothing here takes this long; a busy machine may.
pub const LIMIT: Duration = Duration::from_mins(2);

/// Who the controller is, as far as the API server knows: what `deploy/` binds its roles to, and nothing else.
pub const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";

/// How often Prometheus scrapes.
pub const SCRAPES_EVERY: Duration = Duration::from_millis(200);

/// The Gateway that VirtualServices name.
pub const GATEWAY: &str = "istio-system/public";

/// Started by the first test that asks. If that fails, the others fail by it too, at once.
#[derive(Default)]
pub struct Lab {
    shared: OnceCell<Result<Shared>>,
}

/// What is started once.
pub struct Shared {
    // Dropped in this order: nobody outlives what they talk to.
    pub gateway: Envoy,
    pub istio: Istio,
    pub prometheus: Prometheus,
    pub cluster: Cluster,
    targets: Mutex<Vec<Target>>,
}

impl Lab {
    pub async fn shared(&self) -> Result<&Shared> {
        let started = self.shared.get_or_init(Shared::start).await;
        started.as_ref().map_err(|error| anyhow!("the lab did not start: {error:#}"))
    }
}

impl Shared {
    async fn start() -> Result<Self> {
        let options = Options::new().user(CONTROLLER);
        let (cluster, prometheus) =
            tokio::try_join!(Cluster::start(options), Prometheus::start(SCRAPES_EVERY))?;
        let istio = Istio::start(&cluster).await?;
        install::install(&cluster, Path::new(env!("CARGO_MANIFEST_DIR"))).await.context("install")?;
        install::allowed(&cluster, CONTROLLER).await?;
        let gateway = Envoy::gateway(&istio).await?;
        let shared = Self { gateway, istio, prometheus, cluster, targets: Mutex::default() };
        let (namespace, name) = GATEWAY.split_once('/').unwrap_or_default();
        shared.gateway.open(&shared.cluster, namespace, name).await?;
        Ok(shared)
    }

    /// Where users find the gateway.
    pub fn entry(&self) -> SocketAddr {
        self.gateway.entry()
    }

    /// Prometheus scrapes these, too.
    pub async fn scrape_too(&self, more: impl IntoIterator<Item = Target>) -> Result<()> {
        let mut targets = self.targets.lock().await;
        for target in more {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        Ok(self.prometheus.set_targets(targets.clone()).await?)
    }
}
