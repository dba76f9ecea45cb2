//! Whose pod an address is, before it is asked for metrics.
//!
//! Whoever may write `EndpointSlices`, which many tenants may, could otherwise send the controller, or a person who asks from
//! its place, anywhere: to a node's metadata, the API server, another tenant's pod. So an address is asked only where the API
//! server says that it is that of a running pod of the Rollout's own namespace, which the predictor's Service selects. A
//! pod's addresses are the kubelet's to write and no tenant's. Of two subsets of one Service each has the pods that carry its
//! labels.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::Endpoint};
use serde_json::Value;
use sluice_core::{
    HostNames, Predictor, carrier,
    judge::{Trouble, TroubleKind},
};

use crate::metrics;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Who an EndpointSlice says that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) kind: Box<str>,
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
}

impl Claimed {
    /// What an endpoint says; nothing where it leaves out which object it is.
    pub(crate) fn by(endpoint: &Endpoint) -> Option<Self> {
        let target = endpoint.target_ref.as_ref()?;
        Some(Self {
            kind: target.kind.as_deref().unwrap_or_default().into(),
            namespace: target.namespace.as_deref().map(Into::into),
            name: target.name.as_deref()?.into(),
            uid: target.uid.as_deref()?.into(),
        })
    }
}

/// Whether an endpoint is ready. Absent means ready, says the API.
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// What is read of a pod.
#[derive(Clone, Debug)]
pub(crate) struct SeenPod {
    uid: Option<String>,
    started: Option<DateTime<Utc>>,
    addresses: Vec<IpAddr>,
    labels: Labels,
    host_network: bool,
    running: bool,
}

impl From<Pod> for SeenPod {
    fn from(pod: Pod) -> Self {
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        let addresses = status.pod_ips.into_iter().flatten().filter_map(|it| it.ip.parse().ok()).collect();
        Self {
            uid: pod.metadata.uid,
            started: status.start_time.and_then(|start| DateTime::from_timestamp(start.0.as_second(), 0)),
            addresses,
            labels: pod.metadata.labels.unwrap_or_default(),
            host_network: spec.host_network.unwrap_or(false),
            // One that has ended keeps its address in the status, and loses it to others.
            running: status.phase.as_deref() == Some("Running"),
        }
    }
}

impl SeenPod {
    pub(crate) fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// The address and the pod that it is said to be of, as far as the slice tells.
///
/// # Errors
/// It is no address of a pod in `namespace`, the Rollout's own.
pub(crate) fn claim<'e>(
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

/// A predictor as far as it says which pods are its own.
pub(crate) struct Behind<'a> {
    /// The predictor.
    pub(crate) predictor: &'a Predictor,
    /// What its Service selects pods by, if it is there.
    pub(crate) selector: Option<&'a Labels>,
    /// The labels of its subset, where it has one and they are known.
    pub(crate) subset: Option<&'a Labels>,
}

/// A pod that is not asked.
#[derive(Debug)]
pub(crate) struct NotAsked {
    /// Its uid; nothing where no pod is to blame.
    pub(crate) uid: Option<Box<str>>,
    /// Why.
    pub(crate) trouble: Trouble,
}

impl Behind<'_> {
    /// The predictor's pods of those that are claimed, as they were `seen`.
    ///
    /// # Errors
    /// An address that is not that of such a pod: it is not asked, and neither are the others, because what they counted is
    /// not all that there was. Nor are any where nobody knows which are of the predictor's subset.
    pub(crate) fn pods<'s>(
        &self,
        claims: &[(IpAddr, &Claimed)],
        seen: impl Fn(&Claimed) -> Option<&'s SeenPod>,
    ) -> Result<Vec<metrics::Pod>, NotAsked> {
        if let (Some(name), None) = (&self.predictor.subset, self.subset) {
            // All pods of the Service would count for each of its subsets.
            let message =
                format!("whose pods are of the subset {name} of {} is not known", self.predictor.service);
            return Err(NotAsked { uid: None, trouble: Trouble { kind: TroubleKind::Unavailable, message } });
        }
        let mut pods = Vec::with_capacity(claims.len());
        for (address, claimed) in claims {
            let not_asked = |trouble| NotAsked { uid: Some(claimed.uid.clone()), trouble };
            let about = About { predictor: self.predictor, address: *address, pod: &claimed.name };
            let seen = seen(claimed)
                .ok_or_else(|| not_asked(about.passing("a pod that is there, and it is not")))?;
            about.verify(&claimed.uid, seen, self.selector).map_err(not_asked)?;
            if self.subset.is_none_or(|labels| carries(&seen.labels, labels)) {
                let (name, started) = (claimed.name.to_string(), seen.started);
                pods.push(metrics::Pod { name, address: *address, started });
            }
        }
        Ok(pods)
    }
}

/// Whether a pod with some labels has all of these.
pub(crate) fn carries(pod: &Labels, labels: &Labels) -> bool {
    labels.iter().all(|(name, value)| pod.get(name) == Some(value))
}

/// The labels of a predictor's subset by the DestinationRules that there are, or by the one that will be generated for it;
/// nothing where nobody knows them.
pub(crate) fn subset_labels(
    names: &HostNames,
    predictor: &Predictor,
    rules: &[Value],
    is_generated: bool,
) -> Option<Labels> {
    let generated = || is_generated.then(|| carrier::generated_labels(predictor));
    carrier::subset_labels(names, predictor, rules).or_else(generated)
}

/// What is to be verified.
struct About<'a> {
    predictor: &'a Predictor,
    address: IpAddr,
    pod: &'a str,
}

impl About<'_> {
    /// Whether the address is that of the pod, and the pod one that the Service selects.
    fn verify(&self, uid: &str, seen: &SeenPod, selector: Option<&Labels>) -> Result<(), Trouble> {
        let pod = self.pod;
        if seen.uid.as_deref() != Some(uid) {
            return Err(self.passing(&format!("Pod {pod} with uid {uid}, which was replaced by another")));
        }
        if !seen.running {
            return Err(self.passing(&format!("a running Pod, and {pod} is not")));
        }
        if seen.host_network {
            return Err(self.lasting(&format!("an address of the Pod's own, and {pod} has its node's")));
        }
        if !seen.addresses.contains(&self.address) {
            return Err(self.lasting(&format!("an address of Pod {pod}, which has others")));
        }
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
            return Err(self.lasting("a Service that selects its pods, and it has no selector"));
        };
        if !carries(&seen.labels, selector) {
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
