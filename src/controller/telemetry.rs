//! The controller's own metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use sluice_core::api::{
    ConditionStatus, ConditionType, Decision, DecisionKind, Phase, Reason, RolloutStatus,
};

use super::Error;

/// The controller's own metrics. Cheap to clone.
#[derive(Clone, Default)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    rollouts: Family<Label, Gauge<i64, AtomicI64>>,
    without_metrics: Gauge<i64, AtomicI64>,
    decisions: Family<Label, Counter<u64, AtomicU64>>,
    step_changes: Counter<u64, AtomicU64>,
    rollbacks: Family<Label, Counter<u64, AtomicU64>>,
    decision_seconds: Histogram,
    reconciles: Family<Label, Counter<u64, AtomicU64>>,
    slots: Gauge<i64, AtomicI64>,
    synced: AtomicBool,
    /// Where each Rollout stands, by uid.
    stands: Mutex<BTreeMap<String, Stands>>,
}

/// What is counted of one Rollout.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stands {
    phase: Phase,
    without_metrics: bool,
}

/// Why a canary is rolled back.
const ROLLBACKS: [Reason; 4] =
    [Reason::CheckFailed, Reason::CanaryLost, Reason::Aborted, Reason::Inconclusive];

/// The outcome of a reconcile that ended without an error.
const OK: &str = "ok";

/// One label with its value.
type Label = [(&'static str, String); 1];

impl Default for Inner {
    fn default() -> Self {
        // From 1 ms, below which nothing matters, to a minute.
        let bounds = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
        Self {
            rollouts: Family::default(),
            without_metrics: Gauge::default(),
            decisions: Family::default(),
            step_changes: Counter::default(),
            rollbacks: Family::default(),
            decision_seconds: Histogram::new(bounds),
            reconciles: Family::default(),
            slots: Gauge::default(),
            synced: AtomicBool::new(false),
            stands: Mutex::default(),
        }
    }
}

impl Telemetry {
    /// Registers everything under the prefix of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &self.inner;
        registry.register("rollouts", "Rollouts by phase", inner.rollouts.clone());
        registry.register(
            "rollouts_without_metrics",
            "Rollouts whose metrics cannot be had",
            inner.without_metrics.clone(),
        );
        registry.register("decisions", "Decisions by kind", inner.decisions.clone());
        registry.register("step_changes", "Steps that were entered", inner.step_changes.clone());
        registry.register("rollbacks", "Rollbacks by reason", inner.rollbacks.clone());
        registry.register(
            "decision_latency_seconds",
            "From having seen the world to having written the decision and its traffic",
            inner.decision_seconds.clone(),
        );
        registry.register("reconciles", "Reconciles by outcome", inner.reconciles.clone());
        registry.register(
            "slots_held",
            "Slots of Rollouts that this replica holds, of 16",
            inner.slots.clone(),
        );
        for phase in Phase::ALL {
            self.gauge(phase).set(0);
        }
        // From 0 on, or the first of each would be no increase: a series that appears is not one that grew.
        for kind in DecisionKind::ALL {
            drop(self.decisions_of(kind));
        }
        for reason in ROLLBACKS {
            drop(self.rollbacks_for(reason));
        }
        for outcome in [OK].into_iter().chain(Error::KINDS) {
            drop(self.reconciles_with(outcome));
        }
    }

    /// Whether the caches are filled.
    pub fn is_synced(&self) -> bool {
        self.inner.synced.load(Ordering::Relaxed)
    }

    pub(super) fn synced(&self) {
        self.inner.synced.store(true, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, slots: usize) {
        self.inner.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    pub(super) fn decided(&self, decision: &Decision, latency: Duration) {
        let inner = &self.inner;
        self.decisions_of(decision.kind).inc();
        inner.decision_seconds.observe(latency.as_secs_f64());
        match decision.kind {
            DecisionKind::Entered | DecisionKind::Promoting => drop(inner.step_changes.inc()),
            DecisionKind::RolledBack => self.rolled_back(decision.reason),
            _ => {}
        }
    }

    fn rolled_back(&self, reason: Reason) {
        self.rollbacks_for(reason).inc();
    }

    fn decisions_of(&self, kind: DecisionKind) -> Counter<u64, AtomicU64> {
        self.inner.decisions.get_or_create(&[("kind", format!("{kind:?}"))]).clone()
    }

    fn rollbacks_for(&self, reason: Reason) -> Counter<u64, AtomicU64> {
        self.inner.rollbacks.get_or_create(&[("reason", reason.to_string())]).clone()
    }

    pub(super) fn reconciled(&self, uid: &str, status: &RolloutStatus) {
        self.outcome(OK);
        let now = Stands { phase: status.phase, without_metrics: lacks_metrics(status) };
        let before = self.stands().insert(uid.to_owned(), now);
        if before != Some(now) {
            self.count(before, -1);
            self.count(Some(now), 1);
        }
    }

    pub(super) fn reconcile_failed(&self, error: &Error) {
        self.outcome(error.kind());
    }

    pub(super) fn gone(&self, uid: &str) {
        let before = self.stands().remove(uid);
        self.count(before, -1);
    }

    fn count(&self, stands: Option<Stands>, how_many: i64) {
        let Some(Stands { phase, without_metrics }) = stands else { return };
        self.gauge(phase).inc_by(how_many);
        if without_metrics {
            self.inner.without_metrics.inc_by(how_many);
        }
    }

    fn outcome(&self, outcome: &str) {
        self.reconciles_with(outcome).inc();
    }

    fn reconciles_with(&self, outcome: &str) -> Counter<u64, AtomicU64> {
        self.inner.reconciles.get_or_create(&[("outcome", outcome.to_owned())]).clone()
    }

    fn gauge(&self, phase: Phase) -> Gauge<i64, AtomicI64> {
        self.inner.rollouts.get_or_create(&[("phase", phase.to_string())]).clone()
    }

    fn stands(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Stands>> {
        self.inner.stands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn lacks_metrics(status: &RolloutStatus) -> bool {
    let kind = ConditionType::MetricsAvailable;
    status.conditions.iter().any(|it| it.kind == kind && it.status == ConditionStatus::False)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_never_happened_was_counted_zero_times() {
        let mut registry = Registry::with_prefix("sluice");
        Telemetry::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"sluice_rollbacks_total{reason="CheckFailed"} 0"#,
            r#"sluice_rollbacks_total{reason="CanaryLost"} 0"#,
            r#"sluice_rollbacks_total{reason="Aborted"} 0"#,
            r#"sluice_rollbacks_total{reason="Inconclusive"} 0"#,
            r#"sluice_reconciles_total{outcome="ok"} 0"#,
            r#"sluice_reconciles_total{outcome="Refused"} 0"#,
            r#"sluice_rollouts{phase="Stalled"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
