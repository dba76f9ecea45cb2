//! What is committed to VirtualServices, as a watch shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use futures::{StreamExt, pin_mut};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::objects::Names;

/// The canary's weight in a version of a VirtualService.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the watch brought it.
    pub at: DateTime<Utc>,
    /// The weight, 0 to 100.
    pub weight: i64,
}

type Weights = Arc<Mutex<HashMap<Names, Vec<Seen>>>>;

/// A watch over all VirtualServices. Dropping it ends it.
pub struct Commits {
    weights: Weights,
    news: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Commits {
    /// Watches from now on.
    pub fn watch(client: Client) -> Self {
        let weights = Weights::default();
        let (sender, news) = watch::channel(());
        let written = weights.clone();
        let task = tokio::spawn(async move {
            let events = watcher(virtual_services(client), watcher::Config::default());
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let at = Utc::now();
                // What a watch lost comes again: it lists anew by itself.
                let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
                let names =
                    Names { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
                let weight = canary_weight(&object, &names.canary());
                let mut weights = written.lock().unwrap_or_else(PoisonError::into_inner);
                weights.entry(names).or_default().push(Seen { at, weight });
                drop(weights);
                sender.send_replace(());
            }
        });
        Self { weights, news, task }
    }

    /// The first version since `since` whose weight is as wanted, waited for up to a limit.
    pub async fn first(
        &self,
        names: &Names,
        since: DateTime<Utc>,
        limit: Duration,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Seen> {
        let mut news = self.news.clone();
        let find = || {
            let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
            let versions = weights.get(names)?;
            versions.iter().find(|seen| seen.at >= since && wanted(seen.weight)).copied()
        };
        let found = async {
            loop {
                if let Some(seen) = find() {
                    return Ok(seen);
                }
                news.changed().await.context("the watch on VirtualServices has ended")?;
            }
        };
        let waited = tokio::time::timeout(limit, found).await;
        waited.with_context(|| format!("{}/{}: not so after {limit:?}", names.namespace, names.name))?
    }
}

fn virtual_services(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "virtualservices"))
}

fn canary_weight(object: &DynamicObject, canary: &str) -> i64 {
    let route = object.data.pointer("/spec/http/0/route").and_then(|route| route.as_array());
    let to = route.into_iter().flatten().find(|to| to["destination"]["host"] == canary);
    to.and_then(|to| to["weight"].as_i64()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canarys_weight_is_read_off_the_route() {
        let names = Names::number(1);
        for weight in [0_u8, 25] {
            let object = serde_json::from_value(names.virtual_service(weight, None)).unwrap();
            assert_eq!(canary_weight(&object, &names.canary()), i64::from(weight));
        }
    }
}
