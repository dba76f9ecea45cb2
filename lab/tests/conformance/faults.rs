//! The same faults before both APIs: each seen from the client that it strikes, and by what the API keeps of it.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use sluice_lab::{
    embedded::{self, EventThen, Faults, Refusal, Tamper, Then, Verb, When},
    real::Proxy,
    scene::eventually,
};
use tokio::time::{Instant, timeout};

use crate::world::{LIMIT, code, refusal};

pub(crate) type Test = fn(Struck) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn all() -> Vec<(&'static str, Test)> {
            vec![$((concat!("faults::", stringify!($name)), |struck| Box::pin($name(struck)))),*]
        }
    };
}

tests![
    a_refusal_strikes_what_it_names_and_nothing_else,
    a_refusal_is_a_whole_status,
    from_times_and_clear_bound_a_fault,
    a_lost_answer_hides_a_write_that_was_committed,
    an_answer_that_is_late_is_of_a_write_that_was_committed,
    a_late_write_arrives_though_its_sender_gave_up,
    a_hanging_request_is_left_to_the_clients_time_out,
    a_broken_connection_is_no_answer_of_the_server,
    after_a_crash_nothing_passes_any_more,
    a_crash_before_a_write_leaves_it_undone,
    writes_are_numbered_by_object,
    a_list_is_as_it_was_at_a_version,
    what_is_sent_and_told_is_changed_on_its_way,
    an_event_is_dropped,
    an_event_comes_twice,
    an_event_is_late_and_keeps_its_place,
    an_event_is_too_late,
    an_error_comes_in_place_of_an_event,
    a_watch_ends_in_place_of_an_event,
    all_watches_end,
];

/// Shorter than any limit, and long enough to see what is meanwhile.
const LATE: Duration = Duration::from_millis(400);
/// How long nothing must be heard where nothing is to come.
const SILENCE: Duration = Duration::from_millis(300);

/// A connection that faults can strike, and a client that they cannot.
pub(crate) struct Struck {
    connection: Connection,
    /// By the connection.
    maps: Api<ConfigMap>,
    /// Past it.
    past: Api<ConfigMap>,
    namespace: String,
}

/// What has the faults.
pub(crate) enum Connection {
    Embedded(embedded::Api, embedded::Connection),
    Proxy(Box<Proxy>),
}

/// Who the client of the connection is.
pub(crate) const USER: &str = "admin";

impl Struck {
    pub(crate) fn new(connection: Connection, past: Client, namespace: &str) -> Self {
        let client = match &connection {
            Connection::Embedded(_, connection) => connection.client(),
            Connection::Proxy(proxy) => proxy.client().unwrap(),
        };
        Self {
            connection,
            maps: Api::namespaced(client, namespace),
            past: Api::namespaced(past, namespace),
            namespace: namespace.into(),
        }
    }

    fn faults(&self) -> &Faults {
        match &self.connection {
            Connection::Embedded(_, connection) => connection.faults(),
            Connection::Proxy(proxy) => proxy.faults(),
        }
    }

    fn crash_points(&self) -> Vec<When> {
        match &self.connection {
            Connection::Embedded(api, _) => api.crash_points(USER),
            Connection::Proxy(proxy) => proxy.crash_points(),
        }
    }

    async fn create(&self, name: &str) -> Result<ConfigMap, kube::Error> {
        create(&self.maps, name).await
    }

    async fn set(&self, name: &str, value: &str) -> Result<ConfigMap, kube::Error> {
        let patch = Patch::Merge(json!({"data": {"value": value}}));
        self.maps.patch(name, &PatchParams::default(), &patch).await
    }

    /// Creates it in the background.
    fn creating(&self, name: &'static str) -> tokio::task::JoinHandle<Result<ConfigMap, kube::Error>> {
        let maps = self.maps.clone();
        tokio::spawn(async move { create(&maps, name).await })
    }

    async fn exists(&self, name: &str) -> bool {
        self.past.get_opt(name).await.unwrap().is_some()
    }

    async fn until_struck(&self) {
        eventually(LIMIT, "a fault has struck", || async {
            if self.faults().struck() > 0 { Ok(()) } else { Err("none") }
        })
        .await
        .unwrap();
    }

    async fn until_exists(&self, name: &str) {
        eventually(LIMIT, "it is there", || async {
            if self.exists(name).await { Ok(()) } else { Err("it is not") }
        })
        .await
        .unwrap();
    }

    /// What a watch says of three objects where this happens to the second, and how it goes on.
    async fn watched(&self, then: EventThen, expected: &[&str]) {
        create(&self.past, "early").await.unwrap();
        let mut events = self.watch().await;
        assert_eq!(heard(&mut events, LIMIT).await, expected[0]);
        self.faults().on_event(When::any().resource("configmaps").nth(2), then);
        for name in ["a", "b", "c"] {
            create(&self.past, name).await.unwrap();
        }
        for said in &expected[1..] {
            let limit = if *said == "silence" { SILENCE } else { LIMIT };
            assert_eq!(heard(&mut events, limit).await, *said);
        }
        assert_eq!(self.faults().struck(), 1);
    }

