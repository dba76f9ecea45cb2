//! Faults, one client at a time: requests that are refused, late, lost or never answered, watch events that are
//! dropped, doubled or late, lists that are old, and a crash at any write, before or after it was committed. And lies:
//! what a client sends, or is told, can be changed on its way, which makes a broken controller out of a sound one.
//!
//! Everything counts and nothing is random, so the same script gives the same run. Requests are counted when they
//! arrive, also those that are then refused or change nothing; with several objects in play the order of requests is
//! not repeatable between them, the order per object is, so give the object's name in [`When`].
//!
//! A client that crashed is one whose process is gone as seen from the API: from then on nothing passes in either
//! direction, requests and watches stay pending for ever. The test waits for [`Faults::crashed`] and drops the
//! incarnation that held the client.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;

use super::{refusal::Refusal, request::Verb};

/// Which requests, or watch events, a fault strikes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    verbs: Vec<Verb>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    first: u64,
    times: Option<u64>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self { first: 1, ..Self::default() }
    }

    /// Every request that writes.
    pub fn writes() -> Self {
        use Verb::{Create, Delete, DeleteCollection, Patch, Update};
        Self { verbs: vec![Create, Update, Patch, Delete, DeleteCollection], ..Self::any() }
    }

    /// Every request that reads, watches among them.
    pub fn reads() -> Self {
        Self { verbs: vec![Verb::Get, Verb::List, Verb::Watch], ..Self::any() }
    }

    /// Requests with this verb.
    pub fn verb(verb: Verb) -> Self {
        Self { verbs: vec![verb], ..Self::any() }
    }

    /// Only for this resource: `rollouts` for the objects, `rollouts/status` for their subresource, `rollouts/*` for
    /// both.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only for the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only the n-th match, counted from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { first: n, times: Some(1), ..self }
    }

    /// The n-th match, counted from 1, and all after it.
    #[must_use]
    pub fn from(self, n: u64) -> Self {
        Self { first: n, ..self }
    }

    /// At most so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// All writes to one object.
    pub(super) fn writes_to(target: &Target<'_>) -> Self {
        Self::writes().resource(target.resource).namespace(target.namespace).name(target.name)
    }

    fn matches(&self, what: &Target<'_>) -> bool {
        let resource = self.resource.as_deref().is_none_or(|wanted| match wanted.strip_suffix("/*") {
            Some(plural) => what.resource.split('/').next() == Some(plural),
            None => wanted == what.resource,
        });
        resource
            && (self.verbs.is_empty() || self.verbs.contains(&what.verb))
            && self.namespace.as_deref().is_none_or(|n| n == what.namespace)
            && self.name.as_deref().is_none_or(|n| n == what.name)
    }
}

impl fmt::Display for When {
    /// `write 2 of virtualservices models/iris`, as a failed test should say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = || "*".to_string();
        let verbs: Vec<String> = self.verbs.iter().map(ToString::to_string).collect();
        let verbs = if verbs.len() == 1 { verbs.concat() } else { "request".into() };
        let verbs = if self.verbs == Self::writes().verbs { "write".into() } else { verbs };
        let (resource, namespace, name) = (&self.resource, &self.namespace, &self.name);
        let text = |given: &Option<String>| given.clone().unwrap_or_else(any);
        write!(f, "{verbs} {} of {} {}/{}", self.first, text(resource), text(namespace), text(name))
    }
}

/// What a request or an event is about, for matching.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) verb: Verb,
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// Changes JSON on its way.
#[derive(Clone)]
pub struct Tamper(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Tamper {
    /// With this function.
    pub fn with(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Does it.
    pub fn change(&self, value: &mut Value) {
        (self.0)(value);
    }
}

impl fmt::Debug for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tamper")
    }
}

