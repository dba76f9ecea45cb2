//! What is watched, kept in memory, and whom a change concerns.

mod cache;
mod kinds;
mod rollouts;
mod seldon;
mod virtual_service;

use std::{collections::BTreeMap, sync::Arc};

use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_core::{
    api::RolloutAction,
    carrier::{Claim, ObjectName},
    plan::Plan,
};

use self::{
    cache::{Cache, Entry, Name, Touched, name},
    kinds::{ServiceView, Slice},
    rollouts::{Concern, Thing},
    seldon::Group,
};
pub(super) use self::{
    kinds::{Action, Endpoint},
    seldon::{Seldon, SeldonObject},
    virtual_service::{VirtualService, VirtualServiceObject},
};
use super::{
    backoff::OfOneWatch, freezes::Freezes, optional::watch_while_there, relist::relisted,
    subject::RolloutObject,
};

/// Objects that are listed at once: more of them are held twice for a moment, as text and as objects.
const PAGE: u32 = 100;

/// An action; one that cannot be read, from another version perhaps, must not keep the others from being seen.
type ActionObject = DeserializeGuard<RolloutAction>;

/// Streams of changes, each filling its store while it is polled.
pub(super) struct Watches {
    /// Rollouts that changed.
    pub(super) rollouts: BoxStream<'static, Result<RolloutObject, watcher::Error>>,
    /// SeldonDeployments that changed, as `namespace/name`.
    pub(super) deployments: BoxStream<'static, String>,
    /// Rollouts that a change of something else concerns.
    pub(super) concerned: BoxStream<'static, ObjectRef<RolloutObject>>,
    stores: Arc<Stores>,
}

/// What was seen last of everything that is watched.
pub(super) struct Stores {
    pub(super) rollouts: Store<RolloutObject>,
    concerns: Cache<Concern>,
    virtual_services: Cache<VirtualService>,
    services: Cache<ServiceView>,
    slices: Cache<Slice>,
    actions: Cache<Action>,
    seldons: Cache<Seldon>,
    pub(super) freezes: Freezes,
}

/// Which of the kinds that a cluster need not have are there at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Optional {
    /// VirtualServices: never watched where they are not to be.
    pub(super) istio: bool,
    /// SeldonDeployments: watched whenever they are there.
    pub(super) seldon: bool,
}

impl Watches {
    /// `home` is the controller's own namespace: a Freeze there counts, whatever is watched.
    pub(super) fn new(client: &Client, namespace: Option<&str>, home: &str, optional: Optional) -> Self {
        let (of_freezes, freezes) = Freezes::watch(client, namespace, home);
        let writer = reflector::store::Writer::new(());
        let stores = Arc::new(Stores {
            rollouts: writer.as_reader(),
            concerns: Cache::default(),
            virtual_services: Cache::default(),
            services: Cache::default(),
            slices: Cache::default(),
            actions: Cache::default(),
            seldons: Cache::default(),
            freezes,
        });
        let (keeps, reads) = (stores.clone(), stores.clone());
        let rollouts = watch(scoped(client, namespace))
            .modify(move |rollout| keeps.shrink(rollout))
            .inspect_ok(move |event| reads.read_concerns(event))
            .reflect(writer)
            .touched_objects()
            .boxed();

        let of_routes = if optional.istio {
            follow(watch(scoped(client, namespace)), &stores, |stores| &stores.virtual_services, {
                |object: VirtualServiceObject| Some(object.into())
            })
            .boxed()
        } else {
            stores.virtual_services.stays_empty();
            stream::pending().boxed()
        };
        let of_seldons = watch_while_there::<SeldonObject>(client, namespace, optional.seldon);
        let of_seldons = follow(of_seldons, &stores, |stores| &stores.seldons, Seldon::of);
        let (changed, deployments) = futures::channel::mpsc::unbounded();
        let of_seldons = of_seldons.inspect(move |touched| {
            // Nobody listens where nothing is wired any more.
            let _ = changed.unbounded_send(touched.name.to_string());
        });
        let of_services =
            follow(watch(scoped(client, namespace)), &stores, |stores| &stores.services, ServiceView::of);
        let of_slices = follow(watch(scoped(client, namespace)), &stores, |stores| &stores.slices, Slice::of);
        let of_actions =
            follow(relisted(scoped(client, namespace)), &stores, |stores| &stores.actions, Action::of);
        let concerned = stream::select_all([
            concerned(of_routes, &stores, |stores, touched| {
                // What it delegates to, or did, is somebody's too.
                let all = [touched.name].into_iter().chain(touched.groups);
                all.flat_map(|name| stores.concerns.names_of(&Thing::VirtualService(name))).collect()
            }),
            concerned(of_seldons, &stores, |stores, touched| {
                stores.concerns.names_of(&Thing::SeldonDeployment(touched.name))
            }),
            concerned(of_services, &stores, |stores, touched| {
                stores.concerns.names_of(&Thing::Service(touched.name))
            }),
            concerned(of_slices, &stores, |stores, touched| {
                let of_service = |service| stores.concerns.names_of(&Thing::Service(service));
                touched.groups.into_iter().flat_map(of_service).collect()
            }),
            concerned(of_actions, &stores, |_, touched| touched.groups),
            // Read whenever something is decided, and whoever waits for the end of one wakes up by itself.
            of_freezes.filter_map(async |()| None).boxed(),
        ]);
        Self { rollouts, concerned: concerned.boxed(), deployments: deployments.boxed(), stores }
    }