    /// What there is and what happens, without what the server makes of its own in every namespace.
    async fn watch(&self) -> Events {
        let params = WatchParams::default().disable_bookmarks().labels("test=faults");
        self.maps.watch(&params, "0").await.unwrap().boxed()
    }
}

type Events = BoxStream<'static, Result<WatchEvent<ConfigMap>, kube::Error>>;

async fn heard(events: &mut Events, limit: Duration) -> String {
    match timeout(limit, events.next()).await {
        Err(_) => "silence".into(),
        Ok(None) => "end".into(),
        Ok(Some(event)) => match event.unwrap() {
            WatchEvent::Added(o) => format!("added {}", o.metadata.name.unwrap()),
            WatchEvent::Error(e) => format!("error {}", e.code),
            other => format!("{other:?}"),
        },
    }
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some([("test".to_owned(), "faults".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_string(), "1".to_string())].into()),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await
}

// === requests ===

async fn a_refusal_strikes_what_it_names_and_nothing_else(struck: Struck) {
    let when = When::writes().resource("configmaps").name("b").nth(2);
    struck.faults().on(when, Then::Refuse(Refusal::unavailable()));
    struck.create("a").await.unwrap();
    let made = struck.create("b").await.unwrap();
    struck.set("a", "2").await.unwrap();
    struck.maps.get("b").await.unwrap();
    assert_eq!(code(struck.set("b", "2").await), 503);
    let there = struck.past.get("b").await.unwrap();
    let version = |map: &ConfigMap| map.metadata.resource_version.clone();
    assert_eq!(version(&there), version(&made), "what was refused was not carried out");
    struck.set("b", "3").await.unwrap();
    assert_eq!(struck.faults().struck(), 1);
}

