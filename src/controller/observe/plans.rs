//! Which plan counts: the pinned spec's, or the current one's.

use sluice_core::{
    api::{Reason, RolloutSpec},
    machine::{self, Refusal, State},
    plan::{Plan, PlanErrors},
};

use crate::controller::subject::Subject;

/// The plans of a Rollout's two specs.
pub(in crate::controller) struct Plans {
    pinned: Option<Plan>,
    current: Option<Plan>,
    /// What is wrong with either: stops starts and increases.
    pub(super) refusal: Option<Refusal>,
}

impl Plans {
    pub(super) fn of(subject: &Subject, state: &State) -> Self {
        let plan = |spec: &RolloutSpec| Plan::new(spec, &subject.namespace).map_err(refused);
        let pinned = subject.status.pinned.as_deref().map(plan);
        let current = subject.spec.as_ref().map_err(Clone::clone).and_then(plan);
        let lost = (state.in_flight() && pinned.is_none())
            .then(|| Refusal::new(Reason::InvalidStatus, "status.pinned: the pinned spec is missing"));
        let unreadable = pinned.as_ref().and_then(|pinned| pinned.as_ref().err().cloned());
        let refusal = lost
            .or(unreadable)
            .or_else(|| subject.unknown.clone())
            .or_else(|| current.as_ref().err().cloned());
        Self { pinned: pinned.and_then(Result::ok), current: current.ok(), refusal }
    }

    /// The plan that counts for a memory.
    pub(in crate::controller) fn in_force(&self, state: &State) -> Option<&Plan> {
        machine::in_force(self.pinned.as_ref(), self.current.as_ref(), state)
    }

    /// A rollout of the current spec starts: it is pinned from now on.
    pub(in crate::controller) fn pin(&mut self) {
        self.pinned.clone_from(&self.current);
    }

    /// All plans that routes may be moved by.
    pub(super) fn all(&self) -> impl Iterator<Item = &Plan> {
        self.pinned.iter().chain(&self.current)
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn refused(errors: PlanErrors) -> Refusal {
    Refusal::new(errors.reason(), errors.to_string())
}
