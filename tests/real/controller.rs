//! The controller under test, in this process and under its own RBAC.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sluice::controller::{self, Clock, LeaseOptions, Options, Telemetry};
use sluice::metrics::{Config, Metrics};
use sluice_core::HostNames;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::lab::{CONTROLLER, Shared};

/// A running controller of one namespace. Dropping it kills it, as a crash would.
pub struct Controller {
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), controller::Error>>,
}

/// How long a lease lasts, as in `sluice run`: a machine that is busy for a while costs nobody a slot.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Controller {
    /// Starts one of the replicas of its namespace.
    pub fn start(shared: &Shared, namespace: &str, identity: &str) -> Result<Self> {
        Self::with_lease(shared, namespace, identity, LEASE_DURATION)
    }

    /// [`start`](Self::start) with a lease that lasts so long: as long a replica that does not answer is waited for.
    pub fn with_lease(shared: &Shared, namespace: &str, identity: &str, duration: Duration) -> Result<Self> {
        Self::over(shared.cluster.user(CONTROLLER)?, shared, namespace, identity, duration)
    }

    /// [`start`](Self::start) with a clock that shows so many minutes more than the machine's.
    pub fn with_clock(shared: &Shared, namespace: &str, identity: &str, minutes: i64) -> Result<Self> {
        let clock = Clock::starting_at(chrono::Utc::now() + chrono::TimeDelta::minutes(minutes));
        let lease = (identity, LEASE_DURATION);
        Self::with(shared.cluster.user(CONTROLLER)?, namespace, lease, clock, shared.prometheus.url())
    }

    /// [`start`](Self::start) with another Prometheus.
    pub fn asking(shared: &Shared, namespace: &str, prometheus: &str) -> Result<Self> {
        let lease = ("one", LEASE_DURATION);
        Self::with(shared.cluster.user(CONTROLLER)?, namespace, lease, Clock::system(), prometheus)
    }

    /// [`with_lease`](Self::with_lease) over a client that may have faults.
    pub fn over(
        client: Client,
        shared: &Shared,
        namespace: &str,
        identity: &str,
        duration: Duration,
    ) -> Result<Self> {
        Self::with(client, namespace, (identity, duration), Clock::system(), shared.prometheus.url())
    }

    fn with(
        client: Client,
        namespace: &str,
        (identity, duration): (&str, Duration),
        clock: Clock,
        prometheus: &str,
    ) -> Result<Self> {
        let lease = LeaseOptions {
            namespace: "sluice-system".to_owned(),
            name: format!("sluice-{namespace}"),
            identity: identity.to_owned(),
            duration,
            clock,
        };
        let options = Options {
            namespace: Some(namespace.to_owned()),
            names: HostNames::default(),
            istio: true,
            metrics: Metrics::new(Config::prometheus(prometheus)?)?,
            lease: Some(lease),
            clock,
            telemetry: Telemetry::default(),
        };
        let mut registry = Registry::default();
        options.telemetry.register(&mut registry);
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        Ok(Self { registry, stop: Some(stop), task: tokio::spawn(controller::run(client, options, stopped)) })
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            // Who has ended by itself says below why.
            let _ = stop.send(());
        }
        Ok((&mut self.task).await.context("the controller")??)
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<()> {
        Ok((&mut self.task).await.context("the controller")??)
    }

    /// How often it has looked at its Rollouts so far: what tells a test that it has, and nothing else.
    pub fn looks(&self) -> Result<u64> {
        Ok(self.reconciles()?.values().sum())
    }

    /// Whether it could not do what it wanted at any time, as on a machine that is too busy.
    pub fn was_disturbed(&self) -> Result<bool> {
        Ok(self.reconciles()?.iter().any(|(outcome, count)| outcome != "ok" && *count > 0))
    }

    /// Looks by outcome.
    fn reconciles(&self) -> Result<BTreeMap<String, u64>> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        let count = |line: &str| {
            let (outcome, count) = line.strip_prefix("reconciles_total{outcome=\"")?.split_once("\"} ")?;
            Some((outcome.to_owned(), count.parse().ok()?))
        };
        Ok(text.lines().filter_map(count).collect())
    }

    /// Ends it at once: nothing of what it has in hand is finished.
    pub async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}
