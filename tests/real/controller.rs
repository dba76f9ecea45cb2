//! The controller under test, in this process and under its own RBAC.

use std::time::Duration;

use anyhow::{Context, Result};
use sluice::controller::{self, Clock, LeaseOptions, Options, Telemetry};
use sluice::metrics::{Config, Metrics};
use sluice_core::HostNames;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::lab::{CONTROLLER, Shared};

/// A running controller of one namespace. Dropping it kills it, as a crash would.
pub struct Controller {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), controller::Error>>,
}

/// How long a lease of a test lasts: a replica that does not answer is waited for as long.
pub const LEASE_DURATION: Duration = Duration::from_secs(5);

impl Controller {
    /// Starts one that leads when it has the lease of its namespace.
    pub fn start(shared: &Shared, namespace: &str, identity: &str) -> Result<Self> {
        let clock = Clock::system();
        let lease = LeaseOptions {
            namespace: "sluice-system".to_owned(),
            name: format!("sluice-{namespace}"),
            identity: identity.to_owned(),
            duration: LEASE_DURATION,
            clock,
        };
        let options = Options {
            namespace: Some(namespace.to_owned()),
            names: HostNames { cluster_domain: "cluster.local".to_owned() },
            metrics: Metrics::new(Config::prometheus(shared.prometheus.url())?)?,
            lease: Some(lease),
            clock,
            telemetry: Telemetry::default(),
        };
        let client = shared.cluster.user(CONTROLLER)?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        Ok(Self { stop, task: tokio::spawn(controller::run(client, options, stopped)) })
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        Ok(self.task.await.context("the controller")??)
    }

    /// Ends it at once: nothing of what it has in hand is finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
