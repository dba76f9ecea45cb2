//! kube's own runtime, as controllers use it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::events::v1::Event as EventObject;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
    client::Body,
    runtime::{
        WatchStreamExt,
        controller::Action,
        events::{Event, EventType, Recorder},
        finalizer::{Event as Finalizer, finalizer},
        reflector, watcher,
    },
};
use serde_json::json;
use sluice_lab::scene::eventually;

use crate::world::{LIMIT, World, merge, next, thing_kind};

tests![
    a_watcher_hears_of_everything_once,
    a_reflector_follows,
    a_reflector_lists_again_after_410,
    the_finalizer_helper_adds_its_finalizer_and_takes_it_away,
    a_recorder_counts_repeats,
];

fn configs() -> [watcher::Config; 2] {
    [watcher::Config::default(), watcher::Config::default().streaming_lists()]
}

async fn a_watcher_hears_of_everything_once(world: World) {
    for (round, config) in configs().into_iter().enumerate() {
        let (early, late) = (format!("early-{round}"), format!("late-{round}"));
        world.thing(&early, json!({"size": 1})).await;
        let config = config.fields(&format!("metadata.name!=early-{}", 1 - round));
        let mut events = watcher(world.things.clone(), config).boxed();
        let mut heard = Vec::new();
        let mut until = async |wanted: &str, heard: &mut Vec<String>| {
            while heard.last().is_none_or(|last| last != wanted) {
                heard.push(match next(&mut events).await.unwrap().unwrap() {
                    watcher::Event::Init => "init".into(),
                    watcher::Event::InitApply(o) => format!("init {}", o.name_any()),
                    watcher::Event::InitDone => "ready".into(),
                    watcher::Event::Apply(o) => format!("apply {}", o.name_any()),
                    watcher::Event::Delete(o) => format!("delete {}", o.name_any()),
                });
            }
        };
        until("ready", &mut heard).await;
        world.thing(&late, json!({})).await;
        merge(&world.things, &early, json!({"spec": {"size": 2}})).await.unwrap();
        world.things.delete(&late, &DeleteParams::default()).await.unwrap();
        until(&format!("delete {late}"), &mut heard).await;
        let expected = [
            "init".to_string(),
            format!("init {early}"),
            "ready".into(),
            format!("apply {late}"),
            format!("apply {early}"),
            format!("delete {late}"),
        ];
        assert_eq!(heard, expected);
        world.things.delete(&early, &DeleteParams::default()).await.unwrap();
    }
}

/// A reflection that runs, and its store.
fn reflect(things: Api<DynamicObject>) -> (reflector::Store<DynamicObject>, tokio::task::JoinHandle<()>) {
    let writer = reflector::store::Writer::new(thing_kind("v1"));
    let store = writer.as_reader();
    let stream = watcher(things, watcher::Config::default()).default_backoff().reflect(writer);
    (store, tokio::spawn(stream.for_each(|_| async {})))
}

async fn has(store: &reflector::Store<DynamicObject>, name: &str, size: Option<i64>) {
    let look = || async {
        let found = store.find(|o| o.name_any() == name).map(|o| o.data["spec"]["size"].as_i64());
        if found == size.map(Some) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    eventually(LIMIT, &format!("{name} is reflected with size {size:?}"), look).await.unwrap();
}

async fn a_reflector_follows(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let (store, task) = reflect(world.things.clone());
    has(&store, "a", Some(1)).await;
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    has(&store, "a", Some(2)).await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    has(&store, "a", None).await;
    task.abort();
}

/// A client whose first watch asks from a version that is long gone; it counts the lists.
fn expired_once(client: Client, lists: Arc<AtomicUsize>) -> Client {
    let watches = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, lists, watches) = (client.clone(), lists.clone(), watches.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let uri = parts.uri.to_string();
            if !uri.contains("watch=true") {
                lists.fetch_add(1, Ordering::Relaxed);
            } else if watches.fetch_add(1, Ordering::Relaxed) == 0 {
                let (before, after) = uri.split_once("resourceVersion=").unwrap();
                let rest = after.find('&').map_or("", |at| &after[at..]);
                parts.uri = format!("{before}resourceVersion=1{rest}").parse().unwrap();
            }
            client.send(http::Request::from_parts(parts, body)).await.map_err(io::Error::other)
        }
    });
    Client::new(service, "default")
}

async fn a_reflector_lists_again_after_410(world: World) {
    world.thing("a", json!({"size": 1})).await;
    let lists = Arc::new(AtomicUsize::new(0));
    let client = expired_once(world.client.clone(), lists.clone());
    let (store, task) = reflect(Api::namespaced_with(client, &world.namespace, &thing_kind("v1")));
    has(&store, "a", Some(1)).await;
    eventually(LIMIT, "it lists again", || async {
        let lists = lists.load(Ordering::Relaxed);
        if lists >= 2 { Ok(()) } else { Err(lists) }
    })
    .await
    .unwrap();
    merge(&world.things, "a", json!({"spec": {"size": 2}})).await.unwrap();
    has(&store, "a", Some(2)).await;
    task.abort();
}

async fn the_finalizer_helper_adds_its_finalizer_and_takes_it_away(world: World) {
    const NAME: &str = "conformance.sluice.dev/finalizer";
    let requeue = || Action::requeue(Duration::from_secs(1));
    let run = async |object: DynamicObject, expected: &'static str| {
        let event = async |event: Finalizer<DynamicObject>| {
            let said = match event {
                Finalizer::Apply(_) => "apply",
                Finalizer::Cleanup(_) => "cleanup",
            };
            assert_eq!(said, expected);
            Ok::<_, io::Error>(requeue())
        };
        finalizer(&world.things, NAME, Arc::new(object), event).await.unwrap();
    };
    run(world.thing("a", json!({})).await, "never, it only adds").await;
    let added = world.things.get("a").await.unwrap();
    assert_eq!(added.finalizers(), [NAME]);
    run(added, "apply").await;
    world.things.delete("a", &DeleteParams::default()).await.unwrap();
    run(world.things.get("a").await.unwrap(), "cleanup").await;
    assert!(world.things.get_opt("a").await.unwrap().is_none());
}

async fn a_recorder_counts_repeats(world: World) {
    let object = world.thing("a", json!({})).await;
    let recorder = Recorder::new(world.client.clone(), "conformance".into());
    let event = Event {
        type_: EventType::Warning,
        reason: "Seen".into(),
        note: Some("it was seen".into()),
        action: "Look".into(),
        secondary: None,
    };
    let about = object.object_ref(&thing_kind("v1"));
    for _ in 0..3 {
        recorder.publish(&event, &about).await.unwrap();
    }
    let events: Api<EventObject> = Api::namespaced(world.client.clone(), &world.namespace);
    let listed = events.list(&ListParams::default().fields("regarding.name=a")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let event = &listed.items[0];
    assert_eq!((event.reason.as_deref(), event.note.as_deref()), (Some("Seen"), Some("it was seen")));
    assert_eq!(event.regarding.as_ref().unwrap().uid, object.uid());
    assert_eq!(event.series.as_ref().unwrap().count, 3);
}
