//! The faults of the embedded API in virtual time, and what the API keeps of them. What they do to a client is asked of
//! both APIs by the conformance tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use sluice_lab::embedded::{self, Asked, EventThen, Refusal, Tamper, Then, Verb, When};
use tokio::time::{Instant, timeout};

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("value".to_string(), value.to_string())].into()),
        ..ConfigMap::default()
    }
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, "default")
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    maps.create(&PostParams::default(), &map(name, "1")).await
}

async fn set(maps: &Api<ConfigMap>, name: &str, value: &str) -> Result<ConfigMap, kube::Error> {
    let patch = Patch::Merge(json!({"data": {"value": value}}));
    maps.patch(name, &PatchParams::default(), &patch).await
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_has_only_its_own_faults() {
    let api = embedded::Api::new();
    let (struck, other) = (api.connect("a"), api.connect("b"));
    struck.faults().on(When::any(), Then::Refuse(Refusal::unavailable()));
    assert_eq!(code(maps(struck.client()).list(&ListParams::default()).await), 503);
    assert!(maps(other.client()).list(&ListParams::default()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn delays_are_before_or_after_the_commit() {
    let api = embedded::Api::new();
    let connection = api.connect("controller");
    let maps = maps(connection.client());
    connection.faults().on(When::writes().nth(1), Then::Delay(Duration::from_secs(7)));
    connection.faults().on(When::writes().nth(2), Then::DelayAnswer(Duration::from_secs(7)));
    for (name, committed_early) in [("a", false), ("b", true)] {
        let begun = Instant::now();
        let write = tokio::spawn({
            let maps = maps.clone();
            async move { create(&maps, name).await }
        });
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(api.object("configmaps", "default", name).is_some(), committed_early, "{name}");
        write.await.unwrap().unwrap();
        assert_eq!(begun.elapsed().as_secs(), 7);
    }
}

type Events = BoxStream<'static, Result<WatchEvent<ConfigMap>, kube::Error>>;

async fn heard(events: &mut Events) -> String {
    match timeout(Duration::from_mins(1), events.next()).await {
        Err(_) => "silence".into(),
        Ok(None) => "end".into(),
        Ok(Some(event)) => match event.unwrap() {
            WatchEvent::Added(o) => format!("added {}", o.name_any()),
            WatchEvent::Modified(o) => format!("modified {}", o.name_any()),
            WatchEvent::Deleted(o) => format!("deleted {}", o.name_any()),
            WatchEvent::Bookmark(_) => "bookmark".into(),
            WatchEvent::Error(e) => format!("error {}", e.code),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_event_keeps_its_place() {
    let api = embedded::Api::new();
    let connection = api.connect("watcher");
    let params = WatchParams::default().disable_bookmarks();
    let mut events = maps(connection.client()).watch(&params, "0").await.unwrap().boxed();
    connection.faults().on_event(When::any().name("a").nth(1), EventThen::Delay(Duration::from_secs(30)));
    let begun = Instant::now();
    create(&maps(api.client()), "a").await.unwrap();
    create(&maps(api.client()), "b").await.unwrap();
    assert_eq!(heard(&mut events).await, "added a");
    assert_eq!(heard(&mut events).await, "added b");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn history_that_was_not_kept_is_410_and_a_watch_that_is_up_to_date_goes_on() {
    let api = embedded::Api::builder().keep_changes(2).build();
    let maps = maps(api.client());
    let first = create(&maps, "first").await.unwrap().resource_version().unwrap();
    let params = WatchParams::default().disable_bookmarks();
    let mut current = maps.watch(&params, &first).await.unwrap().boxed();
    for name in ["a", "b"] {
        create(&maps, name).await.unwrap();
        assert_eq!(heard(&mut current).await, format!("added {name}"));
    }
    let mut kept = maps.watch(&params, &first).await.unwrap().boxed();
    assert_eq!(heard(&mut kept).await, "added a", "the last two are kept");
    create(&maps, "c").await.unwrap();
    let mut lost = maps.watch(&params, &first).await.unwrap().boxed();
    assert_eq!(heard(&mut lost).await, "error 410");
    assert_eq!(heard(&mut current).await, "added c");
    api.expire_history();
    create(&maps, "d").await.unwrap();
    assert_eq!(heard(&mut current).await, "added d");
    create(&maps, "e").await.unwrap();
    api.expire_history();
    assert_eq!(heard(&mut current).await, "error 410", "what it had not read yet is lost");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_sees_both_states_and_may_refuse() {
    let api = embedded::Api::new();
    api.webhook(|write| {
        let value =
            |o: &Option<std::sync::Arc<serde_json::Value>>| o.as_ref().map(|o| o["data"]["value"].clone());
        let (before, after) = (value(&write.before), value(&write.after));
        if write.user == "tenant" && before == Some(json!("1")) && after == Some(json!("3")) {
            return Err(Refusal::denied_by("steps.example.com", "one at a time"));
        }
        Ok(())
    });
    let (tenant, admin) = (maps(api.client_as("tenant")), maps(api.client_as("admin")));
    create(&tenant, "a").await.unwrap();
    let Err(kube::Error::Api(status)) = set(&tenant, "a", "3").await else { panic!("it was to be denied") };
    assert_eq!(status.code, 403);
    assert_eq!(status.message, "admission webhook \"steps.example.com\" denied the request: one at a time");
    set(&tenant, "a", "2").await.unwrap();
    set(&admin, "a", "1").await.unwrap();
    set(&admin, "a", "3").await.unwrap();
    assert_eq!(api.history().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn history_tells_who_did_what_to_which_state() {
    let api = embedded::Api::new();
    let (one, two) = (maps(api.client_as("one")), maps(api.client_as("two")));
    create(&one, "a").await.unwrap();
    set(&two, "a", "2").await.unwrap();
    set(&two, "a", "2").await.unwrap();
    two.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    let history = api.history();
    let told: Vec<_> =
        history.iter().map(|w| (w.user.as_str(), w.verb, w.before.is_some(), w.after.is_some())).collect();
    let expected = [
        ("one", Verb::Create, false, true),
        ("two", Verb::Patch, true, true),
        ("two", Verb::Delete, true, false),
    ];
    assert_eq!(told, expected);
    assert_eq!(history[1].before.as_ref().unwrap()["data"]["value"], "1");
    assert_eq!(history[1].after.as_ref().unwrap()["data"]["value"], "2");
    assert!(history.windows(2).all(|w| w[0].version < w[1].version));
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_also_when_refused_or_without_effect() {
    let api = embedded::Api::new();
    let connection = api.connect("controller");
    let maps = maps(connection.client());
    create(&maps, "a").await.unwrap();
    set(&maps, "a", "1").await.unwrap();
    assert_eq!(code(create(&maps, "a").await), 409);
    connection.faults().on(When::verb(Verb::Get), Then::Refuse(Refusal::unavailable()));
    assert_eq!(code(maps.get("a").await), 503);
    let count = |verb| {
        let asked = Asked { user: "controller".into(), verb, resource: "configmaps".into() };
        let count = api.requests()[&asked];
        (count.total, count.refused)
    };
    assert_eq!((count(Verb::Create), count(Verb::Patch), count(Verb::Get)), ((2, 1), (1, 0), (1, 1)));
    assert_eq!(api.write_requests("controller"), BTreeMap::from([("configmaps".to_string(), 3)]));
    assert_eq!(api.write_requests("nobody"), BTreeMap::new());
}

/// A clock that goes with tokio's, from a given day on.
fn virtual_clock() -> impl Fn() -> DateTime<Utc> + Send + Sync + 'static {
    let (start, day) = (Instant::now(), DateTime::UNIX_EPOCH + TimeDelta::days(20_000));
    move || day + start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn times_come_from_the_clock_that_was_given() {
    let api = embedded::Api::builder().clock(virtual_clock()).build();
    let maps = maps(api.client());
    tokio::time::sleep(Duration::from_hours(3)).await;
    let made = create(&maps, "a").await.unwrap();
    assert_eq!(made.creation_timestamp().unwrap().0.to_string(), "2024-10-04T03:00:00Z");
    assert_eq!(api.history()[0].at.to_rfc3339(), "2024-10-04T03:00:00+00:00");
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_is_told_where_it_stands_and_ends_in_time() {
    let api = embedded::Api::new();
    let params = WatchParams::default().timeout(150);
    let begun = Instant::now();
    let mut events = maps(api.client()).watch(&params, &api.version().to_string()).await.unwrap().boxed();
    let mut said = Vec::new();
    while let Some(event) = events.next().await {
        said.push((begun.elapsed().as_secs(), matches!(event.unwrap(), WatchEvent::Bookmark(_))));
    }
    assert_eq!(said, [(60, true), (120, true), (150, true)]);
}

#[tokio::test]
async fn other_processes_reach_the_api_over_http() {
    let api = embedded::Api::new();
    let connection = api.connect("cli");
    let server = connection.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&embedded::kubeconfig(server.address())).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(Client::try_from(config).unwrap());
    create(&maps, "a").await.unwrap();
    let mut events = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert_eq!(heard(&mut events).await, "added a");
    set(&maps, "a", "2").await.unwrap();
    assert_eq!(heard(&mut events).await, "modified a");
    assert!(api.history().iter().all(|w| w.user == "cli"));
    assert_eq!(code(maps.get("b").await), 404);
}

/// A controller of three writes: count in one object, then in another, then say that it is done.
async fn count_twice(client: Client) -> Result<(), kube::Error> {
    let maps = maps(client);
    let value = |map: &ConfigMap| map.data.as_ref().unwrap()["value"].clone();
    for (from, to, name) in [("1", "2", "a"), ("2", "3", "a"), ("1", "2", "b")] {
        if value(&maps.get(name).await?) == from {
            set(&maps, name, to).await?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_write_of_a_run_can_be_crashed_at_and_the_next_incarnation_goes_on() {
    let prepared = async || {
        let api = embedded::Api::new();
        create(&maps(api.client()), "a").await.unwrap();
        create(&maps(api.client()), "b").await.unwrap();
        api
    };
    let calm = prepared().await;
    count_twice(calm.client_as("controller")).await.unwrap();
    let points = calm.crash_points("controller");
    let said: Vec<String> = points.iter().map(ToString::to_string).collect();
    let expected = [
        "write 1 of configmaps default/a",
        "write 2 of configmaps default/a",
        "write 1 of configmaps default/b",
    ];
    assert_eq!(said, expected);
    for point in points {
        for then in [Then::CrashBefore, Then::CrashAfter] {
            let api = prepared().await;
            let doomed = api.connect("controller");
            doomed.faults().on(point.clone(), then.clone());
            tokio::select! {
                ended = count_twice(doomed.client()) => panic!("{point} {then:?} was to crash: {ended:?}"),
                () = doomed.faults().crashed() => {}
            }
            count_twice(api.client_as("controller")).await.unwrap();
            for (name, value) in [("a", "3"), ("b", "2")] {
                let map = api.object("configmaps", "default", name).unwrap();
                assert_eq!(map["data"]["value"], value, "{name} after {point} {then:?}");
            }
            assert_eq!(api.history().len(), 5, "each write once, after {point} {then:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_old_and_a_watch_from_there_brings_the_rest() {
    let api = embedded::Api::new();
    let connection = api.connect("controller");
    let maps = maps(connection.client());
    create(&maps, "a").await.unwrap();
    create(&maps, "b").await.unwrap();
    let then = api.version();
    set(&maps, "a", "2").await.unwrap();
    maps.delete("b", &kube::api::DeleteParams::default()).await.unwrap();
    create(&maps, "c").await.unwrap();
    connection.faults().on(When::verb(Verb::List).resource("configmaps").times(1), Then::Old(then));
    let old = maps.list(&ListParams::default()).await.unwrap();
    let seen: Vec<_> = old.items.iter().map(|map| (map.name_any(), map.data.clone().unwrap())).collect();
    let value = |value: &str| BTreeMap::from([("value".to_owned(), value.to_owned())]);
    assert_eq!(seen, [("a".to_owned(), value("1")), ("b".to_owned(), value("1"))]);
    let version = old.metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    for expected in ["MODIFIED a", "DELETED b", "ADDED c"] {
        let event = events.next().await.unwrap().unwrap();
        let told = match event {
            WatchEvent::Added(map) => format!("ADDED {}", map.name_any()),
            WatchEvent::Modified(map) => format!("MODIFIED {}", map.name_any()),
            WatchEvent::Deleted(map) => format!("DELETED {}", map.name_any()),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
    }
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 2, "the next list is of now");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_and_is_told_can_be_changed_on_its_way() {
    let api = embedded::Api::new();
    let connection = api.connect("controller");
    let maps = maps(connection.client());
    let set_to = |value: &'static str| Tamper::with(move |object| object["data"]["value"] = value.into());
    connection.faults().on(When::verb(Verb::Create).name("a"), Then::Tamper(set_to("sent")));
    connection.faults().on(When::verb(Verb::Get).name("a"), Then::TamperAnswer(set_to("told")));
    connection.faults().on_event(When::any().name("a"), EventThen::Tamper(set_to("seen")));
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    create(&maps, "a").await.unwrap();
    let value = |map: &ConfigMap| map.data.as_ref().unwrap()["value"].clone();
    assert_eq!(api.object("configmaps", "default", "a").unwrap()["data"]["value"], "sent");
    assert_eq!(value(&maps.get("a").await.unwrap()), "told");
    let Some(Ok(WatchEvent::Added(seen))) = events.next().await else { panic!("no event") };
    assert_eq!(value(&seen), "seen");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dies_after_an_answer_has_had_it() {
    let api = embedded::Api::new();
    let connection = api.connect("controller");
    let maps = maps(connection.client());
    connection.faults().on(When::verb(Verb::Create), Then::CrashAnswered);
    create(&maps, "a").await.unwrap();
    assert!(connection.faults().has_crashed());
    assert!(timeout(Duration::from_mins(1), maps.get("a")).await.is_err(), "the dead are told nothing");
}
