//! The world of the demo: Kubernetes in memory, three predictors that answer over HTTP, a gateway that obeys the
//! VirtualService, and the controller, which is the same code as `sluice run`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use sluice::{
    controller::{self, Clock, LeaseOptions, Options, Telemetry},
    metrics::{Config, Metrics},
};
use sluice_core::{HostNames, api::Rollout};
use sluice_lab::{
    embedded,
    gateway::Gateway,
    scene::{POD_PORT, SERVICE_PORT, Scene, Served},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The namespace of everything.
pub const NAMESPACE: &str = "models";
/// Name of the model, of its VirtualService and of its Rollout.
pub const MODEL: &str = "iris";
/// The host that users ask.
pub const HOST: &str = "iris.example.com";
/// The resource that VirtualServices are stored as.
pub const VIRTUAL_SERVICES: &str = "virtualservices.networking.istio.io";

/// Everything that runs.
pub struct World {
    /// Kubernetes.
    pub api: embedded::Api,
    /// Where users' requests come in.
    pub gateway: Gateway,
    /// The release that breaks.
    pub v3: Served,
    /// The one that is live at the beginning, and the good release: they serve until they are dropped.
    _others: [Served; 2],
    stop: CancellationToken,
    controller: JoinHandle<Result<(), controller::Error>>,
}

impl World {
    /// Sets everything up and starts the controller.
    pub async fn start() -> Result<Self> {
        let api = embedded::Api::new();
        let scene = Scene::new(&api.client_as("you"), NAMESPACE).await?;
        let serve = async |version, latency| {
            let served = scene.serve(&format!("{MODEL}-{version}"), MODEL, version).await?;
            served.predictor.set_latency(Duration::from_millis(latency));
            anyhow::Ok(served)
        };
        let (v1, v2, v3) = (serve("v1", 14).await?, serve("v2", 9).await?, serve("v3", 8).await?);
        // Where the machine has one loopback address only, pods have ports of their own, and those of a Rollout are
        // scraped on one and the same port.
        let ports = [&v1, &v2, &v3].map(|served| served.predictor.address().port());
        anyhow::ensure!(
            ports == [POD_PORT; 3],
            "each predictor needs a loopback address of its own, like 127.10.0.2, as Linux has them; this machine \
             has only 127.0.0.1, or its port {POD_PORT} is taken on all others"
        );
        scene.apply(virtual_service()).await?;
        scene.apply(rollout()).await?;
        let gateway = Gateway::start(&api.client_as("gateway"));
        gateway.synced().await;
        let stop = CancellationToken::new();
        let client = api.client_as("controller");
        let (options, stopped) = (options()?, stop.clone());
        let controller =
            tokio::spawn(async move { controller::run(client, options, stopped.cancelled_owned()).await });
        Ok(Self { api, gateway, v3, _others: [v1, v2], stop, controller })
    }

    /// The VirtualService as it is stored.
    pub fn virtual_service(&self) -> Result<Arc<Value>> {
        self.api.object(VIRTUAL_SERVICES, NAMESPACE, MODEL).context("the VirtualService is gone")
    }

    /// The Rollout as it is stored.
    pub fn rollout(&self) -> Result<Rollout> {
        let stored =
            self.api.object("rollouts.sluice.dev", NAMESPACE, MODEL).context("the Rollout is gone")?;
        Ok(serde_json::from_value(stored.as_ref().clone())?)
    }

    /// What a person does to release: names another Service in the Rollout's target.
    pub async fn release(&self, service: &str) -> Result<()> {
        let rollouts: Api<Rollout> = Api::namespaced(self.api.client_as("you"), NAMESPACE);
        let target = Patch::Merge(json!({"spec": {"target": {"service": {"name": service}}}}));
        rollouts.patch(MODEL, &PatchParams::default(), &target).await?;
        Ok(())
    }

    /// Whether the controller ended, which it should not.
    pub fn controller_ended(&self) -> bool {
        self.controller.is_finished()
    }

    /// Lets the controller finish and give its lease back.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.controller.await??)
    }
}

/// The options of `sluice run`, with a source of metrics that needs nothing: the predictors themselves.
fn options() -> Result<Options> {
    let clock = Clock::system();
    let lease = LeaseOptions {
        namespace: "default".into(),
        name: "sluice-controller".into(),
        identity: "demo".into(),
        duration: Duration::from_secs(15),
        clock,
    };
    Ok(Options {
        namespace: None,
        names: HostNames::default(),
        istio: true,
        metrics: Metrics::new(Config::default())?,
        lease: Some(lease),
        clock,
        telemetry: Telemetry::default(),
    })
}

/// The user's VirtualService: what Sluice must leave alone is more than what it may change.
fn virtual_service() -> Value {
    let to = |service: &str| json!({"host": service, "port": {"number": SERVICE_PORT}});
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": MODEL, "labels": {"team": "flowers"}, "annotations": {"example.com/owner": "ada"}},
        "spec": {
            "hosts": [HOST],
            "gateways": ["istio-system/public"],
            "http": [
                {
                    "name": "internal",
                    "match": [{"uri": {"prefix": "/internal/"}}],
                    "route": [{"destination": to("iris-tools"), "weight": 100}],
                },
                {
                    "name": "primary",
                    "timeout": "3s",
                    "retries": {"attempts": 2, "perTryTimeout": "1s", "retryOn": "connect-failure"},
                    "headers": {"response": {"set": {"x-served-by": "flowers"}}},
                    "route": [{"destination": to("iris-v1"), "weight": 100}],
                },
            ],
        },
    })
}

/// The Rollout. Everything is quicker than in real life, where a step lasts minutes.
fn rollout() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": MODEL},
        "spec": {
            "target": {"service": {"name": "iris-v1"}},
            "routes": [{"virtualService": MODEL, "http": ["primary"]}],
            "steps": [
                {"weight": 5, "for": "4s"},
                {"weight": 25, "for": "4s"},
                {"weight": 50, "for": "4s"},
            ],
            "checks": [
                {"name": "errors", "errors": {"max": "1%", "minRequests": 20}, "consecutiveFailures": 2},
                {"name": "p99", "latency": {"quantile": 0.99, "max": "100ms", "minRequests": 20}, "consecutiveFailures": 2},
            ],
            "metrics": {"scrape": {"port": POD_PORT}},
            "interval": "500ms",
            "settle": "1s",
        },
    })
}
