//! Whose pod an address is, before it is asked for metrics.
//!
//! Whoever may write `EndpointSlices`, which many tenants may, could otherwise send the controller anywhere: to a node's
//! metadata, the API server, another tenant's pod. So an address is asked only where the API server says that it is that of
//! a running pod of the Rollout's own namespace, which the predictor's Service selects. A pod's addresses are the
//! kubelet's to write and no tenant's.

use std::{net::IpAddr, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sluice_core::{
    Predictor,
    judge::{Trouble, TroubleKind},
    plan::Plan,
};
use tokio::time::{Instant, timeout};

use super::{
    endpoints::ready_endpoints,
    seen::{Labels, SeenPod, Whole},
    subsets,
};
use crate::{
    controller::{Error, context::Context, memory::Memory, stores::Claimed},
    metrics::Arm,
};

/// The longest that a pod is waited for.
const POD_LIMIT: Duration = Duration::from_secs(1);
/// How long what was seen of a pod counts. A pod may end and its address become another's, while a slice that nobody
/// should have written still names it.
const SEEN_FOR: Duration = Duration::from_secs(30);
/// How long it counts where the API server does not answer: a breach must not go unseen for want of its answer.
const SEEN_AT_MOST: Duration = Duration::from_mins(5);
/// Pods that are asked for at the same time.
const CONCURRENCY: usize = 16;

/// A predictor with its ready pods and their ages, for metrics that come from the pods themselves.
///
/// # Errors
/// An address that is not that of such a pod: it is not asked, and neither are the others, because what they counted is not
/// all that there was.
pub(super) async fn arm(
    context: &Context,
    namespace: &str,
    plan: &Plan,
    predictor: Predictor,
    memory: &mut Memory,
) -> Result<Arm, Trouble> {
    let endpoints = ready_endpoints(context, &predictor);
    let claims: Vec<_> = endpoints
        .iter()
        .map(|endpoint| claim(namespace, &predictor, &endpoint.address, endpoint.pod.as_ref()))
        .collect::<Result<_, _>>()?;
    look_at_pods(context, namespace, &claims, memory).await?;
    let subset = subsets::labels(context, Some(plan), &predictor, memory).await;
    if let (Some(name), None) = (&predictor.subset, &subset) {
        // All pods of the Service would count for each of its subsets.
        let message = format!("whose pods are of the subset {name} of {} is not known", predictor.service);
        return Err(Trouble { kind: TroubleKind::Unavailable, message });
    }
    let selector = context.stores.selector(&predictor.namespace, &predictor.service);
    let mut pods = Vec::with_capacity(claims.len());
    for (address, claimed) in claims {
        let about = About { predictor: &predictor, address, pod: &claimed.name };
        let seen = memory.pods.get(&claimed.uid).and_then(|seen| Some((seen, seen.whole.as_ref()?)));
        let (seen, whole) = seen.ok_or_else(|| about.passing("a pod that is there, and it is not"))?;
        let started = whole.started;
        if let Err(trouble) = about.verify(&claimed.uid, seen, whole, selector.as_ref()) {
            // It may have been mended by the next look.
            memory.pods.remove(&claimed.uid);
            return Err(trouble);
        }
        // Of two subsets of one Service each has its own pods.
        if subset.as_ref().is_some_and(|labels| !seen.carries(labels)) {
            continue;
        }
        pods.push(crate::metrics::Pod { name: claimed.name.to_string(), address, started });
    }
    Ok(Arm { predictor, pods })
}

/// The address and the pod that it is said to be of, as far as the slice tells.
fn claim<'e>(
    namespace: &str,
    predictor: &Predictor,
    address: &str,
    claimed: Option<&'e Claimed>,
) -> Result<(IpAddr, &'e Claimed), Trouble> {
    let expected = |what: &str| refusal(predictor, address, TroubleKind::Misconfigured, what);
    let Ok(ip) = address.parse::<IpAddr>() else { return Err(expected("the IP address of a pod")) };
    let claimed = claimed.ok_or_else(|| expected("a targetRef with the name and the uid of a Pod"))?;
    if predictor.namespace != namespace {
        return Err(expected(&format!("a Service of namespace {namespace}")));
    }
    if &*claimed.kind != "Pod" || claimed.namespace.as_deref().is_some_and(|other| other != namespace) {
        let found = claimed.namespace.as_deref().unwrap_or(namespace);
        return Err(expected(&format!(
            "the Pod of namespace {namespace} that the address belongs to, found the {} {found}/{}",
            claimed.kind, claimed.name
        )));
    }
    Ok((ip, claimed))
}

