//! One destination of an http route: as it is read, and as it is pointed at another predictor.

use serde_json::{Map, Value, json};

use super::{error::RouteError, select::Place, setting::Cluster};
use crate::Predictor;

/// A destination of a route as Istio understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationView {
    /// Which predictor it is; `None` if it is not a Service of this cluster, or if it has no port and the Service
    /// has not exactly one.
    pub predictor: Option<Predictor>,
    /// The host as Istio resolves it.
    pub host: String,
    /// Namespace and name of the Service, if the host is one of this cluster.
    pub service: Option<(String, String)>,
    /// The subset, where there is one.
    pub subset: Option<String>,
    /// The weight that counts: a missing one is 0, but 100 for the only destination of a route.
    pub weight: u32,
    /// The weight as it is written.
    pub written: Option<u32>,
}

impl DestinationView {
    /// Whether this destination is `predictor`: the same Service, subset and port, where the port can be told.
    ///
    /// It can not be told when a destination without port names a Service that is gone or that has several ports.
    /// It is taken for the predictor then: a canary must leave the route even if its Service was deleted first.
    pub fn is(&self, predictor: &Predictor) -> bool {
        match (&self.predictor, &self.service) {
            (Some(this), _) => this == predictor,
            (None, Some((namespace, service))) => {
                *namespace == predictor.namespace
                    && *service == predictor.service
                    && self.subset == predictor.subset
            }
            (None, None) => false,
        }
    }
}

/// Reads the destinations of the route at `place`.
pub(super) fn read_all(
    place: &Place<'_>,
    entries: &[Value],
    cluster: &Cluster<'_>,
) -> Result<Vec<DestinationView>, RouteError> {
    let mut views = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| read_one(&place.at(&format!("route[{index}]")), entry, cluster))
        .collect::<Result<Vec<_>, _>>()?;
    if let [only] = views.as_mut_slice()
        && only.weight == 0
    {
        // Istio does not look at the weight of a destination that is alone.
        only.weight = 100;
    }
    Ok(views)
}

fn read_one(place: &Place<'_>, entry: &Value, cluster: &Cluster<'_>) -> Result<DestinationView, RouteError> {
    let entry = place.object(entry)?;
    let destination = place.at("destination").object(entry.get("destination").unwrap_or(&Value::Null))?;
    let place_of = |field: &str| place.at("destination").at(field);
    let host = match destination.get("host") {
        Some(Value::String(host)) if !host.is_empty() => {
            cluster.names.resolve(host, &place.selection.namespace)
        }
        other => return Err(place_of("host").malformed("a host", other)),
    };
    let subset = match destination.get("subset") {
        None | Some(Value::Null) => None,
        Some(Value::String(subset)) => Some(subset.clone()).filter(|subset| !subset.is_empty()),
        other => return Err(place_of("subset").malformed("a name", other)),
    };
    let port = read_port(&place_of("port"), destination.get("port"))?;
    let written = read_weight(&place.at("weight"), entry.get("weight"))?;
    let service =
        cluster.names.service(&host).map(|(namespace, service)| (namespace.to_owned(), service.to_owned()));
    let predictor = service.as_ref().and_then(|(namespace, service)| {
        let port = port.or_else(|| cluster.only_port(namespace, service))?;
        Some(Predictor {
            namespace: namespace.clone(),
            service: service.clone(),
            port,
            subset: subset.clone(),
        })
    });
    Ok(DestinationView { predictor, host, service, subset, weight: written.unwrap_or(0), written })
}

fn read_port(place: &Place<'_>, port: Option<&Value>) -> Result<Option<u16>, RouteError> {
    match port {
        None | Some(Value::Null) => Ok(None),
        Some(port) => match place.object(port)?.get("number") {
            None | Some(Value::Null) => Ok(None),
            Some(number) => number
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0)
                .map(Some)
                .ok_or_else(|| place.at("number").malformed("a port from 1 to 65535", Some(number))),
        },
    }
}

fn read_weight(place: &Place<'_>, weight: Option<&Value>) -> Result<Option<u32>, RouteError> {
    match weight {
        None | Some(Value::Null) => Ok(None),
        Some(number) => number
            .as_u64()
            .and_then(|number| i32::try_from(number).ok())
            .and_then(|number| u32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| place.malformed("a whole number from 0 to 100", Some(number))),
    }
}

/// Points a destination that was read before at `predictor`, in the style in which it was written: a short host
/// stays short where it can, a port stays away where it may.
pub(super) fn point_at(
    entry: &mut Value,
    predictor: &Predictor,
    virtual_service_namespace: &str,
    cluster: &Cluster<'_>,
) {
    let Some(destination) = entry.get_mut("destination").and_then(Value::as_object_mut) else {
        return;
    };
    let was_short = destination.get("host").and_then(Value::as_str).is_some_and(|host| !host.contains('.'));
    let host = if was_short && predictor.namespace == virtual_service_namespace {
        predictor.service.clone()
    } else {
        cluster.names.host(&predictor.namespace, &predictor.service)
    };
    destination.insert("host".to_owned(), host.into());
    write_port(destination, predictor, cluster);
    match &predictor.subset {
        Some(subset) => drop(destination.insert("subset".to_owned(), subset.clone().into())),
        None => drop(destination.remove("subset")),
    }
}

fn write_port(destination: &mut Map<String, Value>, predictor: &Predictor, cluster: &Cluster<'_>) {
    let only_port = cluster.only_port(&predictor.namespace, &predictor.service);
    match destination.get_mut("port").and_then(Value::as_object_mut) {
        Some(port) if port.contains_key("number") => {
            port.insert("number".to_owned(), predictor.port.into());
        }
        _ if only_port != Some(predictor.port) => {
            destination.insert("port".to_owned(), json!({ "number": predictor.port }));
        }
        _ => {}
    }
}
