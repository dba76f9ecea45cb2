//! Who answers for a predictor, as a person may see it.

use k8s_openapi::api::{core::v1::Pod as KubePod, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};
use sluice_core::{HostNames, Predictor, plan::Plan};

use super::cluster::Reader;
use crate::{
    cli::{Session, exit::Failure},
    metrics::Pod,
    pods::{Behind, Claimed, Labels, SeenPod, claim, is_ready, subset_labels},
};

/// The ready pods behind a predictor, by the controller's own rules: of a subset those that carry its labels, and no address
/// but a pod's own. A person asks from their own place in the network, or from the controller's.
///
/// # Errors
/// The cluster cannot be asked, or an `EndpointSlice` names an address that is not to be asked.
pub async fn pods(session: &Session<'_>, plan: &Plan, predictor: &Predictor) -> Result<Vec<Pod>, Failure> {
    let refused = |trouble: sluice_core::judge::Trouble| Failure::Refused(trouble.message);
    let endpoints = endpoints(session, predictor).await?;
    let claims: Vec<_> = endpoints
        .iter()
        .map(|(address, pod)| claim(&session.namespace, predictor, address, pod.as_ref()))
        .collect::<Result<_, _>>()
        .map_err(refused)?;
    let objects: Api<KubePod> = Api::namespaced(session.client.clone(), &predictor.namespace);
    let mut seen = Vec::with_capacity(claims.len());
    for (_, claimed) in &claims {
        let pod = match session.ask("Pod", objects.get(&claimed.name)).await {
            Ok(pod) => Some(SeenPod::from(pod)),
            Err(Failure::Missing(_)) => None,
            Err(failure) => return Err(failure),
        };
        seen.push((claimed.uid.clone(), pod));
    }
    let reader = Reader { session };
    let service = reader.service(&(predictor.namespace.clone(), predictor.service.clone())).await?;
    let selector: Option<Labels> =
        service.and_then(|service| serde_json::from_value(service["spec"]["selector"].clone()).ok());
    let subset = match &predictor.subset {
        Some(_) => {
            let rules = reader.destination_rules(&predictor.namespace).await?;
            subset_labels(&HostNames::default(), predictor, &rules, plan.expose.is_some())
        }
        None => None,
    };
    let behind = Behind { predictor, selector: selector.as_ref(), subset: subset.as_ref() };
    let pods = behind.pods(&claims, |claimed| {
        let (_, pod) = seen.iter().find(|(uid, _)| *uid == claimed.uid)?;
        pod.as_ref()
    });
    pods.map_err(|not_asked| refused(not_asked.trouble))
}

/// The addresses of a predictor's ready endpoints, and whose they are said to be.
async fn endpoints(
    session: &Session<'_>,
    predictor: &Predictor,
) -> Result<Vec<(String, Option<Claimed>)>, Failure> {
    let slices: Api<EndpointSlice> = Api::namespaced(session.client.clone(), &predictor.namespace);
    let of_service =
        ListParams::default().labels(&format!("kubernetes.io/service-name={}", predictor.service));
    let slices = session.ask("EndpointSlice", slices.list(&of_service)).await?;
    let ready = slices.items.iter().flat_map(|slice| &slice.endpoints).filter(|endpoint| is_ready(endpoint));
    let mut endpoints: Vec<_> = ready
        .flat_map(|endpoint| {
            endpoint.addresses.iter().map(|address| (address.clone(), Claimed::by(endpoint)))
        })
        .collect();
    // While endpoints move from one slice to another both may list them.
    endpoints.sort_by(|(one, _), (other, _)| one.cmp(other));
    endpoints.dedup_by(|(one, _), (other, _)| one == other);
    Ok(endpoints)
}
