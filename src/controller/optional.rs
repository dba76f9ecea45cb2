//! Kinds that a cluster need not have. Whether it has them is asked at the start and, of one that it has not, from time to
//! time: the first list of a watch of a kind that is not there would be waited for until it is, and everything with it.

use std::{fmt::Debug, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams},
    core::NamespaceResourceScope,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::{
    Error,
    stores::{scoped, watch},
};

/// How often a kind that is not there is asked for: people wait for it who have just installed it.
const EVERY: Duration = Duration::from_secs(10);
/// The longest that asking may take.
const LIMIT: Duration = Duration::from_secs(8);

/// Whether objects of a kind can be listed: it is there, and we may.
pub(super) async fn is_there<K>(client: &Client, namespace: Option<&str>) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    match list_one(client, namespace, &resource).await {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(kind = resource.kind, error = status.message, "the kind is left alone");
            Ok(false)
        }
        Err(error) => Err(Error::from_kube(format!("listing {}", resource.plural), error)),
    }
}

async fn list_one(
    client: &Client,
    namespace: Option<&str>,
    resource: &ApiResource,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    api.list_metadata(&ListParams::default().limit(1)).await.map(drop)
}

type Events<K> = Result<Event<K>, watcher::Error>;

/// What a watch of a kind says while the kind is there. When the kind goes, all of its objects have gone; when it comes, or
/// comes back, they are listed. `there` says whether it is there now.
pub(super) fn watch_while_there<K>(
    client: &Client,
    namespace: Option<&str>,
    there: bool,
) -> impl Stream<Item = Events<K>> + Send + 'static
where
    K: Watched,
{
    let (client, namespace) = (client.clone(), namespace.map(str::to_owned));
    let mut kind = Kind { client, namespace, events: None, told: false };
    if there {
        kind.begin();
    }
    stream::unfold(kind, Kind::next).flat_map(stream::iter)
}

/// What objects have to be for their kind to be watched while it is there.
pub(super) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

struct Kind<K> {
    client: Client,
    namespace: Option<String>,
    /// While it is there.
    events: Option<BoxStream<'static, Events<K>>>,
    /// Whether it was told that it is not.
    told: bool,
}

impl<K: Watched> Kind<K> {
    fn begin(&mut self) {
        self.events = Some(watch(scoped(&self.client, self.namespace.as_deref())).boxed());
    }

    async fn next(mut self) -> Option<(Vec<Events<K>>, Self)> {
        loop {
            if let Some(events) = &mut self.events {
                let event = events.next().await?;
                if !kind_is_missing(&event) {
                    return Some((vec![event], self));
                }
                tracing::warn!(kind = %K::kind(&()), "the kind is not there any more");
                self.events = None;
                self.told = false;
            }
            if !self.told {
                self.told = true;
                return Some((vec![Ok(Event::Init), Ok(Event::InitDone)], self));
            }
            sleep(EVERY).await;
            let resource = ApiResource::erase::<K>(&());
            let asked = timeout(LIMIT, list_one(&self.client, self.namespace.as_deref(), &resource)).await;
            if matches!(asked, Ok(Ok(()))) {
                tracing::info!(kind = resource.kind, "the kind is there now");
                self.begin();
            }
        }
    }
}

/// Whether a watch failed because its kind is not there.
fn kind_is_missing<K>(event: &Events<K>) -> bool {
    let Err(
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status),
    ) = event
    else {
        return false;
    };
    status.code == 404
}

/// Seldon Core's kind, read and written as it is.
pub(super) fn seldon() -> ApiResource {
    ApiResource::erase::<super::stores::SeldonObject>(&())
}

/// Whether an answer says that an object is not there, and not that its kind is not.
pub(super) fn object_is_missing(error: &Error, name: &str) -> bool {
    // The server names the object that it looked for.
    matches!(error, Error::Refused { code: 404, message, .. } if message.contains(&format!("{name:?}")))
}

/// Says that something cannot be checked for want of a right; what it is about goes on without.
pub(super) fn tell_of_missing_right(error: &Error) {
    if matches!(error, Error::Refused { code: 403, .. }) {
        tracing::warn!(%error, "it cannot be told whether it is there");
    }
}
