//! Faults, one client at a time: requests that are refused, late, lost or never answered, watch events that are
//! dropped, doubled or late, lists that are old, and a crash at any write, before or after it was committed. And lies:
//! what a client sends, or is told, can be changed on its way, which makes a broken controller out of a sound one. The
//! embedded API has them in
//! it; before the real one stands a [`proxy`](crate::real::proxy) that does the same, by the same code.
//!
//! A write that is late arrives, whether or not the client still waits for it: what is on its way is not called back.
//!
//! Everything counts and nothing is random, so the same script gives the same run. Requests are counted when they
//! arrive, also those that are then refused or change nothing; with several objects in play the order of requests is
//! not repeatable between them, the order per object is, so give the object's name in [`When`].
//!
//! A client that crashed is one whose process is gone as seen from the API: from then on nothing passes in either
//! direction, requests and watches stay pending for ever. The test waits for [`Faults::crashed`] and drops the
//! incarnation that held the client.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::embedded::Refusal;

mod events;
mod fate;
mod path;
mod tamper;
mod when;

pub(crate) use events::{Line, struck};
pub(crate) use fate::{Afterwards, Fate};
pub use path::Verb;
pub(crate) use path::{Path, is_set, resource};
pub use tamper::Tamper;
pub use when::When;
pub(crate) use when::{Target, numbered};

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
    /// How often one of them struck, those that were cleared among them.
    struck: u64,
}

/// The faults of one client. Rules may be added and cleared while it runs; all that match a request apply, in the order
/// they were given.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Rules>,
    dead: watch::Sender<bool>,
    /// Raised to end all watches that are open.
    closes: watch::Sender<u64>,
    /// How many requests are late now.
    late: watch::Sender<u64>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        let (dead, closes, late) = (watch::Sender::new(false), watch::Sender::new(0), watch::Sender::new(0));
        Self { rules: Mutex::default(), dead, closes, late }
    }

    /// Strikes requests.
    pub fn on(&self, when: When, then: Then) {
        self.rules().requests.push(Rule { when, then, seen: 0 });
    }

    /// Strikes watch events; verbs in `when` mean nothing here.
    pub fn on_event(&self, when: When, then: EventThen) {
        let when = when.of_any_verb();
        self.rules().events.push(Rule { when, then, seen: 0 });
    }

    /// Takes all rules away. What already happened stays.
    pub fn clear(&self) {
        let mut rules = self.rules();
        *rules = Rules { struck: rules.struck, ..Rules::default() };
    }

    /// How often a rule has struck a request or an event so far.
    pub fn struck(&self) -> u64 {
        self.rules().struck
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

    /// Waits until no request is on its way any more that was [delayed](Then::Delay).
    pub async fn arrived(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.late.subscribe().wait_for(|late| *late == 0).await;
    }

    fn closing(&self) -> watch::Receiver<u64> {
        self.closes.subscribe()
    }

    /// What strikes this request, in order.
    fn strike(&self, target: &Target<'_>) -> Vec<Then> {
        let mut rules = self.rules();
        let struck = fire(&mut rules.requests, target);
        rules.struck += struck.len() as u64;
        struck
    }

    /// What strikes this event; the first rule counts.
    fn strike_event(&self, target: &Target<'_>) -> Option<EventThen> {
        let mut rules = self.rules();
        let struck = fire(&mut rules.events, target).into_iter().next();
        rules.struck += u64::from(struck.is_some());
        struck
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
