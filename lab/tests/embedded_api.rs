//! The embedded API under kube's own runtime: what controllers rely on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        controller::{Action, Controller},
        reflector, watcher,
    },
};
use serde_json::json;
use sluice_lab::embedded::{self, Then, When};

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("value".to_string(), value.to_string())].into()),
        ..ConfigMap::default()
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

#[tokio::test(start_paused = true)]
async fn a_controller_sees_every_object_and_its_changes() {
    let api = embedded::Api::new();
    let maps: Api<ConfigMap> = Api::namespaced(api.client_as("controller"), "default");
    let (seen, mut reported) = tokio::sync::mpsc::unbounded_channel();
    maps.create(&PostParams::default(), &map("early", "1")).await.unwrap();
    let controller = Controller::new(maps.clone(), watcher::Config::default());
    tokio::spawn(
        controller
            .run(
                |object: Arc<ConfigMap>, seen: Arc<tokio::sync::mpsc::UnboundedSender<String>>| async move {
                    let value = &object.data.as_ref().unwrap()["value"];
                    seen.send(format!("{}={value}", object.name_any())).unwrap();
                    Ok::<_, std::io::Error>(Action::await_change())
                },
                |_, _, _| Action::requeue(Duration::from_secs(1)),
                Arc::new(seen),
            )
            .for_each(|_| async {}),
    );
    assert_eq!(within("early", reported.recv()).await.unwrap(), "early=1");
    maps.create(&PostParams::default(), &map("late", "2")).await.unwrap();
    assert_eq!(within("late", reported.recv()).await.unwrap(), "late=2");
    let patch = Patch::Merge(json!({"data": {"value": "3"}}));
    maps.patch("early", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(within("change", reported.recv()).await.unwrap(), "early=3");
}

#[tokio::test(start_paused = true)]
async fn a_reflector_lists_again_when_history_has_expired() {
    let api = embedded::Api::new();
    let connection = api.connect("watcher");
    let maps: Api<ConfigMap> = Api::namespaced(connection.client(), "default");
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (store, writer) = reflector::store();
        let stream = watcher(maps.clone(), config).default_backoff().reflect(writer).applied_objects();
        let task = tokio::spawn(stream.map_err(drop).for_each(|_| async {}));
        within("the first list", store.wait_until_ready()).await.unwrap();
        // A change that the watch never sees, and no history to find it in.
        connection.faults().on_event(When::any(), sluice_lab::embedded::EventThen::Drop);
        let unseen = maps.create(&PostParams::default(), &map("unseen", "1")).await.unwrap();
        api.expire_history();
        connection.faults().close_watches();
        within("the second list", async {
            while store.find(|o| o.name_any() == "unseen").is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        connection.faults().clear();
        task.abort();
        maps.delete(&unseen.name_any(), &kube::api::DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_or_after_a_write_lets_nothing_pass_any_more() {
    for (then, committed) in [(Then::CrashBefore, false), (Then::CrashAfter, true)] {
        let api = embedded::Api::new();
        let connection = api.connect("controller");
        let maps: Api<ConfigMap> = Api::namespaced(connection.client(), "default");
        connection.faults().on(When::writes().name("b").nth(1), then);
        maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
        let doomed = tokio::spawn({
            let maps = maps.clone();
            async move { maps.create(&PostParams::default(), &map("b", "1")).await }
        });
        within("the crash", connection.faults().crashed()).await;
        let read = tokio::time::timeout(Duration::from_hours(1), maps.get("a")).await;
        assert!(read.is_err(), "a dead client gets no answer");
        assert!(!doomed.is_finished());
        let others: Api<ConfigMap> = Api::namespaced(api.client(), "default");
        assert_eq!(others.get_opt("b").await.unwrap().is_some(), committed);
        assert_eq!(api.history().len(), if committed { 2 } else { 1 });
    }
}
