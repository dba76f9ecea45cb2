//! How a rehearsal ends.

use std::time::Duration;

use crate::{
    api::{Phase, Reason},
    machine::Outcome,
};

/// How a rehearsal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The canary is stable.
    Promoted,
    /// The canary has no traffic any more.
    Over {
        /// What became of it.
        outcome: Outcome,
        /// Why.
        reason: Reason,
        /// When that was decided.
        at: Duration,
    },
    /// Neither, when the scenario was over.
    Held(Held),
}

/// Where a rollout stood that did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its phase.
    pub phase: Phase,
    /// Why it stood there, in one word.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: String,
}
