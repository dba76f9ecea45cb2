//! Which plan counts: the pinned spec's, or the current one's.

use std::sync::Arc;

use sluice_core::{
    api::Reason,
    machine::{self, Refusal, State},
    plan::Plan,
};

use crate::controller::subject::Subject;

/// The plans of a Rollout's two specs.
pub(in crate::controller) struct Plans {
    pinned: Option<Arc<Plan>>,
    current: Option<Arc<Plan>>,
    /// What is wrong with either: stops starts and increases.
    pub(super) refusal: Option<Refusal>,
}

impl Plans {
    pub(super) fn of(subject: &Subject, state: &State) -> Self {
        let (pinned, current) = (&subject.pinned, &subject.current);
        let lost = (state.in_flight() && pinned.is_none())
            .then(|| Refusal::new(Reason::InvalidStatus, "status.pinned: the pinned spec is missing"));
        let unreadable = pinned.as_ref().and_then(|pinned| pinned.as_ref().err().cloned());
        let refusal = lost
            .or(unreadable)
            .or_else(|| subject.unknown.clone())
            .or_else(|| current.as_ref().err().cloned());
        let pinned = pinned.as_ref().and_then(|pinned| pinned.as_ref().ok().cloned());
        Self { pinned, current: current.as_ref().ok().cloned(), refusal }
    }

    /// The plan that counts for a memory.
    pub(in crate::controller) fn in_force(&self, state: &State) -> Option<&Plan> {
        machine::in_force(self.pinned.as_deref(), self.current.as_deref(), state)
    }

    /// A rollout of the current spec starts: it is pinned from now on.
    pub(in crate::controller) fn pin(&mut self) {
        self.pinned.clone_from(&self.current);
    }

    /// All plans that routes may be moved by.
    pub(super) fn all(&self) -> impl Iterator<Item = &Plan> {
        self.pinned.iter().chain(&self.current).map(AsRef::as_ref)
    }
}
