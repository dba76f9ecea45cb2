//! Who answers for a predictor.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sluice_core::Predictor;

use tokio::time::timeout;

use crate::{
    controller::{
        context::Context,
        memory::Memory,
        stores::{Endpoint, PodName},
    },
    metrics::Arm,
};

/// The longest that the age of a pod is waited for.
const POD_LIMIT: Duration = Duration::from_secs(1);

/// A predictor with its ready pods, and their ages where the metrics need them.
pub(super) async fn arm(
    context: &Context,
    namespace: &str,
    predictor: Predictor,
    ages: bool,
    memory: &mut Memory,
) -> Arm {
    let mut pods = Vec::new();
    for endpoint in ready_endpoints(context, &predictor) {
        let Ok(address) = endpoint.address.parse() else { continue };
        let started = match (&endpoint.pod, ages) {
            (Some(pod), true) => pod_start(context, namespace, pod, memory).await,
            (Some(_) | None, _) => None,
        };
        let name = endpoint.pod.map_or(endpoint.address, |pod| pod.name);
        pods.push(crate::metrics::Pod { name: name.into(), address, started });
    }
    Arm { predictor, pods }
}

/// When a pod started. It is asked for once; pods are not watched, because a cluster has many.
async fn pod_start(
    context: &Context,
    namespace: &str,
    PodName { name, uid }: &PodName,
    memory: &mut Memory,
) -> Option<DateTime<Utc>> {
    if let Some(known) = memory.pod_starts.get(&**uid) {
        return *known;
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    // Not for long: a look waits for it, and without it the pod's first numbers are a baseline.
    let read = context.read(format!("reading Pod {namespace}/{name}"), pods.get(name));
    let pod = timeout(POD_LIMIT, read).await.ok()?.ok()?;
    let started = pod.status.and_then(|status| DateTime::from_timestamp(status.start_time?.0.as_second(), 0));
    if memory.pod_starts.len() > 1000 {
        memory.pod_starts.clear();
    }
    memory.pod_starts.insert(uid.to_string(), started);
    started
}

/// The ready endpoints behind a predictor, each address once. Subsets are not told apart here.
pub(super) fn ready_endpoints(context: &Context, predictor: &Predictor) -> Vec<Endpoint> {
    let mut ready = context.stores.ready_endpoints(&predictor.namespace, &predictor.service);
    // While endpoints move from one slice to another both may list them.
    ready.sort_by(|one, other| one.address.cmp(&other.address));
    ready.dedup_by(|one, other| one.address == other.address);
    ready
}
