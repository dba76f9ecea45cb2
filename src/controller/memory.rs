//! What the controller keeps of one Rollout between two reconciles, and loses when it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use kube::ResourceExt;
use serde_json::Value;
use sluice_core::{
    Predictor,
    api::{Decision, RolloutStatus},
    carrier::ObjectName,
    judge::{Availability, Look, Measurement},
    machine::State,
};
use tokio::time::Instant;

use super::{
    observe::{Pods, Subsets},
    stores::VirtualService,
    subject::{RolloutObject, Subject},
};
use crate::metrics;

/// What is kept of one Rollout. All of it can be had again: from the status, and by looking again.
#[derive(Default)]
pub(super) struct Memory {
    /// The Rollout as it was last read, with its version. Not kept from one reconcile to the next: it is large.
    subject: Option<(String, Arc<Subject>)>,
    /// The machine's memory with clocks and evidence up to now, and the stored one that it grew from.
    grown: Option<(State, State)>,
    /// When the machine last saw the world.
    seen: Option<Instant>,
    /// When the status was last written, or first read.
    written: Option<Instant>,
    /// When the metrics were last asked.
    looked: Option<Instant>,
    /// When they may be asked again at the earliest.
    not_before: Option<Instant>,
    /// What the looks say about the source of the metrics.
    pub(super) availability: Availability,
    /// What their times are counted from.
    epoch: Option<Instant>,
    /// Raw counters.
    pub(super) counters: metrics::Memory,
    /// What was seen of pods.
    pub(super) pods: Pods,
    /// What is known of subsets.
    pub(super) subsets: Subsets,
    /// What the API server answered to our last writes: newer than the caches for a moment.
    pub(super) rollout: Option<Arc<RolloutObject>>,
    /// The same of VirtualServices.
    pub(super) virtual_services: BTreeMap<ObjectName, VirtualService>,
    /// Objects that we created, or found there when we wanted to, and that the caches may not show yet.
    pub(super) unseen: BTreeSet<ObjectName>,
    /// DestinationRules as they were last read or written, nothing where there was none, and until when that counts.
    pub(super) rules: BTreeMap<ObjectName, (Option<Value>, Instant)>,
    /// Gateways that were there, and until when that counts.
    pub(super) gateways: BTreeMap<ObjectName, Instant>,
    /// A predictor whose subset was there, and until when that counts.
    pub(super) subset: Option<(Predictor, Instant)>,
    /// The version of the Rollout that was read past the cache because the routes show a later decision.
    pub(super) checked_version: Option<String>,
    /// A look that led to something that could not be recorded, and the canary that it was about.
    pub(super) unused_look: Option<(Option<Predictor>, Look)>,
    /// Whether it took traffic away: then it counts until that is done, however long nothing can be written. A breach
    /// that was seen is not forgotten because it is over before the API server is back.
    pub(super) unused_look_stays: bool,
    /// A decision that took traffic away and could not be recorded.
    pub(super) unrecorded: Option<Decision>,
    /// What kept the routes from being written the last time.
    pub(super) obstacle: Option<String>,
    /// What stable did before the rollout of a canary, whose revision it is.
    pub(super) history: Option<(Predictor, Vec<Measurement>)>,
    /// Queries that the source called invalid, or valid, for what is wanted of them.
    pub(super) queries: BTreeMap<(String, metrics::For), Result<(), String>>,
    /// Reconciles in a row that ended with an error.
    pub(super) failures: u32,
}

impl Memory {
    /// What is to be known of the Rollout, read once per version.
    pub(super) fn subject(&mut self, object: &RolloutObject) -> Arc<Subject> {
        let version = object.resource_version().unwrap_or_default();
        match &self.subject {
            Some((known, subject)) if *known == version => subject.clone(),
            Some(_) | None => {
                let subject = Arc::new(Subject::read(object));
                self.subject = Some((version, subject.clone()));
                subject
            }
        }
    }

    /// A reconcile ends.
    pub(super) fn end(&mut self) {
        self.subject = None;
    }

