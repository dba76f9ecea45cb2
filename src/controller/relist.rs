//! A watch that lists everything anew from time to time.
//!
//! A watch is not to lose an event, and nothing would tell if it did: what is missing in a cache is missing until the
//! object changes again. An action never changes before it is answered, so a person's abort would wait for ever.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;

use super::stores::watch;

/// How long one watch lasts: as long as a Rollout at rest is left alone.
const EVERY: Duration = Duration::from_mins(5);

/// Watches a kind; what it shows is never wrong for longer than five minutes.
pub(super) fn relisted<K>(api: Api<K>) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watches = move || watch(api.clone()).take_until(tokio::time::sleep(EVERY));
    stream::repeat_with(watches).flatten()
}
