//! Watches: a stream of JSON lines that reads the store's history from where the client stands.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::{sync::watch::Receiver, time::Instant};

use super::{
    Shared, object,
    refusal::Refusal,
    request::Request,
    selector::Selection,
    store::{Change, Store},
    verbs,
};
use crate::faults::Line;

/// How often an idle watch says where it stands, as the real server does.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

struct Watcher {
    shared: Arc<Shared>,
    request: Request,
    selection: Selection,
    /// All changes up to here were read.
    seen: u64,
    ready: VecDeque<Line>,
    ended: bool,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    changed: Receiver<u64>,
}

/// Starts a watch. Errors here are plain HTTP errors; a version that is too old is an event in the stream.
pub(super) fn start(
    shared: &Arc<Shared>,
    request: Request,
) -> Result<impl Stream<Item = Line> + Send + use<>, Refusal> {
    let selection = verbs::selection(&request)?;
    let from = match request.parameter("resourceVersion") {
        "" => 0,
        text => text.parse().map_err(|_| Refusal::no_version(text))?,
    };
    let bookmarks = request.flag("allowWatchBookmarks");
    let streams_list = request.flag("sendInitialEvents");
    if streams_list && request.parameter("resourceVersionMatch") != "NotOlderThan" {
        let why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {why}");
        return Err(Refusal::new(422, "Invalid", message));
    }
    let asked: Option<u64> = request.parameter("timeoutSeconds").parse().ok().filter(|s| *s > 0);
    let now = Instant::now();
    let mut watcher = Watcher {
        shared: shared.clone(),
        selection,
        seen: from,
        ready: VecDeque::new(),
        ended: false,
        bookmarks,
        deadline: now + asked.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        next_bookmark: now + BOOKMARK_EVERY,
        changed: shared.changed.subscribe(),
        request,
    };
    if from == 0 || streams_list {
        watcher.send_state(streams_list);
    } else {
        watcher.check_start();
    }
    Ok(stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        Some((line, watcher))
    }))
}

impl Watcher {
    /// What there is now, as if it had just been made.
    fn send_state(&mut self, mark_the_end: bool) {
        let shared = self.shared.clone();
        let store = shared.store();
        for (_, object) in store.all(&self.request.kind, self.request.namespace.as_deref()) {
            if self.selection.matches(object) {
                let json = self.event("ADDED", object);
                self.ready.push_back(Line::of(&json, None));
            }
        }
        self.seen = store.version();
        if mark_the_end && self.bookmarks {
            let mut mark = self.bookmark();
            mark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.ready.push_back(Line::of(&mark, None));
        }
    }

    /// A version that is too old is an error inside a stream that began well: watchers rely on it.
    fn check_start(&mut self) {
        let from = self.seen;
        let answer = self.shared.store().can_start(from);
        if let Err(oldest) = answer {
            self.expired(oldest);
        }
    }

    fn expired(&mut self, oldest: u64) {
        self.ready.push_back(Line::error(&Refusal::expired(self.seen, oldest)));
        self.ended = true;
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.read();
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    /// Takes in what has changed since the last read.
    fn read(&mut self) {
        let shared = self.shared.clone();
        let store = shared.store();
        match store.changes_after(self.seen) {
            Ok(changes) => {
                let events: Vec<Line> = changes.filter_map(|c| self.change(c)).collect();
                self.ready.extend(events);
                self.seen = self.latest(&store);
            }
            Err(oldest) => self.expired(oldest),
        }
        // As on the real server, a watch ends with its kind; the next one is refused.
        let kind = &self.request.kind;
        self.ended |= store.kind(&kind.group, &self.request.version, &kind.plural).is_none();
    }

    /// A client may ask from a version that is yet to come.
    fn latest(&self, store: &Store) -> u64 {
        self.seen.max(store.version())
    }

    async fn wait(&mut self) {
        let wake = if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline };
        tokio::select! {
            _ = self.changed.changed() => {}
            () = tokio::time::sleep_until(wake) => {
                if self.bookmarks {
                    self.next_bookmark = wake + BOOKMARK_EVERY;
                    let json = self.bookmark();
                    self.ready.push_back(Line::of(&json, None));
                }
                self.ended = wake == self.deadline;
            }
        }
    }

    /// What a change is to this watch: an object that leaves the selection is deleted for it, one that enters is added.
    fn change(&self, change: &Change) -> Option<Line> {
        let key = &change.key;
        let here = key.resource == self.request.kind.resource()
            && self.request.namespace.as_deref().is_none_or(|n| n == key.namespace);
        if !here {
            return None;
        }
        let selected = |o: &&Arc<Value>| self.selection.matches(o);
        let before = change.before.as_ref().filter(selected);
        let after = change.after.as_ref().filter(selected);
        let json = match (before, after) {
            (None, Some(object)) => self.event("ADDED", object),
            (Some(_), Some(object)) => self.event("MODIFIED", object),
            (Some(object), None) => self.event("DELETED", &object::at_version(object, change.version)),
            (None, None) => return None,
        };
        Some(Line::of(&json, Some((key.namespace.clone(), key.name.clone()))))
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        json!({"type": kind, "object": verbs::render(&self.request, object)})
    }

    fn bookmark(&self) -> Value {
        let kind = &self.request.kind;
        let object = json!({
            "kind": kind.kind,
            "apiVersion": kind.api_version(&self.request.version),
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        self.event("BOOKMARK", &object)
    }
}