impl PartialEq for Tamper {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tamper {}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is answered with this and not carried out.
    Refuse(Refusal),
    /// It arrives so much later (tokio time). A write does so also when the client has stopped waiting.
    Delay(Duration),
    /// It is carried out, and its answer comes so much later (tokio time).
    DelayAnswer(Duration),
    /// It is carried out and answered with 504, as by a proxy that gave up waiting.
    LoseAnswer,
    /// The connection breaks before it is carried out.
    Disconnect,
    /// It is never carried out and never answered.
    Hang,
    /// The client dies before the API has seen it.
    CrashBefore,
    /// The client dies after it was committed and before the answer.
    CrashAfter,
    /// The client dies right after it got the answer.
    CrashAnswered,
    /// Its body is changed before the API sees it.
    Tamper(Tamper),
    /// Its answer is changed before the client sees it. Not for watches: those have [`EventThen::Tamper`].
    TamperAnswer(Tamper),
    /// A list is answered as it was at this version, as by an API server whose cache is behind. A watch that starts from
    /// there brings what came since.
    Old(u64),
}

/// What becomes of a watch event. Only changes are struck, never initial events or bookmarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventThen {
    /// It is not delivered.
    Drop,
    /// It is delivered twice.
    Duplicate,
    /// It and all that follow it in this watch come so much later (tokio time).
    Delay(Duration),
    /// Instead of it the watch says 410 Expired and ends.
    Expire,
    /// Instead of it the watch ends, as after a time-out.
    Close,
    /// Its object is changed.
    Tamper(Tamper),
}

#[derive(Debug)]
struct Rule<T> {
    when: When,
    then: T,
    seen: u64,
}

#[derive(Debug, Default)]
struct Rules {
    requests: Vec<Rule<Then>>,
    events: Vec<Rule<EventThen>>,
}

/// The faults of one client. Rules may be added and cleared while it runs; all that match a request apply, in the order
/// they were given.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Rules>,
    dead: watch::Sender<bool>,
    /// Raised to end all watches that are open.
    closes: watch::Sender<u64>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self { rules: Mutex::default(), dead: watch::Sender::new(false), closes: watch::Sender::new(0) }
    }

    /// Strikes requests.
    pub fn on(&self, when: When, then: Then) {
        self.rules().requests.push(Rule { when, then, seen: 0 });
    }

    /// Strikes watch events; verbs in `when` mean nothing here.
    pub fn on_event(&self, when: When, then: EventThen) {
        let when = When { verbs: Vec::new(), ..when };
        self.rules().events.push(Rule { when, then, seen: 0 });
    }

    /// Takes all rules away. What already happened stays.
    pub fn clear(&self) {
        *self.rules() = Rules::default();
    }

    /// Ends the client's open watches, as a restart of the API server would.
    pub fn close_watches(&self) {
        self.closes.send_modify(|n| *n += 1);
    }

    /// Crashes the client now.
    pub fn crash(&self) {
        self.dead.send_replace(true);
    }

    /// Whether the client has crashed.
    pub fn has_crashed(&self) -> bool {
        *self.dead.borrow()
    }

    /// Waits until the client has crashed.
    pub async fn crashed(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    pub(super) fn closing(&self) -> watch::Receiver<u64> {
        self.closes.subscribe()
    }

    /// What strikes this request, in order.
    pub(super) fn strike(&self, target: &Target<'_>) -> Vec<Then> {
        fire(&mut self.rules().requests, target)
    }

    /// What strikes this event; the first rule counts.
    pub(super) fn strike_event(&self, target: &Target<'_>) -> Option<EventThen> {
        fire(&mut self.rules().events, target).into_iter().next()
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fire<T: Clone>(rules: &mut [Rule<T>], target: &Target<'_>) -> Vec<T> {
    let mut struck = Vec::new();
    for rule in rules.iter_mut().filter(|r| r.when.matches(target)) {
        rule.seen += 1;
        let so_far = rule.seen.checked_sub(rule.when.first);
        if so_far.is_some_and(|n| rule.when.times.is_none_or(|times| n < times)) {
            struck.push(rule.then.clone());
        }
    }
    struck
}
