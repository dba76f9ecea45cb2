//! Freezes: whether something may grow at all.
//!
//! What is watched says so at every decision and at every write. A watch may be behind, and nobody notices: so before
//! something grows, which is rare, the API server is asked.

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
    },
};
use sluice_core::{
    api::{Freeze, REQUESTED_BY},
    machine::Frozen,
};

use super::{
    Error,
    context::Context,
    stores::{failed, scoped, watch},
    subject::Subject,
};

/// A Freeze. One that cannot be read is one all the same.
pub(super) type FreezeObject = DeserializeGuard<Freeze>;

/// The Freezes that were seen last: those of what is watched, and those of the controller's own namespace.
#[derive(Clone)]
pub(super) struct Freezes {
    stores: Vec<Store<FreezeObject>>,
}

impl Freezes {
    /// Watches the Freezes of `namespace`, or of all, and those of `home`.
    pub(super) fn watch(
        client: &Client,
        namespace: Option<&str>,
        home: &str,
    ) -> (BoxStream<'static, ()>, Self) {
        let mut apis: Vec<Api<FreezeObject>> = vec![scoped(client, namespace)];
        apis.extend(
            namespace.filter(|watched| *watched != home).map(|_| Api::namespaced(client.clone(), home)),
        );
        let (changes, stores): (Vec<_>, Vec<_>) = apis.into_iter().map(kept).unzip();
        let changes = futures::stream::select_all(changes).boxed();
        (changes, Self { stores })
    }

    /// Resolves when all were seen once.
    pub(super) async fn ready(&self) {
        for store in &self.stores {
            let _ = store.wait_until_ready().await;
        }
    }

    /// The one that counts for `namespace`, of several the oldest; those in `home` count everywhere.
    fn of(&self, namespace: &str, home: &str) -> Option<Frozen> {
        let all = self.stores.iter().flat_map(Store::state);
        let all: Vec<_> = all.filter(|freeze| counts(freeze, namespace, home)).collect();
        oldest(all.iter().map(AsRef::as_ref), home)
    }
}

/// What was seen last of them, kept up to date while the stream is polled.
fn kept(api: Api<FreezeObject>) -> (BoxStream<'static, ()>, Store<FreezeObject>) {
    let writer = reflector::store::Writer::new(());
    let store = writer.as_reader();
    let changes = watch(api).reflect(writer).map(|event| {
        if let Err(error) = event {
            failed::<FreezeObject>(&error);
        }
    });
    (changes.boxed(), store)
}

impl Context {
    /// What stops every increase in a namespace, as far as was seen.
    pub(super) fn frozen(&self, namespace: &str) -> Option<Frozen> {
        self.stores.freezes.of(namespace, &self.home)
    }
}

/// The same, past every cache.
pub(super) async fn read_afresh(context: &Context, subject: &Subject) -> Result<Option<Frozen>, Error> {
    let (namespace, home) = (subject.namespace.as_str(), context.home.as_str());
    let mut found = Vec::new();
    for place in [Some(namespace), Some(home).filter(|home| *home != namespace)].into_iter().flatten() {
        let api: Api<FreezeObject> = Api::namespaced(context.client.clone(), place);
        let list = ListParams::default();
        found.extend(context.read(format!("listing the Freezes of {place}"), api.list(&list)).await?.items);
    }
    Ok(oldest(found.iter(), home))
}

fn counts(freeze: &FreezeObject, namespace: &str, home: &str) -> bool {
    freeze.namespace().is_some_and(|place| place == namespace || place == home)
}

fn oldest<'f>(freezes: impl Iterator<Item = &'f FreezeObject>, home: &str) -> Option<Frozen> {
    let age = |freeze: &&FreezeObject| (freeze.creation_timestamp().map(|time| time.0), freeze.name_any());
    freezes.min_by_key(age).map(|freeze| frozen(freeze, home))
}

fn frozen(freeze: &FreezeObject, home: &str) -> Frozen {
    let namespace = freeze.namespace().unwrap_or_default();
    Frozen {
        name: freeze.name_any(),
        everywhere: namespace == home,
        namespace,
        by: freeze.meta().annotations.as_ref().and_then(|them| them.get(REQUESTED_BY).cloned()),
        reason: match &freeze.0 {
            Ok(freeze) => freeze.spec.reason.clone(),
            Err(error) => format!("its reason cannot be read: {error}"),
        },
    }
}
