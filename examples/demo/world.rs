//! The world of the demo: Kubernetes, three predictors that answer over HTTP, a gateway that obeys the VirtualService,
//! and the controller, which is the same code as `sluice run`. Kubernetes and gateway are in memory or, on demand, real.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use kube::{
    Api, Client,
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

use crate::{
    check::{self, Version},
    real::Real,
};

/// The namespace of everything.
pub const NAMESPACE: &str = "models";
/// Name of the model, of its VirtualService and of its Rollout.
pub const MODEL: &str = "iris";
/// The host that users ask.
pub const HOST: &str = "iris.example.com";
/// The resource that VirtualServices are stored as.
pub const VIRTUAL_SERVICES: &str = "virtualservices.networking.istio.io";

/// Kubernetes and the gateway.
enum Stage {
    /// In memory.
    Embedded { api: embedded::Api, gateway: Gateway },
    /// As processes.
    Real(Box<Real>),
}

/// Where users' requests come in.
#[derive(Clone)]
pub enum Entry {
    /// The laboratory's gateway.
    Lab(Gateway),
    /// Envoy's address.
    Envoy(SocketAddr, reqwest::Client),
}

/// Everything that runs.
pub struct World {
    /// The release that breaks.
    pub v3: Served,
    /// The one that is live at the beginning, and the good release: they serve until they are dropped.
    others: [Served; 2],
    stop: CancellationToken,
    controller: JoinHandle<Result<(), controller::Error>>,
    // Dropped last: nobody outlives what they talk to.
    stage: Stage,
}

impl World {
    /// Sets everything up and starts the controller; on real parts only in the laboratory's namespace.
    pub async fn start(real: bool) -> Result<Self> {
        let (stage, scene, client) = if real { real_stage().await? } else { embedded_stage().await? };
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
        scene.apply(rollout(real)).await?;
        let metrics = match &stage {
            Stage::Embedded { gateway, .. } => {
                gateway.synced().await;
                Config::default()
            }
            Stage::Real(real) => {
                real.scrapes(&[&v1, &v2, &v3]).await?;
                real.reaches(&["iris-v1", "iris-v2", "iris-v3"]).await?;
                Config::prometheus(real.prometheus())?
            }
        };
        let stop = CancellationToken::new();
        let (options, stopped) = (options(real, metrics)?, stop.clone());
        let controller =
            tokio::spawn(async move { controller::run(client, options, stopped.cancelled_owned()).await });
        let world = Self { v3, others: [v1, v2], stop, controller, stage };
        world.told().await?;
        Ok(world)
    }

    /// Waits until both objects can be read: a real server tells of them in its own time.
    async fn told(&self) -> Result<()> {
        let told = async {
            while self.virtual_service().is_err() || self.rollout().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.context("nothing is told of the objects")
    }

    /// Whether Kubernetes and the gateway are real.
    pub fn is_real(&self) -> bool {
        matches!(self.stage, Stage::Real(_))
    }

    /// Where users' requests come in.
    pub fn entry(&self) -> Entry {
        match &self.stage {
            Stage::Embedded { gateway, .. } => Entry::Lab(gateway.clone()),
            Stage::Real(real) => Entry::Envoy(real.entry(), reqwest::Client::new()),
        }
    }

    /// The VirtualService as it is stored.
    pub fn virtual_service(&self) -> Result<Arc<Value>> {
        let stored = match &self.stage {
            Stage::Embedded { api, .. } => api.object(VIRTUAL_SERVICES, NAMESPACE, MODEL),
            Stage::Real(real) => real.versions().pop().map(|version| version.object),
        };
        stored.context("the VirtualService is gone")
    }

    /// Every version of the VirtualService so far.
    pub fn versions(&self) -> Vec<Version> {
        match &self.stage {
            Stage::Embedded { api, .. } => check::versions(&api.history()),
            Stage::Real(real) => real.versions(),
        }
    }

    /// The Rollout as it is stored.
    pub fn rollout(&self) -> Result<Rollout> {
        let stored = match &self.stage {
            Stage::Embedded { api, .. } => {
                api.object("rollouts.sluice.dev", NAMESPACE, MODEL).map(|stored| stored.as_ref().clone())
            }
            Stage::Real(real) => real.rollout(),
        };
        Ok(serde_json::from_value(stored.context("the Rollout is gone")?)?)
    }

    /// Who counts what each Service got.
    pub fn counted_by(&self) -> &'static str {
        if self.is_real() { "predictors" } else { "gateway" }
    }

