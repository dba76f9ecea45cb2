//! A breach as users see it: through a real Envoy, until the last request that the canary gets.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::controller::{Controller, USER};
use super::figure::{Figure, Latencies};
use super::{Bench, Size};
use crate::real::{Cluster, Envoy, Istio, Options, Prometheus, Target, Users, install, wait};
use crate::scene::Scene;

/// How often Prometheus scrapes, so that what it has seen is what there is.
const SCRAPED_EVERY: Duration = Duration::from_millis(100);
/// Canaries that fail at the same time.
const LANES: usize = 2;
/// Users of each, a second.
const RATE: f64 = 100.0;
/// Their share of them.
const WEIGHT: u64 = 20;
/// How long a canary is well, a little different each time, so that its breach comes at any time between two looks.
const WELL: Duration = Duration::from_secs(4);
/// How often Prometheus and Envoy are asked.
const EVERY: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_mins(2);
/// How long Envoy's workers may have what its main thread has no more.
const MARGIN: Duration = Duration::from_millis(500);
/// The interval, and what may come on top of it.
const AIM: f64 = 1500.0;

struct World {
    cluster: Cluster,
    gateway: Envoy,
    prometheus: Prometheus,
    targets: Mutex<Vec<Target>>,
    // Dropped after those that ask it.
    _istio: Istio,
}

/// Runs it.
pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let breaches = bench.size(Size { full: 24, quick: 2 });
    let cluster = Cluster::start(Options::new().user(USER)).await?;
    let istio = Istio::start(&cluster).await?;
    install::install(&cluster, &bench.repository).await.context("install Sluice")?;
    install::allowed(&cluster, USER).await?;
    let gateway = Envoy::gateway(&istio).await?;
    let prometheus = Prometheus::start(SCRAPED_EVERY).await?;
    let world = World { cluster, gateway, prometheus, targets: Mutex::default(), _istio: istio };
    world.gateway.open(&world.cluster, "istio-system", "public").await?;
    let mut controller =
        Controller::start(&bench.program, &world.cluster, world.prometheus.url(), None).await?;
    bench.says(&format!("{breaches} canaries to be broken"));
    let lives = (0..breaches).map(|number| life(&world, number));
    let broken: Vec<Duration> = stream::iter(lives).buffer_unordered(LANES).try_collect().await?;
    controller.still_runs()?;
    controller.stop().await?;
    let figures = broken.into_iter().collect::<Latencies>().figures(
        "users.visible_to_last_request",
        "from the first bad sample in a Prometheus that scrapes every 100 ms (interval 1s) to the time at which a user \
         sent the last request that the canary answered, through Envoy",
    );
    let [p50, p99, max] = figures;
    Ok(vec![p50, p99, max.at_most(AIM)])
}

/// How long a canary was still asked after Prometheus had seen it fail.
async fn life(world: &World, number: usize) -> Result<Duration> {
    let namespace = format!("users-{number}");
    let client = world.cluster.admin()?;
    let scene = Scene::on_real(&client, &namespace).await?;
    let _stable = scene.serve("iris-v1", "iris", "v1").await?;
    let canary = scene.serve("iris-v2", "iris", "v2").await?;
    world.scrape(&namespace, "iris-v2", canary.predictor.address()).await?;
    let host = format!("{namespace}.example.com");
    let route = json!([{"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 100}]);
    let spec = json!({
        "hosts": [host], "gateways": ["istio-system/public"], "http": [{"name": "primary", "route": route}],
    });
    scene
        .apply(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "iris"}, "spec": spec,
        }))
        .await?;
    for service in ["iris-v1", "iris-v2"] {
        world.gateway.reaches(&namespace, service).await?;
    }
    scene.apply(rollout()).await?;
    let users = Users::infer(world.gateway.entry(), &host, "iris").rate(RATE).start();
    world.gives(&host, WEIGHT).await?;
    sleep(WELL + Duration::from_millis(137 * (number as u64 % 8))).await;

    canary.predictor.set_errors(1.0);
    let bad = format!("rest_server_requests_total{{namespace=\"{namespace}\", status_code=\"500\"}}");
    let visible =
        soon("Prometheus has seen the breach", async || Ok(!world.prometheus.query(&bad).await?.is_empty()))
            .await?;
    world.gives(&host, 0).await?;
    sleep(MARGIN).await;
    let answers = users.between(visible, Instant::now());
    let last = answers.iter().filter(|answer| answer.by == "iris-v2").map(|answer| answer.sent).max();
    Ok(last.map_or(Duration::ZERO, |last| last.duration_since(visible)))
}

fn rollout() -> serde_json::Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
        "spec": {
            "target": {"service": {"name": "iris-v2"}},
            "routes": [{"virtualService": "iris", "http": ["primary"]}],
            "steps": [{"weight": WEIGHT, "for": "1h"}],
            "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
            "metrics": {"source": "default", "profile": "mlserver"},
            "interval": "1s", "settle": "1s",
        },
    })
}

/// When it came true.
async fn soon(what: &str, mut look: impl AsyncFnMut() -> Result<bool>) -> Result<Instant> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if look().await? {
            return Ok(Instant::now());
        }
        sleep(EVERY).await;
    }
    anyhow::bail!("{what}: still not so after {LIMIT:?}")
}

impl World {
    async fn scrape(&self, namespace: &str, service: &str, address: SocketAddr) -> Result<()> {
        let mut targets = self.targets.lock().await;
        let target = Target::new(address).label("namespace", namespace).label("service", service);
        targets.push(target.label("pod", format!("{service}-0")));
        Ok(self.prometheus.set_targets(targets.clone()).await?)
    }

    /// Waits until Envoy gives the canary this share.
    async fn gives(&self, host: &str, weight: u64) -> Result<()> {
        wait::until(LIMIT, format!("Envoy gives the canary of {host} {weight}%"), || async {
            let weights = self.gateway.weights(host, "primary").await.map_err(|error| error.to_string())?;
            let canary = weights.iter().find(|(cluster, _)| cluster.contains("|iris-v2."));
            let seen = canary.map_or(0, |(_, weight)| *weight);
            if seen == weight && !weights.is_empty() { Ok(()) } else { Err(format!("{weights:?}")) }
        })
        .await?;
        Ok(())
    }
}
