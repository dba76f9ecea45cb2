//! What is watched, kept in memory, and whom a change concerns.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::{DeserializeGuard, GroupVersionKind, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use sluice_core::api::RolloutAction;

use super::{backoff::OfOneWatch, relist::relisted, subject::RolloutObject};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a VirtualService is called.
pub(super) fn virtual_service() -> ApiResource {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    ApiResource::from_gvk_with_plural(&kind, "virtualservices")
}

/// An action; one that cannot be read, from another version perhaps, must not keep the others from being seen.
type ActionObject = DeserializeGuard<RolloutAction>;

type Changes<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// Streams of changes, each filling its store while it is polled.
pub(super) struct Watches {
    pub(super) rollouts: Changes<RolloutObject>,
    pub(super) virtual_services: Changes<DynamicObject>,
    pub(super) services: Changes<Service>,
    pub(super) slices: Changes<EndpointSlice>,
    pub(super) actions: Changes<ActionObject>,
    stores: Stores,
}

/// What was seen last of everything that is watched.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) rollouts: Store<RolloutObject>,
    pub(super) virtual_services: Store<DynamicObject>,
    pub(super) services: Store<Service>,
    pub(super) slices: Store<EndpointSlice>,
    actions: Store<ActionObject>,
}

impl Watches {
    pub(super) fn new(client: &Client, namespace: Option<&str>) -> Self {
        let kind = virtual_service();
        let istio = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let (rollouts, rollout_store) = watch(scoped(client, namespace), ());
        let (virtual_services, virtual_service_store) = watch(istio, kind);
        let (services, service_store) = watch(scoped(client, namespace), ());
        let (slices, slice_store) = watch(scoped(client, namespace), ());
        let (actions, action_store) = store(relisted(scoped(client, namespace)), ());
        let stores = Stores {
            rollouts: rollout_store,
            virtual_services: virtual_service_store,
            services: service_store,
            slices: slice_store,
            actions: action_store,
        };
        Self { rollouts, virtual_services, services, slices, actions, stores }
    }

    pub(super) fn stores(&self) -> Stores {
        self.stores.clone()
    }
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches a kind, without the parts of its objects that nobody here reads.
fn watch<K>(api: Api<K>, kind: K::DynamicType) -> (Changes<K>, Store<K>)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync,
{
    store(watcher(api, watcher::Config::default()).backoff(OfOneWatch::default()), kind)
}

/// Keeps what a watch shows.
fn store<K>(
    watch: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    kind: K::DynamicType,
) -> (Changes<K>, Store<K>)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync,
{
    let writer = reflector::store::Writer::new(kind);
    let store = writer.as_reader();
    let changes = watch
        .modify(|object: &mut K| {
            object.managed_fields_mut().clear();
            // The map itself stays as it was, there or not there: a patch that adds to it needs to know.
            if let Some(annotations) = &mut object.meta_mut().annotations {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        })
        .reflect(writer)
        .touched_objects()
        .boxed();
    (changes, store)
}

impl Stores {
    /// Resolves when every store has been filled once.
    pub(super) async fn ready(&self) {
        let _ = self.rollouts.wait_until_ready().await;
        let _ = self.virtual_services.wait_until_ready().await;
        let _ = self.services.wait_until_ready().await;
        let _ = self.slices.wait_until_ready().await;
        let _ = self.actions.wait_until_ready().await;
    }

    /// The Rollouts that move routes of a VirtualService. Whoever names it in spec or status is asked; the text is
    /// searched because a pinned plan may name others than the spec.
    pub(super) fn of_virtual_service(
        stores: &Arc<Self>,
    ) -> impl Fn(DynamicObject) -> Vec<ObjectRef<RolloutObject>> + Send + Sync + 'static {
        let stores = stores.clone();
        move |object| stores.mentioning(None, &object.name_any())
    }

    /// The Rollouts of a Service's namespace that are about it.
    pub(super) fn of_service(
        stores: &Arc<Self>,
    ) -> impl Fn(Service) -> Vec<ObjectRef<RolloutObject>> + Send + Sync + 'static {
        let stores = stores.clone();
        move |service| stores.mentioning(service.namespace().as_deref(), &service.name_any())
    }

    /// The Rollouts that are about the Service of an EndpointSlice.
    pub(super) fn of_slice(
        stores: &Arc<Self>,
    ) -> impl Fn(EndpointSlice) -> Vec<ObjectRef<RolloutObject>> + Send + Sync + 'static {
        let stores = stores.clone();
        move |slice| {
            let service = slice.labels().get(SERVICE_NAME);
            service.map_or_else(Vec::new, |service| stores.mentioning(slice.namespace().as_deref(), service))
        }
    }

    /// The Rollout that an action is for.
    pub(super) fn of_action(
        _: &Arc<Self>,
    ) -> impl Fn(ActionObject) -> Vec<ObjectRef<RolloutObject>> + Send + Sync + 'static {
        |action| {
            let rollout = |action: RolloutAction| {
                ObjectRef::new(&action.spec.rollout).within(&action.namespace().unwrap_or_default())
            };
            action.0.into_iter().map(rollout).collect()
        }
    }

    fn mentioning(&self, namespace: Option<&str>, name: &str) -> Vec<ObjectRef<RolloutObject>> {
        let concerned = |rollout: &Arc<RolloutObject>| {
            namespace.is_none_or(|namespace| rollout.namespace().as_deref() == Some(namespace))
                && rollout.mentions(name)
        };
        self.rollouts
            .state()
            .iter()
            .filter(|rollout| concerned(rollout))
            .map(|rollout| rollout.reference())
            .collect()
    }

    /// The ports of a Service, if it is there.
    pub(super) fn ports(&self, namespace: &str, name: &str) -> Option<Vec<u16>> {
        let service = self.services.get(&ObjectRef::new(name).within(namespace))?;
        let ports = service.spec.as_ref()?.ports.as_ref();
        Some(ports.into_iter().flatten().filter_map(|port| u16::try_from(port.port).ok()).collect())
    }

    /// The EndpointSlices of a Service.
    pub(super) fn slices_of(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        let of_service = |slice: &Arc<EndpointSlice>| {
            slice.namespace().as_deref() == Some(namespace)
                && slice.labels().get(SERVICE_NAME).is_some_and(|name| name == service)
        };
        self.slices.state().into_iter().filter(of_service).collect()
    }

    /// What people ask of a Rollout, oldest first.
    pub(super) fn actions_of(&self, namespace: &str, rollout: &str) -> Vec<RolloutAction> {
        let for_it = |action: &&RolloutAction| {
            action.namespace().as_deref() == Some(namespace) && action.spec.rollout == rollout
        };
        let all = self.actions.state();
        let readable = all.iter().filter_map(|action| action.0.as_ref().ok());
        let mut actions: Vec<RolloutAction> = readable.filter(for_it).cloned().collect();
        actions
            .sort_by_cached_key(|action| (action.creation_timestamp().map(|time| time.0), action.name_any()));
        actions
    }
}
