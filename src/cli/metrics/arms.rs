//! Who the arms of a Rollout are, and who answers for them, as a person may see it.

use chrono::DateTime;
use k8s_openapi::api::{
    core::v1::{Pod as KubePod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, api::ListParams};
use sluice_core::{
    Predictor,
    api::{RolloutSpec, RolloutStatus},
    plan::MetricsPlan,
    target::{self, ServiceView},
};

use super::super::{Session, exit::Failure};
use crate::metrics::{Arm, Pod};

/// The arms of a Rollout.
pub(super) struct Predictors {
    pub(super) stable: Arm,
    pub(super) canary: Option<Arm>,
    /// The canary has been given traffic, so that there should be numbers about it.
    pub(super) in_flight: bool,
}

/// The arms that a status names. Where no canary is in flight, it is what the spec wants.
pub(super) async fn predictors(
    session: &Session<'_>,
    spec: &RolloutSpec,
    status: &RolloutStatus,
    metrics: &MetricsPlan,
) -> Result<Predictors, Failure> {
    let in_flight = status.progress.is_some();
    let wanted = match &status.canary {
        Some(canary) if in_flight => Some(canary.clone()),
        _ => wanted(session, spec).await?.or_else(|| status.canary.clone()),
    };
    let stable = status.stable.clone().or_else(|| wanted.clone()).ok_or_else(|| {
        Failure::Other(
            "there is nobody to look at: the controller has not said which predictor is stable, and the target is not there"
                .to_owned(),
        )
    })?;
    let canary = wanted.filter(|wanted| *wanted != stable);
    let stable = arm(session, stable, metrics).await?;
    let canary = match canary {
        Some(canary) => Some(arm(session, canary, metrics).await?),
        None => None,
    };
    Ok(Predictors { stable, canary, in_flight })
}

/// What the spec wants to be live, where that can be told without the controller.
async fn wanted(session: &Session<'_>, spec: &RolloutSpec) -> Result<Option<Predictor>, Failure> {
    let Some(target) = &spec.target.service else { return Ok(None) };
    if let Some(port) = target.port {
        let mut predictor = Predictor::new(&session.namespace, &target.name, port);
        predictor.subset.clone_from(&target.subset);
        return Ok(Some(predictor));
    }
    let services: Api<Service> = Api::namespaced(session.client.clone(), &session.namespace);
    let service = match session.ask("Service", services.get(&target.name)).await {
        Ok(service) => service,
        Err(Failure::Missing(_)) => return Ok(None),
        Err(other) => return Err(other),
    };
    let ports = service.spec.unwrap_or_default().ports.unwrap_or_default();
    let view = ServiceView { ports: ports.iter().filter_map(|port| u16::try_from(port.port).ok()).collect() };
    Ok(target::wanted(spec, &session.namespace, |_| Some(view.clone())).ok())
}

/// A predictor with the ready pods behind it, where these are asked.
async fn arm(session: &Session<'_>, predictor: Predictor, metrics: &MetricsPlan) -> Result<Arm, Failure> {
    match metrics {
        MetricsPlan::Source { .. } => Ok(Arm { predictor, pods: Vec::new() }),
        MetricsPlan::Scrape { .. } => {
            let pods = pods(session, &predictor).await?;
            Ok(Arm { predictor, pods })
        }
    }
}

/// The ready pods behind a predictor. Whoever may write `EndpointSlices` could name any address in one, and this asks from a
/// person's place in the network, or from the controller's: so an address is asked only where it is a pod's own.
async fn pods(session: &Session<'_>, predictor: &Predictor) -> Result<Vec<Pod>, Failure> {
    let namespace = &predictor.namespace;
    let slices: Api<EndpointSlice> = Api::namespaced(session.client.clone(), namespace);
    let objects: Api<KubePod> = Api::namespaced(session.client.clone(), namespace);
    let of_service =
        ListParams::default().labels(&format!("kubernetes.io/service-name={}", predictor.service));
    let slices = session.ask("EndpointSlice", slices.list(&of_service)).await?;
    let ready = slices.items.into_iter().flat_map(|slice| slice.endpoints).filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let mut pods = Vec::new();
    for endpoint in ready {
        let named = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
        let name = named.and_then(|target| target.name).ok_or_else(|| {
            Failure::Refused(format!(
                "an EndpointSlice of Service {namespace}/{} names an address and no Pod: expected one to ask",
                predictor.service
            ))
        })?;
        let pod = session.ask("Pod", objects.get(&name)).await?;
        for address in &endpoint.addresses {
            pods.push(own(&pod, &name, address, predictor)?);
        }
    }
    // While endpoints move from one slice to another both may list them.
    pods.sort_by_key(|pod: &Pod| pod.address);
    pods.dedup_by_key(|pod| pod.address);
    Ok(pods)
}

/// A pod with an address of its own.
fn own(pod: &KubePod, name: &str, address: &str, predictor: &Predictor) -> Result<Pod, Failure> {
    let status = pod.status.as_ref();
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let mut ips = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let is_own = !on_host && ips.any(|own| own.ip == address);
    match address.parse() {
        Ok(address) if is_own => {
            let start = status.and_then(|status| status.start_time.as_ref());
            let started = start.and_then(|start| DateTime::from_timestamp(start.0.as_second(), 0));
            Ok(Pod { name: name.to_owned(), address, started })
        }
        _ => Err(Failure::Refused(format!(
            "{address} is not asked, which an EndpointSlice names for Service {}/{}: expected an address of Pod {name}'s own",
            predictor.namespace, predictor.service
        ))),
    }
}
