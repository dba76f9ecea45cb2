//! What all tests share: one cluster with Sluice installed on it, one gateway, one Prometheus.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sluice_lab::gateway::Gateway;
use sluice_lab::http::Server;
use sluice_lab::real::pods::pod_address;
use sluice_lab::real::{Cluster, History, Options, Prometheus, Target};
use tokio::sync::{Mutex, OnceCell};

use crate::install;

/// Nothing here takes this long; a busy machine may.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Who the controller is, as far as the API server knows: what `deploy/` binds its roles to, and nothing else.
pub const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";
/// A user who may do what RBAC of a test says.
pub const PERSON: &str = "ada";

/// How often Prometheus scrapes.
pub const SCRAPES_EVERY: Duration = Duration::from_millis(200);

/// Started by the first test that asks. If that fails, the others fail by it too, at once.
#[derive(Default)]
pub struct Lab {
    shared: OnceCell<Result<Shared>>,
}

/// What is started once.
pub struct Shared {
    pub cluster: Cluster,
    /// Every committed state since the cluster is there.
    pub history: History,
    pub prometheus: Prometheus,
    pub gateway: Gateway,
    targets: Mutex<Vec<Target>>,
    _gateway_metrics: Server,
}

impl Lab {
    pub async fn shared(&self) -> Result<&Shared> {
        let started = self.shared.get_or_init(Shared::start).await;
        started.as_ref().map_err(|error| anyhow!("the lab did not start: {error:#}"))
    }
}

impl Shared {
    /// Starts everything, and installs Sluice.
    pub async fn start() -> Result<Self> {
        Self::start_with(Vec::new()).await
    }

    /// The same with more users, who may do nothing yet.
    pub async fn start_with(users: Vec<String>) -> Result<Self> {
        let options =
            users.into_iter().fold(Options::new().user(CONTROLLER).user(PERSON), Options::user).history();
        let (cluster, prometheus) =
            tokio::try_join!(Cluster::start(options), Prometheus::start(SCRAPES_EVERY))?;
        let history = cluster.history().await?;
        install::install(&cluster).await.context("install")?;
        let gateway = Gateway::start(&cluster.admin()?);
        gateway.synced().await;
        let gateway_metrics = gateway.listen_metrics(SocketAddr::from((pod_address(), 15020)))?;
        let target = Target::new(gateway_metrics.address()).label("pod", "gateway");
        prometheus.set_targets([target.clone()]).await?;
        Ok(Self {
            cluster,
            history,
            prometheus,
            gateway,
            targets: Mutex::new(vec![target]),
            _gateway_metrics: gateway_metrics,
        })
    }

    /// Prometheus scrapes these, too.
    pub async fn scrape_too(&self, more: impl IntoIterator<Item = Target>) -> Result<()> {
        let mut targets = self.targets.lock().await;
        targets.extend(more);
        Ok(self.prometheus.set_targets(targets.clone()).await?)
    }
}