/// Asks for the pods of which nothing was seen, or not all, or not for a while.
///
/// # Errors
/// Where one could not be asked for, and what was seen of it is too old.
async fn look_at_pods(
    context: &Context,
    namespace: &str,
    claims: &[(IpAddr, &Claimed)],
    memory: &mut Memory,
) -> Result<(), Trouble> {
    let now = Instant::now();
    // What is forgotten is asked for again.
    memory.pods.make_room(now);
    let age = |memory: &Memory, uid: &str| {
        let seen = memory.pods.get(uid).filter(|seen| seen.whole.is_some());
        seen.map(|seen| now.saturating_duration_since(seen.at))
    };
    let mut due: Vec<&Claimed> = claims.iter().map(|(_, claimed)| *claimed).collect();
    due.retain(|claimed| age(memory, &claimed.uid).is_none_or(|age| age >= SEEN_FOR));
    due.dedup();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pods = &pods;
    // Collected first: a stream that holds the closure is a future that the compiler cannot show to be `Send`.
    let reads: Vec<_> = due
        .into_iter()
        .map(|claimed| async move {
            let what = format!("reading Pod {namespace}/{}", claimed.name);
            let read = context.read(what.clone(), pods.get(&claimed.name));
            let limit = POD_LIMIT;
            // Not for long: a look waits for it.
            let read = timeout(limit, read).await.unwrap_or(Err(Error::TimedOut { what, limit }));
            (claimed, read)
        })
        .collect();
    let answers: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).collect().await;
    for (claimed, answer) in answers {
        match answer {
            Ok(pod) => memory.pods.insert(&claimed.uid, SeenPod::of(pod, now)),
            Err(Error::Refused { code: 404, .. }) => memory.pods.remove(&claimed.uid),
            Err(Error::Unreachable { .. } | Error::TimedOut { .. })
                if age(memory, &claimed.uid).is_some_and(|age| age < SEEN_AT_MOST) => {}
            Err(error) => {
                return Err(Trouble { kind: TroubleKind::Unavailable, message: error.to_string() });
            }
        }
    }
    Ok(())
}

/// What is to be verified.
struct About<'a> {
    predictor: &'a Predictor,
    address: IpAddr,
    pod: &'a str,
}

impl About<'_> {
    /// Whether the address is that of the pod, and the pod one that the Service selects.
    fn verify(
        &self,
        uid: &str,
        seen: &SeenPod,
        whole: &Whole,
        selector: Option<&Labels>,
    ) -> Result<(), Trouble> {
        let pod = self.pod;
        if seen.uid.as_deref() != Some(uid) {
            return Err(self.passing(&format!("Pod {pod} with uid {uid}, which was replaced by another")));
        }
        if !whole.running {
            return Err(self.passing(&format!("a running Pod, and {pod} is not")));
        }
        if whole.host_network {
            return Err(self.lasting(&format!("an address of the Pod's own, and {pod} has its node's")));
        }
        if !whole.addresses.contains(&self.address) {
            return Err(self.lasting(&format!("an address of Pod {pod}, which has others")));
        }
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
            return Err(self.lasting("a Service that selects its pods, and it has no selector"));
        };
        if !seen.carries(selector) {
            return Err(self.lasting(&format!("a Pod that the Service selects, which {pod} is not")));
        }
        Ok(())
    }

    /// As happens when pods come and go.
    fn passing(&self, expected: &str) -> Trouble {
        refusal(self.predictor, &self.address.to_string(), TroubleKind::Unavailable, expected)
    }

    fn lasting(&self, expected: &str) -> Trouble {
        refusal(self.predictor, &self.address.to_string(), TroubleKind::Misconfigured, expected)
    }
}

fn refusal(predictor: &Predictor, address: &str, kind: TroubleKind, expected: &str) -> Trouble {
    let Predictor { namespace, service, .. } = predictor;
    let message = format!(
        "{address} is not scraped, which an EndpointSlice names for Service {namespace}/{service}: expected {expected}"
    );
    Trouble { kind, message }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
