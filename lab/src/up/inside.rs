//! The laboratory that stays, inside its namespace.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::place::{Place, Ready};
use super::{Way, relay, world};
use crate::bench;
use crate::real::{Cluster, Envoy, Istio, Kubelet, Options, Prometheus, install};

/// How often Prometheus scrapes.
const SCRAPES_EVERY: Duration = Duration::from_secs(1);

/// Starts everything, says that it is ready, and stays until it is killed.
pub(super) async fn run(place: &Place, controller: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let says = |what: &str| eprintln!("{:5.1}s  {what}", begun.elapsed().as_secs_f64());
    let options = Options::new().user(bench::CONTROLLER);
    let (cluster, prometheus) = tokio::try_join!(Cluster::start(options), Prometheus::start(SCRAPES_EVERY))?;
    says("etcd, kube-apiserver, kube-controller-manager and Prometheus are ready");
    let istio = Istio::start(&cluster).await?;
    says("istiod is ready, and validates every write to its kinds");
    install::install(&cluster, bench::repository()).await.context("install Sluice")?;
    install::allowed(&cluster, bench::CONTROLLER).await?;
    let gateway = Envoy::gateway(&istio).await?;
    let _kubelet = Kubelet::start(&cluster.admin()?, world::images()?).await?;
    let entry = world::make(&cluster, &gateway).await?;
    says("Envoy listens, and the pods of the namespace are ready");
    let client = cluster.admin()?;
    let targets = world::follow_targets(&client, &prometheus);
    let _users = world::users(entry);
    let _controller = match controller {
        Some(program) => {
            let started = bench::Controller::start(program, &cluster, prometheus.url(), None).await?;
            says("Sluice's controller has its leases");
            Some(started)
        }
        None => None,
    };

    relay::inside(place, Way::Gateway, entry)?;
    relay::inside(place, Way::Prometheus, address(prometheus.url())?)?;
    relay::inside(place, Way::Api, address(&server(&cluster)?)?)?;
    place.record_ready(&ready(place, &cluster, controller)?)?;
    targets.await
}

fn ready(place: &Place, cluster: &Cluster, controller: Option<&Path>) -> Result<Ready> {
    let ports = place.ports()?;
    let kubeconfig = place.folder().join("kubeconfig");
    let mut outside = admins(cluster)?;
    outside["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", ports[&Way::Api]));
    outside["contexts"][0]["context"]["namespace"] = json!(world::NAMESPACE);
    fs::write(&kubeconfig, outside.to_string())?;
    for (file, text) in world::ROLLOUTS {
        fs::write(place.folder().join(file), text)?;
    }
    let url = |way| format!("http://127.0.0.1:{}", ports[&way]);
    Ok(Ready {
        kubeconfig,
        gateway: url(Way::Gateway),
        prometheus: url(Way::Prometheus),
        controller: controller.map(Path::to_owned),
    })
}

/// The admin's kubeconfig, which is JSON.
fn admins(cluster: &Cluster) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(cluster.kubeconfig("admin")?)?)?)
}

fn server(cluster: &Cluster) -> Result<String> {
    let kubeconfig = admins(cluster)?;
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str();
    Ok(server.context("the kubeconfig names no server")?.to_owned())
}

/// Of `http://127.0.0.1:9090`, the part behind the slashes.
fn address(url: &str) -> Result<SocketAddr> {
    let address = url.rsplit('/').next().unwrap_or_default();
    address.parse().with_context(|| format!("{url}: expected an address and a port"))
}