    pub(super) fn stores(&self) -> Arc<Stores> {
        self.stores.clone()
    }
}

pub(super) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

type Events<K> = Result<Event<K>, watcher::Error>;

/// What a watch of a kind says; it never ends.
pub(super) fn watch<K>(api: Api<K>) -> impl Stream<Item = Events<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    watcher::watcher(api, watcher::Config::default().page_size(PAGE)).backoff(OfOneWatch::default())
}

/// What changes of a kind touch, each filling its cache with what is `kept` of an object.
fn follow<K, T>(
    events: impl Stream<Item = Events<K>> + Send + 'static,
    stores: &Arc<Stores>,
    cache: fn(&Stores) -> &Cache<T>,
    kept: fn(K) -> Option<T>,
) -> impl Stream<Item = Touched<T::Group>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    T: Entry + Send + Sync + 'static,
    T::Group: Send + Sync,
{
    let stores = stores.clone();
    let touched = move |event: Events<K>| {
        let named = |object: K| (name_of(&object), kept(object));
        match event {
            Ok(event) => stream::iter(cache(&stores).apply(map(event, named))),
            Err(error) => {
                failed::<K>(&error);
                stream::iter(Vec::new())
            }
        }
    };
    events.flat_map(touched)
}

/// A watch that fails, for want of a permission above all, would leave the controller blind.
pub(super) fn failed<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    tracing::warn!(kind = %K::kind(&()), %error, "a watch failed");
}

/// The Rollouts that `whom` names for what was touched.
fn concerned<G: 'static>(
    touched: impl Stream<Item = Touched<G>> + Send + 'static,
    stores: &Arc<Stores>,
    whom: fn(&Stores, Touched<G>) -> Vec<Name>,
) -> BoxStream<'static, ObjectRef<RolloutObject>> {
    let stores = stores.clone();
    touched.flat_map(move |touched| stream::iter(whom(&stores, touched)).filter_map(reference)).boxed()
}

async fn reference(name: Name) -> Option<ObjectRef<RolloutObject>> {
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}

