//! What there is to try: a namespace with three versions of a model, and users.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::real::users::{Answers, Users};
use crate::real::{Cluster, Envoy, Prometheus, Target, apply_yaml, wait};

/// The namespace of all of it.
pub(super) const NAMESPACE: &str = "models";
/// The host that users ask.
pub(super) const HOST: &str = "iris.example.com";

/// Rollouts to apply, by file.
pub(super) const ROLLOUTS: [(&str, &str); 2] =
    [("good.yaml", include_str!("good.yaml")), ("bad.yaml", include_str!("bad.yaml"))];

const LIMIT: Duration = Duration::from_mins(2);
/// How often the pods to be scraped are looked up.
const FOLLOWED_EVERY: Duration = Duration::from_secs(1);
/// A while of answers is all that is asked for here.
const KEPT: usize = 1000;

/// What runs for an image: this very program.
pub(super) fn images() -> Result<BTreeMap<String, Vec<String>>> {
    let this = std::env::current_exe()?.display().to_string();
    Ok(BTreeMap::from([("lab/predictor".to_owned(), vec![this, "predictor".to_owned()])]))
}

/// Makes the Gateway and the namespace, and waits until its pods are ready; where the gateway listens.
pub(super) async fn make(cluster: &Cluster, gateway: &Envoy) -> Result<SocketAddr> {
    let entry = gateway.open(cluster, "istio-system", "public").await?;
    let client = cluster.admin()?;
    apply_yaml(&client, include_str!("models.yaml"), NAMESPACE).await?;
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    wait::until(LIMIT, "the Deployments are ready", || async {
        let found = deployments.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let ready = |one: &&Deployment| one.status.as_ref().and_then(|s| s.ready_replicas) >= Some(1);
        let count = found.items.iter().filter(ready).count();
        if count == found.items.len() { Ok(()) } else { Err(format!("{count} of {}", found.items.len())) }
    })
    .await?;
    Ok(entry)
}

/// A steady stream of users.
pub(super) fn users(entry: SocketAddr) -> Answers {
    Users::infer(entry, HOST, "iris").rate(50.0).keep(KEPT).start()
}

/// Lets Prometheus scrape the pods that there are, as an operator would, until something goes wrong with that.
pub(super) async fn follow_targets(client: &Client, prometheus: &Prometheus) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let mut known = Vec::new();
    loop {
        // An API server that is away comes back, or everything ends.
        if let Ok(found) = slices.list(&ListParams::default()).await {
            let mut targets: Vec<Target> = found.iter().flat_map(of_slice).collect();
            targets.sort_by(|a, b| a.address.cmp(&b.address));
            if targets != known {
                prometheus.set_targets(targets.clone()).await.context("tell Prometheus whom to scrape")?;
                known = targets;
            }
        }
        tokio::time::sleep(FOLLOWED_EVERY).await;
    }
}

fn of_slice(slice: &EndpointSlice) -> Vec<Target> {
    let service = slice.labels().get("kubernetes.io/service-name").cloned().unwrap_or_default();
    let port = slice.ports.iter().flatten().find_map(|port| port.port);
    let target = |address: &String, pod: &str| {
        let target = Target::new(format!("{address}:{}", port.unwrap_or_default()));
        target.label("namespace", NAMESPACE).label("service", &service).label("pod", pod)
    };
    let endpoints = slice.endpoints.iter();
    endpoints
        .flat_map(|endpoint| {
            let pod = endpoint.target_ref.as_ref().and_then(|pod| pod.name.as_deref()).unwrap_or_default();
            endpoint.addresses.iter().map(move |address| target(address, pod))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pods_of_a_slice_are_targets_with_their_service() {
        let slice = json!({
            "metadata": {"name": "iris-v1-x", "labels": {"kubernetes.io/service-name": "iris-v1"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.7"], "targetRef": {"kind": "Pod", "name": "iris-v1-0"}}],
        });
        let targets = of_slice(&serde_json::from_value(slice).unwrap());
        let expected = Target::new("10.244.1.7:8080");
        let expected =
            expected.label("namespace", "models").label("service", "iris-v1").label("pod", "iris-v1-0");
        assert_eq!(targets, [expected]);
    }
}
