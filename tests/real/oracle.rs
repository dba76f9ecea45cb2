//! Reading raw objects, with arithmetic of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use sluice_lab::real::wait;
use tokio::task::JoinHandle;

/// The annotation by which tests make the controller look without giving it a reason to write.
pub const TOUCHED: &str = "example.com/touched";

/// The weights of one named route of a VirtualService by host, as Istio reads them: a single destination has all, an
/// absent weight beside others is 0.
pub fn weights(virtual_service: &Value, route: &str) -> BTreeMap<String, i64> {
    let routes = virtual_service["spec"]["http"].as_array().cloned().unwrap_or_default();
    let Some(route) = routes.iter().find(|candidate| candidate["name"] == route) else {
        return BTreeMap::new();
    };
    let destinations = route["route"].as_array().cloned().unwrap_or_default();
    let only = destinations.len() == 1;
    let mut weights = BTreeMap::new();
    for destination in &destinations {
        let host = destination["destination"]["host"].as_str().unwrap_or_default();
        let absent = if only { 100 } else { 0 };
        let weight = destination["weight"].as_i64().unwrap_or(absent);
        *weights.entry(host.to_owned()).or_default() += weight;
    }
    weights
}

/// Everything of a VirtualService that Sluice must leave alone: all but the destinations of the managed route, the stamp
/// and what the server itself counts.
pub fn the_rest(virtual_service: &Value, route: &str) -> Value {
    let mut rest = virtual_service.clone();
    if let Some(metadata) = rest["metadata"].as_object_mut() {
        metadata
            .retain(|field, _| !["resourceVersion", "generation", "managedFields"].contains(&field.as_str()));
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let none_left = annotations.is_some_and(|annotations| {
            annotations.remove("sluice.dev/stamp");
            annotations.remove(TOUCHED);
            annotations.is_empty()
        });
        if none_left {
            metadata.remove("annotations");
        }
    }
    for candidate in rest["spec"]["http"].as_array_mut().into_iter().flatten() {
        if candidate["name"] == route {
            candidate["route"] = json!("managed");
        }
    }
    rest
}

/// The entry of a Rollout in the stamp.
pub fn stamp(virtual_service: &Value, rollout: &str) -> Option<Value> {
    let text = virtual_service["metadata"]["annotations"]["sluice.dev/stamp"].as_str()?;
    let stamps: Value = serde_json::from_str(text).ok()?;
    stamps.get(rollout).cloned()
}

/// The list without what is the same as what comes before it.
pub fn without_repeats<T: PartialEq + Clone>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.dedup();
    list
}

/// Every version of one object, from the moment the recording began.
pub struct Recording {
    versions: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recording {
    /// Records what the server sends about the object of this name, the present version first. The watch is a raw one: no
    /// version is left out, unless the server has forgotten it in a restart.
    pub async fn start(api: Api<DynamicObject>, name: &str) -> Result<Self> {
        let fields = format!("metadata.name={name}");
        let (present, mut version) = list(&api, &fields).await?;
        let versions = Arc::new(Mutex::new(present));
        let kept = versions.clone();
        let task = tokio::spawn(async move {
            loop {
                let Some(next) = watch(&api, &fields, &version, &kept).await else {
                    // It was too old, or the server does not answer.
                    tokio::time::sleep(wait::EVERY).await;
                    if let Ok((present, listed)) = list(&api, &fields).await {
                        kept.lock().unwrap().extend(present);
                        version = listed;
                    }
                    continue;
                };
                version = next;
            }
        });
        Ok(Self { versions, task })
    }

    /// All of them so far, the oldest first.
    pub fn versions(&self) -> Vec<Value> {
        self.versions.lock().unwrap().clone()
    }
}

/// The objects with these fields, and the version to watch from.
async fn list(api: &Api<DynamicObject>, fields: &str) -> Result<(Vec<Value>, String)> {
    let list = api.list(&ListParams::default().fields(fields)).await?;
    let present = list.items.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok((present, list.metadata.resource_version.unwrap_or_default()))
}

/// Keeps what comes until the watch ends; the version to go on from, if there is one.
async fn watch(
    api: &Api<DynamicObject>,
    fields: &str,
    from: &str,
    kept: &Mutex<Vec<Value>>,
) -> Option<String> {
    let mut version = from.to_owned();
    let params = WatchParams::default().fields(fields);
    let mut events = api.watch(&params, from).await.ok()?.boxed();
    while let Some(event) = events.next().await {
        match event.ok()? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                version = object.metadata.resource_version.clone()?;
                kept.lock().unwrap().push(serde_json::to_value(&object).ok()?);
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => return None,
        }
    }
    Some(version)
}