fn name_of(object: &impl ResourceExt) -> Name {
    let metadata = object.meta();
    name(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn map<K, T>(event: Event<K>, with: impl Fn(K) -> T) -> Event<T> {
    match event {
        Event::Apply(object) => Event::Apply(with(object)),
        Event::Delete(object) => Event::Delete(with(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(with(object)),
        Event::InitDone => Event::InitDone,
    }
}

impl Stores {
    /// Resolves when every store has been filled once.
    pub(super) async fn ready(&self) {
        let _ = self.rollouts.wait_until_ready().await;
        self.concerns.filled().await;
        self.virtual_services.filled().await;
        self.services.filled().await;
        self.slices.filled().await;
        self.actions.filled().await;
        self.seldons.filled().await;
        self.freezes.ready().await;
    }

    /// What is kept of a Rollout takes little room; one that is listed again as it was takes none.
    fn shrink(&self, rollout: &mut RolloutObject) {
        match self.rollouts.get(&ObjectRef::from_obj(rollout)) {
            Some(known) if known.is_version_of(rollout) => *rollout = known.as_ref().clone(),
            Some(_) | None => rollout.pack(),
        }
    }

    fn read_concerns(&self, event: &Event<RolloutObject>) {
        let read = |rollout: &RolloutObject| (name_of(rollout), Some(Concern::of(rollout)));
        self.concerns.apply(match event {
            Event::Apply(rollout) => Event::Apply(read(rollout)),
            Event::Delete(rollout) => Event::Delete((name_of(rollout), None)),
            Event::Init => Event::Init,
            Event::InitApply(rollout) => Event::InitApply(read(rollout)),
            Event::InitDone => Event::InitDone,
        });
    }

    /// What the Rollouts claim of the VirtualServices of `plan`, but for the one with the uid `own`.
    pub(super) fn claims_beside(&self, own: &str, plan: &Plan) -> Vec<Claim> {
        let mut things: Vec<Thing> = plan.routes.iter().map(Thing::of_route).collect();
        things.sort();
        things.dedup();
        let concerns = things.iter().flat_map(|thing| self.concerns.all_of(thing));
        let others = concerns.filter(|(_, concern)| &*concern.uid != own);
        others.filter_map(|(_, concern)| concern.claim.clone()).collect()
    }

    /// A VirtualService, if it is there.
    pub(super) fn virtual_service(&self, (namespace, object): &ObjectName) -> Option<Arc<VirtualService>> {
        self.virtual_services.get(&name(namespace, object))
    }

    /// The VirtualServices that delegate to one.
    pub(super) fn delegators(&self, (namespace, object): &ObjectName) -> Vec<Value> {
        let all = self.virtual_services.all_of(&name(namespace, object));
        all.iter().filter_map(|(_, delegator)| delegator.to_value()).collect()
    }

    /// A SeldonDeployment, if it is there.
    pub(super) fn seldon(&self, namespace: &str, deployment: &str) -> Option<Arc<Seldon>> {
        self.seldons.get(&name(namespace, deployment))
    }

    /// The SeldonDeployment of which a Service is, if it is a predictor's.
    pub(super) fn seldon_behind(&self, namespace: &str, service: &str) -> Option<Arc<Seldon>> {
        let group = Group::Service(name(namespace, service));
        let (_, seldon) = self.seldons.all_of(&group).into_iter().next()?;
        Some(seldon)
    }

    /// The SeldonDeployments that ask for a copy of a Rollout of their namespace and name this host; those that name none where
    /// it is empty.
    pub(super) fn asking_for(&self, namespace: &str, rollout: &str, host: &str) -> Vec<Arc<Seldon>> {
        let group = Group::asking(namespace, rollout, host);
        self.seldons.all_of(&group).into_iter().map(|(_, seldon)| seldon).collect()
    }

    /// The names of all SeldonDeployments, as `namespace/name`.
    pub(super) fn all_seldons(&self) -> Vec<String> {
        self.seldons.names().iter().map(ToString::to_string).collect()
    }

    /// The ports of a Service, if it is there.
    pub(super) fn ports(&self, namespace: &str, service: &str) -> Option<Vec<u16>> {
        self.services.get(&name(namespace, service)).map(|service| service.ports.to_vec())
    }

    /// The labels by which a Service selects its pods, if it is there and does.
    pub(super) fn selector(&self, namespace: &str, service: &str) -> Option<BTreeMap<String, String>> {
        self.services.get(&name(namespace, service))?.selector.clone()
    }

    /// The ready endpoints of a Service, an address that two slices list twice.
    pub(super) fn ready_endpoints(&self, namespace: &str, service: &str) -> Vec<Endpoint> {
        let slices = self.slices.all_of(&name(namespace, service));
        slices.iter().flat_map(|(_, slice)| slice.ready.iter().cloned()).collect()
    }

    /// What people ask of a Rollout, by name, oldest first.
    pub(super) fn actions_of(&self, namespace: &str, rollout: &str) -> Vec<(String, Arc<Action>)> {
        let mut actions: Vec<_> = self
            .actions
            .all_of(&name(namespace, rollout))
            .into_iter()
            .map(|(name, action)| {
                (name.split_once('/').map_or_else(String::new, |(_, name)| name.to_owned()), action)
            })
            .collect();
        actions.sort_by(|(one_name, one), (other_name, other)| {
            (one.created, one_name).cmp(&(other.created, other_name))
        });
        actions
    }
}