    /// Nothing is in flight and nothing is in the way: what a rollout needs can be had again when one starts, and many
    /// Rollouts rest.
    pub(super) fn rest(&mut self) {
        self.counters = metrics::Memory::default();
        self.pods = Pods::default();
        self.subsets = Subsets::default();
        self.queries = BTreeMap::new();
        self.unused_look = None;
        self.history = None;
        if self.grown.as_ref().is_some_and(|(base, grown)| base == grown) {
            self.grown = None;
        }
    }

    /// The machine's memory for a stored status, the grown one if it grew from just that, and how long ago it last saw
    /// the world. A memory that somebody else wrote has seen nothing yet: time from before does not count for what was
    /// decided meanwhile.
    pub(super) fn begin_turn(&mut self, stored: &RolloutStatus, now: Instant) -> (State, Duration) {
        let seen = self.seen.replace(now);
        let stored = State::from(stored);
        match (&self.grown, seen) {
            (Some((base, grown)), Some(seen)) if *base == stored => {
                (grown.clone(), now.saturating_duration_since(seen))
            }
            (Some(_) | None, _) => (stored, Duration::ZERO),
        }
    }

    /// Keeps what the machine remembers now; `stored` is the status that is written.
    pub(super) fn grow(&mut self, stored: &RolloutStatus, state: State) {
        self.grown = Some((State::from(stored), state));
    }

    /// Forgets the Rollout as it was last written: somebody else has written it since, or nobody knows. What grew from a
    /// stored status counts only while that is the stored one, and VirtualServices only while they are newer than the cache.
    pub(super) fn forget(&mut self) {
        self.rollout = None;
    }

    /// How long ago the status was written.
    pub(super) fn since_written(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.written.get_or_insert(now))
    }

    /// The status was just written.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.written = Some(now);
    }

    /// How long until the metrics should be asked again.
    pub(super) fn next_look(&self, now: Instant, interval: Duration) -> Duration {
        let due = self.looked.map(|looked| looked + interval);
        due.max(self.not_before).map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// How long ago the metrics were last asked.
    pub(super) fn since_looked(&self, now: Instant) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked))
    }

    /// There is no room for a look before that.
    pub(super) fn looks_not_before(&mut self, then: Instant) {
        self.not_before = Some(then);
    }

    /// A look was had. `counts` says whether anybody needs the requests of the arms.
    pub(super) fn saw(&mut self, look: &Look, counts: bool, now: Instant) {
        let epoch = *self.epoch.get_or_insert(now);
        self.availability.saw(look, counts, now.saturating_duration_since(epoch));
    }

    /// The metrics are being asked. After a start everybody looks at once: the second look comes earlier than after an
    /// interval, by a part of its own for each Rollout, so that they spread.
    pub(super) fn looks(&mut self, now: Instant, interval: Duration, uid: &str) {
        let first = self.looked.is_none();
        let earlier = if first { interval.mul_f64(share_of(uid) / 2.0) } else { Duration::ZERO };
        self.looked = Some(now.checked_sub(earlier).unwrap_or(now));
    }
}

/// A number from 0 to 1 that is another one for each Rollout and always the same for one.
fn share_of(uid: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    f64::from(u16::try_from(hasher.finish() >> 48).unwrap_or(0)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_began_together_spread_over_half_an_interval_and_none_comes_late() {
        let (start, interval) = (Instant::now(), Duration::from_secs(10));
        let mut tenths = [0; 10];
        for rollout in 0..1000 {
            let (uid, mut memory) = (format!("uid-{rollout}"), Memory::default());
            memory.looks(start, interval, &uid);
            let second = memory.next_look(start, interval);
            assert!(second <= interval && second >= interval / 2, "{second:?}");
            let tenth = usize::try_from(second.as_millis() / 1001).unwrap();
            tenths[tenth] += 1;
            // From the second on, an interval lies between two.
            memory.looks(start + second, interval, &uid);
            assert_eq!(memory.next_look(start + second, interval), interval);
        }
        assert!(tenths[5..].iter().all(|looks| (150..250).contains(looks)), "{tenths:?}");
    }
}