    /// How many requests each Service got so far: as the gateway says, or where that is Envoy, the predictors.
    pub fn delivered(&self) -> BTreeMap<String, u64> {
        match &self.stage {
            Stage::Embedded { gateway, .. } => {
                let delivered = gateway.delivered().into_iter();
                delivered.map(|((_, service), delivered)| (service, delivered.total())).collect()
            }
            Stage::Real(_) => {
                let served = self.others.iter().chain([&self.v3]);
                served.map(|one| (one.service.clone(), one.predictor.served().total())).collect()
            }
        }
    }

    /// What a person does to release: names another Service in the Rollout's target.
    pub async fn release(&self, service: &str) -> Result<()> {
        let you = match &self.stage {
            Stage::Embedded { api, .. } => api.client_as("you"),
            Stage::Real(real) => real.you()?,
        };
        let rollouts: Api<Rollout> = Api::namespaced(you, NAMESPACE);
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

async fn embedded_stage() -> Result<(Stage, Scene, Client)> {
    let api = embedded::Api::new();
    let scene = Scene::new(&api.client_as("you"), NAMESPACE).await?;
    let gateway = Gateway::start(&api.client_as("gateway"));
    let controller = api.client_as("controller");
    Ok((Stage::Embedded { api, gateway }, scene, controller))
}

async fn real_stage() -> Result<(Stage, Scene, Client)> {
    let real = Real::start().await?;
    let scene = Scene::on_real(&real.you()?, NAMESPACE).await?;
    let controller = real.controller()?;
    Ok((Stage::Real(Box::new(real)), scene, controller))
}

impl Entry {
    /// Sends one request of a user; the status of the answer (0 where there was none) and who gave it.
    pub async fn ask(&self, path: &str, body: &'static str) -> (u16, String) {
        let by = |headers: &http::HeaderMap| {
            headers.get("x-predictor").and_then(|by| by.to_str().ok()).unwrap_or_default().to_owned()
        };
        match self {
            Self::Lab(gateway) => {
                let mut request = http::Request::new(Bytes::from_static(body.as_bytes()));
                *request.method_mut() = http::Method::POST;
                *request.uri_mut() = format!("http://{HOST}{path}").parse().unwrap_or_default();
                let answer = gateway.send(request).await;
                (answer.status().as_u16(), by(answer.headers()))
            }
            Self::Envoy(at, client) => {
                let request = client.post(format!("http://{at}{path}")).header("host", HOST).body(body);
                match request.send().await {
                    Ok(answer) => {
                        let told = (answer.status().as_u16(), by(answer.headers()));
                        // To the end, or the connection is of no more use.
                        let _ = answer.bytes().await;
                        told
                    }
                    Err(_) => (0, String::new()),
                }
            }
        }
    }
}

/// The options of `sluice run`.
fn options(real: bool, metrics: Config) -> Result<Options> {
    let clock = Clock::system();
    let lease = LeaseOptions {
        // Where `deploy/` gives a right to leases; in memory there are no rights.
        namespace: if real { "sluice-system" } else { "default" }.into(),
        name: "sluice-controller".into(),
        identity: "demo".into(),
        duration: Duration::from_secs(15),
        clock,
    };
    Ok(Options {
        namespace: None,
        names: HostNames::default(),
        istio: true,
        metrics: Metrics::new(metrics)?,
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

/// The Rollout. Everything is quicker than in real life, where a step lasts minutes. In memory the source of metrics is one
/// that needs nothing: the predictors themselves.
fn rollout(real: bool) -> Value {
    let metrics = if real {
        json!({"source": "default", "profile": "mlserver"})
    } else {
        json!({"scrape": {"port": POD_PORT}})
    };
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
                {"name": "p99", "latency": {"quantile": 0.99, "max": "250ms", "minRequests": 20}, "consecutiveFailures": 2},
            ],
            "metrics": metrics,
            "interval": "500ms",
            "settle": "1s",
        },
    })
}
