//! What the gateway knows of the cluster: reflections of VirtualServices, Services and EndpointSlices.

use std::{fmt::Debug, hash::Hash, net::SocketAddr};

use futures::StreamExt;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::{delegate, route};

/// The cluster domain, as in nearly every cluster.
const DOMAIN: &str = "svc.cluster.local";

pub(super) struct View {
    virtual_services: Store<DynamicObject>,
    kind: ApiResource,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
}

/// A Service that a destination names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Found {
    pub(super) fn host(&self) -> String {
        format!("{}.{}.{DOMAIN}", self.name, self.namespace)
    }
}

/// A host as Istio reads it in a namespace: one without dots is a Service there, any other is a full name.
pub(super) fn find_service(host: &str, namespace: &str) -> Option<Found> {
    if !host.contains('.') {
        return Some(Found { namespace: namespace.into(), name: host.into() });
    }
    let (name, namespace) = host.strip_suffix(DOMAIN)?.strip_suffix('.')?.split_once('.')?;
    Some(Found { namespace: namespace.into(), name: name.into() })
}

impl View {
    pub(super) fn start(client: &Client) -> (Self, Vec<JoinHandle<()>>) {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        let kind = ApiResource::from_gvk_with_plural(&kind, "virtualservices");
        let (virtual_services, first) = reflect(Api::all_with(client.clone(), &kind), kind.clone());
        let (services, second) = reflect(Api::all(client.clone()), ());
        let (slices, third) = reflect(Api::all(client.clone()), ());
        (Self { virtual_services, kind, services, slices }, vec![first, second, third])
    }

    pub(super) async fn synced(&self) {
        // They fail only when their watches have ended, which is with the gateway.
        let _ = self.virtual_services.wait_until_ready().await;
        let _ = self.services.wait_until_ready().await;
        let _ = self.slices.wait_until_ready().await;
    }

    pub(super) fn version_of(&self, namespace: &str, name: &str) -> Option<String> {
        let at = ObjectRef::new_with(name, self.kind.clone()).within(namespace);
        self.virtual_services.get(&at)?.resource_version()
    }

    /// The route that takes a request: of the VirtualServices that name its host best, the oldest comes first.
    pub(super) fn route(&self, asked: &route::Asked<'_>) -> Option<(Found, route::Route)> {
        let mut fitting: Vec<_> = self
            .virtual_services
            .state()
            .into_iter()
            .filter_map(|vs| Some((route::host_fit(&vs.data["spec"], asked.host)?, vs)))
            .collect();
        fitting.sort_by_key(|(fit, vs)| {
            let age = vs.creation_timestamp().map(|t| t.0);
            (std::cmp::Reverse(*fit), age, vs.namespace(), vs.name_any())
        });
        let best = fitting.first()?.0;
        fitting.iter().take_while(|(fit, _)| *fit == best).find_map(|(_, vs)| {
            let namespace = vs.namespace().unwrap_or_default();
            let spec = delegate::resolved(&vs.data["spec"], &namespace, |namespace, name| {
                self.spec(namespace, name)
            });
            let route = route::find(&spec, asked)?;
            Some((Found { namespace, name: vs.name_any() }, route))
        })
    }

    /// The spec of a VirtualService.
    fn spec(&self, namespace: &str, name: &str) -> Option<serde_json::Value> {
        let at = ObjectRef::new_with(name, self.kind.clone()).within(namespace);
        self.virtual_services.get(&at).map(|vs| vs.data["spec"].clone())
    }

    /// The ready endpoints of a Service's port (its only one, where none is given), in a stable order. `None` when
    /// there is no such Service or port.
    pub(super) fn endpoints(&self, service: &Found, port: Option<u16>) -> Option<Vec<SocketAddr>> {
        let at = ObjectRef::new(&service.name).within(&service.namespace);
        let ports = self.services.get(&at)?.spec.as_ref()?.ports.clone().unwrap_or_default();
        let port = match (port, ports.as_slice()) {
            (Some(number), all) => all.iter().find(|p| p.port == i32::from(number))?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        let name = port.name.clone().unwrap_or_default();
        let mut endpoints = Vec::new();
        for slice in self.slices.state() {
            let of_service = slice.labels().get("kubernetes.io/service-name") == Some(&service.name)
                && slice.namespace().as_deref() == Some(&service.namespace);
            if of_service {
                endpoints.extend(ready(&slice, &name));
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        Some(endpoints)
    }
}

fn ready(slice: &EndpointSlice, port: &str) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let numbers: Vec<u16> = ports
        .filter(|p| p.name.as_deref().unwrap_or_default() == port)
        .filter_map(|p| u16::try_from(p.port?).ok())
        .collect();
    let mut found = Vec::new();
    for endpoint in &slice.endpoints {
        // Unknown counts as ready, as the API says.
        if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
            continue;
        }
        let addresses = endpoint.addresses.iter().filter_map(|a| a.parse().ok());
        found.extend(addresses.flat_map(|ip| numbers.iter().map(move |port| SocketAddr::new(ip, *port))));
    }
    found
}

fn reflect<K>(api: Api<K>, kind: K::DynamicType) -> (Store<K>, JoinHandle<()>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + Hash + Debug + Send + Sync + Unpin,
{
    let writer = reflector::store::Writer::new(kind);
    let store = writer.as_reader();
    let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    // Errors are retried by the backoff; until then the gateway goes by what it knew, as a real one does.
    (store, tokio::spawn(events.for_each(|_| async {})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_istio_reads_them() {
        let found = |host| find_service(host, "here").map(|f| f.host());
        assert_eq!(found("iris").as_deref(), Some("iris.here.svc.cluster.local"));
        assert_eq!(found("iris.there.svc.cluster.local").as_deref(), Some("iris.there.svc.cluster.local"));
        assert_eq!(found("iris.there"), None, "a name with a dot is a full name");
    }
}