async fn a_refusal_is_a_whole_status(struck: Struck) {
    for (code, reason) in
        [(403, "Forbidden"), (409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")]
    {
        struck.faults().on(When::any(), Then::Refuse(Refusal::new(code, reason, "by a fault")));
        let status = refusal(struck.maps.get("a").await);
        assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (code, reason, "by a fault")
        );
        struck.faults().clear();
    }
}

async fn from_times_and_clear_bound_a_fault(struck: Struck) {
    let busy = Refusal::new(429, "TooManyRequests", "slow down");
    struck.faults().on(When::reads().from(2).times(2), Then::Refuse(busy));
    let mut codes = Vec::new();
    for _ in 0..5 {
        let listed = struck.maps.list(&ListParams::default()).await;
        codes.push(listed.map_or_else(|e| code(Err::<(), _>(e)), |_| 200));
    }
    assert_eq!(codes, [200, 429, 429, 200, 200]);
    struck.faults().on(When::any(), Then::Hang);
    struck.faults().clear();
    struck.maps.list(&ListParams::default()).await.unwrap();
}

async fn a_lost_answer_hides_a_write_that_was_committed(struck: Struck) {
    struck.faults().on(When::verb(Verb::Create), Then::LoseAnswer);
    assert_eq!(code(struck.create("a").await), 504);
    assert!(struck.exists("a").await);
    assert_eq!(code(struck.create("a").await), 504, "and again it says nothing, though now it was a 409");
    struck.faults().clear();
    assert_eq!(code(struck.create("a").await), 409);
}

async fn an_answer_that_is_late_is_of_a_write_that_was_committed(struck: Struck) {
    struck.faults().on(When::writes(), Then::DelayAnswer(LIMIT * 10));
    let write = struck.creating("a");
    struck.until_exists("a").await;
    assert!(!write.is_finished());
}

async fn a_late_write_arrives_though_its_sender_gave_up(struck: Struck) {
    struck.faults().on(When::writes().nth(1), Then::Delay(LATE));
    let begun = Instant::now();
    let write = struck.creating("a");
    struck.until_struck().await;
    assert!(begun.elapsed() >= LATE || !struck.exists("a").await);
    write.abort();
    struck.until_exists("a").await;
    assert!(begun.elapsed() >= LATE);
}

async fn a_hanging_request_is_left_to_the_clients_time_out(struck: Struck) {
    struck.faults().on(When::writes().nth(1), Then::Hang);
    assert!(timeout(LATE, struck.create("a")).await.is_err());
    struck.create("a").await.unwrap();
}

async fn a_broken_connection_is_no_answer_of_the_server(struck: Struck) {
    struck.faults().on(When::any(), Then::Disconnect);
    let answer = struck.maps.get("a").await;
    assert!(matches!(answer, Err(kube::Error::Service(_) | kube::Error::HyperError(_))), "{answer:?}");
    struck.faults().clear();
    assert!(struck.maps.get_opt("a").await.unwrap().is_none());
}

async fn after_a_crash_nothing_passes_any_more(struck: Struck) {
    let mut events = struck.watch().await;
    struck.faults().on(When::writes().name("b").nth(1), Then::CrashAfter);
    struck.create("a").await.unwrap();
    assert_eq!(heard(&mut events, LIMIT).await, "added a");
    let doomed = struck.creating("b");
    timeout(LIMIT, struck.faults().crashed()).await.unwrap();
    assert!(struck.exists("b").await);
    create(&struck.past, "c").await.unwrap();
    assert!(timeout(SILENCE, struck.maps.get("a")).await.is_err(), "a dead client gets no answer");
    // The news of its own write may have come before its death.
    let last = [heard(&mut events, SILENCE).await, heard(&mut events, SILENCE).await];
    assert!(["added b", "silence"].contains(&last[0].as_str()) && last[1] == "silence", "{last:?}");
    assert!(!doomed.is_finished());
    assert!(timeout(SILENCE, struck.creating("d")).await.is_err());
    assert!(!struck.exists("d").await, "nothing of it is carried out any more");
}

async fn a_crash_before_a_write_leaves_it_undone(struck: Struck) {
    struck.faults().on(When::writes().name("b").nth(1), Then::CrashBefore);
    struck.create("a").await.unwrap();
    let doomed = struck.creating("b");
    timeout(LIMIT, struck.faults().crashed()).await.unwrap();
    assert!(timeout(SILENCE, struck.maps.get("a")).await.is_err(), "a dead client gets no answer");
    assert!(!doomed.is_finished() && !struck.exists("b").await);
}

async fn writes_are_numbered_by_object(struck: Struck) {
    struck.create("a").await.unwrap();
    struck.create("b").await.unwrap();
    struck.maps.get("a").await.unwrap();
    struck.set("a", "2").await.unwrap();
    assert_eq!(code(struck.create("a").await), 409);
    let seen: Vec<String> = struck.crash_points().iter().map(ToString::to_string).collect();
    let namespace = &struck.namespace;
    let expected = [(1, "a"), (1, "b"), (2, "a"), (3, "a")]
        .map(|(n, name)| format!("write {n} of configmaps {namespace}/{name}"));
    assert_eq!(seen, expected);
}

async fn a_list_is_as_it_was_at_a_version(struck: Struck) {
    let version = |map: &ConfigMap| map.metadata.resource_version.clone().unwrap();
    let made = struck.create("a").await.unwrap();
    struck.set("a", "2").await.unwrap();
    struck.create("b").await.unwrap();
    struck.faults().on(When::verb(Verb::List).nth(1), Then::Old(version(&made).parse().unwrap()));
    let params = ListParams::default().labels("test=faults");
    let old = struck.maps.list(&params).await.unwrap();
    assert_eq!(old.items, std::slice::from_ref(&made));
    assert_eq!(old.metadata.resource_version, made.metadata.resource_version, "a watch goes on from there");
    assert_eq!(struck.maps.list(&params).await.unwrap().items.len(), 2);
}

async fn what_is_sent_and_told_is_changed_on_its_way(struck: Struck) {
    let says = |value: &'static str| Tamper::with(move |object| object["data"]["value"] = json!(value));
    let value = |map: &ConfigMap| map.data.as_ref().unwrap()["value"].clone();
    struck.faults().on(When::verb(Verb::Create), Then::Tamper(says("sent")));
    struck.faults().on(When::verb(Verb::Get), Then::TamperAnswer(says("told")));
    struck.create("a").await.unwrap();
    assert_eq!(value(&struck.past.get("a").await.unwrap()), "sent");
    assert_eq!(value(&struck.maps.get("a").await.unwrap()), "told");
    struck.faults().on_event(When::any(), EventThen::Tamper(says("heard")));
    let mut events = struck.watch().await;
    assert_eq!(heard(&mut events, LIMIT).await, "added a");
    create(&struck.past, "b").await.unwrap();
    let b = match timeout(LIMIT, events.next()).await {
        Ok(Some(Ok(WatchEvent::Added(b)))) => b,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(&b), "heard");
}

// === events ===

async fn an_event_is_dropped(struck: Struck) {
    struck.watched(EventThen::Drop, &["added early", "added a", "added c", "silence"]).await;
}

async fn an_event_comes_twice(struck: Struck) {
    let doubled = ["added early", "added a", "added b", "added b", "added c", "silence"];
    struck.watched(EventThen::Duplicate, &doubled).await;
}

async fn an_event_is_late_and_keeps_its_place(struck: Struck) {
    struck
        .watched(EventThen::Delay(LATE), &["added early", "added a", "added b", "added c", "silence"])
        .await;
}

async fn an_event_is_too_late(struck: Struck) {
    struck.watched(EventThen::Delay(LIMIT * 10), &["added early", "added a", "silence"]).await;
}

async fn an_error_comes_in_place_of_an_event(struck: Struck) {
    struck.watched(EventThen::Expire, &["added early", "added a", "error 410", "end"]).await;
}

async fn a_watch_ends_in_place_of_an_event(struck: Struck) {
    struck.watched(EventThen::Close, &["added early", "added a", "end"]).await;
}

async fn all_watches_end(struck: Struck) {
    let mut events = struck.watch().await;
    create(&struck.past, "a").await.unwrap();
    assert_eq!(heard(&mut events, LIMIT).await, "added a");
    struck.faults().close_watches();
    assert_eq!(heard(&mut events, LIMIT).await, "end");
}
