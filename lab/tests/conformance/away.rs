//! What only the proxy can do: be away.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use sluice_lab::{real::Proxy, scene::eventually};
use tokio::time::timeout;

use crate::world::LIMIT;

/// How long nothing must pass where nothing may.
const SILENCE: Duration = Duration::from_millis(300);

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

async fn names(maps: &Api<ConfigMap>) -> Vec<String> {
    let list = maps.list(&ListParams::default()).await.unwrap();
    let mut names: Vec<String> = list.items.into_iter().filter_map(|map| map.metadata.name).collect();
    // Every namespace gets it from the server, in its time.
    names.retain(|name| name != "kube-root-ca.crt");
    names
}

pub(crate) async fn while_it_is_paused_nothing_passes_and_then_all_does(proxy: Proxy, namespace: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(proxy.client().unwrap(), namespace);
    assert_eq!(names(&maps).await, [""; 0]);
    proxy.pause();
    assert!(timeout(SILENCE, maps.list(&ListParams::default())).await.is_err());
    assert!(timeout(SILENCE, maps.create(&PostParams::default(), &map("a"))).await.is_err());
    proxy.resume();
    eventually(LIMIT, "what its sender gave up arrives", || async {
        let names = names(&maps).await;
        if names == ["a"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await
    .unwrap();
}

pub(crate) async fn connections_are_refused_and_taken_again(proxy: Proxy, namespace: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(proxy.client().unwrap(), namespace);
    assert_eq!(names(&maps).await, [""; 0]);
    proxy.refuse_connections().await;
    for _ in 0..2 {
        let refused = timeout(LIMIT, maps.create(&PostParams::default(), &map("a"))).await.unwrap();
        assert!(matches!(refused, Err(kube::Error::Service(_) | kube::Error::HyperError(_))), "{refused:?}");
    }
    proxy.accept_connections().await.unwrap();
    assert_eq!(names(&maps).await, [""; 0]);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
}
